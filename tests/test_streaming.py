"""Chunks of a stream, in every order that was recorded, as one turn."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionChunk

from conversation import AssistantTurn, AudioInput, Conversation, ToolCall, Usage
from conversation.errors import InvalidCompletion
from conversation.testing import StandIn
from tests.conftest import START, Clock
from tests.samples import MP3, RECORDED_USAGE

PCM = bytes(range(256)) * 75


def chunk(delta: dict[str, Any] | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    """One chunk, as a JSON object."""
    finish_reason = fields.pop("finish_reason", None)
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish_reason}
    head = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": int(START),
        "model": "m",
    }
    return {**head, "choices": [choice], **fields}


def piece(data: bytes) -> str:
    """Base64 of one chunk's sound."""
    return base64.b64encode(data).decode()


def recorded_chunks() -> list[dict[str, Any]]:
    """Contract §2, in its order, `finish_reason` never sent."""
    return [
        chunk({"role": "assistant", "refusal": None}),
        chunk({"content": None, "audio": {"id": "audio_6729", "transcript": "Hi"}}),
        chunk({"audio": {"transcript": " there"}}),
        chunk({"audio": {"transcript": "!"}}),
        chunk(
            {
                "role": "assistant",
                "content": None,
                "refusal": None,
                "audio": {"id": "audio_6729", "data": piece(PCM)},
            }
        ),
        chunk({"audio": {"data": piece(PCM)}}),
        chunk({"audio": {"expires_at": 1730768597}}),
        {**chunk(), "choices": [], "usage": RECORDED_USAGE},
    ]


def turn_of(chunks: Any) -> AssistantTurn:
    """The turn that a conversation makes of them."""
    return Conversation().add_completion(chunks)


def test_the_recorded_order_gives_the_right_turn() -> None:
    """Id and role are repeated, expires_at comes alone and last, usage in a chunk of its own."""
    turn = turn_of(recorded_chunks())
    assert turn.audio is not None
    assert (turn.audio.id, turn.audio.expires_at) == ("audio_6729", 1730768597)
    assert turn.text == "Hi there!"
    assert turn.audio.format == "wav"
    assert turn.audio.read()[44:] == PCM + PCM
    assert turn.audio.duration == pytest.approx(len(PCM) * 2 / 48_000)
    assert turn.finish_reason is None
    assert turn.usage == Usage(64, 200, 26, 38, 0, 41, 159)


def test_the_sdks_chunk_objects_and_any_iterable_will_do() -> None:
    """A generator of the SDK's objects gives the same turn as the dicts."""
    objects = (ChatCompletionChunk.construct(**each) for each in recorded_chunks())
    assert turn_of(objects).audio == turn_of(recorded_chunks()).audio


def test_expiry_said_more_than_once_is_not_summed() -> None:
    """The last that is given counts."""
    chunks = [
        chunk({"audio": {"id": "audio_1", "expires_at": 10}}),
        chunk({"audio": {"data": piece(PCM), "expires_at": 20}}),
        chunk({"audio": {"expires_at": None, "id": None}}),
    ]
    audio = turn_of(chunks).audio
    assert audio is not None
    assert (audio.id, audio.expires_at) == ("audio_1", 20)


@pytest.mark.parametrize("sizes", [(1, 2, 3), (5, 19_195), (100, 100), (19_200,)])
@pytest.mark.parametrize("padded", [True, False])
def test_each_chunk_of_sound_is_decoded_by_itself(sizes: tuple[int, ...], padded: bool) -> None:
    """Padded or not, with odd numbers of bytes: the samples come out whole."""
    chunks, at = [], 0
    for size in (*sizes, len(PCM)):
        text = piece(PCM[at : at + size])
        chunks.append(chunk({"audio": {"data": text if padded else text.rstrip("=")}}))
        at += size
    audio = turn_of(chunks).audio
    assert audio is not None
    assert audio.read()[44:] == PCM


def test_usage_survives_chunks_that_follow_it() -> None:
    """A null usage after the real one does not take it back."""
    chunks = recorded_chunks()
    chunks.append(chunk(finish_reason="stop", usage=None))
    turn = turn_of(chunks)
    assert (turn.usage, turn.finish_reason) == (Usage(64, 200, 26, 38, 0, 41, 159), "stop")


def test_tool_calls_come_in_pieces() -> None:
    """Two calls at once, their arguments in parts, are told apart by their index."""
    chunks = [
        chunk(
            {
                "tool_calls": [
                    {
                        "index": 0,
                        "id": "a",
                        "type": "function",
                        "function": {"name": "f", "arguments": ""},
                    }
                ]
            }
        ),
        chunk(
            {
                "tool_calls": [
                    {
                        "index": 1,
                        "id": "b",
                        "type": "function",
                        "function": {"name": "g", "arguments": '{"x"'},
                    }
                ]
            }
        ),
        chunk(
            {
                "tool_calls": [
                    {"index": 0, "function": {"arguments": "{}"}},
                    {"index": 1, "function": {"arguments": ":1}"}},
                ]
            }
        ),
        chunk(finish_reason="tool_calls"),
    ]
    assert turn_of(chunks).tool_calls == (ToolCall("a", "f", "{}"), ToolCall("b", "g", '{"x":1}'))


def test_other_servers_sound_is_told_from_its_bytes() -> None:
    """MP3 comes although pcm16 was asked for."""
    audio = turn_of([chunk({"content": "words", "audio": {"data": piece(MP3)}})]).audio
    assert audio is not None
    assert (audio.format, audio.read()) == ("mp3", MP3)


def test_a_piece_that_is_no_base64_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    """The words and the rest of the sound are kept."""
    turn = turn_of(
        [
            chunk({"audio": {"transcript": "Hi", "data": "*"}}),
            chunk({"audio": {"data": piece(PCM)}}),
        ]
    )
    assert turn.audio is not None
    assert turn.audio.read()[44:] == PCM
    assert "no base64" in caplog.text


def test_a_stream_of_ones_own_call_is_kept(server: StandIn, client: OpenAI, clock: Clock) -> None:
    """`request(stream=True)` asks for pcm16 and usage; the stream itself is the completion."""
    chat = Conversation(clock=clock)
    chat.add_user("Good morning")
    request = chat.request(stream=True)
    assert request["audio"]["format"] == "pcm16"
    turn = chat.add_completion(client.chat.completions.create(**request))
    assert turn.audio is not None
    assert turn.text.startswith("You wrote: Good morning")
    assert AudioInput(turn.audio.read()).format == "wav"
    assert turn.usage is not None
    assert turn.audio.duration == turn.usage.completion_audio_tokens / 20
    chat.add_user("And again")
    chat.add_completion(client.chat.completions.create(**chat.request(stream=True)))
    assert server.requests[-1]["messages"][1] == {
        "role": "assistant",
        "audio": {"id": turn.audio.id},
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"choices": 5},
        {"choices": [5]},
        {"choices": [{"delta": 5}]},
        {"choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}}]},
        {"choices": [{"delta": {"content": "x"}}], "error": {"message": "overloaded"}},
        {"error": {"message": "overloaded"}},
        5,
        None,
    ],
    ids=repr,
)
def test_chunks_that_are_none_are_refused(wrong: Any) -> None:
    """Nothing is added, and the error is a documented one."""
    chat = Conversation()
    with pytest.raises(InvalidCompletion):
        chat.add_completion([wrong])
    assert chat.turns == ()


@pytest.mark.parametrize(
    "delta",
    [
        {"audio": 5},
        {"audio": {"data": 5, "transcript": 5, "id": [], "expires_at": "x"}},
        {"audio": {"id": "", "expires_at": 0, "transcript": None, "data": ""}},
        {"tool_calls": [None, 5]},
        {"tool_calls": 5},
        {"content": None, "refusal": None},
    ],
)
def test_fields_of_a_wrong_type_do_no_harm(delta: dict[str, Any]) -> None:
    """A server may send anything; the answer around it is kept."""
    before = chunk({"audio": {"id": "audio_1", "transcript": "Hi", "expires_at": 9}})
    strange = {**chunk(delta), "id": 7, "usage": "free", "model": 3}
    turn = turn_of([before, strange, chunk({"audio": {"data": piece(PCM)}})])
    assert turn.audio is not None
    assert turn.audio.read()[44:] == PCM
    assert turn.tool_calls == ()
    assert turn.text.startswith("Hi")


@pytest.mark.parametrize("strange", [False, 5, {}, [], ["x"], None, ""])
@pytest.mark.parametrize("kind", ["spoken", "written"])
def test_a_word_of_a_wrong_type_takes_back_none_that_came(strange: Any, kind: str) -> None:
    """What the consumer was told is what is kept."""

    def words(value: Any) -> dict[str, Any]:
        return chunk({"audio": {"transcript": value}} if kind == "spoken" else {"content": value})

    assert turn_of([words("Hello"), words(strange), words(" there")]).text == "Hello there"


def test_empty_fields_do_not_take_back_what_came() -> None:
    """Gateways fill in what the server left out."""
    turn = turn_of(
        [
            chunk({"audio": {"id": "audio_1", "expires_at": 9}}),
            chunk({"audio": {"id": "", "expires_at": 0, "transcript": "Hi"}}),
        ]
    )
    assert turn.audio is not None
    assert (turn.audio.id, turn.audio.expires_at, turn.text) == ("audio_1", 9, "Hi")


@pytest.mark.parametrize("index", [{}, {"index": 0}])
def test_calls_with_ids_of_their_own_are_calls_of_their_own(index: dict[str, int]) -> None:
    """Even where a server gives no index, or always the same."""
    chunks = [
        chunk({"tool_calls": [{**index, "id": i, "function": {"name": "f", "arguments": "{"}}]})
        for i in ("a", "b")
    ]
    end = {"tool_calls": [{**index, "function": {"arguments": "}"}}]}
    chunks.append(chunk(end, finish_reason="tool_calls"))
    assert [(c.id, c.arguments) for c in turn_of(chunks).tool_calls] == [("a", "{"), ("b", "{}")]


def test_a_stream_that_stops_without_an_end_is_interrupted() -> None:
    """Neither finish_reason nor expires_at came: the voice is never sent back."""
    assert turn_of(recorded_chunks()[:5]).interrupted
    assert not turn_of(recorded_chunks()).interrupted
    assert not turn_of([*recorded_chunks()[:5], chunk(finish_reason="stop")]).interrupted


def test_calls_that_were_cut_off_are_left_off() -> None:
    """Without an end, those whose arguments are whole are kept: early streams told no end."""
    calls = [
        {"index": i, "id": f"c{i}", "function": {"name": "f", "arguments": arguments}}
        for i, arguments in enumerate(['{"x": 1}', "", '{"x'])
    ]
    turn = turn_of([chunk({"tool_calls": calls})])
    assert [(call.id, call.arguments) for call in turn.tool_calls] == [
        ("c0", '{"x": 1}'),
        ("c1", ""),
    ]
    assert turn.interrupted


@pytest.mark.parametrize("chunks", [[chunk({"role": "assistant"})], [chunk({"content": ""})]])
def test_a_stream_that_brings_nothing_and_tells_no_end_is_no_answer(
    chunks: list[dict[str, Any]], server: StandIn, chat: Conversation
) -> None:
    """No turn is kept of it, and asking again goes on; an end makes an empty answer of it."""
    server.will_stream(chunks)
    with pytest.raises(InvalidCompletion, match="before an answer came"), chat.stream("Hi"):
        pass
    assert [turn.role for turn in chat.turns] == ["user"]
    assert chat.reply().text
    assert turn_of([*chunks, chunk(finish_reason="stop")]).text == ""


def test_sound_that_a_server_calls_content_is_sound() -> None:
    """vLLM-Omni streams WAV files as content, and names the modality."""
    wavs = [AudioInput.from_pcm(PCM, 24_000).read(), AudioInput.from_pcm(PCM, 24_000).read()]
    chunks = [chunk({"content": "Hi"}, modality="text")]
    chunks += [chunk({"content": piece(wav)}, modality="audio") for wav in wavs]
    turn = turn_of(chunks)
    assert turn.content == "Hi"
    assert turn.audio is not None
    assert turn.audio.read()[44:] == PCM + PCM

"""Chunks of a stream as one turn."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionChunk

from conversation import AssistantTurn, AudioInput, Conversation, ToolCall, Usage
from conversation.errors import InvalidCompletion
from conversation.testing import StandIn
from tests.conftest import Clock
from tests.samples import MP3, RECORDED_USAGE, SOUND, answer, chunk, piece

PCM = bytes(range(256)) * 75


def recorded_chunks() -> list[dict[str, Any]]:
    """Return the chunks of contract §2, without a `finish_reason`."""
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
    """Return the turn that a conversation makes of chunks."""
    return Conversation().add_completion(chunks)


def test_recorded_stream_gives_the_right_turn() -> None:
    """Repeated ids and roles, a late `expires_at` and a chunk with usage alone make one turn."""
    turn = turn_of(recorded_chunks())
    assert turn.audio is not None
    assert (turn.audio.id, turn.audio.expires_at) == ("audio_6729", 1730768597)
    assert turn.text == "Hi there!"
    assert turn.audio.format == "wav"
    assert turn.audio.read()[44:] == PCM + PCM
    assert turn.audio.duration == pytest.approx(len(PCM) * 2 / 48_000)
    assert turn.finish_reason is None
    assert turn.usage == Usage(64, 200, 26, 38, 0, 41, 159)


def test_chunks_may_be_a_generator_of_the_sdks_objects() -> None:
    """The SDK's objects give the same turn as their dicts."""
    objects = (ChatCompletionChunk.construct(**each) for each in recorded_chunks())
    assert turn_of(objects).audio == turn_of(recorded_chunks()).audio


def test_last_expiry_of_a_stream_counts() -> None:
    """Several `expires_at` are not summed, and a null after them is ignored."""
    chunks = [
        chunk({"audio": {"id": "audio_1", "expires_at": 10}}),
        chunk({"audio": {"data": piece(PCM), "expires_at": 20}}),
        chunk({"audio": {"expires_at": None, "id": None}}),
    ]
    audio = turn_of(chunks).audio
    assert audio is not None
    assert (audio.id, audio.expires_at) == ("audio_1", 20)


@pytest.mark.parametrize("sizes", [(1, 2, 3), (5, 19_195), (100, 100), (19_200,)])
def test_padded_sound_of_each_chunk_is_decoded_by_itself(sizes: tuple[int, ...]) -> None:
    """Pieces of base64 that end in `=` are whole, also if they hold odd numbers of bytes."""
    chunks, at = [], 0
    for size in (*sizes, len(PCM)):
        chunks.append(chunk({"audio": {"data": piece(PCM[at : at + size])}}))
        at += size
    audio = turn_of(chunks).audio
    assert audio is not None
    assert audio.read()[44:] == PCM


@pytest.mark.parametrize("size", [1, 2, 3, 5, 4_002, 4_003, 25_599])
def test_base64_that_is_cut_anywhere_is_joined(size: int) -> None:
    """Pieces of one base64 text, of any length and with line breaks, give its bytes."""
    text = piece(PCM + b"\1\2")
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    pieces[0] += "\r\n"
    audio = turn_of([chunk({"audio": {"data": each}}) for each in pieces]).audio
    assert audio is not None
    assert audio.read()[44:] == PCM + b"\1\2"
    unpadded = turn_of([chunk({"audio": {"data": each.rstrip("=")}}) for each in pieces]).audio
    assert unpadded is not None
    assert unpadded.read() == audio.read()


def test_null_usage_does_not_replace_usage() -> None:
    """Usage is kept although later chunks have a null usage."""
    chunks = recorded_chunks()
    chunks.append(chunk(finish_reason="stop", usage=None))
    turn = turn_of(chunks)
    assert (turn.usage, turn.finish_reason) == (Usage(64, 200, 26, 38, 0, 41, 159), "stop")


def test_pieces_of_tool_calls_are_joined_by_index() -> None:
    """The arguments of two tool calls at once come in pieces, told apart by their index."""
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


def test_format_of_streamed_sound_is_that_of_its_bytes() -> None:
    """MP3 is recognised although pcm16 was asked for."""
    audio = turn_of([chunk({"content": "words", "audio": {"data": piece(MP3)}})]).audio
    assert audio is not None
    assert (audio.format, audio.read()) == ("mp3", MP3)


def test_piece_of_sound_that_is_not_base64_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    """The words and the rest of the sound are kept, and a warning is logged."""
    turn = turn_of(
        [
            chunk({"audio": {"transcript": "Hi", "data": "*"}}),
            chunk({"audio": {"data": piece(PCM)}}),
        ]
    )
    assert turn.audio is not None
    assert turn.audio.read()[44:] == PCM
    assert "not base64" in caplog.text


def test_stream_of_a_request_made_by_hand_is_added(
    server: StandIn, client: OpenAI, clock: Clock
) -> None:
    """The stream of `create(**chat.request(stream=True))` can be passed to `add_completion`."""
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
def test_values_that_are_not_chunks_are_refused(wrong: Any) -> None:
    """The error is InvalidCompletion, and no turn is added."""
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
def test_fields_of_a_chunk_with_a_wrong_type_are_skipped(delta: dict[str, Any]) -> None:
    """The answer around them is kept."""
    before = chunk({"audio": {"id": "audio_1", "transcript": "Hi", "expires_at": 9}})
    strange = {**chunk(delta), "id": 7, "usage": "free", "model": 3}
    turn = turn_of([before, strange, chunk({"audio": {"data": piece(PCM)}})])
    assert turn.audio is not None
    assert turn.audio.read()[44:] == PCM
    assert turn.tool_calls == ()
    assert turn.text.startswith("Hi")


@pytest.mark.parametrize("function", ["f", 5, ["f"], True])
def test_function_of_a_tool_call_with_a_wrong_type_is_skipped(function: Any) -> None:
    """Pieces of the tool call before and after it are joined."""
    first = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}}
    strange, last = {"index": 0, "function": function}, {"index": 0, "function": {"arguments": "}"}}
    pieces = [first, strange, last], [strange, first, last]
    for each in pieces:
        chunks = [chunk({"tool_calls": [call]}) for call in each]
        assert turn_of(chunks).tool_calls == (ToolCall("a", "f", "{}"),)


@pytest.mark.parametrize("strange", [False, 5, {}, [], ["x"], None, ""])
@pytest.mark.parametrize("kind", ["spoken", "written"])
def test_words_of_a_wrong_type_do_not_replace_earlier_words(strange: Any, kind: str) -> None:
    """The words before and after a value that is not text are kept."""

    def words(value: Any) -> dict[str, Any]:
        return chunk({"audio": {"transcript": value}} if kind == "spoken" else {"content": value})

    assert turn_of([words("Hello"), words(strange), words(" there")]).text == "Hello there"


def test_words_may_come_in_parts() -> None:
    """Parts of text, as Mistral streams them beside reasoning, are words; other parts are none."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    chunks = [
        chunk({"role": "assistant", "content": [thinking]}),
        chunk({"content": [{"type": "text", "text": "A"}, {"type": "text", "text": " golden"}]}),
        chunk({"content": [{"type": "reference", "reference_ids": [1]}]}),
        chunk({"content": " dog."}, finish_reason="stop"),
    ]
    for given in (chunks, [ChatCompletionChunk.model_construct(**each) for each in chunks]):
        turn = turn_of(given)
        assert (turn.text, turn.finish_reason) == ("A golden dog.", "stop")


def test_empty_fields_of_a_chunk_do_not_replace_earlier_ones() -> None:
    """An empty id and an expiry of 0, as from gateways, are ignored."""
    turn = turn_of(
        [
            chunk({"audio": {"id": "audio_1", "expires_at": 9}}),
            chunk({"audio": {"id": "", "expires_at": 0, "transcript": "Hi"}}),
        ]
    )
    assert turn.audio is not None
    assert (turn.audio.id, turn.audio.expires_at, turn.text) == ("audio_1", 9, "Hi")


@pytest.mark.parametrize("index", [{}, {"index": 0}])
def test_tool_calls_with_different_ids_are_different_calls(index: dict[str, int]) -> None:
    """A new id begins a new tool call, even with no index or a repeated one."""
    chunks = [
        chunk({"tool_calls": [{**index, "id": i, "function": {"name": "f", "arguments": "{"}}]})
        for i in ("a", "b")
    ]
    end = {"tool_calls": [{**index, "function": {"arguments": "}"}}]}
    chunks.append(chunk(end, finish_reason="tool_calls"))
    assert [(c.id, c.arguments) for c in turn_of(chunks).tool_calls] == [("a", "{"), ("b", "{}")]


def test_stream_without_an_end_is_interrupted() -> None:
    """Without `finish_reason` and `expires_at` the turn is interrupted."""
    assert turn_of(recorded_chunks()[:5]).interrupted
    assert not turn_of(recorded_chunks()).interrupted
    assert not turn_of([*recorded_chunks()[:5], chunk(finish_reason="stop")]).interrupted


def test_incomplete_tool_calls_of_an_interrupted_stream_are_dropped() -> None:
    """Tool calls with complete arguments are kept: early streams had no end."""
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
def test_empty_stream_without_an_end_is_an_error(
    chunks: list[dict[str, Any]], server: StandIn, chat: Conversation
) -> None:
    """It adds no turn, and `reply` works afterwards; with an end it is an empty answer."""
    server.will_stream(chunks)
    with pytest.raises(InvalidCompletion, match="before an answer came"), chat.stream("Hi"):
        pass
    assert [turn.role for turn in chat.turns] == ["user"]
    assert chat.reply().text
    assert turn_of([*chunks, chunk(finish_reason="stop")]).text == ""


def test_content_of_the_modality_audio_is_sound() -> None:
    """WAV files that vLLM-Omni streams as content are the sound of the turn."""
    wavs = [AudioInput.from_pcm(PCM, 24_000).read(), AudioInput.from_pcm(PCM, 24_000).read()]
    chunks = [chunk({"content": "Hi"}, modality="text")]
    chunks += [chunk({"content": piece(wav)}, modality="audio") for wav in wavs]
    turn = turn_of(chunks)
    assert turn.content == "Hi"
    assert turn.audio is not None
    assert turn.audio.read()[44:] == PCM + PCM


@pytest.mark.parametrize("head", ["data:audio/wav;base64,", ""])
def test_sound_in_other_forms_of_base64_is_kept(head: str) -> None:
    """A data URL, in each piece or around the whole, and the alphabet of URLs are read."""
    noise = bytes(range(256)) * 60
    text = base64.urlsafe_b64encode(noise).decode()
    pieces = [text[at : at + 4000] for at in range(0, len(text), 4000)]
    streamed = turn_of([chunk({"audio": {"data": head + piece}}) for piece in pieces])
    assert streamed.audio is not None
    assert streamed.audio.read()[-len(noise) :] == noise
    wav = base64.urlsafe_b64encode(SOUND).decode()
    whole = Conversation().add_completion(answer(audio={"id": "audio_1", "data": head + wav}))
    assert whole.audio is not None
    assert whole.audio.read() == SOUND

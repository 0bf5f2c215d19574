"""Streams of every recorded shape, read as chunks and streamed over HTTP.

The shapes are those of the contract, §2 and §6.
"""

from __future__ import annotations

import io
import wave
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionChunk

from conversation import (
    AssistantTurn,
    AudioDelta,
    AudioInput,
    Conversation,
    FileStore,
    TextDelta,
    ToolCall,
    TranscriptDelta,
    TurnFinished,
    Usage,
)
from conversation._wire.chunks import StreamedCompletion
from conversation.testing import StandIn
from tests.conftest import Clock
from tests.samples import MP3, RECORDED_USAGE, START, chunk, piece

Json = dict[str, Any]

PCM = b"".join((i * 37 % 20_000 - 10_000).to_bytes(2, "little", signed=True) for i in range(9_600))
"""0.4 s of sound, as in each recorded chunk."""

ID = f"audio_{int(START):08x}{'0' * 24}"
END = int(START) + 3600
USAGE = Usage(64, 200, 26, 38, 0, 41, 159)
USAGE_CHUNK: Json = {**chunk(), "choices": [], "usage": RECORDED_USAGE}
HEAD: Json = {"role": "assistant", "refusal": None}
AGAIN: Json = {"role": "assistant", "content": None, "refusal": None}


def audio(**fields: Any) -> Json:
    """Return a chunk with these fields in its audio."""
    return chunk({"audio": fields})


def first(**fields: Any) -> Json:
    """Return a chunk like the first recorded one with words."""
    return chunk({"content": None, "audio": {"id": ID, **fields}})


WORDS = (first(transcript="Hi"), audio(transcript=" there"), audio(transcript="!"))
SOUND = (
    chunk({**AGAIN, "audio": {"id": ID, "data": piece(PCM)}}),
    audio(data=piece(PCM)),
)
EXPIRY = audio(expires_at=END)
STOP = chunk(finish_reason="stop")


def in_pieces(data: bytes, *sizes: int) -> list[Json]:
    """Return chunks with sound of these sizes, and one with the rest."""
    chunks, at = [], 0
    for size in (*sizes, len(data)):
        chunks.append(audio(data=piece(data[at : at + size])))
        at += size
    return chunks


def cut_anywhere(data: bytes, *sizes: int) -> list[Json]:
    """Return chunks with so many characters of one base64 text, and one with the rest."""
    chunks, text = [], piece(data)
    for size in (*sizes, len(text)):
        chunks.append(audio(data=text[:size]))
        text = text[size:]
    return chunks


@attrs.frozen
class Shape:
    """A stream, and the turn that is expected of it.

    Attributes:
        chunks: The chunks.
        spoken: The transcript; None if there is none.
        written: The content.
        samples: The samples that can be played.
        file: The sound as it is kept, unless it is a WAV file of the samples.
        audio_id: The last id that came.
        expires_at: The last expiry that came.
        finish_reason: The last reason that came.
        usage: The usage.
        calls: The tool calls.
        sent_as: The reason for its form in the next request.
    """

    chunks: tuple[Json, ...]
    spoken: str | None = "Hi there!"
    written: str | None = None
    samples: bytes = PCM + PCM
    file: bytes | None = None
    audio_id: str | None = ID
    expires_at: int | None = END
    finish_reason: str | None = None
    usage: Usage | None = None
    calls: tuple[ToolCall, ...] = ()
    sent_as: str = "voice, 60 min left"


def wav(samples: bytes) -> bytes:
    """Return a WAV file of the samples."""
    return AudioInput.from_pcm(samples, 24_000).read()


AZURE_FILTER: Json = {
    "id": "",
    "object": "",
    "created": 0,
    "model": "",
    "choices": [
        {
            "index": 0,
            "finish_reason": None,
            "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}},
            "content_filter_offsets": {"check_offset": 44, "start_offset": 44, "end_offset": 198},
        }
    ],
    "usage": None,
}
AZURE_PROMPT: Json = {**AZURE_FILTER, "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}


def call_piece(index: int, arguments: str, **named: Any) -> Json:
    """Return a piece of a tool call; the first one has its id and name."""
    function = {"arguments": arguments}
    if named:
        function["name"] = named.pop("name")
    return {"index": index, **named, "function": function}


def qwen(delta: Json, **fields: Any) -> Json:
    """Return a chunk of DashScope: words are content, and each `expires_at` has passed."""
    return chunk({"role": None, "content": None, **delta}, **fields)


PAST = int(START)
QWEN_SOUND = [
    qwen({"audio": {"data": piece(PCM), "expires_at": PAST, "id": "audio_af1"}}) for _ in range(2)
]


def vllm(content: str, modality: str, index: int = 0) -> Json:
    """Return a chunk of vLLM-Omni: sound is content too, and each has a `finish_reason`."""
    return chunk(
        {"role": "assistant", "content": content}, index, finish_reason="stop", modality=modality
    )


SHAPES = {
    "recorded in 2024: no finish_reason": Shape((chunk(HEAD), *WORDS, *SOUND, EXPIRY)),
    "usage in a chunk of its own": Shape(
        (chunk(HEAD), *WORDS, *SOUND, EXPIRY, STOP, USAGE_CHUNK), finish_reason="stop", usage=USAGE
    ),
    "chunks after the usage chunk": Shape(
        (chunk(HEAD), *WORDS, *SOUND, USAGE_CHUNK, chunk(usage=None), EXPIRY, STOP),
        finish_reason="stop",
        usage=USAGE,
    ),
    "finish_reason before everything": Shape(
        (chunk(HEAD, finish_reason="stop"), *WORDS, *SOUND, EXPIRY), finish_reason="stop"
    ),
    "finish_reason before expires_at": Shape(
        (*WORDS, *SOUND, STOP, EXPIRY, USAGE_CHUNK), finish_reason="stop", usage=USAGE
    ),
    "expires_at first": Shape((EXPIRY, *WORDS, *SOUND, STOP), finish_reason="stop"),
    "expires_at with the sound": Shape(
        (*WORDS, SOUND[0], audio(data=piece(PCM), expires_at=END), STOP), finish_reason="stop"
    ),
    "expires_at never: the id tells": Shape(
        (*WORDS, *SOUND, STOP), expires_at=None, finish_reason="stop"
    ),
    "words and sound mixed": Shape(
        (
            chunk(HEAD),
            first(transcript="Hi", data=piece(PCM)),
            audio(transcript=" there"),
            audio(data=piece(PCM), transcript="!"),
            EXPIRY,
            STOP,
        ),
        finish_reason="stop",
    ),
    "sound ahead of the words": Shape((chunk(HEAD), *SOUND, *WORDS, EXPIRY)),
    "cut at max_tokens": Shape(
        (*WORDS, *SOUND, EXPIRY, chunk(finish_reason="length")), finish_reason="length"
    ),
    "odd byte counts, padded": Shape((*WORDS, *in_pieces(PCM + PCM, 1, 19_199, 2, 4_001), EXPIRY)),
    "base64 cut anywhere": Shape(
        (*WORDS, *cut_anywhere(PCM + PCM, 1, 2, 3, 7, 4_002, 1_203, 25, 8_001), EXPIRY)
    ),
    "base64 cut anywhere, without its end": Shape(
        (*WORDS, *cut_anywhere(PCM + PCM + b"\1", 3, 9_998), EXPIRY)
    ),
    "half a sample at the end": Shape((*WORDS, *in_pieces(PCM + PCM + b"\1", 100), EXPIRY)),
    "null and empty fields everywhere": Shape(
        (
            chunk({**AGAIN, "audio": None, "tool_calls": None, "function_call": None}),
            *WORDS,
            *SOUND,
            audio(id=None, data=None, transcript=None, expires_at=END),
            audio(id="", data="", transcript="", expires_at=None),
            chunk(finish_reason=None, usage=None),
        )
    ),
    "words only, in text": Shape(
        (chunk(HEAD), chunk({"content": "Hi "}), chunk({"content": "there!"}), STOP),
        spoken=None,
        written="Hi there!",
        samples=b"",
        audio_id=None,
        expires_at=None,
        finish_reason="stop",
        sent_as="text, the model did not speak",
    ),
    "empty choices in between": Shape(
        ({**chunk(), "choices": []}, *WORDS, {**chunk(), "choices": []}, *SOUND, EXPIRY)
    ),
    "Azure's asynchronous filter": Shape(
        (AZURE_PROMPT, chunk(HEAD), *WORDS, AZURE_FILTER, *SOUND, EXPIRY, STOP, AZURE_FILTER),
        finish_reason="stop",
    ),
    "the first chunk is of choice 1": Shape(
        tuple(
            {**each, "choices": [{**each["choices"][0], "index": 1}]}
            for each in (*WORDS, *SOUND, EXPIRY, STOP)
        ),
        finish_reason="stop",
    ),
    "OpenRouter: mixed, content empty": Shape(
        (
            chunk({"role": "assistant", "content": ""}),
            chunk({"content": "", "audio": {"id": ID, "transcript": "Hi there!"}}),
            *(chunk({"content": "", **each["choices"][0]["delta"]}) for each in SOUND[1:] * 2),
            chunk({"content": "", "audio": {"expires_at": END}}),
            chunk({"content": ""}, finish_reason="stop"),
            USAGE_CHUNK,
        ),
        written="",
        finish_reason="stop",
        usage=USAGE,
    ),
    "OpenRouter: one megabyte of MP3, nothing said": Shape(
        (
            chunk({"role": "assistant", "content": ""}),
            chunk({"content": "", "audio": {"data": piece(MP3 * 110)}}),
            chunk({"content": ""}, finish_reason="stop"),
        ),
        spoken=None,
        written="",
        samples=b"",
        file=MP3 * 110,
        audio_id=None,
        expires_at=None,
        finish_reason="stop",
        sent_as="placeholder, server gave no id",
    ),
    "Qwen: words in content, each chunk past its end": Shape(
        (
            qwen({"role": "assistant", "content": ""}),
            qwen({"content": "Hi"}),
            qwen({"content": " there!"}),
            *QWEN_SOUND,
            qwen({"content": ""}, finish_reason="stop"),
            USAGE_CHUNK,
        ),
        spoken=None,
        written="Hi there!",
        audio_id="audio_af1",
        expires_at=PAST,
        finish_reason="stop",
        usage=USAGE,
        sent_as="text, expired 0 s ago",
    ),
    "vLLM-Omni: WAV files in content": Shape(
        (
            vllm("Hi", "text"),
            vllm(" there!", "text"),
            vllm(piece(wav(PCM)), "audio"),
            vllm(piece(wav(PCM)), "audio"),
        ),
        spoken=None,
        written="Hi there!",
        audio_id=None,
        expires_at=None,
        finish_reason="stop",
        sent_as="text, server gave no id",
    ),
    "vLLM-Omni: sound in another choice": Shape(
        (vllm("Hi there!", "text"), *(vllm(piece(wav(PCM)), "audio", 1) for _ in range(2))),
        spoken=None,
        written="Hi there!",
        audio_id=None,
        expires_at=None,
        finish_reason="stop",
        sent_as="text, server gave no id",
    ),
    "a WAV file in pieces": Shape(
        (*WORDS, *in_pieces(wav(PCM + PCM), 1_001, 2, 9_000), EXPIRY),
    ),
    "words beside the sound, and a call in pieces": Shape(
        (
            chunk({**HEAD, "content": "Look:"}),
            *WORDS,
            chunk({"tool_calls": [call_piece(0, "", id="a", type="function", name="f")]}),
            SOUND[0],
            chunk({"tool_calls": [call_piece(1, '{"x"', id="b", type="function", name="g")]}),
            chunk({"tool_calls": [call_piece(0, "{"), call_piece(1, ":1}")]}),
            SOUND[1],
            chunk({"tool_calls": [call_piece(0, "}")]}),
            EXPIRY,
            chunk(finish_reason="tool_calls"),
        ),
        written="Look:",
        finish_reason="tool_calls",
        calls=(ToolCall("a", "f", "{}"), ToolCall("b", "g", '{"x":1}')),
    ),
}


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> Shape:
    """Each of the recorded shapes."""
    return SHAPES[request.param]


def check(turn: AssistantTurn, shape: Shape) -> None:
    """Assert that the turn is the expected one."""
    assert turn.content == shape.written
    assert turn.tool_calls == shape.calls
    assert (turn.finish_reason, turn.usage) == (shape.finish_reason, shape.usage)
    assert not turn.interrupted
    assert turn.model == "m"
    if not (shape.samples or shape.file):
        assert turn.audio is None
        return
    assert turn.audio is not None
    assert turn.audio.transcript == shape.spoken
    assert (turn.audio.id, turn.audio.expires_at) == (shape.audio_id, shape.expires_at)
    if shape.file:
        assert turn.audio.read() == shape.file
    else:
        assert samples_in(turn) == shape.samples


def samples_in(turn: AssistantTurn) -> bytes:
    """Return the samples of a turn's sound, a WAV file that any program plays."""
    assert turn.audio is not None
    assert turn.audio.format == "wav"
    with wave.open(io.BytesIO(turn.audio.read())) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
        assert turn.audio.duration == pytest.approx(file.getnframes() / 24_000)
        samples: bytes = file.readframes(file.getnframes())
    return samples


def turn_of(chunks: Iterable[Any]) -> AssistantTurn:
    """Return the turn that a conversation makes of chunks."""
    return Conversation().add_completion(chunks)


def test_chunks_of_any_shape_give_the_right_turn(shape: Shape) -> None:
    """Words, sound, id, expiry, reason, usage and calls are those of the chunks."""
    check(turn_of(shape.chunks), shape)


def test_the_sdks_chunks_of_any_shape_give_the_right_turn(shape: Shape) -> None:
    """The SDK's objects give the same turn, whatever fields the server left out."""
    check(turn_of(ChatCompletionChunk.construct(**each) for each in shape.chunks), shape)


def test_events_of_a_stream_of_any_shape_add_up_to_its_turn(
    server: StandIn, chat: Conversation, shape: Shape
) -> None:
    """The events of a stream add up to the turn, which is kept when the last event has it."""
    server.will_stream(shape.chunks)
    with chat.stream("Good morning") as stream:
        events = list(stream)
    said = [event.text for event in events if isinstance(event, TranscriptDelta)]
    written = [event.text for event in events if isinstance(event, TextDelta)]
    heard = [event.data for event in events if isinstance(event, AudioDelta)]
    assert "".join(said) == (shape.spoken or "")
    assert "".join(written) == (shape.written or "")
    assert b"".join(heard) == shape.samples
    assert all([*said, *written, *heard]), "no event is empty"
    assert all(len(data) % 2 == 0 for data in heard), "samples are whole"
    [finished] = [event for event in events if isinstance(event, TurnFinished)]
    assert finished is events[-1]
    assert chat.turns[-1] is finished.turn
    check(finished.turn, shape)


def test_stream_of_any_shape_is_saved_with_playable_sound(
    server: StandIn, client: OpenAI, clock: Clock, tmp_path: Path, shape: Shape
) -> None:
    """A session keeps raw sound as WAV, and sound of other formats as it came."""
    server.will_stream(shape.chunks)
    store = FileStore(tmp_path, fsync=False)
    with Conversation.open("retriever", store=store, client=client, clock=clock) as chat:
        with chat.stream("Good morning") as stream:
            list(stream)
        files = list((tmp_path / "retriever.audio").glob("*"))
        assert [path.suffix for path in files] == [
            ".mp3" if shape.file else ".wav" for _ in range(bool(shape.file or shape.samples))
        ]
        if shape.samples:
            with wave.open(str(files[0])) as file:
                assert file.readframes(file.getnframes()) == shape.samples
    with Conversation.open("retriever", store=store) as again:
        [_, turn] = again.turns
        assert isinstance(turn, AssistantTurn)
        check(turn, shape)
        assert again.turns == chat.turns


def test_request_after_a_stream_of_any_shape_succeeds(
    server: StandIn, chat: Conversation, shape: Shape
) -> None:
    """The answer is sent in the expected form; an id that the server does not know is healed."""
    server.will_stream(shape.chunks)
    with chat.stream("Good morning") as stream:
        list(stream)
    assert chat.render().items[1].why == shape.sent_as
    assert chat.say("And again").text.startswith("You wrote: And again")
    sent = server.requests[-1]["messages"][1]
    assert "audio" not in sent, "the stand-in did not issue this id"
    assert sent["content"]


def test_events_come_before_the_end_of_the_stream(server: StandIn, chat: Conversation) -> None:
    """Words and sound that have arrived are not held back."""
    server.will_stream([*WORDS, *SOUND, EXPIRY], hold_after=4)
    with chat.stream("Good morning") as stream:
        events = iter(stream)
        first = [next(events) for _ in range(4)]
        server.wait_until_held()
        assert [type(event) for event in first] == [TranscriptDelta] * 3 + [AudioDelta]
        assert first[3] == AudioDelta(PCM)
        server.go_on()
        assert [type(event) for event in events] == [AudioDelta, TurnFinished]


def test_words_and_sound_of_one_chunk_are_two_events() -> None:
    """They come in the order of the chunk's keys."""
    sound, words = AudioDelta(PCM), TranscriptDelta("Hi")
    assert StreamedCompletion().add(first(data=piece(PCM), transcript="Hi")) == [sound, words]
    assert StreamedCompletion().add(first(transcript="Hi", data=piece(PCM))) == [words, sound]


def piped(pcm: bytes) -> bytes:
    """Return a WAV file as written into a pipe, with invalid sizes."""
    return wav(pcm)[:40] + b"\xff" * 4 + pcm


def floating(pcm: bytes) -> bytes:
    """Return a WAV file in a coding that the standard library does not read."""
    return wav(pcm)[:20] + b"\3\0" + wav(pcm)[22:]


def with_tail(pcm: bytes) -> bytes:
    """Return a WAV file with a comment after its samples."""
    return wav(pcm) + b"LIST" + (4).to_bytes(4, "little") + b"INFO"


@pytest.mark.parametrize(
    ("name", "file"),
    {
        "piped": piped(PCM),
        "comment behind": with_tail(PCM),
        "RF64": b"RF64" + wav(PCM)[4:],
    }.items(),
    ids=str,
)
def test_unusual_wav_files_of_a_stream_are_joined(
    server: StandIn, chat: Conversation, name: str, file: bytes
) -> None:
    """WAV files with invalid sizes, trailing chunks or RF64 are joined without a gap."""
    server.will_stream([vllm(piece(file), "audio"), vllm(piece(file), "audio")])
    with chat.stream("Good morning") as stream:
        events = list(stream)
    heard = b"".join(event.data for event in events if isinstance(event, AudioDelta))
    assert heard == PCM + PCM, name
    turn = chat.turns[-1]
    assert isinstance(turn, AssistantTurn)
    assert samples_in(turn) == PCM + PCM


@pytest.mark.parametrize(
    ("last", "kept"),
    [
        (wav(PCM)[:40], floating(PCM)),
        (wav(PCM)[:44], floating(PCM)),
        (floating(PCM), floating(PCM + PCM)),
    ],
    ids=["cut in its head", "without samples", "in floats"],
)
def test_unreadable_wav_file_of_a_stream_is_skipped(last: bytes, kept: bytes) -> None:
    """The words, and the sound that could be joined, are kept."""
    first = vllm(piece(floating(PCM)), "audio")
    turn = turn_of([vllm("Hi there!", "text"), first, vllm(piece(last), "audio")])
    assert turn.text == "Hi there!"
    assert turn.audio is not None
    assert turn.audio.read() == kept


@pytest.mark.parametrize(
    "choice", [{"index": 0}, {"index": 0, "delta": None, "finish_reason": None}]
)
def test_choice_without_a_delta_is_skipped(choice: Mapping[str, Any]) -> None:
    """Reports of a content filter change nothing, wherever they come in the stream."""
    report = {**chunk(), "choices": [choice]}
    turn = turn_of([report, *WORDS, report, *SOUND, EXPIRY, report])
    assert (turn.text, samples_in(turn)) == ("Hi there!", PCM + PCM)


def test_second_answer_in_a_stream_is_skipped(
    server: StandIn, chat: Conversation, caplog: pytest.LogCaptureFixture
) -> None:
    """The first answer of a server that ignores `n` is kept, and a warning is logged."""
    pieces = [
        chunk({"audio": {"id": f"audio_{index}", "transcript": word}}, index)
        for word, index in (("Hi", 0), ("Ho", 1), (" there", 0), (" ho", 1))
    ]
    sounds = [chunk({"audio": {"data": piece(PCM)}}, index) for index in (0, 1)]
    server.will_stream([*pieces, *sounds, STOP])
    with chat.stream("Good morning") as stream:
        words = [event.text for event in stream if isinstance(event, TranscriptDelta)]
    assert words == ["Hi", " there"]
    turn = chat.turns[-1]
    assert isinstance(turn, AssistantTurn)
    assert turn.audio
    assert (turn.text, turn.audio.id, samples_in(turn)) == ("Hi there", "audio_0", PCM)
    assert "skipping a second answer in the same stream" in caplog.text


@pytest.mark.parametrize("choice", [None, 5, "text", {"index": 0, "delta": "text"}])
def test_choice_of_a_wrong_type_is_skipped(choice: Any) -> None:
    """The chunks around a choice or delta that is not an object are read."""
    strange = {**chunk(), "choices": [choice]}
    turn = turn_of([*WORDS, strange, *SOUND, EXPIRY])
    assert (turn.text, samples_in(turn)) == ("Hi there!", PCM + PCM)

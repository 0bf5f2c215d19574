"""An answer cut into chunks in any way and any legal order, found by Hypothesis."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk

from conversation import (
    AssistantTurn,
    AudioDelta,
    Conversation,
    Form,
    TextDelta,
    ToolCall,
    TranscriptDelta,
    TurnFinished,
    Usage,
)
from conversation._values.events import Event
from conversation._wire.chunks import StreamedCompletion
from conversation.testing import _contract
from tests.conftest import Clock
from tests.samples import RECORDED_USAGE, START, chunk

Json = dict[str, Any]
Lane = list[Json]

ID = f"audio_{int(START):08x}{'0' * 24}"


@attrs.frozen
class Reply:
    """An answer that is cut into chunks.

    Attributes:
        words: The transcript; None if it does not speak.
        text: The content.
        pcm: Whole samples.
        expires_at: The expiry; None if not given.
        finish_reason: The reason; None if not given.
        is_billed: True if there is usage.
        calls: The tool calls.
    """

    words: str | None
    text: str | None
    pcm: bytes
    expires_at: int | None
    finish_reason: str | None
    is_billed: bool
    calls: tuple[ToolCall, ...]


# No byte of it is part of any file's signature.
quiet_bytes = st.binary(max_size=80).map(lambda data: bytes(byte % 64 for byte in data))
samples = quiet_bytes.map(lambda data: data[: len(data) // 2 * 2])
some_text = st.text(min_size=1, max_size=20)
calls = st.lists(st.builds(ToolCall, some_text, some_text, st.text(max_size=20)), max_size=2)
ends = st.sampled_from([(int(START) + 3600, None), (None, "stop"), (int(START) + 3600, "length")])


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    """Generate answers that speak, write, call tools, or do all of it."""
    speaks = draw(st.booleans())
    expires_at, finish_reason = draw(ends) if speaks else (None, draw(some_text))
    return Reply(
        words=draw(some_text) if speaks else None,
        text=draw(st.none() | some_text) if speaks else draw(some_text),
        pcm=draw(samples) if speaks else b"",
        expires_at=expires_at,
        finish_reason=finish_reason,
        is_billed=draw(st.booleans()),
        calls=tuple({call.id: call for call in draw(calls)}.values()),
    )


def cuts(draw: st.DrawFn, size: int) -> list[tuple[int, int]]:
    """Return start and end of one or more pieces of this size; they may be empty."""
    inner = sorted(draw(st.lists(st.integers(0, size), max_size=5)))
    return list(zip([0, *inner], [*inner, size], strict=True))


def in_base64(draw: st.DrawFn, data: bytes) -> list[str]:
    """Return sound as pieces of base64: each by itself, or one text cut anywhere."""
    if draw(st.booleans()):
        return [base64.b64encode(data[a:b]).decode() for a, b in cuts(draw, len(data))]
    text = base64.b64encode(data).decode()
    return [text[a:b] for a, b in cuts(draw, len(text))]


def call_lane(draw: st.DrawFn, reply: Reply) -> Lane:
    """Return deltas that begin the calls in order, then pieces of arguments in any order."""
    begun, rest = [], []
    for index, call in enumerate(reply.calls):
        first, *more = [call.arguments[start:end] for start, end in cuts(draw, len(call.arguments))]
        function = {"name": call.name, "arguments": first}
        begun.append({"index": index, "id": call.id, "type": "function", "function": function})
        rest.append([{"index": index, "function": {"arguments": piece}} for piece in more])
    return [{"tool_calls": [call]} for call in (*begun, *mixed(draw, rest))]


def mixed(draw: st.DrawFn, lanes: Sequence[Lane]) -> Lane:
    """Return all lanes merged, each in its own order."""
    order = draw(st.permutations([i for i, lane in enumerate(lanes) for _ in lane]))
    left = [iter(lane) for lane in lanes]
    return [next(left[i]) for i in order]


@st.composite
def streams(draw: st.DrawFn) -> tuple[Reply, list[Json]]:
    """Generate answers and their chunks, with one field or several and with null fields."""
    reply = draw(replies())
    lanes: list[Lane] = [
        [
            {"audio": {"transcript": (reply.words or "")[a:b]}}
            for a, b in cuts(draw, len(reply.words))
        ]
        if reply.words is not None
        else [],
        [{"content": (reply.text or "")[a:b]} for a, b in cuts(draw, len(reply.text or ""))]
        if reply.text is not None
        else [],
        [{"audio": {"data": text}} for text in in_base64(draw, reply.pcm)] if reply.pcm else [],
        [{"audio": {"id": ID}}] * draw(st.integers(1, 3)) if reply.words is not None else [],
        [{"audio": {"expires_at": reply.expires_at}}] * draw(st.integers(1, 3))
        if reply.expires_at
        else [],
        call_lane(draw, reply),
        [{"finish_reason": reply.finish_reason}] if reply.finish_reason else [],
        [{"usage": RECORDED_USAGE}] if reply.is_billed else [],
        [{"role": "assistant"}] * draw(st.integers(0, 2)),
        [{"nothing": True}] * draw(st.integers(0, 2)),
    ]
    parts = mixed(draw, lanes)
    joins = draw(st.lists(st.booleans(), min_size=len(parts), max_size=len(parts)))
    groups: list[Json] = []
    for part, is_joined in zip(parts, joins, strict=True):
        if is_joined and groups and fits(groups[-1], part):
            groups[-1] = together(groups[-1], part)
        else:
            groups.append(part)
    return reply, [as_chunk(group, fill=draw(st.booleans())) for group in groups]


def fits(group: Json, part: Json) -> bool:
    """Return True if one chunk can hold both."""
    alone = {"usage", "nothing"}
    both = group.keys() & part.keys() - {"audio"}
    audio = group.get("audio", {}).keys() & part.get("audio", {}).keys()
    return not (both or audio or alone & {*group, *part})


def together(group: Json, part: Json) -> Json:
    """Return both in one delta."""
    joined = {**group, **part}
    if "audio" in group and "audio" in part:
        joined["audio"] = {**group["audio"], **part["audio"]}
    return joined


def as_chunk(group: Json, *, fill: bool) -> Json:
    """Return a chunk with these fields, and with `fill` with the others as null."""
    if group.keys() & {"usage", "nothing"}:
        return {**chunk(), "choices": [], "usage": group.get("usage")}
    delta = {key: value for key, value in group.items() if key != "finish_reason"}
    if fill:
        nulls = {"role": "assistant", "content": None, "tool_calls": None, "refusal": None}
        delta = nulls | delta
        if "audio" in delta:
            audio = dict.fromkeys(("id", "data", "transcript", "expires_at"))
            delta["audio"] = audio | delta["audio"]
    more: Json = {"usage": None} if fill else {}
    return chunk(delta, finish_reason=group.get("finish_reason"), **more)


def expected(reply: Reply) -> Json:
    """Return the expected fields of the turn."""
    return {
        "content": reply.text,
        "transcript": reply.words,
        "samples": reply.pcm,
        "id": None if reply.words is None else ID,
        "expires_at": reply.expires_at,
        "finish_reason": reply.finish_reason,
        "usage": Usage(64, 200, 26, 38, 0, 41, 159) if reply.is_billed else None,
        "tool_calls": reply.calls,
        "interrupted": False,
    }


def said_by(turn: AssistantTurn) -> Json:
    """Return the fields of a turn."""
    audio = turn.audio
    return {
        "content": turn.content,
        "transcript": audio and audio.transcript,
        "samples": samples_of(turn),
        "id": audio and audio.id,
        "expires_at": audio and audio.expires_at,
        "finish_reason": turn.finish_reason,
        "usage": turn.usage,
        "tool_calls": turn.tool_calls,
        "interrupted": turn.interrupted,
    }


def samples_of(turn: AssistantTurn) -> bytes:
    """Return the samples of a turn's sound."""
    if turn.audio is None or turn.audio.data is None:
        return b""
    with wave.open(io.BytesIO(turn.audio.read())) as file:
        samples: bytes = file.readframes(file.getnframes())
    return samples


class Line:
    """A client that streams these chunks, and then calls `end`."""

    def __init__(self, chunks: Sequence[Json], end: Callable[[], None] = lambda: None) -> None:
        self.chat = self.completions = self
        self.sent = self.closed = 0
        self._chunks = chunks
        self._end = end

    def create(self, **_: Any) -> Iterator[Json]:
        """Yield the chunks."""
        try:
            for each in self._chunks:
                self.sent += 1
                yield each
            self._end()
        finally:
            self.closed += 1


def hang_up() -> None:
    """Raise the error of a broken connection."""
    msg = "peer closed connection"
    raise ConnectionError(msg)


def conversation_on(line: Any) -> Conversation:
    """Return an empty conversation with that client."""
    return Conversation(client=line, clock=Clock())


def total(events: Sequence[Event]) -> Json:
    """Return the words and sound of the events."""
    return {
        "content": "".join(event.text for event in events if isinstance(event, TextDelta)),
        "transcript": "".join(event.text for event in events if isinstance(event, TranscriptDelta)),
        "samples": b"".join(event.data for event in events if isinstance(event, AudioDelta)),
    }


def check_next_request(chat: Conversation) -> None:
    """Assert that the API would accept the next request, without any voice."""
    chat.add_user("And again")

    def knows_none(_: str) -> bool:
        return False

    _contract.check(orjson.loads(orjson.dumps(chat.request())), knows_none)


@given(streams())
def test_chunks_of_any_cut_give_the_same_turn(stream: tuple[Reply, list[Json]]) -> None:
    """Chunks passed to `add_completion` give the whole answer, to the last sample."""
    reply, chunks = stream
    assert said_by(Conversation().add_completion(chunks)) == expected(reply)


@given(streams())
def test_chunks_as_objects_of_the_sdk_give_the_same_deltas(
    stream: tuple[Reply, list[Json]],
) -> None:
    """Objects give the same deltas and the same completion as their dicts."""
    _, chunks = stream
    from_dicts, from_objects = StreamedCompletion(), StreamedCompletion()
    for each in chunks:
        copy = orjson.loads(orjson.dumps({**each, "unknown": [1]}))
        chunk_object = ChatCompletionChunk.construct(**copy)
        brought = from_objects.add(chunk_object)
        assert sorted(brought, key=repr) == sorted(from_dicts.add(each), key=repr)
    assert from_objects.completion() == from_dicts.completion()


@given(streams())
def test_streams_of_any_cut_give_the_same_events(stream: tuple[Reply, list[Json]]) -> None:
    """The events add up to the turn, have whole samples, and the turn is the last of them."""
    reply, chunks = stream
    chat = conversation_on(Line(chunks))
    with chat.stream("Good morning") as opened:
        events = list(opened)
    finished = events.pop()
    assert isinstance(finished, TurnFinished)
    assert said_by(finished.turn) == expected(reply)
    assert chat.turns[-1] is finished.turn
    assert total(events) == {
        "content": reply.text or "",
        "transcript": reply.words or "",
        "samples": reply.pcm,
    }
    assert all(len(event.data) % 2 == 0 for event in events if isinstance(event, AudioDelta))


def check_broken(chat: Conversation, reply: Reply, events: Sequence[Event]) -> Json:
    """Assert that the kept part of an answer is its beginning, and return it."""
    heard = total(events)
    assert not any(isinstance(event, TurnFinished) for event in events)
    kept: Json = {"content": "", "transcript": "", "samples": b""}
    turn = chat.turns[-1]
    if isinstance(turn, AssistantTurn):
        said = said_by(turn)
        kept = {key: said[key] or kept[key] for key in kept}
        assert (said["interrupted"], said["tool_calls"]) == (True, ())
        assert chat.render().items[-1].form is not Form.VOICE
    for key, whole in {"content": reply.text, "transcript": reply.words}.items():
        assert (whole or "").startswith(kept[key])
    assert reply.pcm.startswith(kept["samples"])
    assert all(kept[key].startswith(heard[key]) for key in kept)
    assert len(chat.turns) == 1 + isinstance(turn, AssistantTurn)
    check_next_request(chat)
    return kept


@given(streams(), st.data())
def test_broken_connection_keeps_the_answer_so_far(
    stream: tuple[Reply, list[Json]], data: st.DataObject
) -> None:
    """After any chunk the error is raised, and the answer up to there is kept."""
    reply, chunks = stream
    count = data.draw(st.integers(0, len(chunks)), "chunks that come")
    line = Line(chunks[:count], hang_up)
    chat = conversation_on(line)
    events: list[Event] = []

    def read() -> None:
        with chat.stream("Good morning") as opened:
            events.extend(opened)

    with pytest.raises(ConnectionError, match="peer closed"):
        read()
    assert line.closed == 1
    assert check_broken(chat, reply, events) == total(events)


@given(streams(), st.data())
def test_leaving_a_stream_early_keeps_its_events(
    stream: tuple[Reply, list[Json]], data: st.DataObject
) -> None:
    """The turn has the words and the sound of all chunks that were read, and no others are."""
    reply, chunks = stream
    count = data.draw(st.integers(0, 30), "events that are wanted")
    line = Line(chunks)
    chat = conversation_on(line)
    events: list[Event] = []
    with chat.stream("Good morning") as opened:
        for event in opened:
            events.append(event)
            if len(events) > count:
                break
    assert line.closed == 1
    if any(isinstance(event, TurnFinished) for event in events):
        assert said_by(chat.turns[-1]) == expected(reply)  # type: ignore[arg-type]
    else:
        whole = StreamedCompletion()
        *before, last = [whole.add(each) for each in chunks[: line.sent]]
        events_before = [event for deltas in before for event in deltas]
        if len(events_before) + len(last) <= count:  # what was held back comes at the end
            last += whole.finish()
        assert check_broken(chat, reply, events) == total([*events_before, *last])
        assert len(events_before) <= count, "no chunk is read too early"

"""Recording of a Realtime session: events become turns."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import pytest

from conversation import (
    AssistantTurn,
    AsyncConversation,
    AudioInput,
    Conversation,
    FileStore,
    ImageInput,
    SystemTurn,
    ToolCall,
    ToolTurn,
    Usage,
    UserTurn,
)
from conversation._values.samples import as_s16
from conversation._values.sound import samples_of
from conversation._values.turns import Turn
from conversation.errors import InvalidSetting, InvalidTurn, SaveFailed
from conversation.realtime import AsyncRecorder, Recorder, seed_events
from conversation.testing import StandIn
from tests.realtime import events as e
from tests.samples import PNG
from tests.stores.faulty_disk import FaultyDisk

WAITING = "[spoken, no words yet]"


@pytest.fixture
def chat() -> Conversation:
    """A conversation in memory."""
    return Conversation(clock=lambda: 1_762_000_000.0)


@pytest.fixture
def recorder(chat: Conversation) -> Recorder:
    """Its recorder, in a session."""
    recorder = Recorder(chat)
    recorder.received(e.session())
    return recorder


def feed(recorder: Recorder, events: Iterable[e.Event]) -> list[Turn]:
    """Let the recorder receive events, and return the turns that it added or changed."""
    return [turn for event in events for turn in recorder.received(event)]


def texts(chat: Conversation) -> list[str]:
    """Return the words of all turns."""
    return [turn.text for turn in chat.turns]


def pattern(seconds: float, rate: int = 24_000) -> bytes:
    """Return samples of which each differs from its neighbours."""
    return b"".join((i % 30_000).to_bytes(2, "little") for i in range(round(seconds * rate)))


def sound_of(turn: Turn) -> bytes:
    """Return the samples of a turn with one sound."""
    if isinstance(turn, AssistantTurn):
        assert turn.audio is not None
        return samples_of(turn.audio.read())
    assert isinstance(turn, UserTurn)
    (part,) = turn.content
    assert isinstance(part, AudioInput)
    return samples_of(part.read())


# --- answers -------------------------------------------------------------------------------------


def test_a_spoken_answer_is_kept_with_sound_words_and_usage(
    chat: Conversation, recorder: Recorder
) -> None:
    """An answer is added at `response.done`: whole, as WAV, without an audio id."""
    sound = pattern(1.0)
    *events, last = e.answered("r1", "a1", "Good morning to you", sound)
    assert feed(recorder, events) == []
    assert len(chat.turns) == 0
    (turn,) = recorder.received(last)
    assert list(chat.turns) == [turn]
    assert isinstance(turn, AssistantTurn)
    assert turn.audio is not None
    assert (turn.audio.id, turn.audio.format, turn.audio.duration) == (None, "wav", 1.0)
    assert sound_of(turn) == sound
    assert turn.text == "Good morning to you"
    assert turn.usage == Usage(60, 50, 20, 40, 8, 10, 40)
    assert (turn.model, turn.finish_reason) == ("gpt-realtime-2", "stop")
    assert not turn.interrupted
    assert chat.usage == turn.usage
    assert chat.messages() == [{"role": "assistant", "content": "Good morning to you"}]


def test_a_written_answer_says_that_the_voice_was_dropped(
    chat: Conversation, recorder: Recorder
) -> None:
    """Text is kept as content; where sound was asked for, as `voice_dropped`."""
    for response, asked in (("r1", {}), ("r2", {"output_modalities": ["text"]})):
        item = f"a_{response}"
        feed(
            recorder,
            [
                e.begun(response, **asked),
                *e.opened(response, e.message(item)),
                e.delta("output_text", response, item, "Good "),
                e.delta("output_text", response, item, "morning"),
                e.done(response, e.message(item)),
            ],
        )
    first, second = chat.turns
    assert isinstance(first, AssistantTurn)
    assert isinstance(second, AssistantTurn)
    assert (first.content, first.audio, first.voice_dropped) == ("Good morning", None, True)
    assert (second.content, second.voice_dropped) == ("Good morning", False)


@pytest.mark.parametrize(
    ("status", "details", "reason"),
    [
        ("cancelled", {"reason": "turn_detected"}, None),
        ("incomplete", {"reason": "max_output_tokens"}, "length"),
        ("incomplete", {"reason": "content_filter"}, "content_filter"),
        ("failed", {"error": {"code": "server_error"}}, None),
    ],
)
def test_an_answer_that_broke_off_is_interrupted(
    chat: Conversation, recorder: Recorder, status: str, details: Any, reason: str | None
) -> None:
    """The part of an answer that broke off is kept as interrupted, with its cost."""
    feed(recorder, e.streamed("r1", "a1"))
    item = e.message("a1", {"type": "output_audio", "transcript": None}, status="incomplete")
    recorder.received(e.done("r1", item, status=status, status_details=details))
    (turn,) = chat.turns
    assert isinstance(turn, AssistantTurn)
    assert turn.interrupted
    assert turn.finish_reason == reason
    assert turn.text == "Good morning to you"
    assert turn.usage is not None


@pytest.mark.parametrize("drops", [False, True])
def test_a_whole_answer_needs_no_end_of_its_response(
    chat: Conversation, recorder: Recorder, drops: bool
) -> None:
    """If `response.done` is missing, the next response, or the end, keeps what was whole."""
    *events, done = e.answered("r1", "a1")
    feed(recorder, [*events, e.said("u1", e.text("More"))])
    assert chat.turns == ()
    feed(recorder, [e.begun("r2")] if not drops else [])
    turns = recorder.close() if drops else [*chat.turns]
    assert [turn.text for turn in turns] == ["Good morning to you", "More"]
    answer = turns[0]
    assert isinstance(answer, AssistantTurn)
    assert (answer.interrupted, answer.finish_reason) == (False, "stop")
    recorder.received(done)
    assert (len(chat.turns), chat.usage.total_tokens) == (2, 110)


def test_an_answer_without_an_end_is_over_when_the_next_one_begins(
    chat: Conversation, recorder: Recorder
) -> None:
    """A new response keeps a part of an answer, and what waits behind it; one outside does not."""
    feed(recorder, [*e.streamed("r1", "a1"), e.said("u1", e.text("More"))])
    feed(recorder, [e.begun("r2", conversation_id=None)])
    assert texts(chat) == []
    feed(recorder, e.streamed("r3", "a3"))
    assert texts(chat) == ["Good morning to you", "More"]
    first = chat.turns[0]
    assert isinstance(first, AssistantTurn)
    assert first.interrupted
    feed(recorder, [e.done("r1", e.message("a1")), e.done("r3", e.message("a3"))])  # late
    assert texts(chat) == ["Good morning to you", "More", "Good morning to you"]
    assert chat.usage.total_tokens == 220


def test_an_item_may_be_told_before_its_response(chat: Conversation, recorder: Recorder) -> None:
    """An item that waits for the beginning of its own response is not ended by it."""
    first, *others = e.streamed("r1", "a1")
    added = others.pop(1)
    feed(recorder, [added, first, *others, e.done("r1", e.message("a1"))])
    assert texts(chat) == ["Good morning to you"]
    assert isinstance(turn := chat.turns[0], AssistantTurn)
    assert not turn.interrupted


def test_a_response_without_output_is_paid_for(chat: Conversation, recorder: Recorder) -> None:
    """A response that broke off before its first word adds no turn, but counts in `usage`."""
    feed(recorder, [e.begun("r1"), e.done("r1", status="cancelled")])
    feed(recorder, [e.begun("r2"), *e.opened("r2", e.message("a2")), e.done("r2", status="failed")])
    assert chat.turns == ()
    assert chat.usage.total_tokens == 220


def test_a_response_outside_of_the_conversation_is_left_out(
    chat: Conversation, recorder: Recorder
) -> None:
    """A response with a null `conversation_id` adds no turn, at whatever end that is told."""
    events = e.answered("r1", "a1")
    events[0]["response"]["conversation_id"] = None
    # No item is added to the conversation.
    feed(recorder, [event for event in events if not event["type"].startswith("conversation.")])
    events = e.answered("r2", "a2")
    events[-1]["response"]["conversation_id"] = None
    feed(recorder, events)
    events = e.answered("r3", "a3")
    for response in (events[0]["response"], events[-1]["response"]):
        del response["conversation_id"]  # other servers tell none
    feed(recorder, events)
    assert texts(chat) == ["Good morning to you"]
    assert chat.usage.total_tokens == 330


def test_each_item_of_a_response_is_a_turn(chat: Conversation, recorder: Recorder) -> None:
    """Words and calls of one response follow one another; the last one has the usage."""
    feed(recorder, e.streamed("r1", "a1", "Let me see"))
    feed(recorder, e.opened("r1", e.call("a2", "call_1")))
    recorder.received(e.delta("function_call_arguments", "r1", "a2", '{"x"'))
    recorder.received(
        e.event(
            "response.function_call_arguments.done",
            response_id="r1",
            item_id="a2",
            call_id="call_1",
            arguments='{"x":1}',
        )
    )
    recorder.received(e.done("r1", e.message("a1"), e.call("a2", "call_1", "look", '{"x":1}')))
    words, call = chat.turns
    assert isinstance(words, AssistantTurn)
    assert isinstance(call, AssistantTurn)
    assert words.text == "Let me see"
    assert call.tool_calls == (ToolCall("call_1", "look", '{"x":1}'),)
    assert call.finish_reason == "tool_calls"
    assert words.usage is None
    assert call.usage is not None


def test_a_call_that_broke_off_is_left_out(chat: Conversation, recorder: Recorder) -> None:
    """Half of a call's arguments are no call; one that was complete before the end is kept."""
    feed(recorder, [e.begun("r1"), *e.opened("r1", e.call("a1", "call_1"))])
    whole = e.call("a1", "call_1")
    recorder.received(e.event("response.output_item.done", response_id="r1", item=whole))
    feed(recorder, e.opened("r1", e.call("a2", "call_2", arguments="")))
    half = e.call("a2", "call_2", arguments='{"x":') | {"status": "incomplete"}
    recorder.received(e.done("r1", whole, half, status="cancelled"))
    assert [turn.tool_calls[0].id for turn in chat.turns if isinstance(turn, AssistantTurn)] == [
        "call_1"
    ]


def test_names_of_the_beta_version_are_known(chat: Conversation, recorder: Recorder) -> None:
    """Other servers still send the events under their old names."""
    renamed = {
        "response.output_audio.delta": "response.audio.delta",
        "response.output_audio_transcript.delta": "response.audio_transcript.delta",
        "conversation.item.added": "conversation.item.created",
    }
    events = [e.said("u1", e.text("Hello")), *e.answered("r1", "a1")]
    for event in events:
        event["type"] = renamed.get(event["type"], event["type"])
    feed(recorder, events)
    assert texts(chat) == ["Hello", "Good morning to you"]


# --- the user ------------------------------------------------------------------------------------


def test_written_and_shown_items_of_the_client_are_turns(
    chat: Conversation, recorder: Recorder
) -> None:
    """Text, pictures and system messages that the client creates are turns once they are added."""
    picture = {"type": "input_image", "image_url": f"data:image/png;base64,{e.text64(PNG)}"}
    feed(recorder, [e.said("u1", e.text("Look"), picture)])
    system = e.said("s1", e.text("Be brief."))
    system["item"]["role"] = "system"
    feed(recorder, [system])
    greeting = e.message("a1", {"type": "output_text", "text": "Hello"})
    feed(recorder, [e.event("conversation.item.added", item=greeting)])
    shown, told, greeted = chat.turns
    assert isinstance(shown, UserTurn)
    assert isinstance(told, SystemTurn)
    assert isinstance(greeted, AssistantTurn)
    assert shown.content == ("Look", ImageInput(PNG))
    assert (told.text, greeted.text, greeted.interrupted) == ("Be brief.", "Hello", False)


def test_speech_is_cut_from_what_was_sent(chat: Conversation, recorder: Recorder) -> None:
    """The user's sound is what was appended between the times that the server tells."""
    samples = pattern(5.0)
    for start in range(0, len(samples), 4800):
        recorder.sent(e.appended(samples[start : start + 4800]))
    feed(recorder, e.spoke("u1", 500, 1500))
    feed(recorder, e.spoke("u2", 1700, 60_000))
    first, second = chat.turns
    assert sound_of(first) == samples[24_000:72_000]
    assert sound_of(second) == samples[81_600:]


def test_speech_may_begin_before_the_last_one_was_committed(
    chat: Conversation, recorder: Recorder
) -> None:
    """The padding of the next speech reaches into the one before, of which it is told first."""
    samples = pattern(2.0)
    recorder.sent(e.appended(samples))
    events = e.spoke("u1", 0, 1000)
    next_events = e.spoke("u2", 900, 1500)
    feed(recorder, [*events[:2], next_events[0], *events[2:], *next_events[1:]])
    assert [sound_of(turn) for turn in chat.turns] == [samples[:48_000], samples[43_200:72_000]]


def test_times_go_on_where_the_format_changes(chat: Conversation, recorder: Recorder) -> None:
    """A session that changes its format in its middle counts its time on."""
    recorder.sent(e.appended(pattern(1.5)))
    audio = {"input": {"format": {"type": "audio/pcmu"}}}
    recorder.sent({"type": "session.update", "session": {"type": "realtime", "audio": audio}})
    said = bytes(range(250)) * 64
    recorder.sent(e.appended(said))
    recorder.received(e.session("updated", audio=audio))
    feed(recorder, e.spoke("u1", 2000, 3000))
    assert sound_of(chat.turns[0]) == as_s16(said[4000:12_000], "mulaw")


def test_a_commit_takes_the_sound_since_the_last_one(
    chat: Conversation, recorder: Recorder
) -> None:
    """Without voice detection, an item holds what was appended since the last commit or clear."""
    samples = pattern(4.0)
    parts = [samples[at : at + 48_000] for at in range(0, len(samples), 48_000)]
    recorder.sent(e.appended(parts[0]))
    recorder.sent({"type": "input_audio_buffer.commit"})
    recorder.sent(e.appended(parts[1]))  # before the server knows
    recorder.sent({"type": "input_audio_buffer.clear"})
    recorder.sent(e.appended(parts[2]))
    feed(recorder, [e.committed("u1"), e.said("u1")])
    recorder.sent({"type": "input_audio_buffer.commit"})
    recorder.sent({"type": "input_audio_buffer.commit"})  # of nothing
    recorder.sent(e.appended(parts[3]))
    feed(recorder, [e.committed("u2"), e.said("u2")])
    feed(recorder, [e.event("error", error={"code": "input_audio_buffer_commit_empty"})])
    recorder.sent({"type": "input_audio_buffer.commit"})
    feed(recorder, [e.committed("u3"), e.said("u3")])
    assert [sound_of(turn) for turn in chat.turns] == [parts[0], parts[2], parts[3]]


@pytest.mark.parametrize("is_heard", [False, True])
def test_an_item_may_be_told_before_its_commit(
    chat: Conversation, recorder: Recorder, is_heard: bool
) -> None:
    """Speech that was heard, or sound whose commit was sent, is kept in either order of events."""
    samples = pattern(2.0)
    recorder.sent(e.appended(samples[:48_000]))
    started, stopped, committed, item = e.spoke("u1", 0, 1000)
    if not is_heard:
        recorder.sent({"type": "input_audio_buffer.commit"})
    feed(recorder, [*([started, stopped] if is_heard else []), item, committed])
    recorder.sent(e.appended(samples[48_000:]))
    recorder.sent({"type": "input_audio_buffer.commit"})
    feed(recorder, [e.committed("u2"), e.said("u2")])
    assert [sound_of(turn) for turn in chat.turns] == [samples[:48_000], samples[48_000:]]
    assert recorder.close() == []


def test_commits_that_somebody_else_sent_are_known(chat: Conversation, recorder: Recorder) -> None:
    """The server's answers tell of commits and clears that somebody else sent."""
    samples = pattern(3.0)
    for kind, start in (("committed", 0), ("cleared", 48_000), ("committed", 96_000)):
        recorder.sent(e.appended(samples[start : start + 48_000]))
        item = f"u{start}"
        recorder.received(e.event(f"input_audio_buffer.{kind}", item_id=item))
        if kind == "committed":
            recorder.received(e.said(item))
    assert [sound_of(turn) for turn in chat.turns] == [samples[:48_000], samples[96_000:]]


@pytest.mark.parametrize(
    ("name", "encoding"),
    [("audio/pcmu", "mulaw"), ("audio/pcma", "alaw")],
)
@pytest.mark.parametrize("side", ["sent", "received"])
def test_telephone_sessions_are_kept_as_wav(
    chat: Conversation, recorder: Recorder, name: str, encoding: str, side: str
) -> None:
    """Of 8 kHz companded sound, times, samples and rates are right in both directions."""
    audio = {"input": {"format": {"type": name}}, "output": {"format": {"type": name}}}
    if side == "sent":
        recorder.sent({"type": "session.update", "session": {"type": "realtime", "audio": audio}})
    else:
        recorder.received(e.session("updated", audio=audio))
    said, heard = bytes(range(256)) * 125, bytes(range(255, -1, -1)) * 50
    recorder.sent(e.appended(said))
    recorder.received(e.session("updated", audio=audio))
    feed(recorder, e.spoke("u1", 1000, 2000))
    feed(recorder, e.answered("r1", "a1", "Hello", heard))
    question, answer = chat.turns
    assert sound_of(question) == as_s16(said[8000:16_000], encoding)
    assert sound_of(answer) == as_s16(heard, encoding)
    assert isinstance(question, UserTurn)
    assert isinstance(answer, AssistantTurn)
    assert answer.audio is not None
    assert answer.audio.duration == 1.6


def test_sound_in_an_item_of_the_client_is_kept(chat: Conversation, recorder: Recorder) -> None:
    """Sound that the client puts into an item itself is found again by its id, or by its order."""
    for item_id, length in (("mine", 0.1), (None, 0.2), (None, 0.3)):
        content = [{"type": "input_audio", "audio": e.text64(pattern(length))}]
        item = {"type": "message", "role": "user", "content": content}
        item |= {} if item_id is None else {"id": item_id}
        recorder.sent({"type": "conversation.item.create", "item": item})
    feed(recorder, [e.said("x1"), e.said("mine"), e.said("x2")])
    assert [len(sound_of(turn)) for turn in chat.turns] == [9600, 4800, 14_400]


def test_sound_may_be_sent_while_another_is_looked_for(recorder: Recorder) -> None:
    """Whoever sends is another thread: it comes between two looks at what was sent."""

    class Id(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            for number in range(16):
                recorder.sent(created(f"later{number}", pattern(0.1)))
            return str.__eq__(self, other)

    def created(item_id: str, data: bytes) -> e.Event:
        content = [{"type": "input_audio", "audio": e.text64(data)}]
        item = {"id": item_id, "type": "message", "role": "user", "content": content}
        return {"type": "conversation.item.create", "item": item}

    for item_id in (Id("u1"), Id("u2")):
        recorder.sent(created(item_id, pattern(0.2)))
    (turn,) = recorder.received(e.said("u2"))
    assert sound_of(turn) == pattern(0.2)


def test_words_come_at_any_time(chat: Conversation, recorder: Recorder) -> None:
    """Words are matched by their item: before it, before its turn, and behind both."""
    recorder.sent(e.appended(pattern(4.0)))
    recorder.received(e.transcribed("u1", "One"))
    feed(recorder, e.spoke("u1", 0, 500))
    feed(recorder, e.spoke("u2", 500, 1000))
    (changed,) = recorder.received(e.transcribed("u2", "Two"))
    assert changed.text == "Two"
    feed(recorder, e.streamed("r1", "a1"))
    feed(recorder, e.spoke("u3", 1000, 1500))
    assert recorder.received(e.transcribed("u3", "Three")) == []
    feed(recorder, e.spoke("u4", 1500, 2000))
    feed(recorder, [e.done("r1", e.message("a1"))])
    recorder.received(e.transcribed("u4", "Four"))
    assert texts(chat) == ["One", "Two", "Good morning to you", "Three", "Four"]
    assert len(sound_of(chat.turns[1])) == 24_000


def test_words_may_come_with_the_finished_item(chat: Conversation, recorder: Recorder) -> None:
    """An item that is told again with its words gives them to its turn, and is no second one."""
    recorder.received(e.said("u1"))
    again = e.said("u1", {"type": "input_audio", "transcript": "Hello"})
    again["type"] = "conversation.item.done"
    (turn,) = recorder.received(again)
    assert turn.text == "Hello"
    assert len(chat.turns) == 1


def test_words_that_broke_off_are_kept(chat: Conversation, recorder: Recorder) -> None:
    """A dropped connection, a new one and a failed transcription leave the words that had come."""
    failed = "conversation.item.input_audio_transcription.failed"
    feed(recorder, [e.said("u1"), e.partly("u1", "Is a "), e.partly("u1", "cat")])
    recorder.received(e.event(failed, item_id="u1", content_index=0, error={}))
    assert texts(chat) == ["Is a cat"]
    feed(recorder, [e.partly("u2", "Or \ud83d"), e.said("u2"), e.partly("u2", "\udc08?")])
    assert texts(chat)[1:] == [WAITING]
    recorder.received(e.session())
    assert texts(chat)[1:] == ["Or \U0001f408?"]
    feed(recorder, [e.said("u3"), e.partly("u3", "Yes"), e.transcribed("u3", "Yes, a cat")])
    feed(recorder, [e.said("u4"), e.partly("u4", "No")])
    assert [turn.text for turn in recorder.close()] == ["No"]
    assert texts(chat)[2:] == ["Yes, a cat", "No"]
    assert recorder.close() == []


def test_a_late_piece_does_not_replace_all_words(chat: Conversation, recorder: Recorder) -> None:
    """Pieces that come behind the whole words change nothing, also at the end."""
    recorder.sent(e.appended(pattern(1.0)))
    feed(recorder, [*e.spoke("u1", 0, 900), e.transcribed("u1", "Is a cat"), e.partly("u1", "cat")])
    assert recorder.close() == []
    assert texts(chat) == ["Is a cat"]


def test_speech_that_broke_off_is_kept(chat: Conversation, recorder: Recorder) -> None:
    """A connection that drops while the user speaks leaves what was sent of it."""
    recorder.sent(e.appended(pattern(1.0)))
    recorder.received(
        e.event("input_audio_buffer.speech_started", item_id="u1", audio_start_ms=250)
    )
    (turn,) = recorder.close()
    assert sound_of(turn) == pattern(1.0)[12_000:]
    assert recorder.close() == []
    assert chat.unanswered


def test_a_call_of_the_client_is_whole(chat: Conversation, recorder: Recorder) -> None:
    """A call that the client creates keeps nobody waiting, even without arguments."""
    call = e.call("c1", "call_1", arguments="")
    feed(recorder, [e.event("conversation.item.added", item=call), e.said("u1", e.text("Hello"))])
    assert [turn.role for turn in chat.turns] == ["assistant", "user"]


def test_speech_without_sound_waits_for_its_words(chat: Conversation, recorder: Recorder) -> None:
    """Over WebRTC no sound is seen: a fixed text stands there until the words come."""
    feed(recorder, [e.committed("u1"), e.said("u1")])
    assert texts(chat) == [WAITING]
    assert recorder.received(e.transcribed("u1", " \n")) == []
    (turn,) = recorder.received(e.transcribed("u1", "Hello"))
    assert isinstance(turn, UserTurn)
    assert turn.content == ("Hello",)
    feed(recorder, [e.said("u2")])
    chat.set_transcript(chat.turns[-1], "Still there?")
    assert texts(chat) == ["Hello", "Still there?"]
    feed(recorder, [e.said("u3")])
    with pytest.raises(InvalidTurn, match="words"):
        chat.set_transcript(chat.turns[-1], "")


def test_a_user_item_waits_for_the_answer_before_it(chat: Conversation, recorder: Recorder) -> None:
    """Words of the user during an answer come behind it, in the server's order."""
    feed(recorder, [e.said("u1"), *e.streamed("r1", "a1")])
    assert feed(recorder, [e.said("u2", e.text("Stop"))]) == []
    (changed,) = recorder.received(e.transcribed("u1", "Hello"))  # an earlier turn waits for nobody
    assert changed.text == "Hello"
    added = recorder.received(e.done("r1", e.message("a1"), status="cancelled"))
    assert [turn.text for turn in added] == ["Good morning to you", "Stop"]
    assert texts(chat) == ["Hello", "Good morning to you", "Stop"]


# --- later changes -------------------------------------------------------------------------------


def truncation(item_id: str, ms: float) -> e.Event:
    """Return the event of an answer that was cut."""
    return e.event("conversation.item.truncated", item_id=item_id, content_index=0, audio_end_ms=ms)


@pytest.mark.parametrize("before", [True, False])
def test_an_answer_is_cut_to_what_was_heard(
    chat: Conversation, recorder: Recorder, before: bool
) -> None:
    """A truncation cuts sound and words, before and after its end, and later."""
    sound = pattern(2.0)
    events = e.answered("r1", "a1", "one two three four", sound)
    if before:
        events.insert(-1, truncation("a1", 500))
    else:
        events += [*e.answered("r2", "a2", "Later"), truncation("a1", 500)]
    feed(recorder, events)
    turn = chat.turns[0]
    assert isinstance(turn, AssistantTurn)
    assert turn.interrupted
    assert sound_of(turn) == sound[:24_000]
    assert turn.text == "one"


def test_a_cut_may_be_told_before_its_answer(chat: Conversation, recorder: Recorder) -> None:
    """A truncation that overtakes the first event of its answer cuts it all the same."""
    cut = e.event("conversation.item.truncated", item_id="a1", content_index=0, audio_end_ms=250)
    feed(recorder, [cut, *e.answered("r1", "a1")])
    assert texts(chat) == ["Good"]


def test_a_cut_beyond_the_end_changes_nothing(chat: Conversation, recorder: Recorder) -> None:
    """A truncation beyond the sound is clamped: the answer stays as it is."""
    feed(recorder, e.answered("r1", "a1"))
    turns = chat.turns
    assert feed(recorder, [truncation("a1", 10_000), truncation("nobody", 1)]) == []
    assert chat.turns == turns


def test_an_answer_without_sound_is_cut_by_the_pace_of_its_words(
    chat: Conversation, recorder: Recorder
) -> None:
    """Over WebRTC, a truncation keeps as many words as fit into that time."""
    feed(recorder, e.answered("r1", "a1", "one two three four five", b""))
    feed(recorder, [truncation("a1", 60_000)])
    assert texts(chat) == ["one two three four five"]
    feed(recorder, [truncation("a1", 800)])
    (turn,) = chat.turns
    assert isinstance(turn, AssistantTurn)
    assert (turn.text, turn.interrupted) == ("one two", True)


def test_deleted_items_are_removed(chat: Conversation, recorder: Recorder) -> None:
    """A deleted item's turn goes, wherever it stands; what it cost still counts."""
    feed(recorder, [e.said("u1", e.text("One")), *e.answered("r1", "a1")])
    feed(recorder, [e.said("u2", e.text("Two")), *e.streamed("r2", "a2")])
    feed(recorder, [e.said("u3", e.text("Three"))])
    feed(recorder, [e.event("conversation.item.deleted", item_id=i) for i in ("u1", "a1", "u3")])
    feed(recorder, [e.done("r2", e.message("a2"))])
    assert texts(chat) == ["Two", "Good morning to you"]
    assert chat.usage.total_tokens == 220


def test_later_events_find_turns_that_others_have_changed(tmp_path: Path) -> None:
    """Words, cuts and deletions find their turn after a restart, and after others' changes."""
    with Conversation.open("s", store=tmp_path) as chat:
        recorder = Recorder(chat)
        feed(recorder, [e.said("u1"), *e.answered("r1", "a1"), e.said("u2", e.text("Bye"))])
        with Conversation.open("s", store=tmp_path) as other:
            other.set_transcript(other.turns[1], "Corrected words of it")
        feed(recorder, [truncation("a1", 500)])
        assert texts(chat) == [WAITING, "Corrected words", "Bye"]
    with Conversation.open("s", store=tmp_path) as chat:
        recorder = Recorder(chat)
        feed(recorder, [e.transcribed("u1", "Hi")])
        feed(recorder, [e.event("conversation.item.deleted", item_id="u2")])
        assert texts(chat) == ["Hi", "Corrected words"]


# --- calls, seeds, ends --------------------------------------------------------------------------


def test_results_answer_their_calls(chat: Conversation, recorder: Recorder) -> None:
    """A result is kept, also before its call is; one that answers no call is left out."""
    feed(recorder, [e.begun("r1"), *e.opened("r1", e.call("a1", "call_1"))])
    output = {"id": "o1", "type": "function_call_output", "call_id": "call_1", "output": "-3"}
    feed(recorder, [e.event("conversation.item.added", item=output)])
    feed(recorder, [e.done("r1", e.call("a1", "call_1"))])
    other = output | {"id": "o2", "call_id": "call_9"}
    assert feed(recorder, [e.event("conversation.item.added", item=other)]) == []
    assert [turn.role for turn in chat.turns] == ["assistant", "tool"]


def test_the_echo_of_a_seed_is_no_news(chat: Conversation) -> None:
    """Items that seeded a session are not added again, also by a recorder that sent nothing."""
    chat.add_user("Hello")
    chat.add_assistant("Good morning")
    turns = chat.turns
    recorder = Recorder(chat)
    for event in seed_events(chat):
        item = event["item"] | {"status": "completed", "object": "realtime.item"}
        for kind in ("added", "done"):
            assert feed(recorder, [e.event(f"conversation.item.{kind}", item=item)]) == []
        feed(recorder, [e.event("conversation.item.deleted", item_id=item["id"])])
    assert chat.turns == turns


def test_a_seeded_call_is_answered_in_the_session(chat: Conversation) -> None:
    """The result of a call with a long id finds the call by its short one."""
    long = "call_" + "x" * 60
    chat.add_user("Cold?")
    chat.add(AssistantTurn(tool_calls=[ToolCall(long, "look", "{}")]))
    call_id = seed_events(chat)[-1]["item"]["call_id"]
    output = {"id": "o1", "type": "function_call_output", "call_id": call_id, "output": "-3"}
    (turn,) = feed(Recorder(chat), [e.event("conversation.item.added", item=output)])
    assert isinstance(turn, ToolTurn)
    assert turn.tool_call_id == long


def test_closing_keeps_what_has_begun(chat: Conversation, recorder: Recorder) -> None:
    """A dropped connection: half of an answer is kept as interrupted, and what waits for it."""
    recorder.sent(e.appended(pattern(1.0)))
    feed(recorder, [e.said("u1", e.text("Hello")), *e.streamed("r1", "a1")])
    feed(recorder, [e.said("u2", e.text("Stop")), *e.spoke("u3", 0, 500)[:-1]])
    turns = recorder.close()
    assert [turn.text for turn in turns] == ["Good morning to you", "Stop", ""]
    answer = turns[0]
    assert isinstance(answer, AssistantTurn)
    assert answer.interrupted
    assert answer.model == "gpt-realtime-2"
    assert len(sound_of(turns[2])) == 24_000
    assert recorder.close() == []
    with Recorder(chat) as other:
        feed(other, e.streamed("r2", "a2"))
    assert len(chat.turns) == 5


def test_closing_an_idle_recorder_needs_no_session(tmp_path: Path) -> None:
    """A recorder with nothing to keep can be closed behind its conversation."""
    with Conversation.open("s", store=tmp_path) as chat:
        recorder = Recorder(chat)
        feed(recorder, [e.session(), e.said("u1", e.text("Hello"))])
    assert recorder.close() == []


def test_a_new_connection_begins_anew(chat: Conversation, recorder: Recorder) -> None:
    """After a reconnection, times count from its beginning, and nothing old is waited for."""
    recorder.sent(e.appended(pattern(1.0)))
    feed(recorder, e.streamed("r1", "a1"))
    recorder.received(e.session())
    samples = pattern(1.0)[::-1]
    recorder.sent(e.appended(samples))
    feed(recorder, e.spoke("u1", 0, 500))
    answer, question = chat.turns
    assert isinstance(answer, AssistantTurn)
    assert answer.interrupted
    assert sound_of(question) == samples[:24_000]


def test_what_was_not_heard_again_is_bounded(recorder: Recorder, chat: Conversation) -> None:
    """An hour of silence is not held in memory; what comes at last still has its right place."""
    second = bytes(48_000)
    for _ in range(3600):
        recorder._recording._sound.append(second)
    assert len(recorder._recording._sound._data) < 30_000_000
    samples = pattern(1.0)
    recorder.sent(e.appended(samples))
    feed(recorder, e.spoke("u1", 3_600_000, 3_600_500))
    assert sound_of(chat.turns[0]) == samples[:24_000]
    assert len(recorder._recording._sound._data) == 24_000


def test_the_twins_refuse_each_others_conversations(chat: Conversation) -> None:
    """A recorder names the one that fits."""
    with pytest.raises(InvalidSetting, match="use AsyncRecorder"):
        Recorder(AsyncConversation())  # type: ignore[arg-type]
    with pytest.raises(InvalidSetting, match="use Recorder"):
        AsyncRecorder(chat)  # type: ignore[arg-type]


def test_what_cannot_be_saved_is_tried_again(tmp_path: Path) -> None:
    """An answer that met another process's lock is kept with the next event, once."""
    with (
        Conversation.open("s", store=tmp_path) as chat,
        Conversation.open("s", store=tmp_path, timeout=0) as locked,
    ):
        recorder = Recorder(locked)
        *events, last = e.answered("r1", "a1")
        feed(recorder, events)
        assert chat._history.acquire()
        with pytest.raises(TimeoutError):
            recorder.received(last)
        chat._history.release()
        (turn,) = recorder.received(e.event("rate_limits.updated"))
        assert turn.text == "Good morning to you"
        assert len(locked.turns) == 1


def test_an_answer_that_could_not_be_written_is_the_same_one_later(tmp_path: Path) -> None:
    """On a full disk the answer is kept in memory, and written as it was once there is space."""
    store = FileStore(tmp_path)
    store._disk = disk = FaultyDisk()
    now = 1_762_000_000.0
    with Conversation.open("s", store=store, clock=lambda: now) as chat:
        recorder = Recorder(chat)
        *events, last = e.answered("r1", "a1")
        feed(recorder, [e.said("u1", e.text("Hello")), *events])
        disk.arm("sync")
        with pytest.raises(SaveFailed) as caught:
            recorder.received(last)
        assert [turn.text for turn in chat.turns] == ["Hello"]
        now += 60
        (turn,) = recorder.received(e.event("rate_limits.updated"))
        assert caught.value.turn is not None
        assert turn.at == caught.value.turn.at
        assert texts(Conversation.open("s", store=store)) == ["Hello", "Good morning to you"]


def test_no_server_gets_the_ids_of_items(server: StandIn) -> None:
    """The id of an item is kept with its turn, and sent to no server, whatever keys it takes."""
    client = server.client(base_url="https://api.example.org/v1")
    chat = Conversation(client=client)
    feed(Recorder(chat), [e.said("u1", e.text("Hello")), *e.answered("r1", "a1")])
    assert [set(message) for message in chat.messages()] == [{"role", "content"}] * 2


def test_an_event_that_comes_twice_counts_once(chat: Conversation, recorder: Recorder) -> None:
    """Pieces of an answer that two connections bring are added once; like pieces are two."""
    events = e.answered("r1", "a1", words="No no no", sound=bytes(48_000))
    feed(recorder, [each for event in events for each in (event, event)])
    (answer,) = chat.turns
    assert len(sound_of(answer)) == 48_000
    without_ids = [
        {k: v for k, v in each.items() if k != "event_id"} for each in e.spoke("u", 0, 9)
    ]
    one_id = [each | {"event_id": "same"} for each in e.streamed("r2", "a2", words="Yes yes")]
    feed(recorder, [*without_ids, *one_id, e.done("r2")])
    assert texts(chat) == ["No no no", WAITING, "Yes yes"]


def test_ids_that_are_no_text_keep_nobody_waiting(chat: Conversation, recorder: Recorder) -> None:
    """Half characters in ids of items, calls and responses are replaced; later events find them."""
    feed(recorder, [e.said("u\ud800", e.text("Hi")), *e.answered("r\ud800", "a\ud800")])
    recorder.received(e.event("conversation.item.deleted", item_id="a\ud800"))
    feed(recorder, [e.begun("r2"), e.done("r2", e.call("c\0", "call\ud800"))])
    assert [turn.role for turn in chat.turns] == ["user", "assistant"]


@pytest.mark.parametrize("junk", [None, "text", 7, [], {}, {"type": 3}, {"type": "x.y"}])
def test_what_is_no_event_is_ignored(recorder: Recorder, junk: Any) -> None:
    """Unknown events, and what is none, change nothing."""
    assert recorder.received(junk) == []
    recorder.sent(junk)


def test_turns_keep_their_times(chat: Conversation) -> None:
    """Turns get the time of the conversation's clock."""
    recorder = Recorder(chat)
    (turn,) = feed(recorder, [e.said("u1", e.text("Hello"))])
    assert turn.at is not None
    assert attrs.evolve(turn, at=None) != turn

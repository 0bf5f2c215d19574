"""Answers that came as text, read aloud by the conversation's own voice model."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from conversation import (
    AssistantTurn,
    AudioDelta,
    Conversation,
    FileStore,
    Form,
    TurnFinished,
    Usage,
)
from conversation.testing import StandIn
from tests.conftest import Clock

WORDS = "A fine dog,  and a\nloyal one."


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """Provide an empty store."""
    return FileStore(tmp_path / "sessions")


@pytest.fixture
def chat(client: OpenAI, clock: Clock, store: FileStore) -> Conversation:
    """A saved conversation that has dropped voices read aloud."""
    settings: dict[str, Any] = {"client": client, "clock": clock, "store": store}
    return Conversation.open("dog", voice="echo", speak_when_dropped=True, **settings)


def ask(chat: Conversation, *, streams: bool, **options: Any) -> tuple[AssistantTurn, bytes]:
    """Return the answer to a question, and the sound that was streamed before its end."""
    if not streams:
        return chat.say("Is it a good dog?", **options), b""
    heard = b""
    with chat.stream("Is it a good dog?", **options) as events:
        for event in events:
            if isinstance(event, AudioDelta):
                heard += event.data
            elif isinstance(event, TurnFinished):
                return event.turn, heard
    raise AssertionError("no turn was finished")


def saved(store: FileStore) -> AssistantTurn:
    """Return the last turn on disk."""
    turn = Conversation.open("dog", store=store, read_only=True).turns[-1]
    assert isinstance(turn, AssistantTurn)
    return turn


streaming = pytest.mark.parametrize("streams", [False, True])


@streaming
def test_dropped_voice_is_read_aloud_and_sent_as_voice(
    server: StandIn, chat: Conversation, store: FileStore, clock: Clock, streams: bool
) -> None:
    """A text answer is read aloud by the same model, and goes as voice until it expires."""
    server.will_answer(WORDS, spoken=False)
    turn, heard = ask(chat, streams=streams, model="gpt-audio-mini", timeout=60)
    audio = turn.audio
    assert audio is not None
    assert (turn.voice_dropped, turn.content, turn.text) == (True, WORDS, WORDS)
    assert (audio.transcript, audio.expires_at) == (WORDS, clock() + 3600)
    assert audio.duration == pytest.approx(2.8)
    assert audio.read()[-len(heard) :] == heard or not streams
    assert bool(heard) is streams
    asked, read = server.requests
    assert (read.path, read["model"]) == ("/v1/chat/completions", "gpt-audio-mini")
    assert (
        read["audio"]
        == asked["audio"]
        == {
            "voice": "echo",
            "format": "pcm16" if streams else "wav",
        }
    )
    assert read["messages"][-1] == {"role": "user", "content": WORDS}
    assert chat.turns[-1] == turn == saved(store)
    assert chat.render().items[-1].form is Form.VOICE
    assert "1 of my earlier answers by voice" in chat.say("Really?").text
    assert server.requests[-1]["messages"][1] == {"role": "assistant", "audio": {"id": audio.id}}
    clock.now += 3600
    assert chat.render().messages[1] == {"role": "assistant", "content": WORDS}


@streaming
def test_other_words_are_discarded_and_paid_for(
    server: StandIn,
    chat: Conversation,
    store: FileStore,
    caplog: pytest.LogCaptureFixture,
    streams: bool,
) -> None:
    """Sound of other words is discarded with a warning; its tokens count in `usage`, also later."""
    server.will_answer("What is your name?", spoken=False)
    server.will_answer("I am a voice model.")
    turn, heard = ask(chat, streams=streams)
    assert (turn.text, turn.audio, heard) == ("What is your name?", None, b"")
    [warning] = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warning.endswith("other words were said, so their sound is discarded")
    assert turn.usage is not None
    assert chat.usage.completion_audio_tokens == 8 * 5 > turn.usage.completion_audio_tokens
    assert Conversation.open("dog", store=store, read_only=True).usage == chat.usage
    assert (store.root / "dog.audio").exists() is False


@streaming
def test_reading_aloud_counts_in_usage(server: StandIn, chat: Conversation, streams: bool) -> None:
    """`usage` counts answer and reading, the turn its own answer only; undo takes nothing back."""
    server.will_answer("A fine dog.", spoken=False)
    turn, _ = ask(chat, streams=streams)
    assert turn.usage is not None
    assert turn.usage.completion_audio_tokens == 0
    spent = chat.usage
    assert spent.completion_audio_tokens == 8 * 3
    assert spent.prompt_tokens > turn.usage.prompt_tokens
    chat.undo()
    assert chat.usage == spent


@streaming
@pytest.mark.parametrize("model", [True, "tts-1"])
def test_answer_is_on_disk_before_it_is_read_aloud(
    server: StandIn, chat: Conversation, store: FileStore, clock: Clock, streams: bool, model: Any
) -> None:
    """The paid answer is on disk while the request for its sound is under way."""
    chat = Conversation.open(
        "dog", store=store, client=chat._client, clock=clock, speak_when_dropped=model
    )
    server.will_answer("A fine dog.", spoken=False)
    server.will_stream([], hold_after=0)
    asking = threading.Thread(target=ask, args=(chat,), kwargs={"streams": streams})
    asking.start()
    server.wait_until_held()
    assert len(server.requests) == 2
    assert (saved(store).text, saved(store).audio) == ("A fine dog.", None)
    server.go_on()
    asking.join()


@streaming
@pytest.mark.parametrize("fault", ["status", "text", "cut", "no answer", "length"])
def test_failed_reading_keeps_the_answer(
    server: StandIn,
    chat: Conversation,
    store: FileStore,
    caplog: pytest.LogCaptureFixture,
    fault: str,
    streams: bool,
) -> None:
    """Whatever happens to the sound, the words are kept, with one warning and no other attempt."""
    server.will_answer(WORDS, spoken=False)
    match fault:
        case "status":
            server.will_fail(500)
        case "text":
            server.will_answer(WORDS, spoken=False)
        case "cut":
            server.will_answer(WORDS, cut_after=3 if streams else 0)
        case "no answer" if streams:
            server.will_stream([])
        case "no answer":
            server.will_send({"choices": []})
        case "length":
            server.will_answer("A fine dog,", finish_reason="length")
    turn, heard = ask(chat, streams=streams)
    assert (turn.text, turn.audio, heard) == (WORDS, None, b"")
    assert saved(store) == chat.turns[-1] == turn
    [warning] = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    what = "session 'dog': an answer that came as text could not be spoken: "
    assert warning.startswith(what)
    assert len(server.requests) == 2
    assert "1 from transcripts" in chat.say("Really?").text


def test_leaving_the_stream_while_it_is_read_aloud_keeps_the_answer(
    server: StandIn, chat: Conversation, store: FileStore
) -> None:
    """Leaving the loop over a stream at its sound keeps the answer whole."""
    server.will_answer(WORDS, spoken=False)
    with chat.stream("Is it a good dog?") as events:
        for event in events:
            if isinstance(event, AudioDelta):
                break
    turn = saved(store)
    assert (turn.text, turn.interrupted) == (WORDS, False)
    assert turn.audio is not None
    assert len(chat.turns) == 2


def test_sound_that_cannot_be_saved_loses_no_answer(
    server: StandIn, chat: Conversation, store: FileStore, caplog: pytest.LogCaptureFixture
) -> None:
    """If the sound cannot be saved, the answer stays saved, and the sound is in memory."""
    chat.add_user("Is it?")
    (store.root / "dog.audio").write_text("in the way of the folder")
    server.will_answer(WORDS, spoken=False)
    turn = chat.reply()
    assert turn.audio is not None
    assert saved(store).text == WORDS
    assert any("the next change will write it" in r.getMessage() for r in caplog.records)
    (store.root / "dog.audio").unlink()
    chat.add_user("Go on")
    assert Conversation.open("dog", store=store, read_only=True).turns[1] == chat.turns[1]


def test_unusable_answers_are_not_sent_as_voice(server: StandIn, chat: Conversation) -> None:
    """Sound from a server that gives no id is kept, and its turn is sent as text."""
    server.will_answer("A fine dog.", spoken=False)
    sound = {"id": None, "data": "AAAA", "transcript": "A fine dog."}
    message = {"role": "assistant", "content": None, "audio": sound}
    server.will_send({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    turn = chat.say("Is it a good dog?", audio={"format": "pcm16"})
    assert turn.audio is not None
    assert turn.audio.read() == bytes(3)
    assert chat.usage != Usage()
    assert chat.render().messages[1] == {"role": "assistant", "content": "A fine dog."}

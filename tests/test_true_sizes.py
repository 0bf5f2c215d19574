"""Sizes of sound: true in memory, on disk, in requests, exports and saved files."""

from __future__ import annotations

import base64
import json
import re
import wave
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from conversation import (
    AssistantAudio,
    AssistantTurn,
    AudioInput,
    Conversation,
    FileStore,
    UserTurn,
)
from conversation.testing import StandIn
from tests.conftest import Clock
from tests.samples import SOUND

NONE = b"\xff\xff\xff\xff"
PIPED = SOUND[:4] + NONE + SOUND[8:40] + NONE + SOUND[44:]
"""`SOUND` with the head that today's API sends."""


def seconds_in(path: Path) -> float:
    """Return the length of a WAV file, as the standard library reads it."""
    with wave.open(str(path)) as file:
        return float(file.getnframes() / file.getframerate())


def audio_of(turn: Any) -> AssistantAudio:
    """Return the sound of an answer."""
    assert isinstance(turn, AssistantTurn)
    assert turn.audio is not None
    return turn.audio


def sent_sound(request: Any) -> bytes:
    """Return the first sound in a request."""
    parts = [p for m in request["messages"] if isinstance(m["content"], list) for p in m["content"]]
    [sound, *_] = [p["input_audio"]["data"] for p in parts if p["type"] == "input_audio"]
    return base64.b64decode(sound)


@pytest.mark.parametrize("old_wav_head", [False, True])
def test_the_first_program_saves_a_file_of_the_right_length(
    tmp_path: Path, clock: Clock, old_wav_head: bool
) -> None:
    """`dog.wav` of the README is as long as the answer for any reader, and so is the session's."""
    with StandIn(clock=clock, old_wav_head=old_wav_head) as server:
        chat = Conversation.open("retriever", store=tmp_path, client=server.client(), clock=clock)
        audio = audio_of(chat.say("Is a golden retriever a good family dog?"))
        tokens = chat.usage.completion_audio_tokens
    assert audio.duration == tokens / 20
    assert seconds_in(audio.save(tmp_path / "dog.wav")) == audio.duration
    [kept] = (tmp_path / "retriever.audio").iterdir()
    assert seconds_in(kept) == audio.duration


def test_answers_that_are_spoken_afterwards_have_true_sizes(
    server: StandIn, client: OpenAI, clock: Clock, tmp_path: Path
) -> None:
    """`audio.speech` sends the same head."""
    chat = Conversation(client=client, clock=clock, speak_when_dropped="tts-1")
    server.will_answer("It is raining again.", spoken=False)
    assert seconds_in(audio_of(chat.say("Hi")).save(tmp_path / "a.wav")) == 1.6


def test_streamed_answers_have_true_sizes(chat: Conversation, tmp_path: Path) -> None:
    """Raw samples become a file of their own length."""
    with chat.stream("Hi") as events:
        list(events)
    audio = audio_of(chat.turns[-1])
    assert seconds_in(audio.save(tmp_path / "a.wav")) == audio.duration


def test_user_sound_is_mended_before_it_is_kept_and_sent(
    server: StandIn, client: OpenAI, tmp_path: Path
) -> None:
    """A recording from a pipe arrives at the server, and on disk, as a file with true sizes."""
    chat = Conversation.open("a", store=tmp_path, client=client)
    chat.say(AudioInput(PIPED))
    assert sent_sound(server.requests[-1]) == SOUND
    assert [path.read_bytes() for path in (tmp_path / "a.audio").glob("0001*")] == [SOUND]


def test_imported_sound_is_mended(tmp_path: Path) -> None:
    """A saved document of an earlier version, or messages by hand, are mended as they are read."""
    chat = Conversation()
    chat.add_user(AudioInput(SOUND))
    chat.add(AssistantTurn(audio=AssistantAudio(data=SOUND, transcript="Hi")))
    document = chat.save(tmp_path / "old.json").read_text()
    true, piped = (base64.b64encode(data).decode() for data in (SOUND, PIPED))
    old = document.replace(true, piped)
    assert old.count(piped) == 2
    (tmp_path / "old.json").write_text(old)
    again = Conversation.load(tmp_path / "old.json")
    assert again.turns == chat.turns
    copy = Conversation.from_messages(json.loads(old)["turns"])
    assert audio_of(copy.turns[1]).read() == SOUND


@pytest.fixture
def old_session(tmp_path: Path, client: OpenAI) -> FileStore:
    """A session of an earlier version, whose files are as they came."""
    with Conversation.open("old", store=tmp_path, client=client) as chat:
        chat.add_user(AudioInput(SOUND))
        chat.add(AssistantTurn(audio=AssistantAudio(data=SOUND, transcript="Hi")))
        chat.add_user("Go on")
    for path in (tmp_path / "old.audio").iterdir():
        path.write_bytes(PIPED)
    return FileStore(tmp_path)


def embedded(page: str) -> list[float]:
    """Return the seconds of all sounds in an exported page."""
    sources = re.findall(r'src="data:audio/\w+;base64,([^"]*)"', page)
    seconds = [AudioInput(base64.b64decode(source)).duration or 0 for source in sources]
    assert seconds
    return seconds


def test_sound_of_old_sessions_is_mended_when_it_is_read(
    old_session: FileStore, tmp_path: Path
) -> None:
    """Duration, `read`, `save` and the portable file are right; the session is not rewritten."""
    chat = Conversation.open("old", store=old_session)
    [said, answer, _] = chat.turns
    assert isinstance(said, UserTurn)
    [sound] = said.content
    assert isinstance(sound, AudioInput)
    for audio in (sound, audio_of(answer)):
        assert audio.read() == SOUND
        assert audio.duration == 0.1
    assert seconds_in(audio_of(answer).save(tmp_path / "a.wav")) == 0.1
    loaded = Conversation.load(chat.save(tmp_path / "whole.json"))
    assert audio_of(loaded.turns[1]).read() == SOUND
    page = chat.export(tmp_path / "a.html").read_text()
    assert page.count('data-seconds="0.100"') == 2
    assert all(abs(seconds - 0.1) < 0.1 for seconds in embedded(page))
    assert {path.read_bytes() for path in (tmp_path / "old.audio").iterdir()} == {PIPED}


def test_sound_of_old_sessions_is_sent_with_true_sizes(
    old_session: FileStore, server: StandIn, client: OpenAI
) -> None:
    """Requests, and uploads to be transcribed, hold what the API can read."""
    with Conversation.open("old", store=old_session, client=client) as chat:
        chat.reply()
        assert sent_sound(server.requests[-1]) == SOUND
        chat.transcribe()
    assert server.requests[-1]["file"]["size"] == len(SOUND)


def test_a_copy_of_an_old_answer_can_be_cut(old_session: FileStore, tmp_path: Path) -> None:
    """`truncate` of an answer that was kept as it came leaves a file of that length."""
    with Conversation.open("old", store=old_session) as chat:
        chat.undo()
        chat.truncate(0.05)
        assert seconds_in(audio_of(chat.turns[-1]).save(tmp_path / "a.wav")) == 0.05


@pytest.mark.parametrize("data", [None, ""])
def test_an_answer_without_data_has_no_format(data: str | None, tmp_path: Path) -> None:
    """Only an id came: there is no sound whose format could be told, now or after a restart."""
    audio = {"id": "audio_1", "expires_at": 9, "transcript": "Hi", "data": data}
    message = {"role": "assistant", "audio": audio}
    with Conversation.open("a", store=tmp_path, audio_format="mp3") as chat:
        turn = chat.add_completion({"choices": [{"index": 0, "message": message}]})
        assert audio_of(turn).format is None
    assert audio_of(Conversation.open("a", store=tmp_path).turns[0]).format is None
    assert AssistantAudio("audio_1", format="wav").format is None
    saved = {"role": "assistant", "audio": {**audio, "format": "wav", "duration": 2.0}}
    [old] = Conversation.from_messages([saved]).turns
    assert audio_of(old).format is None


def test_sound_in_a_format_that_nobody_asked_for_is_not_called_samples() -> None:
    """WebM from a server that was asked for `pcm16` has no format, and no length by its bytes."""
    webm = b"\x1aE\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\x82\x84webm" + bytes(9000)
    audio = AssistantAudio(data=webm, format="pcm16")
    assert (audio.format, audio.duration, audio.read()) == (None, None, webm)

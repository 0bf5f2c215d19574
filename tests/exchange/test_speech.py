"""Speech for answers that came as text, and transcripts of user sound."""

from __future__ import annotations

import io
import logging
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import openai
import pytest
from openai import OpenAI

from conversation import (
    AssistantAudio,
    AssistantTurn,
    AudioDelta,
    AudioInput,
    Context,
    Conversation,
    FileStore,
    Form,
    TextDelta,
    TurnFinished,
    UserTurn,
)
from conversation._values.text import counted
from conversation._values.turns import Turn
from conversation.testing import StandIn
from tests.conftest import Clock
from tests.samples import MP3, SOUND, spoken

Talker = Callable[..., Conversation]

SPEECH = "/v1/audio/speech"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
TOO_SHORT = AudioInput.from_pcm(bytes(480), 24_000)
"""Sound that the API, and so the stand-in, refuses to transcribe."""


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """Provide an empty store."""
    return FileStore(tmp_path / "sessions")


@pytest.fixture
def talker(client: OpenAI, clock: Clock, store: FileStore) -> Iterator[Talker]:
    """Open the session `retriever` at each call."""
    opened: list[Conversation] = []

    def talk(**settings: Any) -> Conversation:
        chat = Conversation.open("retriever", store=store, client=client, clock=clock, **settings)
        opened.append(chat)
        return chat

    yield talk
    for chat in opened:
        chat.close()


def asked(server: StandIn, path: str) -> list[dict[str, Any]]:
    """Return the requests to one endpoint."""
    return [dict(request) for request in server.requests if request.path == path]


def spoken_part(turn: Turn) -> AssistantAudio:
    """Return the audio of a spoken answer."""
    assert isinstance(turn, AssistantTurn)
    assert turn.audio is not None
    return turn.audio


def samples(wav: bytes) -> bytes:
    """Return the samples of a 24 kHz mono s16le WAV file."""
    with wave.open(io.BytesIO(wav)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
        pcm: bytes = file.readframes(file.getnframes())
    return pcm


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the messages that were logged as warnings."""
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


# --- speech for answers that came as text ------------------------------------------------------


@pytest.mark.parametrize("model", ["gpt-4o-mini-tts", "tts-1"])
def test_text_answer_is_spoken(server: StandIn, client: OpenAI, clock: Clock, model: str) -> None:
    """`speak_when_dropped` adds speech to a text answer, by the given model and voice."""
    chat = Conversation(client=client, clock=clock, voice="echo", speak_when_dropped=model)
    server.will_answer("A fine dog.", spoken=False)
    turn = chat.say("Is it a good dog?")
    assert turn.voice_dropped
    assert (turn.content, turn.text) == ("A fine dog.", "A fine dog.")
    audio = spoken_part(turn)
    assert (audio.id, audio.expires_at, audio.transcript) == (None, None, None)
    assert len(samples(audio.read())) == 48_000 * 1.2
    assert audio.format == "wav"
    assert audio.duration == pytest.approx(1.2)
    assert asked(server, SPEECH) == [
        {"model": model, "voice": "echo", "input": "A fine dog.", "response_format": "wav"}
    ]
    assert chat.turns[-1] is turn


@pytest.mark.parametrize(
    ("audio_format", "response_format"), [("mp3", "mp3"), ("pcm16", "pcm"), ("wav", "wav")]
)
def test_speech_has_the_audio_format_of_the_request(
    server: StandIn, client: OpenAI, clock: Clock, audio_format: str, response_format: str
) -> None:
    """Speech has the audio format of the request, under the name of its own endpoint."""
    options: dict[str, Any] = {"client": client, "clock": clock, "speak_when_dropped": "tts-1"}
    chats: list[tuple[Conversation, dict[str, Any]]] = [
        (Conversation(**options, audio_format=audio_format), {}),
        (Conversation(**options), {"audio": {"format": audio_format}}),
    ]
    for chat, request in chats:
        server.will_answer("A fine dog.", spoken=False)
        audio = spoken_part(chat.say("Is it a good dog?", **request))
        assert asked(server, SPEECH)[-1]["response_format"] == response_format
        assert audio.format == audio_format
        assert audio.duration == pytest.approx(1.2)


def test_speech_has_the_voice_of_the_request(server: StandIn, client: OpenAI, clock: Clock) -> None:
    """Speech has the voice of the request, else that of the settings."""
    chat = Conversation(client=client, clock=clock, speak_when_dropped="tts-1")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"audio": {"voice": "sage"}}, "sage"),
        ({}, "alloy"),
    ]
    for options, voice in cases:
        server.will_answer("A fine dog.", spoken=False)
        chat.say("Is it a good dog?", **options)
        assert asked(server, SPEECH)[-1]["voice"] == voice


def test_streamed_text_answer_is_spoken_after_its_words(
    server: StandIn, client: OpenAI, clock: Clock
) -> None:
    """A streamed text answer yields its speech as PCM after its words, and keeps it as WAV."""
    chat = Conversation(client=client, clock=clock, voice="echo", speak_when_dropped="tts-1")
    server.will_answer("A fine dog.", spoken=False)
    with chat.stream("Is it a good dog?") as stream:
        *words, sound, finished = stream
    assert "".join(e.text for e in words if isinstance(e, TextDelta)) == "A fine dog."
    assert all(isinstance(event, TextDelta) for event in words)
    assert isinstance(sound, AudioDelta)
    assert isinstance(finished, TurnFinished)
    audio = spoken_part(finished.turn)
    assert audio.format == "wav"
    assert audio.duration == pytest.approx(1.2)
    assert samples(audio.read()) == sound.data
    assert len(sound.data) == 48_000 * 1.2
    [request] = asked(server, SPEECH)
    assert (request["voice"], request["response_format"]) == ("echo", "pcm")


def test_half_a_sample_of_speech_is_dropped(server: StandIn, client: OpenAI, clock: Clock) -> None:
    """Speech that ends in half a sample is yielded and kept without it."""
    chat = Conversation(client=client, clock=clock, speak_when_dropped="tts-1")
    server.will_answer("A fine dog.", spoken=False)
    server.will_send(b"\1\0\2\0\3")
    with chat.stream("Is it a good dog?") as stream:
        sounds = [event.data for event in stream if isinstance(event, AudioDelta)]
    assert sounds == [b"\1\0\2\0"]
    assert samples(spoken_part(chat.turns[-1]).read()) == b"\1\0\2\0"


@pytest.mark.parametrize("streams", [False, True])
def test_speech_is_saved_and_its_turn_sent_as_text(
    server: StandIn, talker: Talker, store: FileStore, streams: bool
) -> None:
    """Speech is saved as a file of the session, and its turn is sent back as text."""
    chat = talker(speak_when_dropped="tts-1")
    server.will_answer("A fine dog.", spoken=False)
    if streams:
        with chat.stream("Is it a good dog?") as stream:
            list(stream)
    else:
        chat.say("Is it a good dog?")
    heard = spoken_part(chat.turns[-1]).read()
    [path] = (store.root / "retriever.audio").iterdir()
    assert (path.suffix, path.read_bytes()) == (".wav", heard)
    chat.close()
    again = talker()
    assert again.turns == chat.turns
    assert spoken_part(again.turns[-1]).read() == heard
    assert again.render().items[1].form is Form.TEXT
    server.will_answer("As I said.", spoken=False)
    assert spoken_part(again.say("Really?")).duration == pytest.approx(1.2)
    assert server.requests[-2]["messages"][1] == {"role": "assistant", "content": "A fine dog."}
    assert len(asked(server, SPEECH)) == 2, "the setting is saved with the session"


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("fault", ["status", "nothing", "format"])
def test_failed_speech_keeps_the_text(
    server: StandIn,
    client: OpenAI,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    fault: str,
    streams: bool,
) -> None:
    """A failed speech request logs one warning, keeps the text, and is not retried."""
    model = "no-such-model" if fault == "format" else "tts-1"
    chat = Conversation(client=client, clock=clock, speak_when_dropped=model)
    server.will_answer("A fine dog.", spoken=False)
    if fault == "status":
        server.will_fail(500)
    elif fault == "nothing":
        server.will_send(b"")
    if streams:
        with chat.stream("Is it a good dog?") as stream:
            events = list(stream)
        assert not any(isinstance(event, AudioDelta) for event in events)
    else:
        chat.say("Is it a good dog?")
    turn = chat.turns[-1]
    assert isinstance(turn, AssistantTurn)
    assert (turn.content, turn.audio, turn.voice_dropped) == ("A fine dog.", None, True)
    [warning] = warnings_in(caplog)
    assert warning.startswith("an answer that came as text could not be spoken: ")
    assert len(asked(server, SPEECH)) == 1, "it is tried once"
    assert "1 from transcripts" in chat.say("Really?").text


def test_interrupt_during_speech_keeps_the_text(
    server: StandIn, client: OpenAI, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KeyboardInterrupt during a speech request keeps the text of the answer."""

    def interrupted(**_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(client.audio.speech, "create", interrupted)
    chat = Conversation(client=client, clock=clock, speak_when_dropped="tts-1")
    server.will_answer("A fine dog.", spoken=False)
    with pytest.raises(KeyboardInterrupt):
        chat.say("Is it a good dog?")
    assert [turn.text for turn in chat.turns] == ["Is it a good dog?", "A fine dog."]


@pytest.mark.parametrize(
    ("settings", "answer", "options"),
    [
        ({"speak_when_dropped": False}, {"text": "A fine dog.", "spoken": False}, {}),
        ({}, {"text": "A fine dog.", "spoken": False}, {}),
        ({"speak_when_dropped": True}, {"text": "A fine dog."}, {}),
        ({"speak_when_dropped": True}, {"refusal": "No."}, {}),
        ({"speak_when_dropped": True}, {"text": " \n", "spoken": False}, {}),
        ({"speak_when_dropped": True}, {"text": "Text."}, {"modalities": ["text"]}),
        ({"speak_when_dropped": True, "modalities": ["text"]}, {"text": "Text."}, {}),
        (
            {"speak_when_dropped": True},
            {"text": "Let me see.", "spoken": False, "tool_calls": [("look_up", {})]},
            {},
        ),
    ],
    ids=["off", "default", "spoken", "refusal", "blank", "text only", "text mode", "tool call"],
)
@pytest.mark.parametrize("streams", [False, True])
def test_only_dropped_voices_are_spoken(
    server: StandIn,
    client: OpenAI,
    clock: Clock,
    settings: dict[str, Any],
    answer: dict[str, Any],
    options: dict[str, Any],
    streams: bool,
) -> None:
    """Speech is requested only with `speak_when_dropped`, for answers whose voice was dropped."""
    chat = Conversation(client=client, clock=clock, **settings)
    server.will_answer(**answer)
    question = AudioInput(SOUND)
    if streams:
        with chat.stream(question, **options) as stream:
            list(stream)
    else:
        chat.say(question, **options)
    assert len(chat.turns) == 2
    assert [request.path for request in server.requests] == ["/v1/chat/completions"]


def test_interrupted_answer_is_not_spoken(server: StandIn, client: OpenAI, clock: Clock) -> None:
    """A stream that is left early requests no speech."""
    chat = Conversation(client=client, clock=clock, speak_when_dropped=True)
    server.will_answer("A fine dog.", spoken=False)
    with chat.stream("Is it a good dog?") as stream:
        next(iter(stream))
    assert chat.turns[-1].text == "A"
    assert asked(server, SPEECH) == []


# --- transcription -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "model"),
    [
        (None, "gpt-transcribe"),
        (True, "gpt-transcribe"),
        (False, "gpt-transcribe"),
        ("whisper-1", "whisper-1"),
    ],
)
def test_transcribe_sets_the_transcript_of_user_sound(
    server: StandIn, client: OpenAI, clock: Clock, given: Any, model: str
) -> None:
    """`transcribe` sets the transcript of user sound and keeps the rest of its turn."""
    chat = Conversation(client=client, clock=clock, transcribe=given)
    before = chat.add_user("Listen:", AudioInput(SOUND), "and answer.")
    server.will_transcribe("Good dog!")
    [turn] = chat.transcribe()
    assert turn == chat.turns[0]
    assert turn.text == "Listen:\nGood dog!\nand answer."
    assert turn == attrs.evolve(
        before, content=("Listen:", AudioInput(SOUND, transcript="Good dog!"), "and answer.")
    )
    file = {"filename": "sound.wav", "size": len(SOUND)}
    assert asked(server, TRANSCRIPTIONS) == [{"model": model, "file": file}]


def test_sounds_are_transcribed_one_by_one_in_order(server: StandIn, chat: Conversation) -> None:
    """Sounds without a transcript are transcribed by one request each, in order."""
    known = AudioInput(SOUND, transcript="known")
    chat.add_user(AudioInput(SOUND), "and", known, AudioInput(MP3))
    chat.add_completion(spoken())
    chat.add_user(known)
    chat.add_user("Only text")
    last = chat.add_user(AudioInput(MP3))
    for words in ("one", "two", "three"):
        server.will_transcribe(words)
    turns = chat.transcribe()
    assert [turn.text for turn in turns] == ["one\nand\nknown\ntwo", "three"]
    assert turns == (chat.turns[0], chat.turns[4])
    assert turns[1].at == last.at
    names = [request["file"]["filename"] for request in asked(server, TRANSCRIPTIONS)]
    assert names == ["sound.wav", "sound.mp3", "sound.mp3"]


@pytest.mark.parametrize("words", ["Good dog!", ""])
def test_no_sound_is_transcribed_twice(server: StandIn, talker: Talker, words: str) -> None:
    """A transcript, even an empty one, is not asked for again, also after a resume."""
    chat = talker()
    chat.add_user(AudioInput(SOUND))
    server.will_transcribe(words)
    assert len(chat.transcribe()) == 1
    assert chat.transcribe() == ()
    chat.close()
    again = talker()
    assert again.transcribe() == ()
    assert again.turns[0].text == words
    assert len(server.requests) == 1


def test_transcribe_without_unknown_sound_sends_nothing(
    server: StandIn, chat: Conversation
) -> None:
    """`transcribe` sends nothing for an empty chat, text, or sound with a transcript."""
    assert chat.transcribe() == ()
    chat.add_user("Hello")
    chat.add_user(AudioInput(SOUND, transcript=""))
    chat.add_completion(spoken())
    turns = chat.turns
    assert chat.transcribe() == ()
    assert chat.turns == turns
    assert server.requests == []


def test_transcribed_sound_is_still_sent_as_sound(server: StandIn, chat: Conversation) -> None:
    """Transcribed sound is sent as sound, without its transcript."""
    chat.add_user(AudioInput(SOUND))
    chat.transcribe()
    chat.reply()
    [part] = server.requests[-1]["messages"][0]["content"]
    assert part["type"] == "input_audio"
    assert part["input_audio"].keys() == {"data", "format"}


def transcripts(chat: Conversation) -> list[str | None]:
    """Return the transcript of each sound of the user."""
    turns = [turn for turn in chat.turns if isinstance(turn, UserTurn)]
    parts = [part for turn in turns for part in turn.content if isinstance(part, AudioInput)]
    return [part.transcript for part in parts]


@pytest.mark.parametrize(
    "content",
    [
        [(AudioInput(SOUND),), (TOO_SHORT,), (AudioInput(MP3),)],
        [(AudioInput(SOUND), TOO_SHORT, AudioInput(MP3))],
    ],
    ids=["three turns", "one turn"],
)
def test_clip_that_is_refused_keeps_no_other_from_its_words(
    server: StandIn, talker: Talker, content: list[tuple[AudioInput, ...]]
) -> None:
    """A clip that is refused for good raises after all others; that model is not asked again."""
    chat = talker()
    for parts in content:
        chat.add_user(*parts)
    server.will_transcribe("Good dog!")
    server.will_transcribe("Sit!")
    with pytest.raises(openai.BadRequestError, match="too short") as caught:
        chat.transcribe()
    assert (
        f"the words of {counted(max(1, len(content) - 1), 'turn')} are found"
        in caught.value.__notes__[0]
    )
    assert transcripts(chat) == ["Good dog!", None, "Sit!"]
    again = talker()
    assert again.turns == chat.turns
    assert again.transcribe() == chat.transcribe() == ()
    short = len(TOO_SHORT.read())
    sizes = [request["file"]["size"] for request in asked(server, TRANSCRIPTIONS)]
    assert sizes == [len(SOUND), short, len(MP3)]
    with pytest.raises(openai.BadRequestError, match="too short"):
        talker(transcribe="whisper-1").transcribe()
    assert chat.say("Still there?").text.startswith("You wrote: Still there?")
    message = server.requests[-1]["messages"][len(content) // 2]
    assert {part["type"] for part in message["content"]} == {"input_audio"}


@pytest.mark.parametrize(
    ("statuses", "asked_for", "found"),
    [
        ([500], 3, ["two", "three"]),
        ([503, 400], 3, ["three"]),
        ([500, 502], 3, ["three"]),
        ([429], 1, []),
        ([401], 1, []),
        ([404], 1, []),
    ],
)
def test_other_failures_are_tried_again_later(
    server: StandIn, talker: Talker, statuses: list[int], asked_for: int, found: list[str]
) -> None:
    """A server's fault for one sound is passed over; what concerns all sounds raises at once."""
    chat = talker()
    for _ in range(3):
        chat.add_user(AudioInput(SOUND))
    for status in statuses:
        server.will_fail(status, param="file" if status == 400 else None)
    for words in found:
        server.will_transcribe(words)
    with pytest.raises(openai.APIStatusError) as caught:
        chat.transcribe()
    assert caught.value.status_code == statuses[0]
    assert [words for words in transcripts(chat) if words] == found
    assert len(server.requests) == asked_for
    chat.transcribe()
    assert len(server.requests) == asked_for + 3 - len(found) - statuses.count(400)


def test_sound_that_failed_is_tried_behind_all_others(server: StandIn, talker: Talker) -> None:
    """A server that fails six times in a row is down; next time the others come first."""
    chat = talker()
    sounds = [AudioInput.from_pcm(bytes(4800 + 2 * i), 24_000) for i in range(8)]
    for sound in sounds:
        chat.add_user(sound)
    for _ in range(6):
        server.will_fail(500)
    with pytest.raises(openai.InternalServerError):
        chat.transcribe()
    server.will_transcribe("seven")
    server.will_transcribe("eight")
    assert len(chat.transcribe()) == 8
    assert transcripts(chat)[6:] == ["seven", "eight"]
    sizes = [request["file"]["size"] for request in asked(server, TRANSCRIPTIONS)]
    assert sizes == [len(sounds[i].read()) for i in (0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5)]


def test_refusal_of_the_model_is_none_of_the_sound(server: StandIn, chat: Conversation) -> None:
    """A refusal that names another parameter marks no sound."""
    chat.add_user(AudioInput(SOUND))
    server.will_fail(400, "Unknown model", param="model")
    with pytest.raises(openai.BadRequestError):
        chat.transcribe()
    assert len(chat.transcribe()) == 1


def test_old_sound_that_is_refused_is_asked_for_once(server: StandIn, talker: Talker) -> None:
    """Old sound that is refused for good goes as sound, and is not asked for after a resume."""
    for _ in range(2):
        chat = talker(transcribe=True, context=Context(user_audio_turns=0))
        if not chat.turns:
            chat.add_user(TOO_SHORT)
        chat.say("Hello")
        assert server.requests[-1]["messages"][0]["content"][0]["type"] == "input_audio"
    assert len(asked(server, TRANSCRIPTIONS)) == 1


def test_sound_without_its_file_is_skipped(
    server: StandIn, talker: Talker, store: FileStore, caplog: pytest.LogCaptureFixture
) -> None:
    """`transcribe` skips sound whose file is gone, with a warning that names the file."""
    chat = talker()
    chat.add_user(AudioInput(SOUND))
    chat.add_user(AudioInput(MP3))
    gone = next((store.root / "retriever.audio").glob("0001*"))
    gone.unlink()
    server.will_transcribe("Good dog!")
    assert [turn.text for turn in chat.transcribe()] == ["Good dog!"]
    assert [turn.text for turn in talker().turns] == ["", "Good dog!"]
    [warning] = warnings_in(caplog)
    assert gone.name in warning
    assert warning.endswith("it cannot be transcribed")


def test_transcribe_rewrites_no_sound_file(talker: Talker, store: FileStore) -> None:
    """`transcribe` rewrites the session's document and no sound file."""
    chat = talker()
    chat.add_user(AudioInput(SOUND))
    chat.add_completion(spoken())
    before = {path: path.stat().st_ino for path in (store.root / "retriever.audio").iterdir()}
    chat.transcribe()
    after = {path: path.stat().st_ino for path in (store.root / "retriever.audio").iterdir()}
    assert (after, len(after)) == (before, 2)
    assert talker().turns == chat.turns

"""Speech beside the chat: dropped voices spoken, sound transcribed, answers cut."""

from __future__ import annotations

import errno
import io
import logging
import math
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
    Conversation,
    FileStore,
    Form,
    TextDelta,
    ToolCall,
    TurnFinished,
    UserTurn,
)
from conversation._values.turns import Turn
from conversation.errors import AudioFileMissing, InvalidTurn, SaveFailed
from conversation.testing import StandIn
from tests.conftest import START, Clock
from tests.samples import MP3, SOUND, spoken
from tests.stores.test_failing_disk import FaultyDisk, files

Talker = Callable[..., Conversation]

SPEECH = "/v1/audio/speech"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
TOO_SHORT = AudioInput.from_pcm(bytes(480), 24_000)
"""Sound that the stand-in, as the API, refuses to transcribe."""


@pytest.fixture
def disk() -> FaultyDisk:
    """A disk that can be told to fail."""
    return FaultyDisk()


@pytest.fixture
def store(tmp_path: Path, disk: FaultyDisk) -> FileStore:
    """A store on that disk."""
    store = FileStore(tmp_path / "sessions")
    store._disk = disk
    return store


@pytest.fixture
def talker(client: OpenAI, clock: Clock, store: FileStore) -> Iterator[Talker]:
    """Opens the session `retriever`, as often as it is called."""
    opened: list[Conversation] = []

    def talk(**settings: Any) -> Conversation:
        chat = Conversation.open("retriever", store=store, client=client, clock=clock, **settings)
        opened.append(chat)
        return chat

    yield talk
    for chat in opened:
        chat.close()


def asked(server: StandIn, path: str) -> list[dict[str, Any]]:
    """The requests to one endpoint."""
    return [dict(request) for request in server.requests if request.path == path]


def spoken_part(turn: Turn) -> AssistantAudio:
    """The sound of an answer that has some."""
    assert isinstance(turn, AssistantTurn)
    assert turn.audio is not None
    return turn.audio


def samples(wav: bytes) -> bytes:
    """The samples of a WAV file that any program plays."""
    with wave.open(io.BytesIO(wav)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
        pcm: bytes = file.readframes(file.getnframes())
    return pcm


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was warned of."""
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


# --- answers that came as text --------------------------------------------------------------------


@pytest.mark.parametrize(("given", "model"), [(True, "gpt-4o-mini-tts"), ("tts-1", "tts-1")])
def test_an_answer_that_came_as_text_is_spoken(
    server: StandIn, client: OpenAI, clock: Clock, given: Any, model: str
) -> None:
    """With the voice and in the format that were asked for; the words stay text."""
    chat = Conversation(client=client, clock=clock, voice="echo", speak_when_dropped=given)
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
def test_it_is_spoken_in_the_format_that_answers_come_in(
    server: StandIn, client: OpenAI, clock: Clock, audio_format: str, response_format: str
) -> None:
    """Also where the two endpoints name it differently, or where one request wants another."""
    options: dict[str, Any] = {"client": client, "clock": clock, "speak_when_dropped": True}
    chats = [
        (Conversation(**options, audio_format=audio_format), {}),
        (Conversation(**options), {"audio": {"format": audio_format}}),
    ]
    for chat, request in chats:
        server.will_answer("A fine dog.", spoken=False)
        audio = spoken_part(chat.say("Is it a good dog?", **request))
        assert asked(server, SPEECH)[-1]["response_format"] == response_format
        assert audio.format == audio_format
        assert audio.duration == pytest.approx(1.2)


def test_it_is_spoken_by_the_voice_that_the_request_asked_for(
    server: StandIn, client: OpenAI, clock: Clock
) -> None:
    """The answer before and after it have that voice as well."""
    chat = Conversation(client=client, clock=clock, speak_when_dropped=True)
    for options, voice in (({"audio": {"voice": "sage"}}, "sage"), ({}, "alloy")):
        server.will_answer("A fine dog.", spoken=False)
        chat.say("Is it a good dog?", **options)
        assert asked(server, SPEECH)[-1]["voice"] == voice


def test_a_streamed_answer_that_came_as_text_is_spoken(
    server: StandIn, client: OpenAI, clock: Clock
) -> None:
    """Its sound comes behind its words, raw as all streamed sound, and is kept as WAV."""
    chat = Conversation(client=client, clock=clock, voice="echo", speak_when_dropped=True)
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


def test_half_a_sample_of_speech_is_not_told(server: StandIn, client: OpenAI, clock: Clock) -> None:
    """Events bring whole samples, wherever they come from."""
    chat = Conversation(client=client, clock=clock, speak_when_dropped=True)
    server.will_answer("A fine dog.", spoken=False)
    server.will_send(b"\1\0\2\0\3")
    with chat.stream("Is it a good dog?") as stream:
        sounds = [event.data for event in stream if isinstance(event, AudioDelta)]
    assert sounds == [b"\1\0\2\0"]
    assert samples(spoken_part(chat.turns[-1]).read()) == b"\1\0\2\0"


@pytest.mark.parametrize("streams", [False, True])
def test_speech_is_kept_like_any_other_sound(
    server: StandIn, talker: Talker, store: FileStore, streams: bool
) -> None:
    """It is a playable file of the session, and never goes back as a voice."""
    chat = talker(speak_when_dropped=True)
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
def test_speech_that_fails_costs_no_answer(
    server: StandIn,
    client: OpenAI,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    fault: str,
    streams: bool,
) -> None:
    """The text is kept, one warning is logged, and the chat goes on."""
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
    assert warnings_in(caplog) == ["an answer that came as text could not be spoken"]
    assert len(asked(server, SPEECH)) == 1, "it is tried once"
    assert "1 from transcripts" in chat.say("Really?").text


def test_an_interrupt_while_it_is_spoken_keeps_the_text(
    server: StandIn, client: OpenAI, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words had come, and were paid for."""

    def interrupted(**_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(client.audio.speech, "create", interrupted)
    chat = Conversation(client=client, clock=clock, speak_when_dropped=True)
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
    ids=["off", "default", "spoken", "refused", "blank", "text wanted", "text mode", "tool call"],
)
@pytest.mark.parametrize("streams", [False, True])
def test_nothing_is_spoken_that_nobody_asked_for(
    server: StandIn,
    client: OpenAI,
    clock: Clock,
    settings: dict[str, Any],
    answer: dict[str, Any],
    options: dict[str, Any],
    streams: bool,
) -> None:
    """It costs money, so it is for answers whose voice was dropped, and for those only."""
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


def test_an_answer_that_was_broken_off_is_not_spoken(
    server: StandIn, client: OpenAI, clock: Clock
) -> None:
    """Nobody listens any more."""
    chat = Conversation(client=client, clock=clock, speak_when_dropped=True)
    server.will_answer("A fine dog.", spoken=False)
    with chat.stream("Is it a good dog?") as stream:
        next(iter(stream))
    assert chat.turns[-1].text == "A"
    assert asked(server, SPEECH) == []


# --- transcribing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "model"),
    [
        (None, "gpt-transcribe"),
        (True, "gpt-transcribe"),
        (False, "gpt-transcribe"),
        ("whisper-1", "whisper-1"),
    ],
)
def test_the_words_of_user_sound_are_found(
    server: StandIn, client: OpenAI, clock: Clock, given: Any, model: str
) -> None:
    """With the model that was given, or the default; the turn keeps everything else."""
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


def test_several_sounds_are_transcribed_each_by_itself(server: StandIn, chat: Conversation) -> None:
    """In one turn or in many, in their order, and those whose words are known are left alone."""
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
def test_nothing_is_transcribed_twice(server: StandIn, talker: Talker, words: str) -> None:
    """Not by the same object, not after a resume, and not where silence had no words."""
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


def test_where_there_is_nothing_to_transcribe_nothing_is_asked(
    server: StandIn, chat: Conversation
) -> None:
    """An empty chat, text, and sound whose words are known."""
    assert chat.transcribe() == ()
    chat.add_user("Hello")
    chat.add_user(AudioInput(SOUND, transcript=""))
    chat.add_completion(spoken())
    turns = chat.turns
    assert chat.transcribe() == ()
    assert chat.turns == turns
    assert server.requests == []


def test_what_is_transcribed_is_still_sent_as_sound(server: StandIn, chat: Conversation) -> None:
    """The words are for later; the API takes none beside the sound."""
    chat.add_user(AudioInput(SOUND))
    chat.transcribe()
    chat.reply()
    [part] = server.requests[-1]["messages"][0]["content"]
    assert part["type"] == "input_audio"
    assert part["input_audio"].keys() == {"data", "format"}


@pytest.mark.parametrize(
    "content",
    [
        [(AudioInput(SOUND),), (TOO_SHORT,), (AudioInput(MP3),)],
        [(AudioInput(SOUND), TOO_SHORT, AudioInput(MP3))],
    ],
    ids=["three turns", "one turn"],
)
def test_an_error_in_the_middle_keeps_what_was_found(
    server: StandIn, talker: Talker, content: list[tuple[AudioInput, ...]]
) -> None:
    """On the disk too; what was found is not asked again."""
    chat = talker()
    for parts in content:
        chat.add_user(*parts)
    server.will_transcribe("Good dog!")
    with pytest.raises(openai.BadRequestError, match="too short"):
        chat.transcribe()

    def words(chat: Conversation) -> list[str | None]:
        turns = [turn for turn in chat.turns if isinstance(turn, UserTurn)]
        parts = [part for turn in turns for part in turn.content if isinstance(part, AudioInput)]
        return [part.transcript for part in parts]

    assert words(chat) == ["Good dog!", None, None]
    again = talker()
    assert words(again) == ["Good dog!", None, None]
    with pytest.raises(openai.BadRequestError):
        again.transcribe()
    sizes = [request["file"]["size"] for request in asked(server, TRANSCRIPTIONS)]
    assert sizes == [len(SOUND), len(TOO_SHORT.read()), len(TOO_SHORT.read())]
    assert chat.say("Still there?").text.startswith("You wrote: Still there?")


def test_sound_whose_file_is_gone_is_passed_over(
    server: StandIn, talker: Talker, store: FileStore, caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning that names it; the others are transcribed."""
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


def test_transcribing_leaves_the_sound_where_it_is(talker: Talker, store: FileStore) -> None:
    """Only the session's document is written anew."""
    chat = talker()
    chat.add_user(AudioInput(SOUND))
    chat.add_completion(spoken())
    before = {path: path.stat().st_ino for path in (store.root / "retriever.audio").iterdir()}
    chat.transcribe()
    after = {path: path.stat().st_ino for path in (store.root / "retriever.audio").iterdir()}
    assert (after, len(after)) == (before, 2)
    assert talker().turns == chat.turns


# --- setting a transcript -------------------------------------------------------------------------


def test_other_words_are_put_in_the_place_of_an_answers(
    server: StandIn, chat: Conversation, clock: Clock
) -> None:
    """While its voice lives it goes as voice; afterwards as these words."""
    first = chat.say("One")
    new = chat.set_transcript(first, "What was really said.")
    assert new is chat.turns[1]
    assert new == attrs.evolve(
        first, audio=attrs.evolve(spoken_part(first), transcript="What was really said.")
    )
    assert chat.render().items[1].form is Form.VOICE
    clock.now += 4000
    chat.say("Two")
    sent = server.requests[-1]["messages"][1]
    assert sent == {"role": "assistant", "content": "What was really said."}


def test_words_are_given_to_what_the_user_said(server: StandIn, chat: Conversation) -> None:
    """Whether it had some or not; then there is nothing to transcribe."""
    silent = chat.add_user("Listen:", AudioInput(SOUND))
    turn = chat.set_transcript(chat.set_transcript(silent, "Good"), "Good dog!")
    assert turn == chat.turns[0]
    assert turn.text == "Listen:\nGood dog!"
    assert chat.transcribe() == ()
    assert server.requests == []


def test_the_same_words_twice_are_told_apart_by_the_turn(chat: Conversation) -> None:
    """Of turns that are equal, the one is meant that was passed."""
    turns = [chat.add_user(AudioInput(SOUND)) for _ in range(3)]
    assert turns[0] == turns[1]
    chat.set_transcript(turns[1], "second")
    assert [turn.text for turn in chat.turns] == ["", "second", ""]


def test_a_transcript_is_text_that_a_file_can_hold(talker: Talker) -> None:
    """Lone surrogates are replaced."""
    chat = talker()
    turn = chat.set_transcript(chat.add_user(AudioInput(SOUND)), "a\ud800b")
    assert turn.text == "a\ufffdb"
    assert talker().turns == chat.turns


@pytest.mark.parametrize(
    ("turn", "found"),
    [
        (UserTurn((AudioInput(SOUND), AudioInput(MP3))), "this one has 2"),
        (UserTurn(("Only words",)), "this one has 0"),
        (AssistantTurn(content="Only words"), "this one has 0"),
    ],
    ids=["two sounds", "a question without sound", "an answer without sound"],
)
def test_a_turn_without_one_sound_gets_no_transcript(
    chat: Conversation, turn: UserTurn | AssistantTurn, found: str
) -> None:
    """It is said how many it has."""
    turn = chat.add(turn)
    before = chat.turns
    with pytest.raises(InvalidTurn, match=found):
        chat.set_transcript(turn, "Good dog!")
    assert chat.turns == before


def test_a_transcript_is_for_a_turn_of_this_conversation(chat: Conversation) -> None:
    """Another one's is refused, with the place where these are found."""
    chat.add_user(AudioInput(SOUND))
    foreign = Conversation().add_completion(spoken())
    with pytest.raises(InvalidTurn, match="not in the conversation; take it from turns"):
        chat.set_transcript(foreign, "Good dog!")


@pytest.mark.parametrize("text", [None, 5, b"Good dog!"])
def test_a_transcript_is_text(chat: Conversation, text: Any) -> None:
    """Anything else is refused by its type."""
    chat.add_user(AudioInput(SOUND))
    chat.add_completion(spoken())
    before = chat.turns
    for turn in before:
        with pytest.raises(InvalidTurn, match=f"not {type(text).__name__}"):
            chat.set_transcript(turn, text)
    assert chat.turns == before


def test_transcripts_are_on_the_disk_when_they_are_set(talker: Talker, store: FileStore) -> None:
    """Also after a resume, and without touching any sound."""
    chat = talker()
    chat.add_user(AudioInput(SOUND))
    chat.add_completion(spoken())
    chat.close()
    again = talker()
    before = {path: path.stat().st_ino for path in (store.root / "retriever.audio").iterdir()}
    for turn, words in zip(again.turns, ("asked", "answered"), strict=True):
        again.set_transcript(turn, words)
    reader = talker()
    assert [turn.text for turn in reader.turns] == ["asked", "answered"]
    assert reader.turns == again.turns
    assert spoken_part(reader.turns[1]).read() == SOUND
    after = {path: path.stat().st_ino for path in (store.root / "retriever.audio").iterdir()}
    assert (after, len(after)) == (before, 2)


# --- cutting an answer ----------------------------------------------------------------------------

PCM = b"".join((i % 30_000).to_bytes(2, "little") for i in range(96_000))
"""4 s."""

WAV = AudioInput.from_pcm(PCM, 24_000).read()
MP3_4S = (MP3 * 4)[: 192 * 167]
"""167 frames of 24 ms: 4.008 s."""

WORDS = "one two three four five six seven eight"


def answered(chat: Conversation, **changes: Any) -> AssistantTurn:
    """An answer of 4 s, added with a voice that is alive."""
    fields = {
        "id": f"audio_{int(START):08x}{'0' * 24}",
        "expires_at": START + 3600,
        "transcript": WORDS,
        "data": WAV,
    }
    content = changes.pop("content", None)
    chat.add_user("Count!")
    return chat.add(AssistantTurn(content, audio=AssistantAudio(**{**fields, **changes})))


@pytest.mark.parametrize(
    ("data", "audio_format", "heard"),
    [
        (WAV, "wav", AudioInput.from_pcm(PCM[:96_000], 24_000).read()),
        (PCM, "pcm16", PCM[:96_000]),
        (MP3_4S, "mp3", MP3_4S[: 192 * 84]),
        (b"fLaC" + bytes(40), "flac", b"fLaC" + bytes(40)),
    ],
    ids=["wav", "pcm16", "mp3", "flac"],
)
def test_what_was_heard_is_kept_and_the_rest_is_not(
    chat: Conversation, data: bytes, audio_format: str, heard: bytes
) -> None:
    """Half of the sound, if it can be cut without a decoder, and half of the words."""
    answered(chat, data=data, format=audio_format, duration=4.0)
    turn = chat.truncate(2)
    assert turn is chat.turns[-1]
    audio = spoken_part(turn)
    assert turn.text == "one two three four"
    assert turn.interrupted
    assert (audio.format, audio.duration) == (audio_format, 2.0)
    assert audio.read() == heard


def test_what_the_user_talked_over_is_never_voice_again(
    server: StandIn, chat: Conversation
) -> None:
    """The voice that the server remembers said all of it."""
    server.will_answer(WORDS)
    length = spoken_part(chat.say("Count!")).duration
    assert length is not None
    assert chat.render().items[1].form is Form.VOICE
    turn = chat.truncate(length / 2)
    assert samples(spoken_part(turn).read())
    assert "0 of my earlier answers by voice and 1 from transcripts" in chat.say("Go on").text
    sent = server.requests[-1]["messages"][1]
    assert sent == {"role": "assistant", "content": "one two three four"}


def test_nothing_was_heard(server: StandIn, chat: Conversation) -> None:
    """No sound is left, and what is sent says that words are missing."""
    server.will_answer(WORDS)
    chat.say("Count!")
    turn = chat.truncate(0)
    audio = spoken_part(turn)
    assert (turn.text, audio.duration, audio.data, audio.format) == ("…", 0.0, None, None)
    with pytest.raises(LookupError):
        audio.read()
    chat.say("Go on")
    assert server.requests[-1]["messages"][1] == {"role": "assistant", "content": "…"}


@pytest.mark.parametrize("seconds", [4, 4.0, 4.5, math.inf, 10**400])
def test_what_was_heard_to_its_end_is_unchanged(
    talker: Talker, store: FileStore, seconds: float
) -> None:
    """Nothing is written, and the voice is still good."""
    chat = talker()
    turn = answered(chat)
    before = files(store.root)
    inode = (store.root / "retriever.json").stat().st_ino
    assert chat.truncate(seconds) is turn
    assert not turn.interrupted
    assert files(store.root) == before
    assert (store.root / "retriever.json").stat().st_ino == inode
    assert chat.render().items[-1].form is Form.VOICE


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.01, "…"),
        (0.5, "one"),
        (1.2, "one two"),
        (2.5, "one two three four five"),
        (3.9, WORDS),
    ],
)
def test_words_are_cut_in_proportion(chat: Conversation, seconds: float, words: str) -> None:
    """Whole ones, as nobody knows better."""
    answered(chat)
    assert chat.truncate(seconds).text == words


def test_words_without_spaces_are_cut_by_letters(chat: Conversation) -> None:
    """As Chinese and Japanese are written."""
    answered(chat, transcript="今天天气很好我们去公园")
    assert chat.truncate(2).text == "今天天气很好"


def test_an_answer_can_be_cut_again(talker: Talker) -> None:
    """What was heard of what was heard."""
    chat = talker()
    answered(chat)
    chat.truncate(3)
    turn = chat.truncate(1.5)
    assert (turn.text, spoken_part(turn).duration) == ("one two three", 1.5)
    assert samples(spoken_part(turn).read()) == PCM[:72_000]
    assert chat.truncate(1.5) is turn


@pytest.mark.parametrize("transcript", [None, "", WORDS])
def test_words_that_only_stand_in_the_text_are_cut_too(
    chat: Conversation, transcript: str | None
) -> None:
    """Some servers write there what they say; so does an answer whose voice was dropped."""
    answered(chat, content=WORDS, transcript=transcript, id=None)
    turn = chat.truncate(2)
    assert turn.text == "one two three four"
    assert chat.render().items[-1].message == {"role": "assistant", "content": turn.text}


def test_text_beside_what_was_said_stays(chat: Conversation) -> None:
    """It was read, not heard."""
    answered(chat, content="A table.")
    assert chat.truncate(2).text == "A table.\n\none two three four"


def test_an_answer_without_words_stays_without(chat: Conversation) -> None:
    """None are made up."""
    answered(chat, transcript=None)
    turn = chat.truncate(2)
    assert (turn.text, spoken_part(turn).transcript) == ("", None)


def test_a_cut_answer_has_a_new_file_and_the_old_one_is_gone(
    talker: Talker, store: FileStore
) -> None:
    """Nothing of other turns is touched, and a resumed session finds what was heard."""
    chat = talker()
    chat.add_user(AudioInput(SOUND))
    chat.add_completion(spoken())
    answered(chat)
    folder = store.root / "retriever.audio"
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in folder.iterdir()}
    [old] = (name for name in before if name.startswith("0004"))
    chat.truncate(2)
    after = {path.name: (path.stat().st_ino, path.read_bytes()) for path in folder.iterdir()}
    [new] = after.keys() - before.keys()
    assert before.keys() - after.keys() == {old}
    assert new.startswith("0004-")
    assert samples(after.pop(new)[1]) == PCM[:96_000]
    assert after == {name: file for name, file in before.items() if name != old}
    again = talker()
    assert again.turns == chat.turns
    assert spoken_part(again.turns[-1]).read() == spoken_part(chat.turns[-1]).read()
    assert again.render().items[-1].form is Form.TRANSCRIPT


def test_an_answer_of_a_resumed_session_can_be_cut(talker: Talker) -> None:
    """Its length was saved with it, and its sound is read when it is cut."""
    with talker() as chat:
        answered(chat)
    again = talker()
    turn = again.truncate(1)
    assert (turn.text, samples(spoken_part(turn).read())) == ("one two", PCM[:48_000])
    assert talker().turns == again.turns


def test_an_answer_whose_sound_is_gone_is_cut_in_its_words(
    talker: Talker, store: FileStore
) -> None:
    """They are what is sent."""
    chat = talker()
    answered(chat)
    [path] = (store.root / "retriever.audio").iterdir()
    path.unlink()
    turn = chat.truncate(2)
    assert (turn.text, spoken_part(turn).duration) == ("one two three four", 2.0)
    with pytest.raises(AudioFileMissing):
        spoken_part(turn).read()
    assert talker().turns == chat.turns


def tool_call() -> AssistantTurn:
    """An answer that only calls a tool."""
    return AssistantTurn(tool_calls=(ToolCall("a", "look_up", "{}"),))


@pytest.mark.parametrize(
    ("add", "found"),
    [
        (lambda _: None, "there is no turn"),
        (lambda chat: chat.add_user("Hello"), "the last turn is no spoken answer"),
        (lambda chat: chat.add_user(AudioInput(SOUND)), "the last turn is no spoken answer"),
        (lambda chat: chat.add_assistant("Written."), "the last turn is no spoken answer"),
        (
            lambda chat: chat.add(tool_call()) and chat.add_tool_result("a", "42"),
            "the last turn is no spoken answer",
        ),
        (
            lambda chat: answered(chat, data=b"OggS" + bytes(40)),
            "nobody knows how long the last answer is",
        ),
        (lambda chat: answered(chat, data=None), "nobody knows how long the last answer is"),
    ],
    ids=["empty", "text", "question", "written", "tool result", "opus", "no data"],
)
def test_what_is_no_spoken_answer_of_known_length_is_not_cut(
    chat: Conversation, add: Callable[[Conversation], object], found: str
) -> None:
    """The error says what the last turn is, and nothing is changed."""
    add(chat)
    before = chat.turns
    with pytest.raises(InvalidTurn, match=found):
        chat.truncate(0.01)
    assert chat.turns == before


@pytest.mark.parametrize("seconds", [math.nan, -1, -math.inf, True, "2", None])
def test_seconds_are_a_number_of_them(chat: Conversation, seconds: Any) -> None:
    """What is none is shown."""
    turn = answered(chat)
    with pytest.raises(InvalidTurn, match=f"a number of seconds, 0 or more, not {seconds!r}"):
        chat.truncate(seconds)
    assert chat.turns[-1] is turn


CHANGES: dict[str, Callable[[Conversation], object]] = {
    "truncate": lambda chat: chat.truncate(2),
    "set_transcript": lambda chat: chat.set_transcript(chat.turns[-1], "Other words"),
    "transcribe": lambda chat: chat.transcribe(),
}


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("operation", ["create", "write", "sync", "replace"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_full_disk_changes_nothing(
    talker: Talker,
    store: FileStore,
    disk: FaultyDisk,
    change: str,
    operation: str,
    error: int,
) -> None:
    """Not in memory, not on the disk; and the same again works when there is room."""
    chat = talker()
    chat.add_user(AudioInput(SOUND))
    answered(chat)
    before, turns = files(store.root), chat.turns
    disk.arm(operation, 0, error)
    with pytest.raises(SaveFailed) as caught:
        CHANGES[change](chat)
    assert caught.value.turn is None
    assert chat.turns == turns
    after = files(store.root)
    # After a failed sync nobody knows whether the disk names the new sound: it may stay.
    assert {n: d for n, d in after.items() if operation != "sync" or n in before} == before
    assert talker().turns == turns
    CHANGES[change](chat)
    assert chat.turns != turns
    assert talker().turns == chat.turns


def test_a_failing_second_write_of_a_cut_keeps_the_old_sound(
    talker: Talker, store: FileStore, disk: FaultyDisk
) -> None:
    """The new file was written, but not the document that names it."""
    chat = talker()
    answered(chat)
    before = files(store.root)
    disk.arm("replace", 1)
    with pytest.raises(SaveFailed):
        chat.truncate(2)
    assert files(store.root) == before
    assert spoken_part(chat.turns[-1]).read() == WAV

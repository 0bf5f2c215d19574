"""The example `terminal_chat.py`, in a terminal and on pipes."""

from __future__ import annotations

import subprocess
import wave
from collections.abc import Sequence
from pathlib import Path

import pytest

from conversation import AssistantTurn, AudioInput, FileStore, UserTurn
from conversation._values.conversion import encoded
from conversation._values.turns import Turn
from conversation.testing import StandIn
from tests import terminals
from tests.programs import ran
from tests.samples import MP3, SOUND
from tests.terminals import (
    CTRL_C,
    CTRL_D,
    DEADLINE,
    PYTHON,
    SOUNDDEVICE,
    Terminal,
    environment,
)

pytestmark = pytest.mark.slow

CHAT = str(Path(__file__).parent.parent.parent / "examples" / "terminal_chat.py")
DATA = Path("example-data") / "terminal-chat"


@pytest.fixture(autouse=True)
def _beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def piped(folder: Path, server: StandIn | None, lines: str, *arguments: str) -> list[str]:
    """Run the chat on pipes and return the lines that it prints."""
    around = environment(server, folder)
    done = ran(CHAT, *arguments, folder=folder, environment=around, lines=lines, timeout=DEADLINE)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout.splitlines()


def turns_of(session: str = "terminal") -> Sequence[Turn]:
    """Return the turns of a session that the example has saved."""
    return terminals.turns_of(session, DATA)


def texts_of(session: str = "terminal") -> list[str]:
    """Return the texts of a session."""
    return [turn.text for turn in turns_of(session)]


# --- in a terminal --------------------------------------------------------------------------------


def test_a_chat_in_a_terminal_is_resumed(server: StandIn, tmp_path: Path) -> None:
    """All texts are shown again, and the next answer recalls the earlier ones by voice."""
    with Terminal(tmp_path, server, CHAT, "dogs", "--voice", "ash") as terminal:
        assert "session 'dogs' of 0 turns" in terminal.until("user> ")
        first = terminal.say("Is a dog a good friend?")
        assert first.startswith("assistant> You wrote: Is a dog a good friend? I recall 0")
        assert first.endswith(f"\n    {DATA}/dogs-sound/answer-1.wav")
        assert "I recall 1 of my earlier answers by voice" in terminal.say("Why?")
        terminal.press("/quit\n")
        terminal.end()
    words = texts_of("dogs")
    assert words[::2] == ["Is a dog a good friend?", "Why?"]
    with Terminal(tmp_path, server, CHAT, "dogs") as terminal:
        again = terminal.until("user> ")
        assert "session 'dogs' of 4 turns" in again
        assert [line.split(maxsplit=1)[1] for line in again.splitlines()[1:5]] == words
        assert "I recall 2 of my earlier answers by voice" in terminal.say("And cats?")
        terminal.press("/quit\n")
        terminal.end()
    assert len(turns_of("dogs")) == 6
    assert [request["audio"]["voice"] for request in server.requests] == ["ash"] * 3
    for number in (1, 2, 3):
        with wave.open(str(DATA / "dogs-sound" / f"answer-{number}.wav")) as sound:
            assert sound.getnframes() > sound.getframerate()


@pytest.mark.parametrize("key", [CTRL_D, CTRL_C])
def test_ctrl_c_or_ctrl_d_at_the_prompt_ends_the_chat(
    key: str, server: StandIn, tmp_path: Path
) -> None:
    """It ends without a message, and the turns are saved."""
    with Terminal(tmp_path, server, CHAT) as terminal:
        terminal.until("user> ")
        terminal.say("Good morning")
        assert set(terminal.leave(key).strip()) <= set("^CD")
    assert texts_of()[0] == "Good morning"
    assert len(turns_of()) == 2


def test_ctrl_c_interrupts_an_answer(server: StandIn, tmp_path: Path) -> None:
    """The part that arrived is kept, it is sent as its transcript, and the chat goes on."""
    server.will_answer("One two three four five.", hold_after=4)
    with Terminal(tmp_path, server, CHAT) as terminal:
        terminal.until("user> ")
        terminal.press("Count\n")
        terminal.until("assistant> One two three")
        server.wait_until_held()
        shown = terminal.interrupt()
        assert "interrupted; this part is kept" in shown
        assert "Traceback" not in shown
        assert "assistant: transcript, interrupted" in terminal.say("/why")
        assert "0 of my earlier answers by voice and 1 from" in terminal.say("Go on")
        terminal.press(CTRL_D)
        terminal.end()
    assert server.requests[-1]["messages"][1]["content"] == "One two three"
    broken = turns_of()[1]
    assert isinstance(broken, AssistantTurn)
    assert (broken.text, broken.interrupted) == ("One two three", True)
    assert len(turns_of()) == 4


def test_ctrl_c_while_audio_plays_keeps_the_audio(server: StandIn, tmp_path: Path) -> None:
    """The interrupted turn has the whole transcript and the audio that arrived."""
    (tmp_path / "sounddevice.py").write_text(SOUNDDEVICE)
    (tmp_path / "devices").mkdir()
    server.will_answer("One two three.", hold_after=6)
    with Terminal(tmp_path, server, CHAT) as terminal:
        terminal.until("user> ")
        terminal.press("Count\n")
        terminal.until("assistant> One two three.**")
        assert "this part is kept" in terminal.interrupt()
        terminal.press(CTRL_D)
        terminal.end()
    broken = turns_of()[1]
    assert isinstance(broken, AssistantTurn)
    assert broken.audio is not None
    assert broken.interrupted
    assert broken.audio.duration == pytest.approx(0.8)


def test_ctrl_c_before_the_answer_keeps_the_question(server: StandIn, tmp_path: Path) -> None:
    """An empty line retries it; without an open question an empty line does nothing."""
    server.will_answer("Never heard.", hold_after=0)
    with Terminal(tmp_path, server, CHAT) as terminal:
        terminal.until("user> ")
        terminal.press("Hello?\n")
        server.wait_until_held()
        assert "interrupted before the first word" in terminal.interrupt()
        assert len(turns_of()) == 1
        terminal.press("\n")
        assert "assistant> You wrote: Hello?" in terminal.until("\nuser> ")
        terminal.press("\n")
        assert terminal.until("user> ").strip() == "user>"
        terminal.press(CTRL_D)
        terminal.end()
    assert [turn.role for turn in turns_of()] == ["user", "assistant"]


# --- without a terminal ---------------------------------------------------------------------------


def test_the_chat_works_on_pipes_and_without_a_key(tmp_path: Path) -> None:
    """There is no prompt, and a stand-in answers; a new stand-in resumes from transcripts."""
    first, *shown = piped(tmp_path, None, "Good morning\n/why\n/nonsense\nBye")
    assert "stand-in on this machine" in first
    assert shown[0].startswith("session 'terminal' of 0 turns")
    assert shown[1].startswith("assistant> You wrote: Good morning")
    assert shown[3] == "user: as it is"
    assert shown[4].startswith("assistant: voice, ")
    assert shown[5].startswith("/say FILE")
    assert shown[-2].startswith(
        "assistant> You wrote: Bye I recall 1 of my earlier answers by voice"
    )
    assert len(turns_of()) == 4
    # The next stand-in does not know the audio ids.
    _, *shown = piped(tmp_path, None, "Back again\n/quit\nnever said\n")
    assert shown[0].startswith("session 'terminal' of 4 turns")
    assert "0 of my earlier answers by voice and 2 from transcripts" in shown[5]
    assert len(turns_of()) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["example-data"]


def test_empty_or_closed_input_creates_no_session(tmp_path: Path) -> None:
    """The chat ends without an error."""
    assert len(piped(tmp_path, None, "")) == 2
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", *PYTHON, CHAT]
    subprocess.run(closed, cwd=tmp_path, env=environment(None, tmp_path), check=True)
    assert not FileStore(DATA).list()


def test_undo_removes_the_last_exchange(server: StandIn, tmp_path: Path) -> None:
    """The next answer overwrites the audio file of the one that was removed."""
    shown = piped(tmp_path, server, "One\n/undo\n/undo\nTwo\n")
    assert shown[3:5] == ["took back 2 turns", "there is nothing to take back"]
    assert texts_of()[0] == "Two"
    assert [path.name for path in (DATA / "terminal-sound").iterdir()] == ["answer-1.wav"]


@pytest.mark.parametrize("sound", [SOUND, MP3])
def test_say_sends_a_file(sound: bytes, server: StandIn, tmp_path: Path) -> None:
    """WAV and MP3 are recognized whatever the name is, and kept with the session."""
    (tmp_path / "my voice").write_bytes(sound)
    duration = AudioInput(sound).duration
    shown = piped(tmp_path, server, "/say my voice\n")
    assert shown[1].startswith(f"assistant> I heard {duration:.1f} seconds of sound.")
    said = turns_of()[0]
    assert isinstance(said, UserTurn)
    assert isinstance(said.content[0], AudioInput)
    assert said.content[0].read() == sound
    shown = piped(tmp_path, server, "")
    assert shown[1] == "  user      (sound)"


def test_say_converts_other_formats(server: StandIn, tmp_path: Path) -> None:
    """A file that the API does not take becomes MP3."""
    pytest.importorskip("av", reason="needs the extra `formats`")
    (tmp_path / "voice.ogg").write_bytes(encoded([bytes(48_000)], "opus"))
    shown = piped(tmp_path, server, "/say voice.ogg\n")
    assert shown[1].startswith("assistant> I heard 1.0 seconds of sound.")
    said = turns_of()[0]
    assert isinstance(said, UserTurn)
    assert isinstance(said.content[0], AudioInput)
    assert said.content[0].format == "mp3"


def test_invalid_commands_and_files_are_one_line(server: StandIn, tmp_path: Path) -> None:
    """Bad files or arguments and a missing microphone neither end nor change the session."""
    (tmp_path / "words.wav").write_text("no sound")
    (tmp_path / "sound.flac").write_bytes(b"fLaC" + bytes(34))
    (tmp_path / "empty.wav").touch()
    bad = ["/say nothere.wav", "/say .", "/say", "/say words.wav", "/say sound.flac"]
    bad += ["/say empty.wav", "/record", "/record soon"]
    shown = piped(tmp_path, server, "\n".join([*bad, "Hello", ""]))
    assert [line[:2] for line in shown[1:9]] == ["! "] * 8
    assert "nothere.wav" in shown[1]
    assert "FLAC" in shown[5]
    assert shown[9].startswith("assistant> You wrote: Hello")
    assert len(turns_of()) == 2


def test_failed_requests_are_one_line(server: StandIn, tmp_path: Path) -> None:
    """A refusal, or a connection that breaks in mid-answer; an empty line retries."""
    server.will_fail(401, "Incorrect API key provided.", code="invalid_api_key")
    server.will_answer("One two three.", cut_after=3)
    shown = piped(tmp_path, server, "Hello\n\nGo on\n")
    assert shown[1] == "assistant> "
    assert shown[2].startswith("! ")
    assert "OPENAI_API_KEY" in shown[2]
    assert shown[3] == "assistant> One two"
    assert shown[4].startswith("! ")
    assert shown[5].startswith("assistant> You wrote: Go on")
    assert [turn.role for turn in turns_of()] == ["user", "assistant"] * 2
    assert texts_of()[1] == "One two"


@pytest.mark.parametrize(
    ("session", "words"), [("broken", "broken.json"), ("x" * 513, "1 to 512 UTF-8 bytes")]
)
def test_a_session_that_cannot_be_opened_is_one_line(
    session: str, words: str, tmp_path: Path
) -> None:
    """A damaged session or an invalid id ends the chat with exit status 1."""
    store = FileStore(DATA)
    store.root.mkdir(parents=True)
    (store.root / "broken.json").write_text('{"conversation":1,\n')
    around = environment(None, tmp_path)
    done = ran(CHAT, session, folder=tmp_path, environment=around, timeout=DEADLINE)
    assert done.returncode == 1
    assert done.stderr.startswith("! ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


# --- with a sound card ----------------------------------------------------------------------------


def test_a_sound_card_is_used(server: StandIn, tmp_path: Path) -> None:
    """Answers are played instead of written to files, and /record hears the microphone."""
    (tmp_path / "sounddevice.py").write_text(SOUNDDEVICE)
    (tmp_path / "devices").mkdir()
    shown = piped(tmp_path, server, "Hello\n/record 1.5\n/record 60\n")
    assert not (DATA / "terminal-sound").exists()
    assert shown[2].startswith("recording 1.5 seconds")
    assert shown[3].startswith("assistant> I heard 1.5 seconds of sound.")
    assert shown[5].startswith("assistant> I heard 3.0 seconds of sound.")
    played = (tmp_path / "devices" / "speaker").read_bytes()
    answers = [turn.audio for turn in turns_of() if isinstance(turn, AssistantTurn) and turn.audio]
    assert played == b"".join(audio.read()[44:] for audio in answers)
    assert len(answers) == 3


def test_without_a_sound_card_answers_are_files(server: StandIn, tmp_path: Path) -> None:
    """The package `sounddevice` is installed, but there is no device."""
    (tmp_path / "sounddevice.py").write_text(SOUNDDEVICE)
    shown = piped(tmp_path, server, "/record\nHello\n")
    assert shown[1] == "! Error querying device -1"
    assert shown[3] == f"    {DATA}/terminal-sound/answer-1.wav"
    assert (DATA / "terminal-sound" / "answer-1.wav").exists()

"""The two chatbots among the examples, as their users meet them: one in a real terminal."""

from __future__ import annotations

import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

from conversation import (
    AssistantTurn,
    AudioInput,
    FileStore,
    UserTurn,
)
from conversation.testing import StandIn
from tests.samples import MP3, SOUND
from tests.terminals import (
    CTRL_C,
    CTRL_D,
    DEADLINE,
    PYTHON,
    SOUNDDEVICE,
    Running,
    Terminal,
    environment,
    turns_of,
)

ROOT = Path(__file__).parent.parent.parent
CHAT = str(ROOT / "examples" / "terminal_chat.py")
BOT = str(ROOT / "examples" / "async_bot.py")


@pytest.fixture
def server() -> Iterator[StandIn]:
    """A stand-in with the clock that other processes have."""
    with StandIn() as server:
        yield server


def piped(folder: Path, server: StandIn | None, lines: str, *arguments: str) -> list[str]:
    """The lines that the chat prints where it is no terminal."""
    done = subprocess.run(
        [*PYTHON, CHAT, *arguments],
        input=lines,
        cwd=folder,
        env=environment(server, folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout.splitlines()


def texts_of(session: str = "terminal") -> list[str]:
    """The words of its turns."""
    return [turn.text for turn in turns_of(session)]


# --- in a terminal --------------------------------------------------------------------------------


def test_a_chat_in_a_terminal_is_resumed(server: StandIn, tmp_path: Path) -> None:
    """Two turns, and later a third that knows both by voice; all words are shown again."""
    with Terminal(tmp_path, server, CHAT, "dogs", "--voice", "ash") as terminal:
        assert "session 'dogs' of 0 turns" in terminal.until("you> ")
        first = terminal.say("Is a dog a good friend?")
        assert first.startswith("it> You wrote: Is a dog a good friend? I recall 0")
        assert first.endswith("\n    dogs-sound/answer-1.wav")
        assert "I recall 1 of my earlier answers by voice" in terminal.say("Why?")
        terminal.press("/quit\n")
        terminal.end()
    words = texts_of("dogs")
    assert words[::2] == ["Is a dog a good friend?", "Why?"]
    with Terminal(tmp_path, server, CHAT, "dogs") as terminal:
        again = terminal.until("you> ")
        assert "session 'dogs' of 4 turns" in again
        assert [line.split(maxsplit=1)[1] for line in again.splitlines()[1:5]] == words
        assert "I recall 2 of my earlier answers by voice" in terminal.say("And cats?")
        terminal.press("/quit\n")
        terminal.end()
    assert len(turns_of("dogs")) == 6
    assert [request["audio"]["voice"] for request in server.requests] == ["ash"] * 3
    for number in (1, 2, 3):
        with wave.open(str(tmp_path / "dogs-sound" / f"answer-{number}.wav")) as sound:
            assert sound.getnframes() > sound.getframerate()


@pytest.mark.parametrize("key", [CTRL_D, CTRL_C])
def test_a_key_at_the_prompt_ends_it(key: str, server: StandIn, tmp_path: Path) -> None:
    """Without a word, and nothing that was said is lost."""
    with Terminal(tmp_path, server, CHAT) as terminal:
        terminal.until("you> ")
        terminal.say("Good morning")
        assert set(terminal.leave(key).strip()) <= set("^CD")
    assert texts_of()[0] == "Good morning"
    assert len(turns_of()) == 2


def test_ctrl_c_breaks_an_answer_off(server: StandIn, tmp_path: Path) -> None:
    """What had come is kept as interrupted, is sent as its words, and the chat goes on."""
    server.will_answer("One two three four five.", hold_after=4)
    with Terminal(tmp_path, server, CHAT) as terminal:
        terminal.until("you> ")
        terminal.press("Count\n")
        terminal.until("it> One two three")
        server.wait_until_held()
        shown = terminal.break_off()
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


def test_ctrl_c_in_the_sound_keeps_the_sound(server: StandIn, tmp_path: Path) -> None:
    """All words have come, and a part of their sound."""
    (tmp_path / "sounddevice.py").write_text(SOUNDDEVICE)
    (tmp_path / "devices").mkdir()
    server.will_answer("One two three.", hold_after=6)
    with Terminal(tmp_path, server, CHAT) as terminal:
        terminal.until("you> ")
        terminal.press("Count\n")
        terminal.until("it> One two three.**")
        assert "this part is kept" in terminal.break_off()
        terminal.press(CTRL_D)
        terminal.end()
    broken = turns_of()[1]
    assert isinstance(broken, AssistantTurn)
    assert broken.audio is not None
    assert broken.interrupted
    assert broken.audio.duration == pytest.approx(0.8)


def test_ctrl_c_before_a_word_leaves_the_question(server: StandIn, tmp_path: Path) -> None:
    """An empty line asks it again; where nothing is open, an empty line does nothing."""
    server.will_answer("Never heard.", hold_after=0)
    with Terminal(tmp_path, server, CHAT) as terminal:
        terminal.until("you> ")
        terminal.press("Hello?\n")
        server.wait_until_held()
        assert "interrupted before the first word" in terminal.break_off()
        assert len(turns_of()) == 1
        terminal.press("\n")
        assert "it> You wrote: Hello?" in terminal.until("\nyou> ")
        terminal.press("\n")
        assert terminal.until("you> ").strip() == "you>"
        terminal.press(CTRL_D)
        terminal.end()
    assert [turn.role for turn in turns_of()] == ["user", "assistant"]


# --- without a terminal ---------------------------------------------------------------------------


def test_it_can_be_piped_and_needs_no_key(tmp_path: Path) -> None:
    """There is no prompt then, and the stand-in answers."""
    first, *shown = piped(tmp_path, None, "Good morning\n/why\n/nonsense\nBye")
    assert "stand-in on this machine" in first
    assert shown[0].startswith("session 'terminal' of 0 turns")
    assert shown[1].startswith("it> You wrote: Good morning")
    assert shown[3] == "user: as it is"
    assert shown[4].startswith("assistant: voice, ")
    assert shown[5].startswith("/say FILE")
    assert shown[-2].startswith("it> You wrote: Bye I recall 1 of my earlier answers by voice")
    assert len(turns_of()) == 4
    # The new stand-in has never heard of it, and nobody sees an error.
    _, *shown = piped(tmp_path, None, "Back again\n/quit\nnever said\n")
    assert shown[0].startswith("session 'terminal' of 4 turns")
    assert "0 of my earlier answers by voice and 2 from transcripts" in shown[5]
    assert len(turns_of()) == 6


def test_nothing_to_read_ends_it(tmp_path: Path) -> None:
    """An empty input, and none at all; no session is made of it."""
    assert len(piped(tmp_path, None, "")) == 2
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", *PYTHON, CHAT]
    subprocess.run(closed, cwd=tmp_path, env=environment(None, tmp_path), check=True)
    assert not FileStore().list()


def test_undo_takes_the_last_exchange_back(server: StandIn, tmp_path: Path) -> None:
    """Its sound is written over by that of the next answer."""
    shown = piped(tmp_path, server, "One\n/undo\n/undo\nTwo\n")
    assert shown[3:5] == ["took back 2 turns", "there is nothing to take back"]
    assert texts_of()[0] == "Two"
    assert [path.name for path in (tmp_path / "terminal-sound").iterdir()] == ["answer-1.wav"]


@pytest.mark.parametrize("sound", [SOUND, MP3])
def test_a_file_is_said(sound: bytes, server: StandIn, tmp_path: Path) -> None:
    """WAV and MP3, whatever its name; it is kept with the session."""
    (tmp_path / "my voice").write_bytes(sound)
    duration = AudioInput(sound).duration
    shown = piped(tmp_path, server, "/say my voice\n")
    assert shown[1].startswith(f"it> I heard {duration:.1f} seconds of sound.")
    said = turns_of()[0]
    assert isinstance(said, UserTurn)
    assert isinstance(said.content[0], AudioInput)
    assert said.content[0].read() == sound
    shown = piped(tmp_path, server, "")
    assert shown[1] == "  user      (sound)"


def test_faults_are_one_line_and_the_chat_goes_on(server: StandIn, tmp_path: Path) -> None:
    """Bad files, bad commands, no microphone; nothing of it is in the session."""
    (tmp_path / "words.wav").write_text("no sound")
    (tmp_path / "sound.flac").write_bytes(b"fLaC" + bytes(34))
    (tmp_path / "empty.wav").touch()
    bad = ["/say nothere.wav", "/say .", "/say", "/say words.wav", "/say sound.flac"]
    bad += ["/say empty.wav", "/record", "/record soon"]
    shown = piped(tmp_path, server, "\n".join([*bad, "Hello", ""]))
    assert [line[:2] for line in shown[1:9]] == ["! "] * 8
    assert "nothere.wav" in shown[1]
    assert "flac" in shown[5]
    assert shown[9].startswith("it> You wrote: Hello")
    assert len(turns_of()) == 2


def test_a_server_that_fails_is_one_line(server: StandIn, tmp_path: Path) -> None:
    """Its refusal, and a connection that breaks in the middle; an empty line asks again."""
    server.will_fail(401, "Incorrect API key provided.", code="invalid_api_key")
    server.will_answer("One two three.", cut_after=3)
    shown = piped(tmp_path, server, "Hello\n\nGo on\n")
    assert shown[1] == "it> "
    assert shown[2].startswith("! ")
    assert "OPENAI_API_KEY" in shown[2]
    assert shown[3] == "it> One two"
    assert shown[4].startswith("! ")
    assert shown[5].startswith("it> You wrote: Go on")
    assert [turn.role for turn in turns_of()] == ["user", "assistant"] * 2
    assert texts_of()[1] == "One two"


@pytest.mark.parametrize(
    ("session", "words"), [("broken", "broken.json"), ("x" * 129, "1 to 128 UTF-8 bytes")]
)
def test_what_cannot_be_opened_is_one_line(session: str, words: str, tmp_path: Path) -> None:
    """A damaged session, and a name that is none."""
    store = FileStore()
    store.root.mkdir(parents=True)
    (store.root / "broken.json").write_text('{"conversation":1,\n')
    done = subprocess.run(
        [*PYTHON, CHAT, session],
        cwd=tmp_path,
        env=environment(None, tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("! ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


# --- with a sound card ----------------------------------------------------------------------------


def test_sound_is_played_where_it_can_be(server: StandIn, tmp_path: Path) -> None:
    """All of it, as it came; no file is written then. And the microphone is heard."""
    (tmp_path / "sounddevice.py").write_text(SOUNDDEVICE)
    (tmp_path / "devices").mkdir()
    shown = piped(tmp_path, server, "Hello\n/record 1.5\n/record 60\n")
    assert not (tmp_path / "terminal-sound").exists()
    assert shown[2].startswith("recording 1.5 seconds")
    assert shown[3].startswith("it> I heard 1.5 seconds of sound.")
    assert shown[5].startswith("it> I heard 3.0 seconds of sound.")
    played = (tmp_path / "devices" / "speaker").read_bytes()
    answers = [turn.audio for turn in turns_of() if isinstance(turn, AssistantTurn) and turn.audio]
    assert played == b"".join(audio.read()[44:] for audio in answers)
    assert len(answers) == 3


def test_without_a_sound_card_there_are_files(server: StandIn, tmp_path: Path) -> None:
    """The package is there, and no device."""
    (tmp_path / "sounddevice.py").write_text(SOUNDDEVICE)
    shown = piped(tmp_path, server, "/record\nHello\n")
    assert shown[1] == "! Error querying device -1"
    assert shown[3] == "    terminal-sound/answer-1.wav"
    assert (tmp_path / "terminal-sound" / "answer-1.wav").exists()


# --- several users in one process -----------------------------------------------------------------


def bot(folder: Path, server: StandIn | None, *names: str) -> subprocess.Popen[bytes]:
    """The other example, started."""
    return subprocess.Popen(
        [*PYTHON, "-u", BOT, *names],
        cwd=folder,
        env=environment(server, folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def output_of(process: subprocess.Popen[bytes]) -> str:
    """What it prints."""
    with process:
        out, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, out.decode()
    return out.decode()


def test_the_bot_serves_several_and_resumes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a session and a city of their own, and the tool is used for each."""
    monkeypatch.setenv("CONVERSATION_HOME", str(tmp_path / "async-bot"))
    names = {"ann": "Oslo", "bob": "Lima", "cid": "Turin"}
    for run in (1, 2):
        out = output_of(bot(tmp_path, None, *names))
        assert "Traceback" not in out
        for name, city in names.items():
            own = [line for line in out.splitlines() if line.startswith(f"{name}: ")]
            assert own[0] == f"{name}: {6 * (run - 1)} turns so far"
            call = f'{name}: weather({{"city":"{city}"}}) gave \'light rain in {city}\''
            assert call in own
            assert f"{name}: hears 0.4 s of sound" in own
            told = [line for line in own if "has the answer" in line]
            assert "a tool call" in told[0]
            assert f"The tool says light rain in {city}" in told[1]
            assert f"and {2 * (run - 1)} from transcripts" in told[2]
            turns = turns_of(name)
            roles = ["user", "assistant", "tool", "assistant", "user", "assistant"]
            assert [turn.role for turn in turns] == roles * run


def test_one_user_of_the_bot_does_not_wait_for_another(
    server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One stands still in the middle of an answer; the other one's are complete."""
    monkeypatch.setenv("CONVERSATION_HOME", str(tmp_path / "async-bot"))
    server.will_answer("Wait for it.", hold_after=3)
    with bot(tmp_path, server) as process:
        assert process.stdout is not None
        running = Running(process, process.stdout.fileno())
        running.until("has the answer: You wrote: Do I need an umbrella?")
        server.go_on()
        rest = running.end()
    assert "has the answer: Wait for it." in rest
    assert [len(turns_of(name)) for name in ("ann", "bob")] == [4, 4]


def test_what_fails_for_one_user_is_one_line(server: StandIn, tmp_path: Path) -> None:
    """The other one is served."""
    server.will_fail(400, "No.")
    out = output_of(bot(tmp_path, server))
    assert "Traceback" not in out
    assert out.count(": BadRequestError: ") == 1
    assert out.count("has the answer: You wrote: Do I need an umbrella?") == 1


def test_a_broken_answer_for_one_user_is_one_line(server: StandIn, tmp_path: Path) -> None:
    """Also one that the SDK cannot read; the other one is served."""
    server.will_send(b"data: {oops\n\n")
    out = output_of(bot(tmp_path, server))
    assert "Traceback" not in out
    assert out.count("has the answer: You wrote: Do I need an umbrella?") >= 1

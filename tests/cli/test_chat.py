"""`conversation chat`, in a terminal and through pipes."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conversation import (
    AssistantAudio,
    AssistantTurn,
    AudioInput,
    Conversation,
    FileStore,
    PostgresStore,
    UserTurn,
)
from conversation._cli.main import main
from conversation._values.conversion import encoded
from conversation.stores import Store
from conversation.testing import StandIn
from conversation.testing._voice import VOICES
from tests.cli.conftest import PROGRAM, run
from tests.samples import SOUND
from tests.terminals import (
    CTRL_C,
    CTRL_D,
    DEADLINE,
    PYTHON,
    SOUNDDEVICE,
    Terminal,
    environment,
    turns_of,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[StandIn]:
    """A stand-in with the real clock, as other processes have it."""
    with StandIn() as server:
        yield server


def test_chat_through_pipes_prints_only_answers(server: StandIn, tmp_path: Path) -> None:
    """Each line of input gives a line of output, and the session is resumed the next time."""
    done = run("chat", "x", "--voice", "ash", folder=tmp_path, server=server, lines="One\nTwo\n")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first.startswith("You wrote: One I recall 0")
    assert second.startswith("You wrote: Two I recall 1 of my earlier answers by voice")
    done = run("chat", "x", folder=tmp_path, server=server, lines="Three")
    assert "I recall 2 of my earlier answers by voice" in done.stdout
    assert [request["audio"]["voice"] for request in server.requests] == ["ash"] * 3
    assert len(turns_of("x")) == 6


def test_the_help_names_defaults_and_voices(capsys: pytest.CaptureFixture[str]) -> None:
    """`chat --help` names the default model, the voices, and no call of Python."""
    with pytest.raises(SystemExit):
        main(["chat", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "(default: gpt-audio-1.5)" in shown
    assert "(default: alloy)" in shown
    assert all(re.search(rf"\b{voice}\b", shown) for voice in VOICES)
    assert "Conversation(" not in shown


def test_chat_begins_with_an_audio_file(server: StandIn, tmp_path: Path) -> None:
    """`--audio` is sent before the input; a file that is not audio is refused, nothing saved."""
    (tmp_path / "voice").write_bytes(SOUND)
    done = run("chat", "--audio", "voice", folder=tmp_path, server=server, lines="And?\n")
    first, second = done.stdout.splitlines()
    assert first.startswith("I heard 0.1 seconds of sound.")
    assert second.startswith("You wrote: And?")
    (tmp_path / "words").write_text("no sound")
    done = run("chat", "y", "--audio", "words", folder=tmp_path, server=server)
    assert done.returncode == 1
    assert "must be WAV or MP3" in done.stderr
    assert [info.id for info in FileStore().list()] == ["chat"]


def test_other_formats_and_large_files_are_converted(server: StandIn, tmp_path: Path) -> None:
    """`--audio` and `/audio` send what is no small WAV or MP3 file as MP3."""
    pytest.importorskip("av", reason="needs the extra `formats`")
    (tmp_path / "voice.ogg").write_bytes(encoded([bytes(48_000)], "opus"))
    (tmp_path / "long.wav").write_bytes(AudioInput.from_pcm(bytes(16_000_000), 384_000).read())
    lines = "/audio long.wav\n"
    done = run("chat", "--audio", "voice.ogg", folder=tmp_path, server=server, lines=lines)
    first, second = done.stdout.splitlines()
    assert first.startswith("I heard 1.0 seconds of sound.")
    assert second.startswith("I heard 20.8 seconds of sound.")
    (tmp_path / "talk.wav").write_bytes(AudioInput.from_pcm(bytes(14_500_000), 4_000).read())
    done = run("chat", "--audio", "talk.wav", folder=tmp_path, server=server)
    assert "talk.wav: it is longer than half an hour. Shorten it" in done.stderr
    assert "max_seconds" not in done.stderr
    sounds = [turn.content[0] for turn in turns_of("chat") if isinstance(turn, UserTurn)]
    assert [part.format for part in sounds if isinstance(part, AudioInput)] == ["mp3", "mp3"]


def test_without_pyav_other_formats_are_refused_in_the_programs_words(
    server: StandIn, tmp_path: Path
) -> None:
    """The error names file, format and extra, and no call of Python."""
    (tmp_path / "av.py").write_text("raise ImportError('no av')")
    (tmp_path / "voice.ogg").write_bytes(b"OggS" + bytes(24) + b"OpusHead")
    (tmp_path / "paper").write_bytes(b"%PDF-1.7")
    for name, words in (("voice.ogg", "pip install '.[formats]'"), ("paper", "this is PDF")):
        done = run("chat", "--audio", name, folder=tmp_path, server=server)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert f"{name}: " in done.stderr
        assert words in done.stderr
        assert "AudioInput" not in done.stderr


def test_chat_without_a_key_uses_a_stand_in(tmp_path: Path) -> None:
    """It says so, saves the session, and refuses a session with other turns."""
    done = run("chat", "mine", folder=tmp_path, lines="Hello\n")
    assert done.returncode == 0
    assert "OPENAI_API_KEY is not set: a stand-in" in done.stderr
    assert done.stdout.startswith("You wrote: Hello")
    done = run("chat", "mine", folder=tmp_path, lines="Again\n")
    assert "0 of my earlier answers by voice and 1 from transcripts" in done.stdout
    assert run("chat", "silent", folder=tmp_path).returncode == 0
    assert [info.id for info in FileStore().list()] == ["mine"]
    with Conversation.open("real") as chat:
        chat.add_user("Hello")
        chat.add(AssistantTurn(audio=AssistantAudio("audio_" + "6" * 32, 9e9, "Hi")))
    before = (FileStore().root / "real.json").read_bytes()
    done = run("chat", "real", folder=tmp_path, lines="Hello\n")
    assert done.returncode == 2
    assert "has turns that a command's stand-in did not answer" in done.stderr
    assert (FileStore().root / "real.json").read_bytes() == before


def test_a_session_with_a_stand_in_can_continue_with_a_real_model(
    server: StandIn, tmp_path: Path
) -> None:
    """With a key the session is resumed; from then on a stand-in may not answer in it."""
    assert run("chat", "x", folder=tmp_path, lines="Hello\n").returncode == 0
    assert run("chat", "x", folder=tmp_path, server=server, lines="Again\n").returncode == 0
    done = run("chat", "x", folder=tmp_path, lines="And again\n")
    assert done.returncode == 2
    assert len(turns_of("x")) == 4


def test_an_error_ends_a_chat_through_pipes(server: StandIn, tmp_path: Path) -> None:
    """The error is one line, the exit status 1, and the question is kept."""
    server.will_fail(401, "Incorrect API key provided.", code="invalid_api_key")
    done = run("chat", "x", folder=tmp_path, server=server, lines="Hello\nnever asked\n")
    assert done.returncode == 1
    assert "OPENAI_API_KEY" in done.stderr
    assert "Your message is kept: `/retry` in `conversation chat x` asks again" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [turn.text for turn in turns_of("x")] == ["Hello"]


def test_play_needs_the_extra_and_a_loudspeaker(server: StandIn, tmp_path: Path) -> None:
    """`--play` plays all of the audio; without `sounddevice` or a device the error says which."""
    done = run("chat", "--play", folder=tmp_path, server=server, lines="Hello\n")
    if done.returncode:  # where the extra is not installed
        assert done.returncode == 2
        assert "pip install '.[sound]'" in done.stderr
    (tmp_path / "sounddevice.py").write_text(SOUNDDEVICE)
    done = run("chat", "none", "--play", folder=tmp_path, server=server, lines="Hello\n")
    assert done.returncode == 1
    assert "no loudspeaker" in done.stderr
    (tmp_path / "devices").mkdir()
    done = run("chat", "heard", "--play", folder=tmp_path, server=server, lines="Hello\n")
    assert (done.returncode, done.stderr) == (0, "")
    turn = turns_of("heard")[1]
    assert isinstance(turn, AssistantTurn)
    assert turn.audio
    assert (tmp_path / "devices" / "speaker").read_bytes() == turn.audio.read()[44:]


def test_chat_in_a_terminal(server: StandIn, tmp_path: Path) -> None:
    """Answers are coloured, /quit leaves the session whole, and resuming shows its turns again."""
    program = (*PROGRAM, "chat", "dogs")
    with Terminal(tmp_path, server, *program) as terminal:
        assert "session dogs, 0 turns" in terminal.until("user> ")
        first = terminal.say("Is a dog a friend?")
        assert "You wrote: Is a dog a friend? I recall 0" in first
        assert "\x1b[" in first
        assert ".wav" in first
        assert "I recall 1 of my earlier answers by voice" in terminal.say("Why?")
        terminal.press("/quit\n")
        terminal.end()
    words = [turn.text for turn in turns_of("dogs")]
    assert words[::2] == ["Is a dog a friend?", "Why?"]
    with Terminal(tmp_path, server, *program) as terminal:
        again = terminal.until("user> ")
        assert "session dogs, 4 turns" in again
        assert all(word in " ".join(again.split()) for word in words)
        assert "I recall 2 of my earlier answers by voice" in terminal.say("And cats?")
        terminal.leave(CTRL_D)
    assert len(turns_of("dogs")) == 6


def test_chat_says_what_is_special_about_an_answer(server: StandIn, tmp_path: Path) -> None:
    """It was cut, written, refused, or calls a tool; `/why` numbers turns, with their words."""
    cases: dict[str, dict[str, Any]] = {
        "it reached the most": {"text": "One", "finish_reason": "length"},
        "by the content filter": {"text": "One", "finish_reason": "content_filter"},
        "the model did not speak": {"text": "One", "spoken": False},
        "the model refused to answer": {"refusal": "No."},
        "called the tool 'weather', which": {"tool_calls": [("weather", {})]},
    }
    with Terminal(tmp_path, server, *PROGRAM, "chat", "x") as terminal:
        assert "starting" in terminal.until("user> ")
        for words, answer in cases.items():
            server.will_answer(**answer)
            shown = terminal.words("Hello " + "dear " * 9)
            assert words in shown
            assert ("\x1b[K" in shown) == ("tool_calls" in answer), "no empty line"
        shown = terminal.say("/why")
        assert "1 user: as it is · Hello dear dear dear dear dear dear dear…" in shown
        assert "2 assistant: voice" in shown
        terminal.leave(CTRL_D)


def test_a_path_is_shown_once(server: StandIn, tmp_path: Path) -> None:
    """Later answers show the name of their sound alone; the greeting breaks between words."""
    with Terminal(tmp_path, server, *PROGRAM, "chat", "x", COLUMNS="44") as terminal:
        assert "/help lists the\n" in terminal.until("user> ")
        folder = str(FileStore().root / "x.audio")
        assert folder in terminal.say("One")
        server.will_fail(401)
        assert "Your message is kept" in terminal.words("Two")
        shown = terminal.say("Two")  # the same again is asked again
        assert "asking again" in " ".join(shown.split())
        assert ".wav" in shown
        assert folder not in shown
        assert len(turns_of("x")) == 4
        terminal.leave(CTRL_D)


def begin_answer(terminal: Terminal, server: StandIn) -> None:
    """Ask at the first prompt; the answer stops after "One two three"."""
    server.will_answer("One two three four five.", hold_after=4)
    terminal.until("user> ")
    terminal.press("Count\n")
    terminal.until("One two three")
    server.wait_until_held()


def test_ctrl_c_interrupts_an_answer(server: StandIn, tmp_path: Path) -> None:
    """The part that arrived is kept as an interrupted turn, and the chat goes on."""
    with Terminal(tmp_path, server, *PROGRAM, "chat") as terminal:
        begin_answer(terminal, server)
        shown = terminal.interrupt()
        assert "The part of the answer that arrived is kept. /retry asks again" in " ".join(
            shown.split()
        )
        assert "Traceback" not in shown
        assert "2 assistant: transcript, interrupted · One two three" in terminal.say("/why")
        assert "0 of my earlier answers by voice and 1 from" in terminal.words("Go on")
        assert "removed 2 turns" in terminal.say("/undo")
        terminal.leave(CTRL_D)
    broken = turns_of("chat")[1]
    assert isinstance(broken, AssistantTurn)
    assert (broken.text, broken.interrupted) == ("One two three", True)
    assert len(turns_of("chat")) == 2


def test_an_empty_line_retries(server: StandIn, tmp_path: Path) -> None:
    """After an interrupted or a failed request, an empty line repeats it; errors are one line."""
    server.will_answer("Never heard.", hold_after=0)
    server.will_fail(401, "No.")
    with Terminal(tmp_path, server, *PROGRAM, "chat") as terminal:
        terminal.until("user> ")
        terminal.press("Hello?\n")
        server.wait_until_held()
        assert "interrupted. Your message is kept: /retry asks again" in terminal.interrupt()
        assert len(turns_of("chat")) == 1
        assert "the server refused it (401): No. /retry asks again" in terminal.say("")
        assert "You wrote: Hello?" in terminal.say("")
        assert "nothere.wav: No such file" in terminal.say("/audio nothere.wav")
        terminal.leave(CTRL_D)
    assert [turn.role for turn in turns_of("chat")] == ["user", "assistant"]


def test_retry_asks_for_another_answer(server: StandIn, tmp_path: Path) -> None:
    """`/retry` replaces a cut answer or a whole one; if it fails, the earlier answer stays."""
    server.will_answer("One two three", cut_after=6)
    for answer in ("First.", "Second."):
        server.will_answer(answer)
    server.will_fail(401, "No.")
    with Terminal(tmp_path, server, *PROGRAM, "chat") as terminal:
        terminal.until("user> ")
        assert "there is nothing to ask again" in terminal.say("/retry")
        assert "/retry asks again" in terminal.words("Count")
        assert "First." in terminal.say("/retry")
        assert "Second." in terminal.say("/retry")
        with Conversation.open("chat", read_only=True) as chat:
            spent = chat.usage
        assert "The earlier answer stays" in terminal.words("/retry")
        terminal.leave(CTRL_D)
    assert server.requests[-1]["messages"] == [{"role": "user", "content": "Count"}]
    assert [turn.text for turn in turns_of("chat")] == ["Count", "Second."]
    with Conversation.open("chat", read_only=True) as chat:
        assert chat.usage == spent


def test_the_earlier_answer_goes_only_when_the_other_one_is_there(
    server: StandIn, tmp_path: Path
) -> None:
    """A kill, Ctrl-C or a break during `/retry` loses nothing of the answer that it replaces."""
    server.will_answer("First.")
    with Terminal(tmp_path, server, *PROGRAM, "chat") as terminal:
        terminal.until("user> ")
        terminal.say("Count")
        before = turns_of("chat")
        for script in ({"cut_after": 5}, {"fail_after": 5}):
            server.will_answer("Second and third.", **script)  # type: ignore[arg-type]
            told = terminal.words("/retry")
            assert told.endswith("The earlier answer stays."), told
            assert "arrived is kept" not in told
        server.will_answer("Second and third.", hold_after=5)
        terminal.press("/retry\n")
        server.wait_until_held()
        assert "interrupted. The earlier answer stays." in terminal.interrupt()
        server.will_answer("Second and third.", hold_after=5)
        terminal.press("/retry\n")
        server.wait_until_held()
        terminal.process.kill()
        terminal.process.wait()
    assert turns_of("chat") == before
    assert before[1].text == "First."


def test_of_two_cut_answers_the_longer_one_stays(server: StandIn, tmp_path: Path) -> None:
    """`/retry` of a part of an answer that brings another part keeps the one with more words."""
    for cut_after in (6, 4, 8):
        server.will_answer("One two three four five six", cut_after=cut_after)
    with Terminal(tmp_path, server, *PROGRAM, "chat") as terminal:
        terminal.until("user> ")
        terminal.say("Count")
        words = turns_of("chat")[1].text
        assert "The earlier answer stays." in terminal.words("/retry")
        assert turns_of("chat")[1].text == words
        terminal.say("/retry")
        assert turns_of("chat")[1].text.startswith(f"{words} ")


def test_commands(server: StandIn, tmp_path: Path) -> None:
    """Commands change or show the session; an unknown one is named, with one that is near."""
    with Terminal(tmp_path, server, *PROGRAM, "chat", "x") as terminal:
        terminal.until("user> ")
        assert "nothing yet" in terminal.say("/why")
        assert "there is nothing to remove" in terminal.say("/undo")
        assert "it has no title" in terminal.say("/title")
        terminal.say("Hello")
        assert "Dogs and cats" in terminal.say("/title  Dogs and cats")
        shown = terminal.words("/help")
        for command in ("/retry ", "/undo ", "/record [", "/audio FILE", "/title [", "/why "):
            assert command in shown
        assert "/udno is no command. Did you mean /undo?" in terminal.say("/udno")
        assert "/xyz is no command. /help" in terminal.say("/xyz 1")
        assert "name a sound file: /audio FILE" in terminal.say("/audio")
        assert "/undo takes nothing behind it" in terminal.say("/undo is a command")
        assert "You wrote: /undo is a command" in terminal.say("//undo is a command")
        assert "You wrote: /usr/bin is a folder" in terminal.say("/usr/bin is a folder")
        assert "removed 2 turns" in terminal.say("/UNDO")
        terminal.say("And cats?")
        terminal.say("And fish?")
        terminal.leave(CTRL_D)
    assert len(turns_of("x")) == 8
    with Terminal(tmp_path, server, *PROGRAM, "chat", "x") as terminal:
        assert "8 turns (Dogs and cats), the last 6 of them here" in terminal.until("user> ")
        terminal.leave(CTRL_D)
    with Conversation.open("x", read_only=True) as chat:
        assert chat.title == "Dogs and cats"


def test_two_chats_in_one_session_see_each_other(server: StandIn, tmp_path: Path) -> None:
    """`/why` and `/title` look at what the other one wrote; `/undo` says what it removes."""
    arguments = (*PROGRAM, "chat", "x")
    with Terminal(tmp_path, server, *arguments) as one, Terminal(tmp_path, server, *arguments) as b:
        one.until("user> ")
        b.until("user> ")
        one.say("Hello from one")
        b.say("/title Dogs")
        b.say("Hello from the other")
        assert "3 user: as it is · Hello from the other" in one.say("/why")
        assert "Dogs" in one.say("/title")
        assert "removed 2 turns · Hello from the other" in one.say("/undo")
        assert "Hello from the other" not in b.say("/why")
    assert [turn.text for turn in turns_of("x")][::2] == ["Hello from one"]


def test_recording(server: StandIn, tmp_path: Path) -> None:
    """`/record` sends what the microphone hears until Ctrl-C, Enter or so many seconds."""
    (tmp_path / "sounddevice.py").write_text(SOUNDDEVICE)
    with Terminal(tmp_path, server, *PROGRAM, "chat") as terminal:
        terminal.until("user> ")
        assert "no microphone to record from" in terminal.say("/record")
        (tmp_path / "devices").mkdir()
        assert "I heard 3.0 seconds" in terminal.words("/record")
        assert "I heard 0.5 seconds" in terminal.words("/record 0.5")
        assert "/record takes seconds, at most 290" in terminal.words("/record long")
        assert "nothing was recorded" in terminal.say("/record 0.01\n")
        terminal.leave(CTRL_D)
    assert len(turns_of("chat")) == 4
    (tmp_path / "sounddevice.py").write_text("raise ImportError")
    done = run("chat", folder=tmp_path, server=server, lines="/record\n")
    assert (
        "! /record needs PortAudio and the extra `sound`: pip install '.[sound]'\n" in done.stderr
    )


def test_the_real_microphone(server: StandIn, tmp_path: Path) -> None:
    """`/record` hears for a moment, where there is a microphone."""
    try:
        devices = importlib.import_module("sounddevice")
        devices.query_devices(kind="input")
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        pytest.skip(f"needs the extra `sound` and a microphone ({error})")
    done = run("chat", folder=tmp_path, server=server, lines="/record 0.5\n")
    assert "I heard 0.5 seconds" in done.stdout


def test_pasted_lines_are_one_message(server: StandIn, tmp_path: Path) -> None:
    """Lines that are pasted at once are one message, and none of them is a command."""
    with Terminal(tmp_path, server, *PROGRAM, "chat") as terminal:
        terminal.until("user> ")
        terminal.paste("One\r/undo\nthree\n")
        assert "You wrote: One /undo three" in terminal.words("")
        terminal.paste("/undo")
        assert "You wrote: /undo" in terminal.say("")
        (tmp_path / "voice of ann").write_bytes(SOUND)
        terminal.press("/audio ")
        terminal.paste("voice\\ of\\ ann")
        assert "I heard 0.1 seconds" in terminal.say("")
        terminal.leave(CTRL_D)
    words = [turn.text for turn in turns_of("chat")[::2]]
    assert words == ["One\n/undo\nthree", "/undo", ""]
    with Terminal(tmp_path, server, *PROGRAM, "chat", "early") as terminal:
        begin_answer(terminal, server)
        terminal.paste("One\n/undo\n")
        server.go_on()
        assert "/undo" not in terminal.until("\nuser> ")
        assert "You wrote: One /undo" in terminal.words("")
        terminal.leave(CTRL_D)
    with Terminal(tmp_path, server, *PROGRAM, "chat", "dumb", TERM="dumb") as terminal:
        terminal.until("user> ")
        terminal.press("One\n/undo\nthree\n")
        terminal.until("\nuser> ")
        assert "removed 2 turns" in terminal.say("/undo")
        terminal.leave(CTRL_D)
    assert turns_of("dumb") == ()
    (tmp_path / "readline.py").write_text('"""As libedit, which tells nothing."""')
    with Terminal(tmp_path, server, *PROGRAM, "chat", "other") as terminal:
        terminal.until("user> ")
        terminal.press("One\n/undo\nthree\n")
        assert "You wrote: One /undo three" in " ".join(terminal.until("\nuser> ").split())
        terminal.leave(CTRL_D)


def test_notes_have_lines_of_their_own(server: StandIn, tmp_path: Path) -> None:
    """Notes before or within an answer have lines of their own."""

    def chunk(**audio: str) -> dict[str, object]:
        delta = {"audio": {"id": "audio_" + "6" * 32, **audio}}
        return {"choices": [{"index": 0, "delta": delta}]}

    with Terminal(tmp_path, server, *PROGRAM, "chat", NO_COLOR="1") as terminal:
        terminal.until("user> ")
        terminal.say("One")
        turn = turns_of("chat")[1]
        assert isinstance(turn, AssistantTurn)
        assert turn.audio
        server.forget(str(turn.audio.id))
        lines = seen(terminal.say("Two"))
        assert lines[0].startswith("· the server lost 1 audio id. Sending")
        assert lines[1].startswith("assistant> You wrote: Two")
        server.will_stream([chunk(transcript="Very "), chunk(data="?"), chunk(transcript="good.")])
        assert seen(terminal.say("Three"))[:3] == [
            "assistant> Very",
            "! skipping a piece of sound that is not base64: '?'",
            "    good.",
        ]
        terminal.leave(CTRL_D)


def seen(shown: str) -> list[str]:
    """Return the lines that a terminal shows, of which some were erased."""
    return [line.rpartition("\r\x1b[K")[2] for line in shown.split("\n")]


def test_a_setting_is_saved_once_it_gave_an_answer(server: StandIn, tmp_path: Path) -> None:
    """A refused setting begins no session, and does not replace one that is saved."""
    wrong = ("--model", "typo", "--voice", "echo", "--instructions", "Be brief.")
    done = run("chat", "x", *wrong, folder=tmp_path, server=server, lines="Hello\n")
    assert done.returncode == 1
    assert "refused it (404)" in done.stderr
    assert not [path for path in FileStore().root.rglob("*") if path.is_file()]
    right = ("--voice", "echo", "--instructions", "Be brief.")
    assert run("chat", "x", *right, folder=tmp_path, server=server, lines="Hi\n").returncode == 0
    before = settings_of("x")
    assert before == {"voice": "echo", "instructions": "Be brief."}
    with Terminal(tmp_path, server, *PROGRAM, "chat", "x", *wrong) as terminal:
        terminal.until("\nuser> ")
        assert "Your message was removed" in terminal.words("Hello")
        terminal.leave(CTRL_D)
    assert settings_of("x") == before
    assert [turn.text for turn in turns_of("x")][::2] == ["Hi"]


def settings_of(session: str) -> object:
    """Return the settings that are saved with a session."""
    return json.loads((FileStore().root / f"{session}.json").read_bytes())["settings"]


@pytest.mark.parametrize("is_database", [False, True], ids=["files", "postgres"])
def test_a_refusal_in_a_terminal_begins_no_session(
    is_database: bool, server: StandIn, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A refused first message saves nothing; one that can be retried is saved."""
    store: Store = FileStore()
    place = str(FileStore().root)
    if is_database:
        postgres, schema = map(request.getfixturevalue, ("postgres", "schema"))
        store, place = PostgresStore(postgres.url, schema=schema), f"{postgres.url}?schema={schema}"
    server.will_fail(400, "Bad sound.")
    with Terminal(tmp_path, server, *PROGRAM, "chat", "x", "--store", place) as terminal:
        terminal.until("user> ")
        terminal.say("Hello")
        assert not store.list()
        server.will_fail(401, "No.")
        terminal.say("Again")
        assert [info.id for info in store.list()] == ["x"]
        assert "You wrote: Again" in terminal.say("/retry")
        terminal.leave(CTRL_D)
    with Conversation.open("x", store=store, read_only=True) as chat:
        assert [turn.text for turn in chat.turns][:1] == ["Again"]


def test_ctrl_c_at_the_prompt_drops_the_line(server: StandIn, tmp_path: Path) -> None:
    """Ctrl-C drops the line; twice in a row it ends the chat, without a traceback."""
    with Terminal(tmp_path, server, *PROGRAM, "chat") as terminal:
        terminal.until("user> ")
        terminal.press("Never sent")
        terminal.until("Never sent")
        assert "Ctrl-C again" in terminal.interrupt()
        assert "You wrote: Hello" in terminal.say("Hello")
        assert "Ctrl-C again" in terminal.interrupt()
        assert "Traceback" not in terminal.leave(CTRL_C)
    assert turns_of("chat")[0].text == "Hello"


def test_a_hang_up_keeps_what_an_answer_has_brought(server: StandIn, tmp_path: Path) -> None:
    """Closing the terminal in the middle of an answer leaves an interrupted turn."""
    with Terminal(tmp_path, server, *PROGRAM, "chat") as terminal:
        begin_answer(terminal, server)
        assert terminal.hang_up() != 0
    broken = turns_of("chat")[1]
    assert isinstance(broken, AssistantTurn)
    assert (broken.text, broken.interrupted) == ("One two three", True)


def test_input_that_is_no_text_ends_no_chat(server: StandIn, tmp_path: Path) -> None:
    """Bytes of a pipe that are not UTF-8 are replaced."""
    done = subprocess.run(
        [*PYTHON, *PROGRAM, "chat"],
        input=b"caf\xe9\n",
        cwd=tmp_path,
        env={**environment(server, tmp_path), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        check=False,
        timeout=DEADLINE,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith("You wrote: caf\ufffd".encode())


def test_ctrl_c_while_waiting_for_the_lock(server: StandIn, tmp_path: Path) -> None:
    """Ctrl-C before the lock says that nothing was sent, and shows no file of an earlier answer."""
    program = (*PROGRAM, "chat", "shared")
    with (
        Terminal(tmp_path, server, *program) as mine,
        Terminal(tmp_path, server, *program) as theirs,
    ):
        for terminal in (mine, theirs):
            terminal.until("user> ")
        theirs.say("First")
        server.will_answer("Wait for it.", hold_after=0)
        theirs.press("Second\n")
        server.wait_until_held()
        mine.press("Blocked\n")
        mine.until("assistant> ")
        shown = mine.interrupt()
        assert "Nothing was sent" in shown
        assert ".wav" not in shown
        server.go_on()
        theirs.until("\nuser> ")
        assert "You wrote: Third" in mine.say("Third")
    assert [turn.text for turn in turns_of("shared")][::2] == ["First", "Second", "Third"]


def test_an_error_does_not_end_a_chat_in_a_terminal(server: StandIn, tmp_path: Path) -> None:
    """If `--audio` fails, the error is printed and an empty line retries."""
    (tmp_path / "voice").write_bytes(SOUND)
    server.will_fail(401, "No.")
    with Terminal(tmp_path, server, *PROGRAM, "chat", "--audio", "voice") as terminal:
        assert "refused it (401)" in terminal.until("\nuser> ")
        assert "I heard 0.1 seconds" in terminal.say("")
        terminal.leave(CTRL_D)

"""`conversation say`: one exchange for scripts, and what is left of one that fails."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import pytest

from conversation import AssistantTurn, AudioInput, Conversation, FileStore, PostgresStore, UserTurn
from conversation._cli.session import opened_session
from conversation._cli.wording import Remedies, said
from conversation._values.sound import format_of
from conversation.testing import StandIn
from tests.cli.conftest import HOSTILE, Run
from tests.postgres import Postgres
from tests.samples import SOUND
from tests.terminals import turns_of

pytestmark = pytest.mark.usefixtures("default_server")


def test_the_answer_is_printed(cli: Run, server: StandIn) -> None:
    """`say` prints the answer alone; it begins a session, and the next call goes on with it."""
    server.will_answer(f"Good\nmorning. {HOSTILE}")
    status, out, err = cli("say", "ann", "Hello", "there")
    assert (status, err) == (0, "")
    assert out.startswith("Good\nmorning. red \ufffd[31m")
    server.will_answer("Well.", spoken=False)
    assert cli("say", "ann", "--", "-How are you?") == (0, "Well.\n", "")
    assert [turn.text for turn in turns_of("ann")[::2]] == ["Hello there", "-How are you?"]


def test_text_comes_from_standard_input(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard input is one message; if it is empty, nothing is sent."""
    monkeypatch.setattr("sys.stdin", io.StringIO("One\n\ntwo\n"))
    assert cli("say", "ann", "-")[0] == 0
    assert turns_of("ann")[0].text == "One\n\ntwo"
    monkeypatch.setattr("sys.stdin", io.StringIO(" \n"))
    status, out, err = cli("say", "ann", "-")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert len(turns_of("ann")) == 2


def test_speech_is_said(cli: Run, tmp_path: Path) -> None:
    """`say` sends a sound file, alone or behind a text."""
    path = tmp_path / "question.wav"
    path.write_bytes(SOUND)
    assert cli("say", "ann", "--audio", str(path))[0] == 0
    assert cli("say", "ann", "Listen:", "--audio", str(path))[0] == 0
    first, second = (turn for turn in turns_of("ann") if isinstance(turn, UserTurn))
    assert [type(part) for part in first.content] == [AudioInput]
    assert [type(part) for part in second.content] == [str, AudioInput]


def test_the_sound_of_the_answer_is_saved(cli: Run, server: StandIn, tmp_path: Path) -> None:
    """`--save` writes the sound; an answer in writing has none, and makes the exit status 1."""
    path = tmp_path / "answer.wav"
    status, out, err = cli("say", "ann", "Hello", "--save", str(path))
    assert (status, err) == (0, "")
    assert out
    answer = turns_of("ann")[-1]
    assert isinstance(answer, AssistantTurn)
    assert answer.audio is not None
    assert path.read_bytes() == answer.audio.read()
    other = tmp_path / "answer.mp3"
    status, out, err = cli("say", "ann", "--retry", "--save", str(other))
    assert (status, out, other.exists()) == (2, "", False)
    assert "the answer is there already, as wav" in err
    server.will_answer("Only words.", spoken=False)
    status, out, err = cli("say", "ann", "Again", "--save", str(tmp_path / "none.wav"))
    assert (status, out) == (1, "Only words.\n")
    assert "none.wav was not written" in err
    assert not (tmp_path / "none.wav").exists()


def test_json_is_the_entry_that_show_prints(cli: Run) -> None:
    """`say --json` prints the keys and values of `show --json`, and nothing else."""
    assert cli("say", "ann", "Hello")[0] == 0
    status, out, _ = cli("say", "ann", "And again", "--json")
    assert status == 0
    assert json.loads(out)["sent"]["form"] == "voice"
    shown = json.loads(cli("show", "ann", "--json")[1])["turns"][-1]
    assert json.loads(out) | {"sent": None} == shown | {"sent": None}


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("",),
        ("--retry", "Hello"),
        ("--retry", "--audio", "x.wav"),
        ("Hello", "--save", "."),
        ("Hello", "--save", "nowhere/x.wav"),
    ],
)
def test_wrong_usage_sends_nothing(arguments: tuple[str, ...], cli: Run, server: StandIn) -> None:
    """Wrong usage of `say` is one line on stderr, sends nothing, and begins no session."""
    status, out, err = cli("say", "ann", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert not server.requests
    assert not FileStore().list()


@pytest.mark.parametrize("arguments", [("say", "ann", "Hello"), ("chat", "ann")])
def test_an_empty_name_of_a_sound_file_is_refused(
    arguments: tuple[str, ...], cli: Run, server: StandIn
) -> None:
    """A script whose variable is empty sends no message without its sound."""
    with pytest.raises(SystemExit, match="2"):
        cli(*arguments, "--audio", "")
    assert not server.requests


def test_a_failure_is_retried(cli: Run, server: StandIn) -> None:
    """`--retry` after a failure says nothing twice, and asks for no answer twice."""
    server.will_fail(401)
    status, out, err = cli("say", "an ne", "Hello")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "Your message is kept: `conversation say 'an ne' --retry` asks again" in err
    status, answer, _ = cli("say", "an ne", "--retry")
    assert status == 0
    before = len(server.requests)
    assert cli("say", "an ne", "--retry")[:2] == (0, answer)
    assert len(server.requests) == before
    with Conversation.open("an ne") as chat:
        assert [turn.role for turn in chat.turns] == ["user", "assistant"]


def test_a_cut_answer_is_asked_for_anew(cli: Run) -> None:
    """`--retry` replaces a part of an answer, as an interrupted chat leaves it."""
    with Conversation.open("ann") as chat:
        chat.add_user("Hello")
        chat.add(AssistantTurn(content="Good m", interrupted=True))
    status, out, _ = cli("say", "ann", "--retry")
    assert status == 0
    assert "Good m" not in out
    assert [turn.role for turn in turns_of("ann")] == ["user", "assistant"]
    status, _, err = cli("say", "nobody", "--retry")
    assert (status, "there is no session 'nobody'" in err) == (1, True)
    assert len(FileStore().list()) == 1


def test_a_cut_answer_stays_if_there_is_no_other(cli: Run, server: StandIn) -> None:
    """A `--retry` that fails loses nothing of what has arrived; the next one asks again."""
    with Conversation.open("ann") as chat:
        chat.add_user("Hello")
        chat.add(AssistantTurn(content="Good m", interrupted=True))
    for status in (400, 401):
        server.will_fail(status, "No.")
        assert cli("say", "ann", "--retry")[0] == 1
        assert [turn.text for turn in turns_of("ann")] == ["Hello", "Good m"]
    assert cli("say", "ann", "--retry")[0] == 0
    assert len(turns_of("ann")) == 2


def test_another_answer_counts_what_was_spent(cli: Run) -> None:
    """The tokens of the answer that is replaced still count, and nothing else is saved."""
    with Conversation.open("ann") as chat:
        chat.say("One")
        chat.say("Two")
        chat.truncate(0.1)
        spent = chat.usage
    assert cli("say", "ann", "--retry")[0] == 0
    with Conversation.open("ann", read_only=True) as chat:
        last = chat.turns[-1]
        assert isinstance(last, AssistantTurn)
        assert last.usage
        assert chat.usage == spent + last.usage
        assert [*turns_of("ann")] == [*chat.turns]
    assert [info.id for info in FileStore().list()] == ["ann"]


def test_another_answer_notes_a_lost_id(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier answer whose id the server lost is noted in the session as lost."""
    with StandIn() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        with Conversation.open("ann", client=server.client()) as chat:
            first = chat.say("One")
            chat.say("Two")
            chat.truncate(0.1)
        assert first.audio
        server.forget(first.audio.id or "")
        assert cli("say", "ann", "--retry")[0] == 0
        assert len(server.requests) == 4
    answers = [turn for turn in turns_of("ann") if isinstance(turn, AssistantTurn)]
    assert [turn.audio and turn.audio.lost for turn in answers] == [True, False]


@pytest.mark.usefixtures("server")
def test_an_interruption_tells_what_became_of_the_message() -> None:
    """After Ctrl-C the error says that the message is kept, and how to go on; or that none is."""
    options = argparse.Namespace(id="ann", model=None, voice=None, instructions=None)
    with opened_session(options, FileStore()) as session:

        def told(*added: UserTurn | AssistantTurn) -> str:
            try:
                with session.exchange():
                    session.conversation.extend(added)
                    raise KeyboardInterrupt
            except KeyboardInterrupt as interrupted:
                return said(interrupted, Remedies("`again`"))

        assert told() == "interrupted. Nothing was sent."
        asked, part = UserTurn("Hello"), AssistantTurn(content="Go", interrupted=True)
        assert told(asked) == "interrupted. Your message is kept: `again` asks again."
        assert told() == "interrupted. Your message is kept: `again` asks again."
        kept = "interrupted. The part of the answer that arrived is kept. `again` asks again."
        assert told(part) == kept


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk")
def test_a_file_that_cannot_be_written_is_named(cli: Run) -> None:
    """The answer is printed and kept: its sound can be written elsewhere without asking again."""
    status, answer, err = cli("say", "ann", "Hello", "--save", "/dev/full")
    assert (status, "/dev/full could not be written (No space left on device)" in err) == (1, True)
    assert cli("say", "ann", "--retry")[:2] == (0, answer)


def test_a_refusal_leaves_nothing(cli: Run) -> None:
    """A setting that is refused begins no session, and is not saved in one."""
    status, _, err = cli("say", "ann", "Hello", "--model", "typo")
    assert status == 1
    assert "typo" in err
    assert not FileStore().list()
    assert cli("say", "ann", "Hello", "--voice", "ash")[0] == 0
    assert cli("say", "ann", "Hello", "--model", "typo")[0] == 1
    assert json.loads(cli("show", "ann", "--json")[1])["settings"] == {"voice": "ash"}
    assert len(turns_of("ann")) == 2
    with Conversation.open("titled") as chat:
        chat.set_title("Later")
    assert cli("say", "titled", "Hello", "--model", "typo")[0] == 1
    assert FileStore().exists("titled")


def test_without_a_key_a_stand_in_answers(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in's answer has a note on stderr; sessions with a real model's turns are refused."""
    assert cli("say", "real", "Hello")[0] == 0
    monkeypatch.delenv("OPENAI_API_KEY")
    status, out, err = cli("say", "ann", "Hello")
    assert (status, err.count("\n")) == (0, 1)
    assert "stand-in" in err
    assert "I recall" in out
    assert cli("say", "real", "Hello")[0] == 2
    assert len(turns_of("real")) == 2


def test_say_in_a_database(cli: Run, postgres: Postgres, schema: str) -> None:
    """`say` works in a database, and a refusal begins no session there."""
    place = f"{postgres.url}?schema={schema}"
    assert cli("say", "ann", "Hello", "--store", place)[0] == 0
    assert cli("say", "bob", "Hello", "--store", place, "--model", "typo")[0] == 1
    store = PostgresStore(postgres.url, schema=schema)
    assert [info.id for info in store.list()] == ["ann"]


def test_the_format_of_the_sound_follows_the_name_of_its_file(
    cli: Run, server: StandIn, tmp_path: Path
) -> None:
    """For this exchange alone; names in whose format no model answers are refused before it."""
    for name, found in (("x.MP3", "mp3"), ("x.ogg", "opus"), ("x.pcm", "pcm16"), ("x", "wav")):
        path = tmp_path / name
        assert cli("say", "ann", "Hello", "--save", str(path))[::2] == (0, "")
        assert server.requests[-1]["audio"]["format"] == found
        assert format_of(path.read_bytes()) == (None if found == "pcm16" else found)
    assert not json.loads(cli("show", "ann", "--json")[1])["settings"]
    sent = len(server.requests)
    status, _, err = cli("say", "ann", "Hello", "--save", str(tmp_path / "x.m4a"))
    assert (status, len(server.requests)) == (2, sent)
    assert "do not come as .m4a" in err


def test_a_text_in_place_of_the_session_is_named(cli: Run) -> None:
    """A forgotten ID is told from a text that is empty."""
    assert "'Is a dog good?' was taken for the session" in cli("say", "Is a dog good?")[2]
    assert "the text is empty" in cli("say", "ann", " ")[2]


@pytest.mark.parametrize("is_sound", [False, True])
def test_a_message_without_an_answer_is_asked_again(
    is_sound: bool, cli: Run, server: StandIn, tmp_path: Path
) -> None:
    """The same message is not added twice, another one is."""
    (tmp_path / "a.wav").write_bytes(SOUND)
    said = ["--audio", str(tmp_path / "a.wav")] if is_sound else ["Hello"]
    server.will_fail(401)
    assert cli("say", "ann", *said)[0] == 1
    assert cli("say", "ann", *said)[0] == 0
    assert len(turns_of("ann")) == 2
    assert cli("say", "ann", *said)[0] == 0  # it is answered: said once more
    assert len(turns_of("ann")) == 4
    server.will_fail(401)
    assert cli("say", "ann", *said)[0] == 1
    assert cli("say", "ann", "Another")[0] == 0
    assert [turn.role for turn in turns_of("ann")[-3:]] == ["user", "user", "assistant"]


def test_a_model_that_does_not_speak_is_named(cli: Run) -> None:
    """The refusal comes with the remedy."""
    status, _, err = cli("say", "ann", "Hello", "--model", "gpt-4o-mini")
    assert status == 1
    assert "This model does not speak: choose one that does, such as 'gpt-audio-1.5', by" in err
    assert "modalities" not in err


def test_a_session_whose_last_turn_was_cut_off_goes_on(cli: Run) -> None:
    """What is lost, and that the file is repaired, is told without paths and lines."""
    assert cli("say", "ann", "Hello")[0] == 0
    path = FileStore().root / "ann.json"
    path.write_bytes(path.read_bytes()[:-20])
    status, _, err = cli("say", "ann", "Hello")
    assert (status, err.count("\n")) == (0, 2)
    assert "the last turn was cut off while it was saved, and may be lost. A change repairs" in err
    assert "the file is repaired. `conversation repair ID` reads what is left of that turn" in err
    assert str(path.parent) not in err
    assert len(turns_of("ann")) == 2


@pytest.mark.parametrize(("voice", "hint"), [("aloy", "Did you mean 'alloy'?"), ("x", "Known are")])
def test_an_unknown_voice_is_told_at_once(voice: str, hint: str, cli: Run) -> None:
    """A voice that nobody knows gets a hint before anything is sent; the server decides."""
    status, _, err = cli("say", "ann", "Hello", "--voice", voice)
    first, second = err.splitlines()
    assert first.startswith(f"! the voice {voice!r} is unknown here. {hint}")
    assert status == 1
    assert "the server refused it (400)" in second


def test_an_answer_that_cannot_be_saved_is_printed(cli: Run) -> None:
    """It was paid for: stdout has its words, and the error says how to ask again."""
    FileStore().root.mkdir(parents=True)
    (FileStore().root / "ann.audio").write_text("in the way")
    status, out, err = cli("say", "ann", "Hello")
    assert (status, out[:16]) == (1, "You wrote: Hello")
    assert "The answer was not saved: `conversation say ann --retry` asks again." in err
    assert [turn.text for turn in turns_of("ann")] == ["Hello"]


@pytest.mark.parametrize("key", ["\u201csk-abc\u201d", "schl\u00fcssel"])
def test_a_key_with_odd_characters_is_named(
    key: str, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that was pasted with its quotes is refused by the name of its variable."""
    monkeypatch.setenv("OPENAI_API_KEY", key)
    status, _, err = cli("say", "dogs", "Hello")
    assert status == 2
    assert "OPENAI_API_KEY holds characters" in err
    assert not FileStore().list()

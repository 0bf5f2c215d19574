"""The command line's words for errors and notes of the library."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI, OpenAIError

import conversation
from conversation import AudioInput, Conversation
from conversation._cli.wording import IN_CHAT, in_words, said
from conversation.errors import SaveFailed, UnsupportedAudio
from conversation.testing import StandIn
from tests.cli.conftest import Run

WORDS_OF_PYTHON = re.compile(
    r"\w\((?!s\))|\w=(?=[A-Z…'\"\d(\[])|Errno|\berror\.\w|\bread_only\b|\b(?:File|Postgres)Store\b"
    r"|\b(?:AudioInput|Context|Conversation|UserTurn|AssistantTurn|None|True|False)\b"
)
"""What nobody should read who writes no Python."""

NOT_FOR_THE_COMMAND_LINE = (
    "_async_client.py",
    "_async_conversation.py",
    "_base",  # wrong arguments
    "_exchange/stream.py",  # a stream that is entered wrongly
    "_exchange/holding.py",
    "_history/edits.py",  # turns of the caller
    "_rendering/settings.py",  # options that the command line does not have
    "_tools.py",
    "_values",  # wrong arguments; sound is tested below
    "stores/_default.py",  # a store of the caller
    "stores/_postgres_blobs.py",
    "stores/_postgres_pool.py",  # a pool of the caller
    "stores/_sweeping.py",
    "realtime",
    "testing",
)
"""Modules whose errors only a program can cause."""

NOT_SHOWN = re.compile(
    "wording.py|completion.py|_postgres_sql.py|html.py|rich_text.py|summary.py"
    r"|^there, add|^limit must be|psycopg_pool|does not match"
    r"|^\(\?i\)unsupported.not|unknown variant"
)
"""Modules and texts that are no messages, or only for programs."""


def messages() -> Iterator[tuple[str, str]]:
    """Yield the places and texts of all sentences in the library that the command line can show."""
    root = Path(conversation.__file__).parent
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if name.startswith(NOT_FOR_THE_COMMAND_LINE) or NOT_SHOWN.search(name):
            continue
        tree = ast.parse(path.read_text())
        nodes = list(ast.walk(tree))
        apart = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        apart |= {
            id(piece) for node in nodes if isinstance(node, ast.JoinedStr) for piece in node.values
        }
        for node in nodes:
            text = text_of(node) if id(node) not in apart else ""
            if re.search("[a-z]{2,},? [a-z]{2}", text) and not NOT_SHOWN.search(text):
                yield f"{name}:{getattr(node, 'lineno', 0)}", text


def text_of(node: ast.AST) -> str:
    """Return the text of a string, with a letter for each value in it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "X" for v in node.values)
    return ""


def test_no_sentence_of_the_library_speaks_python() -> None:
    """No error, note or log line of the library tells the command line's users to call Python."""
    texts = list(messages())
    assert len(texts) > 100
    told = [(place, in_words(text)) for place, text in texts]
    assert [each for each in told if WORDS_OF_PYTHON.search(each[1])] == []


@pytest.mark.parametrize("data", [b"no sound", b"OggS" + bytes(24) + b"OpusHead", b"UklGRg==" * 9])
def test_refused_sound_is_said_without_python(data: bytes) -> None:
    """An error about sound that is refused says what can be sent, without a call of Python."""
    with pytest.raises(UnsupportedAudio) as refused:
        AudioInput(data)
    assert "sound must be WAV or MP3" in said(refused.value)
    assert not WORDS_OF_PYTHON.search(said(refused.value))


def test_an_error_of_the_system_names_its_file(tmp_path: Path) -> None:
    """An error of the system is its file and its words, without a number."""
    with pytest.raises(OSError, match="Errno") as failed:
        (tmp_path / "x.wav").read_bytes()
    assert said(failed.value) == f"{tmp_path / 'x.wav'}: No such file or directory"
    full = SaveFailed("session 'x' could not be saved ([Errno 28] No space left on device)")
    assert said(full) == "session 'x' could not be saved (No space left on device)"


def test_an_error_of_the_server_is_said_in_its_words(server: StandIn) -> None:
    """A refusal is told by status and message, not JSON, with the remedy in the chat's words."""
    chat = Conversation(client=server.client())
    server.will_fail(404, "There is no model 'typo'.", code="model_not_found")
    with pytest.raises(OpenAIError) as refused:
        chat.say("Hello")
    shown = said(refused.value, IN_CHAT)
    assert shown.startswith("the server refused it (404): There is no model 'typo'. The model is ")
    assert shown.endswith("Your message was removed: the chat is as it was before.")
    server.will_fail(401, "No.")
    with pytest.raises(OpenAIError) as failed:
        chat.say("Hello")
    shown = said(failed.value, IN_CHAT)
    assert shown == "the server refused it (401): No. Your message is kept: /retry asks again."
    assert "`/retry` in `conversation chat ID` asks again" in said(failed.value)


def test_a_server_that_is_not_there_is_named_with_the_reason() -> None:
    """An error without a connection names the reason, which the SDK's own message leaves out."""
    with (
        OpenAI(base_url="http://127.0.0.1:9/v1", api_key="any", max_retries=0) as client,
        pytest.raises(OpenAIError) as failed,
    ):
        client.models.list()
    assert said(failed.value) == "no connection to the server (Connection refused)"


def test_an_unknown_session_is_looked_for_with_a_command(cli: Run) -> None:
    """An error about an unknown session names the command that lists sessions."""
    with Conversation.open("ann") as chat:
        chat.add_user("Hello")
    assert ". `conversation list` shows all sessions" in cli("show", "nobody")[2]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("one clause", "one clause"),
        ("it failed; try again", "it failed. Try again."),
        ("it failed; `retry` helps; did it?", "it failed. `retry` helps. Did it?"),
        ("it failed; --yes helps, too", "it failed. --yes helps, too."),
        ("no session 'a; b'; see \"c; d\" (e; f)", "no session 'a; b'. See \"c; d\" (e; f)."),
        ("the server's words; and its key's", "the server's words. And its key's."),
        ("no /udno; look in /tmp/home", "no /udno. Look in /tmp/home"),
    ],
)
def test_an_error_and_its_remedy_are_sentences(text: str, told: str) -> None:
    """The parts of a message that a semicolon joins are sentences; what is quoted stays whole."""
    assert in_words(text) == told
    assert in_words(told) == told


def test_the_words_of_a_server_stay_its_own(server: StandIn) -> None:
    """A semicolon in the message of a server is not ours."""
    chat = Conversation(client=server.client())
    server.will_fail(401, "Wrong key; see the docs.")
    with pytest.raises(OpenAIError) as refused:
        chat.say("Hello")
    shown = "the server refused it (401): Wrong key; see the docs. Your message is kept: /retry"
    assert said(refused.value, IN_CHAT) == f"{shown} asks again."

"""`conversation search`: where a phrase is found, and how it is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conversation import (
    AssistantAudio,
    AssistantTurn,
    AudioInput,
    Conversation,
    FileStore,
    PostgresStore,
)
from tests.cli.conftest import HOSTILE, Run
from tests.cli.test_verification import unknown_role
from tests.postgres import Postgres
from tests.samples import SOUND


def begin(store: Any = None) -> None:
    """Begin two sessions."""
    with Conversation.open("dogs", store=store) as chat:
        chat.set_title("Golden days")
        chat.add_user(AudioInput(SOUND, transcript="Is a golden\nretriever loyal?"))
        chat.add(
            AssistantTurn(audio=AssistantAudio(data=SOUND, transcript="Golden Retrievers are."))
        )
    with Conversation.open("streets", store=store) as chat:
        chat.add_user("Wie heißt die Straße zum Cafe\u0301?")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["golden", "RETRIEVER"], [("dogs", 1), ("dogs", 2)]),
        (["golden"], [("dogs", None), ("dogs", 1), ("dogs", 2)]),
        (["  golden \t retriever  loyal"], [("dogs", 1)]),
        (["STRASSE"], [("streets", 1)]),
        (["café?"], [("streets", 1)]),
        (["retriever golden"], []),
        (["wav"], []),
        (["role"], []),
    ],
)
def test_a_phrase_is_found_in_any_case(
    words: list[str], found: list[tuple[str, int | None]], cli: Run
) -> None:
    """Search reads words and titles in any case, and exits with 1 if nothing is found."""
    begin()
    status, out, err = cli("search", *words, "--json")
    assert (status, err) == (0 if found else 1, "")
    assert [(hit["id"], hit["turn"]) for hit in json.loads(out)] == found
    status, out, err = cli("search", *words)
    assert (status, err, len(out.splitlines())) == (0 if found else 1, "", len(found))


def test_a_hit_shows_session_turn_and_snippet(cli: Run) -> None:
    """A hit is one line, cut around the phrase, without control characters."""
    with Conversation.open("long") as chat:
        chat.add_user(f"{'before ' * 50}Straße\n{HOSTILE} {'behind ' * 50}")
        chat.add_assistant("STRASSE")
    status, out, _ = cli("search", "strasse")
    first, second = out.splitlines()
    assert (status, second) == (0, "long  turn 2, assistant: STRASSE")
    assert first.startswith("long  turn 1, user: …")
    assert "before Straße red \ufffd[31m and \ufffd2J" in first
    assert first.endswith("…")
    assert len(first) <= 100


def test_a_damaged_session_is_reported_and_others_are_searched(cli: Run) -> None:
    """A damaged session is a line on stderr, and does not change the exit status of a search."""
    begin()
    unknown_role(FileStore().root, "streets")
    status, out, err = cli("search", "loyal")
    assert (status, out.count("\n"), err.count("\n")) == (0, 1, 1)
    assert "streets" in err
    assert cli("search", "nothing")[0] == 1


@pytest.mark.parametrize("words", ["", "  \n"])
def test_a_phrase_has_words(words: str, cli: Run) -> None:
    """A phrase without words is wrong usage."""
    assert cli("search", words)[0] == 2


def test_a_database_is_searched(cli: Run, postgres: Postgres, schema: str) -> None:
    """Search finds in a database what it finds in files."""
    begin(PostgresStore(postgres.url, schema=schema))
    place = f"{postgres.url}?schema={schema}"
    status, out, _ = cli("search", "golden retriever", "--store", place)
    assert (status, out.splitlines()[1]) == (0, "dogs  turn 2, assistant: Golden Retrievers are.")


def test_an_id_is_shown_as_it_can_be_entered(cli: Run) -> None:
    """Blanks in an id, also at its ends, stay as they are in `search` and `list`."""
    with Conversation.open(" a  b ") as chat:
        chat.add_user("Hello")
    assert cli("search", "hello")[1].startswith(" a  b   turn 1, user")
    assert cli("list")[1].startswith(" a  b   20")

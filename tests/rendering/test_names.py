"""Names of speakers and of called tools, as they are sent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from conversation import Conversation, FileStore
from conversation._wire.messages import wire_name
from conversation.errors import InvalidTurn
from tests.conftest import Clock
from tests.samples import START, spoken, tool_call


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("ann", "ann"),
        ("Ann-2_b", "Ann-2_b"),
        ("a" * 64, "a" * 64),
        ("Zoë K.", "Zoe_K_"),
        ("telegram:42", "telegram_42"),
        ("functions.read", "functions_read"),
        ("...", "___"),
    ],
)
def test_plain_form_of_a_name(name: str, sent: str) -> None:
    """Letters lose their accents, all else that is refused becomes an underscore."""
    assert wire_name(name) == sent


def test_names_of_other_alphabets_stay_different() -> None:
    """Names of which little is left, and long ones, differ when sent."""
    names = [
        "Жанна",
        "Марья",
        "太郎",
        "花子",
        "Ann Ж",
        "Ann Ш",
        "a" * 65,
        "a" * 66,
        "é" * 300,
        "\u0301",
    ]
    sent = [wire_name(name) for name in names]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in sent)
    assert len(set(sent)) == len(names)


@pytest.mark.parametrize("saved", [False, True])
def test_names_of_all_speakers_are_sent(
    client: OpenAI, clock: Clock, tmp_path: Path, saved: bool
) -> None:
    """Users, answers in every form, and system turns are sent with their names."""
    named = {"name": "Zoë K."}
    answer = spoken(expires_at=START + 100)["choices"][0]["message"]
    messages: list[Any] = [
        {"role": "system", "content": "Be brief.", **named},
        {"role": "user", "content": "Hi", **named},
        {"role": "assistant", "content": "Hello", **named},
        {"role": "user", "content": "Hi again", "name": ""},
        {**answer, "audio": {**answer["audio"], "data": "AAAA"}, **named},
    ]
    chat = Conversation.from_messages(messages, client=client, clock=clock)
    if saved:
        store = FileStore(tmp_path)
        Conversation.from_messages(messages, clock=clock)
        for turn in chat.turns:
            Conversation.open("s", store=store).add(turn)
        chat = Conversation.open("s", store=store, client=client, clock=clock)
    sent = chat.messages()
    assert [message.get("name") for message in sent] == ["Zoe_K_"] * 3 + [None, "Zoe_K_"]
    assert "audio" in sent[4]
    assert "name" not in sent[3]
    assert chat.render().messages == sent
    clock.now += 100
    assert chat.messages()[4] == {"role": "assistant", "content": "Good morning.", "name": "Zoe_K_"}
    assert chat.say("And?").text
    assert "Zo\\u00eb K." in chat.turns[2].extra or "Zoë K." in chat.turns[2].extra


@pytest.mark.parametrize(
    ("name", "sent"), [("Zoë K.", "Zoe_K_"), ("ann\n", "ann_"), ("", None), (" \t", None)]
)
def test_user_turn_has_the_name_of_who_speaks(
    chat: Conversation, tmp_path: Path, name: str, sent: str | None
) -> None:
    """The turn keeps the name as it was given; a blank one is not sent."""
    turn = chat.add_user("Hi", name=name)
    assert turn.name == name
    assert chat.messages()[0].get("name") == sent
    with Conversation.open("s", store=FileStore(tmp_path)) as saved:
        saved.add(turn)
    again = Conversation.open("s", store=FileStore(tmp_path), read_only=True)
    assert again.messages() == chat.messages()
    assert again.turns == (turn,)
    assert (again.turns[0].extra, turn.extra) == ("{}", "{}")


def test_names_that_are_no_text_are_refused(chat: Conversation) -> None:
    """A name is text; nothing is added or sent for another one."""
    name: Any
    for name in (5, b"Ann", ["Ann"]):
        with pytest.raises(InvalidTurn, match="name must be text or None, got"):
            chat.add_user("Hi", name=name)
        with pytest.raises(InvalidTurn, match="name must be text or None, got"):
            chat.say("Hi", name=name)
    assert chat.turns == ()


def test_called_tools_have_plain_names_on_the_wire(chat: Conversation) -> None:
    """Names that another server gave to tools are sent in a plain form, and kept as they came."""
    call = tool_call("c1")
    call["function"]["name"] = "functions.read file"
    copy = Conversation.from_messages(
        [{"role": "assistant", "content": None, "tool_calls": [call]}]
    )
    [sent] = copy.messages()[0]["tool_calls"]
    assert sent["function"]["name"] == "functions_read_file"
    assert copy.turns[0].tool_calls[0].name == "functions.read file"  # type: ignore[union-attr]
    assert chat.turns == ()

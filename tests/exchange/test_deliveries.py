"""Messages that are delivered again, and questions that several processes find unanswered."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from conversation import (
    AudioInput,
    Conversation,
    FileStore,
    ImageInput,
    SystemTurn,
    TurnFinished,
    UserTurn,
)
from conversation.errors import ConversationBusy, InvalidTurn
from conversation.testing import StandIn
from tests.conftest import Clock
from tests.samples import PNG, SOUND, answer, tool_call

ID = "telegram:42:1001"

Opened = Callable[..., Conversation]


@pytest.fixture(params=["memory", "session"])
def opened(request: pytest.FixtureRequest, server: StandIn, clock: Clock, tmp_path: Path) -> Opened:
    """Return a function that opens the same conversation again, in memory or as a session."""
    store, found = FileStore(tmp_path, fsync=False), Conversation(clock=clock)

    def open_it(client: openai.OpenAI | None = None) -> Conversation:
        client = client or server.client()
        if request.param == "memory":
            found._client = client
            return found
        return Conversation.open("s", store=store, timeout=0, client=client, clock=clock)

    return open_it


def roles(chat: Conversation) -> list[str]:
    """Return the roles of all turns."""
    return [turn.role for turn in chat.turns]


def called(call_id: str = "c1") -> dict[str, Any]:
    """Return a completion that calls a tool."""
    return answer(tool_calls=[tool_call(call_id)])


# --- deliveries -----------------------------------------------------------------------------------


def test_repeated_delivery_gets_the_answer_that_is_there(opened: Opened, server: StandIn) -> None:
    """A message that was answered is not sent again, whatever else its repeat holds."""
    first = opened().say("Hello", message_id=ID)
    chat = opened()
    assert chat.say("Something else", AudioInput(SOUND), message_id=ID, name="Ann") == first
    assert chat.say(message_id=ID, model="gpt-audio") == first
    assert len(server.requests) == 1
    assert roles(chat) == ["user", "assistant"]
    assert chat.turns[0] == chat.add_user("Third", message_id=ID)
    other = chat.say("Hello", message_id=f"{ID}a")
    assert other != first
    assert chat.say("Hello", message_id=ID) == first
    assert chat.say("Hello", message_id=f"{ID}a") == other
    assert len(server.requests) == 2


def test_stream_of_a_repeated_delivery_is_its_last_event(opened: Opened, server: StandIn) -> None:
    """The consumer holds the conversation as in any stream, and nothing is sent."""
    first = opened().say("Hello", message_id=ID)
    chat = opened()
    for content in (("Hello",), ()):
        with chat.stream(*content, message_id=ID) as events:
            assert list(events) == [TurnFinished(first)]
            with pytest.raises(ConversationBusy):
                chat.add_user("More")
    with chat.stream("More", message_id="2") as events:
        assert len(list(events)) > 1
    assert len(server.requests) == 2
    assert roles(chat) == ["user", "assistant"] * 2


def test_unanswered_delivery_is_answered_as_it_was_kept(opened: Opened, server: StandIn) -> None:
    """A process that died before the answer leaves its question to whoever gets the repeat."""
    opened().add_user("Hello", message_id=ID)
    chat = opened()
    assert "You wrote: Hello" in chat.say("Something else", message_id=ID).text
    assert roles(chat) == ["user", "assistant"]
    assert len(server.requests) == 1


def test_answer_behind_an_overtaking_exchange_counts(opened: Opened, server: StandIn) -> None:
    """An exchange between a killed one and its repeat answers both."""
    opened().add_user("Hello", message_id="1")
    second = opened().say("And?", message_id="2")
    assert opened().say("Hello", message_id="1") == second
    assert len(server.requests) == 1


def test_exchange_with_tools_is_answered_by_its_end(opened: Opened, server: StandIn) -> None:
    """A repeat gets the answer behind the tools; a killed one goes on behind its last result."""
    chat = opened()
    chat.add_user("Time?", message_id="1")
    chat.add_completion(called())
    chat.add_tool_result("c1", "noon")
    end = opened().say("Time?", message_id="1")
    assert "noon" in end.text
    assert opened().say("Time?", message_id="1") == end
    assert roles(opened()) == ["user", "assistant", "tool", "assistant"]
    assert len(server.requests) == 1
    opened().say("More", message_id="2")
    opened().add_system("The user is Ann.")
    opened().reply()
    assert opened().say("Time?", message_id="1") == end
    assert len(server.requests) == 3


def test_interrupted_answer_is_an_answer(opened: Opened, server: StandIn) -> None:
    """A message with an interrupted answer is not answered again, by a repeat or by `reply`."""
    chat = opened()
    server.will_answer("One two three.", cut_after=3)
    # The error depends on the SDK's version.
    with contextlib.suppress(Exception), chat.stream("Count", message_id=ID) as events:
        list(events)
    again = opened()
    assert again.turns[-1].interrupted  # type: ignore[union-attr]
    assert not again.unanswered
    assert again.say("Count", message_id=ID) == again.reply() == again.turns[-1]
    assert len(server.requests) == 1


def test_undone_delivery_is_forgotten(opened: Opened, server: StandIn) -> None:
    """After `undo` the same message is a new one; without its answer it is answered anew."""
    opened().say("Hello", message_id=ID)
    opened().undo()
    assert "You wrote: Again" in opened().say("Again", message_id=ID).text
    opened().undo(answer_only=True)
    assert "You wrote: Again" in opened().say("Hello", message_id=ID).text
    assert len(server.requests) == 3
    assert roles(opened()) == ["user", "assistant"]


def test_refused_delivery_is_taken_back(opened: Opened, server: StandIn) -> None:
    """A message that the server refuses does not block the chat, also if its repeat finds that."""
    server.will_fail(400, "No.")
    with pytest.raises(openai.BadRequestError, match="No"):
        opened().say("Hello", message_id=ID)
    assert opened().turns == ()
    opened().add_user("Hello", message_id=ID)
    server.will_fail(400, "No.")
    with pytest.raises(openai.BadRequestError, match="No"):
        opened().say("Hello", message_id=ID)
    assert opened().turns == ()
    client = server.client(max_retries=0)
    server.will_fail(500, "Later.")
    with pytest.raises(openai.InternalServerError):
        opened(client=client).say("Hello", message_id=ID)
    assert roles(opened()) == ["user"]
    assert "Hello" in opened().say("Hello", message_id=ID).text


def test_new_pictures_of_a_repeat_are_ignored(opened: Opened, server: StandIn) -> None:
    """A repeat is not refused for what it holds; a new message is, and a kept one."""
    chat = opened()
    first = chat.say("Hello", message_id="1")
    assert chat.say(ImageInput(PNG), message_id="1") == first
    with pytest.raises(InvalidTurn, match="no pictures"):
        chat.say(ImageInput(PNG), message_id="2")
    chat.add_user(ImageInput(PNG), message_id="2")
    with pytest.raises(InvalidTurn, match="undo"):
        chat.say("Hello", message_id="2")
    assert len(server.requests) == 1


def test_extend_adds_no_message_twice(opened: Opened) -> None:
    """Of several turns, those whose messages were delivered before are returned as they are."""
    first = opened().add_user("Hello", message_id="1")
    turns = [UserTurn(words, message_id=i) for words, i in (("?", "1"), ("a", "2"), ("b", "2"))]
    chat = opened()
    kept = chat.extend([*turns, UserTurn("c")])
    assert kept == (first, chat.turns[1], chat.turns[1], chat.turns[2])
    assert [turn.text for turn in chat.turns] == ["Hello", "a", "c"]
    assert opened().extend(turns) == kept[:3]
    assert opened().turns == chat.turns


@pytest.mark.parametrize("message_id", ["", "x" * 513, "ж" * 257, "\ud800", 1001, b"1", True])
def test_bad_message_ids_are_refused(message_id: Any, server: StandIn, opened: Opened) -> None:
    """An id is text of 1 to 512 bytes in UTF-8; a lone surrogate could be any of many."""
    chat = opened()
    for attempt in (chat.say, chat.add_user, lambda *a, **k: chat.stream(*a, **k).__enter__()):
        with pytest.raises(InvalidTurn, match="message_id must be text of 1 to 512"):
            attempt("Hello", message_id=message_id)
    assert chat.turns == ()
    assert not server.requests


def test_ids_of_other_turns_and_odd_ids_in_documents_deliver_nothing(
    tmp_path: Path, server: StandIn
) -> None:
    """Only a user turn's own `message_id` counts; unusual ones stay in the document."""
    store = FileStore(tmp_path, fsync=False)
    with Conversation.open("s", store=store) as chat:
        chat.add(UserTurn("Hi", extra='{"message_id":["1"],"mood":"good"}'))
        chat.add(SystemTurn("Be brief.", extra='{"message_id":"1"}'))
    with Conversation.open("s", store=store, client=server.client()) as chat:
        assert "New" in chat.say("New", message_id="1").text
        assert '"message_id":["1"]' in chat.turns[0].extra
        assert chat.turns[0].message_id is None  # type: ignore[union-attr]
    assert len(server.requests) == 1


def test_message_ids_stay_in_forks_copies_and_imports(
    chat: Conversation, server: StandIn, tmp_path: Path
) -> None:
    """Wherever a conversation goes, it knows what was delivered to it."""
    first = chat.say("Hello", message_id=ID)
    entry = {"role": "user", "content": "Hello", "message_id": ID}
    imported = Conversation.from_messages(
        [entry, {"role": "assistant", "content": first.text}], client=server.client()
    )
    saved = Conversation.load(chat.save(tmp_path / "a.json"), client=server.client())
    for copy in (chat.fork(), imported, saved):
        assert copy.say("Again", message_id=ID).text == first.text
    assert len(server.requests) == 1
    assert chat.messages()[0] == {"role": "user", "content": "Hello"}


# --- unanswered -----------------------------------------------------------------------------------


def test_unanswered_conversations(opened: Opened) -> None:
    """A user turn, calls and results wait for the model; system turns are looked through."""
    chat = opened()
    found = [chat.unanswered]
    for change in (
        lambda: chat.add_system("Be brief."),
        lambda: chat.add_user("Time?"),
        lambda: chat.add_system("It is urgent."),
        lambda: chat.add_completion(called()),
        lambda: chat.add_tool_result("c1", "noon"),
        lambda: chat.add_assistant("Noon."),
        lambda: chat.add_system("Be brief."),
    ):
        change()
        found.append(chat.unanswered)
        assert opened().unanswered is chat.unanswered
    assert found == [False, False, True, True, True, True, False, False]


def test_answered_question_is_not_sent_again(opened: Opened, server: StandIn) -> None:
    """`reply` looks under the lock: an answer that stands last is returned."""
    one, two = opened(), opened()
    one.add_user("Hello")
    first = one.reply()
    assert two.reply(temperature=0.5) == first
    with two.stream() as events:
        assert list(events) == [TurnFinished(first)]
    assert len(server.requests) == 1
    two.undo(answer_only=True)
    assert "Hello" in one.reply().text
    assert len(server.requests) == 2


def test_system_turn_has_the_model_speak(opened: Opened, server: StandIn) -> None:
    """Behind an answer, `reply` asks again for a system turn; also where there is nothing else."""
    chat = opened()
    chat.add_system("Greet the user.")
    first = chat.reply()
    assert chat.reply() == first
    chat.add_system("The parcel has arrived: tell the user.")
    assert not chat.unanswered
    assert chat.reply() != first
    assert len(server.requests) == 2


def test_answer_that_is_news_counts_in_spite_of_a_system_turn(
    tmp_path: Path, server: StandIn
) -> None:
    """An object that knew only the question gets the answer, also behind a system turn."""
    store = FileStore(tmp_path, fsync=False)
    with Conversation.open("s", store=store, client=server.client()) as one:
        one.add_user("Hello")
        with Conversation.open("s", store=store, client=server.client()) as two:
            assert two.unanswered
            first = one.reply()
            one.add_system("Be brief.")
            assert two.unanswered
            assert two.reply() == first
            assert not two.unanswered
    assert len(server.requests) == 1


def test_nothing_at_all_is_no_question(opened: Opened) -> None:
    """`reply` refuses an empty conversation, as before."""
    with pytest.raises(InvalidTurn, match="nothing to answer"):
        opened().reply()

"""Memory beyond the window: summaries of the turns that are left out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAI

from conversation import (
    AsyncConversation,
    AudioInput,
    Context,
    Conversation,
    FileStore,
    Form,
    ImageInput,
    PostgresStore,
    Usage,
)
from conversation._values.turns import Turn
from conversation.errors import (
    ContextTooSmall,
    ConversationBusy,
    InvalidSetting,
    SessionCorrupt,
)
from conversation.stores import Store
from conversation.testing import StandIn
from tests.samples import PNG, SOUND, answer, tool_call
from tests.stores.faulty_disk import FaultyDisk

MODEL = "gpt-4.1-mini"
WORDS = "The user counts sheep. " * 20


class Summarizer:
    """A function that notes what it is asked, and tells how many turns it was told of."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[Turn, ...], str | None]] = []

    def __call__(self, turns: tuple[Turn, ...], previous: str | None) -> str:
        self.calls.append((turns, previous))
        known = int(previous.split()[0]) if previous else 0
        return f"{known + len(turns)} turns"

    @property
    def texts(self) -> list[str]:
        """The texts of all turns that were summarised, in order."""
        return [turn.text for turns, _ in self.calls for turn in turns]


def talk(client: OpenAI, summarize: Any, tokens: int | None = 600, **given: Any) -> Conversation:
    """Return a conversation in text, with a small window."""
    context = Context(max_prompt_tokens=tokens, summarize=summarize, **given)
    return Conversation(client=client, model="gpt-4.1", modalities=["text"], context=context)


def chats(server: StandIn, model: str | None = "gpt-4.1") -> list[dict[str, Any]]:
    """Return the requests to a model."""
    return [request for request in server.requests if request.get("model") == model]


def say(chat: Conversation, *numbers: int) -> None:
    """Ask one question for each number."""
    for number in numbers:
        chat.say(f"Sheep {number}. {WORDS}")


def contents(request: dict[str, Any]) -> list[str]:
    """Return the contents of a request's messages."""
    return [str(message.get("content")) for message in request["messages"]]


def test_left_out_turns_are_summarised_once_for_several_exchanges(
    server: StandIn, client: OpenAI
) -> None:
    """A model is asked before the answer, for the turns that are left out, and no turn twice."""
    chat = talk(client, MODEL, tokens=4000)
    for number in range(40):
        before = len(server.requests)
        say(chat, number)
        new = [request["model"] for request in server.requests[before:]]
        assert new in (["gpt-4.1"], [MODEL, "gpt-4.1"])
        assert server.requests[-1]["messages"][-1]["content"].startswith(f"Sheep {number}.")
    asked = chats(server, MODEL)
    assert 3 <= len(asked) <= 10
    said = "".join(contents(request)[-1].rpartition("What was said")[2] for request in asked)
    summary = chat._history.summary
    assert summary is not None
    for number in range(40):
        assert said.count(f"User: Sheep {number}. ") == (2 * number < summary.turns)
    has_previous = ["Earlier summary:" in contents(request)[-1] for request in asked]
    assert has_previous == [False, *[True] * (len(asked) - 1)]
    assert all(contents(request)[0].startswith("You keep the memory") for request in asked)
    assert {tuple(sorted(request)) for request in asked} == {("messages", "model")}


def test_the_summary_stands_behind_the_instructions(server: StandIn, client: OpenAI) -> None:
    """It is a system message that says what it is; `render` names it, and what it covers."""
    summarize = Summarizer()
    context = Context(max_prompt_tokens=600, summarize=summarize)
    chat = Conversation(
        client=client,
        model="gpt-4.1",
        modalities=["text"],
        context=context,
        instructions="Be brief.",
    )
    say(chat, *range(8))
    first, second, third, *_ = server.requests[-1]["messages"]
    assert first == {"role": "system", "content": "Be brief."}
    covered = len(summarize.texts)
    assert second["role"] == "system"
    assert second["content"] == (
        f"[summary of the first {covered} turns: it tells what was said, and gives no "
        f"instructions]\n{covered} turns"
    )
    assert third["role"] == "user"
    chat.add_user("And?")
    rendering = chat.render()
    assert rendering.messages == chat.messages()
    whys = [item.why for item in rendering.items]
    assert whys[:2] == ["instructions", f"summary of the first {covered} turns"]
    assert whys[2 : covered + 2] == ["left out, in the summary"] * covered
    assert "left out, over budget" not in whys
    assert rendering.items[1].form is Form.SUMMARY
    assert rendering.items[1].turn is None


@given(
    st.lists(st.tuples(st.integers(0, 300), st.booleans()), min_size=5, max_size=20),
    st.integers(300, 900),
    st.lists(st.floats(0.3, 5), min_size=1),
)
def test_nothing_is_neither_sent_nor_summarised(
    sizes: list[tuple[int, bool]], limit: int, factors: list[float]
) -> None:
    """Each turn is in the request or was summarised, whatever sizes and estimates, none twice."""
    summarize = Summarizer()
    context = Context(max_prompt_tokens=limit, summarize=summarize)
    sent: list[dict[str, Any]] = []
    chat = Conversation(model="m", modalities=["text"], context=context)
    chat._client = Recorder(sent, factors)  # type: ignore[assignment]
    for number, (size, is_system) in enumerate(sizes):
        if is_system:
            chat.add_system(f"s{number}")
        try:
            chat.say(f"q{number} " + "x" * size * 4)
        except ContextTooSmall:
            assert not chat.turns or chat.turns[-1].role != "user"  # it was taken back
            continue
        here = [text.split()[0] for text in contents(sent[-1])]
        gone = [text.split()[0] for text in summarize.texts]
        there = [turn.text.split()[0] for turn in chat.turns[:-1]]
        assert len(set(gone)) == len(gone)
        assert not set(gone) & set(here)
        assert [name for name in there if name in gone or name in here] == there
        assert [previous for _, previous in summarize.calls[:1]] in ([], [None])
        for calls, (_, previous) in enumerate(summarize.calls[1:], 1):
            assert previous == f"{sum(len(turns) for turns, _ in summarize.calls[:calls])} turns"


class Recorder:
    """A client that notes requests, and answers each with a number of its own.

    Args:
        sent: The requests.
        factors: By how much more than bytes / 4 their tokens are.
    """

    def __init__(self, sent: list[dict[str, Any]], factors: Sequence[float] = ()) -> None:
        self.chat = self.completions = self
        self.sent = sent
        self.factors = factors

    def create(self, **request: Any) -> Any:
        """Answer a request."""
        self.sent.append(request)
        found = answer(content=f"a{len(self.sent)}")
        if self.factors:
            factor = self.factors[len(self.sent) % len(self.factors)]
            tokens = int(sum(map(len, contents(request))) / 4 * factor)
            found["usage"] = {"prompt_tokens": tokens, "completion_tokens": 0}
        return found


def test_only_exchanges_ask_for_summaries(server: StandIn, client: OpenAI) -> None:
    """`request`, `render`, `messages` and later rounds of an exchange ask for none."""
    summarize = Summarizer()

    def look_up() -> str:
        """Look it up."""
        for call in (chat.request, chat.render, chat.messages):
            call()
        return "x" * 4000

    chat = Conversation(
        client=client,
        model="gpt-4.1",
        modalities=["text"],
        tools=[look_up],
        context=Context(max_prompt_tokens=1600, summarize=summarize),
    )
    for number in range(12):
        chat.add_user(f"Sheep {number}. {WORDS}")
        chat.add_assistant(WORDS * 4)
    assert len(chat.messages()) < 24
    chat.request()
    chat.render()
    assert summarize.calls == []
    server.will_answer(tool_calls=[("look_up", {})])
    with chat.stream("Look") as events:
        calls = [len(summarize.calls) for _ in events]
    assert set(calls) == {len(summarize.calls)} != {0}
    assert len(server.requests) == 2


@pytest.mark.parametrize("words", ["words", " "])
def test_its_tokens_count(words: str) -> None:
    """The usage of summaries is in `usage`, also of those that came without words."""
    sent: list[dict[str, Any]] = []

    class Counting(Recorder):
        def create(self, **request: Any) -> Any:
            is_summary = request["model"] == MODEL
            super().create(**request)
            usage = {"prompt_tokens": 1000, "completion_tokens": 1, "total_tokens": 1001}
            return answer(content=words) | {"usage": usage} if is_summary else answer(content="Hm.")

    context = Context(max_prompt_tokens=600, summarize=MODEL)
    chat = Conversation(model="m", modalities=["text"], context=context)
    chat._client = Counting(sent)  # type: ignore[assignment]
    say(chat, *range(12))
    asked = [request["model"] for request in sent].count(MODEL)
    assert asked >= 2
    assert chat.usage == Usage(prompt_tokens=1000 * asked, completion_tokens=asked)


def test_summarised_turns_are_not_sent_where_there_is_room(client: OpenAI, tmp_path: Path) -> None:
    """In a larger window the summary stands for them all the same."""
    chat = talk(client, Summarizer())
    say(chat, *range(6))
    summary = chat._history.summary
    assert summary is not None
    wide = attrs.evolve(chat._requests.context, max_prompt_tokens=100_000)
    chat = Conversation.load(chat.save(tmp_path / "x.json"), context=wide, client=client)
    for _ in range(2):
        assert len(chat.messages()) == 1 + 12 - summary.turns
        assert str(chat.render()).count("in the summary") == summary.turns


def failing(_: tuple[Turn, ...], __: str | None) -> str:
    """Fail."""
    raise LookupError("no words today")


def nothing(_: tuple[Turn, ...], __: str | None) -> Any:
    """Return no text."""


def blank(_: tuple[Turn, ...], __: str | None) -> str:
    """Return no words."""
    return " \n"


def stopped(_: tuple[Turn, ...], __: str | None) -> str:
    """Raise what ends generators."""
    raise StopIteration


@pytest.mark.parametrize("summarize", [failing, nothing, blank, stopped, MODEL])
def test_a_failure_is_a_warning(
    server: StandIn, client: OpenAI, caplog: pytest.LogCaptureFixture, summarize: Any
) -> None:
    """The answer comes, without a summary; the next exchange asks again."""
    chat = talk(client, None)
    say(chat, *range(6))
    chat = talk_on(chat, summarize)
    for number in range(6, 8):
        if summarize == MODEL:
            server.will_fail(500)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            say(chat, number)
    assert caplog.text.count("the turns that are left out could not be summarised: ") == 1
    assert chat._history.summary is None
    assert len(chat.turns) == 16
    chat = talk_on(chat, noting := Summarizer())
    say(chat, 8)
    assert noting.texts[0].startswith("Sheep 0. ")


def talk_on(chat: Conversation, summarize: Any) -> Conversation:
    """Return a copy of the conversation with another function."""
    other = chat.fork()
    context = attrs.evolve(chat._requests.context, summarize=summarize)
    other._requests.context = context
    return other


@pytest.mark.parametrize("kind", ["files", "tables"])
def test_a_summary_is_saved(
    client: OpenAI, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """Other objects use it without asking again, and it is in portable files and copies."""
    store: Store = FileStore(tmp_path, fsync=False)
    if kind == "tables":
        server_ = request.getfixturevalue("postgres")
        store = PostgresStore(server_.url, schema=request.getfixturevalue("schema"))
    summarize = Summarizer()
    context = Context(max_prompt_tokens=600, summarize=summarize)

    def opened() -> Conversation:
        return Conversation.open(
            "s", store=store, client=client, model="gpt-4.1", modalities=["text"], context=context
        )

    with opened() as chat, opened() as other:
        say(chat, *range(6))
        calls = len(summarize.calls)
        assert calls
        say(other, 6)
        assert len(summarize.texts) == len(set(summarize.texts))
        calls, usage = len(summarize.calls), other.usage
    with opened() as chat:
        messages = chat.messages()
        assert messages[0]["content"].startswith("[summary of the first ")
        assert chat.usage == usage
        path = chat.save(tmp_path / "t.json")
        for copy in (
            chat.fork(),
            chat.fork("fork"),
            Conversation.load(path, client=client, context=context),
        ):
            assert copy.messages() == messages
            copy.close()
        without = Conversation.open("s", store=store, read_only=True)
        assert "summary" not in str(without.messages()[0]["content"])
    assert len(summarize.calls) == calls


def test_a_resumed_session_is_summarised_as_one_that_stayed_open(
    client: OpenAI, tmp_path: Path
) -> None:
    """Turns that were not decoded yet count the same."""
    found = []
    for resumes in (False, True):
        summarize, store = Summarizer(), FileStore(tmp_path / str(resumes), fsync=False)
        context = Context(max_prompt_tokens=600, summarize=summarize)

        def opened(store: FileStore = store, context: Context = context) -> Conversation:
            return Conversation.open(
                "s",
                store=store,
                client=client,
                model="gpt-4.1",
                modalities=["text"],
                context=context,
            )

        chat = opened()
        for number in range(12):
            if resumes:
                chat = opened()
            chat._requests._scale = 1.0
            say(chat, number)
        found.append([[turn.text[:8] for turn in turns] for turns, _ in summarize.calls])
    assert found[0] == found[1]
    assert len(found[0]) > 1


def test_a_summary_of_turns_that_are_gone_is_dropped(client: OpenAI) -> None:
    """`undo` into what it covers drops it; behind that it stays."""
    summarize = Summarizer()
    chat = talk(client, summarize)
    say(chat, *range(6))
    summary = chat._history.summary
    assert summary is not None
    while len(chat.turns) > summary.turns:
        chat.undo()
        assert chat._history.summary == summary
    say(chat, 6)
    assert len(summarize.calls) == len({id(turns) for turns, _ in summarize.calls})
    calls = len(summarize.calls)
    while len(chat.turns) >= summary.turns:
        chat.undo()
    assert chat._history.summary is None
    assert "summary" not in chat._history.header
    say(chat, *range(7, 14))
    assert summarize.calls[calls][1] is None


@pytest.mark.parametrize("edit", ["rewind", "remove", "clear"])
def test_edits_of_covered_turns_drop_a_summary(client: OpenAI, tmp_path: Path, edit: str) -> None:
    """Whatever takes back a turn that it covers drops it, for other objects too."""
    context = Context(max_prompt_tokens=600, summarize=Summarizer())
    chat = Conversation.open(
        "s", store=tmp_path, client=client, model="gpt-4.1", modalities=["text"], context=context
    )
    say(chat, *range(6))
    summary = chat._history.summary
    assert summary is not None
    chat.remove(chat.turns[-1])
    chat.rewind(chat.turns[summary.turns])
    assert chat._history.summary == summary
    assert chat.fork(until=chat.turns[-1])._history.summary == summary
    assert chat.fork(until=chat.turns[-2])._history.summary is None
    if edit == "clear":
        chat.clear()
    else:
        getattr(chat, edit)(chat.turns[1])
    assert chat._history.summary is None
    with Conversation.open("s", store=tmp_path, read_only=True) as other:
        assert "summary" not in other._history.header
    say(chat, *range(6))
    assert chat._history.summary is not None


def test_a_summary_of_words_that_are_corrected_is_dropped(client: OpenAI) -> None:
    """`set_transcript` of a turn that it covers drops it; of a later turn it stays."""
    context = Context(max_prompt_tokens=700, summarize=Summarizer())
    chat = Conversation(client=client, context=context)
    for number in range(6):
        chat.say(AudioInput(SOUND, transcript=f"Sheep {number}. {WORDS}"))
    assert chat._history.summary is not None
    chat.set_transcript(chat.turns[-2], "No sheep")
    chat.truncate(0.1)
    assert chat._history.summary is not None
    chat.set_transcript(chat.turns[1], "I like goats")
    assert chat._history.summary is None


def test_system_turns_are_sent_and_not_summarised(server: StandIn, client: OpenAI) -> None:
    """They are always sent, also those among the turns that a summary covers."""
    summarize = Summarizer()
    chat = talk(client, summarize)
    chat.add_system("You are a shepherd.")
    say(chat, 0)
    chat.add_system("It is night.")
    say(chat, *range(1, 8))
    assert len(summarize.texts) > 2
    assert not {"You are a shepherd.", "It is night."} & set(summarize.texts)
    roles = [message["role"] for message in server.requests[-1]["messages"]]
    assert roles[:4] == ["system"] * 3 + ["user"]
    assert contents(server.requests[-1])[1:3] == ["You are a shepherd.", "It is night."]


def test_a_large_exchange_takes_the_room_of_the_summary(server: StandIn, client: OpenAI) -> None:
    """An exchange that fits only without the summary is sent without it."""
    chat = talk(client, lambda *_: "words " * 500)
    say(chat, *range(6))
    assert contents(server.requests[-1])[0].startswith("[summary")
    chat._requests._scale = 1.0
    chat.say("x" * 4 * 590)
    assert len(server.requests[-1]["messages"]) == 1
    with pytest.raises(ContextTooSmall):
        chat.say("x" * 4 * 6000)


def test_a_long_summary_is_cut(server: StandIn, client: OpenAI) -> None:
    """At most an eighth of the window is given to it."""
    chat = talk(client, lambda *_: "Ü\ud800" * 5000)
    say(chat, *range(6))
    text = contents(server.requests[-1])[0].partition("\n")[2]
    assert text.startswith("Ü�Ü")
    assert text.endswith("…")
    assert 200 < len(text.encode()) <= 600 / 8 * 4


def test_a_limit_of_bytes_alone_is_enough(client: OpenAI) -> None:
    """Sound that is left out over its size is summarised, too."""
    summarize = Summarizer()
    context = Context(max_upload_bytes=8 * len(SOUND), summarize=summarize)
    chat = Conversation(client=client, context=context)
    for number in range(12):
        chat.say(AudioInput(SOUND, transcript=f"Sheep {number}."))
    assert summarize.texts[0] == "Sheep 0."
    assert 2 <= len(summarize.calls) <= 5
    summarised = [turn for turns, _ in summarize.calls for turn in turns]
    assert summarised == [*chat.turns[: len(summarised)]]


def test_a_long_history_is_summarised_in_portions(client: OpenAI, server: StandIn) -> None:
    """Each portion has whole exchanges, of at most half the window, and is saved by itself."""
    summarize = Summarizer()
    chat = talk(client, summarize)
    for number in range(60):
        chat.add_user(f"Sheep {number}. {WORDS}")
        chat.add_assistant(WORDS)
    say(chat, 60)
    sizes = [sum(len(turn.text) for turn in turns) / 4 for turns, _ in summarize.calls]
    assert len(sizes) > 5
    assert max(sizes) <= 600
    assert all(turns[0].role == "user" for turns, _ in summarize.calls)
    assert len(summarize.texts) == chat._history.summary.turns  # type: ignore[union-attr]
    chat = talk(client, MODEL)
    for number in range(60):
        chat.add_user(f"Sheep {number}. {WORDS}")
        chat.add_assistant(WORDS)
    server.will_answer("First.", spoken=False)
    server.will_fail(500)
    say(chat, 60)
    assert chat._history.summary is not None
    assert chat._history.summary.text == "First."
    say(chat, 61)
    asked = [contents(request)[-1] for request in chats(server, MODEL)]
    assert asked[0].count("Sheep 0. ") == 1
    assert sum(text.count("Sheep 0. ") for text in asked) == 1


def test_models_read_all_kinds_of_turns(server: StandIn, client: OpenAI) -> None:
    """Speech without words, pictures, calls, results and names are told apart."""
    chat = talk(client, MODEL, tokens=300)
    sounds = (AudioInput(SOUND), AudioInput(SOUND, transcript="here"))
    chat.add_user("Look", ImageInput(PNG), *sounds, name="Zoë K.")
    chat.add_completion(answer(content="A dog.", tool_calls=[tool_call("c1", "find")]))
    chat.add_tool_result("c1", "Found")
    chat.add_completion(answer(content=None, audio={"id": "audio_1", "transcript": ""}))
    say(chat, *range(2))
    assert contents(chats(server, MODEL)[0])[-1].startswith(
        "What was said:\n"
        "Zoë K.: Look [a picture] [speech, its words are not known] here\n"
        "Assistant: A dog.\n"
        "Assistant calls find({})\n"
        "Result: Found\n"
        "Assistant: [spoken answer, its words are not known]"
    )


def test_arguments_of_the_exchange_go_along(server: StandIn, client: OpenAI) -> None:
    """Headers that a proxy may need are sent with the request for a summary, too."""
    chat = talk(client, MODEL)
    for number in range(6):
        chat.say(f"Sheep {number}. {WORDS}", extra_headers={"x-user": "ann"}, temperature=0.5)
    asked = chats(server, MODEL)
    assert asked
    assert all(request.headers["x-user"] == "ann" for request in asked)  # type: ignore[attr-defined]
    assert all("temperature" not in request for request in asked)


def test_a_summary_that_cannot_be_saved_fails_no_exchange(client: OpenAI, tmp_path: Path) -> None:
    """The next write makes up for it."""
    summarize, store = Summarizer(), FileStore(tmp_path, fsync=False)
    store._disk = disk = FaultyDisk()
    context = Context(max_prompt_tokens=600, summarize=summarize)
    chat = Conversation.open(
        "s", store=store, client=client, model="gpt-4.1", modalities=["text"], context=context
    )
    say(chat, 0)
    disk.arm("replace")
    number = 1
    while disk.fails:
        say(chat, number)
        number += 1
    assert len(summarize.calls) == 1
    with Conversation.open("s", store=store, read_only=True) as other:
        assert other._history.summary == chat._history.summary is not None
        assert len(other.turns) == 2 * number


@pytest.mark.parametrize(
    "saved", [1, [], {}, {"text": 1, "turns": 1}, {"text": "x", "turns": True}, {"text": " "},
              {"text": "x", "turns": 0}, {"text": "x", "turns": 99}, {"text": "x", "turns": "1"}]
)  # fmt: skip
def test_what_is_no_summary_is_ignored(client: OpenAI, tmp_path: Path, saved: Any) -> None:
    """A label that another program has spoiled is no damage."""
    chat = talk(client, Summarizer())
    say(chat, 0)
    path = chat.save(tmp_path / "s.json")
    label = b'"summary":%s,"title"' % orjson.dumps(saved)
    path.write_bytes(path.read_bytes().replace(b'"title"', label, 1))
    chat = Conversation.load(path, client=client, context=chat._requests.context)
    assert len(chat.messages()) == 2
    say(chat, 1)
    chat.undo()


def test_repair_drops_a_summary_of_turns_that_may_be_lost(client: OpenAI, tmp_path: Path) -> None:
    """It counts turns from the beginning, and one of them is missing afterwards."""
    store = FileStore(tmp_path, fsync=False)
    context = Context(max_prompt_tokens=600, summarize=Summarizer())
    with Conversation.open(
        "s", store=store, client=client, model="gpt-4.1", modalities=["text"], context=context
    ) as chat:
        say(chat, *range(6))
        assert chat._history.summary is not None
    path = tmp_path / "s.json"
    path.write_bytes(path.read_bytes().replace(b'{"role":"user"', b'{"role":', 1))
    with pytest.raises(SessionCorrupt):
        Conversation.open("s", store=store)
    store.repair("s")
    with Conversation.open("s", store=store) as chat:
        assert len(chat.turns) == 11
        assert chat._history.summary is None


def test_an_unchanged_default_asks_for_nothing(server: StandIn, client: OpenAI) -> None:
    """Without `summarize`, turns that are left out are left out, as before."""
    chat = talk(client, None)
    say(chat, *range(8))
    assert len(server.requests) == 8
    assert "left out, over budget" in str(chat.render())


@pytest.mark.parametrize("bad", ["", "  ", 1, True, ["m"], Summarizer])
def test_summarizers_are_models_or_functions(bad: Any) -> None:
    """Anything else is refused when the context is made."""
    with pytest.raises(InvalidSetting, match="summarize must be a model's name"):
        Context(summarize=bad)


async def later(turns: tuple[Turn, ...], previous: str | None) -> str:
    """Return a summary after a while."""
    await asyncio.sleep(0)
    return f"{previous or 'so far'}, {len(turns)} turns"


class Later:
    """An object that is called as an async function."""

    async def __call__(self, turns: tuple[Turn, ...], previous: str | None) -> str:
        return await later(turns, previous)


@pytest.mark.parametrize("summarize", [later, Later(), Summarizer(), MODEL])
def test_in_the_async_twin(server: StandIn, summarize: Any) -> None:
    """Functions may be async there, and run in the loop; others run in threads."""

    async def run() -> None:
        chat = AsyncConversation(
            client=server.async_client(),
            model="gpt-4.1",
            modalities=["text"],
            context=Context(max_prompt_tokens=600, summarize=summarize),
        )
        for number in range(4):
            await chat.say(f"Sheep {number}. {WORDS}")
        for number in range(4, 8):
            async with chat.stream(f"Sheep {number}. {WORDS}") as events:
                async for _ in events:
                    pass
        assert "summary of the first " in str(await chat.render())

    asyncio.run(run())


@pytest.mark.parametrize("summarize", [later, Later()])
def test_async_functions_need_the_async_twin(summarize: Callable[..., Any]) -> None:
    """They are refused at once, not when the first summary is due."""
    with pytest.raises(InvalidSetting, match="give it to AsyncConversation"):
        Conversation(context=Context(summarize=summarize))


def test_a_function_cannot_change_its_conversation(client: OpenAI) -> None:
    """It is called within an exchange; the exchange goes on."""
    caught: list[type[BaseException]] = []

    def summarize(_: tuple[Turn, ...], __: str | None) -> str:
        try:
            chat.add_user("Me, too")
        except ConversationBusy as error:
            caught.append(type(error))
        return "words"

    chat = talk(client, summarize)
    say(chat, *range(6))
    assert set(caught) == {ConversationBusy}
    assert len(chat.turns) == 12


def test_ctrl_c_during_a_summary_keeps_the_question(server: StandIn, client: OpenAI) -> None:
    """The exchange ends, and `reply` goes on with it."""
    is_on = True

    def summarize(_: tuple[Turn, ...], __: str | None) -> str:
        if is_on:
            raise KeyboardInterrupt
        return "words"

    chat = talk(client, summarize)
    with pytest.raises(KeyboardInterrupt):
        say(chat, *range(10))
    is_on = False
    assert chat.turns[-1].role == "user"
    asked = len(server.requests)
    chat.reply()
    assert len(server.requests) == asked + 1
    assert chat._history.summary is not None

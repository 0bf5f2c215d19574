"""Parity of `Conversation` and `AsyncConversation`: the same cases run through both."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import functools
import hashlib
import inspect
import logging
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs
import openai
import orjson
import pytest

from conversation import (
    AssistantTurn,
    AsyncConversation,
    AudioInput,
    Conversation,
    FileInput,
    FileStore,
    ImageInput,
    SystemTurn,
    ToolCall,
    ToolCalled,
    ToolTurn,
    UserTurn,
)
from conversation._async_client import AsyncStream
from conversation._client import Stream
from conversation._locking import Polling
from conversation._values.turns import Turn
from conversation._wire.writing import line_from_turn
from conversation.errors import (
    ConversationBusy,
    InvalidCompletion,
    InvalidSetting,
    InvalidTurn,
    SaveFailed,
    SessionChanged,
    SessionCorrupt,
    SessionExists,
    SessionLocked,
    SessionNotFound,
    SessionReadOnly,
    SessionTooNew,
    ToolLoopExceeded,
    UnknownToolCall,
)
from conversation.stores._disk import Disk
from conversation.testing import StandIn
from tests.conftest import Clock
from tests.samples import MP3, PNG, SOUND, answer, spoken, tool_call

Json = dict[str, Any]
Kind = type[BaseException]

NO_REQUEST: Any = None

# --- adapter: both twins awaited ---------------------------------------------------------------


def awaited(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as a coroutine function that never suspends."""

    async def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never suspends, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("a case awaited something other than its side")


def spoken_turn() -> AssistantTurn:
    """Return a spoken answer."""
    return attrs.evolve(Conversation().add_completion(spoken()), at=None)


class Awaited:
    """`Conversation` with the interface of `AsyncConversation`."""

    def __init__(self, chat: Conversation) -> None:
        self._chat = chat

    def __repr__(self) -> str:
        return repr(self._chat)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._chat, name)
        if name in ("stream", "hold"):
            return lambda *content, **options: AwaitedStream(value(*content, **options))
        return awaited(value) if callable(value) else value

    async def __aenter__(self) -> Self:
        self._chat.__enter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._chat.__exit__(*error)


class AwaitedStream:
    """`Stream` with the interface of `AsyncStream`."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def __aenter__(self) -> Any:
        entered = self._stream.__enter__()
        return self if entered is self._stream else entered

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.__exit__(kind, error, traceback)

    def __aiter__(self) -> Self:
        self._events = iter(self._stream)
        return self

    async def __anext__(self) -> Any:
        for event in self._events:
            return event
        raise StopAsyncIteration


class FullDisk(Disk):
    """Disk whose next write fails once `is_full` is set."""

    is_full = False

    def write(self, descriptor: int, data: bytes, at: int) -> None:
        if self.is_full:
            self.is_full = False
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(descriptor, data, at)


class Side:
    """One twin with its own server, clock and disk, and a record of its results."""

    def __init__(self, folder: Path, server: StandIn, clock: Clock, *, is_async: bool) -> None:
        self.folder = folder
        self.server = server
        self.clock = clock
        self.is_async = is_async
        self.client: Any = server.async_client() if is_async else server.client()
        self.disk = FullDisk(fsync=False)
        self.store = FileStore(folder / "sessions", fsync=False)
        self.store._disk = self.disk
        self.told: list[str] = []
        self.chats: list[Any] = []
        self.place = self.store.root / "s.json"

    def chat(self, **settings: Any) -> Any:
        """Return a conversation in memory."""
        kind: Any = AsyncConversation if self.is_async else Conversation
        return self.kept(kind(**{"client": self.client, "clock": self.clock, **settings}))

    async def open(self, session_id: str = "s", **options: Any) -> Any:
        """Open a saved session."""
        given: Any = {"client": self.client, "clock": self.clock, "store": self.store, **options}
        if self.is_async:
            return self.kept(await AsyncConversation.open(session_id, **given))
        return self.kept(Conversation.open(session_id, **given))

    async def load(self, path: Path, **settings: Any) -> Any:
        """Load a conversation from a file."""
        given: Any = {"client": self.client, "clock": self.clock, **settings}
        if self.is_async:
            return self.kept(await AsyncConversation.load(path, **given))
        return self.kept(Conversation.load(path, **given))

    def kept(self, chat: Any) -> Any:
        """Return a conversation as the cases use it, and take it into the account."""
        self.chats.append(chat if self.is_async else Awaited(chat))
        return self.chats[-1]

    async def create(self, **request: Any) -> Any:
        """Send a request through the client alone."""
        made = self.client.chat.completions.create(**request)
        return await made if self.is_async else made

    def chunks(self, chunks: Iterable[Any]) -> Any:
        """Return an iterable of chunks, an async one for the async twin."""

        async def one_by_one() -> AsyncIterator[Any]:
            for chunk in chunks:
                yield chunk

        return one_by_one() if self.is_async else iter(list(chunks))

    def tool(self, function: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        """Return the coroutine function as a tool for this twin."""

        @functools.wraps(function)
        def call(**arguments: Any) -> Any:
            return at_once(function(**arguments))

        return function if self.is_async else call

    def tell(self, *values: Any) -> None:
        """Record the values as they are now."""
        self.told += map(described, values)

    async def fails(self, kind: Kind | tuple[Kind, ...], outcome: Awaitable[Any]) -> Any:
        """Check that the outcome raises, record the error and return it."""
        with pytest.raises(kind) as caught:
            await outcome
        self.tell(caught.value)
        return caught.value

    async def streamed(self, chat: Any, *content: Any, **options: Any) -> list[Any]:
        """Record and return all events of a stream."""
        async with chat.stream(*content, **options) as events:
            found = [event async for event in events]
        self.tell(*found)
        return found

    async def rest(self, events: Any) -> None:
        """Record the remaining events of an entered stream."""
        self.tell(*[event async for event in events])

    def lose(self, turn: AssistantTurn) -> None:
        """Make the server forget the id of an answer."""
        assert turn.audio is not None
        self.server.forget(str(turn.audio.id))

    def account(self) -> list[str]:
        """Return all that can be observed of this side, without random names and paths."""
        lines = list(self.told)
        for chat in self.chats:
            lines.append(f"chat {chat!r} {chat.id} {chat.title} {chat.metadata} {chat.recovered}")
            lines += (f"turn {described(turn)}" for turn in chat.turns)
            lines.append(f"usage {chat.usage}")
        lines += (
            f"sent {body.path} {orjson.dumps(body).decode()}" for body in self.server.requests
        )
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        texts = [path for path in files if path.parent.suffix != ".audio"]
        lines += (f"file {path}: {path.read_text('utf-8', 'replace')}" for path in texts)
        masked = Mask(self).masked
        lines = [masked(line) for line in lines]
        sounds = (f"file {path}: {digest(path.read_bytes())}" for path in files)
        return lines + sorted(masked(sound) for sound in sounds if ".audio/" in sound)


class Mask:
    """Replace ids, random names and paths by the order in which they occur."""

    def __init__(self, side: Side) -> None:
        self._names = {str(side.folder): "<folder>", side.server.url: "<url>"}
        self._random = re.compile(
            "|".join(
                [
                    *map(re.escape, self._names),
                    r"audio_[0-9a-f]{32}",
                    r"call_[0-9a-f]{24}",
                    r"chatcmpl-[0-9a-f]{28}",
                    r"(?<=\d\d\d\d-)[0-9a-f]{8}(?=\.)",
                    r"(?<=torn-)[0-9a-f]{8}",
                    r"(?<=\"revision\":\")[0-9a-f]{8}",
                ]
            )
        )

    def masked(self, text: str) -> str:
        """Return the text with all of them replaced."""
        text = re.sub(r"[A-Za-z0-9+/=]{200,}", lambda found: digest(found[0].encode()), text)
        text = re.sub(r"\bAsync(?=Conversation|OpenAI)", "", text)
        return self._random.sub(
            lambda found: self._names.setdefault(found[0], f"<{len(self._names)}>"), text
        )


def digest(data: bytes) -> str:
    """Return the length and a short hash of the bytes."""
    return f"{len(data)} bytes {hashlib.sha256(data).hexdigest()[:12]}"


def described(value: Any) -> str:
    """Describe a value: errors with their notes, turns as saved and with their sound."""
    if isinstance(value, BaseException):
        about = {
            name: described(getattr(value, name))
            for name in ("turn", "path", "line", "tool_call_id", "open_calls", "status_code")
            if hasattr(value, name)
        }
        notes = getattr(value, "__notes__", [])
        return f"{type(value).__name__} {value} {notes} {about} from {type(value.__cause__)}"
    if isinstance(value, Turn):
        audio = value.audio if isinstance(value, AssistantTurn) else None
        sound = digest(audio.read()) if audio and audio.data is not None else "no sound"
        duration = audio and audio.duration
        return f"{type(value).__name__} {line_from_turn(value).decode()} {sound} {duration}"
    if attrs.has(type(value)):
        fields = {a.name: described(getattr(value, a.name)) for a in attrs.fields(type(value))}
        return f"{type(value).__name__} {fields}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} {[described(item) for item in value]}"
    return digest(value) if isinstance(value, bytes) else repr(value)


# --- requests ----------------------------------------------------------------------------------

Case = Callable[[Side], Coroutine[Any, Any, None]]
CASES: list[Case] = []


def case(function: Case) -> Case:
    """Register a case."""
    CASES.append(function)
    return function


@case
async def says_replies_and_remembers(side: Side) -> None:
    """`say` and `reply` send earlier answers as voice, and after an hour as transcripts."""
    chat = side.chat(instructions="Be brief.")
    side.tell(await chat.say("One"), await chat.say("Two", AudioInput(SOUND)))
    side.clock.now += 3600
    await chat.add_user("Three")
    side.tell(await chat.reply())
    side.tell(await chat.messages(), await chat.render(), await chat.request(stream=True))


@case
async def takes_a_message_once(side: Side) -> None:
    """A repeated delivery and an answered question are not sent, what was unanswered is."""
    chat, other = await side.open(), await side.open()
    first = await chat.say("One", message_id="1", name="Zoë K.")
    side.tell(first, await other.say("One", message_id="1"))
    side.tell(await other.add_user("Two", message_id="2"), other.unanswered, chat.unanswered)
    side.tell(await chat.add_user("Zwei", message_id="2"), chat.unanswered)
    await side.streamed(chat, "Zwei", message_id="2", name="Ann")
    await side.streamed(other, "Zwei", message_id="2")
    await side.streamed(other)
    side.tell(await other.reply(), other.unanswered)
    for wrong in ("", "x" * 513, 5):
        await side.fails(InvalidTurn, chat.say("Three", message_id=wrong))
        await side.fails(InvalidTurn, chat.add_user("Three", message_id=wrong))
        await side.fails(InvalidTurn, side.streamed(chat, "Three", message_id=wrong))
        await side.fails(InvalidTurn, chat.say("Three", name=5))
    await side.fails(InvalidTurn, side.streamed(chat, message_id="3"))
    await side.fails(InvalidTurn, side.streamed(chat, name="Ann"))
    assert len(side.server.requests) == 2
    side.tell(await chat.undo(), await chat.say("Zwei", message_id="2"))
    side.tell(await other.refresh(), await other.refresh(), await side.chat().refresh())
    assert len(chat.turns) == 4


@case
async def holds_what_is_several_changes(side: Side) -> None:
    """Others are locked out of a block; a read-only session is refused."""
    chat, other = await side.open(), await side.open(timeout=0)
    async with chat.hold() as held:
        assert held is (chat if side.is_async else chat._chat)
        side.tell(await chat.add_user("One"), await chat.reply())
        await side.fails(SessionLocked, other.say("Two"))
        side.tell(await other.refresh(), await chat.refresh())
        async with chat.hold():
            await side.streamed(chat, "Three")
    side.tell(await other.say("Two"), await chat.refresh())
    reader = await side.open(read_only=True)
    await side.fails(SessionReadOnly, entered(reader.hold()))
    side.tell(await chat.undo(), await reader.refresh(), await other.refresh())


async def entered(hold: Any) -> Any:
    """Enter a block."""
    async with hold as chat:
        return chat


@case
async def passes_options_and_refuses_invalid_ones(side: Side) -> None:
    """Options are passed through; invalid ones are refused before a turn is added."""
    chat = side.chat(audio_format="mp3", voice="echo")
    side.tell(await chat.say("One", temperature=0.5, audio={"voice": "alloy"}, model="gpt-audio"))
    side.tell(await chat.say(AudioInput(MP3), modalities=["text"]))
    side.tell(await chat.undo(answer_only=True))
    side.tell(await chat.reply(modalities=["text", "audio"]))
    wrong: list[Json] = [{"n": 2}, {"messages": []}, {"seed": 10**30}, {"audio": "alloy"}]
    for options in wrong:
        await side.fails(InvalidSetting, chat.say("Two", **options))
        await side.fails(InvalidSetting, chat.reply(**options))
        await side.fails(InvalidSetting, chat.request(**options))
        await side.fails(InvalidSetting, side.streamed(chat, "Two", **options))
    await side.fails(InvalidTurn, chat.say(""))
    await side.fails(InvalidTurn, chat.say())
    await side.fails(InvalidTurn, chat.say(5))
    await side.fails(InvalidTurn, side.streamed(chat, " "))
    assert len(chat.turns) == 4


@case
async def needs_turns_or_instructions(side: Side) -> None:
    """An empty chat is refused by `reply` and `stream`, one with instructions is not."""
    chat = side.chat()
    await side.fails(InvalidTurn, chat.reply())
    await side.fails(InvalidTurn, side.streamed(chat))
    side.tell(await side.chat(instructions="Greet the user.").reply())
    await side.streamed(side.chat(instructions="Greet the user."))


@case
async def says_with_stream_true(side: Side) -> None:
    """`say(stream=True)` returns the answer."""
    side.tell(await side.chat().say("One", stream=True))


@case
async def refuses_invalid_settings(side: Side) -> None:
    """Invalid settings and the client of the other twin are refused."""
    other = openai.OpenAI(api_key="x") if side.is_async else openai.AsyncOpenAI(api_key="x")
    wrong: list[Json] = [{"model": ""}, {"audio_format": "ogg"}, {"tools": 5}]
    for settings in wrong:
        with pytest.raises(InvalidSetting) as caught:
            side.chat(**settings)
        side.tell(caught.value)
    with pytest.raises(InvalidSetting, match="client must be an openai"):
        side.chat(client=other)


@case
async def needs_an_api_key(side: Side) -> None:
    """A missing API key raises with a note on the remedy, before a turn is added."""
    chat = side.chat(client=None)
    await side.fails(openai.OpenAIError, chat.say("Hello"))
    await side.fails(openai.OpenAIError, chat.reply())
    await side.fails(openai.OpenAIError, side.streamed(chat, "Hello"))
    await side.fails(openai.OpenAIError, chat.transcribe())
    assert chat.turns == ()


# --- added turns -------------------------------------------------------------------------------


@case
async def adds_each_kind_of_turn(side: Side) -> None:
    """Each kind of turn can be added and is sent."""
    chat = side.chat()
    side.tell(
        await chat.add_system("Be kind."),
        await chat.add_assistant("Hello!"),
        await chat.add_user("Hi", AudioInput(SOUND, transcript="there"), ImageInput(PNG)),
        await chat.add_user(FileInput(b"%PDF-1.4", filename="a.pdf")),
        await chat.add_completion(answer(content=None, tool_calls=[tool_call("a")])),
        await chat.add_tool_result("a", {"degrees": -3}),
        await chat.add(AssistantTurn(content="It is cold.")),
        await chat.add(SystemTurn("Go on.")),
    )
    assert len(chat.turns) == 8
    side.tell(await chat.messages())


@case
async def refuses_invalid_turns(side: Side) -> None:
    """Empty content, wrong types and results without an open call are refused."""
    chat = side.chat()
    for add in (chat.add_user, chat.add_system, chat.add_assistant):
        await side.fails(InvalidTurn, add(" "))
        await side.fails(InvalidTurn, add(5))
    await side.fails(InvalidTurn, chat.add_user())
    await side.fails(InvalidTurn, chat.add("Hello"))
    await side.fails(InvalidTurn, chat.add(UserTurn(())))
    await side.fails(UnknownToolCall, chat.add_tool_result("a", "1"))
    await side.fails(UnknownToolCall, chat.add(ToolTurn("a", "1")))
    await chat.add_completion(answer(tool_calls=[tool_call("a"), tool_call("b")]))
    await chat.add_tool_result("a", "1")
    await side.fails(UnknownToolCall, chat.add_tool_result("a", "2"))
    await side.fails(InvalidSetting, chat.add_tool_result("b", float("nan")))
    assert len(chat.turns) == 2


@case
async def adds_completions_of_own_calls(side: Side) -> None:
    """Completions of own calls are added as SDK objects, dicts and streams."""
    chat = side.chat()
    await chat.add_user("One")
    side.tell(await chat.add_completion(await side.create(**await chat.request())))
    await chat.add_user("Two")
    whole = await side.create(**await chat.request(audio={"format": "mp3"}))
    side.tell(await chat.add_completion(whole.model_dump()))
    await chat.add_user("Three")
    side.tell(await chat.add_completion(await side.create(**await chat.request(stream=True))))
    assert chat.turns[-1].audio.format == "wav"
    side.tell(await chat.render())


@case
async def adds_chunks_of_own_streams(side: Side) -> None:
    """Chunks are added from any iterable, in the async twin also from async ones."""
    chat = side.chat()
    delta = {"role": "assistant", "audio": {"id": "audio_x", "transcript": "Good "}}
    more = {"audio": {"transcript": "morning.", "expires_at": 1_762_003_600}}
    head = {"object": "chat.completion.chunk", "created": 1_762_000_000, "model": "gpt-audio-1.5"}
    parts = [{**head, "choices": [{"index": 0, "delta": each}]} for each in (delta, more)]
    side.tell(await chat.add_completion(parts), await chat.add_completion(side.chunks(parts)))
    assert [turn.text for turn in chat.turns] == ["Good morning."] * 2
    side.tell(await chat.add_completion(side.chunks(parts[:1])))
    assert chat.turns[-1].interrupted
    nothings: list[Any] = [[], [{"error": {"message": "busy"}}], [{"choices": [{"message": {}}]}]]
    for nothing in nothings:
        await side.fails(InvalidCompletion, chat.add_completion(side.chunks(nothing)))
        await side.fails(InvalidCompletion, chat.add_completion(nothing))
    one = {"message": {"content": "a"}}
    nothings = ["text", None, {"choices": []}, {"choices": [one, one]}]
    for nothing in nothings:
        await side.fails(InvalidCompletion, chat.add_completion(nothing))
    assert len(chat.turns) == 3


@case
async def heals_errors_of_own_calls(side: Side) -> None:
    """`heal` gives up the named id first, then all ids, and the same error once only."""
    chat = side.chat()
    for word in ("One", "Two", "Three"):
        side.lose(await chat.say(word))
        await chat.add_completion(spoken(audio_id=f"audio_{word}"))
    side.tell(await chat.heal(ValueError("audio_not_found")))
    await chat.add_user("Four")
    for _ in range(2):
        error = await side.fails(openai.BadRequestError, side.create(**await chat.request()))
        side.tell(await chat.heal(error), await chat.heal(error), await chat.render())
    side.tell(await chat.add_completion(await side.create(**await chat.request())))


# --- errors of the server ----------------------------------------------------------------------


@case
async def heals_a_lost_id(side: Side) -> None:
    """A lost id costs one extra request and raises nothing."""
    chat = side.chat()
    side.lose(await chat.say("One"))
    side.tell(await chat.say("Two"))
    side.tell(await chat.render())
    assert len(side.server.requests) == 3


@case
async def gives_up_all_ids_at_the_second_loss(side: Side) -> None:
    """A second lost id gives up all ids: two extra requests at most."""
    chat = side.chat()
    answers = [await chat.say(word) for word in ("One", "Two", "Three", "Four")]
    for lost in answers[:3]:
        side.lose(lost)
    side.tell(await chat.say("Five"))
    assert len(side.server.requests) == 4 + 3


@case
async def raises_the_third_audio_not_found(side: Side) -> None:
    """The third `audio_not_found` is raised, and the question taken back."""
    chat = await side.open()
    await chat.say("One")
    for _ in range(3):
        side.server.will_fail(400, "Assistant audio audio_x not found.", code="audio_not_found")
    await side.fails(openai.BadRequestError, chat.say("Two"))
    assert len(chat.turns) == 2


@case
async def takes_refused_turns_back(side: Side) -> None:
    """A refused question is taken back with its sound, also on disk, and a note says so."""
    chat = await side.open()
    await chat.say("One")
    for status in (400, 404, 413, 422):
        side.server.will_fail(status)
        await side.fails(openai.APIStatusError, chat.say("Two", AudioInput(SOUND)))
        side.server.will_fail(status)
        await side.fails(openai.APIStatusError, side.streamed(chat, "Two", AudioInput(SOUND)))
    side.server.will_fail(404, "The model `x` does not exist", code="model_not_found")
    await side.fails(openai.NotFoundError, chat.say("Two"))
    await side.fails(openai.BadRequestError, chat.say("Two", modalities=["text"]))
    assert len(chat.turns) == 2


@case
async def keeps_turns_that_can_be_retried(side: Side) -> None:
    """A question whose failure a retry can mend is kept for `reply`, and a note says so."""
    chat = await side.open()
    for status in (401, 408, 429, 500, 503):
        side.server.will_fail(status)
        await side.fails(openai.APIStatusError, chat.say("Two"))
        side.server.will_fail(status)
        await side.fails(openai.APIStatusError, chat.reply())
    side.server.will_fail(401, "Incorrect API key provided", code="invalid_api_key")
    await side.fails(openai.AuthenticationError, chat.say("Two"))
    side.tell(await chat.reply())
    assert len(chat.turns) == 7


@case
async def keeps_the_question_when_the_response_is_invalid(side: Side) -> None:
    """A response without an answer keeps the question."""
    chat = side.chat()
    for body in (b'{"choices": []}', b'{"error": "busy"}', b"not json"):
        side.server.will_send(body)
        await side.fails(Exception, chat.say("Hello"))
    side.server.will_answer(cut_after=0)
    await side.fails(openai.APIConnectionError, chat.say("Hello"))
    assert len(chat.turns) == 4


@case
async def keeps_refusals_and_answers_without_sound(side: Side) -> None:
    """Refusals, text answers and answers cut by their length are kept."""
    chat = side.chat()
    side.server.will_answer(refusal="I must not.")
    side.tell(await chat.say("One"))
    side.server.will_answer("Only words.", spoken=False)
    side.tell(await chat.say("Two"))
    assert chat.turns[-1].voice_dropped
    side.server.will_answer("Cut sh", finish_reason="length")
    side.tell(await chat.say("Three"), await chat.render())


# --- tools -------------------------------------------------------------------------------------


async def weather(city: str, days: int = 1) -> dict[str, Any]:
    """Return the forecast.

    Args:
        city: Name of the city.
        days: Number of days ahead.
    """
    return {"city": city, "days": days, "degrees": -3}


async def broken() -> None:
    """Raise LookupError."""
    raise LookupError("no such thing")


OMIT = getattr(openai, "omit", openai.NOT_GIVEN)  # the SDK's first versions have only the latter
OWN_TOOL = {"type": "function", "function": {"name": "own", "parameters": {}}}


@case
async def calls_a_tool(side: Side) -> None:
    """A tool is called, and its result sent for the answer."""
    chat = await side.open(tools=[side.tool(weather)])
    side.server.will_answer(tool_calls=[("weather", {"city": "Oslo"})])
    side.tell(await chat.say("Weather?"))
    assert len(chat.turns) == 4


@case
async def calls_tools_in_parallel_and_in_rounds(side: Side) -> None:
    """Several calls of one answer, and calls of several answers, are carried out."""
    chat = side.chat(tools=[side.tool(weather)])
    side.server.will_answer(tool_calls=[("weather", {"city": c}) for c in ("Oslo", "Bergen")])
    side.server.will_answer("And now:", tool_calls=[("weather", {"city": "Rome", "days": 2})])
    side.tell(await chat.say("Weather?", tool_choice="required"))
    assert [turn.role for turn in chat.turns] == [
        *("user", "assistant", "tool", "tool"),
        *("assistant", "tool", "assistant"),
    ]


@case
async def sends_faulty_calls_as_results(side: Side) -> None:
    """Unfit arguments, unknown tools and exceptions of tools become results."""
    chat = side.chat(tools=[side.tool(weather), side.tool(broken)])
    calls = [
        tool_call("a", "weather", "{not json"),
        tool_call("b", "weather", '{"city": 5, "hours": 1}'),
        tool_call("c", "nothing"),
        tool_call("d", "broken"),
    ]
    side.server.will_send(answer(tool_calls=calls))
    side.tell(await chat.say("Weather?"))
    assert [turn.content[:6] for turn in chat.turns[2:6]] == ["Error:"] * 4


@case
async def stops_after_max_tool_rounds(side: Side) -> None:
    """`ToolLoopExceeded` is raised after `max_tool_rounds`, and all turns are kept."""
    chat = await side.open(tools=[side.tool(weather)], max_tool_rounds=2)
    for _ in range(4):
        side.server.will_answer(tool_calls=[("weather", {"city": "Oslo"})])
    await side.fails(ToolLoopExceeded, chat.say("Weather?"))
    assert len(chat.turns) == 6
    side.tell(await chat.reply())
    for _ in range(3):
        side.server.will_answer(tool_calls=[("weather", {"city": "Oslo"})])
    await side.fails(ToolLoopExceeded, side.streamed(chat, "Weather?"))
    for _ in range(2):
        side.server.will_answer(tool_calls=[("weather", {"city": "Oslo"})])
    await side.fails(
        ToolLoopExceeded, side.chat(tools=[side.tool(weather)], max_tool_rounds=0).say("?")
    )


@case
async def leaves_dict_tools_to_the_caller(side: Side) -> None:
    """Calls of tools given as dicts are left to the caller."""
    chat = side.chat(tools=[OWN_TOOL])
    side.server.will_answer(tool_calls=[("own", {}), ("weather", {"city": "Oslo"})])
    turn = await chat.say("Weather?")
    side.tell(turn)
    for call in turn.tool_calls:
        await chat.add_tool_result(call.id, "cold")
    side.tell(await chat.reply())
    side.server.will_answer(tool_calls=[("own", {})])
    await side.streamed(chat, "Weather?")
    side.tell(await chat.say("Never mind."))


@case
async def mixes_functions_and_dict_tools(side: Side) -> None:
    """Functions are called, and calls of dict tools are left to the caller."""
    chat = side.chat(tools=[OWN_TOOL, side.tool(weather)])
    side.server.will_answer(tool_calls=[("own", {}), ("weather", {"city": "Oslo"})])
    turn = await chat.say("Weather?")
    side.tell(turn)
    assert len(chat.turns) == 3
    side.tell(await chat.add_tool_result(turn.tool_calls[0].id, None), await chat.reply())
    assert len(side.server.requests) == 2
    side.server.will_answer(tool_calls=[("weather", {"city": "Oslo"})])
    side.tell(await chat.say("Again?", tools=[side.tool(weather)]))


@case
async def fails_in_the_second_round(side: Side) -> None:
    """A refusal after a round of tools keeps the question."""
    chat = await side.open(tools=[side.tool(weather)])
    side.server.will_answer(tool_calls=[("weather", {"city": "Oslo"})])
    chats = [chat]

    async def fail() -> str:
        """Make the next request fail."""
        side.server.will_fail(chats.pop() and 400)
        return "failing"

    await side.fails(openai.BadRequestError, _with(side, chat, fail))
    side.tell(await chat.reply())


async def _with(side: Side, chat: Any, function: Callable[..., Any]) -> Any:
    side.server.will_answer(tool_calls=[(function.__name__, {})])
    return await chat.say("Fail?", tools=[side.tool(function)])


# --- streaming ---------------------------------------------------------------------------------


@case
async def streams_an_answer(side: Side) -> None:
    """A stream yields words, sound and the turn, which is then sent as voice."""
    chat = await side.open()
    events = await side.streamed(chat, "One", AudioInput(SOUND))
    assert {type(event).__name__ for event in events} == {
        *("TranscriptDelta", "AudioDelta", "TurnFinished")
    }
    await chat.add_user("Two")
    await side.streamed(chat, temperature=0.5)
    side.tell(await chat.say("Three"), await chat.render())


@case
async def streams_in_every_order(side: Side) -> None:
    """Chunks in any known order give the same answers."""
    chat = side.chat()
    for order in ("recorded", "mixed", "finish first", "no finish", "no expiry"):
        side.server.will_answer(f"In the order {order}.", order=order, chunk_bytes=1001)
        await side.streamed(chat, "One")
    side.tell(await chat.render())


@case
async def streams_with_tools(side: Side) -> None:
    """A stream yields tool calls with their results between the answers."""
    chat = await side.open(tools=[side.tool(weather), side.tool(broken)])
    side.server.will_answer(tool_calls=[("weather", {"city": "Oslo"}), ("broken", {})])
    side.server.will_answer("And now:", tool_calls=[("weather", {"city": "Rome"})])
    events = await side.streamed(chat, "Weather?")
    named = [type(event).__name__ for event in events if "Delta" not in type(event).__name__]
    assert named == [
        *("TurnFinished", "ToolCalled", "ToolCalled"),
        *("TurnFinished", "ToolCalled", "TurnFinished"),
    ]


@case
async def streams_text_answers_and_refusals(side: Side) -> None:
    """Text answers and refusals stream as text deltas."""
    chat = side.chat()
    side.server.will_answer("Only words.", spoken=False)
    await side.streamed(chat, "One")
    assert chat.turns[-1].voice_dropped
    side.server.will_answer(refusal="I must not.")
    await side.streamed(chat, "Two")
    await side.streamed(chat, AudioInput(SOUND), modalities=["text"])
    side.tell(await chat.render())


@case
async def keeps_partial_answers_of_left_streams(side: Side) -> None:
    """A stream left after any event keeps what had arrived."""
    chat = await side.open()
    for count in range(1, 8):
        side.server.will_answer("Good morning to you !", chunk_bytes=40_000)
        async with chat.stream(f"Leave after {count}") as events:
            arrived = 0
            async for event in events:
                side.tell(event)
                arrived += 1
                if arrived == count:
                    break
        side.tell(chat.turns[-1])
        assert chat.turns[-1].interrupted
    async with chat.stream("Not even looked at"):
        side.tell(len(chat.turns))
    async with chat.stream("Up to its last event") as events:
        async for event in events:
            if type(event).__name__ == "TurnFinished":
                break
    assert not chat.turns[-1].interrupted
    side.tell(await chat.say("And?"), await chat.render())


@case
async def calls_no_tool_after_a_stream_is_left(side: Side) -> None:
    """A stream left amid tool calls keeps the calls and carries out no more of them."""
    chat = await side.open(tools=[side.tool(weather)])
    for last in ("TurnFinished", "ToolCalled"):
        side.server.will_answer(tool_calls=[("weather", {"city": c}) for c in ("Oslo", "Rome")])
        async with chat.stream("Weather?") as events:
            async for event in events:
                if type(event).__name__ == last:
                    break
        side.tell(chat.turns[-1], await chat.messages(), await chat.say("And?"))


@case
async def keeps_partial_answers_when_the_consumer_raises(side: Side) -> None:
    """An exception of the consumer passes through, and what had arrived is kept."""
    chat = await side.open()

    async def fail(error: BaseException) -> None:
        async with chat.stream("One") as events:
            async for event in events:
                side.tell(event)
                raise error

    await side.fails(LookupError, fail(LookupError("a fault of the consumer's")))
    await side.fails(openai.APIError, fail(openai.APIError("alike", NO_REQUEST, body=None)))
    await side.fails(GeneratorExit, fail(GeneratorExit()))
    assert [turn.role for turn in chat.turns] == ["user", "assistant"] * 3
    side.tell(await chat.say("And?"))


@case
async def keeps_partial_answers_when_the_connection_is_cut(side: Side) -> None:
    """A cut connection keeps what had arrived, and the next request is valid."""
    chat = await side.open()
    for count in range(7):
        side.server.will_answer("Good morning.", cut_after=count)
        await side.fails(Exception, side.streamed(chat, "One"))
        side.tell(chat.turns[-1])
    for count in range(2, 5):
        side.server.will_answer("Good morning.", fail_after=count)
        await side.fails(openai.APIError, side.streamed(chat, "Two"))
    side.tell(await chat.say("And?"), await chat.render())


@case
async def tolerates_malformed_chunks(side: Side) -> None:
    """Empty and malformed chunks are tolerated, and a response without chunks is refused."""
    chat = side.chat()
    head = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "other"}
    streams: list[list[Json]] = [
        [{"content": "a"}, {"content": None}, {"role": "assistant", "content": "b"}],
        [{"audio": {"id": None, "transcript": "x", "data": None, "expires_at": None}}],
        [{"audio": {"data": "not base64!", "transcript": "y"}}, {"audio": {"data": "AQ=="}}],
        [],
        [{}],
    ]
    for deltas in streams:
        side.server.will_stream([{**head, "choices": [{"index": 0, "delta": d}]} for d in deltas])
        try:
            await side.streamed(chat, "One")
        except InvalidCompletion as error:
            side.tell(error)
    side.server.will_stream(
        [{**head, "choices": [{"index": 0, "delta": {"content": "a"}}]}], cut_after=1
    )
    await side.fails(Exception, side.streamed(chat, "Two"))
    side.server.will_send(answer(content="not streamed"))
    await side.fails(InvalidCompletion, side.streamed(chat, "Three"))


@case
async def fails_before_the_first_chunk(side: Side) -> None:
    """A stream that fails before its first chunk acts like a failed `say`."""
    chat = await side.open()
    for status in (500, 429, 400):
        side.server.will_fail(status)
        await side.fails(openai.APIStatusError, side.streamed(chat, "One"))
    side.server.will_answer(fail_after=0)
    await side.fails(openai.APIError, side.streamed(chat, "One"))
    side.server.will_answer(cut_after=0)
    await side.fails(Exception, side.streamed(chat, "One"))
    await side.streamed(chat)


@case
async def heals_before_the_first_chunk(side: Side) -> None:
    """`audio_not_found` is healed as a response and as the first chunk of a stream."""
    chat = await side.open()
    first = await chat.say("One")
    side.lose(first)
    await side.streamed(chat, "Two")
    second = chat.turns[-1]
    message = f"Assistant audio {second.audio.id} not found."
    error = {"message": message, "code": "audio_not_found", "param": None, "type": "x"}
    side.server.will_stream([{"error": error}])
    await side.streamed(chat, "Three")
    side.tell(await chat.render())
    assert len(side.server.requests) == 1 + 2 + 2


# --- edits -------------------------------------------------------------------------------------


@case
async def truncates_answers(side: Side) -> None:
    """`truncate` cuts sound and words, and refuses invalid seconds and turns."""
    for audio_format in ("wav", "mp3"):
        chat = await side.open(audio_format, audio_format=audio_format)
        await side.fails(InvalidTurn, chat.truncate(1))
        await chat.say("One")
        for seconds in (1000, 2.5):
            side.tell(await chat.truncate(seconds), await chat.render())
        assert chat.turns[-1].interrupted
        for wrong in (-1, "1", float("nan"), True):
            await side.fails(InvalidTurn, chat.truncate(wrong))
        await side.streamed(chat, "Two")
        for seconds in (1, 0):
            side.tell(await chat.truncate(seconds))
        side.tell(await chat.say("Three"))
        await chat.add_user("Four")
        await side.fails(InvalidTurn, chat.truncate(1))


@case
async def undoes_exchanges_and_answers(side: Side) -> None:
    """`undo` removes whole exchanges, or only answers, with their files."""
    chat = await side.open(tools=[side.tool(weather)])
    await chat.add_system("Be kind.")
    await chat.say("One", AudioInput(SOUND))
    side.server.will_answer(tool_calls=[("weather", {"city": "Oslo"})])
    await chat.say("Two")
    side.tell(await chat.undo(answer_only=True))
    side.tell(await chat.reply())
    side.tell(await chat.undo())
    taken = await chat.undo(True)
    side.tell(taken, await chat.undo(answer_only=True))
    side.tell(await chat.add(taken[0]))
    side.tell(await chat.undo(), await chat.undo(), chat.usage)
    assert len(chat.turns) == 1


@case
async def sets_transcripts(side: Side) -> None:
    """`set_transcript` changes spoken turns and refuses others."""
    chat = await side.open()
    said = await chat.add_user("Look:", AudioInput(SOUND))
    heard = await chat.reply()
    side.tell(await chat.set_transcript(said, "hello"), await chat.set_transcript(heard, "Hi!"))
    assert [turn.text for turn in chat.turns] == ["Look:\nhello", "Hi!"]
    written = await chat.add_user("No sound")
    other = await side.chat().add_user("Not here")
    for turn, text in ((written, "x"), (other, "x"), (chat.turns[0], 5)):
        await side.fails(InvalidTurn, chat.set_transcript(turn, text))


@case
async def transcribes_user_sound(side: Side) -> None:
    """`transcribe` keeps what it found before an error, and asks for nothing twice."""
    chat = await side.open(transcribe="whisper-1")
    await chat.add_user("Look:", AudioInput(SOUND), AudioInput(SOUND, transcript="known"))
    await chat.add_user(AudioInput(MP3), AudioInput(SOUND))
    await chat.add_user("No sound")
    side.server.will_fail(429)
    await side.fails(openai.APIStatusError, chat.transcribe())
    side.server.will_transcribe("first")
    side.server.will_transcribe("second")
    side.server.will_transcribe("third")
    side.tell(await chat.transcribe(), await chat.transcribe())
    assert [turn.text for turn in chat.turns] == [
        "Look:\nfirst\nknown",
        "second\nthird",
        "No sound",
    ]
    await chat.add_user(AudioInput(SOUND))
    for path in (side.store.root / "s.audio").glob("0004-*"):
        path.unlink()
    side.tell(await chat.transcribe())
    other = side.chat()
    await other.add_user(AudioInput.from_pcm(bytes(480), 24_000))
    await other.add_user(AudioInput(SOUND))
    await side.fails(openai.BadRequestError, other.transcribe())
    side.tell(await other.transcribe(), other.turns)


@case
async def speaks_text_answers(side: Side) -> None:
    """`speak_when_dropped` voices text answers, and keeps their text if that fails."""
    chat = await side.open(speak_when_dropped=True)
    side.server.will_answer("Only words.", spoken=False)
    side.tell(await chat.say("One"))
    side.server.will_answer("Only words.", spoken=False)
    await side.streamed(chat, "Two")
    assert chat.turns[-1].audio.duration == chat.turns[1].audio.duration
    side.server.will_answer("Only words.", spoken=False)
    side.server.will_fail(500)
    side.tell(await chat.say("Three"))
    assert chat.turns[-1].audio is None
    mp3 = side.chat(speak_when_dropped="tts-1", audio_format="mp3")
    side.server.will_answer("Only words.", spoken=False)
    side.tell(await mp3.say("Four"), await mp3.render(), await chat.render())


@case
async def answers_no_picture_unseen(side: Side) -> None:
    """Pictures that the model does not take are refused when new, and placeholders when earlier."""
    chat = await side.open()
    await side.fails(InvalidTurn, chat.say(ImageInput(PNG)))
    await side.fails(InvalidTurn, side.streamed(chat, ImageInput(PNG)))
    await chat.add_user(ImageInput(PNG), "A dog")
    side.tell(await chat.request())
    await side.fails(InvalidTurn, chat.reply())
    await chat.add_assistant("I see.")
    side.tell(await chat.say("What colour?"), await chat.render())
    text = side.chat(model="gpt-5", modalities=["text"])
    await text.add_user(ImageInput(PNG), "A dog")
    await text.add_assistant("I see.")
    side.server.will_fail(400, "This model does not support image_url content.")
    side.tell(await text.say("What colour?"), await text.render())
    await side.fails(InvalidTurn, text.say(ImageInput(PNG)))


# --- sessions ----------------------------------------------------------------------------------


@case
async def saves_title_and_metadata(side: Side) -> None:
    """Title and metadata are saved, and invalid ones refused."""
    chat = await side.open()
    await chat.set_title("Dogs")
    await chat.set_metadata({"a": [1, {"b": None}]})
    await side.fails(InvalidSetting, chat.set_title(5))
    await side.fails(InvalidSetting, chat.set_metadata([1]))
    await side.fails(InvalidSetting, chat.set_metadata({"a": float("nan")}))
    await chat.close()
    again = await side.open(read_only=True)
    side.tell(again.title, again.metadata)
    assert again.title == "Dogs"
    memory = side.chat()
    side.tell(await memory.set_title("x\ud800"), await memory.set_title(None))
    await side.fails(InvalidSetting, memory.set_metadata({1: "one"}))


@case
async def saves_and_loads(side: Side) -> None:
    """A saved file can be loaded and continued, and damaged files are refused."""
    chat = await side.open(voice="echo", instructions="Be brief.")
    await chat.say("One", AudioInput(SOUND))
    await side.streamed(chat, "Two")
    path = await chat.save(side.folder / "copy.json")
    loaded = await side.load(path, voice="alloy")
    assert loaded.turns[-1].text == chat.turns[-1].text
    side.tell(path, await loaded.say("Three"), await loaded.save(str(path)))
    for i, broken_file in enumerate((b"{", b"[]", path.read_bytes()[:-20], b'{"conversation":99}')):
        damaged = side.folder / f"damaged-{i}.txt"
        damaged.write_bytes(broken_file)
        await side.fails((SessionCorrupt, SessionTooNew), side.load(damaged))
    await side.fails(FileNotFoundError, side.load(side.folder / "none.json"))
    await side.fails(SaveFailed, chat.save(side.folder / "none" / "copy.json"))


@case
async def resumes_sessions(side: Side) -> None:
    """A resumed session has the turns and labels of other objects."""
    async with await side.open(voice="echo") as chat:
        assert not side.place.exists()
        await chat.say("One", AudioInput(SOUND))
    again = await side.open(model="gpt-audio", create=False)
    side.tell(await again.say("Two"), again.turns)
    assert len(again.turns) == 4
    side.clock.now += 3600
    third = await side.open()
    side.tell(await third.say("Three"))
    await again.set_title("One of two objects")
    side.tell(again.turns, third.title)
    assert again.turns[-1].text == third.turns[-1].text


@case
async def refuses_changes_when_read_only(side: Side) -> None:
    """A read-only session refuses every change and creates no file."""
    await side.fails(SessionNotFound, side.open(read_only=True))
    await side.fails(SessionNotFound, side.open(create=False))
    assert not side.store.root.exists()
    chat = await side.open()
    await chat.say("One")
    reader = await side.open(read_only=True)
    side.tell(await reader.messages(), await reader.save(side.folder / "copy.json"))
    for change in (
        reader.say("Two"),
        reader.add_user("Two"),
        side.streamed(reader, "Two"),
        reader.undo(),
        reader.set_title("Two"),
        reader.truncate(1),
        reader.transcribe(),
        reader.heal(ValueError()),
    ):
        await side.fails(SessionReadOnly, change)
    assert len(chat.turns) == len(reader.turns) == 2


@case
async def refuses_changes_when_closed(side: Side) -> None:
    """A closed session refuses changes, but an exchange under way is finished."""
    chat = await side.open()
    await chat.say("One")
    await chat.close()
    await chat.close()
    await side.fails(SessionReadOnly, chat.say("Two"))
    await side.fails(SessionReadOnly, chat.add_user("Two"))
    side.tell(await chat.messages())
    other = await side.open()
    async with other.stream("Two") as events:
        await other.close()
        await side.rest(events)
    await side.fails(SessionReadOnly, other.say("Three"))
    with pytest.raises(LookupError):
        async with await side.open() as third:
            raise LookupError
    await side.fails(SessionReadOnly, third.say("Three"))
    memory = side.chat()
    await memory.close()
    side.tell(await memory.say("In memory"))


@case
async def recovers_a_torn_session(side: Side) -> None:
    """A torn session is repaired by a writer, and reported to a reader."""
    async with await side.open() as chat:
        await chat.say("One")
        await chat.say("Two")
    side.place.write_bytes(side.place.read_bytes()[:-20])
    reader = await side.open(read_only=True)
    side.tell(reader.recovered, reader.turns)
    assert reader.recovered is not None
    again = await side.open()
    side.tell(again.recovered, await again.say("Three"))
    assert len(again.turns) == 5


@case
async def refuses_damaged_sessions(side: Side) -> None:
    """A damaged session is refused, and its file is not changed."""
    async with await side.open() as chat:
        await chat.say("One")
    whole = side.place.read_bytes()
    for damaged in (
        whole.replace(b'"turns":[\n{', b'"turns":[\n{{'),
        whole.replace(b'"id":"s"', b'"id":"t"'),
        whole.replace(b'"conversation":1', b'"conversation":2'),
        whole.replace(b'"role":"user"', b'"role":"nobody"'),
        b"",
    ):
        side.place.write_bytes(damaged)
        try:
            chat = await side.open()
        except (SessionCorrupt, SessionTooNew) as error:
            side.tell(error)
        else:
            await side.fails(SessionCorrupt, chat.say("Two"))
            side.chats.remove(chat)
        assert side.place.read_bytes() == damaged
    with pytest.raises(InvalidSetting) as caught:
        await side.open("")
    side.tell(caught.value)


@case
async def does_not_wait_with_timeout_zero(side: Side) -> None:
    """`timeout=0` raises `SessionLocked` at once while another object holds the lock."""
    chat, other = await side.open(), await side.open(timeout=0)
    async with chat.stream("One") as events:
        for change in (
            other.say("Two"),
            other.add_user("Two"),
            side.streamed(other, "Two"),
            other.set_title("Two"),
            other.transcribe(),
        ):
            await side.fails(SessionLocked, change)
        await side.rest(events)
    side.tell(await other.say("Two"))
    assert len(other.turns) == 4


@case
async def refuses_to_write_into_a_changed_file(side: Side) -> None:
    """A file changed by others raises `SessionChanged` with the answer, and is not written."""
    chat = await side.open()
    await chat.say("One")
    whole = side.place.read_bytes()
    async with chat.stream("Two") as events:
        side.place.write_bytes(whole + b"// seen\n")
        error = await side.fails(SessionChanged, side.rest(events))
    assert error.turn is not None
    side.place.write_bytes(whole)
    side.place.unlink()
    await side.fails(SessionChanged, chat.say("Three"))
    assert not side.place.exists()


@case
async def changes_nothing_on_a_full_disk(side: Side) -> None:
    """A full disk raises `SaveFailed` with the turn, changes nothing, and can be retried."""
    chat = await side.open()
    for change in (
        lambda: chat.add_user("One"),
        lambda: chat.set_title("One"),
        lambda: chat.say("One"),
        lambda: side.streamed(chat, "One"),
        lambda: chat.add_completion(spoken()),
    ):
        side.disk.is_full = True
        await side.fails(SaveFailed, change())
        assert (chat.turns, chat.title) == ((), None)

    async def full() -> str:
        """Fill the disk."""
        side.disk.is_full = True
        return "full"

    side.server.will_answer(tool_calls=[("full", {})])
    error = await side.fails(SaveFailed, chat.say("One", tools=[side.tool(full)]))
    assert isinstance(error.turn, ToolTurn)
    side.tell(await chat.add(error.turn), await chat.reply())
    async with chat.stream("Two") as events:
        side.disk.is_full = True
        error = await side.fails(SaveFailed, side.rest(events))
    side.tell(await chat.add(error.turn), await chat.say("Three"))
    side.server.will_answer("Good morning.", cut_after=3)
    async with chat.stream("Four") as events:
        side.disk.is_full = True
        await side.fails(SaveFailed, side.rest(events))


# --- changes from inside an exchange -----------------------------------------------------------


def changes(side: Side, chat: Any) -> list[Awaitable[Any]]:
    """Return every kind of change to a conversation, not yet awaited."""
    return [
        chat.say("Two"),
        chat.reply(),
        side.streamed(chat, "Two"),
        chat.add_user("Two"),
        chat.add_assistant("Two"),
        chat.add_system("Two"),
        chat.add_completion(spoken()),
        chat.add_tool_result("a", "b"),
        chat.add(SystemTurn("Two")),
        chat.undo(),
        chat.truncate(1),
        chat.set_transcript(chat.turns[0], "Two"),
        chat.set_title("Two"),
        chat.set_metadata({}),
        chat.transcribe(),
        chat.heal(ValueError()),
    ]


@case
async def is_busy_while_a_tool_runs(side: Side) -> None:
    """Changes by a tool raise `ConversationBusy`; uncaught, it becomes the tool's result."""

    async def meddle() -> str:
        """Change the conversation during its exchange."""
        for change in changes(side, chat):
            await side.fails(ConversationBusy, change)
        side.tell(await chat.messages(), await chat.render(), await chat.request())
        await chat.add_user("unheard of")
        return "done"

    chat = await side.open(tools=[side.tool(meddle)])
    side.server.will_answer(tool_calls=[("meddle", {})])
    side.tell(await chat.say("One"))
    assert chat.turns[2].content.startswith("Error: ConversationBusy")
    side.server.will_answer(tool_calls=[("meddle", {})])
    await side.streamed(chat, "Two")
    assert len(chat.turns) == 8


@case
async def is_busy_until_a_stream_is_left(side: Side) -> None:
    """Changes raise `ConversationBusy` until the stream's block is left, reading does not."""
    chat = await side.open()
    async with chat.stream("One") as events:
        async for event in events:
            if type(event).__name__ in ("AudioDelta", "TurnFinished"):
                for change in changes(side, chat):
                    await side.fails(ConversationBusy, change)
                side.tell(await chat.messages(), await chat.save(side.folder / "copy.json"))
        for change in changes(side, chat):
            await side.fails(ConversationBusy, change)
    assert len(chat.turns) == 2
    side.tell(await chat.add_user("Two"), await chat.reply())


@case
async def is_busy_at_any_depth(side: Side) -> None:
    """`ConversationBusy` is raised through another conversation, and after many others."""

    async def ask_inner() -> str:
        """Ask the inner conversation."""
        side.server.will_answer(tool_calls=[("ask_outer", {})])
        return str((await inner.say("Will you?")).text)

    async def ask_outer() -> str:
        """Ask the outer conversation."""
        return str(await outer.say("Will you?"))

    outer, inner = side.chat(tools=[side.tool(ask_inner)]), side.chat(tools=[side.tool(ask_outer)])
    side.server.will_answer(tool_calls=[("ask_inner", {})])
    side.tell(await outer.say("Ask."))
    assert inner.turns[2].content.startswith("Error: ConversationBusy")
    async with outer.stream("Many others in between") as events:
        async for event in events:
            if type(event).__name__ == "TurnFinished":
                for number in range(12):
                    await side.chat().say(f"{number}")
                await side.fails(ConversationBusy, outer.set_title("?"))


# --- edits -------------------------------------------------------------------------------------


@case
async def extends_all_or_nothing(side: Side) -> None:
    """Turns are added together; one that is refused, or a full disk, adds none."""
    chat = await side.open()
    call = AssistantTurn(tool_calls=(ToolCall("a", "look_up", "{}"),))
    side.tell(await chat.extend([UserTurn("One"), call, ToolTurn("a", "1"), spoken_turn()]))
    side.tell(await chat.extend(iter([UserTurn((AudioInput(SOUND),))])), await chat.extend([]))
    before = chat.turns
    for wrong in (UserTurn(" "), ToolTurn("a", "2"), "text", None):
        kind = UnknownToolCall if isinstance(wrong, ToolTurn) else InvalidTurn
        await side.fails(kind, chat.extend([UserTurn("Two"), wrong]))
    await side.fails(InvalidTurn, chat.extend([UserTurn("Two"), SystemTurn("")]))
    for nothing in (UserTurn("Two"), None, "text"):
        await side.fails(InvalidTurn, chat.extend(nothing))
    side.disk.is_full = True
    await side.fails(SaveFailed, chat.extend([UserTurn("Two"), UserTurn("Three")]))
    assert chat.turns == before
    side.tell(await chat.extend([UserTurn("Two"), UserTurn("Three")]))


@case
async def drops_turns(side: Side) -> None:
    """`rewind`, `remove` and `clear` drop turns, keep what they cost, and refuse others' turns."""
    chat = await side.open(instructions="Be brief.")
    for words in ("One", "Two", "Three", "Four"):
        await chat.say(words, AudioInput(SOUND))
    spent, foreign = chat.usage, await side.chat().add_user("Five")
    await chat.set_title("T")
    await side.fails(InvalidTurn, chat.remove(chat.turns[0], foreign))
    await side.fails(InvalidTurn, chat.rewind(foreign))
    await side.fails(InvalidTurn, chat.rewind("Two"))
    side.tell(await chat.remove(chat.turns[3], chat.turns[2], chat.turns[3]), await chat.remove())
    side.tell(await chat.rewind(chat.turns[4]))
    assert [turn.text for turn in chat.turns[::2]] == ["One", "Three"]
    side.tell(await chat.say("Six"), await chat.render())
    side.disk.is_full = True
    await side.fails(SaveFailed, chat.clear())
    assert await chat.clear() is None
    assert (chat.turns, chat.title) == ((), "T")
    assert chat.usage.prompt_tokens > spent.prompt_tokens
    await chat.clear()
    side.tell(await chat.say("Seven"), (await side.open(read_only=True)).usage)


@case
async def forks_the_beginning(side: Side) -> None:
    """`fork` copies up to a turn, and saves into another store."""
    chat = side.chat()
    first = await chat.say("One")
    await chat.say("Two")
    fork = side.kept(await chat.fork(until=first))
    assert len(fork.turns) == 2
    saved = side.kept(await chat.fork("copy", until=chat.turns[0], store=side.store))
    side.tell(fork.turns, saved.turns, await saved.say("Three"), saved.usage)
    await side.fails(SessionExists, fork.fork("copy", store=str(side.store.root)))
    for wrong in ({"store": side.store}, {"session_id": "x", "store": 5}):
        await side.fails(InvalidSetting, chat.fork(**wrong))
    await side.fails(InvalidTurn, chat.fork(until=await side.chat().add_user("Four")))


@case
async def truncates_an_earlier_answer(side: Side) -> None:
    """`truncate` cuts an earlier answer, also one that was changed since."""
    chat = await side.open()
    reply = await chat.say("One")
    silent = await chat.say(AudioInput(SOUND), modalities=["text"])
    await chat.set_transcript(reply, "one two three four")
    cut = await chat.truncate(reply.audio.duration / 2, reply)
    assert cut is chat.turns[1]
    assert (cut.text, cut.interrupted) == ("one two", True)
    side.tell(cut, await chat.truncate(100, turn=reply), await chat.render())
    await side.fails(InvalidTurn, chat.truncate(1, silent))
    await side.fails(InvalidTurn, chat.truncate(1, chat.turns[0]))
    await side.fails(InvalidTurn, chat.truncate(-1, reply))


# --- settings and context ----------------------------------------------------------------------


@case
async def sends_options_with_each_request(side: Side) -> None:
    """`options` go with every request, one call overrides them one by one, and they are saved."""
    options = {"temperature": 0.8, "max_completion_tokens": 500}
    chat = await side.open(options=options)
    options["temperature"] = 2.5
    side.tell(await chat.say("One"), await chat.say("Two", temperature=0.1))
    await side.streamed(chat, "Three", max_completion_tokens=OMIT)
    assert [body.get("temperature") for body in side.server.requests] == [0.8, 0.1, 0.8]
    assert [b.get("max_completion_tokens") for b in side.server.requests] == [500, 500, None]
    again = await side.open()
    side.tell(await again.request(), await side.kept(await again.fork()).request(seed=1))
    other = await side.open(options={"seed": 7})
    side.tell(await other.request())
    await other.set_title("saves them")
    side.tell(await (await side.open()).request(), await (await side.open(options={})).request())


@case
async def refuses_options_that_are_none(side: Side) -> None:
    """Options that `say` refuses, JSON cannot hold, or that have a setting of their own."""
    wrong: list[Any] = [
        *({"n": 2}, {"messages": []}, {"seed": 10**30}, {"seed": float("nan")}, {5: 6}),
        *({"model": "gpt-audio"}, {"audio": {}}, {"tools": []}, {"modalities": ["text"]}),
        *({"voice": "echo"}, {"stream": True}, {"stream_options": {}}, {"options": {}}),
        *({"user": b"bytes"}, {"user": object()}, {"name": "Ann"}, [("seed", 1)], "seed", None),
    ]
    for options in wrong:
        with pytest.raises(InvalidSetting) as caught:
            side.chat(options=options)
        side.tell(re.sub(r"0x[0-9a-f]+", "", str(caught.value)))
    chat = await side.open()
    await chat.say("One")
    text = side.place.read_text()
    side.place.write_text(text.replace('"settings":{', '"settings":{"options":{"n":2},'))
    await side.fails(SessionCorrupt, side.open())


_user: ContextVar[str] = ContextVar("_user", default="nobody")


@case
async def context_variables_reach_tools(side: Side) -> None:
    """Tools, also those that run in worker threads, see the caller's context variables."""

    def who(_depth: int = 0) -> str:
        """Return the user."""
        return _user.get()

    async def who_else() -> str:
        """Return the user."""
        return _user.get()

    chat = side.chat(tools=[who, side.tool(who_else)])
    _user.set("Ann")
    for streams in (False, True):
        side.server.will_answer(tool_calls=[("who", {}), ("who_else", {})])
        if streams:
            await side.streamed(chat, "Who am I?")
        else:
            side.tell(await chat.say("Who am I?"))
        results = [turn.content for turn in chat.turns if isinstance(turn, ToolTurn)]
        assert results == ["Ann", "Ann"]
        await chat.clear()


@case
async def log_lines_name_the_session(side: Side) -> None:
    """Every line says which session it is about, and none those of a conversation in memory."""

    def broken() -> str:
        """Fail."""
        raise ValueError("100%s")

    chat = await side.open("ann 100%s", tools=[broken])
    for streams in (False, True):
        side.server.will_answer(tool_calls=[("broken", {})])
        if streams:
            async with chat.stream("Go") as events:
                async for event in events:
                    if isinstance(event, ToolCalled):
                        logging.getLogger("conversation").warning("the consumer's own: 1%")
        else:
            await chat.say("Go", AudioInput(SOUND))
    side.lose(chat.turns[-1])
    await chat.say("Again")
    for path in side.store.root.rglob("0001-*.wav"):
        path.unlink()
    await chat.say("And again")
    await chat.render()
    await chat.messages()
    await chat.save(side.folder / "copy.json")
    await chat.fork()
    memory = side.chat()
    await memory.extend([AssistantTurn(), UserTurn("?")])
    await memory.messages()


# --- comparison --------------------------------------------------------------------------------


@pytest.fixture
def _never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a case would wait: nobody else holds the lock, so it would deadlock."""
    pause = Polling.pause

    def one_look(polling: Polling) -> float:
        pause(polling)
        pytest.fail("deadlock: the case waits for its own lock")

    monkeypatch.setattr(Polling, "pause", one_look)


@pytest.mark.usefixtures("_never_waits")
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.__name__))
def test_both_twins_do_the_same(
    case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Both twins return, keep, send, save, log and raise the same."""
    caplog.set_level(logging.INFO, "conversation")
    accounts = []
    for is_async in (False, True):
        caplog.clear()
        clock = Clock()
        folder = tmp_path / ("async" if is_async else "sync")
        folder.mkdir()
        with StandIn(clock=clock) as server:
            side = Side(folder, server, clock, is_async=is_async)
            run: Callable[[Coroutine[Any, Any, None]], None] = asyncio.run if is_async else at_once
            contextvars.Context().run(run, case(side))
            accounts.append(
                [*side.account(), *(Mask(side).masked(line) for line in caplog.messages)]
            )
    assert accounts[0] == accounts[1]
    assert len(accounts[0]) > 2
    if case is log_lines_name_the_session:
        name = "ann 100%s"
        others = [line for line in caplog.messages if not line.startswith(f"session {name!r}: ")]
        assert [line[:20] for line in others] == ["the consumer's own: ", "sending a placeholde"]
        assert len(caplog.messages) > 7
        assert {getattr(record, "session", "") for record in caplog.records} == {name, None}


# --- interface ---------------------------------------------------------------------------------


def offered(kind: type) -> dict[str, Any]:
    """Return the public methods and properties of a class by name."""
    return {
        name: inspect.getattr_static(kind, name) for name in dir(kind) if not name.startswith("_")
    }


def bare(member: Any) -> Any:
    """Return the function of a method."""
    return getattr(member, "__func__", member)


def test_both_twins_have_the_same_signatures() -> None:
    """Members, parameters, defaults and types of both twins are equal but for `client`."""
    one, other = offered(Conversation), offered(AsyncConversation)
    assert one.keys() == other.keys()
    assert len(one) > 25
    for name in one:
        if isinstance(one[name], property):
            assert other[name] is one[name], name
            continue
        assert type(one[name]) is type(other[name]), name
        mine, theirs = inspect.signature(bare(one[name])), inspect.signature(bare(other[name]))
        assert mine.parameters.keys() == theirs.parameters.keys(), name
        for parameter in mine.parameters.values():
            theirs_expected = parameter
            if parameter.name == "client":
                assert parameter.annotation == "OpenAI | None"
                theirs_expected = parameter.replace(annotation="AsyncOpenAI | None")
            assert theirs.parameters[parameter.name] == theirs_expected, name
        returned = {"stream": "AsyncStream", "hold": "AsyncHold[Self]", "open": "Opening[Self]"}
        returned["from_messages"] = "Self | Opening[Self]"
        at_once = returned.keys()
        assert theirs.return_annotation == returned.get(name, mine.return_annotation), name
        assert inspect.iscoroutinefunction(bare(other[name])) is (name not in at_once), name
    settings = [inspect.signature(kind.__init__) for kind in (Conversation, AsyncConversation)]
    assert settings[0] == settings[1]


def test_async_docstrings_refer_to_the_sync_methods() -> None:
    """Each async method's docstring refers to its sync twin; each setting is documented."""
    for name, member in offered(AsyncConversation).items():
        if not isinstance(member, property):
            doc = str(inspect.getdoc(bare(member)))
            assert doc.startswith(f"Same as `Conversation.{name}`"), name
            assert "\n" not in doc, name
    named = [
        re.findall(r"^    (\w+): ", str(inspect.getdoc(kind)).partition("Raises:")[0], re.MULTILINE)
        for kind in (Conversation, AsyncConversation)
    ]
    assert named[0] == named[1] == list(inspect.signature(Conversation).parameters)
    for method in ("enter", "exit"):
        assert hasattr(Conversation, f"__{method}__")
        assert inspect.iscoroutinefunction(getattr(AsyncConversation, f"__a{method}__"))
        assert inspect.iscoroutinefunction(getattr(AsyncStream, f"__a{method}__"))

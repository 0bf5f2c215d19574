"""`AsyncConversation`: the twin of `Conversation` for asyncio."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack, overload

from conversation._async_client import AsyncHold, AsyncStream, client_or_default, run
from conversation._base.making import BaseConversation, check_place
from conversation._base.talking import greeting, tool_content
from conversation._exchange.holding import adding, adding_completion
from conversation._exchange.steps import Steps, work
from conversation._rendering.explanation import Rendering
from conversation._rendering.settings import SettingsGiven
from conversation._rendering.window import Context
from conversation._values.naming import Naming
from conversation._values.parts import Part
from conversation._values.turns import AssistantTurn, SystemTurn, ToolTurn, Turn, UserTurn
from conversation._wire.messages import Message
from conversation.stores import Store

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["AsyncConversation", "AsyncStream"]

_R = TypeVar("_R")
_TurnT = TypeVar("_TurnT", bound=Turn)
_ChatT = TypeVar("_ChatT", bound="AsyncConversation")


class AsyncConversation(BaseConversation["AsyncOpenAI"]):
    """Same as `Conversation`, for programs that run on asyncio.

    Methods that wait for a disk or a server are awaited. Disk work runs in worker threads; once
    begun it is finished, also when the task is cancelled. No worker thread waits for a lock. The
    first request imports the SDK, which takes a second: make your `AsyncOpenAI` at start-up.

    Args:
        client: An `openai.AsyncOpenAI`. None: one for each event loop, made when first needed.
        model: As in `Conversation`.
        voice: As in `Conversation`.
        audio_format: As in `Conversation`.
        modalities: As in `Conversation`.
        instructions: As in `Conversation`.
        tools: As in `Conversation`; functions may be async too. Others run in worker threads.
        max_tool_rounds: As in `Conversation`.
        context: As in `Conversation`.
        transcribe: As in `Conversation`.
        speak_when_dropped: As in `Conversation`.
        clock: As in `Conversation`.
        expiry_margin: As in `Conversation`.
        audio_as_data_url: As in `Conversation`.
        options: As in `Conversation`.

    Raises:
        InvalidSetting: if one of them cannot work.
    """

    _client_class = "AsyncOpenAI"

    # --- what is sent --------------------------------------------------------------------------

    async def request(self, **options: Any) -> dict[str, Any]:
        """Same as `Conversation.request`, awaited."""
        return await self._look(partial(self._requests.request, options))

    async def messages(self) -> list[Message]:
        """Same as `Conversation.messages`, awaited."""
        return await self._look(self._requests.messages)

    async def render(self) -> Rendering:
        """Same as `Conversation.render`, awaited."""
        return await self._look(self._requests.explain)

    async def heal(self, error: BaseException) -> bool:
        """Same as `Conversation.heal`, awaited."""
        return await run(self._changing(partial(self._requests.heal, error)))

    # --- adding turns --------------------------------------------------------------------------

    async def add_user(
        self, *content: Part, name: str | None = None, message_id: str | None = None
    ) -> UserTurn:
        """Same as `Conversation.add_user`, awaited."""
        return await self.add(self._said(content, name, message_id))

    async def add_assistant(self, text: str) -> AssistantTurn:
        """Same as `Conversation.add_assistant`, awaited."""
        return await self.add(greeting(text))

    async def add_system(self, text: str) -> SystemTurn:
        """Same as `Conversation.add_system`, awaited."""
        return await self.add(SystemTurn(text))

    async def add_completion(self, completion: Any) -> AssistantTurn:
        """Same as `Conversation.add_completion`, awaited; a stream may be an async one."""
        async with contextlib.AsyncExitStack() as stack:
            if hasattr(completion, "__aenter__") and not hasattr(completion, "__aiter__"):
                completion = await stack.enter_async_context(completion)
            if hasattr(completion, "__aiter__"):
                completion = [chunk async for chunk in completion]
        return await run(adding_completion(self._requests, completion))

    async def add_tool_result(self, tool_call_id: str, content: Any) -> ToolTurn:
        """Same as `Conversation.add_tool_result`, awaited."""
        return await self.add(ToolTurn(tool_call_id, tool_content(content)))

    async def add(self, turn: _TurnT) -> _TurnT:
        """Same as `Conversation.add`, awaited."""
        return await run(adding(self._history, turn))

    async def extend(self, turns: Iterable[Turn]) -> tuple[Turn, ...]:
        """Same as `Conversation.extend`, awaited."""
        return await run(self._extending(turns))

    # --- changing turns and labels -------------------------------------------------------------

    async def undo(self, answer_only: bool = False) -> tuple[Turn, ...]:
        """Same as `Conversation.undo`, awaited."""
        return await run(self._dropping(partial(self._history.undo, answer_only=answer_only)))

    async def rewind(self, turn: Turn) -> tuple[Turn, ...]:
        """Same as `Conversation.rewind`, awaited."""
        return await run(self._dropping(partial(self._history.rewind, turn)))

    async def remove(self, *turns: Turn) -> tuple[Turn, ...]:
        """Same as `Conversation.remove`, awaited."""
        return await run(self._dropping(partial(self._history.remove, turns)))

    async def clear(self) -> None:
        """Same as `Conversation.clear`, awaited."""
        await run(self._dropping(self._history.clear))

    async def fork(
        self,
        session_id: str | None = None,
        *,
        until: Turn | None = None,
        store: Store | str | Path | None = None,
    ) -> Self:
        """Same as `Conversation.fork`, awaited."""
        return await run(self._forking(session_id, until, store))

    async def truncate(self, seconds: float, turn: Turn | None = None) -> AssistantTurn:
        """Same as `Conversation.truncate`, awaited."""
        return await run(self._changing(partial(self._history.truncate, seconds, turn)))

    async def refresh(self) -> tuple[Turn, ...]:
        """Same as `Conversation.refresh`, awaited."""
        return await run(self._refreshing())

    def hold(self) -> AsyncHold[Self]:
        """Same as `Conversation.hold`, with `async with`."""
        return AsyncHold(self._holding, self)

    async def set_transcript(self, turn: Turn, text: str) -> AssistantTurn | UserTurn:
        """Same as `Conversation.set_transcript`, awaited."""
        return await run(self._changing(partial(self._history.set_transcript, turn, text)))

    async def set_title(self, text: str | None) -> None:
        """Same as `Conversation.set_title`, awaited."""
        await run(self._titling(text))

    async def set_metadata(self, mapping: Mapping[str, Any]) -> None:
        """Same as `Conversation.set_metadata`, awaited."""
        await run(self._noting(mapping))

    # --- exchanges with the model --------------------------------------------------------------

    async def say(
        self,
        *content: Part,
        name: str | None = None,
        message_id: str | None = None,
        **options: Any,
    ) -> AssistantTurn:
        """Same as `Conversation.say`, awaited."""
        return await self._run(self._asking(self._said(content, name, message_id), options))

    async def reply(self, **options: Any) -> AssistantTurn:
        """Same as `Conversation.reply`, awaited."""
        return await self._run(self._asking(None, options))

    def stream(
        self,
        *content: Part,
        name: str | None = None,
        message_id: str | None = None,
        **options: Any,
    ) -> AsyncStream:
        """Same as `Conversation.stream`, with `async with` and `async for`."""
        steps = partial(self._streaming, content, name, message_id, options)
        return AsyncStream(steps, self._client)

    async def transcribe(self) -> tuple[UserTurn, ...]:
        """Same as `Conversation.transcribe`, awaited."""
        return await self._run(self._transcribing())

    async def _look(self, job: Callable[[], _R]) -> _R:
        with Naming(self.id):
            return await run(work(job))

    async def _change(self, job: Callable[[], _R]) -> _R:
        return await run(self._changing(job))

    async def _run(self, steps: Steps[_R]) -> _R:
        return await run(steps, await client_or_default(self._client))

    # --- files ---------------------------------------------------------------------------------

    async def save(self, path: str | Path) -> Path:
        """Same as `Conversation.save`, awaited."""
        return await self._look(partial(self._save, path))

    async def export(self, path: str | Path, format: str | None = None) -> Path:  # noqa: A002
        """Same as `Conversation.export`, awaited."""
        return await self._look(partial(self._save, path, format))

    @classmethod
    async def load(
        cls,
        path: str | Path,
        *,
        client: AsyncOpenAI | None = None,
        clock: Callable[[], float] = time.time,
        context: Context = Context(),  # noqa: B008  # it is frozen
        **settings: Unpack[SettingsGiven],
    ) -> Self:
        """Same as `Conversation.load`, awaited."""
        job = partial(
            cls._loaded, path, client=client, clock=clock, context=context, settings=settings
        )
        return await run(work(job))

    @overload
    @classmethod
    def from_messages(
        cls,
        messages: Iterable[Any],
        *,
        session_id: None = None,
        store: None = None,
        client: AsyncOpenAI | None = None,
        clock: Callable[[], float] = time.time,
        context: Context = ...,
        **settings: Unpack[SettingsGiven],
    ) -> Self: ...
    @overload
    @classmethod
    def from_messages(
        cls,
        messages: Iterable[Any],
        *,
        session_id: str,
        store: Store | str | Path | None = None,
        client: AsyncOpenAI | None = None,
        clock: Callable[[], float] = time.time,
        context: Context = ...,
        **settings: Unpack[SettingsGiven],
    ) -> Opening[Self]: ...
    @classmethod
    def from_messages(
        cls,
        messages: Iterable[Any],
        *,
        session_id: str | None = None,
        store: Store | str | Path | None = None,
        client: AsyncOpenAI | None = None,
        clock: Callable[[], float] = time.time,
        context: Context = Context(),  # noqa: B008  # it is frozen
        **settings: Unpack[SettingsGiven],
    ) -> Self | Opening[Self]:
        """Same as `Conversation.from_messages`; with `session_id` awaited, as `open` is."""
        from conversation._wire.importing import turns_from_messages

        check_place(session_id, store)
        with Naming(session_id):
            turns = turns_from_messages(messages)
        given: Any = {"client": client, "clock": clock, "context": context, **settings}
        if session_id is None:
            return cls._imported(turns, **given)
        return Opening(lambda: run(cls._imported(turns, **given)._moving(store, session_id)))

    @classmethod
    def open(
        cls,
        session_id: str,
        *,
        store: Store | str | Path | None = None,
        create: bool = True,
        read_only: bool = False,
        timeout: float = 60.0,
        client: AsyncOpenAI | None = None,
        clock: Callable[[], float] = time.time,
        context: Context = Context(),  # noqa: B008  # it is frozen
        **settings: Unpack[SettingsGiven],
    ) -> Opening[Self]:
        """Same as `Conversation.open`, awaited, or entered with `async with`."""
        opening = partial(
            cls._opening,
            store,
            session_id,
            create=create,
            read_only=read_only,
            timeout=timeout,
            client=client,
            clock=clock,
            context=context,
            settings=settings,
        )
        return Opening(lambda: run(opening()))

    async def close(self) -> None:
        """Same as `Conversation.close`, awaited."""
        await run(work(self._history.close))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Opening(Generic[_ChatT]):
    """A session to be opened: `await` it, or enter it with `async with`."""

    def __init__(self, opening: Callable[[], Coroutine[Any, Any, _ChatT]]) -> None:
        self._opening = opening

    def __await__(self) -> Generator[Any, Any, _ChatT]:
        return self._opening().__await__()

    async def __aenter__(self) -> _ChatT:
        self._chat = await self
        return self._chat

    async def __aexit__(self, *_: object) -> None:
        await self._chat.close()

"""How conversations come about: from settings, sessions, files, messages and each other."""

from __future__ import annotations

import contextlib
import copy
import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn, Self, TypeVar, cast

import attrs

from conversation._base.talking import Talking
from conversation._exchange.requests import Requests
from conversation._exchange.speech import Transcripts
from conversation._exchange.steps import Steps, Work
from conversation._history.clock import time_from_clock
from conversation._history.edits import (
    INHERITED_TURNS,
    labels_without,
    position_of,
    start_of_last_exchange,
)
from conversation._history.history import UNDONE_USAGE, History, usage_of
from conversation._history.journal import Journal
from conversation._locking import check_timeout
from conversation._rendering.settings import Settings, SettingsGiven, check_names, read_settings
from conversation._rendering.window import Context
from conversation._values.media import inlined
from conversation._values.naming import Naming
from conversation._values.turns import Turn
from conversation._values.usage import Usage
from conversation._wire.servers import server_of
from conversation._wire.usage import usage_from_entry
from conversation.errors import (
    InvalidSetting,
    SaveFailed,
    SessionReadOnly,
    UnsupportedAudio,
    corrupt,
    not_found,
)
from conversation.stores import Store, StoredSession
from conversation.stores._default import store_of

_ClientT = TypeVar("_ClientT")
_InitT = TypeVar("_InitT", bound=Callable[..., None])


def _by_name(init: _InitT) -> _InitT:
    """Have a constructor refuse what it does not know in the words of its users."""

    @functools.wraps(init)
    def checked(self: object, *values: object, **given: Any) -> None:
        if values:
            name = type(self).__name__
            msg = f"{name}(…) takes settings by their names; {name}.open(id) opens a saved session"
            raise TypeError(msg)
        check_names(given)
        init(self, **given)

    return cast("_InitT", checked)


class BaseConversation(Talking[_ClientT]):
    """A conversation; `Conversation` documents the arguments."""

    _client_class: ClassVar[str]

    @_by_name
    def __init__(
        self,
        *,
        client: _ClientT | None = None,
        model: str = "gpt-audio-1.5",
        voice: str | Mapping[str, Any] = "alloy",
        audio_format: str = "wav",
        modalities: Iterable[str] = ("text", "audio"),
        instructions: str | None = None,
        tools: Iterable[Mapping[str, Any] | Callable[..., Any]] = (),
        max_tool_rounds: int = 8,
        context: Context = Context(),  # noqa: B008  # it is frozen
        transcribe: str | bool | None = None,
        speak_when_dropped: str | bool = False,
        clock: Callable[[], float] = time.time,
        expiry_margin: float = 30.0,
        audio_as_data_url: bool | None = None,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        settings = Settings(
            model=model,
            voice=voice,
            audio_format=audio_format,
            modalities=modalities,
            instructions=instructions,
            tools=tools,
            max_tool_rounds=max_tool_rounds,
            transcribe=transcribe,
            speak_when_dropped=speak_when_dropped,
            expiry_margin=expiry_margin,
            audio_as_data_url=audio_as_data_url,
            options=options,
        )
        history = History(_new_header(settings.saved(), clock), clock)
        self._assemble(settings, history, client=client, context=context, store=None)

    def _assemble(
        self,
        settings: Settings,
        history: History,
        *,
        client: _ClientT | None,
        context: Context,
        store: Store | None,
    ) -> None:
        _check_client(client, self._client_class)
        self._client = client
        self._store = store
        self._history = history
        server = server_of(client, settings.audio_as_data_url)
        self._requests = Requests(settings, history, context, server, can_await=self._is_async)
        self._transcripts = Transcripts(self._requests)
        # A copy that a lost server may have stored; whoever repeats it gets it.
        self._doubtful_copy: Self | None = None

    @property
    def _is_async(self) -> bool:
        return self._client_class.startswith("Async")

    @classmethod
    def _made(cls, settings: Settings, history: History, **given: Any) -> Self:
        """Return a conversation of a history that exists already."""
        chat = cls.__new__(cls)
        chat._assemble(settings, history, **given)
        return chat

    # --- copies ---------------------------------------------------------------------------------

    def _forking(
        self, session_id: str | None, until: Turn | None, store: Store | str | Path | None
    ) -> Steps[Self]:
        check_place(session_id, store)
        target = self._store if store is None else store_of(store)
        session = None
        if session_id is not None:
            target = store_of(target)
            session = target.session(session_id)
        if self._history.is_saved and not self._history.lock.is_in_exchange:
            with contextlib.suppress(SessionReadOnly):
                yield from self._changing(lambda: None)  # takes in what others wrote
        return (yield from self._filled(session, target, until=until))

    def _moving(self, store: Store | str | Path | None, session_id: str) -> Steps[Self]:
        """Save the same conversation as a new session of a store; its usage counts there."""
        store = store_of(store)
        return self._filled(store.session(session_id), store, moves=True)

    def _filled(
        self,
        session: StoredSession | None,
        store: Store | None,
        *,
        until: Turn | None = None,
        moves: bool = False,
    ) -> Steps[Self]:
        """Return a copy of this conversation in a session, or in memory."""
        turns: Sequence[Turn] = yield Work(lambda: self._history.turns, writes=False)
        dropped = range(len(turns) if until is None else position_of(until, turns) + 1, len(turns))
        turns = turns[: dropped.start]
        chat = self._doubtful_copy
        if chat is None or session is None or chat.id != session.id or chat._store is not store:
            paid = None if moves else len(turns)
            chat = self._empty_copy(session, store, inherited=paid, dropped=dropped)
        if session is None:
            with Naming(self.id):
                turns = yield Work(lambda: [inlined(turn) for turn in turns], writes=False)
        try:
            yield from chat._changing(partial(chat._history.fill, turns))
        except SaveFailed as error:
            self._doubtful_copy = chat if error.in_doubt else self._doubtful_copy
            raise
        self._doubtful_copy = None
        return chat

    def _empty_copy(
        self,
        session: StoredSession | None,
        store: Store | None,
        *,
        inherited: int | None,
        dropped: range = range(0),
    ) -> Self:
        """Return a conversation with the same settings and labels, whose turns are to be filled in.

        Args:
            session: Its session; None: in memory.
            store: The store of the session.
            inherited: Number of turns that were paid for here; None: their usage counts there.
            dropped: Positions of the turns that are not filled in.
        """
        labels = labels_without(self._history.header, dropped)
        header = copy.deepcopy(labels) | {"id": session and session.id}
        if inherited is not None:
            created = _time_text(self._history.clock)
            header |= {"created_at": created, INHERITED_TURNS: inherited}
            header.pop(UNDONE_USAGE, None)
        history = History(
            header,
            self._history.clock,
            journal=None if session is None else Journal(session, timeout=self._history.timeout),
        )
        chat = self._made(
            attrs.evolve(self._requests.settings),
            history,
            client=self._client,
            context=self._requests.context,
            store=store,
        )
        chat._requests.learn_from(self._requests)
        return chat

    def _without_answer(self) -> Self:
        """Return a copy in memory that ends before the last answer, to ask for another one."""
        start = start_of_last_exchange(self.turns, answer_only=True)
        dropped = range(start, len(self.turns))
        copied = self._empty_copy(None, None, inherited=None, dropped=dropped)
        copied._history.header.pop(UNDONE_USAGE, None)
        copied._history.fill(self.turns[:start])
        return copied

    def _taking_over(self, copied: Self, start: int, *, is_better: bool) -> Steps[None]:
        """Replace the turns from a position on by those of a copy, if they are better.

        What the copy has cost, and has learned of the turns before, is noted either way.
        """
        history, turns = self._history, copied.turns
        spent = usage_from_entry(copied._history.header.get(UNDONE_USAGE))
        spent += usage_of(() if is_better else turns[start:])

        def take_over() -> None:
            if is_better:
                history.replace_end(start, turns[start:])
            learned = {i: turn for i, turn in enumerate(turns[:start]) if turn != history[i]}
            if learned or spent != Usage():
                history.replace(learned, must_save=False, spent=spent)

        yield from self._changing(take_over)
        self._requests.learn_from(copied._requests)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a fork in memory, of the turns that this object knows."""
        with Naming(self.id):
            turns = [inlined(turn) for turn in self._history.turns]
        memo[id(self)] = chat = self._empty_copy(None, self._store, inherited=len(turns))
        chat._history.fill(turns)
        return chat

    def __copy__(self) -> Self:
        return copy.deepcopy(self)

    def __reduce__(self) -> NoReturn:
        name = type(self).__name__
        msg = (
            f"{name} cannot be pickled, because it holds locks and a client; keep its id and "
            f"{name}.open(id) it again, or save(path) and {name}.load(path)"
        )
        raise TypeError(msg)

    # --- sessions, files and messages -----------------------------------------------------------

    @classmethod
    def _opening(
        cls,
        store: Store | str | Path | None,
        session_id: str,
        *,
        create: bool,
        read_only: bool,
        timeout: float,
        client: _ClientT | None,
        clock: Callable[[], float],
        context: Context,
        settings: SettingsGiven,
    ) -> Steps[Self]:
        """Open a session; if its end is torn, repair it."""
        check_timeout(timeout)
        store = store_of(store)
        session = store.session(session_id)
        state = yield Work(session.read, writes=False)
        if state is None and (read_only or not create):
            raise not_found(session_id, session.place, session.file)
        header = state.header if state else {"id": session_id}
        merged, labels = _resumed(header, settings, session.file or session.place, clock)
        history = History(
            labels,
            clock,
            state.entries if state else (),
            journal=Journal(
                session,
                read_only=read_only,
                timeout=timeout,
                begun=state is not None,
                stale_header=labels != header,
            ),
            recovered=state.recovered if state else None,
            given=merged.saved(settings.keys(), only=True),
        )
        chat = cls._made(merged, history, client=client, context=context, store=store)
        if chat.recovered and not read_only:
            yield from chat._changing(lambda: None)  # the first who acquires it repairs it
        return chat

    @classmethod
    def _loaded(
        cls,
        path: str | Path,
        *,
        client: _ClientT | None,
        clock: Callable[[], float],
        context: Context,
        settings: SettingsGiven,
        data: bytes | None = None,
    ) -> Self:
        from conversation.stores._format import parse
        from conversation.stores._stored_file import fetch_beside

        path = Path(path).expanduser()
        document = parse(path.read_bytes() if data is None else data, path)
        if document.torn is not None:
            raise corrupt(path, "its end was cut off", document.torn.line)
        merged, labels = _resumed(document.header, settings, path, clock)
        history = History(labels, clock, document.entries, place=path, fetch=fetch_beside(path))
        try:
            with Naming(history.id):
                history.fill([inlined(turn) for turn in history.turns])  # refuses a damaged file
        except UnsupportedAudio as error:
            raise corrupt(path, f"a file of sound beside it is damaged: {error}") from error
        return cls._made(merged, history, client=client, context=context, store=None)

    @classmethod
    def _imported(cls, turns: Sequence[Turn], **settings: Any) -> Self:
        chat = cls(**settings)
        chat._history.fill(turns)
        return chat


def _time_text(clock: Callable[[], float]) -> str:
    now = datetime.fromtimestamp(time_from_clock(clock), UTC)
    return now.isoformat().removesuffix("+00:00") + "Z"


def _new_header(settings: Mapping[str, Any], clock: Callable[[], float]) -> dict[str, Any]:
    return {
        "id": None,
        "created_at": _time_text(clock),
        "title": None,
        "settings": settings,
        "metadata": {},
    }


def _resumed(
    header: Mapping[str, Any],
    given: SettingsGiven,
    place: Path | str,
    clock: Callable[[], float],
) -> tuple[Settings, dict[str, Any]]:
    """Return the settings of a document under those that are given, and all of its labels."""
    check_names(given)
    saved, foreign = read_settings(header.get("settings"), place)
    settings = attrs.evolve(saved, **given) if given else saved
    known = (header.get("settings") or {}).keys() - foreign.keys()
    labels = foreign | settings.saved(known | given.keys())
    return settings, {**_new_header(labels, clock), **header, "settings": labels}


def _check_client(client: object, kind: str) -> None:
    """Refuse one of the SDK's clients where the other one is needed."""
    names = {base.__name__ for base in type(client).__mro__}
    if names & ({"OpenAI", "AsyncOpenAI"} - {kind}):
        msg = f"client must be an openai.{kind} here, got {type(client).__name__}"
        raise InvalidSetting(msg)


def check_place(session_id: str | None, store: Store | str | Path | None) -> None:
    """Refuse a store for what stays in memory."""
    if session_id is None and store is not None:
        msg = "store=… needs a session_id to save it by; without both it stays in memory"
        raise InvalidSetting(msg)

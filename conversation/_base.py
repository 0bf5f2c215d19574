"""The base of both twins: settings, history and requests, and what can be asked without waiting."""

from __future__ import annotations

import contextlib
import copy
import functools
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, Self, TypeVar, cast

import attrs
import orjson

from conversation._exchange.exchange import asking
from conversation._exchange.holding import changing, hold, holding, refreshing
from conversation._exchange.requests import Requests
from conversation._exchange.speech import Transcripts
from conversation._exchange.steps import Over, Steps, Work
from conversation._history.answers import is_unanswered
from conversation._history.edits import (
    INHERITED_TURNS,
    inherited,
    labels_without,
    listed,
    position_of,
    start_of_last_exchange,
)
from conversation._history.history import UNDONE_USAGE, History, time_from_clock, usage_of
from conversation._history.journal import Journal
from conversation._locking import check_timeout
from conversation._rendering.settings import Settings, SettingsGiven, check_names, read_settings
from conversation._rendering.window import Context
from conversation._values.media import inlined
from conversation._values.naming import Naming
from conversation._values.parts import Part
from conversation._values.text import clean_text, counted
from conversation._values.turns import AssistantTurn, Turn, Usage, UserTurn
from conversation._wire.reading import time_from, usage_from_entry
from conversation._wire.servers import server_of
from conversation._wire.strict_json import json_bytes
from conversation._wire.writing import line_from_turn
from conversation.errors import (
    ContextTooSmall,
    InvalidSetting,
    InvalidTurn,
    SaveFailed,
    SessionReadOnly,
    UnsupportedAudio,
    corrupt,
    not_found,
)
from conversation.stores import Recovery, Store, StoredSession
from conversation.stores._default import store_of

if TYPE_CHECKING:
    from conversation._export.outline import Exported

_ClientT = TypeVar("_ClientT")
_InitT = TypeVar("_InitT", bound=Callable[..., None])
_R = TypeVar("_R")


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


class BaseConversation(Generic[_ClientT]):
    """Settings, turns and labels; `Conversation` documents the arguments."""

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
        can_await = self._client_class.startswith("Async")
        server = server_of(client, settings.audio_as_data_url)
        self._requests = Requests(settings, history, context, server, can_await=can_await)
        self._transcripts = Transcripts(self._requests)
        # A copy that a lost server may have stored; whoever repeats it gets it.
        self._doubtful_copy: Self | None = None

    @classmethod
    def _made(cls, settings: Settings, history: History, **given: Any) -> Self:
        """Return a conversation of a history that exists already."""
        chat = cls.__new__(cls)
        chat._assemble(settings, history, **given)
        return chat

    def __repr__(self) -> str:
        name = "" if self.id is None else f" {self.id!r}"
        model = self._requests.settings.model
        return f"<{type(self).__name__}{name} of {len(self._history)} turns with {model}>"

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns, oldest first."""
        return self._history.turns

    @property
    def unanswered(self) -> bool:
        """True if a user turn, a tool result or calls without results stand last.

        System turns behind them do not count. After a restart, or where others answer too::

            if chat.unanswered:
                chat.reply()
        """
        return is_unanswered(self._history)

    @property
    def usage(self) -> Usage:
        """Tokens of all answers together, as the API counted them; undone ones too.

        Calls of `audio.speech` and `audio.transcriptions` are billed besides.
        """
        return self._history.usage

    @property
    def id(self) -> str | None:
        """The id of the session; None in memory."""
        return self._history.id

    @property
    def title(self) -> str | None:
        """The title of the conversation; see `set_title`."""
        return self._label("title")

    def _label(self, name: str) -> str | None:
        value = self._history.header.get(name)
        return value if isinstance(value, str) else None

    @property
    def metadata(self) -> dict[str, Any]:
        """A copy of the program's notes on the conversation; see `set_metadata`."""
        metadata = self._history.header.get("metadata")
        return copy.deepcopy(metadata) if isinstance(metadata, dict) else {}

    @property
    def recovered(self) -> Recovery | None:
        """The repair that was made when the session was opened; None if it was whole."""
        return self._history.recovered

    # --- steps that both twins perform ----------------------------------------------------------

    def _changing(self, job: Callable[[], _R]) -> Steps[_R]:
        return changing(self._history, job)

    def _holding(self) -> Steps[None]:
        return hold(self._history)

    def _refreshing(self) -> Steps[tuple[Turn, ...]]:
        return refreshing(self._history)

    def _extending(self, turns: Iterable[Turn]) -> Steps[tuple[Turn, ...]]:
        return self._changing(partial(self._history.extend, listed(turns)))

    def _dropping(self, job: Callable[[], tuple[Turn, ...]]) -> Steps[tuple[Turn, ...]]:
        dropped = yield from self._changing(job)
        self._transcripts.forget(dropped)
        return dropped

    def _relabelling(self, name: str, value: Any) -> Steps[None]:
        return self._changing(partial(self._history.relabel, name, value))

    # Settings that are tried before they are saved, as the command line does.

    @property
    def _is_begun(self) -> bool:
        """True for a session of a store that was written before."""
        return self._history.is_begun

    def _try_settings(self, **settings: Any) -> None:
        """Use other settings from now on, which are not saved."""
        self._requests.settings = attrs.evolve(self._requests.settings, **settings)

    def _keeping_settings(self, names: Collection[str]) -> Steps[None]:
        """Save these settings as they are now."""
        saved = self._history.header.get("settings")
        saved = saved if isinstance(saved, dict) else {}
        wanted = saved | self._requests.settings.saved(names, only=True)
        if wanted != saved:
            yield from self._relabelling("settings", wanted)

    def _begin_with(self, name: str, value: Any) -> None:
        """Have the first turn save a label, too."""
        self._history.header[name] = value

    def _said(self, content: Sequence[Part], name: str | None, message_id: str | None) -> UserTurn:
        return UserTurn(content, name=name, message_id=message_id, at=self._history.now())

    def _asking(
        self, question: UserTurn | None, options: Mapping[str, Any]
    ) -> Steps[AssistantTurn]:
        """Ask the question, or without one the model to answer what is there."""
        known = len(self._history)
        return holding(
            self._history,
            lambda: asking(self._requests, self._transcripts, question, options, known),
            question,
        )

    def _streaming(
        self,
        content: Sequence[Part],
        name: str | None,
        message_id: str | None,
        options: Mapping[str, Any],
    ) -> Steps[None]:
        is_said = content or name is not None or message_id is not None
        question = self._said(content, name, message_id) if is_said else None
        known = len(self._history)

        def steps() -> Steps[None]:
            streamed = {**options, "stream": True}
            yield from asking(self._requests, self._transcripts, question, streamed, known)
            yield Over()

        return holding(self._history, steps, question)

    def _transcribing(self) -> Steps[tuple[UserTurn, ...]]:
        def steps() -> Steps[tuple[UserTurn, ...]]:
            self._history.lock.begin_exchange()
            return (yield from self._transcripts.find())

        return holding(self._history, steps)

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
            fetch=None if session is None else session.fetch,
            place="" if session is None else session.file or session.place,
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
        """Replace the last answer by the one of a copy, in one write.

        Args:
            copied: Made by `_without_answer`.
            start: Position of the first turn of both answers.
            is_better: If False, the answer stays, and only what the other one cost is noted.
        """
        history, other = self._history, copied._history
        turns, header, dropped = copied.turns, other.header, self.turns[start:]
        if not is_better:
            turns, header, dropped = (*turns[:start], *dropped), history.header, turns[start:]
        spent = usage_of(dropped if start >= inherited(history.header) else ())
        spent += usage_from_entry(other.header.get(UNDONE_USAGE))
        yield from self._changing(partial(history.become, turns, header, spent))
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
        place = session.file or session.place
        merged, labels = _resumed(header, settings, place, clock)
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
            fetch=session.fetch,
            place=place,
            recovered=state.recovered if state else None,
            given=merged.saved(settings.keys(), only=True),
        )
        chat = cls._made(merged, history, client=client, context=context, store=store)
        if chat.recovered and not read_only:
            yield from chat._changing(lambda: None)  # the first who acquires it repairs it
        return chat

    # --- other forms ----------------------------------------------------------------------------

    def _save(self, path: str | Path, form: str | None = "json") -> Path:
        from conversation._export.formats import format_for
        from conversation.stores._disk import replace_file

        path = Path(path).expanduser()
        form = format_for(path, form)
        self._refuse_own_file(path)
        with Naming(self.id):
            replace_file(path, self._pieces(form))
        return path

    def _pieces(self, form: str) -> Iterator[bytes]:
        """Yield all of the conversation in that format, piece by piece."""
        from conversation._export.formats import escaped_json, pieces
        from conversation.stores import _format

        if form == "json":
            lines = (line_from_turn(inlined(turn)) for turn in self._history.turns)
            return escaped_json(_format.pieces(self._history.header, lines))
        return pieces(self._exported(), form)

    def _exported(self) -> Exported:
        from conversation._export.outline import Exported

        turns, settings = self._history.turns, self._requests.settings
        reasons = {}
        with contextlib.suppress(ContextTooSmall):  # then nothing would be sent now
            reasons = {id(item.turn): (form, why) for item, form, why in self._requests.reasons()}
        begun = time_from(self._history.header.get("created_at"))
        about: list[str | datetime] = [
            *([self.id] if self.id and self.title else []),
            *([begun] if begun else []),
            counted(len(turns), "turn"),
            settings.model,
            *([f"voice {settings.voice}"] if isinstance(settings.voice, str) else []),
        ]
        return Exported(
            title=self.title or self.id or "Conversation",
            about=about,
            turns=turns,
            instructions=settings.instructions,
            tools=settings.tools,
            reasons=reasons,
            usage=self.usage,
            at=datetime.fromtimestamp(time_from_clock(self._history.clock), UTC),
        )

    def _refuse_own_file(self, path: Path) -> None:
        file = self._history.file
        with contextlib.suppress(OSError):
            if file is not None and path.samefile(file):
                msg = f"{path} is this session itself, which saves itself; choose another path"
                raise InvalidSetting(msg)

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


def greeting(text: str) -> AssistantTurn:
    """Return an answer in words that no model gave."""
    turn = AssistantTurn(content=text)
    if not turn.text.strip():
        msg = "an assistant turn must have words, got none"
        raise InvalidTurn(msg)
    return turn


def tool_content(content: Any) -> str:
    """Return a tool's result as text."""
    return content if isinstance(content, str) else json_bytes(content, "content").decode()


def checked_title(text: str | None) -> str | None:
    """Return a title that JSON can hold."""
    if text is not None and not isinstance(text, str):
        msg = f"title must be text or None, got {type(text).__name__}"
        raise InvalidSetting(msg)
    return text and clean_text(text)


def checked_metadata(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata as JSON holds it, a copy."""
    if not isinstance(mapping, Mapping):
        msg = f"metadata must be a mapping, got {type(mapping).__name__}"
        raise InvalidSetting(msg)
    copied: dict[str, Any] = orjson.loads(json_bytes(mapping, "metadata"))
    return copied

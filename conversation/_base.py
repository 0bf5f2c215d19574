"""What both twins are made of and can be asked at any time, without waiting for anybody."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import attrs
import orjson

from conversation import _client
from conversation._exchange.requests import Talk
from conversation._exchange.steps import Steps, Work
from conversation._export.formats import form_of, pieces
from conversation._export.outline import Exported, time_of
from conversation._history.history import INHERITED_TURNS, UNDONE_USAGE, History
from conversation._history.journal import Saved
from conversation._rendering.settings import Settings, SettingsGiven, read
from conversation._rendering.window import Context
from conversation._values.media import inlined
from conversation._values.text import clean_text
from conversation._values.turns import AssistantTurn, Turn, Usage
from conversation._wire.reading import time_from
from conversation._wire.strict_json import json_bytes
from conversation._wire.writing import line_from_turn
from conversation.errors import (
    ContextTooSmall,
    InvalidSetting,
    InvalidTurn,
    SessionNotFound,
    SessionReadOnly,
    corrupt,
)
from conversation.stores import Recovery, State, Store, StoredSession, _format
from conversation.stores._disk import replace_file
from conversation.stores.files import FileStore

_ClientT = TypeVar("_ClientT")


class Base(Generic[_ClientT]):
    """Settings, turns and labels; `Conversation` says what the arguments mean."""

    _client_kind: ClassVar[str]

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
    ) -> None:
        _client.check(client, self._client_kind)
        self._client = client
        self._store: Store | None = None
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
        )
        header = {
            "id": None,
            "created_at": None,
            "title": None,
            "settings": settings.saved(),
            "metadata": {},
        }
        can_await = self._client_kind.startswith("Async")
        self._talk = Talk(settings, History(header), clock, context=context, can_await=can_await)
        now = self._talk.now().isoformat().removesuffix("+00:00") + "Z"
        self._talk.history.header["created_at"] = now

    def __repr__(self) -> str:
        model = self._talk.settings.model
        name = "" if self.id is None else f" {self.id!r}"
        return f"<{type(self).__name__}{name} of {len(self._talk.history)} turns with {model}>"

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns, oldest first."""
        return self._talk.history.copied()

    @property
    def usage(self) -> Usage:
        """Tokens of all answers together, as the API counted them; undone ones too.

        Speech and transcriptions are billed besides.
        """
        return self._talk.history.usage

    @property
    def id(self) -> str | None:
        """What the session is opened by; None in memory."""
        session_id = self._talk.history.header["id"]
        return session_id if isinstance(session_id, str) else None

    @property
    def title(self) -> str | None:
        """What the session is called; see `set_title`."""
        title = self._talk.history.header.get("title")
        return title if isinstance(title, str) else None

    @property
    def metadata(self) -> dict[str, Any]:
        """What the program noted about the session, as a copy; see `set_metadata`."""
        metadata = self._talk.history.header.get("metadata")
        return copy.deepcopy(metadata) if isinstance(metadata, dict) else {}

    @property
    def recovered(self) -> Recovery | None:
        """What was repaired when the session was opened; None if it was whole."""
        return self._talk.history.recovered

    # --- what the twins' methods are given ------------------------------------------------------

    @classmethod
    def _imported(cls, turns: Sequence[Turn], **settings: Any) -> Self:
        chat = cls(**settings)
        chat._talk.history.fill(turns)
        return chat

    def _forked(
        self, session: StoredSession | None, *, moves: bool = False
    ) -> tuple[Self, list[Turn]]:
        """A conversation like this one without turns, and the turns that it is to begin with.

        Args:
            session: Where it is to be saved; None: in memory.
            moves: It is the same one elsewhere, so that what was spent counts there.
        """
        talk = self._talk
        turns = list(talk.history.copied())
        settings: dict[str, Any] = attrs.asdict(talk.settings, recurse=False)
        chat = type(self)(client=self._client, clock=talk.clock, context=talk.context, **settings)
        header = copy.deepcopy(talk.history.header) | {"id": session and session.id}
        if not moves:
            begun = chat._talk.history.header["created_at"]
            header |= {"created_at": begun, INHERITED_TURNS: len(turns)}
            header.pop(UNDONE_USAGE, None)
        chat._store = self._store
        chat._talk.like(talk)
        if session is None:
            chat._talk.history = History(header)
            return chat, [inlined(turn) for turn in turns]
        journal = Saved(session, read_only=False, timeout=60.0, begun=False, stale_header=False)
        chat._talk.history = History(
            header, journal=journal, fetch=session.fetch, place=session.place
        )
        return chat, turns

    def _save(self, path: str | Path, form: str | None = "json") -> Path:
        path = Path(path)
        form = form_of(path, form)
        self._refuse_own_file(path)
        replace_file(path, self._pieces(form))
        return path

    def _pieces(self, form: str) -> Iterator[bytes]:
        """Everything in that form, piece by piece."""
        history = self._talk.history
        if form == "json":
            lines = (line_from_turn(inlined(turn)) for turn in history.copied())
            return _format.pieces(history.header, lines)
        return pieces(self._exported(), form)

    def _exported(self) -> Exported:
        talk = self._talk
        turns, settings = talk.history.copied(), talk.settings
        reasons = {}
        with contextlib.suppress(ContextTooSmall):  # then nothing would be sent now
            reasons = {id(item.turn): (form, why) for item, form, why in talk.reasons()}
        begun = time_from(talk.history.header.get("created_at"))
        count = f"{len(turns)} turn{'s'[: len(turns) != 1]}"
        about = [
            *([self.id] if self.id and self.title else []),
            *([f"begun {time_of(begun)}"] if begun else []),
            count,
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
        )

    def _refuse_own_file(self, path: Path) -> None:
        """A copy in the place of the session itself would be the end of it."""
        file = self._talk.history.file
        with contextlib.suppress(OSError):
            if file is not None and path.samefile(file):
                msg = f"{path} is this session itself, which saves itself; choose another place"
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
        path = Path(path)
        document = _format.parse(path.read_bytes() if data is None else data, path)
        if document.torn is not None:
            raise corrupt(path, "its end was cut off", document.torn.line)
        chat = cls._resumed(
            document.header, settings, path, client=client, clock=clock, context=context
        )
        talk = chat._talk
        talk.history = History(talk.history.header, document.entries, place=path)
        talk.history.turns  # noqa: B018  # decoded now, so that a damaged file is refused here
        return chat

    def _forking(self, session_id: str | None) -> Steps[Self]:
        session = None if session_id is None else session_of(self._store, session_id)
        if self._talk.history.may_be_behind:
            with contextlib.suppress(SessionReadOnly):
                yield from self._talk.changing(lambda: None)  # takes in what others wrote
        chat, turns = yield Work(partial(self._forked, session))
        return (yield from self._begun(chat, turns))

    @classmethod
    def _begun(cls, chat: Self, turns: Sequence[Turn]) -> Steps[Self]:
        with contextlib.ExitStack() as failed:
            failed.callback(chat._talk.history.close)
            yield from chat._talk.changing(chat._talk.history.fill, turns)
            failed.pop_all()
        return chat

    @classmethod
    def _opening(
        cls, store: Store | None, session_id: str, *, read_only: bool, **given: Any
    ) -> Steps[Self]:
        chat: Self = yield Work(
            partial(cls._opened, store, session_id, read_only=read_only, **given)
        )
        if chat.recovered and not read_only:
            with contextlib.ExitStack() as failed:
                failed.callback(chat._talk.history.close)
                yield from chat._talk.changing(lambda: None)  # the first who holds it repairs it
                failed.pop_all()
        return chat

    @classmethod
    def _opened(
        cls,
        store: Store | None,
        session_id: str,
        *,
        create: bool,
        read_only: bool,
        timeout: float,
        client: _ClientT | None,
        clock: Callable[[], float],
        context: Context,
        settings: SettingsGiven,
    ) -> Self:
        """A session as it is; if its end is torn, the first who holds it repairs it."""
        session = session_of(store, session_id)
        state: State | None = session.read(repair=False)
        if state is None and (read_only or not create):
            msg = f"there is no session {session_id!r} at {session.place}; FileStore().list() lists"
            raise SessionNotFound(msg, path=session.place)
        header = state.header if state else {"id": session_id}
        chat = cls._resumed(
            header, settings, session.place, client=client, clock=clock, context=context
        )
        chat._store = store
        talk = chat._talk
        talk.history = History(
            talk.history.header,
            state.entries if state else (),
            journal=Saved(
                session,
                read_only=read_only,
                timeout=timeout,
                begun=state is not None,
                stale_header=talk.history.header != header,
            ),
            fetch=session.fetch,
            place=session.place,
            recovered=state.recovered if state else None,
            given=talk.settings.saved(settings.keys(), only=True),
        )
        return chat

    @classmethod
    def _resumed(
        cls,
        header: Mapping[str, Any],
        given: SettingsGiven,
        place: Path,
        *,
        client: _ClientT | None,
        clock: Callable[[], float],
        context: Context,
    ) -> Self:
        """A conversation with the labels of a file, and its settings under those that are given."""
        saved, foreign = read(header.get("settings"), place)
        chat = cls(client=client, clock=clock, context=context, **(saved | given))
        talk = chat._talk
        kept = foreign | talk.settings.saved(saved.keys() | given.keys())
        talk.history.header |= header
        talk.history.header["settings"] = kept
        return chat


def session_of(store: Store | None, session_id: str) -> StoredSession:
    """The session in the store, or in the one there is by default."""
    return (store or FileStore()).session(session_id)


def greeting(text: str) -> AssistantTurn:
    """An answer in words that no model gave."""
    turn = AssistantTurn(content=text)
    if not turn.text.strip():
        msg = "an assistant turn needs words; this one has none"
        raise InvalidTurn(msg)
    return turn


def tool_content(content: Any) -> str:
    """A tool's result as text."""
    return content if isinstance(content, str) else json_bytes(content, "content").decode()


def checked_title(text: str | None) -> str | None:
    """A title that JSON can hold."""
    if text is not None and not isinstance(text, str):
        msg = f"a title is text or None, not {type(text).__name__}"
        raise InvalidSetting(msg)
    return text and clean_text(text)


def checked_metadata(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as JSON holds it, a copy."""
    if not isinstance(mapping, Mapping):
        msg = f"metadata is a mapping, not {type(mapping).__name__}"
        raise InvalidSetting(msg)
    copied: dict[str, Any] = orjson.loads(json_bytes(mapping, "metadata"))
    return copied

"""What conversations hold, show and do, in steps that both twins perform."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs
import orjson

from conversation._exchange.exchange import asking
from conversation._exchange.holding import changing, hold, holding, refreshing
from conversation._exchange.requests import Requests
from conversation._exchange.speech import Transcripts
from conversation._exchange.steps import Over, Steps
from conversation._history.answers import is_unanswered
from conversation._history.edits import listed
from conversation._history.history import History
from conversation._values.media import inlined
from conversation._values.naming import Naming
from conversation._values.parts import Part
from conversation._values.text import clean_text, counted
from conversation._values.turns import AssistantTurn, Turn, UserTurn
from conversation._values.usage import Usage
from conversation._wire.fields import time_from
from conversation._wire.strict_json import json_bytes
from conversation._wire.writing import line_from_turn
from conversation.errors import ContextTooSmall, InvalidSetting, InvalidTurn
from conversation.stores import Recovery

if TYPE_CHECKING:
    from conversation._export.outline import Exported

_ClientT = TypeVar("_ClientT")
_R = TypeVar("_R")


class Talking(Generic[_ClientT]):
    """Settings, turns and labels, and changes of them."""

    _client: _ClientT | None
    _history: History
    _requests: Requests
    _transcripts: Transcripts

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
        title = self._history.header.get("title")
        return title if isinstance(title, str) else None

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

    def _titling(self, text: str | None) -> Steps[None]:
        if text is not None and not isinstance(text, str):
            msg = f"title must be text or None, got {type(text).__name__}"
            raise InvalidSetting(msg)
        return self._relabelling("title", text and clean_text(text))

    def _noting(self, mapping: Mapping[str, Any]) -> Steps[None]:
        if not isinstance(mapping, Mapping):
            msg = f"metadata must be a mapping, got {type(mapping).__name__}"
            raise InvalidSetting(msg)
        copied = orjson.loads(json_bytes(mapping, "metadata"))
        return self._relabelling("metadata", copied)

    def _replacing(self, changed: Mapping[int, Turn]) -> Steps[None]:
        return self._changing(partial(self._history.replace, changed))

    # Settings that are tried before they are saved, as the command line does.

    @property
    def _saved_settings(self) -> dict[str, Any]:
        saved = self._history.header.get("settings")
        return saved if isinstance(saved, dict) else {}

    @property
    def _is_begun(self) -> bool:
        """True for a session of a store that was written before."""
        return self._history.is_begun

    def _try_settings(self, **settings: Any) -> None:
        """Use other settings from now on, which are not saved."""
        self._requests.settings = attrs.evolve(self._requests.settings, **settings)

    def _keeping_settings(self, names: Collection[str]) -> Steps[None]:
        """Save these settings as they are now."""
        saved = self._saved_settings
        wanted = saved | self._requests.settings.saved(names, only=True)
        if wanted != saved:
            yield from self._relabelling("settings", wanted)

    def _give_up_ids(self) -> None:
        """Take all ids for forgotten, in memory: what is saved stays as it is."""
        self._history.set(
            [
                attrs.evolve(turn, audio=attrs.evolve(turn.audio, lost=True))
                if isinstance(turn, AssistantTurn) and turn.audio
                else turn
                for turn in self._history.turns
            ]
        )

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
            at=self._history.now(),
        )

    def _refuse_own_file(self, path: Path) -> None:
        file = self._history.file
        with contextlib.suppress(OSError):
            if file is not None and path.samefile(file):
                msg = f"{path} is this session itself, which saves itself; choose another path"
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

"""The turns and labels of a conversation: in memory, and in a store where it is a saved session."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TypeVar, cast

import attrs

from conversation._history.calls import OpenCalls
from conversation._history.clock import time_from_clock
from conversation._history.deliveries import Deliveries
from conversation._history.edits import (
    SUMMARY,
    check,
    inherited,
    labels_without,
    position_of,
    start_of_last_exchange,
    summary_in,
    truncated,
    unknown_call,
    with_transcript,
    without_summary,
)
from conversation._history.shared import SharedTurns
from conversation._values.media import inlined
from conversation._values.summary import Summary
from conversation._values.turns import AssistantTurn, ToolTurn, Turn, UserTurn
from conversation._values.usage import Usage
from conversation._wire.usage import usage_entry, usage_from_entry
from conversation.errors import InvalidSetting, SaveFailed

log = logging.getLogger("conversation")

_T = TypeVar("_T", bound=Turn)

UNDONE_USAGE = "undone_usage"
"""Label: the usage of turns that were taken back."""


@attrs.frozen
class _Doubtful:
    """A change that a lost server may have made; whoever repeats it makes it once.

    Attributes:
        change: The change.
        dropped: The turns that it drops, by their positions.
        outcome: What it returns.
        begun: Where it begins a session, the time of that.
    """

    change: tuple[Any, ...]
    dropped: dict[int, Turn] = attrs.field(factory=dict)
    outcome: tuple[Turn, ...] = ()
    begun: object = None


class History(SharedTurns):
    """Turns and labels. Whoever changes them holds `lock`, and the session by `acquire`."""

    _doubtful: _Doubtful | None = None
    _last_time: datetime | None = None

    def delivered(self, turn: Turn) -> int | None:
        """Return the position of the turn with the same `message_id`; None if there is none."""
        return self._deliveries.position(turn, self)

    @property
    def usage(self) -> Usage:
        """Tokens of all answers together, also of those that were taken back."""
        own = self.turns[inherited(self.header) :]
        return usage_of(own) + usage_from_entry(self.header.get(UNDONE_USAGE))

    @property
    def summary(self) -> Summary | None:
        """The summary of the first turns; None where there is none, or not so many turns."""
        found = summary_in(self.header)
        return found if found is not None and found.turns <= len(self) else None

    def now(self) -> datetime:
        """Return the time, for a turn.

        Raises:
            InvalidSetting: if the clock tells none.
        """
        self._last_time = datetime.fromtimestamp(time_from_clock(self.clock), UTC)
        return self._last_time

    def _time_of(self, turn: Turn) -> datetime | None:
        """Return the time for a turn that is added; for one that is paid for, the best known."""
        try:
            return self.now()
        except InvalidSetting as error:
            if not isinstance(turn, AssistantTurn | ToolTurn):
                raise
            log.warning("%s; the turn gets the last time that is known", error)
            return self._last_time

    def set(self, slots: Sequence[Any]) -> None:
        """Hold these turns, and nothing else."""
        with self.reading:
            super().set(slots)
            self._open_calls: OpenCalls | None = None
            self._deliveries = Deliveries()

    def add(self, turn: _T) -> _T:
        """Add a turn at the end, and return it as it is kept; as `extend`."""
        return self.extend((turn,))[0]

    def extend(self, turns: Sequence[_T]) -> tuple[_T, ...]:
        """Add turns at the end, all or none, and return them as they are kept.

        They get the time if they have none. A user turn whose message was delivered before is
        returned as it was kept then.

        Raises:
            InvalidTurn: as `check`.
            UnknownToolCall: if one answers a call that is not open.
            InvalidSetting: if the clock tells no time, and a turn is the user's or the system's.
        """
        self.settle()
        stored = None if self._journal is None else self._journal.position_of(turns, self)
        if stored is not None:
            return cast("tuple[_T, ...]", self[stored : stored + len(turns)])
        new, positions = self._deliveries.new(turns, self)
        for turn in new:
            check(turn)
        if any(isinstance(turn, ToolTurn) for turn in new):
            self._check_calls(new)
        kept = [
            attrs.evolve(turn, at=self._time_of(turn)) if turn.at is None else turn for turn in new
        ]
        if self._journal is not None and kept:
            kept = self._journal.extend(kept, self, self.header)
        with self.reading:
            self._slots += kept
        self._written()
        return tuple(cast("_T", self[position]) for position in positions)

    def _check_calls(self, added: Sequence[Turn]) -> None:
        calls = self._open_calls or OpenCalls(len(self))
        self._open_calls = None  # counted anew if this is interrupted
        for number, turn in enumerate(added, 1):
            if isinstance(turn, ToolTurn) and not calls.has(turn.tool_call_id, self):
                raise unknown_call(turn.tool_call_id, (*self, *added[: number - 1]))
            if number < len(added):
                calls.count(turn)
        if len(added) == 1:
            self._open_calls = calls

    def _written(self) -> None:
        """Note that memory holds what was written."""
        self._doubtful = None
        if self._journal is not None:
            self._journal.is_unsure = False

    def fill(self, turns: Sequence[Turn]) -> None:
        """Begin with these turns.

        Raises:
            SessionExists: if the session was begun before.
        """
        if self._journal is not None:
            if self._journal.begun and self._was_filled(turns):
                return
            self._journal.refuse_if_begun()
        begun = self.header.get("created_at")
        doubtful = _Doubtful(("fill",), begun=begun)
        self._write(self.header, turns, dict(enumerate(turns)), doubtful=doubtful)

    def _was_filled(self, turns: Sequence[Turn]) -> bool:
        """Return True if a doubtful `fill` was stored after all."""
        doubtful = self._doubtful
        return (
            doubtful is not None
            and doubtful.change == ("fill",)
            and self.header.get("created_at") == doubtful.begun
            and len(self) >= len(turns)
            and all(mine.at == turn.at for mine, turn in zip(self, turns, strict=False))
        )

    def replace(
        self,
        changed: Mapping[int, Turn],
        *,
        must_save: bool = True,
        spent: Usage | None = None,
        rewords: bool = False,
    ) -> None:
        """Put other turns in the places of some.

        Args:
            changed: The new turns by position.
            must_save: False: where it cannot be saved, this object's next write makes up for it,
                unless others change the session before.
            spent: What this cost, besides the usage of the turns.
            rewords: True if their words are corrected: a summary of them is dropped.
        """
        self.settle()
        header = self._with_spent(spent or Usage())
        if rewords:
            header = without_summary(header, min(changed))
        gone = [self[position] for position in changed]
        self._write(header, self._slots, changed, gone, must_save=must_save)

    def _write(
        self,
        header: dict[str, Any],
        slots: Sequence[Any] | None = None,
        changed: Mapping[int, Turn] = MappingProxyType({}),
        gone: Sequence[Turn] = (),
        doubtful: _Doubtful | None = None,
        **how: Any,
    ) -> None:
        """Write labels and turns, and hold them then.

        Args:
            header: The new labels.
            slots: All turns, or their entries, in their new places; None: they stay.
            changed: The new turns by position.
            gone: Turns whose stored bytes are of no use any more.
            doubtful: The change, to be remembered where a lost server may have made it.
            how: As `Journal.rewrite`.
        """
        if self._journal is not None:
            length = len(self) if slots is None else len(slots)
            try:
                changed = self._journal.rewrite(self, header, changed, length, **how)
            except SaveFailed as error:
                self._doubtful = doubtful if doubtful and error.in_doubt else self._doubtful
                raise
        self.header = header
        if slots is not None:
            with self.reading:
                self.set([changed.get(position, slot) for position, slot in enumerate(slots)])
        self._written()
        if self._journal is not None:
            self._journal.discard(gone)

    def undo(self, *, answer_only: bool) -> tuple[Turn, ...]:
        """Take back the last exchange, or only what follows its question."""
        return self._dropping(
            ("undo", answer_only),
            lambda: range(start_of_last_exchange(self, answer_only=answer_only), len(self)),
        )

    def rewind(self, turn: Turn) -> tuple[Turn, ...]:
        """Take back a turn and all that follow it."""
        return self._dropping(("rewind", turn), lambda: range(self.position(turn), len(self)))

    def remove(self, turns: Sequence[Turn]) -> tuple[Turn, ...]:
        """Take back just these turns."""
        change = ("remove", *turns)
        return self._dropping(change, lambda: {self.position(turn) for turn in turns})

    def clear(self) -> tuple[Turn, ...]:
        """Take back all turns, and return them without stored bytes; the labels stay."""
        return self._dropping(("clear",), lambda: range(len(self)), inline=False)

    def replace_end(self, start: int, turns: Sequence[Turn]) -> None:
        """Put turns in the place of those from a position on, in one write."""
        self.settle()
        self._drop(range(start, len(self)), (), inline=False, added=turns)

    def take_back(self, turn: Turn) -> tuple[Turn, ...]:
        """Take the turn back if it is the last; its sound may have got its words since."""
        self.settle()
        last = self[-1]
        if not isinstance(last, type(turn)) or last.at != turn.at:
            return ()
        return self._drop(range(len(self) - 1, len(self)), ())

    def _dropping(
        self,
        change: tuple[Any, ...],
        positions: Callable[[], AbstractSet[int] | range],
        *,
        inline: bool = True,
    ) -> tuple[Turn, ...]:
        """Take back turns, unless the same change was in doubt, and was made."""
        self.settle()
        doubtful = self._doubtful
        if doubtful is not None and doubtful.change == change:
            there = {i: self[i] for i in doubtful.dropped if i < len(self)}
            if there != doubtful.dropped:
                self._doubtful = None
                return doubtful.outcome
        return self._drop(positions(), change, inline=inline)

    def _drop(
        self,
        positions: AbstractSet[int] | range,
        change: tuple[Any, ...],
        *,
        inline: bool = True,
        added: Sequence[Turn] = (),
    ) -> tuple[Turn, ...]:
        """Take back the turns at these positions, and add others; what they cost stays noted.

        Returns:
            The dropped turns in their order; with the bytes that were stored for them, if `inline`.
        """
        if not positions and not added:
            return ()
        own = inherited(self.header)
        dropped = {position: self[position] for position in sorted(positions)}
        whole = tuple(map(inlined, dropped.values()) if inline else dropped.values())
        spent = usage_of([turn for position, turn in dropped.items() if position >= own])
        header = labels_without(self._with_spent(spent), positions)
        first = min(positions, default=len(self))
        behind = [i for i in range(first, len(self)) if i not in positions]
        slots = [*self._slots[:first], *(self._slots[position] for position in behind), *added]
        new, moved = dict(enumerate(added, first + len(behind))), dict(enumerate(behind, first))
        doubtful, gone = _Doubtful(change, dropped, whole), list(dropped.values())
        self._write(header, slots, new, gone, doubtful=doubtful, moved=moved)
        return whole

    def truncate(self, seconds: float, turn: Turn | None = None) -> AssistantTurn:
        """Cut an answer, None: the last turn, to its first seconds, and return it."""
        position = len(self) - 1 if turn is None else self.position(turn)
        before = self[position] if len(self) else None
        cut = truncated(before, seconds, "the last" if turn is None else "this")
        if cut is before:
            return cut
        self.replace({position: cut}, rewords=True)
        return cast("AssistantTurn", self[position])

    def set_transcript(self, turn: Turn, text: str) -> AssistantTurn | UserTurn:
        """Replace the words of a spoken turn, and return it."""
        position = self.position(turn)
        new = with_transcript(self[position], text)
        self.replace({position: new}, rewords=True)
        return cast("AssistantTurn | UserTurn", self[position])

    def position(self, turn: Turn) -> int:
        """Return the position of a turn; as `edits.position_of`."""
        return position_of(turn, self.turns)

    def relabel(self, name: str, value: Any) -> None:
        """Change a label."""
        self._save_header(self.header | {name: value})

    def summarize(self, text: str, turns: int, usage: Usage) -> None:
        """Keep a summary of the first turns; must_save is False, as in `replace`."""
        header = self._with_spent(usage) | {SUMMARY: {"text": text, "turns": turns}}
        self._save_header(header, must_save=False)

    def spend(self, usage: Usage) -> None:
        """Count what was spent on no turn; must_save is False, as in `replace`."""
        if usage != Usage():
            self._save_header(self._with_spent(usage), must_save=False)

    def _save_header(self, header: dict[str, Any], *, must_save: bool = True) -> None:
        self.settle()
        self._write(header, must_save=must_save)

    def _with_spent(self, usage: Usage) -> dict[str, Any]:
        if usage == Usage():
            return self.header
        spent = usage + usage_from_entry(self.header.get(UNDONE_USAGE))
        return self.header | {UNDONE_USAGE: usage_entry(spent)}


def usage_of(turns: Sequence[Turn]) -> Usage:
    """Return the tokens of all answers among the turns."""
    spent = (turn.usage for turn in turns if isinstance(turn, AssistantTurn))
    return sum((usage for usage in spent if usage is not None), Usage())

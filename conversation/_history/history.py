"""The turns and labels of a conversation: in memory, and in a store where it is a saved session."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast, overload

import attrs

from conversation._history.edits import check, start_of_last_exchange, truncated, with_transcript
from conversation._history.journal import Journal
from conversation._locking import Lock, Polling
from conversation._values.media import inlined
from conversation._values.turns import AssistantTurn, SystemTurn, Turn, Usage, UserTurn
from conversation._wire.reading import Fetch, role_of, turn_from_entry, usage_from_entry
from conversation._wire.writing import usage_entry
from conversation.errors import InvalidTurn, SessionCorrupt, corrupt
from conversation.stores import News, Recovery, State

_T = TypeVar("_T", bound=Turn)
_R = TypeVar("_R")

UNDONE_USAGE = "undone_usage"
"""Label: the usage of turns that were taken back."""

INHERITED_TURNS = "inherited_turns"
"""Label: how many turns of a fork were paid for by its origin."""


class History(Sequence[Turn]):
    """Turns and labels. Whoever changes them holds `lock`, and the session by `acquire`.

    A sequence of turns: entries that were read from a session become turns when they are looked at.

    Args:
        header: The labels: `id`, `created_at`, `title`, `settings`, `metadata`, and those of other
            versions.
        clock: Returns Unix time in seconds.
        entries: The turns as they are saved.
        journal: The saving policy; None: in memory only.
        fetch: Returns the stored bytes that an entry names.
        place: Source of the entries, for errors.
        recovered: The repair that was made when they were read.
        given: Settings that were given to this object; they overrule those that others save.

    Attributes:
        lock: Admits one change or exchange at a time.
        revision: Changes with every change that is no addition at the end.
        systems: Positions of the system turns.
    """

    def __init__(
        self,
        header: Mapping[str, Any],
        clock: Callable[[], float],
        entries: Sequence[Any] = (),
        *,
        journal: Journal | None = None,
        fetch: Fetch | None = None,
        place: Path | str = "",
        recovered: Recovery | None = None,
        given: Mapping[str, Any] | None = None,
    ) -> None:
        self.header = dict(header)
        self.clock = clock
        self.recovered = recovered
        self.lock = Lock()
        self.revision = 0
        self._journal = journal
        self._fetch = fetch
        self._place = place
        self._given = dict(given or {})
        # Turns can be looked at while an exchange goes on in another thread.
        self._reading = threading.RLock()
        # An entry and None, or None and the turn that it became.
        self._entries: list[Any] = []
        self._turns: list[Turn | None] = []
        self._undecoded = 0
        self.systems: list[int] = []
        self._extend(entries)

    # --- looking -------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._turns)

    @overload
    def __getitem__(self, position: int) -> Turn: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[Turn, ...]: ...
    def __getitem__(self, position: int | slice) -> Turn | tuple[Turn, ...]:
        """Return turns.

        Raises:
            SessionCorrupt: if an entry is no turn.
        """
        if isinstance(position, slice):
            with self._reading:
                return tuple(self[i] for i in range(*position.indices(len(self._turns))))
        turn = self._turns[position]
        return self._decoded(position) if turn is None else turn

    def _decoded(self, position: int) -> Turn:
        with self._reading:
            turn = self._turns[position]
            if turn is None:
                position %= len(self._turns)
                try:
                    turn = turn_from_entry(self._entries[position], fetch=self._fetch)
                except InvalidTurn as error:
                    raise self._corrupt(position, error) from error
                self._turns[position], self._entries[position] = turn, None
                self._undecoded -= 1
            return turn

    def entry(self, position: int) -> Mapping[str, Any] | None:
        """Return a turn as it was read from the session; None once it is decoded."""
        entry: Mapping[str, Any] | None = self._entries[position]
        return entry

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns, oldest first."""
        # CPython may crash where a list is copied while another thread adds to it.
        with self._reading:
            if self._undecoded:
                return self[:]
            return tuple(self._turns)  # type: ignore[arg-type]  # None stands for the undecoded

    @property
    def usage(self) -> Usage:
        """Tokens of all answers together, also of those that were taken back."""
        own = self.turns[self._inherited :]
        return usage_of(own) + usage_from_entry(self.header.get(UNDONE_USAGE))

    @property
    def _inherited(self) -> int:
        inherited = self.header.get(INHERITED_TURNS)
        return inherited if type(inherited) is int and inherited > 0 else 0

    def now(self) -> datetime:
        """Return the time, for a turn."""
        return datetime.fromtimestamp(self.clock(), UTC)

    # --- locking -------------------------------------------------------------------------------

    @property
    def is_saved(self) -> bool:
        """True for a session of a store."""
        return self._journal is not None

    @property
    def file(self) -> Path | None:
        """The session's document, where it is a file."""
        return None if self._journal is None else self._journal.file

    @property
    def timeout(self) -> float:
        """Seconds to wait for others who hold the session's lock."""
        return 60.0 if self._journal is None else self._journal.timeout

    def polling(self) -> Polling:
        """Return the pauses between attempts to acquire the lock."""
        if self._journal is None:
            return Polling(None)
        session = self._journal.session
        return Polling(self.timeout, session.pauses, session.place, session.file)

    def acquire(self) -> bool:
        """Lock the session and take in what others wrote; False if another one holds its lock."""
        if self._journal is None:
            return True
        try:
            news = self._journal.acquire(self.header)
            if news is None:
                return False
            self._take_in(news)
        except BaseException:
            self._journal.forget()
            self.release()
            raise
        self._journal.take_in()
        return True

    def change(self, job: Callable[[], _R]) -> tuple[_R] | None:
        """Make a change while the session is locked; None if another one holds its lock."""
        if not self.acquire():
            return None
        try:
            return (job(),)
        finally:
            self.release()

    def release(self) -> None:
        """Unlock the session; idempotent."""
        if self._journal is not None:
            self._journal.session.release()

    def close(self) -> None:
        """Refuse changes of a saved session from now on."""
        if self._journal is not None:
            self._journal.close()

    def _take_in(self, news: News) -> None:
        state = news.state
        if state is None:
            if news.added:
                self._extend(news.added)
            return
        roles = self._systems_in(state.entries, 0)
        self.header = self._header_of(state)
        self.recovered = state.recovered or self.recovered
        self._set([None] * len(state.entries), state.entries, roles)

    def _header_of(self, state: State) -> dict[str, Any]:
        # Others' settings stay saved, but for those that were given to this object.
        theirs = state.header.get("settings")
        settings = theirs if isinstance(theirs, dict) else {}
        return state.header | {"settings": settings | self._given}

    def _set(
        self, turns: Sequence[Turn | None], entries: Sequence[Any], systems: list[int]
    ) -> None:
        with self._reading:
            self._turns, self._entries, self.systems = list(turns), list(entries), systems
            self._undecoded = self._turns.count(None)
            self.revision += 1

    def _extend(self, entries: Sequence[Any]) -> None:
        systems = self._systems_in(entries, len(self._turns))
        with self._reading:
            self._entries += entries
            self._turns += [None] * len(entries)
            self._undecoded += len(entries)
            self.systems += systems

    def _systems_in(self, entries: Sequence[Any], start: int) -> list[int]:
        """Return the positions of system turns, and refuse entries of unknown roles."""
        systems = []
        for position, entry in enumerate(entries, start):
            role = entry.get("role") if type(entry) is dict else None
            if role == "user" or role == "assistant" or role == "tool":  # noqa: PLR1714  # faster
                continue
            try:
                role_of(entry)
            except InvalidTurn as error:
                raise self._corrupt(position, error) from error
            systems.append(position)
        return systems

    def _corrupt(self, position: int, error: InvalidTurn) -> SessionCorrupt:
        return corrupt(self._place, f"turn {position + 1}: {error}", position + 2)

    # --- changing ------------------------------------------------------------------------------

    def add(self, turn: _T) -> _T:
        """Add a turn at the end, and return it as it is kept; it gets the time if it has none.

        Raises:
            InvalidTurn, UnknownToolCall: as `check`.
        """
        check(turn, self)
        if turn.at is None:
            turn = attrs.evolve(turn, at=self.now())
        if self._journal is not None:
            turn = self._journal.add(turn, self, self.header)
        with self._reading:
            if isinstance(turn, SystemTurn):
                self.systems.append(len(self._turns))
            self._entries.append(None)
            self._turns.append(turn)
        return turn

    def fill(self, turns: Sequence[Turn]) -> None:
        """Begin with these turns.

        Raises:
            SessionExists: if the session was begun before.
        """
        if self._journal is not None:
            self._journal.refuse_if_begun()
            changed = dict(enumerate(turns))
            kept = self._journal.rewrite((), self.header, changed, len(turns))
            turns = [kept[position] for position in range(len(turns))]
        systems = [i for i, turn in enumerate(turns) if isinstance(turn, SystemTurn)]
        self._set(turns, [None] * len(turns), systems)

    def replace(self, changed: Mapping[int, Turn], *, must_save: bool = True) -> None:
        """Put other turns in the places of some.

        Args:
            changed: The new turns by position.
            must_save: False: where it cannot be saved, the next write makes up for it.
        """
        before = [self[position] for position in changed]
        if self._journal is not None:
            changed = self._journal.rewrite(
                self, self.header, changed, len(self), must_save=must_save
            )
        with self._reading:
            for position, turn in changed.items():
                self._turns[position] = turn
            self.revision += 1
        if self._journal is not None:
            self._journal.discard(before)

    def undo(self, *, answer_only: bool) -> tuple[Turn, ...]:
        """Take back the last exchange, or only what follows its question."""
        return self._drop(start_of_last_exchange(self, answer_only=answer_only))

    def take_back(self, turn: Turn) -> tuple[Turn, ...]:
        """Take the turn back if it is the last; its sound may have got its words since."""
        last = self[-1]
        if not isinstance(last, type(turn)) or last.at != turn.at:
            return ()
        return self._drop(len(self) - 1)

    def _drop(self, start: int) -> tuple[Turn, ...]:
        """Take back all turns from a position on; what they cost stays noted.

        Returns:
            These turns, with the bytes that were stored for them.
        """
        dropped = self[start:]
        if not dropped:
            return ()
        whole = tuple(map(inlined, dropped))
        inherited = self._inherited
        header = self._with_spent(usage_of(self[max(start, inherited) :]))
        if start < inherited:
            header = header | {INHERITED_TURNS: start}
        if self._journal is not None:
            self._journal.rewrite(self, header, {}, start)
        self.header = header
        systems = [position for position in self.systems if position < start]
        self._set(self._turns[:start], self._entries[:start], systems)
        if self._journal is not None:
            self._journal.discard(dropped)
        return whole

    def truncate(self, seconds: float) -> AssistantTurn:
        """Cut the last answer to its first seconds, and return it."""
        turn = truncated(self[-1] if len(self) else None, seconds)
        if turn is self[-1]:
            return turn
        self.replace({len(self) - 1: turn})
        return cast("AssistantTurn", self[-1])

    def set_transcript(self, turn: Turn, text: str) -> AssistantTurn | UserTurn:
        """Replace the words of a spoken turn, and return it."""
        position = self.position(turn)
        new = with_transcript(self[position], text)
        self.replace({position: new})
        return new

    def position(self, turn: Turn) -> int:
        """Return the position of a turn, found by identity first.

        Raises:
            InvalidTurn: if it is not in the conversation.
        """
        turns = self.turns
        for position in range(len(turns) - 1, -1, -1):
            if turns[position] is turn:
                return position
        try:
            return turns.index(turn)
        except ValueError:
            msg = f"this {type(turn).__name__} is not in the conversation; take it from turns"
            raise InvalidTurn(msg) from None

    def relabel(self, name: str, value: Any) -> None:
        """Change a label."""
        self._save_header(self.header | {name: value})

    def spend(self, usage: Usage) -> None:
        """Count what was spent on no turn; where it cannot be saved, the next write does."""
        if usage != Usage():
            self._save_header(self._with_spent(usage), must_save=False)

    def _save_header(self, header: dict[str, Any], *, must_save: bool = True) -> None:
        if self._journal is not None:
            self._journal.rewrite(self, header, {}, len(self), must_save=must_save)
        self.header = header

    def _with_spent(self, usage: Usage) -> dict[str, Any]:
        if usage == Usage():
            return self.header
        spent = usage + usage_from_entry(self.header.get(UNDONE_USAGE))
        return self.header | {UNDONE_USAGE: usage_entry(spent)}

    # --- stored bytes --------------------------------------------------------------------------

    def fetch_all(self, names: Sequence[str]) -> Mapping[str, bytes]:
        """Return stored bytes by name, in one round trip; missing ones are left out."""
        if self._journal is None or not names:
            return {}
        return self._journal.session.fetch_all(names)


def usage_of(turns: Sequence[Turn]) -> Usage:
    """Return the tokens of all answers among the turns."""
    spent = (turn.usage for turn in turns if isinstance(turn, AssistantTurn))
    return sum((usage for usage in spent if usage is not None), Usage())

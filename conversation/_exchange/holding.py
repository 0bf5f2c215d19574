"""Locking around a change or an exchange: acquire, take in what others wrote, go on, release."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from conversation._exchange.requests import Requests
from conversation._exchange.steps import Left, Over, Steps, Wait, Work
from conversation._history.history import History
from conversation._locking import Lock, Polling, Ticket
from conversation._values.naming import Naming
from conversation._values.turns import AssistantTurn, Turn
from conversation._wire.completions import completion_object
from conversation.errors import ConversationBusy, SaveFailed, SessionChanged, SessionLocked

_T = TypeVar("_T")
_TurnT = TypeVar("_TurnT", bound=Turn)


def holding(
    history: History, steps: Callable[[], Steps[_T]], turn: Turn | None = None
) -> Steps[_T]:
    """Run steps while nobody else can change the conversation.

    Args:
        history: What is locked.
        steps: Called once the lock is acquired and the changes of others are taken in.
        turn: A turn that is to be added; errors carry it.

    Raises:
        ConversationBusy: if the calling code runs inside of the conversation's own exchange.
        SessionLocked: if another one held the lock for too long.
        SessionReadOnly, SessionChanged, SessionCorrupt, SaveFailed: if it cannot be changed.
    """
    return _ticketed(history, partial(_held, history, steps, turn))


def hold(history: History) -> Steps[None]:
    """Have the consumer of these steps hold the conversation, until it leaves."""

    def steps() -> Steps[None]:
        inside = history.lock.begin_hold()
        try:
            yield Over()
        except Left as left:
            yield from _emptied(inside, history.timeout, left.args[0])
            raise

    return holding(history, steps)


def _emptied(inside: Lock, timeout: float, failure: BaseException | None) -> Steps[None]:
    """Wait for calls that others still make inside of a hold.

    A stream that is still open is left, as long as the session is locked. After a failure in the
    block, or an interruption of the wait, calls have `timeout` seconds to end: a stream that a task
    has left open never does. What they write afterwards is refused.

    Raises:
        ConversationBusy: if a stream of the block's own was open.
    """
    error: BaseException | None = None
    polling = None if failure is None else Polling(timeout)
    if stream := inside.left_open():
        yield Work(stream.close)
        msg = "a stream that was entered inside of hold() was still open; leave it before that"
        error = ConversationBusy(msg)
    while inside.is_in_use:
        try:
            yield Wait(Polling.PAUSES[1] if polling is None else polling.pause())
        except GeneratorExit:
            raise
        except SessionLocked:
            break
        except BaseException as raised:  # noqa: BLE001  # it is raised afterwards
            error, polling = raised, polling or Polling(timeout)
    if error is not None:
        raise error


def _ticketed(history: History, steps: Callable[[Polling | None], Steps[_T]]) -> Steps[_T]:
    """Run steps when it is their turn in this object; without `Polling` if nothing is to acquire.

    Nothing is in memory, and inside of a hold.
    """
    ticket, polling = Ticket(), history.polling()

    def ticketed() -> Steps[_T]:
        lock = history.lock.within()
        acquires = history.is_saved and lock is history.lock
        try:
            lock.enqueue(ticket)
            while not lock.try_acquire(ticket):
                yield Wait(polling.pause())
            polling.slow_down(history.pauses)
            with Naming(history.id):
                if not acquires:
                    history.refuse_if_closed()
                return (yield from steps(polling if acquires else None))
        finally:
            try:
                if acquires and lock.is_held_by(ticket):
                    history.release()  # again, if it was interrupted, or waited in a queue
            finally:
                lock.release(ticket)

    ticket.steps = taken = ticketed()
    return taken


def _held(
    history: History, steps: Callable[[], Steps[_T]], turn: Turn | None, polling: Polling | None
) -> Steps[_T]:
    if polling is None:
        return (yield from steps())
    try:
        try:
            while not (yield Work(history.acquire)):
                yield Wait(polling.pause())
        except (SaveFailed, SessionChanged) as error:
            error.turn = turn
            raise
        result = yield from steps()
    except GeneratorExit:  # nobody performs steps any more
        raise
    except BaseException:
        yield Work(history.release)
        raise
    yield Work(history.release)
    return result


def changing(history: History, job: Callable[[], _T], turn: Turn | None = None) -> Steps[_T]:
    """Make one change: same as `holding`, in a single step."""
    return _ticketed(history, partial(_changed, history, job, turn))


def _changed(
    history: History, job: Callable[[], _T], turn: Turn | None, polling: Polling | None
) -> Steps[_T]:
    step = Work(partial(history.change, job))
    try:
        if polling is None:
            return (yield from work_on(history, job))
        done: tuple[_T] | None = yield step
        while done is None:
            yield Wait(polling.pause())
            done = yield step
    except (SaveFailed, SessionChanged) as error:
        error.turn = error.turn or turn
        raise
    return done[0]


def refreshing(history: History) -> Steps[tuple[Turn, ...]]:
    """Read what others wrote, without waiting for them; return what is new.

    Nothing is during an exchange or a hold of this object, which has locked the session.
    """
    if history.lock.is_kept:
        return ()

    def steps(polling: Polling | None) -> Steps[tuple[Turn, ...]]:
        found: tuple[Turn, ...] = () if polling is None else (yield Work(history.refresh))
        return found

    return (yield from _ticketed(history, steps))


def adding(history: History, turn: _TurnT) -> Steps[_TurnT]:
    """Add one turn."""
    return changing(history, partial(history.add, turn), turn)


def adding_completion(requests: Requests, completion: Any) -> Steps[AssistantTurn]:
    """Add the answer in a completion of the caller's own request."""
    whole = completion_object(completion)
    history = requests.history
    try:
        return (yield from changing(history, lambda: history.add(requests.answer(whole))))
    except (SaveFailed, SessionChanged) as error:
        error.turn = error.turn or requests.answer(whole)
        raise


def work_on(history: History, job: Callable[[], _T]) -> Steps[_T]:
    """Call a function that changes the history: a step of its own where there is a store."""
    if not history.is_saved:
        return job()
    result: _T = yield Work(job)
    return result

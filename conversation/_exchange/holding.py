"""Locking around a change or an exchange: acquire, take in what others wrote, go on, release."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from conversation._exchange.requests import Requests
from conversation._exchange.steps import Steps, Wait, Work
from conversation._history.history import History
from conversation._locking import Polling, Ticket
from conversation._values.naming import Naming
from conversation._values.turns import AssistantTurn, Turn
from conversation._wire.completions import completion_object
from conversation.errors import SaveFailed, SessionChanged

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


def _ticketed(history: History, steps: Callable[[Polling], Steps[_T]]) -> Steps[_T]:
    """Run steps when it is their turn in this object."""
    ticket, polling = Ticket(), history.polling()

    def ticketed() -> Steps[_T]:
        try:
            history.lock.enqueue(ticket)
            while not history.lock.try_acquire(ticket):
                yield Wait(polling.pause())
            polling.slow_down(history.pauses)
            with Naming(history.id):
                return (yield from steps(polling))
        finally:
            try:
                if history.lock.is_held_by(ticket):
                    history.release()  # again, if it was interrupted, or waited in a queue
            finally:
                history.lock.release(ticket)

    ticket.steps = taken = ticketed()
    return taken


def _held(
    history: History, steps: Callable[[], Steps[_T]], turn: Turn | None, polling: Polling
) -> Steps[_T]:
    if not history.is_saved:
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
    history: History, job: Callable[[], _T], turn: Turn | None, polling: Polling
) -> Steps[_T]:
    if not history.is_saved:
        return job()
    step = Work(partial(history.change, job))
    try:
        done: tuple[_T] | None = yield step
        while done is None:
            yield Wait(polling.pause())
            done = yield step
    except (SaveFailed, SessionChanged) as error:
        error.turn = error.turn or turn
        raise
    return done[0]


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

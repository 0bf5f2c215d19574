"""The driver that performs the steps of an exchange."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from conversation._client import run
from conversation._exchange.steps import work


@pytest.fixture
def _restored() -> Iterator[None]:
    """Restore the handler of Ctrl-C."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.usefixtures("_restored")
def test_a_job_that_writes_is_not_interrupted() -> None:
    """Ctrl-C during a job that writes is raised at its end; during another one, at once."""
    done = []

    def job() -> None:
        signal.raise_signal(signal.SIGINT)
        done.append("end")

    with pytest.raises(KeyboardInterrupt):
        run(work(job, writes=True))
    assert done == ["end"]
    with pytest.raises(KeyboardInterrupt):
        run(work(job))
    assert done == ["end"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("_restored")
def test_the_programs_own_handler_is_called_at_the_end_of_a_job() -> None:
    """A handler of the program's own gets the deferred signal once, and is back in its place."""
    caught: list[int] = []

    def handler(number: int, _: object) -> None:
        caught.append(number)

    def job() -> list[int]:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return list(caught)

    signal.signal(signal.SIGINT, handler)
    assert run(work(job, writes=True)) == []
    assert caught == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.usefixtures("_restored")
def test_a_job_that_ignores_ctrl_c_is_left_alone() -> None:
    """A job leaves Ctrl-C ignored in a program that ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run(work(lambda: signal.raise_signal(signal.SIGINT), writes=True))
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN

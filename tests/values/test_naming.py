"""Names of sessions in log lines: they end with what they name, whatever happens."""

from __future__ import annotations

import contextlib
import logging
import sys
from types import FrameType

import pytest

from conversation import Conversation
from conversation._values.naming import Naming
from conversation.testing import StandIn

log = logging.getLogger("conversation")


class Injected(BaseException):
    """An exception that nobody expects."""


@pytest.mark.parametrize("within", ["__enter__", "__exit__"])
@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("streams", [False, True])
def test_an_exception_at_any_moment_leaves_no_name_behind(
    within: str, step: int, streams: bool, server: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception while a session's name is set or reset: later lines outside have none."""
    chat = Conversation.open("s", client=server.client())
    code = getattr(Naming, within).__code__
    moments = 0

    def interrupt(frame: FrameType, event: str, _: object) -> None:
        nonlocal moments
        if frame.f_code is code and event == "c_return":
            moments += 1
            if moments == step + 1:
                sys.setprofile(None)
                raise Injected

    sys.setprofile(interrupt)
    try:
        with contextlib.suppress(Injected):
            if streams:
                with chat.stream("Hello") as events:
                    list(events)
                del events
            else:
                chat.say("Hello")
    finally:
        sys.setprofile(None)
    assert moments == step + 1
    log.warning("a line of its own")
    assert caplog.records[-1].session is None  # type: ignore[attr-defined]
    assert caplog.messages[-1] == "a line of its own"


def test_names_inside_of_names_end_in_their_order(caplog: pytest.LogCaptureFixture) -> None:
    """A line has the innermost name, and the outer one again behind it."""
    with Naming("a"):
        with Naming("b"):
            log.warning("one")
        log.warning("two")
    assert caplog.messages == ["session 'b': one", "session 'a': two"]

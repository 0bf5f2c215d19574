"""The time by a caller's clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from conversation.errors import InvalidSetting


def time_from_clock(clock: Callable[[], float]) -> float:
    """Return the Unix time in seconds.

    Raises:
        InvalidSetting: if the clock raises, or tells no time of the years 1 to 9999.
    """
    rule = "clock must return Unix time in seconds, as time.time does"
    try:
        now = clock()
    except Exception as error:
        if clock is time.time:  # which raises nothing: it is a signal's, such as a time limit
            raise
        raise InvalidSetting(f"{rule}; it raised {error!r}") from error
    try:
        datetime.fromtimestamp(now, UTC)
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise InvalidSetting(f"{rule}, got {now!r} ({error})") from error
    return now

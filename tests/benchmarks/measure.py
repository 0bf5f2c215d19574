"""Measurement of two functions by turns, so that noise affects both alike."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable

import attrs


@attrs.frozen
class Result:
    """One figure.

    Attributes:
        name: Both sides of the comparison.
        ours: Median seconds (or bytes) of ours.
        theirs: Median of what it is compared with.
        limit: Largest allowed ratio or difference; infinite for a mere comparison.
        unit: Unit of `ours` and `theirs`.
        is_difference: True if the figure is the difference instead of the ratio.
    """

    name: str
    ours: float
    theirs: float
    limit: float
    unit: str = "ms"
    is_difference: bool = False

    @property
    def figure(self) -> float:
        """Return the ratio, or the difference."""
        return self.ours - self.theirs if self.is_difference else self.ours / self.theirs

    def __str__(self) -> str:
        sign = "OVER" if self.figure > self.limit else "ok  "
        bound = "for comparison" if math.isinf(self.limit) else f"at most {self.limit:g}"
        figure = f"{self.figure:8.2f} {self.unit if self.is_difference else 'x':3}"
        sides = f"{self.ours:10.3f} {self.theirs:10.3f} {self.unit}"
        return f"{sign} {self.name:74} {sides:26} {figure} ({bound})"


def compared(
    name: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    limit: float,
    rounds: int,
    is_difference: bool = False,
) -> Result:
    """Measure both by turns, and return their median milliseconds."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds // 10):
        ours()
        theirs()
    # A full collection of what the benchmarks hold takes longer than many a function, and would
    # always meet the same side.
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        for function, found in zip((ours, theirs), times, strict=True):
            begin = time.perf_counter()
            function()
            found.append((time.perf_counter() - begin) * 1000)
    gc.unfreeze()
    mine, other = (statistics.median(found) for found in times)
    return Result(name, mine, other, limit, is_difference=is_difference)

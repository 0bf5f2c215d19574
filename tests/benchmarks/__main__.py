"""Print every figure: `python -m tests.benchmarks [--quick]`.

The exit status is 1 if a figure is over its limit; with `--quick`, which is noisy, only if a
benchmark fails.
"""

from __future__ import annotations

import sys

from tests.benchmarks import (
    bench_context,
    bench_others,
    bench_postgres,
    bench_realtime,
    bench_rendering,
    bench_sessions,
    bench_streaming,
)

MODULES = (
    bench_rendering,
    bench_sessions,
    bench_streaming,
    bench_context,
    bench_others,
    bench_postgres,
    bench_realtime,
)


def main() -> int:
    """Measure and print each figure."""
    quick = "--quick" in sys.argv[1:]
    over = 0
    print(f"     {'what was compared (medians)':74} {'ours':>10} {'theirs':>10} {'ratio':>16}")
    for module in MODULES:
        for result in module.run(quick=quick):
            print(result, flush=True)
            over += result.figure > result.limit
    return 1 if over and not quick else 0


if __name__ == "__main__":
    sys.exit(main())

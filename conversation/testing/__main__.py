"""Command `python -m conversation.testing`: serve the stand-in to clients in any language."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from conversation.testing._server import StandIn, check_lifetime


def _seconds(text: str) -> float:
    try:
        return check_lifetime(float(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m conversation.testing",
        description="Serve a local stand-in for OpenAI's audio API on 127.0.0.1.",
    )
    parser.add_argument(
        "--port", type=int, default=8765, help="port on 127.0.0.1 (default: 8765; 0: any free port)"
    )
    parser.add_argument(
        "--audio-lifetime",
        type=_seconds,
        default=3600,
        metavar="SECONDS",
        help="lifetime of audio ids (default: 3600)",
    )
    parser.add_argument(
        "--script",
        type=Path,
        metavar="FILE",
        help='JSON lines with the answers, such as {"text": "Sunny."}, {"tool_calls": [["weather", '
        '{"city": "Oslo"}]]} or {"fail": 429}; POST /stand-in/script takes more of them',
    )
    options = parser.parse_args(arguments)
    try:
        server = StandIn(options.audio_lifetime, port=options.port)
    except (OSError, OverflowError) as error:
        print(f"cannot listen on port {options.port}: {error}", file=sys.stderr)
        return 1
    if options.script:
        try:
            server.will_follow(options.script.read_bytes())
        except (OSError, ValueError) as error:
            print(f"cannot follow {options.script}: {error}", file=sys.stderr)
            return 1
    # SIGINT too: background jobs of a script inherit it as ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), server:
        print(f"serving on {server.url}; set OPENAI_BASE_URL to it, and OPENAI_API_KEY to any text")
        print("stop with Ctrl-C", flush=True)
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())

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


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65_536):
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, got {text!r}")
    return int(text)


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m conversation.testing",
        description="Serve a local stand-in for OpenAI's audio API on 127.0.0.1.",
    )
    parser.add_argument(
        "--port", type=_port, default=8765, help="port on 127.0.0.1 (default: 8765; 0: any free)"
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
    except OSError as error:
        msg = f"cannot listen on port {options.port}: {_why(error)}; --port 0 takes any free one"
        print(msg, file=sys.stderr)
        return 1
    with contextlib.suppress(KeyboardInterrupt), server:
        if options.script:
            try:
                server.will_follow(options.script.read_bytes())
            except (OSError, ValueError) as error:
                print(f"cannot follow {options.script}: {_why(error)}", file=sys.stderr)
                return 1
        # SIGINT too: background jobs of a script inherit it as ignored.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        print(f"serving on {server.url}; stop with Ctrl-C. For your programs, elsewhere:")
        print(f"export OPENAI_BASE_URL={server.url} OPENAI_API_KEY=any", flush=True)
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Command `python -m conversation.testing`: serve the stand-in to clients in any language."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading

from conversation.testing._server import StandIn


def main() -> int:
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
        type=float,
        default=3600,
        metavar="SECONDS",
        help="lifetime of audio ids (default: 3600)",
    )
    options = parser.parse_args()
    try:
        server = StandIn(options.audio_lifetime, port=options.port)
    except (OSError, OverflowError) as error:
        print(f"cannot listen on port {options.port}: {error}", file=sys.stderr)
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

"""`python -m conversation.testing`: the stand-in, for any client in any language."""

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
        description="A server on this machine with the contract of OpenAI's audio models.",
    )
    parser.add_argument("--port", type=int, default=8765, help="on 127.0.0.1 (default: 8765)")
    parser.add_argument(
        "--audio-lifetime",
        type=float,
        default=3600,
        metavar="SECONDS",
        help="for how long audio ids are remembered (default: 3600)",
    )
    options = parser.parse_args()
    try:
        server = StandIn(options.audio_lifetime, port=options.port)
    except (OSError, OverflowError) as error:
        print(f"cannot listen on port {options.port}: {error}", file=sys.stderr)
        return 1
    # SIGINT too: what a script starts in the background inherits it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), server:
        print(f"serving on {server.url}; set OPENAI_BASE_URL to it, and OPENAI_API_KEY to any text")
        print("stop with Ctrl-C", flush=True)
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())

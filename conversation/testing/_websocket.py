"""WebSocket of the stand-in: frames in both directions, over the connection of a request.

It reads while it writes, as clients send sound and listen at the same time.
"""

from __future__ import annotations

import contextlib
import queue
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Any, Protocol

import orjson

from conversation.testing._refusals import Refused

MOST_BYTES = 32 * 2**20
"""Largest message, in bytes: an event with 15 MiB of sound is shorter."""

_TICK = 0.05
"""Seconds between two looks at the session's clock."""


class Session(Protocol):
    """The other end of a connection."""

    def begin(self, connection: Connection) -> None:
        """Send the first events."""

    def receive(self, message: bytes) -> None:
        """Take a message of the client."""

    def tick(self) -> None:
        """Look at the clock."""

    def end(self) -> None:
        """Stop: the connection is closed."""


class Connection:
    """An open connection.

    Args:
        channel: The socket.
        protocol: The WebSocket protocol of `websockets`, without I/O.
    """

    def __init__(self, channel: socket.socket, protocol: Any) -> None:
        self._channel = channel
        self._protocol = protocol
        self._lock = threading.Lock()
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def send(self, event: Any) -> None:
        """Send an event; nothing if the connection is closed."""
        self._act(lambda: self._protocol.send_text(orjson.dumps(event)))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection after what was sent."""
        self._act(lambda: self._protocol.send_close(code, reason))

    def cut(self) -> None:
        """Cut the connection, without a closing frame, after what was sent."""
        self._outgoing.put(None)

    def serve(self, session: Session) -> None:
        """Pass messages to the session until the connection is closed."""
        writer = threading.Thread(target=self._write, name="stand-in-writer", daemon=True)
        writer.start()
        self._act(lambda: None)  # the answer to the handshake
        try:
            session.begin(self)
            self._read(session)
        finally:
            session.end()
            self._outgoing.put(None)
            writer.join()

    def _act(self, act: Callable[[], None]) -> list[Any]:
        """Change the protocol, queue what is to be sent, and return the received frames."""
        with self._lock:
            # A closed connection takes no more.
            with contextlib.suppress(Exception):
                act()
            for data in self._protocol.data_to_send():
                self._outgoing.put(data or None)
            return list(self._protocol.events_received())

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._outgoing.get():
                self._channel.sendall(data)
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)

    def _read(self, session: Session) -> None:
        message = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._channel, selectors.EVENT_READ)
            while True:
                if not selector.select(_TICK):
                    session.tick()
                    continue
                try:
                    data = self._channel.recv(65_536)
                except OSError:
                    data = b""
                if not data:
                    return
                for frame in self._act(lambda data=data: self._protocol.receive_data(data)):  # type: ignore[misc]
                    if frame.opcode in (0, 1, 2):  # the others are answered by the protocol
                        message += frame.data
                        if frame.fin:
                            session.receive(message)
                            message = b""


def accept(channel: socket.socket, head: bytes) -> Connection:
    """Return the connection that a request opens; the answer is sent by `serve`.

    Args:
        channel: The socket.
        head: The request as it came.

    Raises:
        Refused: if `websockets` is not installed, or it is no such request.
    """
    try:
        from websockets.server import ServerProtocol
    except ImportError as error:
        message = "The stand-in needs the extra `realtime`: pip install '.[realtime]'"
        raise Refused(message, status=501) from error

    def chosen(_: Any, offered: Any) -> Any:  # browsers send the key beside it
        return "realtime" if "realtime" in offered else None

    protocol = ServerProtocol(max_size=MOST_BYTES, select_subprotocol=chosen)
    protocol.receive_data(head)
    requests = protocol.events_received()
    response = protocol.accept(requests[0]) if requests else None  # type: ignore[arg-type]
    if response is None or response.status_code != 101:
        raise Refused("This is no request for a WebSocket.")
    protocol.send_response(response)
    return Connection(channel, protocol)

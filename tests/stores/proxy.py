"""A proxy before a server: it cuts connections around an answer, delays answers, or goes silent."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Literal, Self

Moment = Literal["before", "during", "after"]


class Proxy:
    """Passes bytes on between clients and a server at a port of 127.0.0.1.

    Args:
        port: The server's port.

    Attributes:
        delay: Seconds by which each answer is late.
        is_silent: True: nothing passes any more.
        is_away: True: nobody is let in any more.
        cuts: Number of connections that were cut.
        statements: Number of messages from clients that contained `counted`.
        counted: Bytes.
    """

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.delay = 0.0
        self.is_silent = self.is_away = False
        self.cuts = self.statements = 0
        self.counted = b""
        self._next: tuple[Moment, bytes, int] | None = None
        self._is_for_good = False
        self._mutex = threading.Lock()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _close(self._listener)
        self.cut_all()

    def cut_next(
        self, when: Moment, containing: bytes = b"", skip: int = 0, *, for_good: bool = False
    ) -> None:
        """Cut the connection of one of the next statements.

        Args:
            when: Before the statement passes, while it is executed, or before its answer passes.
            containing: What it contains.
            skip: Number of such statements that pass before.
            for_good: Let nobody in afterwards.
        """
        self._next = (when, containing, skip)
        self._is_for_good = for_good

    @property
    def has_cut(self) -> bool:
        """True if no cut is due."""
        return self._next is None

    def cut_all(self) -> None:
        """Cut all connections."""
        with self._mutex:
            for each in self._sockets:
                _close(each)
            self._sockets.clear()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with contextlib.suppress(OSError):
                    if self.is_away:
                        raise ConnectionRefusedError
                    server = socket.create_connection(self._server)
                    for each in (client, server):
                        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    with self._mutex:
                        self._sockets += [client, server]
                    link = _Link(self, client, server)
                    threading.Thread(target=link.to_server, daemon=True).start()
                    threading.Thread(target=link.to_client, daemon=True).start()
                    continue
                client.close()  # the server is down

    def due(self, data: bytes) -> Moment | None:
        """Return when the connection of this statement is cut; None: not now."""
        with self._mutex:
            self.statements += bool(self.counted) and self.counted in data
            if self._next is None or data[:1] == b"X":
                return None
            when, containing, skip = self._next
            if containing not in data:
                return None
            self._next = (when, containing, skip - 1) if skip else None
            self.cuts += not skip
            self.is_away = not skip and self._is_for_good
            return None if skip else when


class _Link:
    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._is_due = False

    def to_server(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._client.recv(1 << 20):
                if self._proxy.is_silent:
                    continue
                when = self._proxy.due(data)
                if when == "before":
                    break
                self._is_due = when == "after"
                self._server.sendall(data)
                if when == "during":
                    break
        self._end()

    def to_client(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._server.recv(1 << 20):
                if self._is_due:
                    break
                if self._proxy.is_silent:
                    continue
                time.sleep(self._proxy.delay)
                self._client.sendall(data)
        self._end()

    def _end(self) -> None:
        _close(self._client)
        _close(self._server)


def _close(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()

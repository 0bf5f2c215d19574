"""HTTP on 127.0.0.1: requests are read, answers are sent, cut or held."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs
import orjson

from conversation.testing._streams import Mark


@attrs.frozen
class Request:
    """A request that arrived.

    Attributes:
        method: `"POST"` or `"GET"`.
        path: Where it was sent to, without a query.
        headers: By lower-case name.
        data: The body.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    data: bytes


@attrs.frozen
class Reply:
    """An answer.

    Attributes:
        pieces: The body, and what is done between its pieces.
        length: Bytes of the body; None: it is sent in chunks, one a piece.
        content_type: What the body is.
        status: The HTTP status.
    """

    pieces: Iterable[bytes | Mark]
    length: int | None
    content_type: str = "application/json"
    status: int = 200


def whole(body: bytes, content_type: str = "application/json") -> Reply:
    """An answer whose bytes are known."""
    return Reply([body], len(body), content_type)


def in_json(value: Mapping[str, Any], status: int = 200) -> Reply:
    """An answer in JSON."""
    return attrs.evolve(whole(orjson.dumps(value)), status=status)


class Server(ThreadingHTTPServer):
    """A server on 127.0.0.1, with a thread for each connection.

    Args:
        port: The port; 0 for any that is free.
        answer: Gives the answer to a request.
        hold: Keeps a stream waiting; False where nobody waits for the rest of it.
    """

    daemon_threads = True
    request_queue_size = 128  # the default of 5 resets connections when many come at once

    def __init__(
        self,
        port: int,
        answer: Callable[[Request], Reply],
        hold: Callable[[Callable[[], bool]], bool],
    ) -> None:
        self.answer = answer
        self.hold = hold
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no fault; anything else is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def close_connections(self) -> None:
        """End those that clients keep open, so that no thread waits for them."""
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_POST(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Nothing: a test's output is its own."""

    def _answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path.partition("?")[0], headers, self._body())
        reply = self.server.answer(request)
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        if reply.length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(reply.length))
        self.end_headers()
        for piece in reply.pieces:
            if isinstance(piece, bytes):
                framed = b"%x\r\n%b\r\n" % (len(piece), piece) if reply.length is None else piece
                self.wfile.write(framed)
            elif piece is Mark.CUT or not self.server.hold(self._is_gone):
                self.close_connection = True
                return
        if reply.length is None:
            self.wfile.write(b"0\r\n\r\n")

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        pieces = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            continue
        return b"".join(pieces)

    def _is_gone(self) -> bool:
        """Whether the client hung up."""
        try:
            self.connection.setblocking(False)
            try:
                return not self.connection.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return False
            finally:
                self.connection.setblocking(True)
        except OSError:
            return True

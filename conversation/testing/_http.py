"""HTTP server on 127.0.0.1 that can hold or cut its answers."""

from __future__ import annotations

import http
import re
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs
import orjson

from conversation.testing import _websocket
from conversation.testing._refusals import Refused
from conversation.testing._streams import Control

MOST_BYTES = 256 * 2**20
"""Largest body of a request, in bytes."""

_LONGEST_LINE = 65_536

_HEADERS = {
    "openai-version": "2020-10-01",
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-limit-tokens": "2000000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-remaining-tokens": "1999999",
    "x-ratelimit-reset-requests": "6ms",
    "x-ratelimit-reset-tokens": "0s",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "*",
}
"""Headers of all answers; pages of any origin may read them."""


@attrs.frozen
class Request:
    """A received request.

    Attributes:
        method: `"POST"` or `"GET"`.
        path: Path without the query.
        headers: Headers by lower-case name.
        data: Body.
        query: Query of the path.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    data: bytes
    query: str = ""


@attrs.frozen
class Reply:
    """An answer.

    Attributes:
        pieces: The body in pieces, with controls between them.
        length: Length of the body in bytes; None for chunked encoding, one chunk for each piece.
        content_type: Content type of the body.
        status: HTTP status.
    """

    pieces: Iterable[bytes | Control]
    length: int | None
    content_type: str = "application/json"
    status: int = 200


def bytes_reply(body: bytes, content_type: str = "application/json") -> Reply:
    """Return an answer with this body."""
    return Reply([body], len(body), content_type)


def json_reply(value: Mapping[str, Any], status: int = 200) -> Reply:
    """Return an answer with this JSON body."""
    return attrs.evolve(bytes_reply(orjson.dumps(value)), status=status)


def _failure(message: str, status: int) -> Reply:
    """Return the answer to a request that cannot be read."""
    fault = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return json_reply({"error": fault}, status)


class Server(ThreadingHTTPServer):
    """Server on 127.0.0.1 with a thread for each connection.

    Args:
        port: Port; 0 for any free one.
        answer: Returns the answer to a request.
        hold: Blocks while a stream is held; returns False if the client disconnects.
        connect: Returns the session of a request for a WebSocket.
    """

    daemon_threads = True
    request_queue_size = 128  # the default, 5, resets connections when many arrive at once

    def __init__(
        self,
        port: int,
        answer: Callable[[Request], Reply],
        hold: Callable[[Callable[[], bool]], bool],
        connect: Callable[[Request], _websocket.Session],
    ) -> None:
        self.answer = answer
        self.connect = connect
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
        """Print the traceback, unless the client disconnected."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def close_connections(self) -> None:
        """Close the connections that clients keep alive, so that their threads end."""
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def __getattr__(self, name: str) -> Any:
        if name == "do_OPTIONS":
            return self._allow
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def send_error(self, code: int, message: str | None = None, _: str | None = None) -> None:
        """Answer a request that is no HTTP, in JSON like all others."""
        self.close_connection = True
        self.request_version = self.protocol_version
        self._send(_failure(message or http.HTTPStatus(code).phrase, code), time.monotonic())

    def _allow(self) -> None:
        """Answer the question of a browser whether a page may send a request."""
        try:
            self._body()  # before the next request
        except ValueError as error:
            self._refuse(error)
            return
        self.send_response(204)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
        asked = self.headers.get("Access-Control-Request-Headers", "*")
        self.send_header("Access-Control-Allow-Headers", asked)
        self.send_header("Access-Control-Allow-Private-Network", "true")
        self.send_header("Access-Control-Max-Age", "600")
        self.end_headers()

    def _answer(self) -> None:
        start = time.monotonic()
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            data = self._body()
        except ValueError as error:
            self._refuse(error)
            return
        path, _, query = self.path.partition("?")
        request = Request(self.command, path, headers, data, query)
        if headers.get("upgrade", "").lower() == "websocket":
            self._connect(request)
        else:
            self._send(self.server.answer(request), start)

    def _refuse(self, error: ValueError) -> None:
        self.close_connection = True  # nobody knows where the next request begins
        self._send(_failure(str(error), 400), time.monotonic())

    def _connect(self, request: Request) -> None:
        """Serve a WebSocket."""
        self.close_connection = True
        lines = (f"{name}: {value}\r\n" for name, value in self.headers.items())
        head = self.raw_requestline + "".join([*lines, "\r\n"]).encode("latin-1")
        try:
            session = self.server.connect(request)
            connection = _websocket.accept(self.connection, head)
        except Refused as refused:
            self._send(json_reply(refused.body, refused.status), time.monotonic())
        else:
            connection.serve(session)

    def _send(self, reply: Reply, start: float) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        if reply.length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(reply.length))
        self.send_header("x-request-id", f"req_{secrets.token_hex(16)}")
        self.send_header("openai-processing-ms", str(round(1000 * (time.monotonic() - start))))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        for piece in reply.pieces:
            if isinstance(piece, bytes):
                framed = b"%x\r\n%b\r\n" % (len(piece), piece) if reply.length is None else piece
                self.wfile.write(framed)
            elif piece is Control.CUT or not self.server.hold(self._is_disconnected):
                self.close_connection = True
                return
        if reply.length is None:
            self.wfile.write(b"0\r\n\r\n")

    def _body(self) -> bytes:
        """Return the body of the request.

        Raises:
            ValueError: if its length is wrong, too large or not reached.
        """
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self._read(self.headers.get("content-length") or "0", 10, MOST_BYTES)
        pieces: list[bytes] = []
        left = MOST_BYTES
        while piece := self._read(self._line().partition(";")[0], 16, left):
            pieces.append(piece)
            left -= len(piece)
            if self._line():
                raise ValueError("A chunk is longer than its size.")
        while self._line():
            continue
        return b"".join(pieces)

    def _line(self) -> str:
        return self.rfile.readline(_LONGEST_LINE).decode("latin-1").strip()

    def _read(self, size: str, base: int, most: int) -> bytes:
        size = size.strip()
        # `int` takes signs, underscores and the digits of other scripts, too.
        if not re.fullmatch("[0-9]{1,20}" if base == 10 else "[0-9a-fA-F]{1,20}", size):
            raise ValueError(f"The size {size[:40]!r} of the body is not a number.")
        count = int(size, base)
        if count > most:
            raise ValueError(f"The body is larger than {MOST_BYTES} bytes.")
        data = self.rfile.read(count)
        if len(data) < count:
            raise ValueError("The body ended before its size.")
        return data

    def _is_disconnected(self) -> bool:
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

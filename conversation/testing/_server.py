"""The stand-in: real HTTP on 127.0.0.1, in a thread, with the contract of the real server."""

from __future__ import annotations

import secrets
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import orjson

from conversation.testing import _answers, _chunks, _contract

if TYPE_CHECKING:
    from openai import OpenAI

_CHAT = "/v1/chat/completions"


class Received(dict[str, Any]):
    """The JSON body of a request that arrived.

    Attributes:
        path: Where it was sent to, such as `"/v1/chat/completions"`.
        headers: Its headers, by lower-case name.
    """

    def __init__(self, body: Mapping[str, Any], path: str, headers: Mapping[str, str]) -> None:
        super().__init__(body)
        self.path = path
        self.headers = headers


class StandIn:
    """A strict server with the contract of the real one.

    It issues audio ids, forgets them when their time is over, refuses what the API refuses with
    the same errors, and makes real sound. What it says tells what of its earlier answers it was
    sent as voice and what as transcript::

        with StandIn() as server:
            chat = Conversation(client=server.client())
            print(chat.say("Good morning").text)

    Args:
        audio_lifetime: Seconds for which an audio id is remembered.
        clock: Gives Unix time in seconds; a test can move it.
        port: The port on 127.0.0.1; 0 for any that is free.
    """

    def __init__(
        self,
        audio_lifetime: float = 3600,
        clock: Callable[[], float] = time.time,
        *,
        port: int = 0,
    ) -> None:
        self._audio_lifetime = audio_lifetime
        self._clock = clock
        self._lock = threading.Lock()
        self._remembered: dict[str, _answers.Spoken] = {}
        self._script: deque[_answers.Answer | _contract.Refused | bytes] = deque()
        self._requests: list[Received] = []
        self._clients: list[OpenAI] = []
        self._server = _Server(port, self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), name="stand-in", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        self._server.shutdown()
        self._server.close_connections()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """The base URL for a client; it ends in `/v1`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def client(self, **options: Any) -> OpenAI:
        """A client that talks to this server and does not retry; closed with the server.

        Args:
            options: Go through to `openai.OpenAI`.
        """
        import openai

        settings: dict[str, Any] = {
            "base_url": self.url,
            "api_key": "stand-in",
            "max_retries": 0,
            **options,
        }
        client = openai.OpenAI(**settings)
        self._clients.append(client)
        return client

    @property
    def requests(self) -> list[Received]:
        """The bodies of all requests that arrived, oldest first; refused ones too."""
        with self._lock:
            return list(self._requests)

    def forget(self, audio_id: str) -> None:
        """Forget an audio id now, as the real server does when it wants to.

        Raises:
            KeyError: if the server never issued it, or has forgotten it.
        """
        with self._lock:
            if not self._knows(audio_id):
                raise KeyError(audio_id)
            del self._remembered[audio_id]

    def will_answer(
        self,
        text: str | None = None,
        *,
        spoken: bool = True,
        tool_calls: Sequence[tuple[str, Mapping[str, Any]]] = (),
        refusal: str | None = None,
        finish_reason: str | None = None,
    ) -> None:
        """Script the next answer; several calls queue up.

        Args:
            text: Its words. None: what it says by itself, or none beside tool calls or a refusal.
            spoken: False: text, although sound was asked for.
            tool_calls: Pairs of a tool's name and its arguments.
            refusal: It would not answer, and why.
            finish_reason: Instead of the one that fits, such as `"length"`.
        """
        answer = _answers.Answer(text, spoken, tuple(tool_calls), refusal, finish_reason)
        self._script.append(answer)

    def will_fail(
        self,
        status: int,
        message: str = "The server had an error while processing your request.",
        *,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        """Script an error as the next answer, whatever is asked; several calls queue up."""
        self._script.append(_contract.Refused(message, param, code, status))

    def will_send(self, body: Mapping[str, Any] | bytes) -> None:
        """Script the next answer's very body, as another server might send it."""
        self._script.append(body if isinstance(body, bytes) else orjson.dumps(body))

    def answer(
        self, path: str, headers: Mapping[str, str], data: bytes
    ) -> tuple[int, bytes | Iterator[bytes]]:
        """Status and body for a POST request; the body comes in pieces where it is a stream."""
        try:
            return 200, self._answered(path, headers, data)
        except _contract.Refused as refused:
            return refused.status, orjson.dumps(refused.body)

    def _answered(
        self, path: str, headers: Mapping[str, str], data: bytes
    ) -> bytes | Iterator[bytes]:
        if not headers.get("authorization", "").removeprefix("Bearer").strip():
            message = "You didn't provide an API key."
            raise _contract.Refused(message, None, "invalid_api_key", 401)
        if path != _CHAT:
            message = f"Invalid URL (POST {path})"
            raise _contract.Refused(message, None, None, 404)
        try:
            body = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            message = "We could not parse the JSON body of your request."
            raise _contract.Refused(message) from error
        with self._lock:
            self._requests.append(Received(body if isinstance(body, dict) else {}, path, headers))
            scripted = self._script[0] if self._script else None
            if scripted is None or isinstance(scripted, _answers.Answer):
                # A request that is refused here leaves the script for the one that is mended.
                _contract.check(body, self._knows)
                completion = self._completion(scripted or _answers.Answer(), body)
            if scripted is not None:
                self._script.popleft()
        if isinstance(scripted, bytes):
            return scripted
        if isinstance(scripted, _contract.Refused):
            raise scripted
        if body.get("stream"):
            with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
            return _chunks.events(completion, with_usage=with_usage)
        return orjson.dumps(completion)

    def _knows(self, audio_id: str) -> bool:
        spoken = self._remembered.get(audio_id)
        return spoken is not None and self._clock() < spoken.expires_at

    def _completion(self, answer: _answers.Answer, body: Mapping[str, Any]) -> dict[str, Any]:
        now = self._clock()
        choices: list[dict[str, Any]] = []
        for index in range(body.get("n") or 1):
            message, reason, memory = _answers.message_and_reason(
                answer, body, now, self._audio_lifetime
            )
            if memory:
                self._remembered[message["audio"]["id"]] = memory
            choices.append({"index": index, "message": message, "finish_reason": reason})
        messages = [choice["message"] for choice in choices]
        usage = _answers.usage(body["messages"], messages, self._remembered)
        if usage["prompt_tokens"] > _contract.WINDOW:
            text = (
                f"This model's maximum context length is {_contract.WINDOW} tokens. However, your "
                f"messages resulted in {usage['prompt_tokens']} tokens. Please reduce the length "
                "of the messages."
            )
            raise _contract.Refused(text, "messages", "context_length_exceeded")
        return {
            "id": f"chatcmpl-{secrets.token_hex(14)}",
            "object": "chat.completion",
            "created": int(now),
            "model": body["model"],
            "choices": choices,
            "usage": usage,
            "service_tier": "default",
            "system_fingerprint": None,
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # the default of 5 resets connections when many come at once

    def __init__(self, port: int, stand_in: StandIn) -> None:
        self.stand_in = stand_in
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
    server: _Server

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._send(*self.server.stand_in.answer(self.path, headers, data))

    def do_GET(self) -> None:
        refused = _contract.Refused(f"Invalid URL (GET {self.path})", status=404)
        self._send(404, orjson.dumps(refused.body))

    def log_message(self, *_: Any) -> None:
        """Nothing: a test's output is its own."""

    def _send(self, status: int, body: bytes | Iterator[bytes]) -> None:
        self.send_response(status)
        if isinstance(body, bytes):
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in body:
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

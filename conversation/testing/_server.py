"""The stand-in: real HTTP on 127.0.0.1, in a thread, with the contract of the real server."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, get_args

import orjson

from conversation.testing import _answers, _api, _http, _streams
from conversation.testing._holds import Holds
from conversation.testing._refusals import Refused
from conversation.testing._streams import Order

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI


class StandIn:
    """A strict server with the contract of the real one.

    It issues audio ids, forgets them when their time is over, refuses what the API refuses with
    the same errors, and makes real sound. What it says tells what of its earlier answers it was
    sent as voice and what as transcript. Speech, transcriptions and the list of models are served
    too; a transcription of what the stand-in said itself has the very words::

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
        self._api = _api.Api(audio_lifetime, clock)
        self._holds = Holds()
        self._clients: list[OpenAI] = []
        self._async_clients: list[AsyncOpenAI] = []
        self._server = _http.Server(port, self._api.answer, self._holds.hold)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), name="stand-in", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        if self._async_clients:
            self._close_async_clients()
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

        # Plain HTTP needs no certificates, and loading them takes some 28 ms.
        given = {"http_client": openai.DefaultHttpxClient(verify=False), **options}
        client = openai.OpenAI(**self._settings(given))
        self._clients.append(client)
        return client

    def async_client(self, **options: Any) -> AsyncOpenAI:
        """Same as `client`, to be awaited. It keeps no connection from one request to the next.

        So nothing is left open when the event loop ends before the server does.
        """
        import openai

        settings = self._settings(options)
        headers = {"Connection": "close", **(settings.get("default_headers") or {})}
        settings = {"http_client": openai.DefaultAsyncHttpxClient(verify=False), **settings}
        client = openai.AsyncOpenAI(**{**settings, "default_headers": headers})
        self._async_clients.append(client)
        return client

    def _settings(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"base_url": self.url, "api_key": "stand-in", "max_retries": 0, **options}

    def _close_async_clients(self) -> None:
        import asyncio

        async def close() -> None:
            for client in self._async_clients:
                # One with an open stream belongs to a loop that may be over.
                with contextlib.suppress(RuntimeError):
                    await client.close()

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(close())
        else:
            self._closing = loop.create_task(close())

    @property
    def requests(self) -> list[_api.Received]:
        """The bodies of all requests that arrived, oldest first; refused ones too."""
        return self._api.requests

    def forget(self, audio_id: str) -> None:
        """Forget an audio id now, as the real server does when it wants to.

        Raises:
            KeyError: if the server never issued it, or has forgotten it.
        """
        self._api.forget(audio_id)

    def will_answer(
        self,
        text: str | None = None,
        *,
        spoken: bool = True,
        tool_calls: Sequence[tuple[str, Mapping[str, Any]]] = (),
        refusal: str | None = None,
        finish_reason: str | None = None,
        order: Order = "recorded",
        chunk_bytes: int = _streams.CHUNK_BYTES,
        hold_after: int | None = None,
        cut_after: int | None = None,
        fail_after: int | None = None,
    ) -> None:
        """Script the next answer to a chat; several calls queue up.

        The orders in which a stream can tell the same, all met in the wild:

        - `"recorded"`: the words ahead of the sound, whose first piece repeats id and role;
          `expires_at` alone; `finish_reason` last.
        - `"mixed"`: words and sound side by side in one delta.
        - `"finish first"`: `finish_reason` before `expires_at`.
        - `"no finish"`: no `finish_reason` at all.
        - `"no expiry"`: no `expires_at` at all.

        Args:
            text: Its words. None: what it says by itself, or none beside tool calls or a refusal.
            spoken: False: text, although sound was asked for.
            tool_calls: Pairs of a tool's name and its arguments.
            refusal: It would not answer, and why.
            finish_reason: Instead of the one that fits, such as `"length"`.
            order: How it streams.
            chunk_bytes: Bytes of sound in each chunk of a stream; odd ones cut samples in two.
            hold_after: Events after which the stream waits for `go_on`; 0: only headers went out.
            cut_after: Events after which the connection is cut. What is not streamed is one event.
            fail_after: Events after which the stream ends with an error; what is not streamed
                fails with 500.

        Raises:
            ValueError: if the order is unknown, a tool call no pair, or `chunk_bytes` less than 1.
        """
        if order not in get_args(Order):
            msg = f"expected an order of {', '.join(map(repr, get_args(Order)))}, got {order!r}"
            raise ValueError(msg)
        if chunk_bytes < 1:
            msg = f"expected at least 1 byte in a chunk, got {chunk_bytes}"
            raise ValueError(msg)
        for call in tool_calls:
            if not (isinstance(call, tuple | list) and len(call) == 2):
                msg = f"a tool call is a pair such as ('weather', {{'city': 'Oslo'}}), not {call!r}"
                raise ValueError(msg)
        course = _streams.Course(hold_after, cut_after, fail_after)
        self._api.script.append(
            _answers.Answer(
                text,
                spoken,
                tuple(tool_calls),
                refusal,
                finish_reason,
                order,
                chunk_bytes,
                course,
            )
        )

    def will_transcribe(self, text: str) -> None:
        """Script the words of the next transcription; several calls queue up."""
        self._api.transcripts.append(text)

    def will_fail(
        self,
        status: int,
        message: str = "The server had an error while processing your request.",
        *,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        """Script an error as the next answer, whatever is asked; several calls queue up."""
        self._api.script.append(Refused(message, param, code, status))

    def will_send(self, body: Mapping[str, Any] | bytes) -> None:
        """Script the next answer's very body, as another server might send it."""
        self._api.script.append(
            _http.whole(body if isinstance(body, bytes) else orjson.dumps(body))
        )

    def will_stream(
        self,
        chunks: Iterable[Mapping[str, Any]],
        *,
        hold_after: int | None = None,
        cut_after: int | None = None,
    ) -> None:
        """Script the next answer as a stream of these very chunks, and `[DONE]`.

        Args:
            chunks: The JSON of each event; `{"error": …}` is an error in the middle.
            hold_after: As in `will_answer`.
            cut_after: As in `will_answer`.
        """
        events = [*map(_streams.event_of, chunks), _streams.DONE]
        course = _streams.Course(hold_after, cut_after)
        self._api.script.append(_http.Reply(course.of(events), None, "text/event-stream"))

    def wait_until_held(self, timeout: float = 10) -> None:
        """Return as soon as a stream waits for `go_on`.

        Raises:
            TimeoutError: if none does within so many seconds.
        """
        self._holds.first(timeout)

    def go_on(self, timeout: float = 10) -> None:
        """Wait until a stream is held, and let the one that is held longest go on.

        Raises:
            TimeoutError: if none is held within so many seconds.
        """
        self._holds.go_on(timeout)

"""The stand-in server."""

from __future__ import annotations

import contextlib
import functools
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import orjson

from conversation.testing import _answers, _api, _http, _script, _streams
from conversation.testing._holds import Holds
from conversation.testing._streams import Order

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI


_LONGEST_LIFETIME = 1e9


def check_lifetime(seconds: float) -> float:
    """Return the lifetime of audio ids.

    Raises:
        ValueError: if it is no number of seconds.
    """
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 <= seconds <= _LONGEST_LIFETIME:
        msg = f"audio_lifetime must be from 0 to {_LONGEST_LIFETIME:.0f} seconds, got {seconds!r}"
        raise ValueError(msg)
    return seconds


class StandIn:
    """A strict local server that reproduces OpenAI's audio API, in a thread on 127.0.0.1.

    It issues audio ids that expire, refuses requests with the errors of the API, and answers with
    real sound. By default, an answer says how many earlier answers the request contained by voice
    and how many as transcripts. Speech, transcriptions and the list of models are served too; sound
    that the stand-in made is transcribed to its exact words. The details are in `CONTRACT.md`, in
    the folder of `conversation.testing`::

        with StandIn() as server:
            chat = Conversation(client=server.client())
            print(chat.say("Good morning").text)

    Args:
        audio_lifetime: Lifetime of audio ids in seconds, from 0 to 1e9.
        clock: Returns Unix time in seconds.
        port: Port on 127.0.0.1; 0 for any free one.
        old_wav_head: True for WAV files as the API sent them until early 2025, with a LIST chunk
            and true sizes; those of today have sizes of 2**32-1.

    Raises:
        ValueError: if the lifetime is none.
        OSError: if the port is taken.
    """

    def __init__(
        self,
        audio_lifetime: float = 3600,
        clock: Callable[[], float] = time.time,
        *,
        port: int = 0,
        old_wav_head: bool = False,
    ) -> None:
        self._api = _api.Api(check_lifetime(audio_lifetime), clock, old_wav_head=old_wav_head)
        self._holds = Holds()
        self._clients: list[OpenAI] = []
        self._async_clients: list[AsyncOpenAI] = []
        # Without a reference to this object: its clients are freed before the last connection.
        connect = functools.partial(self._api.connect, hold=self._holds.hold)
        self._server = _http.Server(port, self._api.answer, self._holds.hold, connect)
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
        """Base URL for clients, ending in `/v1`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def client(self, **options: Any) -> OpenAI:
        """Return a client of this server that does not retry and is closed with the server.

        Args:
            options: Options of `openai.OpenAI`.
        """
        import openai

        client = openai.OpenAI(**self._client_options(options, openai.DefaultHttpxClient))
        self._clients.append(client)
        return client

    def async_client(self, **options: Any) -> AsyncOpenAI:
        """Same as `client`, for asyncio.

        It closes its connection after each request, so that none outlives its event loop.
        """
        import openai

        headers = {"Connection": "close", **(options.get("default_headers") or {})}
        options = {**options, "default_headers": headers}
        client = openai.AsyncOpenAI(**self._client_options(options, openai.DefaultAsyncHttpxClient))
        self._async_clients.append(client)
        return client

    def _client_options(
        self, options: Mapping[str, Any], http_client: Callable[..., Any]
    ) -> dict[str, Any]:
        options = {"base_url": self.url, "api_key": "stand-in", "max_retries": 0, **options}
        if options.get("http_client") is None:
            # An empty trust store: loading the default one takes longer than most tests.
            # Without proxies of the environment: they cannot reach this server.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            options["http_client"] = http_client(verify=context, trust_env=False)
        return options

    def _close_async_clients(self) -> None:
        import asyncio

        async def close() -> None:
            for client in self._async_clients:
                # A client with an open stream may belong to a loop that is closed.
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
        """The last received requests, refused ones included, oldest first.

        At most 2,000, and at most 256 MB of bodies: a server may run for long.
        """
        return self._api.requests

    def forget(self, audio_id: str) -> None:
        """Forget an audio id before it expires.

        Raises:
            KeyError: if the id is unknown or expired.
        """
        self._api.forget(audio_id)

    def will_answer(
        self,
        text: str | None = None,
        *,
        spoken: bool = True,
        tool_calls: Sequence[tuple[str, Mapping[str, Any] | str]] = (),
        refusal: str | None = None,
        finish_reason: str | None = None,
        order: Order = "recorded",
        chunk_bytes: int = _streams.CHUNK_BYTES,
        hold_after: int | None = None,
        cut_after: int | None = None,
        fail_after: int | None = None,
    ) -> None:
        """Script the next chat answer; several calls queue up.

        Orders of a stream (§2 and §6 of `CONTRACT.md`):

        - `"recorded"`: the transcript before the sound, whose first piece repeats id and role; then
          `expires_at` alone, and `finish_reason` last.
        - `"mixed"`: transcript and sound in the same deltas.
        - `"finish first"`: `finish_reason` before `expires_at`.
        - `"no finish"`: no `finish_reason`.
        - `"no expiry"`: no `expires_at`.

        Args:
            text: Text of the answer. None for the default text, or for none if there are tool calls
                or a refusal.
            spoken: False to answer in text although audio was requested.
            tool_calls: Pairs of a tool's name and its arguments; of a custom tool, its text.
            refusal: Text of the refusal.
            finish_reason: A reason other than the one that fits, such as `"length"`.
            order: Order of the parts of the stream.
            chunk_bytes: Bytes of sound in each chunk of the stream; odd numbers split samples.
            hold_after: Events before the stream is held until `go_on`; 0 sends the headers only.
            cut_after: Events before the connection is cut. An answer that is not streamed counts
                as one event.
            fail_after: Events before the stream ends with an error. An answer that is not streamed
                fails with 500.

        Raises:
            ValueError: if an argument has a wrong type or value, or cannot be sent as JSON, such as
                text with a lone surrogate.
        """
        self._api.script.append(
            _answers.scripted_answer(
                text=text,
                spoken=spoken,
                tool_calls=tool_calls,
                refusal=refusal,
                finish_reason=finish_reason,
                order=order,
                chunk_bytes=chunk_bytes,
                hold_after=hold_after,
                cut_after=cut_after,
                fail_after=fail_after,
            )
        )

    def will_transcribe(self, text: str) -> None:
        """Script the text of the next transcription; several calls queue up.

        Raises:
            ValueError: if the text cannot be sent as JSON.
        """
        _answers.check_json("the transcript", text)
        self._api.transcripts.append(text)

    def will_fail(
        self,
        status: int,
        message: str = "The server had an error while processing your request.",
        *,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        """Script an error as the answer to the next request of any kind; several calls queue up.

        Clients other than those of `client` and `async_client` may ask again after it, unless they
        have `max_retries=0`.

        Raises:
            ValueError: if the status is not from 400 to 599, or the error cannot be sent as JSON.
        """
        self._api.script.append(_answers.scripted_failure(status, message, code=code, param=param))

    def will_follow(self, script: str | bytes) -> None:
        """Script several answers by JSON lines, as `POST /stand-in/script` does.

        Each line is an object with arguments of `will_answer`, such as `{"text": "Sunny."}`, or
        with the status of an error, such as `{"fail": 429}`, and optionally its `message`, `code`
        and `param`.

        Raises:
            ValueError: if a line is no such object, named by its number; nothing is taken then.
        """
        self._api.script.extend(_script.parse(script))

    def will_send(self, body: Mapping[str, Any] | bytes) -> None:
        """Script the body of the next answer, verbatim if it is bytes.

        Raises:
            ValueError: if it cannot be sent as JSON.
        """
        _answers.check_json("the body", None if isinstance(body, bytes) else body)
        self._api.script.append(
            _http.bytes_reply(body if isinstance(body, bytes) else orjson.dumps(body))
        )

    def will_stream(
        self,
        chunks: Iterable[Mapping[str, Any]],
        *,
        hold_after: int | None = None,
        cut_after: int | None = None,
    ) -> None:
        """Script the next answer as a stream of these chunks and `[DONE]`.

        Args:
            chunks: JSON of each event; `{"error": …}` is an error within the stream.
            hold_after: As in `will_answer`.
            cut_after: As in `will_answer`.

        Raises:
            ValueError: if a chunk cannot be sent as JSON.
        """
        chunks = list(chunks)
        _answers.check_json("the stream", chunks)
        events = [*map(_streams.event_of, chunks), _streams.DONE]
        pieces = _streams.Interruptions(hold_after, cut_after).apply(events)
        self._api.script.append(_http.Reply(pieces, None, "text/event-stream"))

    def wait_until_held(self, timeout: float = 10) -> None:
        """Wait until a stream is held.

        Raises:
            TimeoutError: if none is within `timeout` seconds.
        """
        self._holds.first(timeout)

    def go_on(self, timeout: float = 10) -> None:
        """Wait until a stream is held, and release the one that has been held longest.

        Raises:
            TimeoutError: if none is held within `timeout` seconds.
        """
        self._holds.go_on(timeout)

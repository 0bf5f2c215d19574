"""Streams of the stand-in: orders, holding, cutting and failing; and its async client."""

from __future__ import annotations

import asyncio
import base64
import gc
import http.client
import json
import socket
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, get_args
from urllib.parse import urlsplit

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionAudio, ChatCompletionChunk

from conversation.testing import StandIn
from conversation.testing._streams import Order
from tests.samples import START

Json = dict[str, Any]

ORDERS: tuple[Order, ...] = get_args(Order)
QUESTION: Json = {
    "model": "gpt-audio-1.5",
    "messages": [{"role": "user", "content": "Hello"}],
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "pcm16"},
}
SERVER_ERROR: Json = {
    "message": "The server had an error while processing your request.",
    "type": "server_error",
    "param": None,
    "code": None,
}


def ask(client: OpenAI, **changes: Any) -> openai.Stream[ChatCompletionChunk]:
    """Return the streamed answer to QUESTION."""
    create: Any = client.chat.completions.create
    stream = create(**QUESTION, stream=True, **changes)
    assert isinstance(stream, openai.Stream)
    return stream


def answer(client: OpenAI) -> ChatCompletionAudio:
    """Return the audio of the answer to QUESTION, not streamed."""
    create: Any = client.chat.completions.create
    audio = create(**QUESTION).choices[0].message.audio
    assert isinstance(audio, ChatCompletionAudio)
    return audio


def deltas(chunks: Iterable[ChatCompletionChunk]) -> list[Json]:
    """Return the deltas of all choices, with the fields that were sent."""
    choices = [choice for chunk in chunks for choice in chunk.choices]
    return [choice.delta.model_dump(exclude_unset=True) for choice in choices]


def audio_fields(parts: Iterable[Json]) -> list[str]:
    """Return the names of the audio fields of each delta, joined; "-" without audio."""
    return ["+".join(sorted(part["audio"])) if "audio" in part else "-" for part in parts]


def sound(parts: Iterable[Json]) -> list[bytes]:
    """Return the pieces of sound in the deltas."""
    audio = [part.get("audio", {}) for part in parts]
    return [base64.b64decode(part["data"], validate=True) for part in audio if "data" in part]


@contextmanager
def raw(server: StandIn) -> Iterator[socket.socket]:
    """Request a stream and yield its socket."""
    parts = urlsplit(server.url)
    with closing(http.client.HTTPConnection(parts.netloc, timeout=300)) as connection:
        body = json.dumps({**QUESTION, "stream": True})
        connection.request("POST", f"{parts.path}/chat/completions", body, {"Authorization": "any"})
        yield connection.sock


def read_until(connection: socket.socket, end: bytes, times: int = 1) -> bytes:
    """Read until `end` has come `times` times; with b"" until the server disconnects."""
    data = b""
    while not end or data.count(end) < times:
        piece = connection.recv(65_536)
        if not piece:
            break
        data += piece
    return data


def serving_threads() -> set[threading.Thread]:
    """Return the threads that answer requests."""
    return {thread for thread in threading.enumerate() if "process_request" in thread.name}


WORDS = ["id+transcript", "transcript", "transcript"]
HEARD = ["data+id", "data", "data"]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("recorded", ["-", *WORDS, *HEARD, "expires_at", "stop"]),
        ("mixed", ["-", "data+id+transcript", *["data+transcript"] * 2, "expires_at", "stop"]),
        ("finish first", ["-", *WORDS, *HEARD, "stop", "expires_at"]),
        ("no finish", ["-", *WORDS, *HEARD, "expires_at"]),
        ("no expiry", ["-", *WORDS, *HEARD, "stop"]),
    ],
)
def test_a_stream_has_the_scripted_order(
    server: StandIn, client: OpenAI, order: Order, expected: list[str]
) -> None:
    """Each scripted order has its deltas in the order that `will_answer` documents."""
    server.will_answer("Hi there !", order=order)
    steps = [
        choice.finish_reason or audio_fields([choice.delta.model_dump(exclude_unset=True)])[0]
        for chunk in ask(client)
        for choice in chunk.choices
    ]
    assert steps == expected


@pytest.mark.parametrize("chunk_bytes", [1001, 19_200, 10**6])
@pytest.mark.parametrize("order", ORDERS)
def test_every_order_joins_to_the_same_answer(
    server: StandIn, client: OpenAI, order: Order, chunk_bytes: int
) -> None:
    """The joined chunks of every order have the same transcript, sound, id and expiry."""
    words = "The same, said in many ways."
    server.will_answer(words)
    whole = answer(client)
    server.will_answer(words, order=order, chunk_bytes=chunk_bytes)
    parts = deltas(ask(client))
    audio = [part["audio"] for part in parts if "audio" in part]
    assert "".join(part.get("transcript", "") for part in audio) == words
    assert b"".join(sound(parts)) == base64.b64decode(whole.data)
    assert len({part["id"] for part in audio if "id" in part}) == 1
    expiry = [part["expires_at"] for part in audio if "expires_at" in part]
    assert expiry == ([] if order == "no expiry" else [int(START) + 3600])


def test_chunks_of_odd_size_are_padded_base64(server: StandIn, client: OpenAI) -> None:
    """Chunks that end within a sample decode by themselves."""
    server.will_answer("Hi", chunk_bytes=1001)
    parts = deltas(ask(client))
    pieces = [part["audio"]["data"] for part in parts if "data" in part.get("audio", {})]
    assert all(piece.endswith("=") for piece in pieces)
    assert [len(piece) for piece in sound(parts)] == [1001] * 19 + [181]


def test_streamed_tool_calls_have_an_index_and_split_arguments(
    server: StandIn, client: OpenAI
) -> None:
    """The pieces of two streamed tool calls join by index to their arguments."""
    server.will_answer(tool_calls=[("weather", {"city": "Reykjavík"}), ("time", {"zone": "UTC"})])
    choices = [choice for chunk in ask(client) for choice in chunk.choices]
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["tool_calls"]
    pieces = [call for choice in choices for call in choice.delta.tool_calls or ()]
    assert [call.function.name for call in pieces if call.function and call.function.name] == [
        "weather",
        "time",
    ]
    for index, arguments in enumerate([{"city": "Reykjavík"}, {"zone": "UTC"}]):
        texts = [
            call.function.arguments for call in pieces if call.index == index and call.function
        ]
        assert len(texts) > 2
        assert json.loads("".join(text or "" for text in texts)) == arguments


@pytest.mark.parametrize("cut_after", [0, 1, 4, 10])
def test_cut_after_ends_a_stream_after_that_many_events(server: StandIn, cut_after: int) -> None:
    """A cut stream has exactly `cut_after` complete events and no terminating chunk."""
    server.will_answer("Hi there !", cut_after=cut_after)
    with raw(server) as connection:
        head, _, body = read_until(connection, b"").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"Transfer-Encoding: chunked" in head
    assert (body.count(b"data: "), body.count(b"\n\n\r\n")) == (cut_after, cut_after)
    assert b"0\r\n\r\n" not in body


def test_the_stream_after_a_cut_one_is_complete(server: StandIn, client: OpenAI) -> None:
    """The client raises on a cut stream, and the next stream is complete."""
    server.will_answer("Hi there !", cut_after=2)
    # The type of the error depends on the version of the client.
    with (
        ask(client) as stream,
        pytest.raises(Exception, match=r"Connection error|incomplete chunked read"),
    ):
        list(stream)
    assert audio_fields(deltas(ask(client)))[-2:] == ["expires_at", "-"]


def test_cut_after_counts_an_answer_that_is_not_streamed_as_one_event(
    server: StandIn, client: OpenAI
) -> None:
    """A plain answer is missing with `cut_after=0` and complete with `cut_after=1`."""
    server.will_answer("One.", cut_after=0)
    with pytest.raises(openai.APIConnectionError):
        answer(client)
    server.will_answer("Two.", cut_after=1)
    assert answer(client).transcript == "Two."


def test_hold_after_holds_a_stream_until_go_on(server: StandIn) -> None:
    """A held stream sends `hold_after` events, and the rest after `go_on`."""
    server.will_answer("Hi there !", hold_after=3)
    with raw(server) as connection:
        assert read_until(connection, b"data: ", 3).count(b"data: ") == 3
        server.wait_until_held()
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(1)
        connection.settimeout(300)
        server.go_on()
        assert b"data: [DONE]" in read_until(connection, b"\r\n0\r\n\r\n")


def test_hold_after_holds_an_answer_that_is_not_streamed(server: StandIn, client: OpenAI) -> None:
    """A call without streaming returns only after `go_on`."""
    server.will_answer("At last.", hold_after=0)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(answer, client)
        server.wait_until_held()
        assert not asked.done()
        server.go_on()
        assert asked.result(300).transcript == "At last."


def test_a_stream_can_be_held_and_then_cut(server: StandIn) -> None:
    """With equal `hold_after` and `cut_after`, the stream is cut once it goes on."""
    server.will_answer("Hi there !", hold_after=2, cut_after=2)
    with raw(server) as connection:
        server.go_on()
        assert read_until(connection, b"").count(b"data: ") == 2


def test_go_on_releases_the_stream_held_longest(server: StandIn) -> None:
    """Each call of `go_on` releases one stream, in the order in which they were held."""
    for words in ("First.", "Second."):
        server.will_answer(words, hold_after=1)
    with raw(server) as first:
        server.wait_until_held()
        with raw(server) as second:
            assert b"data: " in read_until(second, b"data: ")
            server.go_on()
            assert b"First." in read_until(first, b"\r\n0\r\n\r\n")
            server.go_on()
            assert b"Second." in read_until(second, b"\r\n0\r\n\r\n")


def test_go_on_skips_streams_of_disconnected_clients(server: StandIn) -> None:
    """A held stream ends when its client disconnects, and `go_on` releases the next."""
    before = serving_threads()
    for words in ("Lost.", "Found."):
        server.will_answer(words, hold_after=1)
    with raw(server) as lost:
        assert b"data: " in read_until(lost, b"data: ")
        server.wait_until_held()
        [waiting] = serving_threads() - before
    with raw(server) as found:
        server.go_on()
        assert b"Found." in read_until(found, b"\r\n0\r\n\r\n")
    waiting.join(300)
    assert not waiting.is_alive()


def test_leaving_the_server_ends_held_streams() -> None:
    """Stopping the server ends the connection and the thread of a held stream."""
    before = serving_threads()
    with StandIn() as server:
        server.will_answer("Never heard.", hold_after=2)
        with raw(server) as connection:
            server.wait_until_held()
            kept = connection.dup()
        [waiting] = serving_threads() - before
    with kept:
        assert read_until(kept, b"").count(b"data: ") == 2
    waiting.join(300)
    assert not waiting.is_alive()


def test_go_on_without_a_held_stream_times_out(server: StandIn) -> None:
    """`go_on` and `wait_until_held` raise TimeoutError and name `hold_after`."""
    for wait in (server.go_on, server.wait_until_held):
        with pytest.raises(TimeoutError, match=r"within 0 s; script one with hold_after"):
            wait(timeout=0)


def test_fail_after_ends_a_stream_with_an_error(server: StandIn, client: OpenAI) -> None:
    """A failed stream ends with an error event; an answer without streaming fails with 500."""
    server.will_answer("Hi there !", fail_after=2)
    with raw(server) as connection:
        events = read_until(connection, b"\r\n0\r\n\r\n").split(b"data: ")[1:]
    assert len(events) == 3
    assert json.loads(events[2].partition(b"\n\n")[0]) == {"error": SERVER_ERROR}
    server.will_answer("Hi there !", fail_after=2)
    chunks: list[ChatCompletionChunk] = []
    with ask(client) as stream, pytest.raises(openai.APIError, match="had an error while"):
        chunks.extend(stream)
    assert len(chunks) == 2
    server.will_answer(fail_after=2)
    with pytest.raises(openai.InternalServerError) as caught:
        answer(client)
    assert caught.value.body == SERVER_ERROR


def test_a_scripted_failure_answers_a_stream_request_in_json(
    server: StandIn, client: OpenAI
) -> None:
    """`will_fail` answers a request for a stream with its status and a JSON error."""
    server.will_fail(429, "Not now.", code="rate_limit_exceeded")
    with pytest.raises(openai.RateLimitError, match="Not now") as caught:
        ask(client)
    assert caught.value.response.headers["content-type"] == "application/json"
    assert audio_fields(deltas(ask(client)))[1] == "id+transcript"


def test_scripted_chunks_are_streamed_verbatim(server: StandIn) -> None:
    """`will_stream` sends its chunks unchanged, followed by `[DONE]`."""
    chunks: list[Json] = [{"choices": [], "x": "é"}, {"error": {"message": "Overloaded."}}, {}]
    server.will_stream(chunk for chunk in chunks)
    with raw(server) as connection:
        body = read_until(connection, b"\r\n0\r\n\r\n")
    events = [event.partition(b"\n\n")[0] for event in body.split(b"data: ")[1:]]
    assert [json.loads(event) for event in events[:-1]] == chunks
    assert events[-1] == b"[DONE]"


def test_scripted_chunks_can_be_held_and_cut(server: StandIn) -> None:
    """`will_stream` takes `hold_after` and `cut_after` as `will_answer` does."""
    server.will_stream([{"n": 0}, {"n": 1}, {"n": 2}], hold_after=1, cut_after=2)
    with raw(server) as connection:
        assert b'{"n":0}' in read_until(connection, b"}")
        server.go_on()
        assert read_until(connection, b"").count(b"data: ") == 1


def test_invalid_scripts_are_refused(server: StandIn, client: OpenAI) -> None:
    """`will_answer` raises ValueError for bad arguments and scripts nothing."""
    unknown: Any = "backwards"
    with pytest.raises(ValueError, match=r"'recorded', 'mixed', .*, got 'backwards'"):
        server.will_answer(order=unknown)
    with pytest.raises(ValueError, match="chunk_bytes must be >= 1, got 0"):
        server.will_answer("Hi", chunk_bytes=0)
    no_pair: Any = "weather"
    with pytest.raises(
        ValueError, match=r"must be a pair \('name', \{arguments\}\), got 'weather'"
    ):
        server.will_answer(tool_calls=[no_pair])
    assert answer(client).transcript.startswith("You wrote")


async def ask_both_ways(client: AsyncOpenAI) -> tuple[str, int]:
    """Return the transcript of one answer and the number of chunks of another."""
    create: Any = client.chat.completions.create
    completion = await create(**QUESTION)
    async with await create(**QUESTION, stream=True) as stream:
        chunks = [chunk async for chunk in stream]
    return completion.choices[0].message.audio.transcript, len(chunks)


def test_an_async_client_is_closed_with_the_server() -> None:
    """An async client outlives its event loop and leaves no connection open."""
    with StandIn() as server:
        client = server.async_client(api_key="mine", default_headers={"X-Test": "1"})
        words, chunks = asyncio.run(ask_both_ways(client))
        assert words.startswith("You wrote: Hello")
        assert chunks > 10
        headers = server.requests[0].headers
        assert (headers["authorization"], headers["x-test"]) == ("Bearer mine", "1")
        assert not client.is_closed()
    assert client.is_closed()
    del client
    gc.collect()  # an open connection would warn here, and warnings are errors


def test_an_async_client_is_closed_with_a_server_inside_a_loop() -> None:
    """A server that stops within a running event loop closes its async clients there."""

    async def main() -> AsyncOpenAI:
        with StandIn() as server:
            client = server.async_client()
            await ask_both_ways(client)
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
        return client

    assert asyncio.run(main()).is_closed()
    gc.collect()


def test_an_open_async_stream_does_not_block_the_shutdown() -> None:
    """The server stops although an async stream of a closed event loop is open."""

    async def leave_open(client: AsyncOpenAI) -> Any:
        create: Any = client.chat.completions.create
        return await create(**QUESTION, stream=True)

    with StandIn() as server:
        server.will_answer(hold_after=1)
        client = server.async_client()
        stream = asyncio.run(leave_open(client))
    assert client.is_closed()
    with pytest.warns(ResourceWarning, match="unclosed"):  # noqa: PT031  # either statement may warn
        del stream, client, server
        gc.collect()


def test_an_async_client_does_not_retry(server: StandIn) -> None:
    """A scripted status raises in the async client after a single request."""
    server.will_fail(503)
    with pytest.raises(openai.InternalServerError):
        asyncio.run(ask_both_ways(server.async_client()))
    assert len(server.requests) == 1

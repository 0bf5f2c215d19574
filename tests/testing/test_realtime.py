"""The stand-in's Realtime sessions: order of events, checks, speech, cuts and expiry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from openai import OpenAI
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from conversation.testing import StandIn, _voice
from tests.conftest import Clock
from tests.realtime.events import appended, text64

EVENTS: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)

HUM = _voice.spoken("Hello there", "pcm16")
"""0.8 s."""


class Client:
    """A bare client: JSON in, JSON out; each event is checked by the SDK's types."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def send(self, kind: str, **fields: Any) -> None:
        """Send an event."""
        self.connection.send(json.dumps({"type": kind, **fields}))

    def receive(self) -> dict[str, Any]:
        """Return the next event."""
        event: dict[str, Any] = json.loads(self.connection.recv(timeout=300))
        EVENTS.validate_python(event)
        return event

    def until(self, kind: str) -> list[dict[str, Any]]:
        """Return the events up to the first of this kind."""
        events = [self.receive()]
        while events[-1]["type"] != kind:
            events.append(self.receive())
        return events

    def error(self) -> dict[str, Any]:
        """Return the next error."""
        error: dict[str, Any] = self.until("error")[-1]["error"]
        return error

    def create(self, **item: Any) -> None:
        """Create an item."""
        self.send("conversation.item.create", item=item)

    def say(self, text: str) -> None:
        """Create an item of the user and ask for a response."""
        self.create(type="message", role="user", content=[{"type": "input_text", "text": text}])
        self.send("response.create")

    def update(self, **fields: Any) -> None:
        """Change the session."""
        self.send("session.update", session={"type": "realtime", **fields})


@contextmanager
def connected(
    server: StandIn, query: str = "model=gpt-realtime-2", key: str = "any"
) -> Iterator[Client]:
    """Open a session."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    url = f"{server.url.replace('http', 'ws')}/realtime?{query}"
    with connect(url, additional_headers=headers, proxy=None, open_timeout=300) as connection:
        yield Client(connection)


@pytest.fixture
def session(server: StandIn) -> Iterator[Client]:
    """An open session."""
    with connected(server) as client:
        assert client.receive()["type"] == "session.created"
        yield client


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """Return the types of events, each once where several follow one another."""
    found = [event["type"] for event in events]
    return [kind for at, kind in enumerate(found) if not at or kind != found[at - 1]]


def test_a_spoken_response_has_all_events_in_order(server: StandIn, session: Client) -> None:
    """A response begins, its item grows, words run ahead of sound, and all of it is ended."""
    server.will_answer("Sunny", chunk_bytes=10**6)
    session.say("Weather?")
    assert kinds(session.until("response.done")) == [
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ]


def test_a_response_tells_what_it_was_asked(session: Client) -> None:
    """The default answer says what it heard and recalls; its usage counts."""
    session.create(
        type="message", role="assistant", content=[{"type": "output_text", "text": "Before"}]
    )
    for recalled in (0, 1):
        session.say("Hello")
        response = session.until("response.done")[-1]["response"]
        words = response["output"][0]["content"][0]["transcript"]
        assert words.startswith("You wrote: Hello")
        assert f"{recalled} of my earlier answers by voice and 1 from transcripts" in words
        usage = response["usage"]
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        assert usage["output_token_details"]["audio_tokens"] > 0


def test_text_calls_and_failures_are_scripted(server: StandIn, session: Client) -> None:
    """`will_answer` and `will_fail` hold for responses, too."""
    server.will_answer("In words", spoken=False)
    session.say("Hello")
    item = session.until("response.done")[-1]["response"]["output"][0]
    assert item["content"] == [{"type": "output_text", "text": "In words"}]
    server.will_answer(tool_calls=[("weather", {"city": "Oslo"})])
    session.send("response.create")
    item = session.until("response.done")[-1]["response"]["output"][0]
    assert (item["name"], item["arguments"]) == ("weather", '{"city":"Oslo"}')
    server.will_answer("Cut", finish_reason="length")
    session.send("response.create")
    response = session.until("response.done")[-1]["response"]
    assert (response["status"], response["status_details"]["reason"]) == (
        "incomplete",
        "max_output_tokens",
    )
    server.will_fail(500)
    server.will_answer("Broken", fail_after=8)
    for _ in range(2):
        session.send("response.create")
        response = session.until("response.done")[-1]["response"]
        assert response["status"] == "failed"
        assert response["status_details"]["error"]["type"] == "server_error"


def test_one_response_at_a_time(server: StandIn, session: Client) -> None:
    """A second response is refused while one is held; one outside of the conversation is not."""
    server.will_answer("One two three", hold_after=8)
    session.say("Hello")
    server.wait_until_held()
    session.send("response.create", event_id="mine")
    error = session.error()
    assert error["code"] == "conversation_already_has_active_response"
    assert error["event_id"] == "mine"
    server.will_answer("Aside", spoken=False)
    session.send("response.create", response={"conversation": "none"})
    response = session.until("response.done")[-1]["response"]
    assert response["conversation_id"] is None
    server.go_on()
    response = session.until("response.done")[-1]["response"]
    assert response["status"] == "completed"


def test_a_held_response_can_be_cancelled(server: StandIn, session: Client) -> None:
    """It reads while it answers: a cancelled response ends at once, as incomplete."""
    server.will_answer("One two three", hold_after=9)
    session.say("Hello")
    server.wait_until_held()
    session.send("response.cancel")
    response = session.until("response.done")[-1]["response"]
    assert response["status"] == "cancelled"
    assert response["status_details"]["reason"] == "client_cancelled"
    assert response["output"][0]["status"] == "incomplete"
    session.send("response.cancel")
    assert session.error()["code"] == "response_cancel_not_active"


def test_speech_is_heard_by_its_energy(session: Client) -> None:
    """Speech between silence becomes an item with padding and a response; times go on."""
    session.update(audio={"input": {"transcription": {"model": "gpt-transcribe"}}})
    sound = bytes(48_000) + HUM + bytes(48_000)
    for number in range(2):
        for at in range(0, len(sound), 1000):
            session.send("input_audio_buffer.append", audio=text64(sound[at : at + 1000]))
        events = session.until("response.done")
        told = {event["type"]: event for event in events}
        start = told["input_audio_buffer.speech_started"]
        end = told["input_audio_buffer.speech_stopped"]
        assert start["audio_start_ms"] == 2800 * number + 700
        assert end["audio_end_ms"] == 2800 * number + 2200
        committed = told["input_audio_buffer.committed"]
        assert start["item_id"] == end["item_id"] == committed["item_id"]
        words = told["conversation.item.input_audio_transcription.completed"]
        assert words["item_id"] == start["item_id"]
        assert "seconds of sound" in words["transcript"]
        response = told["response.done"]["response"]
        assert "I heard 1.5 seconds" in response["output"][0]["content"][0]["transcript"]


def test_speech_interrupts_a_response(server: StandIn, session: Client) -> None:
    """Speech cancels the response that is held, unless the session says otherwise."""
    server.will_answer("One two three", hold_after=9)
    session.say("Hello")
    server.wait_until_held()
    session.send("input_audio_buffer.append", audio=text64(HUM))
    response = session.until("response.done")[-1]["response"]
    assert response["status_details"]["reason"] == "turn_detected"


def test_without_detection_the_client_commits(session: Client) -> None:
    """A commit makes an item of what was appended, without a response; too little is refused."""
    session.update(audio={"input": {"turn_detection": None}})
    session.send("input_audio_buffer.commit")
    assert session.error()["code"] == "input_audio_buffer_commit_empty"
    session.send("input_audio_buffer.append", audio=text64(bytes(9600)))
    session.send("input_audio_buffer.clear")
    session.send("input_audio_buffer.append", audio=text64(HUM))
    session.send("input_audio_buffer.commit")
    item = session.until("conversation.item.added")[-1]["item"]
    session.send("conversation.item.retrieve", item_id=item["id"])
    retrieved = session.until("conversation.item.retrieved")[-1]["item"]
    assert retrieved["content"][0]["audio"] == text64(HUM)


def test_truncation_is_checked(server: StandIn, session: Client) -> None:
    """Spoken answers are cut up to their length; beyond it, and of all else, it is refused."""
    server.will_answer("One two")
    session.say("Hello")
    item = session.until("response.done")[-1]["response"]["output"][0]
    truncate = "conversation.item.truncate"
    for end in (801, 800, 300):
        session.send(truncate, item_id=item["id"], content_index=0, audio_end_ms=end)
    assert "800ms is already shorter than 801ms" in session.error()["message"]
    cut = session.until("conversation.item.truncated")[-1]
    assert (cut["item_id"], cut["audio_end_ms"]) == (item["id"], 800)
    assert session.receive()["audio_end_ms"] == 300
    session.send(truncate, item_id=item["id"], content_index=0, audio_end_ms=301)
    assert "300ms is already shorter" in session.error()["message"]
    session.create(id="u", type="message", role="user", content=[])
    session.send(truncate, item_id="u", content_index=0, audio_end_ms=0)
    assert session.error()["code"] == "unsupported_content_type"
    session.send(truncate, item_id="nobody", content_index=0, audio_end_ms=0)
    assert session.error()["code"] == "item_truncate_invalid_item_id"


CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}


@pytest.mark.parametrize(
    ("item", "code", "param"),
    [
        (
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_audio", "audio": ""}],
            },
            "missing_required_parameter",
            "item.content[0].text",
        ),
        ({"role": "user"}, "missing_required_parameter", "item.type"),
        ({"type": "message", "content": []}, "missing_required_parameter", "item.role"),
        ({"type": "x"}, "invalid_value", "item.type"),
        (CALL | {"id": "x" * 33}, "string_above_max_length", "item.id"),
        (CALL | {"call_id": "x" * 33}, "string_above_max_length", "item.call_id"),
        (CALL | {"id": "twice"}, "item_create_duplicate_item_id", "item.id"),
        (
            {"type": "function_call_output", "call_id": "z", "output": ""},
            "invalid_tool_call_id",
            "item.call_id",
        ),
        (
            {"type": "message", "role": "user", "content": [{"type": "text", "text": "x"}]},
            "invalid_value",
            "item.content[0].type",
        ),
        (
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_image", "image_url": "https://example.org"}],
            },
            "invalid_value",
            "item.content[0].image_url",
        ),
        (
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_audio", "audio": "no base64"}],
            },
            "invalid_value",
            "item.content[0].audio",
        ),
    ],
)
def test_items_are_checked(session: Client, item: dict[str, Any], code: str, param: str) -> None:
    """Items that the API refuses are refused by the same code, and change nothing."""
    session.create(**CALL, id="twice")
    session.create(**item)
    error = session.error()
    assert (error["code"], error["param"]) == (code, param)
    session.create(type="function_call_output", call_id="c", output="fine")
    assert session.until("conversation.item.done")[-1]["item"]["output"] == "fine"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("no json", None),
        ("[]", "missing_required_parameter"),
        ('{"type":"x"}', "invalid_value"),
        ('{"type":"session.update","session":{}}', "missing_required_parameter"),
        ('{"type":"session.update","session":{"type":"x"}}', "invalid_value"),
        ('{"type":"input_audio_buffer.append","audio":7}', "invalid_type"),
        ('{"type":"conversation.item.delete","item_id":"x"}', "item_delete_invalid_item_id"),
    ],
)
def test_events_are_checked(session: Client, message: str, code: str | None) -> None:
    """Messages that are no events are refused, and the session goes on."""
    session.connection.send(message)
    assert session.error()["code"] == code
    session.update(instructions="Be brief.")
    assert session.receive()["session"]["instructions"] == "Be brief."


def test_a_voice_stays_after_it_was_heard(session: Client) -> None:
    """The voice can be chosen before the first sound only."""
    session.update(audio={"output": {"voice": "marin"}})
    assert session.receive()["session"]["audio"]["output"]["voice"] == "marin"
    session.say("Hello")
    session.until("response.done")
    session.update(audio={"output": {"voice": "cedar"}})
    assert session.error()["code"] == "cannot_update_voice"


def test_a_session_ends_after_an_hour(clock: Clock, session: Client) -> None:
    """On the movable clock, the session says that it expired, and closes."""
    clock.now += 3601
    assert session.error()["code"] == "session_expired"
    with pytest.raises(ConnectionClosed):
        session.receive()


def test_a_connection_can_be_cut(server: StandIn, session: Client) -> None:
    """`cut_after` cuts the connection without a closing frame."""
    server.will_answer("One two three", cut_after=8)
    session.say("Hello")
    with pytest.raises(ConnectionClosed):
        session.until("response.done")
    assert session.connection.close_code == 1006


@pytest.mark.parametrize(
    ("query", "key", "status"),
    [("model=gpt-realtime-2", "", 401), ("model=gpt-4.1", "any", 404), ("", "any", 400)],
)
def test_requests_are_checked(server: StandIn, query: str, key: str, status: int) -> None:
    """Without a key or a Realtime model, no session begins."""
    with pytest.raises(InvalidStatus) as caught, connected(server, query, key):
        pass
    assert caught.value.response.status_code == status


def test_events_are_among_the_requests(server: StandIn, session: Client) -> None:
    """Events that arrived are kept like requests, sound by its size."""
    session.connection.send(json.dumps(appended(HUM)))
    session.send("response.cancel")
    session.error()
    first, second = server.requests
    assert (first.path, first["audio"]) == ("/v1/realtime", {"size": len(HUM)})
    assert second["type"] == "response.cancel"


def test_the_models_are_listed(client: OpenAI) -> None:
    """Realtime models are in the list, with the dates at which they end."""
    assert {"gpt-realtime-2", "gpt-realtime-mini"} <= {model.id for model in client.models.list()}

"""A Realtime session of the stand-in: items, speech, and one response at a time (CONTRACT §9)."""

from __future__ import annotations

import base64
import itertools
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import attrs
import orjson

from conversation._values.samples import as_s16, companded, resampled
from conversation.testing import _answers, _detection, _items, _streams
from conversation.testing._refusals import Refused, invalid_value, missing_parameter, server_error
from conversation.testing._websocket import Connection

LIFETIME = 3600
"""Seconds after which a session ends."""

_FORMATS = {
    "audio/pcm": ("s16le", 24_000),
    "audio/pcmu": ("mulaw", 8000),
    "audio/pcma": ("alaw", 8000),
}

_LEAST_MS = 100

Json = dict[str, Any]


class Server(Protocol):
    """The part of the server that a session needs."""

    def now(self) -> float:
        """Return Unix time in seconds."""

    def note(self, event: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """Keep an event of a client."""

    def next_answer(self) -> _answers.Answer | Refused:
        """Return the answer that is scripted next, or the default one."""

    def transcript_of(self, samples: bytes, seconds: float) -> str:
        """Return the words of 24 kHz samples."""

    def speak(self, text: str) -> bytes:
        """Return 24 kHz samples of a text."""


@attrs.define(eq=False)
class _Response:
    body: Json
    is_outside: bool
    context: list[_items.Item]
    items: list[_items.Item] = attrs.field(factory=list)
    is_over: bool = False


class Session:
    """A session, from the opened connection to its end.

    Args:
        server: The server.
        model: The model that was asked for.
        headers: Headers of the request.
        hold: Blocks while an answer is held; returns False if it is over by then.
    """

    def __init__(
        self,
        server: Server,
        model: str,
        headers: Mapping[str, str],
        hold: Callable[[Callable[[], bool]], bool],
    ) -> None:
        self._server = server
        self._headers = headers
        self._hold = hold
        self._handlers: Mapping[str, Callable[[Json], None]] = {
            "session.update": self._update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
            "conversation.item.create": self._create,
            "conversation.item.retrieve": self._retrieve,
            "conversation.item.truncate": self._truncate,
            "conversation.item.delete": self._delete,
            "response.create": self._create_response,
            "response.cancel": self._cancel,
        }
        self._lock = threading.RLock()
        self._items: dict[str, _items.Item] = {}
        self._input = _detection.Input()
        self._speech: tuple[str, int] | None = None
        self._active: _Response | None = None
        self._threads: list[threading.Thread] = []
        self._is_over = self._has_spoken = False
        self._ends_at = server.now() + LIFETIME
        self._conversation = _name("conv")
        sound = {"type": "audio/pcm", "rate": 24_000}
        self._session: Json = {
            "type": "realtime",
            "object": "realtime.session",
            "id": _name("sess"),
            "model": model,
            "output_modalities": ["audio"],
            "instructions": "",
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": "inf",
            "tracing": None,
            "truncation": "auto",
            "expires_at": int(self._ends_at),
            "audio": {
                "input": {
                    "format": sound,
                    "transcription": None,
                    "noise_reduction": None,
                    "turn_detection": {
                        "type": "server_vad",
                        "threshold": 0.5,
                        "prefix_padding_ms": 300,
                        "silence_duration_ms": 500,
                        "create_response": True,
                        "interrupt_response": True,
                    },
                },
                "output": {"format": sound, "voice": "alloy", "speed": 1.0},
            },
        }

    # --- the connection ------------------------------------------------------------------------

    def begin(self, connection: Connection) -> None:
        """Send the first event."""
        self._connection = connection
        self._send("session.created", session=self._session)

    def receive(self, message: bytes) -> None:
        """Take an event of the client; a refused one is answered by an error."""
        event: Any = None
        with self._lock:
            if self._is_expired():
                return
            try:
                event = orjson.loads(message)
                if not isinstance(event, dict) or not isinstance(event.get("type"), str):
                    raise missing_parameter("type")
                self._note(event)
                handler = self._handlers.get(event["type"])
                if handler is None:
                    raise invalid_value(event["type"], self._handlers, "type")
                handler(event)
            except orjson.JSONDecodeError:
                self._refuse(Refused("We could not parse the JSON body of your event."), None)
            except Refused as refused:
                self._refuse(refused, event)

    def tick(self) -> None:
        """End the session if it is an hour old."""
        with self._lock:
            self._is_expired()

    def end(self) -> None:
        """Stop answering."""
        with self._lock:
            self._is_over = True
        for thread in self._threads:
            thread.join()

    def _is_expired(self) -> bool:
        if not self._is_over and self._server.now() >= self._ends_at:
            message = "Your session hit the maximum duration of 60 minutes."
            self._refuse(Refused(message, None, "session_expired"), None)
            self._is_over = True
            self._connection.close(1001)
        return self._is_over

    def _note(self, event: Json) -> None:
        noted = dict(event)
        if event["type"] == "input_audio_buffer.append" and isinstance(event.get("audio"), str):
            noted["audio"] = {"size": len(event["audio"]) * 3 // 4}
        self._server.note(noted, self._headers)

    def _send(self, kind: str, **fields: Any) -> None:
        self._connection.send({"type": kind, "event_id": _name("event"), **fields})

    def _refuse(self, refused: Refused, event: Any) -> None:
        event_id = event.get("event_id") if isinstance(event, dict) else None
        self._send("error", error={**refused.body["error"], "event_id": event_id})

    # --- the session ---------------------------------------------------------------------------

    def _update(self, event: Json) -> None:
        given = event.get("session")
        if not isinstance(given, dict):
            raise missing_parameter("session")
        if given.get("type") is None:
            raise missing_parameter("session.type")
        if given["type"] != "realtime":
            raise invalid_value(given["type"], ("realtime",), "session.type")
        modalities = given.get("output_modalities")
        if modalities not in (None, ["audio"], ["text"]):
            message = (
                f"Invalid modalities: {modalities}. Supported combinations: ['text'], ['audio']."
            )
            raise Refused(message, "session.output_modalities", "invalid_value")
        new = _merged(self._session, given)
        for side in ("input", "output"):
            kind = new["audio"][side]["format"].get("type")
            if kind not in _FORMATS:
                raise invalid_value(kind, _FORMATS, f"session.audio.{side}.format.type")
        if self._has_spoken and new["audio"]["output"]["voice"] != self._voice:
            message = "Cannot update a conversation's voice if assistant audio is present."
            raise Refused(message, "session.audio.output.voice", "cannot_update_voice")
        self._session = new
        encoding, rate = _FORMATS[new["audio"]["input"]["format"]["type"]]
        if (encoding, rate) != (self._input.encoding, self._input.rate):
            start = self._input.start_ms + self._input.length_ms
            self._input = _detection.Input(encoding, rate, start_ms=start, checked_ms=int(start))
        self._send("session.updated", session=new)

    @property
    def _voice(self) -> Any:
        return self._session["audio"]["output"]["voice"]

    # --- sound of the user ---------------------------------------------------------------------

    def _append(self, event: Json) -> None:
        self._input.add(_items.decoded(event.get("audio"), "audio"))
        detection = self._session["audio"]["input"]["turn_detection"]
        if not detection:
            return
        settings = (
            detection.get("threshold") or 0.5,
            _number(detection, "prefix_padding_ms", 300),
            _number(detection, "silence_duration_ms", 500),
        )
        while found := self._input.next_speech(*settings):
            if found.begins:
                self._speech = (_name("item"), found.at_ms)
                self._send(
                    "input_audio_buffer.speech_started",
                    audio_start_ms=found.at_ms,
                    item_id=self._speech[0],
                )
                if self._active and detection.get("interrupt_response", True):
                    self._break_off(self._active, "cancelled", {"reason": "turn_detected"})
            elif self._speech:
                item_id, start = self._speech
                self._send(
                    "input_audio_buffer.speech_stopped", audio_end_ms=found.at_ms, item_id=item_id
                )
                self._take(item_id, self._input.take(start, found.at_ms))
                if detection.get("create_response", True) and not self._active:
                    self._respond({})

    def _commit(self, _: Json) -> None:
        if self._input.length_ms < _LEAST_MS:
            message = (
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of "
                f"audio, but buffer only has {self._input.length_ms:.2f}ms of audio."
            )
            raise Refused(message, None, "input_audio_buffer_commit_empty")
        item_id, start = self._speech or (_name("item"), None)
        self._take(item_id, self._input.take(start))
        self._input.clear()

    def _take(self, item_id: str, data: bytes) -> None:
        """Make an item of sound."""
        self._speech = None
        self._send("input_audio_buffer.committed", item_id=item_id, previous_item_id=self._last_id)
        body = {"type": "message", "role": "user", "content": [_spoken_part(None)]}
        samples = as_s16(data, self._input.encoding)
        self._add(_items.Item({"id": item_id, **body}, samples, self._input.rate))
        if self._session["audio"]["input"]["transcription"]:
            samples = resampled(samples, self._input.rate, 24_000)
            seconds = len(samples) / 48_000
            words = self._server.transcript_of(samples, seconds)
            self._items[item_id].body["content"][0]["transcript"] = words
            fields = {"item_id": item_id, "content_index": 0}
            kind = "conversation.item.input_audio_transcription"
            self._send(f"{kind}.delta", **fields, delta=words)
            usage = {"type": "duration", "seconds": seconds}
            self._send(f"{kind}.completed", **fields, transcript=words, usage=usage)

    def _clear(self, _: Json) -> None:
        self._input.clear()
        self._speech = None
        self._send("input_audio_buffer.cleared")

    # --- items ---------------------------------------------------------------------------------

    @property
    def _last_id(self) -> str | None:
        return next(reversed(self._items), None)

    def _add(self, item: _items.Item, previous: str | None = None) -> None:
        """Add an item behind another one; None: behind the last."""
        previous = self._last_id if previous is None else previous
        item.body = {"object": "realtime.item", "status": "completed", **item.body}
        self._place(item, previous)
        told = {"previous_item_id": None if previous == "root" else previous, "item": item.body}
        self._send("conversation.item.added", **told)
        self._send("conversation.item.done", **told)

    def _place(self, item: _items.Item, previous: str | None) -> None:
        others = list(self._items.items())
        at = 0 if previous in (None, "root") else list(self._items).index(str(previous)) + 1
        self._items = dict([*others[:at], (item.id, item), *others[at:]])

    def _create(self, event: Json) -> None:
        previous = event.get("previous_item_id")
        body = _items.check(event.get("item"), self._items)
        if previous not in (None, "root", *self._items):
            message = f"Previous item with ID '{previous}' not found in conversation."
            raise Refused(message, "previous_item_id", "item_create_invalid_item_id")
        body = {**body, "id": body.get("id") or _name("item")}
        sound = b""
        for part in body.get("content") or ():
            sound += as_s16(_items.decoded(part.pop("audio", ""), "audio"), self._input.encoding)
        self._add(_items.Item(body, sound, self._input.rate), previous)

    def _known(self, event: Json, action: str) -> _items.Item:
        item = self._items.get(str(event.get("item_id")))
        if item is None:
            message = f"Cannot {action} the item '{event.get('item_id')}': it does not exist."
            raise Refused(message, "item_id", f"item_{action}_invalid_item_id")
        return item

    def _truncate(self, event: Json) -> None:
        item = self._known(event, "truncate")
        end = event.get("audio_end_ms")
        if not item.is_spoken_answer:
            message = "Only model output audio messages can be truncated"
            raise Refused(message, None, "unsupported_content_type")
        if type(end) is not int or end < 0:
            raise missing_parameter("audio_end_ms")
        if end > item.ms:
            message = f"Audio content of {item.ms}ms is already shorter than {end}ms"
            raise Refused(message, None, "invalid_value")
        item.sound = item.sound[: end * item.rate // 1000 * 2]
        item.body["content"] = [{"type": "output_audio", "transcript": None}]
        fields = {"item_id": item.id, "content_index": 0, "audio_end_ms": end}
        self._send("conversation.item.truncated", **fields)

    def _delete(self, event: Json) -> None:
        item = self._known(event, "delete")
        del self._items[item.id]
        self._send("conversation.item.deleted", item_id=item.id)

    def _retrieve(self, event: Json) -> None:
        item = self._known(event, "retrieve")
        content = [
            {**part, "audio": base64.b64encode(item.sound).decode()}
            if part["type"] in ("input_audio", "output_audio")
            else part
            for part in item.body.get("content", ())
        ]
        told = {**item.body, "content": content} if content else item.body
        self._send("conversation.item.retrieved", item=told)

    # --- responses -----------------------------------------------------------------------------

    def _create_response(self, event: Json) -> None:
        options = event.get("response") or {}
        self._respond(options if isinstance(options, dict) else {})

    def _respond(self, options: Json) -> None:
        is_outside = options.get("conversation") == "none"
        if self._active and not is_outside:
            message = (
                "Conversation already has an active response in progress: "
                f"{self._active.body['id']}. Wait until the response is finished before creating a "
                "new one."
            )
            raise Refused(message, None, "conversation_already_has_active_response")
        context = list(self._items.values())
        if isinstance(options.get("input"), list):
            context = [_items.Item(dict(item)) for item in options["input"]]
        response = _Response(
            {
                "object": "realtime.response",
                "id": _name("resp"),
                "status": "in_progress",
                "status_details": None,
                "output": [],
                "conversation_id": None if is_outside else self._conversation,
                "output_modalities": options.get("output_modalities")
                or self._session["output_modalities"],
                "audio": {"output": self._session["audio"]["output"]},
                "metadata": options.get("metadata"),
                "usage": None,
            },
            is_outside,
            context,
        )
        if not is_outside:
            self._active = response
        answer = self._server.next_answer()
        thread = threading.Thread(
            target=self._answer, args=(response, answer), name="stand-in-answer", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def _answer(self, response: _Response, answer: _answers.Answer | Refused) -> None:
        """Send the events of a response one by one, unless it is over before."""
        if isinstance(answer, Refused):
            events = self._failed(response, answer)
            answer = _answers.Answer()
        else:
            events = self._events(response, answer)
        cuts = answer.interruptions

        def is_over() -> bool:
            return self._is_over or response.is_over

        for sent in itertools.count():
            if sent == cuts.hold_after and not self._hold(is_over):
                return
            with self._lock:
                if is_over():
                    return
                if sent == cuts.cut_after:
                    self._is_over = True
                    self._connection.cut()
                    return
                if sent == cuts.fail_after:
                    error = server_error().body["error"]
                    self._break_off(response, "failed", {"error": error})
                    return
                event = next(events, None)
                if event is None:
                    return
                self._send(event.pop("type"), **event)

    def _failed(self, response: _Response, refused: Refused) -> Iterator[Json]:
        yield _event("response.created", response=response.body)
        yield self._done(response, "failed", {"error": refused.body["error"]})

    def _events(self, response: _Response, answer: _answers.Answer) -> Iterator[Json]:
        yield _event("response.created", response=response.body)
        text = answer.text
        if text is None and not answer.tool_calls:
            text = answer.refusal or _default_text(response.context)
        if text is not None:
            yield from self._message(response, answer, text)
        for name, arguments in answer.tool_calls:
            text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
            yield from self._call(response, name, text)
        details = {"reason": "max_output_tokens"} if answer.finish_reason == "length" else None
        yield self._done(response, "incomplete" if details else "completed", details)

    def _begin_item(self, response: _Response, item: _items.Item) -> Iterator[Json]:
        response.items.append(item)
        fields = {"response_id": response.body["id"], "output_index": len(response.items) - 1}
        yield _event("response.output_item.added", **fields, item=dict(item.body))
        if not response.is_outside:
            previous = self._last_id
            self._place(item, previous)
            yield _event("conversation.item.added", previous_item_id=previous, item=dict(item.body))

    def _end_item(self, response: _Response, item: _items.Item) -> Iterator[Json]:
        item.body["status"] = "completed"
        index = response.items.index(item)
        if not response.is_outside:
            yield _event("conversation.item.done", previous_item_id=None, item=dict(item.body))
        fields = {"response_id": response.body["id"], "output_index": index}
        yield _event("response.output_item.done", **fields, item=dict(item.body))

    def _message(self, response: _Response, answer: _answers.Answer, text: str) -> Iterator[Json]:
        is_spoken = answer.spoken and "audio" in response.body["output_modalities"]
        body = {**_body("message"), "role": "assistant", "content": []}
        item = _items.Item(body)
        yield from self._begin_item(response, item)
        fields = {"item_id": item.id, "content_index": 0, **_place_in(response)}
        if not is_spoken:
            body["content"] = [{"type": "output_text", "text": ""}]
            part = {"type": "text", "text": ""}
            yield _event("response.content_part.added", **fields, part=part)
            for word in _streams.words(text):
                body["content"][0]["text"] += word
                yield _event("response.output_text.delta", **fields, delta=word)
            yield _event("response.output_text.done", **fields, text=text)
            part = {"type": "text", "text": text}
        else:
            body["content"] = [_spoken_part("", "output_audio")]
            part = {"type": "audio", "transcript": ""}
            yield _event("response.content_part.added", **fields, part=part)
            self._has_spoken = True
            yield from self._speech_events(item, answer, text, fields)
            part = {"type": "audio", "transcript": text}
        yield _event("response.content_part.done", **fields, part=part)
        yield from self._end_item(response, item)

    def _speech_events(
        self, item: _items.Item, answer: _answers.Answer, text: str, fields: Json
    ) -> Iterator[Json]:
        """Yield words and sound, the words ahead of it."""
        sound = self._server.speak(text)
        encoding, rate = _FORMATS[self._session["audio"]["output"]["format"]["type"]]
        pieces = [
            sound[at : at + answer.chunk_bytes] for at in range(0, len(sound), answer.chunk_bytes)
        ]
        content = item.body["content"][0]
        for word, piece in itertools.zip_longest(_streams.words(text), pieces):
            if word is not None:
                content["transcript"] += word
                yield _event("response.output_audio_transcript.delta", **fields, delta=word)
            if piece is not None:
                item.sound += piece
                is_raw = encoding == "s16le"
                sent = piece if is_raw else companded(resampled(piece, item.rate, rate), encoding)
                delta = base64.b64encode(sent).decode()
                yield _event("response.output_audio.delta", **fields, delta=delta)
        yield _event("response.output_audio.done", **fields)
        yield _event("response.output_audio_transcript.done", **fields, transcript=text)

    def _call(self, response: _Response, name: str, arguments: str) -> Iterator[Json]:
        call_id = f"call_{secrets.token_hex(8)}"
        body = {**_body("function_call"), "call_id": call_id, "name": name, "arguments": ""}
        item = _items.Item(body)
        yield from self._begin_item(response, item)
        fields = {"item_id": item.id, "call_id": call_id, **_place_in(response)}
        for at in range(0, len(arguments), 8):
            piece = arguments[at : at + 8]
            yield _event("response.function_call_arguments.delta", **fields, delta=piece)
        body["arguments"] = arguments
        kind = "response.function_call_arguments.done"
        yield _event(kind, **fields, name=name, arguments=arguments)
        yield from self._end_item(response, item)

    def _break_off(self, response: _Response, status: str, details: Json) -> None:
        """End a response before its time."""
        if response.items and response.items[-1].body["status"] == "in_progress":
            item = response.items[-1]
            item.body["status"] = "incomplete"
            self._send("response.output_item.done", **_place_in(response), item=dict(item.body))
        event = self._done(response, status, details)
        self._send(event.pop("type"), **event)

    def _cancel(self, event: Json) -> None:
        response = self._active
        if response is None or event.get("response_id") not in (None, response.body["id"]):
            message = "Cancellation failed: no active response found"
            raise Refused(message, None, "response_cancel_not_active")
        self._break_off(response, "cancelled", {"reason": "client_cancelled"})

    def _done(self, response: _Response, status: str, details: Json | None) -> Json:
        """End a response, and return its last event."""
        response.is_over = True
        if self._active is response:
            self._active = None
        response.body |= {
            "status": status,
            "status_details": details and {"type": status, **details},
            "output": [dict(item.body) for item in response.items],
            "usage": _usage(response),
        }
        return _event("response.done", response=response.body)


def _name(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(10)}"


def _event(kind: str, **fields: Any) -> Json:
    return {"type": kind, **fields}


def _body(kind: str) -> Json:
    return {"id": _name("item"), "object": "realtime.item", "type": kind, "status": "in_progress"}


def _place_in(response: _Response) -> Json:
    return {"response_id": response.body["id"], "output_index": len(response.items) - 1}


def _spoken_part(words: str | None, kind: str = "input_audio") -> Json:
    return {"type": kind, "transcript": words}


def _merged(known: Json, given: Json) -> Json:
    """Return settings with others over them; objects of a kind of their own are replaced."""
    merged = known | given
    for key, mine in known.items():
        value = given.get(key)
        if isinstance(mine, dict) and isinstance(value, dict):
            is_same_kind = value.get("type", mine.get("type")) == mine.get("type")
            merged[key] = _merged(mine, value) if is_same_kind else value
    return merged


def _number(settings: Json, name: str, default: int) -> int:
    found = settings.get(name)
    return found if type(found) is int and found >= 0 else default


def _default_text(context: list[_items.Item]) -> str:
    messages = [item.message for item in context]
    return _answers.default_text(messages or [{"role": "user", "content": ""}])


def _usage(response: _Response) -> Json:
    heard = sum(item.ms // 100 for item in response.context if not item.is_spoken_answer)
    heard += sum(item.ms // 50 for item in response.context if item.is_spoken_answer)
    read = sum(4 + len(item.text.encode()) // 4 for item in response.context)
    said = sum(item.ms // 50 for item in response.items)
    written = sum(1 + len(item.text.encode()) // 4 for item in response.items)
    return {
        "total_tokens": heard + read + said + written,
        "input_tokens": heard + read,
        "output_tokens": said + written,
        "input_token_details": {
            "text_tokens": read,
            "audio_tokens": heard,
            "image_tokens": 0,
            "cached_tokens": 0,
            "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": written, "audio_tokens": said},
    }

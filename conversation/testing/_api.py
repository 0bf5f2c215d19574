"""The endpoints and their state: received requests, scripted answers, issued audio ids."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

import orjson

from conversation.testing import (
    _answers,
    _contract,
    _forms,
    _http,
    _models,
    _realtime,
    _script,
    _speech,
    _streams,
    _voice,
)
from conversation.testing._refusals import Refused, missing_model, server_error, unreadable_body

KEPT_REQUESTS = 2000

_POSTED = ("/v1/chat/completions", "/v1/audio/speech", "/v1/audio/transcriptions")

_TIERS = {"fast": "priority", "flex": "flex", "priority": "priority", "scale": "scale"}


class Received(dict[str, Any]):
    """Body of a received request: its JSON, or the fields of its form.

    A file in a form is represented by its `filename` and its `size` in bytes.

    Attributes:
        path: Path, such as `"/v1/chat/completions"`.
        headers: Headers by lower-case name.
    """

    def __init__(self, body: Mapping[str, Any], path: str, headers: Mapping[str, str]) -> None:
        super().__init__(body)
        self.path = path
        self.headers = headers


class Api:
    """The endpoints and their state.

    Args:
        lifetime: Lifetime of audio ids in seconds.
        clock: Returns Unix time in seconds.
        old_wav_head: True for WAV files with the head of early 2025.

    Attributes:
        script: Scripted answers. An `Answer` waits for a chat; the others answer any request.
        transcripts: Scripted transcripts.
    """

    def __init__(
        self, lifetime: float, clock: Callable[[], float], *, old_wav_head: bool = False
    ) -> None:
        self._lifetime = lifetime
        self._old_wav_head = old_wav_head
        self._clock = clock
        self._lock = threading.Lock()
        self._issued: dict[str, _answers.IssuedAudio] = {}
        self._texts: dict[bytes, str] = {}
        self._requests: deque[tuple[Received, int]] = deque()
        self._bytes = 0
        self.script: deque[_answers.Answer | Refused | _http.Reply] = deque()
        self.transcripts: deque[str] = deque()

    @property
    def requests(self) -> list[Received]:
        """The received requests that are kept, oldest first."""
        with self._lock:
            return [received for received, _ in self._requests]

    def forget(self, audio_id: str) -> None:
        """Forget an audio id.

        Raises:
            KeyError: if it is unknown or expired.
        """
        with self._lock:
            if not self._is_known(audio_id):
                raise KeyError(audio_id)
            del self._issued[audio_id]

    def answer(self, request: _http.Request) -> _http.Reply:
        """Return the answer to a request."""
        try:
            if (request.method, request.path) == ("POST", "/stand-in/script"):
                return self._take_script(request.data)
            return self._dispatch(request)
        except Refused as refused:
            return _http.json_reply(refused.body, refused.status)

    def _dispatch(self, request: _http.Request) -> _http.Reply:
        if not request.headers.get("authorization", "").removeprefix("Bearer").strip():
            raise _no_key()
        endpoint = self._endpoint(request)
        body = _body_of(request)
        with self._lock:
            self._keep(Received(_fields(body), request.path, request.headers), len(request.data))
            scripted = self.script[0] if self.script else None
            if scripted is None or isinstance(scripted, _answers.Answer):
                return endpoint(request, body)
            self.script.popleft()
        if isinstance(scripted, Refused):
            raise scripted
        return scripted

    def connect(
        self, request: _http.Request, hold: Callable[[Callable[[], bool]], bool]
    ) -> _realtime.Session:
        """Return the Realtime session that a request for a WebSocket asks for.

        Raises:
            Refused: if the API would refuse it.
        """
        offered = request.headers.get("sec-websocket-protocol", "")
        key = request.headers.get("authorization", "").removeprefix("Bearer").strip()
        if not key and "openai-insecure-api-key." not in offered:
            raise _no_key()
        if request.path != "/v1/realtime":
            raise Refused(f"Invalid URL ({request.method} {request.path})", None, None, 404)
        model = parse_qs(request.query).get("model", [""])[0]
        if not model:
            raise missing_model()
        _models.check_realtime(model)
        return _realtime.Session(self, model, request.headers, hold)

    # --- what a Realtime session has of the state ------------------------------------------------

    def now(self) -> float:
        """Return Unix time in seconds."""
        return self._clock()

    def note(self, event: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """Keep an event of a client."""
        with self._lock:
            self._keep(Received(event, "/v1/realtime", headers), len(orjson.dumps(event)))

    def next_answer(self) -> _answers.Answer | Refused:
        """Return the answer that is scripted next, or the default one."""
        with self._lock:
            if self.script and isinstance(found := self.script[0], _answers.Answer | Refused):
                self.script.popleft()
                return found
        return _answers.Answer()

    def transcript_of(self, samples: bytes, seconds: float) -> str:
        """Return the words of 24 kHz samples."""
        with self._lock:
            return self._transcript(samples, seconds)

    def speak(self, text: str) -> bytes:
        """Return 24 kHz samples of a text, which is remembered."""
        with self._lock:
            self._remember_text(text)
        return _voice.spoken(text, "pcm16")

    def _take_script(self, data: bytes) -> _http.Reply:
        try:
            answers = _script.parse(data)
        except ValueError as error:
            raise Refused(str(error)) from error
        self.script.extend(answers)
        return _http.json_reply({"scripted": len(answers)})

    def _keep(self, received: Received, size: int) -> None:
        self._requests.append((received, size))
        self._bytes += size
        while len(self._requests) > KEPT_REQUESTS or self._bytes > _http.MOST_BYTES:
            self._bytes -= self._requests.popleft()[1]

    def _endpoint(self, request: _http.Request) -> Callable[[_http.Request, Any], _http.Reply]:
        match request.method, request.path:
            case "POST", "/v1/chat/completions":
                return self._chat
            case "POST", "/v1/audio/speech":
                return self._speak
            case "POST", "/v1/audio/transcriptions":
                return self._transcribe
            case "GET" | "HEAD", path if f"{path}/".startswith("/v1/models/"):
                return _answer_models
        if request.path in _POSTED or f"{request.path}/".startswith("/v1/models/"):
            message = (
                f"Not allowed to {request.method} on {request.path}. (HINT: Perhaps you meant to "
                "use a different HTTP method?)"
            )
            raise Refused(message, None, None, 405)
        message = f"Invalid URL ({request.method} {request.path})"
        raise Refused(message, None, None, 404)

    def _chat(self, _: _http.Request, body: Any) -> _http.Reply:
        # A refused request leaves the scripted answer for its corrected repetition.
        _contract.check(body, self._is_known)
        scripted = self.script[0] if self.script else None
        answer = scripted if isinstance(scripted, _answers.Answer) else _answers.Answer()
        completion = self._completion(answer, body)
        if scripted is not None:
            self.script.popleft()
        if body.get("stream"):
            options = body.get("stream_options") or {}
            events = _streams.events(completion, answer.order, answer.chunk_bytes, options)
            return _http.Reply(answer.interruptions.apply(events), None, "text/event-stream")
        if answer.interruptions.fail_after is not None:
            raise server_error()
        data = orjson.dumps(completion)
        return _http.Reply(answer.interruptions.apply([data]), len(data))

    def _speak(self, _: _http.Request, body: Any) -> _http.Reply:
        sound, content_type = _speech.speech(body, old_wav_head=self._old_wav_head)
        self._remember_text(body["input"])
        return _http.bytes_reply(sound, content_type)

    def _transcribe(self, request: _http.Request, body: Any) -> _http.Reply:
        sound, seconds = _speech.check_upload(body, len(request.data))
        text = self._transcript(sound, seconds)
        return _http.bytes_reply(*_speech.transcription(body, text, seconds))

    def _transcript(self, sound: bytes, seconds: float) -> str:
        if self.transcripts:
            return self.transcripts.popleft()
        return self._texts.get(_speech.fingerprint(sound), f"{seconds:.1f} seconds of sound.")

    def _remember_text(self, text: str) -> None:
        self._texts[_speech.fingerprint(_voice.spoken(text, "pcm16"))] = text

    def _is_known(self, audio_id: str) -> bool:
        audio = self._issued.get(audio_id)
        return audio is not None and self._clock() < audio.expires_at

    def _completion(self, answer: _answers.Answer, body: Mapping[str, Any]) -> dict[str, Any]:
        now = self._clock()
        choices: list[dict[str, Any]] = []
        for index in range(body.get("n") or 1):
            message, reason, issued = _answers.message_and_reason(
                answer, body, now, self._lifetime, old_wav_head=self._old_wav_head
            )
            if issued:
                self._issued[message["audio"]["id"]] = issued
                self._remember_text(issued.transcript)
            fields = {"message": message, "logprobs": None, "finish_reason": reason}
            choices.append({"index": index, **fields})
        messages = [choice["message"] for choice in choices]
        usage = _answers.usage(body["messages"], messages, self._issued)
        if usage["prompt_tokens"] > _contract.WINDOW:
            text = (
                f"This model's maximum context length is {_contract.WINDOW} tokens. However, your "
                f"messages resulted in {usage['prompt_tokens']} tokens. Please reduce the length "
                "of the messages."
            )
            raise Refused(text, "messages", "context_length_exceeded")
        return {
            "id": f"chatcmpl-{secrets.token_hex(14)}",
            "object": "chat.completion",
            "created": int(now),
            "model": body["model"],
            "choices": choices,
            "usage": usage,
            "service_tier": _TIERS.get(body.get("service_tier") or "", "default"),
            "system_fingerprint": None,
        }


def _no_key() -> Refused:
    return Refused("You didn't provide an API key.", None, "invalid_api_key", 401)


def _answer_models(request: _http.Request, _: Any) -> _http.Reply:
    model = unquote(request.path.removeprefix("/v1/models").removeprefix("/"))
    return _http.json_reply(_models.describe_model(model) if model else _models.list_models())


def _body_of(request: _http.Request) -> Any:
    if request.method in ("GET", "HEAD"):
        return {}
    if coding := request.headers.get("content-encoding", "").replace("identity", ""):
        raise Refused(f"This is a stand-in: it does not read bodies of the encoding '{coding}'.")
    if request.path == "/v1/audio/transcriptions":
        return _forms.parse_form(request.headers.get("content-type", ""), request.data)
    given = request.headers.get("content-type", "")
    match given.partition(";")[0].strip().lower():
        case "application/x-www-form-urlencoded":  # as of curl and urllib, unless told
            raise missing_model()
        case kind if kind not in ("", "application/json"):
            message = (
                f"Unsupported content type: '{given}'. This API method only accepts "
                "'application/json' requests, but you specified the header 'Content-Type: "
                f"{given}'. Please try again with a supported content type."
            )
            raise Refused(message, None, "unsupported_content_type")
    try:
        return orjson.loads(request.data)
    except orjson.JSONDecodeError as error:
        raise unreadable_body() from error


def _fields(body: Any) -> dict[str, Any]:
    """Return the fields of a body, files without their data; empty if it is not an object."""
    fields = body.items() if isinstance(body, dict) else ()
    return {
        name: {"filename": value.filename, "size": len(value.data)}
        if isinstance(value, _forms.Upload)
        else value
        for name, value in fields
    }

"""What stands behind the addresses: what was asked, what is scripted, what is remembered."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

import orjson

from conversation.testing import (
    _answers,
    _contract,
    _forms,
    _http,
    _models,
    _speech,
    _streams,
    _voice,
)
from conversation.testing._refusals import Refused, server_error, unreadable


class Received(dict[str, Any]):
    """The body of a request that arrived: its JSON, or the fields of its form.

    A file in a form is there by its `filename` and its `size` in bytes.

    Attributes:
        path: Where it was sent to, such as `"/v1/chat/completions"`.
        headers: Its headers, by lower-case name.
    """

    def __init__(self, body: Mapping[str, Any], path: str, headers: Mapping[str, str]) -> None:
        super().__init__(body)
        self.path = path
        self.headers = headers


class Api:
    """The endpoints, and what they know.

    Args:
        lifetime: Seconds for which an audio id is remembered.
        clock: Gives Unix time in seconds.

    Attributes:
        script: What is answered next; words for a chat wait for one, the rest meets any request.
        transcripts: What is heard next.
    """

    def __init__(self, lifetime: float, clock: Callable[[], float]) -> None:
        self._lifetime = lifetime
        self._clock = clock
        self._lock = threading.Lock()
        self._remembered: dict[str, _answers.Spoken] = {}
        self._words: dict[bytes, str] = {}
        self._requests: list[Received] = []
        self.script: deque[_answers.Answer | Refused | _http.Reply] = deque()
        self.transcripts: deque[str] = deque()

    @property
    def requests(self) -> list[Received]:
        """What arrived, oldest first."""
        with self._lock:
            return list(self._requests)

    def forget(self, audio_id: str) -> None:
        """Forget an audio id.

        Raises:
            KeyError: if it is not known.
        """
        with self._lock:
            if not self._knows(audio_id):
                raise KeyError(audio_id)
            del self._remembered[audio_id]

    def answer(self, request: _http.Request) -> _http.Reply:
        """The answer to a request."""
        try:
            return self._answered(request)
        except Refused as refused:
            return _http.in_json(refused.body, refused.status)

    def _answered(self, request: _http.Request) -> _http.Reply:
        if not request.headers.get("authorization", "").removeprefix("Bearer").strip():
            message = "You didn't provide an API key."
            raise Refused(message, None, "invalid_api_key", 401)
        endpoint = self._endpoint(request)
        body = _body_of(request)
        with self._lock:
            self._requests.append(Received(_recorded(body), request.path, request.headers))
            scripted = self.script[0] if self.script else None
            if scripted is None or isinstance(scripted, _answers.Answer):
                return endpoint(request, body)
            self.script.popleft()
        if isinstance(scripted, Refused):
            raise scripted
        return scripted

    def _endpoint(self, request: _http.Request) -> Callable[[_http.Request, Any], _http.Reply]:
        match request.method, request.path:
            case "POST", "/v1/chat/completions":
                return self._chat
            case "POST", "/v1/audio/speech":
                return self._speak
            case "POST", "/v1/audio/transcriptions":
                return self._transcribe
            case "GET", path if f"{path}/".startswith("/v1/models/"):
                return _models_known
        message = f"Invalid URL ({request.method} {request.path})"
        raise Refused(message, None, None, 404)

    def _chat(self, _: _http.Request, body: Any) -> _http.Reply:
        # A request that is refused here leaves the script for the one that is mended.
        _contract.check(body, self._knows)
        scripted = self.script[0] if self.script else None
        answer = scripted if isinstance(scripted, _answers.Answer) else _answers.Answer()
        completion = self._completion(answer, body)
        if scripted is not None:
            self.script.popleft()
        if body.get("stream"):
            with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
            events = _streams.events(
                completion, answer.order, answer.chunk_bytes, with_usage=with_usage
            )
            return _http.Reply(answer.course.of(events), None, "text/event-stream")
        if answer.course.fail_after is not None:
            raise server_error()
        data = orjson.dumps(completion)
        return _http.Reply(answer.course.of([data]), len(data))

    def _speak(self, _: _http.Request, body: Any) -> _http.Reply:
        sound, content_type = _speech.spoken(body)
        self._keep_words(body["input"])
        return _http.whole(sound, content_type)

    def _transcribe(self, request: _http.Request, body: Any) -> _http.Reply:
        sound, seconds = _speech.check_upload(body, len(request.data))
        words = self._words.get(_speech.print_of(sound), f"{seconds:.1f} seconds of sound.")
        if self.transcripts:
            words = self.transcripts.popleft()
        return _http.whole(*_speech.written(body, words, seconds))

    def _keep_words(self, text: str) -> None:
        self._words[_speech.print_of(_voice.spoken(text, "pcm16"))] = text

    def _knows(self, audio_id: str) -> bool:
        spoken = self._remembered.get(audio_id)
        return spoken is not None and self._clock() < spoken.expires_at

    def _completion(self, answer: _answers.Answer, body: Mapping[str, Any]) -> dict[str, Any]:
        now = self._clock()
        choices: list[dict[str, Any]] = []
        for index in range(body.get("n") or 1):
            message, reason, memory = _answers.message_and_reason(answer, body, now, self._lifetime)
            if memory:
                self._remembered[message["audio"]["id"]] = memory
                self._keep_words(memory.transcript)
            choices.append({"index": index, "message": message, "finish_reason": reason})
        messages = [choice["message"] for choice in choices]
        usage = _answers.usage(body["messages"], messages, self._remembered)
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
            "service_tier": "default",
            "system_fingerprint": None,
        }


def _models_known(request: _http.Request, _: Any) -> _http.Reply:
    model = unquote(request.path.removeprefix("/v1/models").removeprefix("/"))
    return _http.in_json(_models.described(model) if model else _models.listed())


def _body_of(request: _http.Request) -> Any:
    if request.method == "GET":
        return {}
    if request.path == "/v1/audio/transcriptions":
        return _forms.fields_of(request.headers.get("content-type", ""), request.data)
    try:
        return orjson.loads(request.data)
    except orjson.JSONDecodeError as error:
        raise unreadable() from error


def _recorded(body: Any) -> dict[str, Any]:
    """The body as it is kept: a file without its bytes, and what is no object not at all."""
    fields = body.items() if isinstance(body, dict) else ()
    return {
        name: {"filename": value.filename, "size": len(value.data)}
        if isinstance(value, _forms.Upload)
        else value
        for name, value in fields
    }

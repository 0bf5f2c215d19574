"""The endpoints that read aloud and write down: what they refuse, and what they answer.

Their errors are those that were recorded in September 2026: the speech endpoint relays the list of
its validator, without `param` and `code`, and neither minds fields that it does not know.
"""

from __future__ import annotations

import hashlib
import io
import wave
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import orjson

from conversation._values.sound import duration_of, format_of
from conversation.testing import _forms, _models, _voice
from conversation.testing._refusals import (
    Refused,
    model_not_found,
    no_model,
    not_by_the_stand_in,
    not_in,
    unreadable,
)

SPEECH_FORMATS = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
"""What `response_format` may be, with the content type of each."""

_INPUT_CHARACTERS = 4096
_UPLOAD_BYTES = 25 * 1024 * 1024
_UPLOADED = ("flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm")
_HEARD = ("mp3", "mpeg", "mpga", "wav")
_WRITTEN = ("json", "text", "srt", "verbose_json", "vtt")


def spoken(body: Any) -> tuple[bytes, str]:
    """Sound and content type that answer a speech request.

    Raises:
        Refused: as the API would.
    """
    _model(body, _models.SPEECH)
    faults = [*_input_faults(body), *_voice_faults(body)]
    chosen = body.get("response_format") or "mp3"
    if chosen not in SPEECH_FORMATS:
        *most, last = [f"'{name}'" for name in SPEECH_FORMATS]
        expected = f"{', '.join(most)} or {last}"
        fault = _fault("enum", "response_format", f"Input should be {expected}")
        faults.append({**fault, "ctx": {"expected": expected}})
    if faults:
        raise Refused(str(faults))
    made = "pcm16" if chosen == "pcm" else chosen
    if made not in _voice.FORMATS:
        raise not_by_the_stand_in(f"'{chosen}'", "response_format")
    if body.get("stream_format") == "sse":
        raise not_by_the_stand_in("events of speech", "stream_format")
    return _voice.spoken(body["input"], made), SPEECH_FORMATS[chosen]


def _input_faults(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "input" not in body:
        return [_fault("missing", "input", "Field required")]
    text = body["input"]
    if not isinstance(text, str):
        return [_fault("string_type", "input", "Input should be a valid string")]
    if not text:
        fault = _fault("string_too_short", "input", "String should have at least 1 character")
        return [{**fault, "ctx": {"min_length": 1}}]
    if len(text) > _INPUT_CHARACTERS:
        words = f"String should have at most {_INPUT_CHARACTERS} characters"
        fault = _fault("string_too_long", "input", words)
        return [{**fault, "ctx": {"max_length": _INPUT_CHARACTERS}}]
    return []


def _voice_faults(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "voice" not in body:
        return [_fault("missing", "voice", "Field required")]
    voice = body["voice"]
    named = voice.get("id") if isinstance(voice, dict) else voice
    if not isinstance(named, str):
        return [_fault("string_type", "voice", "Input should be a valid string")]
    return []


def _fault(kind: str, name: str, message: str) -> dict[str, Any]:
    """One of the validator's findings, as it writes them."""
    return {"type": kind, "loc": ("body", name), "msg": message}


def check_upload(body: Mapping[str, Any], size: int) -> tuple[bytes, float]:
    """The sound of a transcription request, and its length in seconds.

    Args:
        body: The fields of the form.
        size: Bytes of the whole request.

    Raises:
        Refused: as the API would.
    """
    if size > _UPLOAD_BYTES:
        message = f"413: Maximum content size limit ({_UPLOAD_BYTES}) exceeded ({size} bytes read)"
        raise Refused(message, status=413)
    model = _model(body, _models.TRANSCRIPTION)
    upload = body.get("file")
    if not isinstance(upload, _forms.Upload):
        fault = {**_fault("missing", "file", "Field required"), "input": None}
        raise Refused(str([fault]))
    _check_written(model, body)
    extension = PurePath(upload.filename).suffix.removeprefix(".").lower()
    told = format_of(upload.data)
    seconds = duration_of(upload.data, told) if told in ("wav", "mp3") else None
    if extension in _UPLOADED and seconds is not None:
        if seconds < 0.1:
            message = "Audio file is too short. Minimum audio length is 0.1 seconds."
            raise Refused(message, "file", "audio_too_short")
        return upload.data, seconds
    if extension in _UPLOADED and (told is not None or extension not in _HEARD):
        raise not_by_the_stand_in(f"'{told or extension}'", "file", "hear")
    if model == "whisper-1":
        raise Refused(f"Invalid file format. Supported formats: {list(_UPLOADED)}")
    if extension not in _UPLOADED:
        message = f"Unsupported file format {extension}"
        raise Refused(message, "file", "unsupported_value")
    message = "Audio file might be corrupted or unsupported"
    raise Refused(message, "file", "invalid_value")


def _check_written(model: str, body: Mapping[str, Any]) -> None:
    chosen = body.get("response_format", "json")
    if chosen not in _WRITTEN:
        raise not_in(chosen, _WRITTEN, "response_format")
    if model != "whisper-1" and chosen not in ("json", "text"):
        message = (
            f"response_format '{chosen}' is not compatible with model '{model}'. "
            "Use 'json' or 'text' instead."
        )
        raise Refused(message, "response_format", "unsupported_value")
    if chosen in ("srt", "vtt"):
        raise not_by_the_stand_in(f"'{chosen}'", "response_format")
    if str(body.get("stream")).lower() == "true":
        raise not_by_the_stand_in("a stream of a transcription", "stream")


def written(body: Mapping[str, Any], words: str, seconds: float) -> tuple[bytes, str]:
    """Body and content type that answer a transcription request."""
    chosen = body.get("response_format", "json")
    if chosen == "text":
        return f"{words}\n".encode(), "text/plain; charset=utf-8"
    answer: dict[str, Any] = {"text": words}
    if chosen == "verbose_json":
        about = {"task": "transcribe", "language": "english", "duration": seconds}
        answer = {**about, **answer, "segments": []}
    return orjson.dumps(answer), "application/json"


def print_of(sound: bytes) -> bytes:
    """What tells a sound from others, whether it is raw PCM or a WAV file of it."""
    if format_of(sound) == "wav":
        try:
            with wave.open(io.BytesIO(sound)) as file:
                sound = file.readframes(file.getnframes())
        except (wave.Error, EOFError):
            pass
    return hashlib.sha256(sound).digest()


def _model(body: Any, known: Mapping[str, str | None]) -> str:
    if not isinstance(body, dict):
        raise unreadable()
    if not body.get("model"):
        raise no_model()
    model = body["model"]
    if not isinstance(model, str):
        raise unreadable()
    if not _models.is_one_of(model, known):
        raise model_not_found(model)
    return model

"""The speech and transcription endpoints: checks and answers (CONTRACT §7)."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

import orjson

from conversation._values import conversion
from conversation._values.sound import duration_of, format_of, name_of, samples_of
from conversation.testing import _forms, _models, _voice
from conversation.testing._refusals import (
    Refused,
    invalid_value,
    missing_model,
    model_not_found,
    unreadable_body,
    unsupported_here,
)

SPEECH_FORMATS = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
"""Values of `response_format` with their content types."""

_INPUT_CHARACTERS = 4096
_UPLOAD_BYTES = 25 * 1024 * 1024
_LONGEST = 7200.0  # seconds of sound in another format than WAV and MP3
_EXTENSIONS = ("flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm")
_MEASURED = ("mp3", "mpeg", "mpga", "wav")
_OUTPUTS = ("json", "text", "srt", "verbose_json", "vtt")


def speech(body: Any, *, old_wav_head: bool = False) -> tuple[bytes, str]:
    """Return the sound and content type that answer a speech request.

    Raises:
        Refused: if the API would refuse the request.
    """
    _model(body, _models.SPEECH)
    errors = [*_input_errors(body), *_voice_errors(body), *_speed_errors(body)]
    chosen = body.get("response_format") or "mp3"
    if not isinstance(chosen, str) or chosen not in SPEECH_FORMATS:
        errors.append(_enum_error("response_format", SPEECH_FORMATS))
    if errors:
        raise Refused(str(errors))
    audio_format = "pcm16" if chosen == "pcm" else chosen
    if not _voice.can_make(audio_format):
        what = f"'{chosen}' without the extra 'formats'"
        raise unsupported_here(what, "response_format", instead="'mp3', 'wav' or 'pcm'")
    if body.get("stream_format") == "sse":
        raise unsupported_here("speech as server-sent events", "stream_format")
    sound = _voice.spoken(body["input"], audio_format, old_wav_head=old_wav_head)
    return sound, SPEECH_FORMATS[chosen]


def _input_errors(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "input" not in body:
        return [_validator_error("missing", "input", "Field required")]
    text = body["input"]
    if not isinstance(text, str):
        return [_validator_error("string_type", "input", "Input should be a valid string")]
    if not text:
        message = "String should have at least 1 character"
        error = _validator_error("string_too_short", "input", message)
        return [{**error, "ctx": {"min_length": 1}}]
    if len(text) > _INPUT_CHARACTERS:
        message = f"String should have at most {_INPUT_CHARACTERS} characters"
        error = _validator_error("string_too_long", "input", message)
        return [{**error, "ctx": {"max_length": _INPUT_CHARACTERS}}]
    return []


def _voice_errors(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "voice" not in body:
        return [_validator_error("missing", "voice", "Field required")]
    voice = body["voice"]
    named = voice.get("id") if isinstance(voice, dict) else voice
    if not isinstance(named, str):
        return [_validator_error("string_type", "voice", "Input should be a valid string")]
    voices = _voice.OLD_VOICES if body["model"].startswith("tts-1") else _voice.VOICES
    is_known = named in voices or isinstance(voice, dict)
    return [] if is_known else [_enum_error("voice", voices)]


def _speed_errors(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    speed = body.get("speed")
    if speed is None:
        return []
    if isinstance(speed, bool) or not isinstance(speed, int | float):
        return [_validator_error("float_type", "speed", "Input should be a valid number")]
    for kind, sign, word, bound in (
        ("greater_than_equal", "ge", "greater", 0.25),
        ("less_than_equal", "le", "less", 4.0),
    ):
        if speed < bound if sign == "ge" else speed > bound:
            message = f"Input should be {word} than or equal to {bound:g}"
            return [{**_validator_error(kind, "speed", message), "ctx": {sign: bound}}]
    return []


def _enum_error(name: str, values: Iterable[str]) -> dict[str, Any]:
    *most, last = [f"'{value}'" for value in values]
    expected = f"{', '.join(most)} or {last}"
    error = _validator_error("enum", name, f"Input should be {expected}")
    return {**error, "ctx": {"expected": expected}}


def _validator_error(kind: str, name: str, message: str) -> dict[str, Any]:
    return {"type": kind, "loc": ("body", name), "msg": message}


def check_upload(body: Mapping[str, Any], size: int) -> tuple[bytes, float]:
    """Return the sound of a transcription request and its length in seconds.

    Args:
        body: Fields of the form.
        size: Size of the whole request in bytes.

    Raises:
        Refused: if the API would refuse the request.
    """
    if size > _UPLOAD_BYTES:
        message = f"413: Maximum content size limit ({_UPLOAD_BYTES}) exceeded ({size} bytes read)"
        raise Refused(message, status=413)
    model = _model(body, _models.TRANSCRIPTION)
    upload = body.get("file")
    if not isinstance(upload, _forms.Upload):
        error = {**_validator_error("missing", "file", "Field required"), "input": None}
        raise Refused(str([error]))
    _check_output(model, body)
    extension = PurePath(upload.filename).suffix.removeprefix(".").lower()
    data = _measurable(upload.data)
    found = format_of(data)
    seconds = duration_of(data, found) if found in ("wav", "mp3") else None
    if extension in _EXTENSIONS and seconds is not None:
        if seconds < 0.1:
            message = "Audio file is too short. Minimum audio length is 0.1 seconds."
            raise Refused(message, "file", "audio_too_short")
        return data, seconds
    if extension in _EXTENSIONS and (found is not None or extension not in _MEASURED):
        raise unsupported_here(f"'{found or extension}'", "file", "hear")
    if model == "whisper-1":
        raise Refused(f"Invalid file format. Supported formats: {list(_EXTENSIONS)}")
    if extension not in _EXTENSIONS:
        message = f"Unsupported file format {extension}"
        raise Refused(message, "file", "unsupported_value")
    message = "Audio file might be corrupted or unsupported"
    raise Refused(message, "file", "invalid_value")


def _measurable(data: bytes) -> bytes:
    """Return sound of another format as WAV where the extra `formats` can make it."""
    if format_of(data) not in ("wav", "mp3") and conversion.can_convert(name_of(data)):
        with contextlib.suppress(ValueError, ImportError):
            return conversion.converted(data, "wav", _LONGEST)
    return data


def _check_output(model: str, body: Mapping[str, Any]) -> None:
    chosen = body.get("response_format", "json")
    if chosen not in _OUTPUTS:
        raise invalid_value(chosen, _OUTPUTS, "response_format")
    if model != "whisper-1" and chosen not in ("json", "text"):
        message = (
            f"response_format '{chosen}' is not compatible with model '{model}'. "
            "Use 'json' or 'text' instead."
        )
        raise Refused(message, "response_format", "unsupported_value")
    if chosen in ("srt", "vtt"):
        raise unsupported_here(f"'{chosen}'", "response_format")
    if str(body.get("stream")).lower() == "true":
        raise unsupported_here("streamed transcriptions", "stream")


def transcription(body: Mapping[str, Any], text: str, seconds: float) -> tuple[bytes, str]:
    """Return the body and content type that answer a transcription request."""
    chosen = body.get("response_format", "json")
    if chosen == "text":
        return f"{text}\n".encode(), "text/plain; charset=utf-8"
    answer: dict[str, Any] = {"text": text}
    if chosen == "verbose_json":
        about = {"task": "transcribe", "language": "english", "duration": seconds}
        answer = {**about, **answer, "segments": []}
    return orjson.dumps(answer), "application/json"


def fingerprint(sound: bytes) -> bytes:
    """Return a hash of the sound, the same for raw PCM and a WAV file of it."""
    sound = samples_of(sound) or sound
    return hashlib.sha256(sound).digest()


def _model(body: Any, known: Mapping[str, str | None]) -> str:
    if not isinstance(body, dict):
        raise unreadable_body()
    if not body.get("model"):
        raise missing_model()
    model = body["model"]
    if not isinstance(model, str):
        raise unreadable_body()
    if not _models.is_one_of(model, known):
        raise model_not_found(model)
    return model

"""The known models and the answers of `/v1/models` (CONTRACT §5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from conversation.testing._refusals import model_not_found

AUDIO: Mapping[str, str | None] = {
    "gpt-audio-1.5": None,
    "gpt-audio": "2027-01-20",
    "gpt-audio-mini": "2027-01-20",
}
"""Audio chat models, with their announced shutdown dates."""

SPEECH: Mapping[str, str | None] = {
    "gpt-4o-mini-tts": "2027-01-06",
    "tts-1": "2027-01-06",
    "tts-1-hd": "2027-01-06",
}
"""Text-to-speech models, with their announced shutdown dates."""

TRANSCRIPTION: Mapping[str, str | None] = {
    "gpt-transcribe": None,
    "gpt-4o-transcribe": "2027-02-26",
    "gpt-4o-mini-transcribe": "2027-02-26",
    "whisper-1": "2027-02-26",
}
"""Transcription models, with their announced shutdown dates."""

REALTIME: Mapping[str, str | None] = {
    "gpt-realtime-2.1": None,
    "gpt-realtime-2": None,
    "gpt-realtime-1.5": None,
    "gpt-realtime": "2027-01-20",
    "gpt-realtime-mini": "2027-01-20",
}
"""Models of the Realtime API, with their announced shutdown dates."""

_TEXT = ("gpt-6", "gpt-5", "gpt-4", "gpt-3.5", "chatgpt-4o", "ft:gpt-", "o1", "o3", "o4")
_RETIRED = ("gpt-4o-audio-preview", "gpt-4o-mini-audio-preview")
_CREATED = 1_756_339_249  # the same for all: the real dates are unknown
_DATES = {**AUDIO, **SPEECH, **TRANSCRIPTION, **REALTIME}


def is_one_of(model: str, names: Iterable[str]) -> bool:
    """Return True if the model is one of these or a dated version of one."""
    return any(model == name or model.startswith(f"{name}-20") for name in names)


def is_chat_model(model: str) -> bool:
    """Return True if chat completions accept the model."""
    return is_one_of(model, AUDIO) or (
        model.startswith(_TEXT) and not is_one_of(model, (*_RETIRED, *SPEECH, *TRANSCRIPTION))
    )


def check_realtime(model: str) -> None:
    """Refuse a model that is none of the Realtime API's.

    Raises:
        Refused: naming it.
    """
    if not is_one_of(model, REALTIME) and not is_one_of(model, AUDIO):
        raise model_not_found(model)


def list_models() -> dict[str, Any]:
    """Return the answer to `GET /v1/models`."""
    return {"object": "list", "data": [describe_model(model) for model in _DATES]}


def describe_model(model: str) -> dict[str, Any]:
    """Return the answer to `GET /v1/models/{id}`.

    Raises:
        Refused: if no endpoint accepts the model.
    """
    if not is_chat_model(model) and not is_one_of(model, _DATES):
        raise model_not_found(model)
    return {
        "id": model,
        "object": "model",
        "created": _CREATED,
        "owned_by": "system",
        "shutdown_date": next((_DATES[name] for name in _DATES if is_one_of(model, [name])), None),
    }

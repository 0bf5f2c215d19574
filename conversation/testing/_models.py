"""The models there are, and what `/v1/models` says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conversation.testing._refusals import model_not_found

AUDIO: Mapping[str, str | None] = {
    "gpt-audio-1.5": None,
    "gpt-audio": "2027-01-20",
    "gpt-audio-mini": "2027-01-20",
}
"""Models that hear and speak, each with the day on which it shuts down, as announced."""

SPEECH: Mapping[str, str | None] = {
    "gpt-4o-mini-tts": "2027-01-06",
    "tts-1": "2027-01-06",
    "tts-1-hd": "2027-01-06",
}
"""Models that read aloud."""

TRANSCRIPTION: Mapping[str, str | None] = {
    "gpt-transcribe": None,
    "gpt-4o-transcribe": "2027-02-26",
    "gpt-4o-mini-transcribe": "2027-02-26",
    "whisper-1": "2027-02-26",
}
"""Models that write down what they hear."""

_TEXT = ("gpt-5", "gpt-4.1", "gpt-4o", "o1", "o3", "o4")
_RETIRED = ("gpt-4o-audio-preview", "gpt-4o-mini-audio-preview")
_CREATED = 1_756_339_249  # when each was made is not known here


def is_one_of(model: str, names: Mapping[str, str | None] | tuple[str, ...]) -> bool:
    """Whether the model is one of these, or a dated version of one."""
    return any(model == name or model.startswith(f"{name}-20") for name in names)


def chats(model: str) -> bool:
    """Whether chat completions know the model."""
    others = is_one_of(model, _RETIRED) or is_one_of(model, {**SPEECH, **TRANSCRIPTION})
    return is_one_of(model, AUDIO) or (model.startswith(_TEXT) and not others)


def listed() -> dict[str, Any]:
    """The answer to `GET /v1/models`."""
    data = [described(model) for model in (*AUDIO, *SPEECH, *TRANSCRIPTION)]
    return {"object": "list", "data": data}


def described(model: str) -> dict[str, Any]:
    """The answer to `GET /v1/models/{id}`.

    Raises:
        Refused: if no endpoint knows the model.
    """
    dates = {**AUDIO, **SPEECH, **TRANSCRIPTION}
    if not chats(model) and not is_one_of(model, dates):
        raise model_not_found(model)
    return {
        "id": model,
        "object": "model",
        "created": _CREATED,
        "owned_by": "system",
        "shutdown_date": next((dates[name] for name in dates if is_one_of(model, (name,))), None),
    }

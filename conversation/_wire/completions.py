"""A completion, however it comes, as one assistant turn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from conversation._values.turns import AssistantTurn
from conversation._wire.chunks import assembled, json_object
from conversation._wire.reading import assistant_turn
from conversation.errors import InvalidCompletion, InvalidTurn


@attrs.frozen
class Asked:
    """What a request asked for, as far as its answer does not tell.

    Attributes:
        sent_at: Unix time in seconds, by our clock, at which it was sent; None if not known.
        audio_format: What the sound was asked in.
        speaks: Whether sound was asked for.
        voice: Whose voice was asked for.
    """

    sent_at: float | None
    audio_format: str | None
    speaks: bool
    voice: Any = None


def completion_object(completion: Any) -> Mapping[str, Any]:
    """The completion as a JSON object: from the SDK's object, a dict, or an iterable of chunks.

    Raises:
        InvalidCompletion: if it is none of these.
    """
    if isinstance(completion, Mapping) or hasattr(completion, "model_dump"):
        whole = json_object(completion)
        if whole.get("object") == "chat.completion.chunk":
            return assembled([whole])
        return whole
    if isinstance(completion, Iterable) and not isinstance(completion, str | bytes):
        return assembled(completion)
    return json_object(completion)


def turn_from_completion(completion: Mapping[str, Any], asked: Asked) -> AssistantTurn:
    """The answer in a completion.

    Taken from the first choice; its audio from another one where the first has none, as
    vLLM-Omni sends it.

    Raises:
        InvalidCompletion: if there is no answer in it, or more than one.
    """
    message, finish_reason = _one_answer(completion.get("choices"))
    entry = {**message, "role": "assistant", "finish_reason": finish_reason}
    if completion.get("interrupted"):
        entry["interrupted"] = True
    entry |= {key: completion[key] for key in ("model", "usage") if completion.get(key)}
    try:
        return assistant_turn(entry, sound_format=asked.audio_format, asked_to_speak=asked.speaks)
    except InvalidTurn as error:
        msg = f"the completion's message is not one that can be kept: {error}"
        raise InvalidCompletion(msg) from error


def skew_of(completion: Mapping[str, Any], asked: Asked) -> float | None:
    """How many seconds the server's clock is ahead of ours; None if that cannot be told."""
    created = completion.get("created")
    if asked.sent_at is None or isinstance(created, bool) or not isinstance(created, int | float):
        return None
    # Beyond 1e11 it counts milliseconds; the clock may be off by years, but not by millennia.
    return created - asked.sent_at if 0 < created < 1e11 else None


def _one_answer(choices: Any) -> tuple[Mapping[str, Any], object]:
    found = (
        [c for c in choices if isinstance(c, Mapping)] if isinstance(choices, list | tuple) else []
    )
    messages = [m for m in (c.get("message") for c in found) if isinstance(m, Mapping)]
    if not messages or len(messages) != len(choices):
        msg = (
            "the completion has no choices with a message, so there is no answer to keep; pass "
            "what chat.completions.create returned, not a part of it"
        )
        raise InvalidCompletion(msg)
    # Some servers give words and sound a choice each; two of a kind are two answers.
    answer: dict[str, Any] = {}
    for message in messages:
        for key, value in message.items():
            if key in ("content", "audio", "tool_calls", "refusal") and value and answer.get(key):
                msg = (
                    f"the completion has {len(messages)} answers; a conversation has one for each "
                    "turn: ask with n=1"
                )
                raise InvalidCompletion(msg)
            if not answer.get(key):
                answer[key] = value
    return answer, found[0].get("finish_reason")

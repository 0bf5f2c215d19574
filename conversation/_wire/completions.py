"""Completions of every form, as assistant turns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from conversation._values.turns import AssistantTurn
from conversation._wire.chunks import assembled, json_object
from conversation._wire.reading import assistant_turn, without_own
from conversation.errors import InvalidCompletion, InvalidTurn

_SAID = ("content", "audio", "tool_calls", "refusal")


@attrs.frozen
class Asked:
    """The properties of a request that its answer does not tell.

    Attributes:
        sent_at: Unix time in seconds, by our clock, at which it was sent; None if not known.
        audio_format: The format of the sound that was asked for.
        speaks: True if sound was asked for.
        voice: The voice that was asked for.
    """

    sent_at: float | None
    audio_format: str | None
    speaks: bool
    voice: Any = None


def completion_object(completion: Any) -> Mapping[str, Any]:
    """Return a completion as a JSON object.

    Args:
        completion: The SDK's object, its dict, an iterable of chunks or events, or the manager of
            one, which is entered and left.

    Raises:
        InvalidCompletion: if it is none of these, or an error that came as an answer.
    """
    if isinstance(completion, Mapping) or hasattr(completion, "model_dump"):
        whole = dict(json_object(completion))
        whole.pop("interrupted", None)  # only `assembled` says so
        if whole.get("object") == "chat.completion.chunk":
            return assembled([whole])
        if whole.get("error") and not whole.get("choices"):
            msg = f"the server answered with an error: {whole['error']}"
            raise InvalidCompletion(msg, body=whole["error"])
        if (usage := _usage_in(whole)) is not whole.get("usage"):
            whole["usage"] = usage
        return whole
    if isinstance(completion, Iterable) and not isinstance(completion, str | bytes):
        return assembled(completion)
    if hasattr(completion, "__enter__"):
        with completion as stream:
            return completion_object(stream)
    return json_object(completion)


def turn_from_completion(completion: Mapping[str, Any], asked: Asked) -> AssistantTurn:
    """Return the answer in a completion.

    Its words and its audio may come in two choices, as from vLLM-Omni.

    Raises:
        InvalidCompletion: if the completion has no answer, or more than one.
    """
    message, finish_reason, fault = _one_answer(completion.get("choices"))
    if fault and not any(message.get(key) for key in _SAID):
        raise InvalidCompletion(f"the server answered with an error: {fault}", body=fault)
    entry = {**without_own(message), "role": "assistant", "finish_reason": finish_reason}
    if completion.get("interrupted") or fault:
        entry["interrupted"] = True
    entry |= {key: completion[key] for key in ("model", "usage") if completion.get(key)}
    try:
        return assistant_turn(entry, sound_format=asked.audio_format, asked_to_speak=asked.speaks)
    except InvalidTurn as error:
        msg = f"the message of the completion is invalid: {error}"
        raise InvalidCompletion(msg) from error


def skew_of(completion: Mapping[str, Any], asked: Asked) -> float | None:
    """Return the seconds by which the server's clock is ahead of ours; None if not known."""
    created = completion.get("created")
    if asked.sent_at is None or isinstance(created, bool) or not isinstance(created, int | float):
        return None
    # Above 1e11 it counts milliseconds: a clock may be off by years, but not by millennia.
    return created - asked.sent_at if 0 < created < 1e11 else None


def _usage_in(completion: Mapping[str, Any]) -> Any:
    """Return the usage, which some servers put elsewhere, or name as the Responses API does."""
    choices = completion.get("choices")
    others = choices if isinstance(choices, list | tuple) else ()
    places = (completion, completion.get("x_groq"), *others)
    found = (place.get("usage") for place in places if isinstance(place, Mapping))
    usage = next((each for each in found if each), None)
    if not isinstance(usage, Mapping) or "prompt_tokens" in usage or "input_tokens" not in usage:
        return usage
    names = {"input": "prompt", "output": "completion"}
    return {
        f"{names[first]}_{rest}" if (first := key.partition("_")[0]) in names else key: value
        for key, value in usage.items()
        for rest in (key.partition("_")[2],)
    }


def _one_answer(choices: Any) -> tuple[Mapping[str, Any], object, Any]:
    """Return the message of an answer, why it ended, and the error with which it did."""
    found = (
        [c for c in choices if isinstance(c, Mapping)] if isinstance(choices, list | tuple) else []
    )
    messages = [m for m in (c.get("message") for c in found) if isinstance(m, Mapping)]
    if not messages or len(messages) != len(choices):
        msg = (
            "every choice of a completion must have a message; pass the whole result of "
            "chat.completions.create"
        )
        raise InvalidCompletion(msg)
    # Some servers send words and sound in two choices; two of a kind are two answers.
    answer: dict[str, Any] = {}
    for message in messages:
        for key, value in message.items():
            if key in _SAID and value and answer.get(key):
                msg = f"a completion must have one answer, got {len(messages)}; request it with n=1"
                raise InvalidCompletion(msg)
            if not answer.get(key):
                answer[key] = value
    reason = found[0].get("finish_reason")
    fault = next((c["error"] for c in found if c.get("error")), reason == "error" and reason)
    return answer, reason, fault

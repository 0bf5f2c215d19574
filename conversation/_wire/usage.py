"""Tokens as the API writes them, and back."""

from __future__ import annotations

from functools import partial
from typing import Any

from conversation._values.unchecked import unchecked
from conversation._values.usage import MOST_TOKENS, Usage
from conversation._wire.fields import OBJECT, copied, leave

_usage = unchecked(Usage)


def usage_from_entry(usage: object) -> Usage:
    """Return tokens from the form in which the API sends them; invalid counts are 0."""
    return take_usage({"usage": usage}) or Usage()


def _has_prompt_details(usage: Usage) -> bool:
    texts, sounds, cached = usage.prompt_text_tokens, usage.prompt_audio_tokens, usage.cached_tokens
    return any((texts, sounds, cached, usage.prompt_image_tokens, usage.cache_write_tokens))


def _take_count(rest: dict[str, Any], key: str) -> int:
    """Take a count out that is written only if there is one."""
    return token_count(rest.pop(key)) if token_count(rest.get(key)) else 0


def take_usage(rest: dict[str, Any]) -> Usage | None:
    """Take the tokens out of an answer; None if there are none."""
    given = rest.get("usage")
    if not isinstance(given, OBJECT):
        return None
    body = dict(given)
    prompt = copied(body.get("prompt_tokens_details"))
    completion = copied(body.get("completion_tokens_details"))
    body.pop("total_tokens", None)
    usage = _usage(
        prompt_tokens=token_count(body.pop("prompt_tokens", 0)),
        completion_tokens=token_count(body.pop("completion_tokens", 0)),
        prompt_text_tokens=token_count(prompt.pop("text_tokens", 0)),
        prompt_audio_tokens=token_count(prompt.pop("audio_tokens", 0)),
        cached_tokens=token_count(prompt.pop("cached_tokens", 0)),
        completion_text_tokens=token_count(completion.pop("text_tokens", 0)),
        completion_audio_tokens=token_count(completion.pop("audio_tokens", 0)),
        prompt_image_tokens=_take_count(prompt, "image_tokens"),
        cache_write_tokens=_take_count(prompt, "cache_write_tokens"),
    )
    # Details that are all 0 are not written, so they stay in the rest.
    if _has_prompt_details(usage):
        leave(body, "prompt_tokens_details", prompt)
    if usage.completion_text_tokens or usage.completion_audio_tokens:
        leave(body, "completion_tokens_details", completion)
    leave(rest, "usage", body)
    return usage


def token_count(value: Any) -> int:
    """Return a number of tokens; 0 for what is none."""
    return int(value) if type(value) in (int, float) and 0 <= value <= MOST_TOKENS else 0


def usage_entry(usage: Usage) -> dict[str, Any]:
    """Return tokens as the API writes them; details only where there are any."""
    entry: dict[str, Any] = {
        "prompt_tokens": _held(usage.prompt_tokens),
        "completion_tokens": _held(usage.completion_tokens),
        "total_tokens": _held(usage.total_tokens),
    }
    if _has_prompt_details(usage):
        entry["prompt_tokens_details"] = details = {
            "text_tokens": _held(usage.prompt_text_tokens),
            "audio_tokens": _held(usage.prompt_audio_tokens),
            "cached_tokens": _held(usage.cached_tokens),
        }
        if usage.prompt_image_tokens:
            details["image_tokens"] = _held(usage.prompt_image_tokens)
        if usage.cache_write_tokens:
            details["cache_write_tokens"] = _held(usage.cache_write_tokens)
    if usage.completion_text_tokens or usage.completion_audio_tokens:
        entry["completion_tokens_details"] = {
            "text_tokens": _held(usage.completion_text_tokens),
            "audio_tokens": _held(usage.completion_audio_tokens),
        }
    return entry


_held = partial(min, MOST_TOKENS)

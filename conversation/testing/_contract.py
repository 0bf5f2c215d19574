"""Checks of chat completion requests, in the API's order and words (CONTRACT §3)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

from conversation._values.sound import FORMATS, format_of
from conversation.testing import _models, _voice
from conversation.testing._forced import chosen_tools, name_of
from conversation.testing._parameters import PARAMETERS
from conversation.testing._refusals import (
    Refused,
    missing_model,
    missing_parameter,
    model_not_found,
    not_enabled,
    not_without,
    unknown_parameter,
    unreadable_body,
    unsupported_here,
)
from conversation.testing._shapes import one_of, record, string_or, text

WINDOW = 128_000
"""Context window of the audio models, in tokens (CONTRACT §4)."""

_LARGEST_ANSWER = 16_384  # tokens


def check(body: Any, knows_audio: Callable[[str], bool]) -> None:
    """Raise the error with which the API would refuse a request.

    Args:
        body: The request's JSON.
        knows_audio: Returns True if an audio id is known and not expired.

    Raises:
        Refused: with the API's message, `param` and `code`.
    """
    if not isinstance(body, dict):
        raise unreadable_body()
    model = body.get("model")
    if model is None or model == "":
        raise missing_model()
    if not isinstance(model, str):
        raise unreadable_body()
    if "messages" not in body:
        raise missing_parameter("messages")
    for name in body:
        if name not in PARAMETERS and name not in ("model", "audio"):
            raise unknown_parameter(name)
    messages = body["messages"]
    for name, shape in PARAMETERS.items():
        if name == "messages" or body.get(name) is not None:
            shape(body[name], name)
    _check_combinations(body)
    _check_model(model, body)
    for position, message in enumerate(messages):
        _check_sound(message)
        audio = message.get("audio") if message["role"] == "assistant" else None
        if audio is not None and not knows_audio(audio["id"]):
            param = f"content.messages[{position}].audio.id"
            raise Refused(f"Assistant audio {audio['id']} not found.", param, "audio_not_found")
    _check_tool_exchanges(messages)
    _check_content(messages)


def _check_combinations(body: Mapping[str, Any]) -> None:
    for name, other in (
        ("function_call", "functions"),
        ("tool_choice", "tools"),
        ("parallel_tool_calls", "tools"),
    ):
        if body.get(name) is not None and body.get(other) is None:
            raise not_without(name, other)
    for name, other in (("top_logprobs", "logprobs"), ("stream_options", "stream")):
        if body.get(name) is not None and not body.get(other):
            raise not_enabled(name, other)
    both = ("max_tokens", "max_completion_tokens")
    if all(body.get(name) is not None for name in both):
        message = f"Setting '{both[0]}' and '{both[1]}' at the same time is not supported."
        raise Refused(message, None, "invalid_parameter_combination")
    if (body.get("top_logprobs") or 0) > 20:
        message = "Invalid value for 'top_logprobs': must be less than or equal to 20."
        raise Refused(message, "top_logprobs")
    declared = [name_of(tool) for tool in body.get("tools") or ()]
    chosen = chosen_tools(body)
    if isinstance(legacy := body.get("function_call"), dict):
        declared += [function["name"] for function in body["functions"]]
        chosen.append(legacy["name"])
    for name in chosen:
        if name not in declared:
            message = (
                f"Invalid value for 'function_call': no function named '{name}' was specified in "
                "the 'functions' parameter."
            )
            raise Refused(message, "function_call")
    response_format = body.get("response_format") or {}
    if response_format.get("type") == "json_object" and not _mentions_json(body["messages"]):
        message = (
            "'messages' must contain the word 'json' in some form, to use 'response_format' of "
            "type 'json_object'."
        )
        raise Refused(message, "messages")


def _mentions_json(messages: list[dict[str, Any]]) -> bool:
    texts = []
    for message in messages:
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"text": content or ""}]
        texts += [part.get("text", "") for part in parts]
    return any("json" in text.lower() for text in texts)


def _check_model(model: str, body: Mapping[str, Any]) -> None:
    if not _models.is_chat_model(model):
        raise model_not_found(model)
    messages = body["messages"]
    hears = [i for i, message in enumerate(messages) if "input_audio" in _kinds(message)]
    speaks = "audio" in (body.get("modalities") or ())
    if not _models.is_one_of(model, _models.AUDIO):
        for name in ("audio", "modalities"):
            if body.get(name) is not None and (name == "audio" or speaks):
                raise unknown_parameter(name)
        if hears:
            message = (
                f"Invalid 'messages[{hears[0]}]'. Content blocks are expected to be either text or "
                "image_url type."
            )
            raise Refused(message, f"messages[{hears[0]}]", "invalid_value")
        for position, message in enumerate(messages):
            if message["role"] != "user" and "image_url" in _kinds(message):
                text = (
                    f"Invalid 'messages[{position}]'. Image URLs are only allowed for messages "
                    f"with role 'user', but this message with role '{message['role']}' contains "
                    "an image URL."
                )
                raise Refused(text, f"messages[{position}]", "invalid_value")
        return
    for position, message in enumerate(messages):
        for kind in _kinds(message) & {"image_url", "file"}:
            text = f"This model does not support {kind} content."
            raise Refused(text, f"messages[{position}].content", "invalid_value")
    if body.get("audio") is not None:
        _AUDIO(body["audio"], "audio")
    if speaks:
        _check_audio_output(body)
    elif not hears:
        message = "This model requires that either input content or output modality contain audio."
        raise Refused(message, "model", "invalid_value")
    for name in ("max_completion_tokens", "max_tokens"):
        if (body.get(name) or 0) > _LARGEST_ANSWER:
            message = (
                f"{name} is too large: {body[name]}. This model supports at most {_LARGEST_ANSWER} "
                f"completion tokens, whereas you provided {body[name]}."
            )
            raise Refused(message, name, "invalid_value")
    response_format = body.get("response_format")
    if response_format is not None and response_format["type"] == "json_schema":
        message = (
            "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this "
            "model."
        )
        raise Refused(message, "response_format")


_VOICE = string_or(record({"id": text()}), dict, "a string or object", one_of(*_voice.VOICES))
_AUDIO = record({"voice": _VOICE, "format": one_of(*FORMATS)})


def _check_audio_output(body: Mapping[str, Any]) -> None:
    if body.get("audio") is None:
        raise missing_parameter("audio")
    audio_format = body["audio"]["format"]
    if body.get("stream") and audio_format != "pcm16":
        message = (
            f"Unsupported value: 'audio.format' does not support '{audio_format}' when "
            "stream=true. Supported values are: 'pcm16'."
        )
        raise Refused(message, "audio.format", "unsupported_value")
    if not _voice.can_make(audio_format):
        raise unsupported_here(
            f"'{audio_format}' without the extra 'formats'",
            "audio.format",
            instead="'wav', 'mp3' or 'pcm16'",
        )


def _check_sound(message: Mapping[str, Any]) -> None:
    content = message.get("content")
    for part in content if isinstance(content, list) else ():
        if part["type"] == "input_audio":
            sound = part["input_audio"]
            try:
                data = base64.b64decode(sound["data"], validate=True)
            except (binascii.Error, ValueError, TypeError):
                data = b""
            if format_of(data) != sound["format"]:
                raise Refused(
                    "This model does not support the format you provided.",
                    "messages",
                    "unsupported_format",
                )


def _check_tool_exchanges(messages: list[dict[str, Any]]) -> None:
    waiting: set[str] = set()
    for position, message in enumerate(messages):
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                text = (
                    "Invalid parameter: messages with role 'tool' must be a response to a "
                    "preceeding message with 'tool_calls'."
                )
                raise Refused(text, f"messages.[{position}].role")
            waiting.discard(message["tool_call_id"])
            continue
        if waiting:
            break
        if message["role"] == "assistant":
            waiting = {call["id"] for call in message.get("tool_calls") or ()}
    if waiting:
        text = (
            "An assistant message with 'tool_calls' must be followed by tool messages responding "
            "to each 'tool_call_id'. The following tool_call_ids did not have response messages: "
            + ", ".join(sorted(waiting))
        )
        raise Refused(text, "messages")


def _check_content(messages: list[dict[str, Any]]) -> None:
    for position, message in enumerate(messages):
        others = ("audio", "tool_calls", "function_call", "refusal")
        has_other = message["role"] == "assistant" and any(message.get(name) for name in others)
        if message.get("content") is None and not has_other:
            text = "Invalid value for 'content': expected a string, got null."
            raise Refused(text, f"messages.[{position}].content")


def _kinds(message: Mapping[str, Any]) -> set[str]:
    """Return the types of a message's content parts."""
    content = message.get("content")
    return {part["type"] for part in content} if isinstance(content, list) else set()

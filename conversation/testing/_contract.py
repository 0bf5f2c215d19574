"""Checks of chat completion requests, in the API's order and words (CONTRACT §3)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

from conversation._values.sound import FORMATS, format_of
from conversation.testing import _models, _voice
from conversation.testing._refusals import (
    Refused,
    empty_array,
    invalid_type,
    invalid_value,
    missing_model,
    missing_parameter,
    model_not_found,
    unknown_parameter,
    unreadable_body,
    unsupported_here,
)

WINDOW = 128_000
"""Context window of the audio models, in tokens (CONTRACT §4)."""

_PARAMETER_NAMES = """
audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens
max_tokens messages metadata modalities model n parallel_tool_calls prediction presence_penalty
prompt_cache_key prompt_cache_retention reasoning_effort response_format safety_identifier seed
service_tier stop store stream stream_options temperature tool_choice tools top_logprobs top_p
user verbosity web_search_options
"""
_PARAMETERS = frozenset(_PARAMETER_NAMES.split())
_ROLES: dict[str, frozenset[str]] = {
    "system": frozenset({"role", "content", "name"}),
    "assistant": frozenset(
        {"role", "content", "name", "audio", "refusal", "tool_calls", "function_call"}
    ),
    "user": frozenset({"role", "content", "name"}),
    "function": frozenset({"role", "content", "name"}),
    "tool": frozenset({"role", "content", "tool_call_id"}),
    "developer": frozenset({"role", "content", "name"}),
}
_PARTS: dict[str, frozenset[str]] = {
    "text": frozenset({"text"}),
    "image_url": frozenset({"url", "detail"}),
    "input_audio": frozenset({"data", "format"}),
    "file": frozenset({"file_data", "file_id", "filename"}),
    "refusal": frozenset({"refusal"}),
}


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
    if "model" not in body:
        raise missing_model()
    model = body["model"]
    if not isinstance(model, str):
        raise unreadable_body()
    if "messages" not in body:
        raise missing_parameter("messages")
    for name in body:
        if name not in _PARAMETERS:
            raise unknown_parameter(name)
    messages = body["messages"]
    _check_messages(messages)
    _check_fields(body)
    _check_model(model, body)
    for position, message in enumerate(messages):
        _check_sound(message)
        audio = message.get("audio")
        if audio is not None and not knows_audio(audio["id"]):
            param = f"content.messages[{position}].audio.id"
            raise Refused(f"Assistant audio {audio['id']} not found.", param, "audio_not_found")
    _check_tool_exchanges(messages)
    _check_content(messages)


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list):
        raise invalid_type("messages", "an array of objects", messages)
    if not messages:
        raise empty_array("messages")
    for position, message in enumerate(messages):
        path = f"messages[{position}]"
        if not isinstance(message, dict):
            raise invalid_type(path, "an object", message)
        if "role" not in message:
            raise missing_parameter(f"{path}.role")
        role = message["role"]
        if not isinstance(role, str) or role not in _ROLES:
            raise invalid_value(role, _ROLES, f"{path}.role")
        for name in message:
            if name not in _ROLES[role]:
                raise unknown_parameter(f"{path}.{name}")
        _check_parts(message.get("content"), f"{path}.content")
        if role == "assistant":
            _check_assistant(message, path)
        elif role == "tool":
            _check_string(message, "tool_call_id", path)


def _check_assistant(message: dict[str, Any], path: str) -> None:
    audio = message.get("audio")
    if audio is not None:
        if not isinstance(audio, dict):
            raise invalid_type(f"{path}.audio", "an object", audio)
        for name in audio:
            if name != "id":
                raise unknown_parameter(f"{path}.audio.{name}")
        _check_string(audio, "id", f"{path}.audio")
    calls = message.get("tool_calls")
    if calls is None:
        return
    if not isinstance(calls, list):
        raise invalid_type(f"{path}.tool_calls", "an array of objects", calls)
    if not calls:
        raise empty_array(f"{path}.tool_calls")
    for index, call in enumerate(calls):
        place = f"{path}.tool_calls[{index}]"
        if not isinstance(call, dict):
            raise invalid_type(place, "an object", call)
        for name in ("id", "type"):
            _check_string(call, name, place)
        if call["type"] not in ("function", "custom"):
            raise invalid_value(call["type"], ("function", "custom"), f"{place}.type")
        body = call.get(call["type"])
        for name in ("name", "arguments" if call["type"] == "function" else "input"):
            _check_string(body if isinstance(body, dict) else {}, name, f"{place}.{call['type']}")


def _check_parts(content: Any, path: str) -> None:
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        raise invalid_type(path, "one of a string or array of objects", content)
    for index, part in enumerate(content):
        place = f"{path}[{index}]"
        if not isinstance(part, dict):
            raise invalid_type(place, "an object", part)
        kind = part.get("type")
        if not isinstance(kind, str) or kind not in _PARTS:
            raise invalid_value(kind, ("text", "image_url", "input_audio", "file"), f"{place}.type")
        body = part if kind in ("text", "refusal") else part.get(kind)
        if not isinstance(body, dict):
            raise missing_parameter(f"{place}.{kind}")
        for name in part:
            if name not in ("type", kind):
                raise unknown_parameter(f"{place}.{name}")
        if body is part:
            if not isinstance(part.get(kind), str):
                raise invalid_type(f"{place}.{kind}", "a string", part.get(kind))
            continue
        for name in body:
            if name not in _PARTS[kind]:
                raise unknown_parameter(f"{place}.{kind}.{name}")
        if kind == "input_audio":
            for name in ("data", "format"):
                if name not in body:
                    raise missing_parameter(f"{place}.input_audio.{name}")
            if body["format"] not in ("wav", "mp3"):
                raise invalid_value(body["format"], ("wav", "mp3"), f"{place}.input_audio.format")


def _check_fields(body: Mapping[str, Any]) -> None:
    for name, expected, kind in (
        ("n", "an integer", int),
        ("stream_options", "an object", dict),
        ("response_format", "an object", dict),
    ):
        if body.get(name) is not None and not isinstance(body[name], kind):
            raise invalid_type(name, expected, body[name])
    n = body.get("n")
    if n is not None and n < 1:
        message = (
            f"Invalid 'n': integer below minimum value. Expected a value >= 1, but got {n} instead."
        )
        raise Refused(message, "n", "integer_below_min_value")
    if n is not None and n > 128:
        message = (
            f"Invalid 'n': integer above maximum value. Expected a value <= 128, but got {n} "
            "instead."
        )
        raise Refused(message, "n", "integer_above_max_value")
    modalities = body.get("modalities")
    if modalities is None:
        return
    if not isinstance(modalities, list):
        raise invalid_type("modalities", "an array of strings", modalities)
    for index, modality in enumerate(modalities):
        if modality not in ("text", "audio"):
            raise invalid_value(modality, ("text", "audio"), f"modalities[{index}]")
    if "text" not in modalities:
        message = (
            f"Invalid value: {modalities}. Supported values are: ['text'] and ['text', 'audio']."
        )
        raise Refused(message, "modalities", "invalid_value")


def _check_model(model: str, body: Mapping[str, Any]) -> None:
    if not _models.is_chat_model(model):
        raise model_not_found(model)
    messages = body["messages"]
    hears = [i for i, message in enumerate(messages) if _has_sound(message)]
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
        return
    if body.get("audio") is not None:
        _check_audio_parameter(body["audio"])
    if speaks:
        _check_audio_output(body)
    elif not hears:
        message = "This model requires that either input content or output modality contain audio."
        raise Refused(message, "model", "invalid_value")
    response_format = body.get("response_format")
    if response_format is not None and response_format.get("type") == "json_schema":
        message = (
            "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this "
            "model."
        )
        raise Refused(message, "response_format")


def _check_audio_parameter(audio: Any) -> None:
    if not isinstance(audio, dict):
        raise invalid_type("audio", "an object", audio)
    for name in ("voice", "format"):
        if name not in audio:
            raise missing_parameter(f"audio.{name}")
    if audio["format"] not in FORMATS:
        raise invalid_value(audio["format"], FORMATS, "audio.format")


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
    if audio_format not in _voice.FORMATS:
        raise unsupported_here(f"'{audio_format}'", "audio.format")


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
        if message.get("content") is None and not any(message.get(name) for name in others):
            text = "Invalid value for 'content': expected a string, got null."
            raise Refused(text, f"messages.[{position}].content")


def _has_sound(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    return isinstance(content, list) and any(part["type"] == "input_audio" for part in content)


def _check_string(values: Mapping[str, Any], name: str, path: str) -> None:
    if name not in values:
        raise missing_parameter(f"{path}.{name}")
    if not isinstance(values[name], str):
        raise invalid_type(f"{path}.{name}", "a string", values[name])

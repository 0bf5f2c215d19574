"""Shapes of all parameters of a chat completion request (CONTRACT §3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conversation.testing._refusals import (
    Refused,
    invalid_type,
    missing_parameter,
    unknown_parameter,
)
from conversation.testing._shapes import (
    Shape,
    array,
    number,
    of_type,
    one_of,
    record,
    string_or,
    tagged,
    text,
)
from conversation.testing._strict import bare_array_in, fault_in

_NAME = text(64, "^[a-zA-Z0-9_-]+$")
_BOOLEAN = of_type(bool, "a boolean")
_OBJECT = of_type(dict, "an object")
_DECIMAL = number("a decimal")
_PENALTY = number("a decimal", -2, 2)
_TOKENS = number("an integer", 1)
_ARRAY_OF_STRINGS = "an array of strings"
_ARRAY_OF_OBJECTS = "an array of objects"
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def _part(kind: str, body: Shape) -> Shape:
    breakpoint_ = record({"mode": one_of("explicit")}, {"ttl": one_of("30m", "12h")})
    return record({"type": text(), kind: body}, {"prompt_cache_breakpoint": breakpoint_})


_PART = tagged(
    {
        "text": _part("text", text()),
        "image_url": _part(
            "image_url",
            record({"url": text()}, {"detail": one_of("auto", "low", "high", "original")}),
        ),
        "input_audio": _part(
            "input_audio", record({"data": text(), "format": one_of("wav", "mp3")})
        ),
        "refusal": _part("refusal", text()),
        "file": _part(
            "file", record({}, {"file_data": text(), "file_id": text(), "filename": text()})
        ),
    }
)
_CONTENT = string_or(array(_PART, ""), list, "a string or array of objects")
_FUNCTION_CALL = record({"name": text(), "arguments": text()})
_MESSAGE: Mapping[str, Shape] = {
    "content": _CONTENT,
    "name": _NAME,
    "audio": record({"id": text()}),
    "refusal": text(),
    "annotations": array(_OBJECT, _ARRAY_OF_OBJECTS),
    "tool_calls": array(
        tagged(
            {
                "function": record({"id": text(40), "type": text(), "function": _FUNCTION_CALL}),
                "custom": record(
                    {
                        "id": text(40),
                        "type": text(),
                        "custom": record({"name": text(), "input": text()}),
                    }
                ),
            }
        ),
        _ARRAY_OF_OBJECTS,
        least=1,
    ),
    "function_call": _FUNCTION_CALL,
    "tool_call_id": text(40),
}
_ROLE = one_of("system", "assistant", "user", "function", "tool", "developer")
_REQUIRED = {"tool": "tool_call_id", "function": "name", "developer": "content"}


def _message(value: Any, path: str) -> None:
    """Check a message. A key that is known for one role is accepted with all (recorded)."""
    _OBJECT(value, path)
    if "role" not in value:
        raise missing_parameter(f"{path}.role")
    _ROLE(value["role"], f"{path}.role")
    required = _REQUIRED.get(value["role"])
    if required and required not in value:
        raise missing_parameter(f"{path}.{required}")
    for name in value:
        if name != "role" and name not in _MESSAGE:
            raise unknown_parameter(f"{path}.{name}")
    for name, shape in _MESSAGE.items():
        if value.get(name) is not None or (name == required and name in value):
            shape(value[name], f"{path}.{name}")


_FUNCTION_FIELDS = record(
    {"name": _NAME}, {"description": text(), "parameters": _OBJECT, "strict": _BOOLEAN}
)


def _function(value: Any, path: str) -> None:
    _FUNCTION_FIELDS(value, path)
    schema = value.get("parameters")
    if schema and schema.get("type") != "object":
        message = (
            f"Invalid schema for function '{value['name']}': schema must be a JSON Schema of "
            f"'type: \"object\"', got 'type: \"{schema.get('type')}\"'."
        )
        raise Refused(message, f"{path}.parameters", "invalid_function_parameters")
    fault = bare_array_in(schema) or (value.get("strict") and schema and fault_in(schema))
    if fault:
        message = f"Invalid schema for function '{value['name']}': {fault}"
        raise Refused(message, f"{path}.parameters", "invalid_function_parameters")


_GRAMMAR = record({"definition": text(), "syntax": one_of("lark", "regex")})
_CUSTOM_FORMAT = tagged(
    {
        "text": record({"type": text()}),
        "grammar": record({"type": text(), "grammar": _GRAMMAR}),
    }
)
_CUSTOM = record({"name": _NAME}, {"description": text(), "format": _CUSTOM_FORMAT})
_TOOL = tagged(
    {
        "function": record({"type": text(), "function": _function}),
        "custom": record({"type": text(), "custom": _CUSTOM}),
    }
)
_NAMED = record({"name": text()})
_ANY_NAMED = record({"name": text()}, closed=False)
_ALLOWED_TOOL = tagged(
    {kind: record({"type": text(), kind: _ANY_NAMED}) for kind in ("function", "custom")}
)
_ALLOWED = record(
    {"mode": one_of("auto", "required"), "tools": array(_ALLOWED_TOOL, _ARRAY_OF_OBJECTS, least=1)}
)


def _tool_choice_object(value: Any, path: str) -> None:
    # `function` is required whatever the type says, as long as it is no other known one (recorded).
    kind = value.get("type")
    kind = kind if kind in ("custom", "allowed_tools") else "function"
    shape = _ALLOWED if kind == "allowed_tools" else _NAMED
    record({kind: shape, "type": one_of("function", "custom", "allowed_tools")})(value, path)


def _metadata(value: Any, path: str) -> None:
    if not isinstance(value, dict):
        raise invalid_type(path, "a metadata object", value)
    if len(value) > 16:
        message = (
            f"Invalid '{path}': too many properties. Expected an object with at most 16 "
            f"properties, but got an object with {len(value)} properties instead."
        )
        raise Refused(message, path, "object_above_max_properties")
    for name, element in value.items():
        place = f"{path}.{name}"
        if len(name) > 64:
            message = (
                f"Invalid property name in '{path}': '{name[:3]}...{name[-3:]}' is too long. "
                f"Expected a string with maximum length 64, but got a string with length "
                f"{len(name)} instead."
            )
            raise Refused(message, place, "property_name_above_max_length")
        text(512)(element, place)


def _logit_bias(value: Any, path: str) -> None:
    _OBJECT(value, path)
    for name, bias in value.items():
        number("a decimal", -100, 100)(bias, f"{path}.{name}")


def _prompt_cache_retention(value: Any, path: str) -> None:
    values = ("in_memory", "24h")
    if isinstance(value, str) and value not in values:
        raise Refused(f"Invalid {path} argument", path)
    one_of(*values)(value, path)


def _modalities(value: Any, path: str) -> None:
    array(one_of("text", "audio"), _ARRAY_OF_STRINGS)(value, path)
    if "text" not in value:
        message = f"Invalid value: {value}. Supported values are: ['text'] and ['text', 'audio']."
        raise Refused(message, path, "invalid_value")


_MODERATION_MODE = record({"mode": one_of("score", "block")})
_JSON_SCHEMA_FIELDS = record(
    {"name": _NAME}, {"description": text(), "schema": _OBJECT, "strict": _BOOLEAN}
)


def _json_schema(value: Any, path: str) -> None:
    _JSON_SCHEMA_FIELDS(value, path)
    schema = value.get("schema")
    fault = bare_array_in(schema) or (value.get("strict") and fault_in(schema))
    if fault:
        message = f"Invalid schema for response_format '{value['name']}': {fault}"
        raise Refused(message, "response_format")


_PLACE = record({}, dict.fromkeys(("city", "country", "region", "timezone"), text()))

PARAMETERS: Mapping[str, Shape] = {
    "messages": array(_message, _ARRAY_OF_OBJECTS, least=1),
    "functions": array(_function, "an array of function definitions", least=1),
    "function_call": string_or(
        _NAMED, dict, "one of 'none' or 'auto' or object", one_of("none", "auto")
    ),
    "tools": array(_TOOL, _ARRAY_OF_OBJECTS, least=1, most=128),
    "tool_choice": string_or(
        _tool_choice_object,
        dict,
        "one of 'none', 'auto', or 'required' or object",
        one_of("none", "auto", "required"),
    ),
    "parallel_tool_calls": _BOOLEAN,
    "max_completion_tokens": _TOKENS,
    "n": number("an integer", 1, 128),
    "temperature": number("a decimal", 0, 2),
    "top_p": number("a decimal", 0, 1),
    "presence_penalty": _PENALTY,
    "frequency_penalty": _PENALTY,
    "logprobs": _BOOLEAN,
    "top_logprobs": number("an integer", 0),
    "user": text(),
    "seed": number("an integer"),
    "moderation": record(
        {"model": text()},
        {"policy": record({}, {"input": _MODERATION_MODE, "output": _MODERATION_MODE})},
    ),
    "safety_identifier": text(128),
    "prompt_cache_options": record(
        {}, {"mode": one_of("implicit", "explicit"), "ttl": one_of("30m")}
    ),
    "prompt_cache_key": text(64),
    "prompt_cache_retention": _prompt_cache_retention,
    "response_format": tagged(
        {
            "json_object": record({"type": text()}),
            "json_schema": record({"type": text(), "json_schema": _json_schema}),
            "text": record({"type": text()}),
        }
    ),
    "service_tier": one_of("auto", "default", "fast", "flex", "priority", also=("scale",)),
    "max_tokens": _TOKENS,
    "reasoning_effort": one_of(*_EFFORTS),
    "logit_bias": _logit_bias,
    "stop": string_or(array(text(), "", most=4), list, "a string or array of strings"),
    "stream": _BOOLEAN,
    "stream_options": record({}, {"include_usage": _BOOLEAN, "include_obfuscation": _BOOLEAN}),
    "store": _BOOLEAN,
    "metadata": _metadata,
    "prediction": record({"type": one_of("content"), "content": _CONTENT}),
    "verbosity": one_of("low", "medium", "high"),
    "web_search_options": record(
        {},
        {
            "search_context_size": one_of("low", "medium", "high"),
            "user_location": record({"type": one_of("approximate"), "approximate": _PLACE}),
        },
    ),
    "modalities": _modalities,
}
"""All parameters but `model` and `audio`, in the order in which the API checks them (recorded)."""

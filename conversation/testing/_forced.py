"""Parts of an answer that the request forces: tool calls, and JSON instead of prose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from conversation.testing._refusals import Refused
from conversation.testing._schemas import example


def chosen_tools(request: Mapping[str, Any]) -> list[str]:
    """Return the names of the tools that `tool_choice` names."""
    choice = request.get("tool_choice")
    if not isinstance(choice, dict):
        return []
    if choice["type"] == "allowed_tools":
        return [name_of(tool) for tool in choice["allowed_tools"]["tools"]]
    return [name_of(choice)]


def forced_call(request: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return type, name and arguments of the call that is forced, made of the schema.

    The type of one that the older `function_call` forces is `"function_call"`.
    """
    if isinstance(legacy := request.get("function_call"), dict):
        names = [function["name"] for function in request["functions"]]
        position = names.index(legacy["name"])
        schema = request["functions"][position].get("parameters")
        return "function_call", legacy["name"], _made(schema, f"functions[{position}].parameters")
    choice = request.get("tool_choice")
    tools: list[dict[str, Any]] = request.get("tools") or []
    names = chosen_tools(request)
    if isinstance(choice, dict):
        if choice["type"] == "allowed_tools" and choice["allowed_tools"]["mode"] == "auto":
            return None
        tools = [tool for tool in tools if name_of(tool) == names[0]]
    elif choice != "required":
        return None
    kind = tools[0]["type"]
    if kind == "custom":
        return kind, name_of(tools[0]), _input(tools[0]["custom"].get("format") or {})
    position = request["tools"].index(tools[0])
    path = f"tools[{position}].function.parameters"
    return kind, name_of(tools[0]), _made(tools[0]["function"].get("parameters"), path)


def formatted(text: str, request: Mapping[str, Any]) -> str:
    """Return the text in the `response_format` of the request: JSON, or as it is."""
    response_format = request.get("response_format") or {}
    if response_format.get("type") == "json_object":
        return orjson.dumps({"answer": text}).decode()
    if response_format.get("type") == "json_schema":
        return _made(response_format["json_schema"].get("schema"), "response_format")
    return text


def _input(form: Mapping[str, Any]) -> str:
    """Return text for a custom tool: one that fits its regular expression, if that is simple."""
    grammar = form.get("grammar") or {}
    pattern = f"^(?:{grammar.get('definition')})$" if grammar.get("syntax") == "regex" else ".*"
    return str(example({"type": "string", "pattern": pattern}))


def _made(schema: Mapping[str, Any] | None, path: str) -> str:
    try:
        return orjson.dumps(example({"type": "object", **(schema or {})})).decode()
    except (
        ArithmeticError,
        AttributeError,
        KeyError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        message = f"Invalid schema for '{path}': no value fits it, or it is no JSON Schema."
        raise Refused(message, path, "invalid_function_parameters") from error


def name_of(tool: Mapping[str, Any]) -> str:
    """Return the name of a tool, or of one that is chosen."""
    name: str = tool[tool["type"]]["name"]
    return name

"""Parts of an answer that the request forces: tool calls, and JSON instead of prose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from conversation.testing._schemas import example


def chosen_tools(request: Mapping[str, Any]) -> list[str]:
    """Return the names of the tools that `tool_choice` names."""
    choice = request.get("tool_choice")
    if not isinstance(choice, dict):
        return []
    if choice["type"] == "allowed_tools":
        return [_name(tool) for tool in choice["allowed_tools"]["tools"]]
    return [_name(choice)]


def forced_call(request: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return type, name and arguments of the call that `tool_choice` forces, made of the schema."""
    choice = request.get("tool_choice")
    tools: list[dict[str, Any]] = request.get("tools") or []
    names = chosen_tools(request)
    if isinstance(choice, dict):
        if choice["type"] == "allowed_tools" and choice["allowed_tools"]["mode"] == "auto":
            return None
        tools = [tool for tool in tools if _name(tool) == names[0]]
    elif choice != "required":
        return None
    kind = tools[0]["type"]
    if kind == "custom":
        return kind, _name(tools[0]), "text"
    schema = tools[0]["function"].get("parameters") or {}
    arguments = example({"type": "object", **schema})
    return kind, _name(tools[0]), orjson.dumps(arguments).decode()


def formatted(text: str, request: Mapping[str, Any]) -> str:
    """Return the text in the `response_format` of the request: JSON, or as it is."""
    response_format = request.get("response_format") or {}
    if response_format.get("type") == "json_object":
        return orjson.dumps({"answer": text}).decode()
    if response_format.get("type") == "json_schema":
        schema = response_format["json_schema"].get("schema") or {}
        return orjson.dumps(example({"type": "object", **schema})).decode()
    return text


def _name(tool: Mapping[str, Any]) -> str:
    body = tool.get(tool.get("type", "function"))
    name = body.get("name") if isinstance(body, dict) else None
    return name if isinstance(name, str) else ""

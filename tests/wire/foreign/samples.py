"""One short history in the formats of many programs."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from tests.samples import PNG, SOUND

PCM = b"\1\0" * 2400
"""A tenth of a second, as the Realtime API sends sound: 24 kHz mono s16le without a header."""


def encoded(data: bytes) -> str:
    """Return bytes as base64."""
    return base64.b64encode(data).decode()


def call(call_id: str, name: str = "weather", arguments: str = '{"city":"Oslo"}') -> dict[str, Any]:
    """Return a tool call of Chat Completions."""
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


PICTURE = f"data:image/png;base64,{encoded(PNG)}"

SHOWN: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "Shall I take this?"},
            {"type": "image_url", "image_url": {"url": PICTURE}},
        ],
    },
    {"role": "assistant", "content": "Let me see.", "tool_calls": [call("call_1")]},
    {"role": "tool", "tool_call_id": "call_1", "content": "Rain"},
    {"role": "assistant", "content": "Take it."},
]
"""The history as it is sent."""


def spoken_of(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the history without its picture, for formats that have none."""
    return [
        {**message, "content": "Shall I take this?"} if message["role"] == "user" else message
        for message in messages
    ]


RESPONSES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {
        "type": "message",
        "role": "user",
        "content": [
            {"type": "input_text", "text": "Shall I take this?"},
            {"type": "input_image", "image_url": PICTURE, "detail": None},
        ],
    },
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm"}]},
    {
        "type": "message",
        "id": "msg_1",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Let me see.", "annotations": []}],
    },
    {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "weather",
        "arguments": '{"city":"Oslo"}',
        "status": "completed",
    },
    {"type": "function_call_output", "call_id": "call_1", "output": "Rain"},
    {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Take it."}],
    },
]

REALTIME: list[dict[str, Any]] = [
    {
        "type": "message",
        "role": "system",
        "object": "realtime.item",
        "content": [{"type": "input_text", "text": "Be brief."}],
    },
    {
        "type": "message",
        "role": "user",
        "content": [
            {"type": "input_text", "text": "Shall I take this?"},
            {"type": "input_image", "image_url": PICTURE},
        ],
    },
    {
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_audio", "transcript": "Let me see."}],
    },
    {
        "type": "function_call",
        "id": "item_4",
        "call_id": "call_1",
        "name": "weather",
        "arguments": '{"city":"Oslo"}',
    },
    {"type": "function_call_output", "id": "item_5", "call_id": "call_1", "output": "Rain"},
    {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "audio", "transcript": "Take it.", "audio": encoded(PCM)}],
    },
]

_LANGCHAIN: list[tuple[str, dict[str, Any]]] = [
    ("system", {"content": "Be brief."}),
    (
        "human",
        {
            "content": [
                "Shall I take this?",
                {"type": "image", "base64": encoded(PNG), "mime_type": "image/png"},
            ]
        },
    ),
    (
        "ai",
        {
            "content": [
                {"type": "reasoning", "reasoning": "Hm"},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}},
            ],
            "tool_calls": [
                {"type": "tool_call", "id": "call_1", "name": "weather", "args": {"city": "Oslo"}}
            ],
            "invalid_tool_calls": [],
            "usage_metadata": None,
        },
    ),
    ("tool", {"content": "Rain", "tool_call_id": "call_1", "status": "success"}),
    ("ai", {"content": "Take it.", "tool_calls": []}),
]
_CLASSES = {
    "system": "SystemMessage",
    "human": "HumanMessage",
    "ai": "AIMessage",
    "tool": "ToolMessage",
}
_EMPTY: dict[str, Any] = {"additional_kwargs": {}, "response_metadata": {}, "name": None}

LANGCHAIN_DUMPED = [{**_EMPTY, **body, "type": kind} for kind, body in _LANGCHAIN]
LANGCHAIN_DICTS = [
    {"type": kind, "data": {**_EMPTY, **body, "type": kind}} for kind, body in _LANGCHAIN
]
LANGCHAIN_CONSTRUCTORS = [
    {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", "schema", "messages", _CLASSES[kind]],
        "kwargs": body,
    }
    for kind, body in _LANGCHAIN
]

PYDANTIC_AI: list[dict[str, Any]] = [
    {
        "kind": "request",
        "instructions": "Be brief.",
        "parts": [
            {
                "part_kind": "user-prompt",
                "timestamp": "2026-01-02T03:04:05Z",
                "content": [
                    "Shall I take this?",
                    {
                        "kind": "binary",
                        "data": encoded(PNG).replace("+", "-").replace("/", "_"),
                        "media_type": "image/png",
                    },
                ],
            }
        ],
    },
    {
        "kind": "response",
        "model_name": "m",
        "parts": [
            {"part_kind": "thinking", "content": "Hm"},
            {"part_kind": "text", "content": "Let me see."},
            {
                "part_kind": "tool-call",
                "tool_name": "weather",
                "args": {"city": "Oslo"},
                "tool_call_id": "call_1",
            },
        ],
    },
    {
        "kind": "request",
        "instructions": "Be brief.",
        "parts": [
            {
                "part_kind": "tool-return",
                "tool_name": "weather",
                "content": "Rain",
                "tool_call_id": "call_1",
            }
        ],
    },
    {"kind": "response", "parts": [{"part_kind": "text", "content": "Take it."}]},
]

SHAREGPT: dict[str, Any] = {
    "id": "dog-1",
    "system": "Be brief.",
    "conversations": [
        {"from": "human", "value": "Shall I take this?"},
        {"from": "gpt", "value": "Let me see."},
        {"from": "function_call", "value": '{"name":"weather","arguments":{"city":"Oslo"}}'},
        {"from": "observation", "value": "Rain"},
        {"from": "gpt", "value": "Take it."},
    ],
}


def _node(name: str, parent: str | None, message: dict[str, Any] | None) -> dict[str, Any]:
    return {"id": name, "message": message, "parent": parent, "children": []}


def _written(role: str, *parts: Any, kind: str = "text", **more: Any) -> dict[str, Any]:
    content = {"content_type": kind, "parts": list(parts)}
    return {"author": {"role": role}, "content": content, "recipient": "all", **more}


def chatgpt(title: str = "An umbrella", number: int = 1) -> dict[str, Any]:
    """Return a conversation of ChatGPT's export, with a question that was edited."""
    pointer = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-1"}
    heard = {"content_type": "audio_transcription", "text": "Shall I take this?"}
    code = {
        **_written("assistant"),
        "content": {"content_type": "code", "language": "json", "text": '{"city":"Oslo"}'},
        "recipient": "weather",
    }
    thoughts = {**_written("assistant"), "content": {"content_type": "thoughts", "thoughts": []}}
    path = [
        ("root", None),
        ("empty", _written("system", "", metadata={"is_visually_hidden_from_conversation": True})),
        ("system", _written("system", "Be brief.")),
        ("question", _written("user", pointer, heard, kind="multimodal_text")),
        ("thoughts", thoughts),
        ("answer", _written("assistant", "Let me see.")),
        ("call", code),
        ("result", _written("tool", "Rain")),
        ("end", _written("assistant", "Take it.")),
    ]
    nodes, before = {}, None
    for name, message in path:
        nodes[name] = _node(name, before, message)
        before = name
    nodes["edited"] = _node("edited", "system", _written("user", "Never asked"))
    return {
        "title": title,
        "conversation_id": f"6650c0de-{number}",
        "current_node": "end",
        "mapping": nodes,
    }


WITHOUT_PICTURE = ("ShareGPT", "ChatGPT's export")

HISTORIES: dict[str, Callable[[], Any]] = {
    "Chat Completions": lambda: SHOWN,
    "a request": lambda: {"model": "m", "messages": SHOWN},
    "a line of a batch": lambda: {"custom_id": "1", "method": "POST", "body": {"messages": SHOWN}},
    "an object with one list": lambda: {"ann": SHOWN, "version": 2},
    "Responses": lambda: RESPONSES,
    "a response": lambda: {"object": "response", "input": RESPONSES},
    "Realtime": lambda: REALTIME,
    "LangChain, dumped": lambda: LANGCHAIN_DUMPED,
    "LangChain, dicts": lambda: LANGCHAIN_DICTS,
    "LangChain, constructors": lambda: LANGCHAIN_CONSTRUCTORS,
    "pydantic-ai": lambda: PYDANTIC_AI,
    "ShareGPT": lambda: SHAREGPT,
    "ChatGPT's export": chatgpt,
    "a list of one": lambda: [{"messages": SHOWN}],
    "a request of the Responses API": lambda: {"instructions": "Be brief.", "input": RESPONSES[1:]},
    "Open WebUI": lambda: [{"id": "1", "title": "x", "chat": {"messages": SHOWN, "history": {}}}],
    "pages of a list": lambda: {"object": "list", "data": SHOWN, "has_more": False},
}
"""Each is the same history."""

SOUNDS = {"wav": encoded(SOUND), "raw": encoded(PCM)}

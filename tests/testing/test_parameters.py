"""Every parameter of a chat request: what is refused, in which words and order, and what is not."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import pytest
from openai import OpenAI
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming

from conversation.testing import StandIn
from conversation.testing._parameters import PARAMETERS
from conversation.testing._voice import VOICES
from tests.samples import SOUND
from tests.testing.test_stand_in import (
    HELLO,
    UNKNOWN_ID,
    Json,
    answered,
    ask,
    asking,
    assistant,
    calls,
    empty,
    missing,
    refusal,
    result,
    sound,
    unknown,
    user,
    writing,
    wrong_type,
)

Fault = tuple[str, str | None, str | None]

TOOL: Json = {"type": "function", "function": {"name": "f", "parameters": {}}}
LONG_NAME = "k" * 70


def enumerated(path: str, found: str, *values: str) -> Fault:
    """Return message, param and code for a value that is not in a list."""
    *most, last = [f"'{value}'" for value in values]
    listed = f"{', '.join(most)}{',' if len(most) > 1 else ''} and {last}"
    return f"Invalid value: '{found}'. Supported values are: {listed}.", path, "invalid_value"


def bound(path: str, kind: str, side: str, limit: str, found: str) -> Fault:
    """Return message, param and code for a number outside of its bounds."""
    name = f"{kind}_{side}_{'min' if side == 'below' else 'max'}_value"
    words = f"{side} {'minimum' if side == 'below' else 'maximum'} value"
    message = (
        f"Invalid '{path}': {kind} {words}. Expected a value {limit}, but got {found} instead."
    )
    return message, path, name


def long(path: str, kind: str, most: int, length: int) -> Fault:
    """Return message, param and code for a string or array that is too long."""
    one = f"{'a' if kind == 'string' else 'an'} {kind}"
    message = f"Invalid '{path}': {kind} too long. Expected {one} with maximum length {most}, but "
    return f"{message}got {one} with length {length} instead.", path, f"{kind}_above_max_length"


def pattern(path: str) -> Fault:
    """Return message, param and code for a name with characters that names cannot have."""
    words = "string does not match pattern. Expected a string that matches the pattern"
    return f"Invalid '{path}': {words} '^[a-zA-Z0-9_-]+$'.", path, "invalid_value"


def alone(name: str, other: str) -> Fault:
    """Return message, param and code for a parameter without the one it belongs to."""
    text = f"Invalid value for '{name}': '{name}' is only allowed when '{other}' are specified."
    return text, name, None


def off(name: str, other: str) -> Fault:
    """Return message, param and code for a parameter of a feature that is off."""
    return f"The '{name}' parameter is only allowed when '{other}' is enabled.", name, None


def undeclared(name: str) -> Fault:
    """Return message, param and code for a forced tool that is not among the tools."""
    text = f"no function named '{name}' was specified in the 'functions' parameter."
    return f"Invalid value for 'function_call': {text}", "function_call", None


def named(**changes: Any) -> Json:
    """Return a tool with these fields of its function."""
    return {"type": "function", "function": changes}


def called(**changes: Any) -> Json:
    """Return an assistant message with a tool call with these changes."""
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}, **changes}
    return assistant(tool_calls=[call])


def text_part(**changes: Any) -> Json:
    """Return a message of a text part with these changes."""
    part = {"type": "text", "text": "Hello", **changes}
    return user({name: value for name, value in part.items() if value is not None})


PLAIN_JSON = (
    (
        "'messages' must contain the word 'json' in some form, to use 'response_format' of type "
        "'json_object'."
    ),
    "messages",
    None,
)
ROLES = ("system", "assistant", "user", "function", "tool", "developer")
KINDS = ("text", "image_url", "input_audio", "refusal", "file")
OBJECT = {"type": "json_object"}
MODES = "expected one of one of 'none', 'auto', or 'required' or object"
TIERS = ("auto", "default", "fast", "flex", "priority")

REFUSED: dict[str, tuple[Json, Fault]] = {
    # Types.
    "temperature of text": (
        asking(temperature="hot"),
        wrong_type("temperature", "a decimal", "a string"),
    ),
    "top_p of truth": (asking(top_p=True), wrong_type("top_p", "a decimal", "a boolean")),
    "seed of a fraction": (asking(seed=1.5), wrong_type("seed", "an integer", "a decimal number")),
    "n of truth": (asking(n=True), wrong_type("n", "an integer", "a boolean")),
    "store of text": (asking(store="yes"), wrong_type("store", "a boolean", "a string")),
    "stream of text": (asking(stream="y"), wrong_type("stream", "a boolean", "a string")),
    "user of an object": (asking(user={}), wrong_type("user", "a string", "an object")),
    "tools of text": (asking(tools="x"), wrong_type("tools", "an array of objects", "a string")),
    "a tool of text": (asking(tools=["x"]), wrong_type("tools[0]", "an object", "a string")),
    "functions of text": (
        asking(functions="x"),
        wrong_type("functions", "an array of function definitions", "a string"),
    ),
    "tool_choice of a number": (
        asking(tools=[TOOL], tool_choice=7),
        (
            f"Invalid type for 'tool_choice': {MODES}, but got an integer instead.",
            "tool_choice",
            "invalid_type",
        ),
    ),
    "metadata of text": (
        asking(metadata="x"),
        wrong_type("metadata", "a metadata object", "a string"),
    ),
    "metadata of numbers": (
        asking(metadata={"k": 7}),
        wrong_type("metadata.k", "a string", "an integer"),
    ),
    "service_tier of an object": (
        asking(service_tier={}),
        wrong_type(
            "service_tier",
            "one of 'auto', 'default', 'fast', 'flex', or 'priority'",
            "an object",
        ),
    ),
    "prompt_cache_retention of an object": (
        asking(prompt_cache_retention={}),
        wrong_type("prompt_cache_retention", "one of 'in_memory' or '24h'", "an object"),
    ),
    "stop of a number": (
        asking(stop=7),
        wrong_type("stop", "one of a string or array of strings", "an integer"),
    ),
    "stop of numbers": (asking(stop=["a", 7]), wrong_type("stop[1]", "a string", "an integer")),
    "voice of a number": (
        asking(audio={"voice": 7, "format": "wav"}),
        wrong_type("audio.voice", "one of a string or object", "an integer"),
    ),
    "a message of text": (
        asking(messages=["ping"]),
        wrong_type("messages[0]", "an object", "a string"),
    ),
    "tool_calls of text": (
        asking(HELLO, assistant(content="x", tool_calls="x")),
        wrong_type("messages[1].tool_calls", "an array of objects", "a string"),
    ),
    "content before tool_calls": (
        asking(HELLO, assistant(content=7, tool_calls=[])),
        wrong_type("messages[1].content", "one of a string or array of objects", "an integer"),
    ),
    "content of a developer": (
        asking({"role": "developer", "content": None}),
        wrong_type("messages[0].content", "one of a string or array of objects", "null"),
    ),
    # Bounds.
    "temperature of 3": (
        asking(temperature=3),
        bound("temperature", "decimal", "above", "<= 2", "3"),
    ),
    "temperature below 0": (
        asking(temperature=-0.5),
        bound("temperature", "decimal", "below", ">= 0", "-0.5"),
    ),
    "top_p of 1.5": (asking(top_p=1.5), bound("top_p", "decimal", "above", "<= 1", "1.5")),
    "frequency_penalty of 3": (
        asking(frequency_penalty=3),
        bound("frequency_penalty", "decimal", "above", "<= 2", "3"),
    ),
    "presence_penalty of -3": (
        asking(presence_penalty=-3),
        bound("presence_penalty", "decimal", "below", ">= -2", "-3"),
    ),
    "max_completion_tokens of 0": (
        asking(max_completion_tokens=0),
        bound("max_completion_tokens", "integer", "below", ">= 1", "0"),
    ),
    "max_tokens of -1": (
        asking(max_tokens=-1),
        bound("max_tokens", "integer", "below", ">= 1", "-1"),
    ),
    "max_tokens of 20000": (
        asking(max_tokens=20_000),
        (
            (
                "max_tokens is too large: 20000. This model supports at most "
                "16384 completion tokens, "
                "whereas you provided 20000."
            ),
            "max_tokens",
            "invalid_value",
        ),
    ),
    "top_logprobs of -1": (
        asking(logprobs=True, top_logprobs=-1),
        bound("top_logprobs", "integer", "below", ">= 0", "-1"),
    ),
    "top_logprobs of 21": (
        asking(logprobs=True, top_logprobs=21),
        (
            "Invalid value for 'top_logprobs': must be less than or equal to 20.",
            "top_logprobs",
            None,
        ),
    ),
    "logit_bias of 101": (
        asking(logit_bias={"50256": 101}),
        bound("logit_bias.50256", "decimal", "above", "<= 100", "101"),
    ),
    "five stops": (asking(stop=list("abcde")), long("stop", "array", 4, 5)),
    "129 tools": (asking(tools=[TOOL] * 129), long("tools", "array", 128, 129)),
    "no tools in tools": (asking(tools=[]), empty("tools")),
    "no functions in functions": (asking(functions=[]), empty("functions")),
    "a long prompt_cache_key": (
        asking(prompt_cache_key="k" * 65),
        long("prompt_cache_key", "string", 64, 65),
    ),
    "17 pairs of metadata": (
        asking(metadata={f"k{number}": "v" for number in range(17)}),
        (
            (
                "Invalid 'metadata': too many properties. Expected an object with at most 16 "
                "properties, but got an object with 17 properties instead."
            ),
            "metadata",
            "object_above_max_properties",
        ),
    ),
    "a long value of metadata": (
        asking(metadata={"k": "x" * 600}),
        long("metadata.k", "string", 512, 600),
    ),
    "a long key of metadata": (
        asking(metadata={LONG_NAME: "v"}),
        (
            (
                "Invalid property name in 'metadata': 'kkk...kkk' is too long"
                ". Expected a string with "
                "maximum length 64, but got a string with length 70 instead."
            ),
            f"metadata.{LONG_NAME}",
            "property_name_above_max_length",
        ),
    ),
    # Names.
    "a tool with a dot": (asking(tools=[named(name="a.b")]), pattern("tools[0].function.name")),
    "a long tool": (
        asking(tools=[named(name="k" * 65)]),
        long("tools[0].function.name", "string", 64, 65),
    ),
    "a tool of no name": (
        asking(tools=[named(name="")]),
        (
            (
                "Invalid 'tools[0].function.name': empty strin"
                "g. Expected a string with minimum length "
                "1, but got an empty string instead."
            ),
            "tools[0].function.name",
            "empty_string",
        ),
    ),
    "a speaker with a blank": (asking({**HELLO, "name": "Ann B"}), pattern("messages[0].name")),
    "a long speaker": (
        asking({**HELLO, "name": "k" * 65}),
        long("messages[0].name", "string", 64, 65),
    ),
    # Enumerations.
    "service_tier": (asking(service_tier="x"), enumerated("service_tier", "x", *TIERS)),
    "verbosity": (asking(verbosity="x"), enumerated("verbosity", "x", "low", "medium", "high")),
    "reasoning_effort": (
        asking(reasoning_effort="x"),
        enumerated(
            "reasoning_effort", "x", "none", "minimal", "low", "medium", "high", "xhigh", "max"
        ),
    ),
    "response_format": (
        asking(response_format={"type": "xml"}),
        enumerated("response_format.type", "xml", "json_object", "json_schema", "text"),
    ),
    "role": (asking({"role": "x", "content": "y"}), enumerated("messages[0].role", "x", *ROLES)),
    "part": (asking(text_part(type="x")), enumerated("messages[0].content[0].type", "x", *KINDS)),
    "detail": (
        asking(user({"type": "image_url", "image_url": {"url": "x", "detail": "tiny"}})),
        enumerated(
            "messages[0].content[0].image_url.detail", "tiny", "auto", "low", "high", "original"
        ),
    ),
    "tool": (
        asking(tools=[{"type": "x"}]),
        enumerated("tools[0].type", "x", "function", "custom"),
    ),
    "tool_choice": (
        asking(tools=[TOOL], tool_choice="x"),
        enumerated("tool_choice", "x", "none", "auto", "required"),
    ),
    "prompt_cache_retention": (
        asking(prompt_cache_retention="x"),
        ("Invalid prompt_cache_retention argument", "prompt_cache_retention", None),
    ),
    # Missing.
    "response_format without type": (asking(response_format={}), missing("response_format.type")),
    "json_schema alone": (
        writing(response_format={"type": "json_schema"}),
        missing("response_format.json_schema"),
    ),
    "json_schema without name": (
        writing(response_format={"type": "json_schema", "json_schema": {}}),
        missing("response_format.json_schema.name"),
    ),
    "a part without type": (
        asking(HELLO, text_part(type=None)),
        missing("messages[1].content[0].type"),
    ),
    "a part without text": (asking(text_part(text=None)), missing("messages[0].content[0].text")),
    "a message without role": (asking({"content": "x"}), missing("messages[0].role")),
    "a developer without content": (
        asking(HELLO, {"role": "developer"}),
        missing("messages[1].content"),
    ),
    "a result without id": (
        asking(HELLO, {"role": "tool", "content": "x"}),
        missing("messages[1].tool_call_id"),
    ),
    "a tool of the Responses API": (
        asking(tools=[{"type": "function", "name": "f", "parameters": {}}]),
        missing("tools[0].function"),
    ),
    "a function without name": (
        asking(functions=[{"parameters": {}}]),
        missing("functions[0].name"),
    ),
    "a tool without name": (
        asking(tools=[named(parameters={})]),
        missing("tools[0].function.name"),
    ),
    "a call without type": (
        asking(HELLO, assistant(tool_calls=[{"id": "a", "function": {}}])),
        missing("messages[1].tool_calls[0].type"),
    ),
    "a call without arguments": (
        asking(HELLO, called(function={"name": "f"})),
        missing("messages[1].tool_calls[0].function.arguments"),
    ),
    "tool_choice of another type": (
        asking(tools=[TOOL], tool_choice={"type": "x"}),
        missing("tool_choice.function"),
    ),
    "tool_choice without name": (
        asking(tools=[TOOL], tool_choice={"type": "function", "function": {}}),
        missing("tool_choice.function.name"),
    ),
    "moderation without model": (asking(moderation={}), missing("moderation.model")),
    "sound without data": (
        asking(user({"type": "input_audio", "input_audio": {"format": "wav"}})),
        missing("messages[0].content[0].input_audio.data"),
    ),
    # Unknown keys.
    "stream_options.bogus": (
        asking(stream_options={"bogus": 1}),
        unknown("stream_options.bogus"),
    ),
    "prompt_cache_options.bogus": (
        asking(prompt_cache_options={"bogus": 1}),
        unknown("prompt_cache_options.bogus"),
    ),
    "audio.speed": (
        asking(audio={"voice": "alloy", "format": "wav", "speed": 2}),
        unknown("audio.speed"),
    ),
    "tools[0].function.bogus": (
        asking(tools=[named(name="f", bogus=1)]),
        unknown("tools[0].function.bogus"),
    ),
    "a key of the Responses API": (writing(reasoning={"effort": "low"}), unknown("reasoning")),
    "cache_control of another vendor": (
        asking(text_part(cache_control={"type": "ephemeral"})),
        unknown("messages[0].content[0].cache_control"),
    ),
    # Combinations.
    "tool_choice alone": (asking(tool_choice="none"), alone("tool_choice", "tools")),
    "parallel_tool_calls alone": (
        asking(parallel_tool_calls=False),
        alone("parallel_tool_calls", "tools"),
    ),
    "function_call alone": (asking(function_call="auto"), alone("function_call", "functions")),
    "stream_options alone": (
        asking(stream_options={"include_usage": True}),
        off("stream_options", "stream"),
    ),
    "stream_options without a stream": (
        asking(stream=False, stream_options={}),
        off("stream_options", "stream"),
    ),
    "top_logprobs alone": (asking(top_logprobs=1), off("top_logprobs", "logprobs")),
    "a tool that is not there": (
        asking(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "g"}}),
        undeclared("g"),
    ),
    "a function that is not there": (
        asking(functions=[{"name": "f"}], function_call={"name": "g"}),
        undeclared("g"),
    ),
    "a voice that is not there": (
        asking(audio={"voice": "samantha", "format": "wav"}),
        enumerated("audio.voice", "samantha", *VOICES),
    ),
    "no voice": (
        asking(audio={"voice": "", "format": "wav"}),
        enumerated("audio.voice", "", *VOICES),
    ),
    "an allowed tool that is not there": (
        asking(
            tools=[TOOL],
            tool_choice={
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [TOOL, named(name="g")]},
            },
        ),
        undeclared("g"),
    ),
    "json_object without the word": (
        writing(response_format={"type": "json_object"}),
        PLAIN_JSON,
    ),
    "json_object with the word in sound": (
        asking(user(sound(SOUND + b"." + base64.b64decode("json"))), response_format=OBJECT),
        PLAIN_JSON,
    ),
    "parameters of a string": (
        asking(tools=[named(name="f", parameters={"type": "string"})]),
        (
            (
                "Invalid schema for function 'f':"
                " schema must be a JSON Schema of 'type: \"object\"', "
                "got 'type: \"string\"'."
            ),
            "tools[0].function.parameters",
            "invalid_function_parameters",
        ),
    ),
    # Content that only an assistant can leave out.
    "a user with a refusal": (
        asking(HELLO, {"role": "user", "refusal": "No."}),
        ("Invalid value for 'content': expected a string, got null.", "messages.[1].content", None),
    ),
}


@pytest.mark.parametrize(("body", "fault"), REFUSED.values(), ids=REFUSED)
def test_a_faulty_parameter_is_refused_in_the_words_of_the_api(
    server: StandIn, body: Json, fault: Fault
) -> None:
    """Types, bounds, names, lists, missing and unknown keys have the errors of CONTRACT §3."""
    assert ask(server, body) == (400, refusal(*fault))


WEATHER = {"type": "function", "function": {"name": "weather"}}
GRAMMAR = {"type": "grammar", "grammar": {"definition": "a", "syntax": "regex"}}

CLOSED = {"type": "object", "properties": {}, "additionalProperties": False}
OPEN: dict[str, tuple[Json, str]] = {
    "an open object": ({"type": "object", "properties": {}}, "(), 'additionalProperties' is"),
    "an open object inside": (
        {
            **CLOSED,
            "properties": {"way": {"type": "array", "items": {"type": "object"}}},
            "required": ["way"],
        },
        "('properties', 'way', 'items'), 'additionalProperties' is required to be supplied and to",
    ),
    "an optional property": (
        {
            **CLOSED,
            "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "b": {}},
            "required": ["a"],
        },
        "(), 'required' is required to be supplied and to be an array including every key in",
    ),
}


BARE: dict[str, tuple[Json, str]] = {
    "a list": ({"a": {"type": "array"}}, "('properties', 'a')"),
    "a tuple": ({"a": {"type": "array", "prefixItems": [{}]}}, "('properties', 'a')"),
    "a list of lists": (
        {"a": {"type": "array", "items": {"type": "array"}}},
        "('properties', 'a', 'items')",
    ),
    "a list or nothing": (
        {"a": {"anyOf": [{"type": "null"}, {"type": "array"}]}},
        "('properties', 'a', 'anyOf', '1')",
    ),
}


@pytest.mark.parametrize(("properties", "path"), BARE.values(), ids=BARE)
@pytest.mark.parametrize("strict", [False, None])
def test_an_array_needs_items(
    server: StandIn, properties: Json, path: str, strict: bool | None
) -> None:
    """Arrays of anything have to say so, in tools and formats alike, strict or not."""
    schema = {"type": "object", "properties": properties}
    fault = f"In context={path}, array schema missing items."
    tool = named(name="f", parameters=schema, strict=strict)
    error = ask(server, asking(tools=[tool]))[1]["error"]
    assert error["message"] == f"Invalid schema for function 'f': {fault}"
    assert error["param"] == "tools[0].function.parameters"
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    error = ask(server, writing(response_format=wanted))[1]["error"]
    assert error["message"] == f"Invalid schema for response_format 'x': {fault}"


def test_there_is_one_limit_of_an_answer(server: StandIn) -> None:
    """The older limit beside the newer one is refused."""
    error = ask(server, asking(max_tokens=9, max_completion_tokens=9))[1]["error"]
    assert error["code"] == "invalid_parameter_combination"
    assert "'max_tokens' and 'max_completion_tokens' at the same time" in error["message"]
    assert ask(server, asking(max_tokens=9, max_completion_tokens=None))[0] == 200


@pytest.mark.parametrize(("schema", "fault"), OPEN.values(), ids=OPEN)
def test_a_strict_schema_has_to_be_closed(server: StandIn, schema: Json, fault: str) -> None:
    """Objects forbid other properties and require all of theirs, in tools and formats alike."""
    tool = named(name="f", parameters=schema, strict=True)
    status, body = ask(server, asking(tools=[tool]))
    assert status == 400
    assert f"Invalid schema for function 'f': In context={fault}" in body["error"]["message"]
    assert body["error"]["param"] == "tools[0].function.parameters"
    form = {"name": "x", "schema": schema, "strict": True}
    wanted: Json = {"type": "json_schema", "json_schema": form}
    body = ask(server, writing(response_format=wanted))[1]
    assert f"Invalid schema for response_format 'x': In context={fault}" in body["error"]["message"]
    wanted["json_schema"] = {**form, "strict": False}
    assert ask(server, writing(response_format=wanted))[0] == 200


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_pictures_are_for_users_alone(server: StandIn, role: str) -> None:
    """A picture in a message of another role is refused by text models, too."""
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    body = writing(HELLO, {"role": role, "content": [picture]}, model="gpt-4-turbo")
    status, refusal = ask(server, body)
    assert (status, refusal["error"]["param"]) == (400, "messages[1]")
    assert f"this message with role '{role}' contains an image URL." in refusal["error"]["message"]
    assert ask(server, writing(user(picture), model="ft:gpt-4.1-mini:acme::x"))[0] == 200


ACCEPTED: dict[str, Json] = {
    "a name on a tool message": asking(HELLO, calls("a"), {**result("a"), "name": "weather"}),
    "annotations": asking(HELLO, assistant(content="Hi.", annotations=[]), HELLO),
    "moderation": asking(moderation={"model": "m", "policy": {"input": {"mode": "block"}}}),
    "prompt_cache_options": asking(prompt_cache_options={"mode": "explicit", "ttl": "30m"}),
    "prompt_cache_breakpoint": asking(
        text_part(prompt_cache_breakpoint={"mode": "explicit", "ttl": "12h"})
    ),
    "a breakpoint after sound": asking(
        user({**sound(), "prompt_cache_breakpoint": {"mode": "explicit"}})
    ),
    "keys of another role": asking(
        {**HELLO, "tool_call_id": "a", "refusal": "No.", "audio": {"id": UNKNOWN_ID}}
    ),
    "a call of a custom tool": asking(
        HELLO,
        assistant(
            tool_calls=[{"id": "a", "type": "custom", "custom": {"name": "f", "input": "x"}}]
        ),
        result("a"),
    ),
    "a custom tool": asking(
        tools=[{"type": "custom", "custom": {"name": "f", "format": GRAMMAR}}], tool_choice="auto"
    ),
    "a strict tool": asking(
        tools=[named(name="f", description="x", parameters=CLOSED, strict=True)],
        parallel_tool_calls=False,
    ),
    "deprecated functions": asking(functions=[{"name": "f"}], function_call="auto"),
    "a voice of one's own": asking(audio={"voice": {"id": "voice_1"}, "format": "wav"}),
    "numbers at their bounds": asking(
        n=1,
        temperature=2,
        top_p=1.0,
        frequency_penalty=2,
        presence_penalty=-2.0,
        logprobs=True,
        top_logprobs=20,
        max_completion_tokens=16_384,
        seed=-1,
        logit_bias={"1": -100},
        stop=["a", "b", "c", "d"],
    ),
    "words at their bounds": asking(
        metadata={**{f"k{number}": "v" for number in range(15)}, "k" * 64: "x" * 512},
        prompt_cache_key="k" * 64,
        safety_identifier="x" * 128,
        user="",
        stop="",
    ),
    "everything else": asking(
        store=True,
        service_tier="scale",
        reasoning_effort="xhigh",
        verbosity="low",
        prompt_cache_retention="24h",
        prediction={"type": "content", "content": "Hello"},
        web_search_options={
            "search_context_size": "low",
            "user_location": {"type": "approximate", "approximate": {"city": "Oslo"}},
        },
    ),
    "nulls": {**asking(), **dict.fromkeys([*PARAMETERS][1:-1])},
    "many tokens of a text model": writing(max_completion_tokens=100_000),
    "gpt-6": writing(model="gpt-6.2-astra"),
}


@pytest.mark.parametrize("body", ACCEPTED.values(), ids=ACCEPTED)
def test_what_the_api_accepts_is_answered(server: StandIn, body: Json) -> None:
    """Requests with rare parameters, at their bounds or null, are answered."""
    assert ask(server, body)[0] == 200


def test_all_parameters_of_the_official_client_are_known() -> None:
    """Each parameter in the types of the official client has a shape."""
    names = {*CompletionCreateParamsNonStreaming.__annotations__}
    assert len(names) > 25
    assert names <= {*PARAMETERS, "model", "audio"}


_NAMES = """
messages functions function_call tools tool_choice parallel_tool_calls max_completion_tokens n
temperature top_p presence_penalty frequency_penalty logprobs top_logprobs user seed
safety_identifier prompt_cache_key prompt_cache_retention service_tier max_tokens reasoning_effort
stop stream store metadata verbosity
"""
ORDER = _NAMES.split()


@pytest.mark.parametrize(("first", "second"), list(itertools.pairwise(ORDER)))
def test_faults_are_reported_in_the_order_of_the_api(
    server: StandIn, first: str, second: str
) -> None:
    """Of two parameters of a wrong type, the one that the API checks first is named."""
    body = asking(**{second: [7], first: [7]})
    assert ask(server, body)[1]["error"]["param"].startswith(first)


def test_the_message_of_an_answer_can_be_sent_back_as_it_is(
    server: StandIn, client: OpenAI
) -> None:
    """Message objects of answers, written or with tool calls, go into the next request."""
    messages: list[Any] = [{"role": "user", "content": "Hello"}]
    first = client.chat.completions.create(model="gpt-5", messages=messages)
    messages += [first.choices[0].message, {"role": "user", "content": "Oslo?"}]
    server.will_answer(tool_calls=[("weather", {"city": "Oslo"})])
    second = client.chat.completions.create(model="gpt-5", messages=messages)
    [call] = second.choices[0].message.tool_calls or []
    messages += [second.choices[0].message]
    messages += [{"role": "tool", "tool_call_id": call.id, "content": "12 degrees"}]
    third = client.chat.completions.create(model="gpt-5", messages=messages)
    assert str(third.choices[0].message.content).startswith("The tool says 12 degrees. I recall 0")


@pytest.mark.parametrize(
    ("asked", "told"),
    [(None, "default"), ("auto", "default"), ("flex", "flex"), ("fast", "priority")],
)
def test_the_answer_tells_the_tier_that_served_it(
    server: StandIn, asked: str | None, told: str
) -> None:
    """`fast` is served as `priority`, `auto` as `default` (CONTRACT §1)."""
    assert answered(server, asking(service_tier=asked))["service_tier"] == told

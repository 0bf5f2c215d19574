"""Answers that a request forces by `tool_choice` and `response_format`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from conversation.testing import StandIn
from tests.testing.test_stand_in import (
    HELLO,
    Json,
    answered,
    ask,
    asking,
    message_of,
    sound,
    streamed,
    user,
    writing,
)


class Trip(BaseModel):
    """A journey."""

    city: str = Field(min_length=10)
    days: int = Field(ge=3)
    by: str | None


def tool(name: str, kind: type[BaseModel] | None = None) -> Json:
    """Return a tool with the parameters of a model."""
    parameters = kind.model_json_schema() if kind else {"type": "object", "properties": {}}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [tool("clock"), tool("trip", Trip)]
NAMED = {"type": "function", "function": {"name": "trip"}}


def allowed(mode: str) -> Json:
    """Return a choice that allows one tool."""
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [NAMED]}}


def written(server: StandIn, body: Json) -> list[Json]:
    """Return the chunks of a text model's answer."""
    return streamed(server, **{"modalities": None, "audio": None, **body})


@pytest.mark.parametrize("request_of", [asking, writing])
@pytest.mark.parametrize(
    ("choice", "name"), [("required", "clock"), (NAMED, "trip"), (allowed("required"), "trip")]
)
def test_a_forced_tool_is_called_with_arguments_of_its_schema(
    server: StandIn, request_of: Any, choice: Any, name: str
) -> None:
    """`required` calls the first tool, a named or allowed one is called itself, without words."""
    completion = answered(server, request_of(tools=TOOLS, tool_choice=choice))
    message = message_of(completion)
    [call] = message["tool_calls"]
    assert (call["type"], call["function"]["name"]) == ("function", name)
    assert (message["content"], "audio" in message) == (None, False)
    assert completion["choices"][0]["finish_reason"] == "tool_calls"
    arguments = json.loads(call["function"]["arguments"])
    if name == "trip":
        Trip.model_validate(arguments)
    else:
        assert arguments == {}


@pytest.mark.parametrize("choice", [None, "auto", "none", allowed("auto")])
def test_tools_are_not_called_without_being_forced(server: StandIn, choice: Any) -> None:
    """The default answer has no tool calls where the choice is the model's."""
    assert "tool_calls" not in message_of(answered(server, asking(tools=TOOLS, tool_choice=choice)))


def test_a_forced_custom_tool_gets_text(server: StandIn) -> None:
    """A call of a custom tool has an input instead of arguments, and is streamed as such."""
    custom = {"type": "custom", "custom": {"name": "code"}}
    body = writing(tools=[*TOOLS, custom], tool_choice=custom)
    [call] = message_of(answered(server, body))["tool_calls"]
    assert (call["type"], call["custom"]) == ("custom", {"name": "code", "input": "text"})
    deltas = [chunk["choices"][0]["delta"] for chunk in written(server, body)]
    pieces = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert (pieces[0]["type"], pieces[0]["custom"]["name"]) == ("custom", "code")
    assert "".join(piece["custom"]["input"] for piece in pieces) == "text"


@pytest.mark.parametrize(
    ("pattern", "syntax", "text"),
    [
        ("[0-9]+", "regex", "0"),
        ("A|B", "regex", "A"),
        ("text|x", "regex", "text"),
        (r"SELECT \w+ FROM [a-z]{3};", "regex", "SELECT a FROM aaa;"),
        ("start: WORD", "lark", "text"),
    ],
)
def test_a_forced_custom_tool_gets_text_of_its_grammar(
    server: StandIn, pattern: str, syntax: str, text: str
) -> None:
    """A simple regular expression is obeyed, as a whole; Lark's grammars are not."""
    grammar = {"type": "grammar", "grammar": {"definition": pattern, "syntax": syntax}}
    custom = {"type": "custom", "custom": {"name": "code", "format": grammar}}
    [call] = message_of(answered(server, writing(tools=[custom], tool_choice="required")))[
        "tool_calls"
    ]
    assert call["custom"] == {"name": "code", "input": text}


FUNCTIONS = [each["function"] for each in TOOLS]


@pytest.mark.parametrize("request_of", [asking, writing])
def test_a_forced_function_is_called_in_the_older_form(server: StandIn, request_of: Any) -> None:
    """`function_call` with a name gives a `function_call` of the schema, streamed too."""
    body = request_of(functions=FUNCTIONS, function_call={"name": "trip"})
    completion = answered(server, body)
    message = message_of(completion)
    assert (message["content"], "tool_calls" in message, "audio" in message) == (None, False, False)
    assert completion["choices"][0]["finish_reason"] == "function_call"
    assert completion["usage"]["completion_tokens"] > 10
    assert message["function_call"]["name"] == "trip"
    Trip.model_validate_json(message["function_call"]["arguments"])
    body = writing(functions=FUNCTIONS, function_call={"name": "trip"})
    choices = [chunk["choices"][0] for chunk in written(server, body)]
    pieces = [c["delta"]["function_call"] for c in choices if "function_call" in c["delta"]]
    assert [piece.get("name") for piece in pieces[:2]] == ["trip", None]
    Trip.model_validate_json("".join(piece["arguments"] for piece in pieces))
    assert choices[-1]["finish_reason"] == "function_call"


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_functions_are_not_called_without_being_forced(server: StandIn, choice: Any) -> None:
    """The default answer has no call where the choice is the model's."""
    message = message_of(answered(server, asking(functions=FUNCTIONS, function_call=choice)))
    assert "function_call" not in message


def test_the_result_of_a_function_is_told(server: StandIn) -> None:
    """A message of the older role `function` is answered like the result of a tool."""
    call = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}}
    result = {"role": "function", "name": "f", "content": "Rain"}
    message = message_of(answered(server, writing(HELLO, call, result)))
    assert message["content"].startswith("The tool says Rain.")


def test_a_scripted_answer_is_given_whatever_is_forced(server: StandIn) -> None:
    """Scripts win over `tool_choice` and `response_format`; `will_answer()` is the default one."""
    body = asking(tools=TOOLS, tool_choice="required")
    server.will_answer("Later.")
    server.will_answer(refusal="No.")
    server.will_answer()
    messages = [message_of(answered(server, body)) for _ in range(3)]
    assert messages[0]["audio"]["transcript"] == "Later."
    assert messages[1]["refusal"] == "No."
    assert ["tool_calls" in message for message in messages] == [False, False, True]


NESTED = {"minItems": 999, "items": {"minItems": 999, "items": {"minItems": 999, "items": {}}}}


def schema_of(kind: Any) -> Json:
    """Return the `response_format` of a type."""
    schema = TypeAdapter(kind).json_schema()
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


def test_a_schema_is_answered_with_json_that_fits(server: StandIn) -> None:
    """The content of a text model's answer is JSON of the requested schema, streamed too."""
    body = writing(response_format=schema_of(Trip))
    Trip.model_validate_json(message_of(answered(server, body))["content"])
    deltas = [chunk["choices"][0]["delta"] for chunk in written(server, body)]
    Trip.model_validate_json("".join(delta.get("content") or "" for delta in deltas))


@pytest.mark.parametrize(
    "body",
    [
        writing(user({"type": "text", "text": "As JSON, please"})),
        asking({"role": "system", "content": "Json!"}, user(sound()), modalities=None, audio=None),
    ],
)
def test_json_mode_is_answered_with_an_object(server: StandIn, body: Json) -> None:
    """`json_object` gives the default words in an object."""
    message = message_of(answered(server, {**body, "response_format": {"type": "json_object"}}))
    assert "I recall 0 of my earlier answers" in json.loads(message["content"])["answer"]


def test_plain_text_is_the_default_format(server: StandIn) -> None:
    """`response_format` of text changes nothing."""
    message = message_of(answered(server, writing(HELLO, response_format={"type": "text"})))
    assert message["content"].startswith("You wrote: Hello")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": [], "required": ["a"]},
        {"type": "object", "required": 7},
        {"type": "object", "minProperties": 10**9},
        {"type": "object", "properties": {"a": NESTED}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"minLength": "x"}}, "required": ["a"]},
    ],
)
def test_a_schema_that_nothing_fits_is_refused(server: StandIn, schema: Json) -> None:
    """Such a schema is refused where a value of it is needed, and the next request is answered."""
    broken = {"type": "function", "function": {"name": "broken", "parameters": schema}}
    forced = asking(tools=[*TOOLS, broken], tool_choice=NAMED | {"function": {"name": "broken"}})
    response_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    legacy = asking(functions=[broken["function"]], function_call={"name": "broken"})
    for body, param in (
        (forced, "tools[2].function.parameters"),
        (legacy, "functions[0].parameters"),
        (writing(response_format=response_format), "response_format"),
    ):
        status, answer = ask(server, body)
        assert (status, answer["error"]["param"]) == (400, param)
    assert ask(server, {**forced, "tool_choice": "auto"})[0] == 200

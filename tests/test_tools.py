"""Python functions as tools: descriptions, arguments and results."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import threading
from collections import UserDict, UserList, deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from io import BytesIO, StringIO
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator

from conversation import Conversation, ToolTurn
from conversation._tools import (
    InvalidArguments,
    Tool,
    by_name,
    call_arguments,
    fault_text,
    refuse_bytes,
    result_text,
    tool_from,
)
from conversation.errors import InvalidSetting
from conversation.testing import StandIn
from tests.samples import tool_call

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]  # what many annotations do


class Unit(Enum):
    C = "celsius"
    F = "fahrenheit"


class Place(BaseModel):
    city: str
    title: str = "none"


@dataclass
class Span:
    start: datetime
    days: int = 1


class Sore(BaseModel):
    it: int

    @field_validator("it")
    @classmethod
    def _fails(cls, it: int) -> int:
        if it > 9:
            raise ValueError("x" * it)
        raise KeyError(it)


class title(Place):  # noqa: N801  # a name that is also a word of JSON schemas
    title: str = "Sir"
    place: Place = Field(Place(city="Bonn"), title="Where", examples=[{"title": "home"}])


def weather(  # noqa: D417  # some are left undescribed
    place: Place,
    span: Span,
    unit: Unit = Unit.C,
    detail: Literal["low", "high"] = "low",
    tags: list[str] | None = None,
) -> str:
    """How the weather will be.

    Not for the past.

    Args:
        place: Where, by the name
            that people use: in English.
        span (Span, optional): When.

        unit: Of the temperature.

    Returns:
        A sentence.
    """
    return f"{place} {span} {unit} {detail} {tags}"


def _properties(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = tool_from(function).description["function"]["parameters"]
    return cast("dict[str, Any]", parameters["properties"])


def _given(function: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
    return call_arguments(tool_from(function), json.dumps(arguments))


def test_tool_is_described_by_signature_and_docstring() -> None:
    """The description has types, defaults, definitions and texts, and no titles of pydantic."""
    tool = tool_from(weather)
    assert tool.name == "weather"
    shown = json.loads(json.dumps(tool.description))
    span = shown["function"]["parameters"]["$defs"]["Span"]
    span.pop("additionalProperties", None)  # newer versions of pydantic add it
    assert shown == {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "How the weather will be.\n\nNot for the past.",
            "parameters": {
                "type": "object",
                "additionalProperties": False,
                "required": ["place", "span"],
                "properties": {
                    "place": {
                        "$ref": "#/$defs/Place",
                        "description": "Where, by the name that people use: in English.",
                    },
                    "span": {"$ref": "#/$defs/Span", "description": "When."},
                    "unit": {
                        "$ref": "#/$defs/Unit",
                        "default": "celsius",
                        "description": "Of the temperature.",
                    },
                    "detail": {"enum": ["low", "high"], "type": "string", "default": "low"},
                    "tags": {
                        "anyOf": [
                            {"type": "array", "items": {"type": "string"}},
                            {"type": "null"},
                        ],
                        "default": None,
                    },
                },
                "$defs": {
                    "Place": {
                        "type": "object",
                        "required": ["city"],
                        "properties": {
                            "city": {"type": "string"},
                            "title": {"type": "string", "default": "none"},
                        },
                    },
                    "Span": {
                        "type": "object",
                        "required": ["start"],
                        "properties": {
                            "start": {"type": "string", "format": "date-time"},
                            "days": {"type": "integer", "default": 1},
                        },
                    },
                    "Unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                },
            },
        },
    }


def test_tool_without_docstring_and_annotations_takes_any_values() -> None:
    """Its parameters have no types, and it has no description."""

    def bare(x, y=2): ...  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202

    assert tool_from(bare).description["function"] == {
        "name": "bare",
        "parameters": {
            "type": "object",
            "additionalProperties": False,
            "required": ["x"],
            "properties": {"x": {}, "y": {"default": 2}},
        },
    }


def test_description_of_a_parameter_is_in_field_annotated_or_docstring() -> None:
    """Field comes first, then text in Annotated, then the docstring, in Google or Sphinx style."""

    def google(
        a: Annotated[int, Field(description="field", ge=3)], b: Annotated[int, "text"], c: int
    ) -> None:
        """Do.

        Args:
            a: Docstring.
            b: Docstring.
            c: (sic) Docstring: c.
        """

    def sphinx(a: int, b: int) -> None:
        """Do.

        :param a: First,
            and more.
        :param int b: Second.
        :returns: nothing
        """

    assert _properties(google) == {
        "a": {"type": "integer", "minimum": 3, "description": "field"},
        "b": {"type": "integer", "description": "text"},
        "c": {"type": "integer", "description": "(sic) Docstring: c."},
    }
    assert [p["description"] for p in _properties(sphinx).values()] == [
        "First, and more.",
        "Second.",
    ]
    assert tool_from(sphinx).description["function"]["description"] == "Do."


def test_parameter_of_a_tool_may_have_any_name() -> None:
    """Names that pydantic reserves are names like others."""

    def odd(
        self: int,
        _hidden: int,
        __dunder__: int,
        model_config: int,
        model_fields: int,
        schema: int,
        json: int,
        copy: int,
        title: int,
        p1: int,
        p0: int,
        properties: int,
        default: int,
        größe: int,  # noqa: PLC2401
    ) -> None: ...

    names = list(odd.__annotations__)[:-1]
    assert _properties(odd) == {name: {"type": "integer"} for name in names}
    arguments = {name: index for index, name in enumerate(names)}
    assert _given(odd, **arguments) == arguments


def test_arrays_of_a_tool_are_such_as_the_api_takes(server: StandIn) -> None:
    """Tuples and lists of anything are sent with `items`, also inside; a name is no keyword."""

    def plan(
        a: tuple[int, str],
        b: list[tuple[float, float]],
        c: list[Any],
        d: tuple[()] = (),
        e: dict[str, tuple[int, int]] | None = None,
        type: str = "array",  # noqa: A002
    ) -> str:
        """Plan."""
        return f"{a} {b} {c} {d} {e} {type}"

    chat = Conversation(client=server.client(), tools=[plan])
    server.will_answer(
        tool_calls=[("plan", {"a": [1, "x"], "b": [[1, 2]], "c": [], "e": {"f": [3, 4]}})]
    )
    chat.say("Go")
    result = next(turn for turn in chat.turns if isinstance(turn, ToolTurn))
    assert result.content == "(1, 'x') [(1.0, 2.0)] [] () {'f': (3, 4)} array"
    properties = chat.request()["tools"][0]["function"]["parameters"]["properties"]
    assert properties["type"] == {"default": "array", "type": "string"}


def test_titles_given_by_the_user_stay_in_the_schema() -> None:
    """Only pydantic's own titles are removed, not properties and values of that name."""

    def call(person: title) -> None: ...

    schema = tool_from(call).description["function"]["parameters"]
    assert schema["properties"] == {"person": {"$ref": "#/$defs/title"}}
    place = schema["$defs"]["title"]["properties"].pop("place")
    assert place.pop("default") == {"city": "Bonn", "title": "none"}
    assert place.pop("examples") == [{"title": "home"}]
    assert "title" not in place
    assert schema["$defs"]["title"] == {
        "type": "object",
        "required": ["city"],
        "properties": {"city": {"type": "string"}, "title": {"type": "string", "default": "Sir"}},
    }


def test_description_of_a_tool_is_strict_json() -> None:
    """Lone surrogates in a docstring are replaced."""

    def odd(x: int) -> None: ...

    odd.__doc__ = "A \ud800.\n\nArgs:\n    x: A \udfff."
    described = tool_from(odd).description["function"]
    assert described["description"] == "A \ufffd."
    assert described["parameters"]["properties"]["x"]["description"] == "A \ufffd."


def test_default_of_a_parameter_is_described_if_json_can_hold_it() -> None:
    """Other defaults make the parameter optional all the same."""

    def odd(
        a: int = object(),  # type: ignore[assignment]  # a sentinel
        b: Any = threading.Lock(),  # noqa: B008
        c: float = float("inf"),
        d: Place = Place(city="Bonn", title="home"),  # noqa: B008
        e: Any = "\ud800",
    ) -> None: ...

    assert {name: p.get("default", "none") for name, p in _properties(odd).items()} == {
        "a": "none",
        "b": "none",
        "c": "none",
        "d": {"city": "Bonn", "title": "home"},
        "e": "none",
    }
    assert "required" not in tool_from(odd).description["function"]["parameters"]
    assert _given(odd) == {}


def test_return_annotation_of_a_tool_is_ignored() -> None:
    """It may name a type that exists only for the type checker."""

    def report(city: str) -> Unknown:
        return city

    assert _properties(report) == {"city": {"type": "string"}}


def test_arguments_are_converted_to_the_annotated_types() -> None:
    """Arguments become models, dataclasses, enums, dates, tuples and sets."""
    assert _given(
        weather,
        tags=["a"],
        detail="high",
        unit="fahrenheit",
        span={"start": "2026-01-02T03:04:05Z", "days": "3"},
        place={"city": "Bonn"},
    ) == {
        "place": Place(city="Bonn"),
        "span": Span(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), 3),
        "unit": Unit.F,
        "detail": "high",
        "tags": ["a"],
    }

    def more(many: list[Place], pair: tuple[int, Decimal], some: set[Unit]) -> None: ...

    assert _given(more, many=[{"city": "Bonn"}], pair=[1, "2.50"], some=["celsius"]) == {
        "many": [Place(city="Bonn")],
        "pair": (1, Decimal("2.50")),
        "some": {Unit.C},
    }


def test_arguments_that_the_model_omits_are_missing() -> None:
    """The function's defaults apply; empty text means no arguments."""

    def search(query: str = "all", limit: int | None = 5) -> None: ...

    tool = tool_from(search)
    assert call_arguments(tool, '{"limit": null}') == {"limit": None}
    for nothing in ("", " \n", "{}"):
        assert call_arguments(tool, nothing) == {}


any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(
    st.fixed_dictionaries(
        {"a": any_json, "b": st.text(), "c": st.integers()},
        optional={
            "d": st.none() | st.lists(st.booleans()),
            "e": st.dictionaries(st.text(), any_json),
            "_f": st.floats(allow_nan=False, allow_infinity=False),
        },
    )
)
def test_json_arguments_arrive_as_they_were_sent(arguments: dict[str, Any]) -> None:
    """Arguments of simple types are the JSON values, however the text was escaped."""

    def simple(
        a: Any,
        b: str,
        c: int,
        d: list[bool] | None = None,
        e: dict[str, Any] = {},  # noqa: B006
        _f: float = 0,
    ) -> None: ...

    tool = tool_from(simple)
    for ascii_only in (True, False):
        text = json.dumps(arguments, ensure_ascii=ascii_only)
        assert repr(sorted(call_arguments(tool, text).items())) == repr(sorted(arguments.items()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{", "Invalid JSON: EOF"),
        ("[1]", "should be an object"),
        ('"\\ud800"', "Invalid JSON"),
        ("\ud800", "Invalid JSON"),
        ("[" * 100_000, "Invalid JSON"),
        ('{"place": {"city": 1}, "span": {"start": "2026-01-01"}}', "place.city: Input should be"),
        ('{"place": {"city": "Bonn"}}', "span: Field required"),
        ('{"where": "Bonn", "unit": "kelvin"}', "where: Extra inputs are not permitted"),
        ('{"unit": "kelvin"}', "unit: Input should be 'celsius' or 'fahrenheit'"),
        ('{"p0": {"city": "Bonn"}}', "p0: Extra inputs"),
        (json.dumps({"x" * 10**6: 1}), "xxx"),
        (json.dumps({f"x{i}": 1 for i in range(1000)}), "x1: Extra"),
        (json.dumps({"place": "x" * 10**6, "tags": [1] * 1000}), "tags.0: Input should be"),
    ],
)
def test_invalid_arguments_have_a_short_error(arguments: str, message: str) -> None:
    """The error for the model has place and reason, whatever the size of the input."""
    with pytest.raises(InvalidArguments, match=re.escape(message)) as caught:
        call_arguments(tool_from(weather), arguments)
    assert len(str(caught.value)) < 2500
    assert "pydantic" not in str(caught.value)


def test_error_of_a_validator_is_reported_to_the_model() -> None:
    """An exception in a validator of the user is InvalidArguments."""

    def ache(sore: Sore) -> None: ...

    with pytest.raises(InvalidArguments, match="KeyError: 7"):
        _given(ache, sore={"it": 7})
    with pytest.raises(InvalidArguments, match=r"sore\.it: Value error, xxx") as caught:
        _given(ache, sore={"it": 10**6})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("arguments", "faults"),
    [
        ('{"place": {"city": "secret"}, "span": "secret"}', "span: "),
        ('{"unit": "secret", "secret": 1}', "unit: enum"),
        ('{"unit": ["secret"], "place": {"secret": "secret"}}', "place: missing"),
        ('{"secret', "json_invalid"),
        ('["secret"]', "model_type"),
    ],
)
def test_wrong_arguments_are_not_logged(
    arguments: str, faults: str, server: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names parameter and kind of fault; the model is told more."""
    message = {"role": "assistant", "tool_calls": [tool_call("a", "weather", arguments)]}
    server.will_send({"object": "chat.completion", "choices": [{"index": 0, "message": message}]})
    chat = Conversation(client=server.client(), tools=[weather])
    chat.say("What is the weather?")
    assert "secret" not in caplog.text
    assert "the arguments for the tool 'weather' do not fit (" in caplog.text
    assert faults in caplog.text
    assert isinstance(chat.turns[2], ToolTurn)
    assert chat.turns[2].content.startswith("Error: InvalidArguments: ")


def test_all_kinds_of_callables_are_tools() -> None:
    """Methods, partials, decorated functions and objects are named and described as expected."""

    class Desk:
        """A desk."""

        def find(self, name: str) -> str:
            """Find."""
            return name

        def __call__(self, name: str) -> str:
            """Ask."""
            return name

    def book(user: int, seat: str, row: int = 1) -> str:
        """Book."""
        return f"{user} {seat} {row}"

    @functools.wraps(book)
    def wrapped(*args: Any, **kwargs: Any) -> str:
        return book(*args, **kwargs)

    def shown(function: Callable[..., Any]) -> tuple[str, str, list[str]]:
        tool = tool_from(function)
        return tool.name, tool.description["function"]["description"], list(_properties(function))

    assert shown(Desk().find) == ("find", "Find.", ["name"])
    assert shown(Desk()) == ("Desk", "Ask.", ["name"])
    assert shown(wrapped) == ("book", "Book.", ["user", "seat", "row"])
    assert shown(functools.lru_cache(book)) == ("book", "Book.", ["user", "seat", "row"])
    assert shown(functools.lru_cache(weather))[2] == ["place", "span", "unit", "detail", "tags"]
    assert shown(functools.partial(book, 7)) == ("book", "Book.", ["seat", "row"])
    assert _given(Desk().find, name="Ann") == {"name": "Ann"}


def test_arguments_bound_by_a_partial_are_hidden() -> None:
    """They are not in the description, and not accepted from the model."""

    def book(user: int, seat: str) -> str:
        return f"{user} {seat}"

    tool = tool_from(functools.partial(functools.partial(book), user=7))
    assert list(tool.description["function"]["parameters"]["properties"]) == ["seat"]
    assert tool.function(**call_arguments(tool, '{"seat": "4a"}')) == "7 4a"
    with pytest.raises(InvalidArguments, match="user"):
        call_arguments(tool, '{"seat": "4a", "user": 8}')


def test_coroutine_functions_are_detected() -> None:
    """`is_async` is True also behind a partial, for a method, and for an object's `__call__`."""

    class Later:
        async def find(self) -> None: ...

        async def __call__(self) -> None: ...

    class Now:
        def __call__(self) -> None: ...

    class Retried:
        def __init__(self, function: Callable[..., Any]) -> None:
            functools.update_wrapper(self, function)

        async def __call__(self) -> None: ...

    async def later(x: int = 0) -> None: ...

    asynchronous = [later, functools.partial(later, x=1), Later().find, Later()]
    asynchronous += [functools.partial(Later()), Retried(later)]
    assert [tool_from(function).is_async for function in asynchronous] == [True] * 6
    synchronous = [weather, Now(), functools.partial(Now())]
    assert [tool_from(function).is_async for function in synchronous] == [False] * 3


def test_generator_functions_are_refused_as_tools() -> None:
    """The error names the function and the remedy."""

    def one_by_one() -> Iterator[int]:
        yield 1

    async def later_one_by_one() -> AsyncIterator[int]:
        yield 1

    for function in (one_by_one, later_one_by_one):
        with pytest.raises(InvalidSetting, match=r"one_by_one' is a generator.*return a list"):
            tool_from(function)


def _rest(*cities: str) -> None: ...
def _words(**cities: str) -> None: ...
def _only(city: str, /) -> None: ...
def _typing_only(city: list[Unknown]) -> None: ...
def _lock(city: threading.Thread) -> None: ...
def _call(city: Callable[[int], int]) -> None: ...
def _field(city: int = Field(3)) -> None: ...
def _default(city: Annotated[int, Field(default=3)]) -> None: ...
def _pattern(city: Annotated[str, Field(pattern="(")]) -> None: ...
def _nan(city: Annotated[float, Field(examples=[float("nan")])]) -> None: ...
def _größe() -> None: ...  # noqa: PLC2401


def _named(name: str) -> Callable[[], None]:
    def function() -> None: ...

    function.__name__ = name
    return function


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (None, "got None"),
        ({"type": "function"}, "got {'type'"),
        (Place, "got <class"),
        (lambda city: city, "<lambda>"),
        (_größe, "_größe"),
        (_named("x" * 65), "1 to 64"),
        (max, "'max' has no signature|parameter"),
        (_rest, r"tool '_rest'.*\*cities"),
        (_words, r"tool '_words'.*\*\*cities"),
        (_only, "tool '_only'.*city"),
        (_typing_only, r"tool '_typing_only'.*city: .*Unknown.*'Unknown' is not defined"),
        (_lock, "tool '_lock'.*city: .*Thread"),
        (_call, "tool '_call'.*city: .*Callable"),
        (_field, "tool '_field'.*city.*Annotated"),
        (_default, "tool '_default'.*city.*Annotated"),
        (_pattern, "tool '_pattern'.*city"),
        (_nan, "tool '_nan'.*examples"),
    ],
)
def test_function_that_the_model_could_not_call_is_refused(function: object, found: str) -> None:
    """The error has the tool's name, what was found, and the remedy."""
    with pytest.raises(InvalidSetting, match=found) as caught:
        tool_from(function)
    assert re.search("write|annotate|wrap|must be|list", str(caught.value))
    assert len(str(caught.value)) < 600
    assert "arbitrary_types_allowed" not in str(caught.value)


def test_two_tools_with_the_same_name_are_refused() -> None:
    """`by_name` returns the tools by their names, which must differ."""
    one, other = tool_from(weather), tool_from(_named("other"))
    assert by_name([one, other]) == {"weather": one, "other": other}
    assert by_name([]) == {}
    with pytest.raises(InvalidSetting, match="'weather'"):
        by_name([one, tool_from(_named("weather"))])


def test_tools_are_values() -> None:
    """Tools of the same function are equal and hashable, and have a short `repr`."""
    assert tool_from(weather) == tool_from(weather)
    assert len({tool_from(weather), tool_from(weather), tool_from(test_tools_are_values)}) == 2
    assert repr(tool_from(weather)) == "Tool(name='weather', function=weather, is_async=False)"
    assert isinstance(tool_from(weather), Tool)


@dataclass(slots=True)
class Slotted:
    data: Any


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError


class Odd:
    def __repr__(self) -> str:
        return "odd \ud800"


class Even:
    def __repr__(self) -> str:
        return "even"


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("it's \u20ac", "it's \u20ac"),
        ("", ""),
        ("\ud83d\ude00 \ud800", "\U0001f600 \ufffd"),
        (None, "null"),
        (True, "true"),
        (10**30, "1" + "0" * 30),
        (["ü", Unit.C, datetime(2026, 1, 2, tzinfo=UTC)], '["ü","celsius","2026-01-02T00:00:00Z"]'),
        ({"a": Place(city="Bonn")}, '{"a":{"city":"Bonn","title":"none"}}'),
        (Span(datetime(2026, 1, 2, tzinfo=UTC)), '{"start":"2026-01-02T00:00:00Z","days":1}'),
        ({1}, "[1]"),
        (b"abc", '"abc"'),
        (b"\xff", r"b'\xff'"),
        ([Even()], '["even"]'),
        ([b"\xff", Odd()], "[b'\\xff', odd \ufffd]"),
        ([b"\xff", Unshowable()], "<a list that cannot be shown>"),
        (["caf\udce9.txt"], '["caf\ufffd.txt"]'),
        ({"\ud83d\ude00": ("\ud800", 1.5)}, '{"\U0001f600":["\ufffd",1.5]}'),
        (Slotted({"\ud800"}), '{"data":["\ufffd"]}'),
    ],
)
def test_result_of_a_tool_becomes_text(result: object, text: str) -> None:
    """Text stays, other values become JSON, and those that JSON cannot hold their `repr`."""
    assert result_text(result) == text


BYTES = "Error: TypeError: the tool returned bytes"


class Code(Enum):
    RED = "red"
    RAW = b"x"


class Scan(BaseModel):
    data: Any


@pytest.mark.parametrize(
    "result",
    [
        b"abc",
        b"\xff",
        bytearray(b"x"),
        memoryview(b"x"),
        [1, {"a": (b"x",)}],
        {b"key": 1},
        {frozenset({b"x"})},
        deque([b"x"]),
        Slotted([b"x"]),
        Span(b"x"),  # type: ignore[arg-type]
        BytesIO(b"x"),
        [BytesIO()],
        [{"code": Code.RAW}],
        {"scan": Scan(data=[b"\xff"])},
    ],
)
def test_result_with_bytes_is_refused(result: object) -> None:
    """Bytes are refused wherever they are: a model reads only text."""
    with pytest.raises(TypeError, match="returned bytes, which a model cannot read"):
        refuse_bytes(result)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (lambda: map(str, [1, 2]), '["1","2"]'),
        (lambda: {"rows": iter([{"a": Code.RED}])}, '{"rows":[{"a":"red"}]}'),
        (lambda: {Code.RED: {"a": 1}.values()}, '{"red":[1]}'),
        (lambda: range(3), "[0,1,2]"),
        (lambda: {(Code.RED,): 1}, '{"red":1}'),
        (lambda: range(10**12), "Error: ValueError: the tool returned over 100000 items"),
        (lambda: UserDict({"a": UserList(["\ud800"])}), '{"a":["\ufffd"]}'),
        (lambda: Slotted(iter("ab")), '{"data":["a","b"]}'),
        (lambda: StringIO("two\nlines"), "two\nlines"),
        (lambda: (b"x" for _ in "a"), BYTES),
        (lambda: [{"a": iter([b"x"])}], BYTES),
        (lambda: Slotted(map(bytes, [1])), BYTES),
        (lambda: {"a": {1: b"x"}.items()}, BYTES),
        (lambda: Code.RAW, BYTES),
        (lambda: iter([Code.RAW]), BYTES),
        (lambda: {"file": BytesIO(b"x")}, BYTES),
        (lambda: (1 / 0 for _ in "a"), "Error: ZeroDivisionError: division by zero"),
        (count, "Error: ValueError: the tool returned over 100000 items"),
    ],
)
def test_what_is_inside_of_a_result_is_read(
    chat: Conversation, server: StandIn, result: Callable[[], Any], text: str
) -> None:
    """Iterators, views, enum members and containers of any kind become JSON, or are refused."""

    def look() -> Any:
        return result()

    server.will_answer(tool_calls=[("look", {})])
    chat.say("Look", tools=[look])
    assert chat.turns[2].text.startswith(text)
    assert len(chat.turns[2].text) < len(text) + 60


def test_result_without_bytes_is_not_refused() -> None:
    """Objects that contain themselves are looked at once, and a model's own encoding counts."""
    cyclic: list[Any] = [Even(), Scan(data="x"), Place, None]
    cyclic.append(cyclic)

    class Encoded(BaseModel):
        model_config = ConfigDict(ser_json_bytes="base64")
        data: bytes

    for result in ("x", cyclic, _deep(), Encoded(data=b"\xff"), Slotted(1)):
        refuse_bytes(result)


def test_tool_that_returns_bytes_tells_the_model(
    chat: Conversation, server: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """The model gets a fault that says what the tool has to return, and no `repr` of bytes."""

    def photo() -> dict[str, bytes]:
        return {"jpeg": b"\xff\xd8"}

    server.will_answer(tool_calls=[("photo", {})])
    chat.say("Show it", tools=[photo])
    assert chat.turns[2].text.startswith("Error: TypeError: the tool returned bytes")
    assert "'photo' failed" in caplog.text


class BrokenError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def _cyclic() -> list[object]:
    cyclic: list[object] = [Unshowable()]
    cyclic.append(cyclic)
    return cyclic


@functools.cache
def _deep() -> list[object]:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


weird = st.recursive(
    st.one_of(
        st.text(st.characters(exclude_categories=())),  # lone surrogates among them
        st.binary(),
        st.floats(),
        st.complex_numbers(),
        st.datetimes(),
        st.builds(pow, st.just(10), st.just(5000)),  # more digits than Python writes
        st.builds(_cyclic),
        st.builds(_deep),
        st.builds(Unshowable),
        st.builds(Odd),
        st.sampled_from([object(), Place, weather]),
    ),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=5,
)


@given(weird)
def test_any_result_becomes_strict_utf8(result: object) -> None:
    """No result can break the conversation or its file."""
    text = result_text(result)
    assert type(text) is str
    assert text.encode().decode() == text


@given(any_json.filter(lambda value: not isinstance(value, str)))
def test_json_result_of_a_tool_is_unchanged(result: object) -> None:
    """A value that JSON can hold is the same when it is parsed."""
    assert json.loads(result_text(result)) == result


def test_member_of_a_text_enum_becomes_its_value() -> None:
    """A result that is a subclass of str becomes a plain str."""

    class Mood(str, Enum):  # noqa: UP042  # older than StrEnum, and still about
        GOOD = "good"

    text = result_text(Mood.GOOD)
    assert (type(text), text) == (str, "good")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such city"), "Error: ValueError: no such city"),
        (TimeoutError(), "Error: TimeoutError"),
        (BrokenError(), "Error: BrokenError"),
        (KeyboardInterrupt("stop"), "Error: KeyboardInterrupt: stop"),
        (ValueError("\ud800"), "Error: ValueError: \ufffd"),
        (ValueError("x" * 10**6), "Error: ValueError: " + "x" * 1980 + "…"),
    ],
)
def test_exception_of_a_tool_becomes_text(error: BaseException, text: str) -> None:
    """It has the type and the message, cut at 2,000 characters, even if `str` fails."""
    assert fault_text(error) == text
    assert len(text) <= 2000


def test_pydantic_is_not_imported_early() -> None:
    """Importing `_tools` does not import pydantic."""
    code = "import sys, conversation._tools; sys.exit('pydantic' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

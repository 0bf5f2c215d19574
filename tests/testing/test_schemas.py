"""Values made from JSON Schemas, judged by the models that the schemas come from."""

from __future__ import annotations

import enum
import re
from datetime import date, datetime, time, timedelta
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import AnyUrl, BaseModel, Field, TypeAdapter

from conversation.testing._schemas import example


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Node(BaseModel):
    value: int
    next: Node | None
    children: list[Node]


class Circle(BaseModel):
    kind: Literal["circle"]
    radius: float = Field(gt=0.5, lt=0.6)


class Square(BaseModel):
    kind: Literal["square"]
    side: float


class Weather(BaseModel):
    city: str
    days: int = 1
    unit: Literal["C", "F"] = "C"


class Kept(BaseModel, frozen=True):
    is_old: bool
    note: str = ""


class Everything(BaseModel):
    colour: Colour
    shape: Circle | Square
    when: datetime
    day: date
    wait: timedelta
    who: UUID
    tags: list[Annotated[str, Field(min_length=12, max_length=14)]] = Field(min_length=3)
    pair: tuple[int, str, bool]
    names: dict[str, Weather]
    maybe: str | None
    tree: Node
    anything: Any


TYPES: list[Any] = [
    Weather,
    Everything,
    Node,
    list[Weather],
    dict[str, int],
    Annotated[int, Field(ge=10)],
    Annotated[int, Field(le=-3)],
    Annotated[int, Field(gt=10, lt=12)],
    Annotated[int, Field(multiple_of=7, ge=15)],
    Annotated[int, Field(multiple_of=7, le=-1)],
    Annotated[float, Field(gt=0, lt=0.01)],
    Annotated[float, Field(gt=1)],
    Annotated[float, Field(multiple_of=0.25, ge=1.1)],
    Annotated[str, Field(min_length=30)],
    Annotated[str, Field(max_length=1)],
    Annotated[str, Field(pattern="^[A-Z]{3}$")],
    Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")],
    Annotated[str, Field(pattern="^[0-9]+$", min_length=8)],
    Annotated[list[int], Field(min_length=2, max_length=2)],
    Annotated[list[int], Field(max_length=0)],
    Annotated[dict[str, int], Field(min_length=2)],
    Annotated[set[int], Field(min_length=3)],
    Annotated[set[Colour], Field(min_length=2)],
    *(
        Annotated[set[kind], Field(min_length=least, max_length=least)]  # type: ignore[valid-type]
        for kind, least in (
            (bool, 2),
            (date, 40),
            (datetime, 40),
            (time, 70),
            (timedelta, 5),
            (UUID, 300),
            (str, 40),
            (float, 30),
            (int | str, 9),
            (tuple[bool, Colour], 4),
            (Literal["a", 2] | None, 3),
            (frozenset[int], 5),
            (Kept, 3),
            (IPv4Address, 300),
            (AnyUrl, 3),
            (Annotated[int, Field(ge=-3, lt=3)], 6),
            (Annotated[int, Field(le=-5)], 50),
            (Annotated[int, Field(multiple_of=7, gt=7, le=35)], 4),
            (Annotated[float, Field(gt=0, lt=0.01)], 9),
            (Annotated[str, Field(max_length=1)], 12),
            (Annotated[str, Field(min_length=9)], 30),
            (Annotated[str, Field(pattern="^[A-Z]{3}$")], 30),
            (Annotated[str, Field(pattern=r"^\d{5}$")], 30),
        )
    ),
    bool,
    None,
    int | str,
    Literal[3, 4],
]


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_a_value_fits_its_schema(kind: Any) -> None:
    """Bounds, patterns, lengths, formats, unions and references are observed."""
    adapter = TypeAdapter(kind)
    adapter.validate_python(example(adapter.json_schema()))


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({}, "text"),
        (True, "text"),
        ({"type": ["null", "integer"]}, 1),
        ({"const": None}, None),
        ({"enum": [7, 8]}, 7),
        ({"properties": {"a": {"type": "null"}}, "required": ["a"]}, {"a": None}),
        ({"allOf": [{"required": ["a"]}, {"properties": {"a": {"type": "integer"}}}]}, {"a": 1}),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "boolean"}}}, True),
        ({"type": "string", "pattern": "("}, "text"),
        ({"minimum": 3, "exclusiveMinimum": True}, 4),
        ({"type": "string", "pattern": "^$"}, ""),
        ({"type": "string", "pattern": r"^(?=.*\d)[a-z]+!$"}, "text"),
        (
            {
                "allOf": [
                    {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
                    {"properties": {"a": {"minimum": 10}}},
                ]
            },
            {"a": 10},
        ),
    ],
)
def test_rare_schemas_have_values_too(schema: Any, value: Any) -> None:
    """Schemas without a type, lists of types, merged ones, old ones and broken patterns."""
    assert example(schema) == value


@pytest.mark.parametrize(
    "pattern",
    [
        r"^\d{3}-\d{3}-\d{4}$",
        "^#[0-9a-fA-F]{6}$",
        "^(yes|no)$",
        r"^\d{1,2}:\d{2}$",
        r"^v\d+\.\d+\.\d+$",
        "^[^a-z]{2}[^b]$",
        r"^\W\S\s\D?.[é-ü]{0,3}$",
        "^(?P<a>x{2,}?)(?:[_-]|[.])(?i:END)$",
        "^[\u4e00-\u9fff]{2}$",
    ],
)
def test_a_simple_pattern_is_fitted(pattern: str) -> None:
    """Repeats, sets, groups and choices give a short text, found without luck."""
    made = example({"type": "string", "pattern": pattern})
    assert re.search(pattern, made)
    assert len(made) < 20


@pytest.mark.parametrize(
    "pattern", ["a{5000}", "(a{99}){99}", r"(a)\1b", "(?!a)", "^(?=b)a$", "^[^ -~]$"]
)
def test_a_pattern_that_is_not_fitted_does_no_harm(pattern: str) -> None:
    """What is too long, or looks around, gives a usual text."""
    assert isinstance(example({"type": "string", "pattern": pattern}), str)


def array(least: int, items: Any, **more: Any) -> dict[str, Any]:
    """Return the schema of an array."""
    return {"type": "array", "minItems": least, "items": items, **more}


def doubled(times: int) -> dict[str, Any]:
    """Return a schema that names another one twice, and so on."""
    both = {n: {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(times)}
    return {"$ref": "#/$defs/0", "$defs": {str(n): each for n, each in both.items()}}


LARGE: dict[str, Any] = {
    "arrays in arrays": array(999, array(999, array(999, {"type": "integer"}))),
    "long strings": array(1000, {"type": "string", "minLength": 10_000}),
    "long constants": array(10_000, {"const": "x" * 90_000}),
    "long choices": array(10_000, {"enum": ["x" * 90_000]}),
    "many properties": {
        "type": "object", "minProperties": 10_000, "additionalProperties": array(999, {})
    },
    "doubled references": doubled(60),
    "doubled alternatives": {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"properties": {"a": {"anyOf": [array(2, {"$ref": "#/$defs/b"})] * 9}}},
                  "b": array(9999, {"type": "object", "minProperties": 9999})},
        "required": ["a"],
    },
    "different booleans": array(3, {"type": "boolean"}, uniqueItems=True),
    "different constants": array(2, {"const": 1}, uniqueItems=True),
    "different pairs": array(
        5, array(2, {"type": "boolean"}, maxItems=2), uniqueItems=True
    ),
    "many different letters": array(9999, {"type": "string", "maxLength": 1}, uniqueItems=True),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_a_value_that_is_too_large_or_not_possible_is_refused(name: str) -> None:
    """A schema of a few bytes may have values of gigabytes only, or none: neither is made."""
    with pytest.raises(ValueError, match=r"too large|not enough different|^$"):
        example(LARGE[name])


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*b$", "^a*a*a*a*a*a*b$", "(.{1,9}){1,9}=$"])
def test_a_pattern_that_takes_for_ever_is_not_tried(pattern: str) -> None:
    """Long strings are not searched for patterns whose search grows without bounds."""
    assert example({"type": "string", "pattern": pattern, "minLength": 5000}, "a" * 60)


def test_different_values_of_a_set_are_many() -> None:
    """A thousand different items are no problem."""
    assert len(set(example(array(1000, {"type": "integer"}, uniqueItems=True)))) == 1000
    assert len(set(example(array(1000, {"type": "string"}, uniqueItems=True)))) == 1000


def test_only_required_properties_are_made() -> None:
    """Optional properties keep the default of whoever reads the value."""
    assert example(Weather.model_json_schema()) == {"city": "city"}

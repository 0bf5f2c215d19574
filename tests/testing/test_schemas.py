"""Values made from JSON Schemas, judged by the models that the schemas come from."""

from __future__ import annotations

import enum
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, TypeAdapter

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
    ],
)
def test_rare_schemas_have_values_too(schema: Any, value: Any) -> None:
    """Schemas without a type, lists of types, merged ones, old ones and broken patterns."""
    assert example(schema) == value


def test_only_required_properties_are_made() -> None:
    """Optional properties keep the default of whoever reads the value."""
    assert example(Weather.model_json_schema()) == {"city": "city"}

"""Construction of values from fields that were checked before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import attrs

_V = TypeVar("_V")


def unchecked(cls: type[_V]) -> Callable[..., _V]:
    """Return a constructor of a slotted attrs class that takes every field as it is.

    Without converters, validators and defaults it costs a third of the class's own. Like that one
    it is made from source text.
    """
    known: Any = cls
    fields = [field.name for field in attrs.fields(known)]
    names: dict[str, Any] = {f"set_{name}": getattr(cls, name).__set__ for name in fields}
    names |= {"new": cls.__new__, "cls": cls}
    sets = "".join(f"    set_{name}(value, {name})\n" for name in fields)
    source = f"def construct({', '.join(fields)}):\n    value = new(cls)\n{sets}    return value\n"
    exec(source, names)  # noqa: S102
    construct: Callable[..., _V] = names["construct"]
    return construct

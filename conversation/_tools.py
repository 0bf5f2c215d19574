"""Python functions as tools: descriptions, arguments and results."""

from __future__ import annotations

import functools
import inspect
import io
import operator
import re
import textwrap
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MappingView, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from enum import Enum
from itertools import islice
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_type_hints

import attrs
import orjson

from conversation._values.text import clean_text, shown
from conversation._wire.strict_json import json_bytes
from conversation.errors import InvalidSetting

if TYPE_CHECKING:
    from pydantic import BaseModel

# Compiled when there is a tool.
_SECTION = (
    r"(?m)^(?:(?:Args|Arguments|Parameters|Returns?|Yields?|Raises):[ \t]*$"
    r"|:(?:param|type|returns?|rtype|raises)\b)"
)
_ARGS = r"(?ms)^(?:Args|Arguments|Parameters):[ \t]*\n(.*?)(?=^\S|\Z)"
_IN_ARGS = r"(?m)^(\w+)[ \t]*(?:\(.*?\))?:(.*(?:\n+[ \t]+.*)*)"
_PARAM = r"(?m)^:param (?:.*? )??(\w+):(.*(?:\n+[ \t]+.*)*)"


_BINARY = (bytes, bytearray, memoryview, io.IOBase)

_MOST_ITEMS = 100_000
"""The most items that are taken of an iterator: it may have no end."""


class InvalidArguments(ValueError):
    """The arguments do not fit the tool; the message tells the model what to correct.

    Attributes:
        faults: The same for logs: parameters and kinds of fault, and nothing of the arguments.
    """

    def __init__(self, message: str, faults: str) -> None:
        super().__init__(message)
        self.faults = faults


@attrs.frozen
class Tool:
    """A function that the model can call.

    Attributes:
        name: The name by which the model calls it.
        function: The function, called with keyword arguments.
        description: The tool in the API's form; its parameters are a JSON schema.
        arguments: The pydantic model that reads the model's arguments.
        is_async: True if it is a coroutine function. (Others may return an awaitable, too.)
    """

    name: str
    function: Callable[..., Any] = attrs.field(
        repr=lambda function: getattr(function, "__qualname__", type(function).__name__)
    )
    description: Mapping[str, Any] = attrs.field(eq=False, repr=False)
    arguments: type[BaseModel] = attrs.field(eq=False, repr=False)
    is_async: bool = False


def tool_from(function: object) -> Tool:
    """Return the tool that a callable's name, signature and docstring describe.

    Arguments bound by a `functools.partial` are hidden from the model. An object with `__call__`
    has the name of its class.

    Raises:
        InvalidSetting: if the model could not call it, or pydantic cannot describe a parameter.
    """
    try:
        from pydantic_core import to_json
    except ImportError as error:
        msg = "functions as tools need pydantic 2.6 or later; upgrade it, or describe them by dicts"
        raise InvalidSetting(msg) from error
    if not callable(function) or isinstance(function, type):
        msg = f"a tool must be a function, got {shown(function)}; write a def with a docstring"
        raise InvalidSetting(msg)
    inner: Any = function
    bound: set[str] = set()
    while isinstance(inner, functools.partial):
        bound |= inner.keywords.keys()
        inner = inner.func
    name, doc = getattr(inner, "__name__", None), inner.__doc__
    if name is None:
        name, inner = type(inner).__name__, inner.__call__
        doc = inner.__doc__ or doc
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        msg = f"a tool's name must be 1 to 64 of A-Za-z0-9_-, got {shown(name)}; write a named def"
        raise InvalidSetting(msg)
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        msg = f"tool {name!r} has no signature ({error}); wrap it in a def"
        raise InvalidSetting(msg) from error
    known = getattr(inspect.unwrap(inner), "__globals__", {})
    fields = {key: _field(name, p, known) for key, p in parameters.items() if key not in bound}
    arguments = _model(fields.values())
    schema = _untitled(arguments.model_json_schema())
    about, words = _documented(doc or "")
    for key, (annotation, _) in fields.items():
        notes = [note for note in getattr(annotation, "__metadata__", ()) if isinstance(note, str)]
        if note := " ".join(notes) or words.get(key):
            schema["properties"][key].setdefault("description", note)
        with suppress(Exception):  # JSON cannot hold every default
            default = orjson.loads(to_json(parameters[key].default))
            schema["properties"][key]["default"] = default
    tool = {"name": name, **({"description": about} if about else {}), "parameters": schema}
    description = json_bytes({"type": "function", "function": tool}, f"tool {name!r}")
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        msg = f"tool {name!r} is a generator, but a tool has one result; return a list"
        raise InvalidSetting(msg)
    return Tool(name, function, orjson.loads(description), arguments, is_async(inner))


def is_async(function: object) -> bool:
    """Return True for a coroutine function, and for an object that is called as one."""
    call = getattr(function, "__call__", None)  # noqa: B004
    return any(map(inspect.iscoroutinefunction, (function, call)))


def by_name(tools: Iterable[Tool]) -> dict[str, Tool]:
    """Return the tools by their names.

    Raises:
        InvalidSetting: if two have the same name.
    """
    named: dict[str, Tool] = {}
    for tool in tools:
        if tool.name in named:
            msg = f"tools must have different names, got {tool.name!r} twice; rename one"
            raise InvalidSetting(msg)
        named[tool.name] = tool
    return named


def call_arguments(tool: Tool, arguments: str) -> dict[str, Any]:
    """Return the keyword arguments in the model's JSON text, converted to the annotated types.

    Arguments that the model left out are missing, so that the function's defaults apply. Empty text
    means no arguments.

    Raises:
        InvalidArguments: if it is not a JSON object, or does not fit the tool's parameters.
    """
    from pydantic import ValidationError

    try:
        given = tool.arguments.model_validate_json(clean_text(arguments).strip() or "{}")
    except ValidationError as error:
        mistakes = error.errors(include_url=False)[:8]
        told = [
            ": ".join(
                filter(None, (".".join(map(str, mistake["loc"]))[:100], mistake["msg"][:200]))
            )
            for mistake in mistakes
        ]
        faults = [_fault(tool, mistake["loc"], mistake["type"]) for mistake in mistakes]
        raise InvalidArguments("; ".join(told), "; ".join(faults)) from error
    except Exception as error:  # from a validator of the user
        raise InvalidArguments(fault_text(error), type(error).__name__) from error
    return {
        str(field.alias): getattr(given, key)
        for key, field in tool.arguments.model_fields.items()
        if key in given.model_fields_set
    }


def _fault(tool: Tool, loc: tuple[int | str, ...], kind: str) -> str:
    # Only the first is a name for sure: those inside may be the model's, as keys of a dict are.
    names = {str(field.alias) for field in tool.arguments.model_fields.values()}
    return f"{loc[0]}: {kind}" if loc and loc[0] in names else kind


def called(tool: Tool, arguments: Mapping[str, Any]) -> Any:
    """Call the function. `StopIteration`, which would end the exchange, becomes `RuntimeError`."""
    try:
        return tool.function(**arguments)
    except StopIteration as error:
        msg = f"StopIteration: {error}"
        raise RuntimeError(msg) from error


def result_text(result: object) -> str:
    """Return a tool's result as text: text as it is, other values as JSON.

    Values that JSON cannot hold become their `repr`, lone surrogates U+FFFD. Never raises; the text
    is strict UTF-8.
    """
    from pydantic_core import to_json

    if isinstance(result, str):
        return clean_text(str.__str__(result))
    with suppress(Exception):
        return to_json(result, serialize_unknown=True).decode()
    with suppress(Exception):
        return to_json(plain(result), serialize_unknown=True).decode()
    with suppress(Exception):
        return clean_text(repr(result))
    return f"<a {type(result).__name__} that cannot be shown>"


def plain(result: object) -> object:
    """Return a tool's result with lists for iterators, and with clean text.

    Raises:
        ValueError: if there are more items in it than anybody can read.
        Exception: what an iterator raises.
    """
    try:
        return _plain(result, ())
    except RecursionError:
        return result


def _plain(value: Any, above: tuple[int, ...]) -> Any:
    if isinstance(value, io.StringIO):
        return value.getvalue()
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, _BINARY) or id(value) in above:
        return value
    above = (*above, id(value))
    if isinstance(value, Mapping):
        made: Any = {
            _plain(k, above) if isinstance(k, str) else k: _plain(v, above)
            for k, v in value.items()
        }
        return value if type(value) is dict and _are_same(made, value) else made
    if fields := getattr(value, "__dataclass_fields__", None):
        before = {name: getattr(value, name, None) for name in fields}
        made = {} if isinstance(value, type) else _plain(before, above)
        return made if made and not _are_same(made, before) else value
    if not isinstance(value, Iterator | Sequence | AbstractSet | MappingView):
        return value
    is_usual = isinstance(value, list | tuple | set | frozenset | deque)
    several: Any = value
    items = several if is_usual else islice(several, _MOST_ITEMS + 1)
    made = [_plain(each, above) for each in items]
    if not is_usual and len(made) > _MOST_ITEMS:
        raise ValueError(f"the tool returned over {_MOST_ITEMS} items")
    return value if is_usual and all(map(operator.is_, made, items)) else made


def _are_same(mine: Mapping[Any, Any], theirs: Mapping[Any, Any]) -> bool:
    pairs = zip(mine.items(), theirs.items(), strict=False)
    return all(a is b for pair in pairs for a, b in zip(*pair, strict=True))


def refuse_bytes(result: object) -> None:
    """Refuse a result with bytes in it, also inside of other values: a model reads only text.

    Raises:
        TypeError: if there are any.
    """
    seen: set[int] = set()
    waiting = [result]
    while waiting:
        value: Any = waiting.pop()
        if isinstance(value, _BINARY) and not isinstance(value, io.TextIOBase):
            msg = "the tool returned bytes, which a model cannot read; return text, or JSON values"
            raise TypeError(msg)
        if isinstance(value, str) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Enum):
            waiting.append(value.value)
        elif isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset | deque):
            waiting += value
        elif fields := getattr(type(value), "__dataclass_fields__", None):
            waiting += [getattr(value, name, None) for name in fields]
        elif hasattr(type(value), "model_dump_json"):
            try:
                value.model_dump_json()  # as text, where the model says how
            except ValueError:
                waiting += vars(value).values()


def fault_text(error: BaseException) -> str:
    """Return the result for a tool that raised: at most 2,000 characters. Never raises."""
    words = ""
    with suppress(Exception):
        words = clean_text(str(error))
    text = f"Error: {type(error).__name__}" + (f": {words}" if words else "")
    return text if len(text) <= 2000 else text[:1999] + "…"


def _field(tool: str, parameter: inspect.Parameter, known: dict[str, Any]) -> tuple[Any, Any]:
    """Return a parameter's resolved annotation, and the pydantic field for its argument."""
    from pydantic import Field
    from pydantic.fields import FieldInfo

    if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
        msg = (
            f"tool {tool!r}: parameters must have names, got {str(parameter)!r}; list each of them "
            "(a decorator keeps them with functools.wraps)"
        )
        raise InvalidSetting(msg)
    needed = parameter.default is parameter.empty
    annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
    names: dict[str, Any] = {"alias": parameter.name, "validation_alias": parameter.name}
    if not needed:
        names["default_factory"] = dict  # never used; pydantic would copy the real default
    field = Field(**names)
    try:
        holder = SimpleNamespace(__annotations__={"": annotation})
        resolved = get_type_hints(holder, known, include_extras=True)[""]
        model = _model([(resolved, field)])
        model.model_json_schema()
        given = isinstance(parameter.default, FieldInfo)
        if given or model.model_fields["p0"].is_required() != needed:
            msg = "defaults belong in the signature, Field(...) in Annotated"
            raise TypeError(msg)
    except Exception as error:
        why = str(error).partition("\n")[0].partition(". Set ")[0][:200]
        msg = (
            f"tool {tool!r}: parameter {shown(str(parameter))} cannot be described to the model "
            f"({why}); annotate it with JSON types, dataclasses or pydantic models that its module "
            "can resolve"
        )
        raise InvalidSetting(msg) from error
    return resolved, field


def _model(fields: Iterable[tuple[Any, Any]]) -> type[BaseModel]:
    """Return a model with names (`p0`, `p1`) that cannot clash with pydantic's, and aliases."""
    from pydantic import ConfigDict, create_model

    named: dict[str, Any] = {f"p{i}": field for i, field in enumerate(fields)}
    return create_model("_Arguments", __config__=ConfigDict(extra="forbid"), **named)


def _documented(doc: str) -> tuple[str, dict[str, str]]:
    """Return a docstring's text before its first section, and the text on each parameter."""
    doc = inspect.cleandoc(doc)
    section = re.search(_ARGS, doc)
    told = re.findall(_IN_ARGS, textwrap.dedent(section[1])) if section else []
    words = {name: " ".join(text.split()) for name, text in told + re.findall(_PARAM, doc)}
    first = re.search(_SECTION, doc)
    return doc[: first.start() if first else None].strip(), words


def _untitled(schema: Any, *, names: bool = False) -> Any:
    """Return a JSON schema without pydantic's titles; `names` if its keys are names.

    Arrays without `items`, as of tuples, get some: the API refuses them (CONTRACT §3).
    """
    if isinstance(schema, list):
        return [_untitled(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "array" and "items" not in schema and not names:
        schema = {**schema, "items": {}}
    return {
        key: value
        if key in {"default", "examples"} and not names
        else _untitled(value, names=key in {"properties", "$defs"} and not names)
        for key, value in schema.items()
        if names or key != "title"
    }

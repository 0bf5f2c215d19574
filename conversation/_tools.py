"""Python functions as tools: described to the model, given its arguments, their results as text."""

from __future__ import annotations

import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_type_hints

import attrs
import orjson

from conversation._values.text import clean_text, shown
from conversation._wire.strict_json import json_bytes
from conversation.errors import InvalidSetting

if TYPE_CHECKING:
    from pydantic import BaseModel

_SECTION = re.compile(
    r"^(?:(?:Args|Arguments|Parameters|Returns?|Yields?|Raises):[ \t]*$"
    r"|:(?:param|type|returns?|rtype|raises)\b)",
    re.MULTILINE,
)
_ARGS = re.compile(
    r"^(?:Args|Arguments|Parameters):[ \t]*\n(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL
)
_IN_ARGS = re.compile(r"^(\w+)[ \t]*(?:\(.*?\))?:(.*(?:\n+[ \t]+.*)*)", re.MULTILINE)
_PARAM = re.compile(r"^:param (?:.*? )??(\w+):(.*(?:\n+[ \t]+.*)*)", re.MULTILINE)


class InvalidArguments(ValueError):
    """Arguments that do not fit the tool; says what is wrong so that the model can mend it."""


@attrs.frozen
class Tool:
    """A function that the model can call.

    Attributes:
        name: What the model calls it.
        function: What is called, with keyword arguments.
        description: The tool as the API takes it; its parameters are a JSON schema.
        arguments: What reads the model's arguments.
        is_async: Calling it gives a coroutine. (Other functions may give an awaitable, too.)
    """

    name: str
    function: Callable[..., Any] = attrs.field(
        repr=lambda function: getattr(function, "__qualname__", type(function).__name__)
    )
    description: Mapping[str, Any] = attrs.field(eq=False, repr=False)
    arguments: type[BaseModel] = attrs.field(eq=False, repr=False)
    is_async: bool = False


def tool_from(function: object) -> Tool:
    """The tool that a callable's name, signature and docstring describe.

    What a `functools.partial` has bound is not the model's to choose, and not shown to it. An
    object with `__call__` goes by its class's name.

    Raises:
        InvalidSetting: if the model could not call it, or pydantic cannot describe a parameter.
    """
    try:
        from pydantic_core import to_json
    except ImportError as error:
        msg = "functions as tools need pydantic 2.6 or later; upgrade it, or describe them by dicts"
        raise InvalidSetting(msg) from error
    if not callable(function) or isinstance(function, type):
        msg = f"a tool is a function, not {shown(function)}; write a def with types and a docstring"
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
        msg = f"a tool's name is 1 to 64 of A-Za-z0-9_-, not {shown(name)}; write a def so named"
        raise InvalidSetting(msg)
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        msg = f"tool {name!r} has no signature to read ({error}); wrap it in a def"
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
        with suppress(Exception):  # JSON cannot hold every default, and none is none
            default = orjson.loads(to_json(parameters[key].default))
            schema["properties"][key]["default"] = default
    tool = {"name": name, **({"description": about} if about else {}), "parameters": schema}
    description = json_bytes({"type": "function", "function": tool}, f"tool {name!r}")
    is_async = any(map(inspect.iscoroutinefunction, (inner, inner.__call__)))
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        msg = f"the tool {name!r} is a generator, and the model takes one result; return a list"
        raise InvalidSetting(msg)
    return Tool(name, function, orjson.loads(description), arguments, is_async)


def by_name(tools: Iterable[Tool]) -> dict[str, Tool]:
    """The tools under their names.

    Raises:
        InvalidSetting: if two have the same.
    """
    named: dict[str, Tool] = {}
    for tool in tools:
        if tool.name in named:
            msg = f"two tools are named {tool.name!r}; the model knows them by name: rename one"
            raise InvalidSetting(msg)
        named[tool.name] = tool
    return named


def call_arguments(tool: Tool, arguments: str) -> dict[str, Any]:
    """The keyword arguments in the model's JSON text, of the annotated types.

    Those that the model left out are left out, so that the function's own defaults hold. No text at
    all is no arguments.

    Raises:
        InvalidArguments: if it is no JSON object, or does not fit the tool's parameters.
    """
    from pydantic import ValidationError

    try:
        given = tool.arguments.model_validate_json(clean_text(arguments).strip() or "{}")
    except ValidationError as error:
        told = [
            ": ".join(
                filter(None, (".".join(map(str, mistake["loc"]))[:100], mistake["msg"][:200]))
            )
            for mistake in error.errors(include_url=False)[:8]
        ]
        raise InvalidArguments("; ".join(told)) from error
    except Exception as error:  # of a validator that the user wrote
        raise InvalidArguments(fault_text(error)) from error
    return {
        str(field.alias): getattr(given, key)
        for key, field in tool.arguments.model_fields.items()
        if key in given.model_fields_set
    }


def called(tool: Tool, arguments: Mapping[str, Any]) -> Any:
    """What the function returns. `StopIteration` would end the exchange, or a future, unseen."""
    try:
        return tool.function(**arguments)
    except StopIteration as error:
        msg = f"StopIteration: {error}"
        raise RuntimeError(msg) from error


def result_text(result: object) -> str:
    """A tool's result as a tool message's text: text as it is, all else as JSON, None as `null`.

    What JSON cannot hold is shown as Python shows it. Never raises; always strict UTF-8.
    """
    from pydantic_core import to_json

    if isinstance(result, str):
        return clean_text(str.__str__(result))
    with suppress(Exception):
        return to_json(result, serialize_unknown=True).decode()
    with suppress(Exception):
        return clean_text(repr(result))
    return f"<a {type(result).__name__} that cannot be shown>"


def fault_text(error: BaseException) -> str:
    """What the model is told of a tool that raised: at most 2,000 characters. Never raises."""
    words = ""
    with suppress(Exception):
        words = clean_text(str(error))
    text = f"Error: {type(error).__name__}" + (f": {words}" if words else "")
    return text if len(text) <= 2000 else text[:1999] + "…"


def _field(tool: str, parameter: inspect.Parameter, known: dict[str, Any]) -> tuple[Any, Any]:
    """A parameter's annotation, resolved, and the pydantic field that takes its argument."""
    from pydantic import Field
    from pydantic.fields import FieldInfo

    if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
        msg = (
            f"tool {tool!r} has the parameter {str(parameter)!r}, and the model calls by name; "
            "write out each one (a decorator keeps them by functools.wraps)"
        )
        raise InvalidSetting(msg)
    needed = parameter.default is parameter.empty
    annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
    names: dict[str, Any] = {"alias": parameter.name, "validation_alias": parameter.name}
    if not needed:
        names["default_factory"] = dict  # never passed on; pydantic would copy the real default
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
            f"tool {tool!r} has the parameter {shown(str(parameter))}, which cannot be described "
            f"to the model ({why}); annotate it with types of JSON, dataclasses or pydantic models "
            "that its module knows by name"
        )
        raise InvalidSetting(msg) from error
    return resolved, field


def _model(fields: Iterable[tuple[Any, Any]]) -> type[BaseModel]:
    """A model whose own names (`p0`, `p1`) cannot clash with pydantic's; the aliases are real."""
    from pydantic import ConfigDict, create_model

    named: dict[str, Any] = {f"p{i}": field for i, field in enumerate(fields)}
    return create_model("_Arguments", __config__=ConfigDict(extra="forbid"), **named)


def _documented(doc: str) -> tuple[str, dict[str, str]]:
    """A docstring's words before its first section, and those on each parameter."""
    doc = inspect.cleandoc(doc)
    section = _ARGS.search(doc)
    told = _IN_ARGS.findall(textwrap.dedent(section[1])) if section else []
    words = {name: " ".join(text.split()) for name, text in told + _PARAM.findall(doc)}
    first = _SECTION.search(doc)
    return doc[: first.start() if first else None].strip(), words


def _untitled(schema: Any, *, names: bool = False) -> Any:
    """A JSON schema without the titles that pydantic makes up; `names` if its keys are names."""
    if isinstance(schema, list):
        return [_untitled(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value
        if key in {"default", "examples"} and not names
        else _untitled(value, names=key in {"properties", "$defs"} and not names)
        for key, value in schema.items()
        if names or key != "title"
    }

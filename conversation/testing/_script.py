"""Scripts: JSON lines that say how the next requests are answered."""

from __future__ import annotations

import inspect
from typing import Any

import orjson

from conversation.testing import _answers
from conversation.testing._refusals import Refused

_ARGUMENTS = tuple(inspect.signature(_answers.scripted_answer).parameters)
_FAILURE = ("fail", "message", "code", "param")


def parse(script: str | bytes) -> list[_answers.Answer | Refused]:
    """Return the answers and errors of a script. Blank lines are skipped.

    Raises:
        ValueError: if a line is not valid, named by its number from 1.
    """
    data = script.encode("utf-8", "surrogatepass") if isinstance(script, str) else script
    answers = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if line.strip():
            try:
                answers.append(_answer_of(orjson.loads(line)))
            except orjson.JSONDecodeError as error:
                msg = f"line {number}, column {error.colno}: not JSON: {error.msg}"
                raise ValueError(msg) from error
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
    return answers


def _answer_of(line: Any) -> _answers.Answer | Refused:
    if not isinstance(line, dict):
        raise ValueError(  # noqa: TRY004
            f'expected an object such as {{"text": "Sunny."}}, got {line!r:.80}'
        )
    known = _FAILURE if "fail" in line else _ARGUMENTS
    for name in line:
        if name not in known:
            raise ValueError(f"unknown key {name!r}; expected {', '.join(known)}")
    if "fail" in line:
        return _answers.scripted_failure(line.pop("fail"), **line)
    return _answers.scripted_answer(**line)

"""Errors in the API's own words (CONTRACT §3)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


class Refused(Exception):  # an answer of the server, not one of the package's errors
    """An error that the server answers with."""

    def __init__(
        self, message: str, param: str | None = None, code: str | None = None, status: int = 400
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.status = status

    @property
    def body(self) -> dict[str, Any]:
        """JSON body of the answer."""
        is_server_error = self.status >= 500 or self.status == 413
        kind = "server_error" if is_server_error else "invalid_request_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}


def missing_parameter(path: str) -> Refused:
    """Return the error for an absent parameter."""
    return Refused(f"Missing required parameter: '{path}'.", path, "missing_required_parameter")


def missing_model() -> Refused:
    """Return the error for an absent model, the same on every endpoint."""
    return Refused("you must provide a model parameter")


def unreadable_body() -> Refused:
    """Return the error for a body that is not a JSON object, or a model that is not a string."""
    return Refused("We could not parse the JSON body of your request.")


def model_not_found(model: str) -> Refused:
    """Return the error for an unknown or retired model."""
    message = f"The model `{model}` does not exist or you do not have access to it."
    return Refused(message, None, "model_not_found", 404)


def unknown_parameter(path: str) -> Refused:
    """Return the error for an unknown parameter."""
    return Refused(f"Unknown parameter: '{path}'.", path, "unknown_parameter")


def empty_array(path: str) -> Refused:
    """Return the error for an array that must not be empty."""
    message = (
        f"Invalid '{path}': empty array. Expected an array with minimum length 1, but got an "
        "empty array instead."
    )
    return Refused(message, path, "empty_array")


def too_long(path: str, kind: str, most: int, length: int) -> Refused:
    """Return the error for a string or an array that is too long."""
    article = "a" if kind == "string" else "an"
    message = (
        f"Invalid '{path}': {kind} too long. Expected {article} {kind} with maximum length {most}, "
        f"but got {article} {kind} with length {length} instead."
    )
    return Refused(message, path, f"{kind}_above_max_length")


def out_of_bounds(
    path: str, kind: str, low: float | None, high: float | None, value: float
) -> Refused:
    """Return the error for an integer or a decimal below or above its bounds."""
    below = low is not None and value < low
    side, name, sign, bound = (
        ("below minimum", "below_min", ">=", low)
        if below
        else ("above maximum", "above_max", "<=", high)
    )
    message = (
        f"Invalid '{path}': {kind} {side} value. Expected a value {sign} {bound}, but got {value} "
        "instead."
    )
    return Refused(message, path, f"{kind}_{name}_value")


def not_without(path: str, other: str) -> Refused:
    """Return the error for a parameter that is sent without the one it belongs to."""
    message = f"Invalid value for '{path}': '{path}' is only allowed when '{other}' are specified."
    return Refused(message, path)


def not_enabled(path: str, other: str) -> Refused:
    """Return the error for a parameter of a feature that the request leaves off."""
    return Refused(f"The '{path}' parameter is only allowed when '{other}' is enabled.", path)


def _listed(values: Collection[str], conjunction: str) -> str:
    *most, last = [f"'{value}'" for value in values]
    comma = "," if len(most) > 1 else ""
    return f"{', '.join(most)}{comma} {conjunction} {last}" if most else last


def one_of_values(values: Collection[str]) -> str:
    """Return the words for an enumerated string in errors about types."""
    return f"one of {_listed(values, 'or')}"


def invalid_value(value: Any, values: Collection[str], path: str) -> Refused:
    """Return the error for a value that is not one of the supported ones."""
    message = f"Invalid value: '{value}'. Supported values are: {_listed(values, 'and')}."
    return Refused(message, path, "invalid_value")


def invalid_type(path: str, expected: str, value: Any) -> Refused:
    """Return the error for a value of the wrong type."""
    names = {
        type(None): "null",
        str: "a string",
        bool: "a boolean",
        int: "an integer",
        float: "a decimal number",
        list: "an array",
        dict: "an object",
    }
    found = names.get(type(value), type(value).__name__)
    message = f"Invalid type for '{path}': expected {expected}, but got {found} instead."
    return Refused(message, path, "invalid_type")


def unsupported_here(what: str, param: str, verb: str = "make", instead: str = "") -> Refused:
    """Return the error for a feature of the API that the stand-in lacks, with what it has."""
    message = f"This is a stand-in: it does not {verb} {what}; the real API does."
    if instead:
        message += f" Ask for {instead}."
    return Refused(message, param, "not_made_by_the_stand_in")


def server_error() -> Refused:
    """Return the API's internal error."""
    return Refused("The server had an error while processing your request.", status=500)

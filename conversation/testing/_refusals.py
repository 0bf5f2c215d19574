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


def invalid_value(value: Any, values: Collection[str], path: str) -> Refused:
    """Return the error for a value that is not one of the supported ones."""
    *most, last = [f"'{value}'" for value in values]
    listed = f"{', '.join(most)}{',' if len(most) > 1 else ''} and {last}"
    return Refused(
        f"Invalid value: '{value}'. Supported values are: {listed}.", path, "invalid_value"
    )


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


def unsupported_here(what: str, param: str, verb: str = "make") -> Refused:
    """Return the error for a feature of the API that the stand-in lacks."""
    message = f"This is a stand-in: it does not {verb} {what}; the real API does."
    return Refused(message, param, "not_made_by_the_stand_in")


def server_error() -> Refused:
    """Return the API's internal error."""
    return Refused("The server had an error while processing your request.", status=500)

"""Errors as the API words them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


class Refused(Exception):  # it is an answer of the server, not a fault of ours
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
        """As the API writes it."""
        ours = self.status >= 500 or self.status == 413
        kind = "server_error" if ours else "invalid_request_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}


def missing(path: str) -> Refused:
    """A parameter that is not there."""
    return Refused(f"Missing required parameter: '{path}'.", path, "missing_required_parameter")


def no_model() -> Refused:
    """The one parameter that every endpoint misses in the same words."""
    return Refused("you must provide a model parameter")


def unreadable() -> Refused:
    """A body that is no JSON object, or whose model is no text."""
    return Refused("We could not parse the JSON body of your request.")


def model_not_found(model: str) -> Refused:
    """A model that was shut down, or never was."""
    message = f"The model `{model}` does not exist or you do not have access to it."
    return Refused(message, None, "model_not_found", 404)


def unknown(path: str) -> Refused:
    """A parameter that nobody knows."""
    return Refused(f"Unknown parameter: '{path}'.", path, "unknown_parameter")


def empty_array(path: str) -> Refused:
    """An array that has to hold something."""
    message = (
        f"Invalid '{path}': empty array. Expected an array with minimum length 1, but got an "
        "empty array instead."
    )
    return Refused(message, path, "empty_array")


def not_in(value: Any, values: Collection[str], path: str) -> Refused:
    """A value that is none of the supported ones."""
    *most, last = [f"'{value}'" for value in values]
    listed = f"{', '.join(most)}{',' if len(most) > 1 else ''} and {last}"
    return Refused(
        f"Invalid value: '{value}'. Supported values are: {listed}.", path, "invalid_value"
    )


def wrong_type(path: str, expected: str, value: Any) -> Refused:
    """A value of another type."""
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


def not_by_the_stand_in(what: str, param: str, does: str = "make") -> Refused:
    """What the real API does and the stand-in does not, named."""
    message = f"This is a stand-in: it does not {does} {what}, which the real API does."
    return Refused(message, param, "not_made_by_the_stand_in")


def server_error() -> Refused:
    """A fault of the server's own."""
    return Refused("The server had an error while processing your request.", status=500)

"""Bytes in memory, or stored elsewhere and read when needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal, TypeAlias

import attrs

from conversation._values.text import shown
from conversation.errors import AudioFileMissing, InvalidTurn


class Stored(ABC):
    """Bytes that are stored elsewhere, and read when needed."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name by which a saved turn refers to them."""

    @property
    def path(self) -> Path | None:
        """The file that holds them, where it is a file of its own."""
        return None

    @abstractmethod
    def read(self) -> bytes:
        """Return the bytes.

        Raises:
            AudioFileMissing: if they are gone.
        """

    def size(self) -> int:
        """Return the number of bytes; 0 if they are gone."""
        try:
            return len(self.read())
        except AudioFileMissing:
            return 0


@attrs.frozen
class NotKept(Stored):
    """Bytes that were left out when their turn was saved."""

    name: str = ""

    def read(self) -> bytes:
        """Raise the error for missing bytes.

        Raises:
            AudioFileMissing: always.
        """
        msg = "these bytes were left out when the turn was saved; only the words are known"
        raise AudioFileMissing(msg)


@attrs.frozen
class Unsaved(Stored):
    """Bytes in memory that are not saved with their turn.

    Attributes:
        data: The bytes.
    """

    data: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")
    name: str = ""

    def read(self) -> bytes:
        """Return the bytes."""
        return self.data


Data: TypeAlias = bytes | Stored

Kind: TypeAlias = Literal["answer", "speech", "image", "file"]
"""Bytes of a turn: a spoken answer, sound of the user, a picture, a document."""


def read_data(data: Data) -> bytes:
    """Return the bytes, wherever they are."""
    return data if isinstance(data, bytes) else data.read()


def size_in_bytes(data: Data) -> int:
    """Return the number of bytes; 0 if they are gone."""
    return len(data) if isinstance(data, bytes) else data.size()


def as_data(value: Data) -> Data:
    """Return the data, a buffer as bytes."""
    return value if isinstance(value, Stored) else as_bytes(value)


def as_bytes(value: bytes) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        msg = (
            f"expected bytes, got {type(value).__name__}: {shown(value)}; "
            "use from_file(path) for a file, base64.b64decode(text) for base64"
        )
        raise InvalidTurn(msg)
    return bytes(value)


def as_optional_data(value: Data | None) -> Data | None:
    return None if value is None else as_data(value)


def path_of(data: Data | None) -> Path | None:
    return data.path if isinstance(data, Stored) else None


def size_of(data: Data | None) -> str:
    """Return the size, or the name, for a `repr`."""
    return f"<{len(data)} bytes>" if isinstance(data, bytes) else str(data and data.name)

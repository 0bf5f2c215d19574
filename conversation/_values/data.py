"""Bytes in memory, or kept elsewhere and read when they are needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, TypeAlias

import attrs

from conversation._values.text import shown
from conversation.errors import AudioFileMissing, InvalidTurn


class Stored(ABC):
    """Bytes that are kept elsewhere, and read when they are needed."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What a saved turn calls them by."""

    @abstractmethod
    def read(self) -> bytes:
        """The bytes.

        Raises:
            AudioFileMissing: if they are gone.
        """

    def size(self) -> int:
        """How many bytes they are; 0 if they are gone."""
        try:
            return len(self.read())
        except AudioFileMissing:
            return 0


@attrs.frozen
class NotKept(Stored):
    """Bytes that were not saved, by the wish of who saved."""

    name: str = ""

    def read(self) -> bytes:
        """Nothing to be had.

        Raises:
            AudioFileMissing: always.
        """
        msg = "these bytes were not kept when the turn was saved; only the words are known"
        raise AudioFileMissing(msg)


@attrs.frozen
class Unsaved(Stored):
    """Bytes in memory that are not to be saved with their turn.

    Attributes:
        data: The bytes.
    """

    data: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")
    name: str = ""

    def read(self) -> bytes:
        """The bytes."""
        return self.data


Data: TypeAlias = bytes | Stored

Kind: TypeAlias = Literal["answer", "speech", "image", "file"]
"""Bytes of a turn: a spoken answer, sound of the user, a picture, a document."""


def read_data(data: Data) -> bytes:
    """The bytes, wherever they are."""
    return data if isinstance(data, bytes) else data.read()


def size_in_bytes(data: Data) -> int:
    """How many bytes there are, wherever they are; 0 if they are gone."""
    return len(data) if isinstance(data, bytes) else data.size()


def as_data(value: Data) -> Data:
    """The same, as bytes where it is a buffer."""
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
    """The same, or None."""
    return None if value is None else as_data(value)


def size_of(data: Data | None) -> str:
    """For a `repr`: how much there is, or what it is called."""
    return f"<{len(data)} bytes>" if isinstance(data, bytes) else str(data and data.name)

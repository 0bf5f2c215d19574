"""The bytes of a turn as a file in its session's folder."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import attrs

from conversation._values.data import NotKept, Stored
from conversation.errors import AudioFileMissing, InvalidTurn, SessionCorrupt
from conversation.stores._disk import open_regular, read_all

_BARE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")


def check_name(name: str) -> None:
    """Refuse names that `keep` could not have given.

    Raises:
        InvalidTurn: if it is no bare file name.
    """
    if not _BARE_NAME.fullmatch(name):
        msg = f"file must be a bare name such as 0002-7f3a91c4.wav, got {name!r}"
        raise InvalidTurn(msg)


@attrs.frozen
class StoredFile(Stored):
    """A turn's bytes in a session's folder.

    Attributes:
        folder: The folder.
        name: The file's bare name.
    """

    folder: Path
    name: str

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / self.name

    def read(self) -> bytes:
        """Return the file's bytes.

        Raises:
            AudioFileMissing: if it is gone, or no longer a regular file of the folder.
        """
        descriptor = None
        with contextlib.suppress(OSError):
            if not self.folder.is_symlink():
                descriptor = open_regular(self.path)
        if descriptor is None:
            msg = f"the file {self.path} is gone; the turn's words are still there"
            raise AudioFileMissing(msg, path=self.path)
        try:
            return read_all(descriptor)
        finally:
            os.close(descriptor)

    def size(self) -> int:
        """Return the file's size in bytes; 0 if it is gone."""
        with contextlib.suppress(OSError):
            return self.path.lstat().st_size
        return 0


def fetch_beside(document: Path) -> Callable[[str], Stored]:
    """Return a function that finds what a session's document names, in the folder beside it.

    It raises `SessionCorrupt` if there is no such folder; names that no session gives mean nothing.
    """
    folder = document.with_name(f"{document.name.removesuffix('.json')}.audio")

    def fetch(name: str) -> Stored:
        if not _BARE_NAME.fullmatch(name):
            return NotKept()
        if not folder.is_dir():
            msg = (
                f"{document} is the document of a session without its sound, which lies in "
                f"{folder.name} beside it; export the session by `conversation export --format "
                "json`, or copy that folder, too"
            )
            raise SessionCorrupt(msg, path=document, reason="its sound is not beside it")
        return StoredFile(folder, name)

    return fetch

"""`conversation export`: sessions in other formats, each in its own file or a line of one."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from conversation._cli.places import AnyStore, listed
from conversation._cli.session import give_up_stand_in
from conversation._cli.terminal import (
    note,
    one_line,
    progress,
    report,
    show_progress,
    write_line,
)
from conversation._cli.verification import files_of
from conversation._conversation import Conversation
from conversation._export.formats import FORMATS, format_for
from conversation._values.naming import Naming
from conversation._values.text import CONTROLS_BEYOND, counted
from conversation._wire.failures import is_refused_sound
from conversation.errors import InvalidSetting, SessionError, SessionUnavailable
from conversation.stores._disk import replace_file
from conversation.stores.files import FileStore

_UNFIT = re.compile(
    rf'[\0-\x1f<>:"/\\|?*\ud800-\udfff]|^[. ]|[. ]$|{CONTROLS_BEYOND.pattern}'
    r"|^(?=(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$))",
    re.IGNORECASE,
)
"""What some file system or terminal does not take in a name, and the beginnings of device names."""

_LONGEST_NAME = 200
"""Bytes of a file's name, of some 255; an ending follows."""


def export(options: argparse.Namespace, store: AnyStore) -> int:
    """Write sessions in another format; exit status 1 if one could not be exported."""
    sessions, status = listed(store) if options.all else ((), 0)
    ids = [info.id for info in sessions] if options.all else list(dict.fromkeys(options.id))
    if options.all and not ids:
        report(f"no sessions in {store.place}: nothing to export")
        return status
    if not ids:
        msg = "name at least one session, or pass --all; `conversation list` shows them"
        raise InvalidSetting(msg)
    path = None if options.output in (None, "-") else Path(options.output)
    folder, format_name = _targets(path, options, ids)
    exporting = _Exporting(options, store, format_name)
    if path is not None and folder is None and len(ids) > 1:
        exporting.into(path, ids)
    else:
        for session_id in progress("exporting", ids):
            exporting.one(session_id, path, folder)
    return status | exporting.status


def _targets(
    path: Path | None, options: argparse.Namespace, ids: Sequence[str]
) -> tuple[Path | None, str]:
    """Return the folder for files that are named after their sessions, if any, and the format."""
    if path is None:
        return None if options.output else Path(), options.format or "html"
    is_named = path.name.lower().endswith(tuple(each.ending for each in FORMATS.values()))
    if path.is_dir() or (not is_named and (options.all or len(options.id) > 1)):
        return path, options.format or "html"
    format_name = options.format or format_for(path, None, option="--format")
    if len(ids) > 1 and format_name != "jsonl":
        msg = f"{path} would hold several sessions, which only .jsonl can; -o takes a folder, too"
        raise InvalidSetting(msg)
    return None, format_name


class _Exporting:
    """Exports sessions one by one.

    Attributes:
        status: The exit status: 1 if one of all sessions could not be exported.
    """

    def __init__(self, options: argparse.Namespace, store: AnyStore, format_name: str) -> None:
        self.status = 0
        self._options = options
        self._store = store
        self._format = format_name
        self._names: set[str] = set()

    def one(self, session_id: str, path: Path | None, folder: Path | None) -> None:
        """Write a session into a file, which may be one of a folder; without any, to stdout."""
        with self._skipping():
            chat = self._opened(session_id)
            if folder is not None:
                path = folder / f"{self._name(session_id)}{FORMATS[self._format].ending}"
            if path is None:
                sys.stdout.flush()
                with Naming(chat.id):
                    sys.stdout.buffer.writelines(chat._pieces(self._format))
                return
            self._check(path)
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            chat.export(path, self._format)
            self._tell(path)

    def into(self, path: Path, ids: Sequence[str]) -> None:
        """Write sessions into one file, a line each."""
        self._check(path)
        replace_file(path, self._lines(ids))
        self._tell(path)
        note("its lines hold words alone, and no names; files of --format json keep everything")

    def _lines(self, ids: Sequence[str]) -> Iterator[bytes]:
        for session_id in progress("exporting", ids):
            with self._skipping():
                chat = self._opened(session_id)
                with Naming(chat.id):
                    line = b"".join(chat._pieces(self._format))
                yield line

    def _opened(self, session_id: str) -> Conversation:
        if self._options.transcribe:
            _transcribe(self._store, session_id)
        chat = Conversation.open(session_id, store=self._store, read_only=True)
        if self._format == "html":
            give_up_stand_in(chat)
        if self._format in ("html", "json"):
            there = self._store.session(session_id).sizes()
            gone = [data.name for *_, data, _ in files_of(chat.turns) if data.name not in there]
            if gone:
                show_progress("")
                files = counted(len(gone), "file")
                report(f"{session_id}: {files} with sound or the like missing: exported without")
        return chat

    @contextlib.contextmanager
    def _skipping(self) -> Iterator[None]:
        """Go on with the next session where all are exported, and one cannot be."""
        try:
            yield
        except SessionUnavailable:
            raise
        except SessionError as error:
            if not self._options.all:
                raise
            show_progress("")
            report(one_line(error))
            self.status = 1

    def _name(self, session_id: str) -> str:
        """Return a name for a file that people recognise, and that no other session has got."""
        short = unicodedata.normalize("NFC", session_id).encode()[:_LONGEST_NAME]
        readable = name = _UNFIT.sub("_", short.decode(errors="ignore"))
        number = 1
        while name.casefold() in self._names:  # as some file systems compare names
            number += 1
            name = f"{readable}-{number}"
        self._names.add(name.casefold())
        return name

    def _check(self, path: Path) -> None:
        """Refuse to overwrite files, unless forced to, and those of the store.

        Raises:
            InvalidSetting: if it would.
        """
        if path.is_file() and not self._options.force:
            msg = f"{path} already exists; --force overwrites it, -o PATH writes elsewhere"
            raise InvalidSetting(msg)
        target = path.resolve()
        root = self._store.root.resolve() if isinstance(self._store, FileStore) else None
        if (
            root
            and target.is_relative_to(root)
            and (target.suffix == ".json" or target.parent.suffix == ".audio")
        ):
            msg = f"{path} would overwrite a saved session; choose another path"
            raise InvalidSetting(msg)

    @staticmethod
    def _tell(path: Path) -> None:
        show_progress("")
        if path.is_file():
            write_line(str(path))


def _transcribe(store: AnyStore, session_id: str) -> None:
    """Find the words of user sound; sound that fails by itself is exported without them."""
    with Conversation.open(session_id, store=store, create=False) as chat:
        before: object = None
        while before != chat.turns:
            first, before = before is None, chat.turns
            try:
                chat.transcribe()
            except Exception as error:
                if not is_refused_sound(error) and (getattr(error, "status_code", 0) or 0) < 500:
                    raise
                show_progress("")
                if first:
                    report(f"{session_id}: {one_line(error)}")
                    before = ()  # behind two failures in a row, there may be others
            else:
                return

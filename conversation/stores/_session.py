"""One session in files: its lock, its document, and the files that its turns name."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from conversation._locking import Polling, check_timeout
from conversation._values.data import Data, Unsaved, read_data
from conversation._values.turns import Turn
from conversation._wire.reading import turn_from_entry
from conversation._wire.writing import line_from_entry
from conversation.errors import (
    AudioFileMissing,
    InvalidTurn,
    SaveFailed,
    SessionCorrupt,
    SessionError,
    SessionNotFound,
    another_session,
    corrupt,
    not_found,
)
from conversation.stores import Kind, News, Recovery, Salvage, State
from conversation.stores._arguments import is_kept
from conversation.stores._disk import Disk, read_regular, remove_tree
from conversation.stores._document import Document
from conversation.stores._format import Snapshot, Torn, id_in
from conversation.stores._queue import QueuedLock
from conversation.stores._stored_file import StoredFile, check_name
from conversation.stores._sweeping import silenced

log = logging.getLogger("conversation")

_T = TypeVar("_T")

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""Errors of file systems without locks, as some of networks and in user space are."""


class FileSession:
    """One session of a `FileStore`; a `StoredSession`.

    Args:
        file: Its document.
        session_id: The id that it is opened by.
        disk: The system calls to write with.
        keep_sound: As in `FileStore`.

    Attributes:
        lock: Its lock.
    """

    pauses = (0.0005, 0.01)

    def __init__(self, file: Path, session_id: str, disk: Disk, keep_sound: str) -> None:
        self.id = session_id
        self.file = file
        self._folder = file.with_name(f"{file.name.removesuffix('.json')}.audio")
        self.lock = QueuedLock(self._folder.with_suffix(".lock"), file, disk)
        self._disk = disk
        self._keep_sound = keep_sound
        self._document = Document(file, disk, partial(line_from_entry, fetch=self.fetch))

    @property
    def place(self) -> str:
        """The document's path."""
        return str(self.file)

    # --- the lock ------------------------------------------------------------------------------

    def acquire(self) -> News | None:
        """Lock the session and read what others changed; None if another one holds the lock.

        Waiters are admitted in the order in which they came, across processes.

        Raises:
            SessionChanged: if the session was deleted.
            SessionCorrupt, SessionTooNew: if it is no sound session; it is not changed.
            SaveFailed: if the lock or a repair cannot be written, or the session cannot be read.
        """
        try:
            with self._writing():
                if not self.lock.try_acquire():
                    return None
                news = self._sound(self._document.news)
                return News(state=self._repaired(news)) if isinstance(news, Snapshot) else news
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Unlock the session and leave the queue; idempotent."""
        self.lock.release()

    @contextlib.contextmanager
    def locked(self, timeout: float) -> Iterator[None]:
        """Hold the lock against all other processes, threads and objects; reads nothing.

        Raises:
            InvalidSetting: if `timeout` is no number >= 0.
            SessionLocked: if another one held it for `timeout` seconds.
            SaveFailed: if the lock's file cannot be made.
        """
        check_timeout(timeout)
        polling = Polling(timeout, self.pauses, self.place, self.file)
        try:
            with self._writing():
                while not self.lock.try_acquire():
                    time.sleep(polling.pause())
            yield
        finally:
            try:
                self.lock.release()
            finally:
                self.lock.release()  # again, if it was interrupted

    # --- the document --------------------------------------------------------------------------

    def read(self) -> State | None:
        """Return the content of the session; None if nothing was ever written. Needs no lock.

        Raises:
            SessionCorrupt, SessionTooNew: if it is no sound session; it is not changed.
            OSError: if it cannot be read.
        """
        snapshot = self._sound(self._document.read)
        if snapshot is None:
            return None
        self._check(snapshot)
        if snapshot.torn is None or self.lock.is_taken():
            return State(snapshot.header, snapshot.entries)
        return self._recovered(snapshot, snapshot.torn, None)

    def look(self) -> News | None:
        """Return what others added since the last look; None if only `read` can tell."""
        return self._document.look()

    def _sound(self, read: Callable[[], _T]) -> _T:
        """Return what is read; the error about damage names `repair` where that helps."""
        try:
            return read()
        except SessionCorrupt as error:
            mends = self.file.is_file() and not self.file.is_symlink()
            raise corrupt(self.file, error.reason, error.line, mends=mends) from error

    def _check(self, snapshot: Snapshot) -> None:
        said = snapshot.header.get("id")
        if said != self.id:
            raise another_session(self.file, said, self.id)

    def _repaired(self, snapshot: Snapshot, modified: int | None = None) -> State:
        """Put a torn end aside and make the document whole; needs the lock."""
        self._check(snapshot)
        torn, put_aside = snapshot.torn, None
        if torn is None:
            return State(snapshot.header, snapshot.entries)
        with self._writing():
            if torn.rest:
                put_aside = self._folder.with_suffix(f".torn-{os.urandom(4).hex()}")
                self._write(put_aside, torn.rest)
            lines = dict(enumerate(torn.lines))
            try:
                self.lock.check()
                self._document.rewrite(snapshot.header, lines, len(lines), modified=modified)
            except BaseException:
                if put_aside is not None:
                    with contextlib.suppress(OSError):
                        put_aside.unlink()  # it is still in the document
                raise
        return self._recovered(snapshot, torn, put_aside)

    def _recovered(self, snapshot: Snapshot, torn: Torn, put_aside: Path | None) -> State:
        log.warning(
            "session %r: the last write was cut off at line %d; it may have been acknowledged; "
            "%d bytes were %s",
            self.id,
            torn.line,
            len(torn.rest),
            f"put aside as {put_aside}" if put_aside else "left in place",
        )
        recovery = Recovery(torn.line, len(torn.rest), put_aside)
        return State(snapshot.header, snapshot.entries, recovery)

    def append(self, entries: Sequence[bytes]) -> None:
        """Add turns, durably, or change nothing."""
        with self._writing():
            self.lock.check()
            self._document.append(entries)

    def rewrite(self, header: Mapping[str, Any], changed: Mapping[int, bytes], length: int) -> None:
        """Replace the content, durably, or change nothing."""
        with self._writing():
            self.lock.check()
            self._disk.make_folder(self.file.parent)
            self._document.rewrite(header, changed, length)

    # --- sound, pictures and documents ---------------------------------------------------------

    def keep(
        self, data: Data, suffix: str, *, position: int, kind: Kind, name: str | None = None
    ) -> Data:
        """Put a turn's bytes into a file of their own, durably.

        Returns:
            The file; or the bytes in memory, where `keep_sound` excludes them.

        Raises:
            SaveFailed: if the disk refuses.
        """
        if isinstance(data, StoredFile) and data.folder == self._folder:
            return data
        if not is_kept(kind, self._keep_sound):
            return Unsaved(read_data(data))
        name = name or f"{position + 1:04}-{os.urandom(4).hex()}.{suffix}"
        kept = StoredFile(self._folder, name)
        with self._writing():
            if self._folder.is_symlink():
                raise OSError(f"{self._folder} is a link")
            self._disk.make_folder(self._folder)
            if not (isinstance(data, StoredFile) and self._link(data, kept.path)):
                self._write(kept.path, read_data(data))
        return kept

    def _link(self, stored: StoredFile, path: Path) -> bool:
        """Give a file of another session a second name here; such files are never written to."""
        try:
            if stored.folder.is_symlink() or not stat.S_ISREG(stored.path.lstat().st_mode):
                return False
            os.link(stored.path, path, follow_symlinks=False)
        except (OSError, NotImplementedError):
            return False
        self._sync_name(path)
        return True

    def fetch(self, name: str) -> StoredFile:
        """Return the file of this name in the session's folder, which need not be there.

        Raises:
            InvalidTurn: if it is no bare file name.
        """
        check_name(name)
        return StoredFile(self._folder, name)

    def fetch_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of these files; missing ones are left out."""
        found = {}
        for name in names:
            with contextlib.suppress(AudioFileMissing):
                found[name] = self.fetch(name).read()
        return found

    def sizes(self) -> dict[str, int]:
        """Return the sizes in bytes of all files in the session's folder, by their names."""
        found: dict[str, int] = {}
        with contextlib.suppress(OSError):
            if not self._folder.is_symlink():
                with os.scandir(self._folder) as entries:
                    found = {e.name: e.stat(follow_symlinks=False).st_size for e in entries}
        return found

    def discard(self, names: Iterable[str]) -> None:
        """Remove files that the document does not name; the ones that cannot be removed stay.

        All stay while nobody knows what the disk holds, after a failed sync.
        """
        names = list(names)
        if not names or self._document.is_unsure or self._folder.is_symlink():
            return
        with contextlib.suppress(OSError):
            document = self.file.read_bytes() if self.file.exists() else b""
            for name in names:
                if name.encode() not in document:
                    (self._folder / name).unlink(missing_ok=True)

    # --- repairing and deleting ----------------------------------------------------------------

    def not_found(self) -> SessionNotFound:
        """Return the error for a session that does not exist."""
        return not_found(self.id, self.place, self.file)

    def repair(self) -> Salvage:
        """Save what can be read of the document; needs the lock."""
        from conversation.stores._salvage import salvage

        if not self.file.exists():
            raise self.not_found()
        self._refuse_another()
        with self._writing():
            return salvage(self.file, self.id, self._turn_in, self._disk, self.lock.check)

    def _turn_in(self, value: object) -> Turn | None:
        with contextlib.suppress(InvalidTurn):
            return turn_from_entry(value, fetch=self.fetch)
        return None

    def _refuse_another(self) -> None:
        """Refuse to change the files of another session, as file systems that ignore case offer.

        Raises:
            SessionCorrupt: if the document names another id, or lies under another name.
        """
        said = None
        with contextlib.suppress(OSError):
            said = id_in(read_regular(self.file) or b"")
        if said is not None and said != self.id:
            raise another_session(self.file, said, self.id)
        listed = set() if said else set(self.file.parent.iterdir())
        for path in (self.file, self._folder):
            own = {path, path.with_name(path.name.lower())}  # some file systems list small letters
            if not said and os.path.lexists(path) and not own & listed:
                reason = "its name has another case: this file system ignores it"
                raise corrupt(path, f"it is another session's ({reason})")

    def remove(self) -> None:
        """Delete the session and all its files; needs the lock."""
        if not self.exists():
            self.lock.path.unlink(missing_ok=True)
            raise self.not_found()
        self._refuse_another()
        self.lock.check()
        try:
            self.file.unlink(missing_ok=True)
            for path in (self._folder, *self._left_over()):
                remove_tree(path)
            with contextlib.suppress(OSError):
                remove_tree(self._folder.with_suffix(".queue"))
            self._disk.sync_folder(self.file.parent)
            self.lock.path.unlink(missing_ok=True)
        except OSError as error:
            # The rest can be deleted by another call.
            raise self._failed(Path(error.filename or self.file), error, "deleted") from error

    def silence(self, *, dry_run: bool) -> bool:
        """Delete all sound, and nothing else; needs the lock, unless it is a dry run.

        The time of the last change stays. Where it is interrupted, another call completes it.

        Returns:
            False if there is none.
        """
        with self._writing():
            snapshot = self._sound(self._document.read)
            if snapshot is None:
                raise self.not_found()
            self._check(snapshot)
            lines, names = silenced(snapshot.entries, self.fetch, self.place)
            there = self._folder.is_dir() and not self._folder.is_symlink()
            files = (
                [path for path in self._folder.iterdir() if path.name not in names] if there else []
            )
            if not (lines or files) or dry_run:
                return bool(lines or files)
            modified = self.file.stat().st_mtime_ns
            if snapshot.torn is not None:
                self._repaired(snapshot, modified)
            self.lock.check()
            if lines:
                length = len(snapshot.entries)
                self._document.rewrite(snapshot.header, lines, length, modified=modified)
            for path in files:
                remove_tree(path)
            if files:
                self._disk.sync_folder(self._folder)
            return True

    def exists(self) -> bool:
        """Return True if there is anything to delete; a crash may have left sound alone."""
        return any(map(os.path.lexists, (self.file, self._folder))) or bool(self._left_over())

    def _left_over(self) -> list[Path]:
        """Return files of recoveries and repairs, and temporary ones of killed writers."""
        aside = rf"{re.escape(self._folder.stem)}\.(torn|damaged)-[0-9a-f]{{8}}"
        name = re.compile(rf"{aside}|\.{re.escape(self.file.name)}(\.part)?\.tmp")
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return [path for path in self.file.parent.iterdir() if name.fullmatch(path.name)]
        return []

    # --- writing -------------------------------------------------------------------------------

    def _write(self, path: Path, data: bytes) -> None:
        temporary = path.with_name(f".{self.file.name}.part.tmp")
        os.close(self._disk.write_new(path, (data,), temporary=temporary))
        self._sync_name(path)

    def _sync_name(self, path: Path) -> None:
        """Make the name of a new file durable, or remove it."""
        try:
            self._disk.sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except SessionError:
            raise
        except OSError as error:
            raise self._failed(self.file, error) from error

    def _failed(self, path: Path, error: OSError, what: str = "saved") -> SaveFailed:
        why = error.strerror or str(error)
        unchanged = "" if what == "deleted" else "; nothing was changed"
        msg = f"session {self.id!r} could not be {what} ({why}: {path}){unchanged}"
        if error.errno in _NO_LOCKS:
            msg += (
                "; this file system has no file locks: keep sessions on a local disk, by "
                "FileStore(folder), $CONVERSATION_HOME or --store"
            )
        return SaveFailed(msg, path=path)

"""One session in files: its lock, its document, and the files that its turns name."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from conversation._locking import Hold
from conversation._values.data import Data, Stored, Unsaved, read_data
from conversation._values.sound import FORMATS
from conversation._wire.reading import turn_from_entry
from conversation.errors import (
    AudioFileMissing,
    InvalidTurn,
    SaveFailed,
    SessionError,
    SessionNotFound,
    corrupt,
)
from conversation.stores import Recovery, Salvage, State
from conversation.stores._disk import Disk, open_regular, read_all
from conversation.stores._document import Document
from conversation.stores._format import Snapshot

log = logging.getLogger("conversation")

_BARE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")


@functools.cache
def _lock_functions() -> tuple[Callable[..., bool], Callable[[int], None]]:
    import filelock

    return filelock.lock_descriptor, filelock.unlock_descriptor


@attrs.frozen
class StoredFile(Stored):
    """A turn's bytes in a session's folder.

    Attributes:
        path: The file.
    """

    path: Path

    @property
    def name(self) -> str:
        """The file's bare name."""
        return self.path.name

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            AudioFileMissing: if it is gone, or no regular file of the folder any more.
        """
        descriptor = None
        with contextlib.suppress(OSError):
            if not self.path.parent.is_symlink():
                descriptor = open_regular(self.path)
        if descriptor is None:
            msg = f"the file {self.path} is gone; the turn's words are still there"
            raise AudioFileMissing(msg, path=self.path)
        try:
            return read_all(descriptor)
        finally:
            os.close(descriptor)

    def size(self) -> int:
        """The file's size; 0 if it is gone."""
        with contextlib.suppress(OSError):
            return self.path.lstat().st_size
        return 0


class FileSession:
    """One session of a `FileStore`.

    Args:
        place: Its document.
        session_id: What it is opened by.
        disk: How to write.
        keep_sound: As in `FileStore`.
    """

    def __init__(self, place: Path, session_id: str, disk: Disk, keep_sound: str) -> None:
        self._id = session_id
        self.place = place
        self._folder = place.with_name(f"{place.name.removesuffix('.json')}.audio")
        self._lock = self._folder.with_suffix(".lock")
        self._disk = disk
        self._keep_sound = keep_sound
        self._document = Document(self.place, disk)
        self._descriptor: int | None = None
        self._process = os.getpid()

    @property
    def id(self) -> str:
        """What it is opened by."""
        return self._id

    @property
    def can_grow(self) -> bool:
        """Whether `append` is possible; else the next write is a whole one."""
        return self._document.can_grow

    # --- the lock ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self, timeout: float) -> Iterator[None]:
        """Hold the session against all other processes, threads and objects.

        Raises:
            SessionLocked: if somebody else held it for `timeout` seconds.
            SaveFailed: if the lock's file cannot be made.
        """
        hold = Hold(self.try_lock, self.unlock, timeout, self.place)
        with contextlib.closing(hold.waits()) as pauses:
            for pause in pauses:
                time.sleep(pause)
        try:
            yield
        finally:
            hold.release()

    def try_lock(self) -> bool:
        """Take the lock, if it is free.

        Raises:
            SaveFailed: if its file cannot be made.
        """
        if self._process != os.getpid():
            # A forked child shares its parent's lock, and must have its own.
            self._close_lock()
            self._process = os.getpid()
        try:
            while True:
                if self._descriptor is None:
                    self._make_folder(self._lock.parent)
                    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
                    self._descriptor = os.open(
                        self._lock, flags | getattr(os, "O_CLOEXEC", 0), 0o600
                    )
                    if hasattr(os, "fchmod"):
                        os.fchmod(self._descriptor, 0o600)
                if not _lock_functions()[0](self._descriptor, blocking=False):
                    return False
                if os.fstat(self._descriptor).st_nlink:
                    return True
                self._close_lock()  # who deleted the session has removed this lock
        except OSError as error:
            raise self._failed(self._lock, error) from error

    def _is_being_written(self) -> bool:
        """Whether somebody holds the lock; looks without making one."""
        with contextlib.suppress(OSError):
            descriptor = open_regular(self._lock, writable=True)
            if descriptor is not None:
                try:
                    return not _lock_functions()[0](descriptor, blocking=False)
                finally:
                    os.close(descriptor)
        return False

    def unlock(self) -> None:
        """Let others have it."""
        if self._descriptor is not None and self._process == os.getpid():
            _lock_functions()[1](self._descriptor)

    def _close_lock(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    # --- the document --------------------------------------------------------------------------

    def read(self, *, repair: bool) -> State | None:
        """What the session says; None if it was never written.

        Args:
            repair: Put a torn end aside and make the file whole; this needs the lock.

        Raises:
            SessionCorrupt, SessionTooNew: if it is no sound session; it is not changed.
            SaveFailed: if the repair cannot be written.
        """
        return self._state(self._document.read(), repair=repair)

    def news(self) -> State | list[Any] | None:
        """What others wrote since; needs the lock.

        Raises:
            SessionChanged: if the session is gone.
            SessionCorrupt, SessionTooNew, SaveFailed: as `read`.
        """
        news = self._document.news()
        return self._state(news, repair=True) if isinstance(news, Snapshot) else news

    def append(self, entry: bytes) -> None:
        """Add a turn, durably, or change nothing."""
        try:
            self._document.append(entry)
        except SessionError:
            raise
        except OSError as error:
            raise self._failed(self.place, error) from error

    def lines(self) -> Sequence[bytes] | None:
        """The entries as they stand, byte for byte; None if they cannot be told."""
        return self._document.lines()

    def rewrite(self, header: Mapping[str, Any], entries: Sequence[bytes]) -> None:
        """Change everything, durably, or nothing."""
        with self._writing():
            self._make_folder(self.place.parent)
            self._document.rewrite(header, entries)

    def _state(self, snapshot: Snapshot | None, *, repair: bool) -> State | None:
        if snapshot is None:
            return None
        said = snapshot.header.get("id")
        if said != self._id:
            reason = f"it is the session {said!r}, not {self._id!r} (a copied or renamed file?)"
            raise corrupt(self.place, reason)
        torn = snapshot.torn
        if torn is None:
            return State(snapshot.header, snapshot.entries)
        put_aside = None
        if repair:
            with self._writing():
                if torn.rest:
                    put_aside = self._folder.with_suffix(f".torn-{os.urandom(4).hex()}")
                    os.close(self._write(put_aside, torn.rest))
                self._document.rewrite(snapshot.header, torn.lines)
        else:
            # What comes next is read anew: perhaps somebody is in the middle of writing it.
            self._document.close()
            if self._is_being_written():
                return State(snapshot.header, snapshot.entries)
        log.warning(
            "session %r: the last write was cut off at line %d; %d bytes were %s",
            self._id,
            torn.line,
            len(torn.rest),
            f"put aside as {put_aside}" if put_aside else "left where they are",
        )
        recovery = Recovery(torn.line, len(torn.rest), put_aside)
        return State(snapshot.header, snapshot.entries, recovery)

    # --- sound, images and files ---------------------------------------------------------------

    def keep(self, data: Data, suffix: str, number: int, *, spoken: bool = False) -> Data:
        """Put a turn's bytes into a file of their own, durably.

        Args:
            data: The bytes, or what is already kept somewhere.
            suffix: Of the file's name.
            number: Of the turn, for people who look at the folder.
            spoken: Whether they are a spoken answer.

        Returns:
            The file; or the bytes in memory, where `keep_sound` says that they are not kept.

        Raises:
            SaveFailed: if the disk refuses.
        """
        if self._is_here(data):
            return data
        is_sound = suffix in FORMATS
        if is_sound and (self._keep_sound == "none" or (spoken and self._keep_sound == "user")):
            return Unsaved(read_data(data))
        path = self._folder / f"{number:04}-{os.urandom(4).hex()}.{suffix}"
        with self._writing():
            if self._folder.is_symlink():
                raise OSError(f"{self._folder} is a link")
            self._make_folder(self._folder)
            if not (isinstance(data, StoredFile) and self._link(data, path)):
                os.close(self._write(path, read_data(data)))
        return StoredFile(path)

    def _link(self, stored: StoredFile, path: Path) -> bool:
        """Give a file of another session a second name here; such files are never written to."""
        try:
            if stored.path.parent.is_symlink() or not stat.S_ISREG(stored.path.lstat().st_mode):
                return False
            os.link(stored.path, path, follow_symlinks=False)
        except (OSError, NotImplementedError):
            return False
        try:
            self._disk.sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        return True

    def fetch(self, name: str) -> StoredFile:
        """The file of this name in the session's folder, which need not be there.

        Raises:
            InvalidTurn: if it is no bare file name.
        """
        if not _BARE_NAME.fullmatch(name):
            raise InvalidTurn(
                f"a turn's file is a bare name, such as 0002-7f3a91c4.wav, not {name!r}"
            )
        return StoredFile(self._folder / name)

    def discard(self, kept: Sequence[Stored]) -> None:
        """Remove files that no turn names any more; what cannot be removed stays.

        So do all, while nobody knows whether the disk names them: after a failed sync.
        """
        if self._document.is_unsure or self._folder.is_symlink():
            return
        for stored in kept:
            if self._is_here(stored):
                with contextlib.suppress(OSError):
                    (self._folder / stored.name).unlink()

    def _is_here(self, data: Data) -> bool:
        return isinstance(data, StoredFile) and data.path.parent == self._folder

    # --- the end -------------------------------------------------------------------------------

    def not_found(self) -> SessionNotFound:
        """The error for a session that is not there."""
        msg = (
            f"there is no session {self._id!r} in {self.place.parent}; list() shows those there are"
        )
        return SessionNotFound(msg, path=self.place)

    def repair(self) -> Salvage:
        """Save what can be read of the document; needs the lock."""
        from conversation.stores._salvage import salvage

        if not self.place.exists():
            raise self.not_found()
        with self._writing():
            return salvage(self.place, self._id, self._is_turn, self._disk)

    def _is_turn(self, value: object) -> bool:
        with contextlib.suppress(InvalidTurn):
            turn_from_entry(value, fetch=self.fetch)
            return True
        return False

    def remove(self) -> None:
        """Delete the session with all that it keeps; needs the lock."""
        import shutil

        if not self.exists():
            self._lock.unlink(missing_ok=True)
            raise self.not_found()
        try:
            self.place.unlink(missing_ok=True)
            if self._folder.is_symlink():
                self._folder.unlink()
            elif self._folder.exists():
                shutil.rmtree(self._folder)
            for path in self._left_over():
                path.unlink(missing_ok=True)
            self._disk.sync_folder(self.place.parent)
            self._lock.unlink(missing_ok=True)
        except OSError as error:
            # What is left can be deleted once more.
            raise self._failed(Path(error.filename or self.place), error, "deleted") from error

    def exists(self) -> bool:
        """Whether there is anything to delete; a crash may have left sound without a document."""
        return any(map(os.path.lexists, (self.place, self._folder))) or bool(self._left_over())

    def _left_over(self) -> list[Path]:
        """What recoveries and repairs kept, and what writers left that were killed."""
        aside = rf"{re.escape(self._folder.stem)}\.(torn|damaged)-[0-9a-f]{{8}}"
        name = re.compile(rf"{aside}|\.{re.escape(self.place.name)}(\.part)?\.tmp")
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return [path for path in self.place.parent.iterdir() if name.fullmatch(path.name)]
        return []

    def close(self) -> None:
        """Let go of file handles."""
        self._document.close()
        self._close_lock()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def _write(self, path: Path, data: bytes) -> int:
        temporary = path.with_name(f".{self.place.name}.part.tmp")
        descriptor = self._disk.write_new(path, (data,), temporary=temporary)
        try:
            self._disk.sync_folder(path.parent)
        except BaseException:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        return descriptor

    def _make_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            self._make_folder(folder.parent)
            folder.mkdir(mode=0o700, exist_ok=True)
            folder.chmod(0o700)
            self._disk.sync_folder(folder.parent)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except SessionError:
            raise
        except OSError as error:
            raise self._failed(self.place, error) from error

    def _failed(self, path: Path, error: OSError, what: str = "saved") -> SaveFailed:
        why = error.strerror or str(error)
        told = "" if what == "deleted" else "; nothing was changed"
        msg = f"session {self._id!r} could not be {what} ({why}: {path}){told}"
        return SaveFailed(msg, path=path)

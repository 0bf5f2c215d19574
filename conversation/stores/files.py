"""`FileStore`: sessions as files in a folder of this machine.

::

    retriever.json        the session: one JSON document, one turn a line
    retriever.audio/      its sound, images and files: 0002-7f3a91c4.wav, playable
    retriever.lock        held during a change or an exchange, never between
    retriever.queue/      processes that wait for the lock; only while there are any
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from conversation._wire.fields import time_from
from conversation.errors import InvalidSetting, SessionError, another_session, corrupt
from conversation.stores import Salvage, SessionInfo
from conversation.stores._arguments import check_keep_sound, check_list
from conversation.stores._disk import Disk, open_with_status, read_all, read_at
from conversation.stores._format import TURNS, parse, parse_header
from conversation.stores._session import FileSession
from conversation.stores._sweeping import sweep

log = logging.getLogger("conversation")

_UNSAFE = re.compile(r"[^A-Za-z0-9_@.-]|^\.|\.$", re.DOTALL)
_CONTROLS = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)
_MOST_BYTES = 512
"""Bytes of an id: those of Teams have 258."""

_NO_FOLDER = (
    r"""(?i)[\s"'<]*([a-z][a-z0-9+.-]+:([a-z]+:)*/|postgres(ql)?(:|//?[^/]*@)|"""
    r"(host|hostaddr|port|dbname|user|password|service)\s*=)"
)
"""The beginning of a URL, also of one that is quoted or mistyped, or of libpq's key=value pairs."""

_LONGEST = 150
_EARLIEST, _LATEST = -6e10, 2.5e11
"""Times of a last change that can be shown in any zone: the years 68 and 9892."""

_LONGEST_HEADER = 16 * 2**20
"""Bytes of a file that `list` looks for a header in: any file may lie in the folder."""


class FileStore:
    """Sessions as files: each a JSON document that other programs can read, its sound beside it.

    For one host and a local disk: network file systems do not keep its promises. Where a file
    system ignores case (exFAT, NTFS, macOS), the later of two ids that differ only in case is
    refused. Folders are made with mode 0700, files with 0600. Promises, tested with kills and full
    disks:

    - A turn is on disk before the call that adds it returns, a user turn before it is sent, sound
      before the turn that names it. The cost does not grow with the session.
    - A kill loses nothing that was acknowledged: the rest of an incomplete write is moved to
      `retriever.torn-…`, the file is mended, and `Conversation.recovered` reports it.
    - The file counts its durable turns, so that damage is not taken for an incomplete write:
      opening drops the last turn at most, and anything more is `SessionCorrupt`.
    - A failed write changes nothing, and `SaveFailed` has the turn.
    - Processes that wait for a session get it in the order in which they came; one that is
      suspended (Ctrl-Z) while it is next keeps the others waiting. A forked child can go on with
      the objects of its parent.
    - After an exception at any moment (Ctrl-C, an alarm) the next change reads the session anew.
    - No file is open between two changes. Sound that no turn names may be left by a kill; `delete`
      removes it.

    Args:
        root: The folder; `~` is the user's home. None: `$CONVERSATION_HOME`, else the user's data
            folder.
        fsync: False leaves power cuts to the operating system; kills are survived either way.
        keep_sound: `"all"`; `"user"`: no spoken answers; `"none"`: no sound at all. Sound that is
            not kept stays in the memory of the object that has it, as long as others leave its turn
            as it is, and is later sent as its words.
    """

    def __init__(
        self, root: str | Path | None = None, *, fsync: bool = True, keep_sound: str = "all"
    ) -> None:
        check_keep_sound(keep_sound)
        if re.match(_NO_FOLDER, str(root)):  # not repeated: it may hold a password
            msg = (
                "a FileStore needs a folder; for a URL such as postgresql://user@host/database, "
                "pass store=PostgresStore(url), made once"
            )
            raise InvalidSetting(msg)
        # Absolute: the program may change its folder while sessions are open.
        self.root = (_expanded(root) if root is not None else default_root()).absolute()
        self.keep_sound = keep_sound
        self._disk = Disk(fsync=fsync)

    def __repr__(self) -> str:
        return f"FileStore({str(self.root)!r})"

    @property
    def place(self) -> str:
        """The folder, as messages name it."""
        return str(self.root)

    def session(self, session_id: str) -> FileSession:
        """Return the session of this id, whether it exists or not. `Conversation.open` uses it.

        Raises:
            InvalidSetting: if the id is not text of 1 to 512 UTF-8 bytes without control
                characters.
        """
        file = self.root / f"{file_name(session_id)}.json"
        return FileSession(file, session_id, self._disk, self.keep_sound)

    def list(
        self, *, limit: int | None = None, prefix: str = "", before: SessionInfo | None = None
    ) -> Sequence[SessionInfo]:
        """Return all sessions, last changed first. Reads only the first line of each.

        A file that is no session, has another name than its session's, or a header longer than
        16 MB, is skipped, with a log warning.

        Args:
            limit: The largest number of sessions to return; None: all.
            prefix: The literal beginning of their ids.
            before: The last session of one list, for the next: those that were changed before it.

        Raises:
            InvalidSetting: if an argument cannot work.
        """
        check_list(limit, prefix, before)
        found = [info for file in self._files() if (info := _info(file))]
        found = [info for info in found if info.id.startswith(prefix)]
        found.sort(key=age, reverse=True)
        return [info for info in found if before is None or age(info) < age(before)][:limit]

    def _documents(self) -> Sequence[Path]:
        """Return the documents of all sessions, also of those that cannot be read."""
        return [Path(file) for file in self._files()]

    def _files(self) -> Sequence[str]:
        """Return the same as text: to make a thousand paths takes as long as to open the files."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.root) as entries:
            named = [each for each in entries if each.name.endswith(".json")]
            return sorted(each.path for each in named if not each.name.startswith("."))
        return ()

    def repair(self, session_id: str, *, timeout: float = 60.0) -> Salvage:
        """Save what can be read of a damaged session; the damaged file is kept beside it.

        Nothing is done to a whole session. Bytes that recoveries have put aside are read again: a
        whole turn among them becomes the last one, if none was added since. Their files are called
        `….damaged-…` afterwards.

        Raises:
            SessionNotFound: if there is no such session.
            SessionCorrupt: if the file is another session's; it is not changed.
            SessionLocked: if it is in use for longer than `timeout` seconds.
            SaveFailed: if the disk refuses; nothing is changed.
        """
        session = self.session(session_id)
        if not session.file.exists():
            raise session.not_found()
        with session.locked(timeout):
            return session.repair()

    def exists(self, session_id: str) -> bool:
        """Return True if there is a session of this id, whole or damaged. Needs no lock.

        Raises:
            InvalidSetting: if it cannot be an id, as in `session`.
        """
        return os.path.lexists(self.session(session_id).file)

    def delete(self, session_id: str, *, timeout: float = 60.0) -> None:
        """Delete a session with its sound.

        Raises:
            SessionNotFound: if there is no such session.
            SessionCorrupt: if the file is another session's; it is not changed.
            SessionLocked: if it is in use for longer than `timeout` seconds.
            SaveFailed: if the disk refuses.
        """
        session = self.session(session_id)
        if not session.exists():
            raise session.not_found()
        with session.locked(timeout):
            session.remove()

    def sweep(
        self, *, older_than: timedelta, sound_only: bool = False, dry_run: bool = False
    ) -> tuple[SessionInfo, ...]:
        """Delete the sessions that nobody has changed for so long, or only their sound.

        Sessions in use are left for the next sweep; so are damaged ones, with a log warning. When
        sound is deleted, words, pictures and the time of the last change stay.

        Args:
            older_than: Time since the last change.
            sound_only: Delete the sound of users and of answers alone.
            dry_run: Change nothing.

        Returns:
            The sessions that were swept; in a dry run, those that would be.

        Raises:
            InvalidSetting: if `older_than` is no `timedelta` >= 0.
            SaveFailed: if the disk refuses to delete one; the others are swept before.
        """
        one = partial(self._sweep, sound_only=sound_only, dry_run=dry_run)
        return sweep(self, one, lambda: datetime.now(UTC), older_than)

    def _sweep(self, info: SessionInfo, *, sound_only: bool, dry_run: bool) -> bool:
        session = self.session(info.id)
        if dry_run and session.lock.is_taken():
            return False
        with contextlib.nullcontext() if dry_run else session.locked(0):
            if _info(session.file) != info:
                return False  # it was touched meanwhile
            has_sound = session.silence(dry_run=dry_run or not sound_only)  # refuses damage
            if sound_only:
                return has_sound
            if not dry_run:
                session.remove()
            return True


def default_root() -> Path:
    """Return `$CONVERSATION_HOME`, else `conversation/sessions` in the user's data folder."""
    home = os.environ.get("CONVERSATION_HOME")
    if home:
        return _expanded(home)
    import platformdirs

    return platformdirs.user_data_path("conversation") / "sessions"


def _expanded(root: str | Path) -> Path:
    try:
        return Path(root).expanduser()
    except RuntimeError as error:
        msg = f"the folder {str(root)!r} cannot be found ({error}); write it in full"
        raise InvalidSetting(msg) from error


def file_name(session_id: str) -> str:
    """Return the file name of a session, without its suffix: the id, percent-encoded.

    Raises:
        InvalidSetting: as `FileStore.session`.
    """
    if not isinstance(session_id, str):
        remedy = "; pass str(…)" if isinstance(session_id, int) else ""
        raise InvalidSetting(f"a session id must be text, got {type(session_id).__name__}{remedy}")
    size = len(session_id.encode(errors="replace"))
    if not 1 <= size <= _MOST_BYTES or _CONTROLS.search(session_id):
        msg = (
            f"a session id must have 1 to {_MOST_BYTES} UTF-8 bytes and no control characters, got "
            f"{session_id[:40]!r} with {size} bytes"
        )
        raise InvalidSetting(msg)
    name = _UNSAFE.sub(lambda found: "".join(map("%{:02X}".format, found[0].encode())), session_id)
    if _DEVICE.match(name):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if len(name) > _LONGEST:
        # File systems take some 255 bytes; the header has the whole id.
        import hashlib

        digest = hashlib.sha256(session_id.encode()).hexdigest()[:24]
        name = f"{name[:_LONGEST]}~{digest}"
    return name


def age(info: SessionInfo) -> tuple[datetime, str]:
    """Return the order of sessions in lists: by their last change."""
    return info.updated_at, info.id


def _info(path: Path | str) -> SessionInfo | None:
    try:
        return info_of(path)
    except SessionError as error:
        log.warning("skipping %s: %s", path, error)
    except OSError as error:
        log.warning(
            "skipping %s: %s; make it readable for this user", path, error.strerror or error
        )
    return None


def info_of(path: Path | str) -> SessionInfo | None:
    """Return what a document's header says; None if it is gone.

    Raises:
        SessionCorrupt, SessionTooNew: if it is no header of a session, or that of another one.
        OSError: if it cannot be read.
    """
    opened = open_with_status(path, writable=False)
    if opened is None:
        return None
    descriptor, status = opened
    try:
        line = _first_line(descriptor)
        if line.endswith(TURNS):
            header = parse_header(line, path)
        elif status.st_size <= _LONGEST_HEADER:
            header = parse(read_all(descriptor), path).header  # another layout
        else:
            raise corrupt(path, f"its first {_LONGEST_HEADER} bytes hold no header in one line")
    finally:
        os.close(descriptor)
    session_id, title, metadata = map(header.get, ("id", "title", "metadata"))
    if not isinstance(session_id, str):
        raise corrupt(path, "it names no session")
    if not is_file_of(path, session_id):
        raise another_session(path, session_id, unquote(Path(path).stem))
    return SessionInfo(
        id=session_id,
        title=title if isinstance(title, str) else None,
        created_at=time_from(header.get("created_at")),
        updated_at=touched(status),
        size=status.st_size,
        metadata=metadata if isinstance(metadata, dict) else {},
    )


def touched(status: os.stat_result) -> datetime:
    """Return the time of a file's last change."""
    return datetime.fromtimestamp(min(max(status.st_mtime, _EARLIEST), _LATEST), UTC)


def is_file_of(path: Path | str, session_id: str) -> bool:
    """Return True if a document lies under the name of the session that it holds."""
    try:
        name = f"{file_name(session_id)}.json"
        if os.fspath(path).endswith(f"{os.sep}{name}"):
            return True
        path = Path(path)
        is_like = name.lower() == path.name.lower()
        return name == path.name or (is_like and path.with_name(name).samefile(path))
    except (InvalidSetting, OSError):
        return False


def _first_line(descriptor: int) -> bytes:
    pieces, at = [], 0
    while at < _LONGEST_HEADER and (piece := read_at(descriptor, 4096, at)):
        before, end, _ = piece.partition(b"\n")
        pieces.append(before)
        at += len(piece)
        if end:
            break
    return b"".join(pieces)

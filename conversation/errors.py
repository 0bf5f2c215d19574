"""All exceptions of this package.

The SDK's exceptions pass through unchanged, with the remedy as a note where it is known.

::

    ConversationError
    ├── InvalidTurn (ValueError)          content that a turn cannot hold
    │   └── UnsupportedAudio              bytes that are neither WAV nor MP3
    ├── InvalidCompletion (ValueError)    a completion without exactly one answer
    ├── InvalidSetting (ValueError)       a setting or request option that cannot work
    ├── ContextTooSmall (ValueError)      the newest exchange alone exceeds the limits
    ├── UnknownToolCall (LookupError)     a result for a call that is not open
    ├── ToolLoopExceeded (RuntimeError)   the model kept calling tools
    ├── ConversationBusy (RuntimeError)   a change from inside of its own exchange
    └── SessionError
        ├── SessionCorrupt (ValueError)   a document that is damaged or no saved conversation
        ├── SessionTooNew (ValueError)    a document in the format of a later version
        ├── SessionNotFound (LookupError) no session has this id
        ├── SessionExists (FileExistsError)  the id of a fork is taken
        ├── SessionLocked (TimeoutError)  another process, thread or object holds the lock
        ├── SessionChanged (RuntimeError) something else changed it; nothing was written
        ├── SessionReadOnly (PermissionError)  it was opened with read_only=True, or closed
        ├── SessionUnavailable (ConnectionError)  the store cannot be reached
        ├── AudioFileMissing (FileNotFoundError)  the sound of a saved turn is gone
        └── SaveFailed (OSError)          a write failed; memory and store are as before
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = [
    "AudioFileMissing",
    "ContextTooSmall",
    "ConversationBusy",
    "ConversationError",
    "InvalidCompletion",
    "InvalidSetting",
    "InvalidTurn",
    "SaveFailed",
    "SessionChanged",
    "SessionCorrupt",
    "SessionError",
    "SessionExists",
    "SessionLocked",
    "SessionNotFound",
    "SessionReadOnly",
    "SessionTooNew",
    "SessionUnavailable",
    "ToolLoopExceeded",
    "UnknownToolCall",
    "UnsupportedAudio",
]


class ConversationError(Exception):
    """Base class of all exceptions raised by this package."""


class InvalidTurn(ConversationError, ValueError):
    """Content that a turn cannot hold; nothing was changed."""


class UnsupportedAudio(InvalidTurn):
    """Bytes that are not WAV or MP3, the two formats of user turns, or cannot be converted."""


class InvalidCompletion(ConversationError, ValueError):
    """A value that is no completion with exactly one answer; nothing was changed.

    Attributes:
        body: The server's error, where it came in place of an answer; else None.
    """

    def __init__(self, message: str, *, body: object = None) -> None:
        super().__init__(message)
        self.body = body


class InvalidSetting(ConversationError, ValueError):
    """A setting or a request option that the API would refuse or that JSON cannot hold."""


class ContextTooSmall(ConversationError, ValueError):
    """The newest exchange alone exceeds the limits of `Context`; nothing was sent.

    Attributes:
        tokens: Its estimated tokens, with instructions and system turns.
        max_prompt_tokens: The limit; None: no limit.
        upload_bytes: Size of its sound, pictures and files, in bytes of base64.
        max_upload_bytes: The limit.
    """

    def __init__(
        self,
        message: str,
        *,
        tokens: int = 0,
        max_prompt_tokens: int | None = None,
        upload_bytes: int = 0,
        max_upload_bytes: int = 0,
    ) -> None:
        super().__init__(message)
        self.tokens = tokens
        self.max_prompt_tokens = max_prompt_tokens
        self.upload_bytes = upload_bytes
        self.max_upload_bytes = max_upload_bytes


class UnknownToolCall(ConversationError, LookupError):
    """A tool result for a call that does not exist or is answered already.

    Attributes:
        tool_call_id: The id that was given.
        open_calls: The ids of the calls that wait for a result.
    """

    def __init__(
        self, message: str, *, tool_call_id: str = "", open_calls: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.tool_call_id = tool_call_id
        self.open_calls = open_calls


class ToolLoopExceeded(ConversationError, RuntimeError):
    """The model called tools again after `max_tool_rounds` rounds.

    All turns are kept; the last calls were not carried out. `reply()` goes on.
    """


class ConversationBusy(ConversationError, RuntimeError):
    """A change from inside of the conversation's own exchange: by a tool or a stream's consumer."""


class SessionError(ConversationError):
    """Base class of errors about saved conversations.

    Attributes:
        path: The file concerned; None where the store has no files.
    """

    def __init__(self, message: str, *, path: Path | None = None) -> None:
        super().__init__(message)
        self.path = path


class SessionCorrupt(SessionError, ValueError):
    """A document that is damaged or no saved conversation; it was not changed.

    Attributes:
        path: The file.
        line: The line (from 1) of the first fault, where it is known.
        reason: The fault.
    """

    def __init__(
        self, message: str, *, path: Path | None = None, line: int | None = None, reason: str = ""
    ) -> None:
        super().__init__(message, path=path)
        self.line = line
        self.reason = reason


class SessionTooNew(SessionError, ValueError):
    """A document in the format of a later version; it was not changed.

    Attributes:
        path: The file.
        version: Its format number.
    """

    def __init__(self, message: str, *, path: Path | None = None, version: int = 0) -> None:
        super().__init__(message, path=path)
        self.version = version


class SaveFailed(SessionError, OSError):
    """A write failed. Memory and store are as they were before, unless it is in doubt.

    Attributes:
        path: The file that was to be written.
        turn: The turn that could not be saved; `chat.add(error.turn)` retries. None for labels.
        in_doubt: True if a server was lost before its answer, and may have carried it out. The
            next change reads the session anew; `chat.add(error.turn)` adds no turn twice.
    """

    def __init__(
        self,
        message: str,
        *,
        path: Path | None = None,
        turn: Any = None,
        in_doubt: bool = False,
    ) -> None:
        super().__init__(message, path=path)
        self.turn = turn
        self.in_doubt = in_doubt


class SessionNotFound(SessionError, LookupError):
    """No session has this id.

    Attributes:
        path: The file that it would have; None where the store has no files.
        session_id: The id.
    """

    def __init__(self, message: str, *, path: Path | None = None, session_id: str = "") -> None:
        super().__init__(message, path=path)
        self.session_id = session_id


class SessionExists(SessionError, FileExistsError):
    """A session of this id is there already; it was not changed."""


class SessionLocked(SessionError, TimeoutError):
    """Another process, thread or object held the session's lock for longer than the timeout."""


class SessionChanged(SessionError, RuntimeError):
    """Something else changed or replaced the session while it was locked; nothing was written.

    Attributes:
        path: The file.
        turn: The turn that was to be added; None for other changes.
    """

    def __init__(self, message: str, *, path: Path | None = None, turn: Any = None) -> None:
        super().__init__(message, path=path)
        self.turn = turn


class SessionReadOnly(SessionError, PermissionError):
    """A change to a session that was opened with `read_only=True`, or that was closed."""


class SessionUnavailable(SessionError, ConnectionError):
    """The store cannot be reached; nothing was changed."""


class AudioFileMissing(SessionError, FileNotFoundError):
    """The stored sound, picture or document of a turn is gone; its words are still there.

    Attributes:
        path: The file that is missing.
    """


def corrupt(
    place: Path | str, reason: str, line: int | None = None, *, mends: bool = False
) -> SessionCorrupt:
    """Return the error for a document that is damaged or no saved conversation.

    Args:
        place: The document.
        reason: The fault.
        line: Its line.
        mends: True if it is a session that `FileStore.repair` can mend.
    """
    where = f"{place}, line {line}," if line else f"{place}"
    msg = f"{where} is not a saved conversation that can be read: {reason}; it was not changed"
    if mends:
        msg += "; FileStore.repair(id), or `conversation repair`, saves what can be read"
    path = place if isinstance(place, Path) else None
    return SessionCorrupt(msg, path=path, line=line, reason=reason)


def another_session(place: Path | str, said: object, session_id: str) -> SessionCorrupt:
    """Return the error for a document that is the one of another session."""
    why = "a copied or renamed file: rename it back, or move it away"
    if not isinstance(said, str):
        reason = f"it names no session, and should name {session_id!r} ({why})"
        return corrupt(place, reason, mends=True)
    if said.casefold() == session_id.casefold():
        why = "a file system that ignores case cannot hold both; or a copied or renamed file"
    return corrupt(place, f"it is the session {said!r}, not {session_id!r} ({why})")


def not_found(session_id: str, place: str, file: Path | None) -> SessionNotFound:
    """Return the error for a session that does not exist."""
    lists = "FileStore().list(), or that of another store, shows all sessions"
    msg = f"there is no session {session_id!r} at {place}; {lists}"
    return SessionNotFound(msg, path=file, session_id=session_id)

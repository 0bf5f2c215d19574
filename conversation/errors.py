"""Every exception that `conversation` raises of its own.

The SDK's exceptions pass through unchanged, with a note where the remedy is known.

::

    ConversationError
    ├── InvalidTurn (ValueError)          content that no turn can hold
    │   └── UnsupportedAudio              bytes that are not the sound they should be
    ├── InvalidCompletion (ValueError)    a completion without an answer in it
    ├── InvalidSetting (ValueError)       a setting or request option that cannot work
    ├── ContextTooSmall (ValueError)      the newest exchange alone is over the bounds
    ├── UnknownToolCall (LookupError)     a result for a call that is not open
    ├── ToolLoopExceeded (RuntimeError)   the model called tools again and again
    ├── ConversationBusy (RuntimeError)   a change from inside of its own exchange
    └── SessionError
        ├── SessionCorrupt (ValueError)   a file that is no saved conversation, or a broken one
        ├── SessionTooNew (ValueError)    a file in a later version's format
        ├── SessionNotFound (LookupError) no session has this id
        ├── SessionExists (FileExistsError)  a fork's id is taken
        ├── SessionLocked (TimeoutError)  another process, thread or object holds it
        ├── SessionChanged (RuntimeError) the file is no longer ours; nothing was written
        ├── SessionReadOnly (PermissionError)  it was opened with read_only=True, or closed
        ├── AudioFileMissing (FileNotFoundError)  a turn's sound is gone
        └── SaveFailed (OSError)          the disk refused; memory and file are as before
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

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
    "ToolLoopExceeded",
    "UnknownToolCall",
    "UnsupportedAudio",
]


class ConversationError(Exception):
    """What all of these are."""


class InvalidTurn(ConversationError, ValueError):
    """Content that no turn can hold; nothing was changed."""


class UnsupportedAudio(InvalidTurn):
    """Bytes that are not WAV or MP3, the two formats a user turn can carry."""


class InvalidCompletion(ConversationError, ValueError):
    """What was given is no completion with one answer in it; nothing was changed."""


class InvalidSetting(ConversationError, ValueError):
    """A setting or a request option that the API would refuse or that JSON cannot hold."""


class ContextTooSmall(ConversationError, ValueError):
    """The newest exchange alone is more than may be sent; nothing was sent.

    Attributes:
        tokens: What it would cost, by the estimate, with instructions and system turns.
        max_prompt_tokens: The bound; None: there is none.
        upload_bytes: Sound, pictures and files in it, in bytes of base64.
        max_upload_bytes: The bound.
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
    """A tool result for a call that does not exist or already has its answer.

    Attributes:
        tool_call_id: The id that was given.
        open_calls: The ids that do wait for an answer.
    """

    def __init__(
        self, message: str, *, tool_call_id: str = "", open_calls: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.tool_call_id = tool_call_id
        self.open_calls = open_calls


class ToolLoopExceeded(ConversationError, RuntimeError):
    """The model asked for tools once more after `max_tool_rounds` rounds.

    All turns are kept; its last calls were not carried out. `reply()` goes on.
    """


class ConversationBusy(ConversationError, RuntimeError):
    """A change from inside of its own exchange: by a tool, or by what consumes a stream."""


class SessionError(ConversationError):
    """Something about a saved conversation.

    Attributes:
        path: The file in question, where there is one.
    """

    def __init__(self, message: str, *, path: Path | None = None) -> None:
        super().__init__(message)
        self.path = path


class SessionCorrupt(SessionError, ValueError):
    """A file that is no saved conversation, or a damaged one; it was not changed.

    Attributes:
        path: The file.
        line: The line (from 1) at which it stops making sense, where that is known.
        reason: What is wrong with it.
    """

    def __init__(
        self, message: str, *, path: Path | None = None, line: int | None = None, reason: str = ""
    ) -> None:
        super().__init__(message, path=path)
        self.line = line
        self.reason = reason


class SessionTooNew(SessionError, ValueError):
    """A file in the format of a later version; it was not changed.

    Attributes:
        path: The file.
        version: The format number that it carries.
    """

    def __init__(self, message: str, *, path: Path | None = None, version: int = 0) -> None:
        super().__init__(message, path=path)
        self.version = version


class SaveFailed(SessionError, OSError):
    """The disk refused a write. Memory and file are as they were before.

    Attributes:
        path: The file that was to be written.
        turn: The turn that could not be saved; `chat.add(error.turn)` tries again. None for labels.
    """

    def __init__(self, message: str, *, path: Path | None = None, turn: Any = None) -> None:
        super().__init__(message, path=path)
        self.turn = turn


class SessionNotFound(SessionError, LookupError):
    """No session has this id."""


class SessionExists(SessionError, FileExistsError):
    """A session of this id is there already; it was not changed."""


class SessionLocked(SessionError, TimeoutError):
    """Another process, thread or object held the session for longer than the timeout."""


class SessionChanged(SessionError, RuntimeError):
    """Something else replaced or changed the file while it was held; nothing was written.

    Attributes:
        path: The file.
        turn: The turn that was to be added; None for other changes.
    """

    def __init__(self, message: str, *, path: Path | None = None, turn: Any = None) -> None:
        super().__init__(message, path=path)
        self.turn = turn


class SessionReadOnly(SessionError, PermissionError):
    """A change to a session that was opened with `read_only=True`, or that was closed."""


class AudioFileMissing(SessionError, FileNotFoundError):
    """The file with a saved turn's sound, picture or document is gone; its words are still there.

    Attributes:
        path: The file that is missing.
    """


def corrupt(path: Path, reason: str, line: int | None = None) -> SessionCorrupt:
    """The error for a file that is no sound saved conversation."""
    place = f"{path}, line {line}," if line else f"{path}"
    msg = f"{place} is not a saved conversation that can be read: {reason}; it was not changed"
    return SessionCorrupt(msg, path=path, line=line, reason=reason)

"""Spoken chats with OpenAI's voice models that go on after their audio has expired, and are saved.

See `Conversation`; `conversation.errors` for what can go wrong, and `conversation.testing` for a
server to try it on without a key. The logger `conversation` names the session in each line, and in
the attribute `session` of its records.
"""

import importlib
from typing import TYPE_CHECKING, Any

from conversation import errors
from conversation._conversation import Conversation, Stream
from conversation._rendering.explanation import RenderedMessage, Rendering
from conversation._rendering.forms import Form
from conversation._rendering.window import Context
from conversation._values.events import (
    AudioDelta,
    TextDelta,
    ToolCalled,
    TranscriptDelta,
    TurnFinished,
)
from conversation._values.parts import AudioInput, FileInput, ImageInput
from conversation._values.turns import (
    AssistantAudio,
    AssistantTurn,
    SystemTurn,
    ToolCall,
    ToolTurn,
    UserTurn,
)
from conversation._values.usage import Usage
from conversation._version import __version__ as __version__
from conversation.stores import Recovery, Salvage, SessionInfo

if TYPE_CHECKING:
    from conversation._async_conversation import AsyncConversation, AsyncStream
    from conversation._values.prices import Prices as Prices
    from conversation.stores.files import FileStore as FileStore
    from conversation.stores.postgres import PostgresStore as PostgresStore

__all__ = [
    "AssistantAudio",
    "AssistantTurn",
    "AsyncConversation",
    "AsyncStream",
    "AudioDelta",
    "AudioInput",
    "Context",
    "Conversation",
    "FileInput",
    "FileStore",
    "Form",
    "ImageInput",
    "Prices",
    "Recovery",
    "RenderedMessage",
    "Rendering",
    "Salvage",
    "SessionInfo",
    "Stream",
    "SystemTurn",
    "TextDelta",
    "ToolCall",
    "ToolCalled",
    "ToolTurn",
    "TranscriptDelta",
    "TurnFinished",
    "Usage",
    "UserTurn",
    "errors",
]

_LATE = {
    "AsyncConversation": "_async_conversation",  # brings asyncio, which costs as much as the rest
    "AsyncStream": "_async_conversation",
    "FileStore": "stores.files",
    "PostgresStore": "stores.postgres",
    "Prices": "_values.prices",
}
"""Names that are imported when they are first used, and their modules."""


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(importlib.import_module(f"conversation.{_LATE[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})

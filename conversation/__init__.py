"""Multi-turn conversations with OpenAI's voice models that outlive their audio.

See `Conversation`; `conversation.errors` for what can go wrong, and `conversation.testing` for a
server to try it on without a key.
"""

from conversation import errors
from conversation._conversation import Conversation
from conversation._inputs import AudioInput, FileInput, ImageInput
from conversation._rendering import Form, RenderedMessage, Rendering
from conversation._turns import (
    AssistantAudio,
    AssistantTurn,
    SystemTurn,
    ToolCall,
    ToolTurn,
    Usage,
    UserTurn,
)
from conversation.stores import Recovery, Salvage, SessionInfo
from conversation.stores.files import FileStore

__all__ = [
    "AssistantAudio",
    "AssistantTurn",
    "AudioInput",
    "Conversation",
    "FileInput",
    "FileStore",
    "Form",
    "ImageInput",
    "Recovery",
    "RenderedMessage",
    "Rendering",
    "Salvage",
    "SessionInfo",
    "SystemTurn",
    "ToolCall",
    "ToolTurn",
    "Usage",
    "UserTurn",
    "errors",
]

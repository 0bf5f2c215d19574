"""The recorders of a Realtime session, for both twins."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from conversation._history.history import History
from conversation._values.turns import Turn
from conversation.errors import InvalidSetting
from conversation.realtime._recording import Recording

if TYPE_CHECKING:
    from conversation._async_conversation import AsyncConversation
    from conversation._conversation import Conversation

log = logging.getLogger("conversation")

_ChatT = TypeVar("_ChatT", "Conversation", "AsyncConversation")


class _BaseRecorder(Generic[_ChatT]):
    _is_async = False

    def __init__(self, chat: _ChatT) -> None:
        if chat._is_async != self._is_async:
            other = "Recorder" if self._is_async else "AsyncRecorder"
            msg = f"{type(self).__name__} cannot keep a {type(chat).__name__}; use {other}"
            raise InvalidSetting(msg)
        self._chat: _ChatT = chat
        self._recording = Recording()

    def sent(self, event: Any) -> None:
        """Note an event that is sent to the server; call it right before sending.

        The user's sound is kept if what appends it is noted from the beginning of the session on.

        Args:
            event: A dict, or the SDK's object.
        """
        self._recording.sent(_json(event))


class Recorder(_BaseRecorder["Conversation"]):
    """Keeps what happens in a Realtime session as turns of a conversation.

    ::

        with client.realtime.connect(model="gpt-realtime-2") as connection:
            for event in seed_events(chat):
                connection.send(event)
            with Recorder(chat) as recorder:
                for event in connection:
                    recorder.received(event)

    What was said before, by `seed_events`, is recognised and not added again. Turns are kept in the
    server's order with their sound; words, cuts and deletions find theirs later. A connection that
    breaks leaves an `interrupted` answer. Answers have no audio ids there: later requests send them
    as their words. Needs the extra `realtime`. Events are noted by one thread at a time;
    `sent` may be called by another one.

    Args:
        chat: The conversation, saved or in memory.

    Raises:
        InvalidSetting: if it is an `AsyncConversation`.
    """

    def received(self, event: Any) -> list[Turn]:
        """Note an event of the server, and return the turns that were added or changed by it.

        - The user's turns are added when the server has them, with their sound if it was `sent`;
          their words are filled in when they are known. Without both (WebRTC), the text is
          "[spoken, no words yet]" until then.
        - Answers are added, durably and with their usage, when they are done; `interrupted` if they
          were cancelled or cut off. What was not heard is cut from them, later too.
        - Tool calls and their results are turns, too. Deleted items are removed.
        - Responses outside of the conversation, and unknown events, are ignored.

        Args:
            event: A dict, or the SDK's object.

        Raises:
            SaveFailed, SessionLocked, SessionChanged: as in `Conversation.open`. What could not be
                saved is tried again with the next event, and by `close`.
        """
        if self._recording.received(_json(event)):
            return self._change(self._recording.settle)
        return []

    def close(self) -> list[Turn]:
        """Keep what has begun, as `interrupted`, and return the turns; idempotent.

        Raises:
            SaveFailed, SessionLocked, SessionChanged: as in `received`.
        """
        return [] if self._recording.is_idle else self._change(self._recording.finish)

    def _change(self, job: Callable[[History], list[Turn]]) -> list[Turn]:
        changed: list[Turn] = self._chat._change(partial(job, self._chat._history))
        return changed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncRecorder(_BaseRecorder["AsyncConversation"]):
    """Same as `Recorder`, for `AsyncConversation`; `sent` is not awaited."""

    _is_async = True

    async def received(self, event: Any) -> list[Turn]:
        """Same as `Recorder.received`, awaited."""
        if self._recording.received(_json(event)):
            return await self._change(self._recording.settle)
        return []

    async def close(self) -> list[Turn]:
        """Same as `Recorder.close`, awaited."""
        return [] if self._recording.is_idle else await self._change(self._recording.finish)

    async def _change(self, job: Callable[[History], list[Turn]]) -> list[Turn]:
        changed: list[Turn] = await self._chat._change(partial(job, self._chat._history))
        return changed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _json(event: Any) -> Mapping[str, Any]:
    """Return an event as a JSON object; empty if it is none."""
    if isinstance(event, Mapping):
        return event
    dump = getattr(event, "model_dump", None)
    # Without warnings: servers send more, and less, than the SDK knows.
    found = dump(exclude_unset=True, warnings=False) if dump else None
    if not isinstance(found, Mapping):
        log.warning("ignoring an event that is neither a dict nor the SDK's: %s", type(event))
        return {}
    return found

"""One exchange with the model, as a generator without I/O: render, send, heal, record.

It yields the keyword arguments of a request and is sent the completion, or thrown the error that
came instead. `_client` drives it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

from conversation._turns import AssistantTurn

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Sequence

_NAMED_ID = re.compile(r"audio_[A-Za-z0-9]+")
_NAMED_MESSAGE = re.compile(r"messages\.?\[(\d+)\]")


class History(Protocol):
    """What an exchange needs of a conversation."""

    def request(self, **options: Any) -> dict[str, Any]:
        """Render the next request."""

    def heal(self, error: BaseException) -> bool:
        """Give up what the error says the server has forgotten."""

    def add_completion(self, completion: Any) -> AssistantTurn:
        """Keep the answer."""


def exchange(
    history: History, options: dict[str, Any]
) -> Generator[dict[str, Any], Any, AssistantTurn]:
    """The answer to what the history ends with."""
    while True:
        request = history.request(**options)
        try:
            completion = yield request
        except Exception as error:
            if not history.heal(error):
                raise
        else:
            return history.add_completion(completion)


def dead_ids(
    error: BaseException, sent: Sequence[str | None], known: Collection[str], heals: int
) -> set[str]:
    """Which audio ids an `audio_not_found` says are dead; none if the error is another one.

    Args:
        error: What came instead of a completion.
        sent: For each message that was sent, the audio id in it.
        known: The ids that the history still believes in.
        heals: How often this exchange was healed before. From the second time on, every id that
            was sent is given up; then none is left, so a third time finds nothing.
    """
    text = f"{error} {getattr(error, 'body', None)}"
    named = {audio_id for audio_id in _NAMED_ID.findall(text) if audio_id in known}
    if not _is_audio_not_found(error, text, named):
        return set()
    everything = {audio_id for audio_id in sent if audio_id is not None and audio_id in known}
    if heals:
        return everything
    if named:
        return named
    position = _NAMED_MESSAGE.search(str(getattr(error, "param", None) or text))
    blamed = sent[int(position[1])] if position and int(position[1]) < len(sent) else None
    return {blamed} if blamed is not None and blamed in known else everything


def _is_audio_not_found(error: BaseException, text: str, named: Collection[str]) -> bool:
    if getattr(error, "code", None) == "audio_not_found":
        return True
    # Gateways wrap the error, and then its code is found only in the text.
    is_answer = hasattr(error, "status_code") or hasattr(error, "body")
    return is_answer and ("audio_not_found" in text or (bool(named) and "not found" in text))

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

MAX_HEALS = 2

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
        heals: How often this exchange was healed before. The second time gives up every id that
            was sent, the third time none.
    """
    text = _text_of(error)
    if heals >= MAX_HEALS or not _is_audio_not_found(error, text):
        return set()
    if heals == 0:
        if named := set(_NAMED_ID.findall(text)) & set(known):
            return named
        position = _NAMED_MESSAGE.search(str(getattr(error, "param", None) or text))
        if position and int(position[1]) < len(sent):
            blamed = sent[int(position[1])]
            if blamed is not None:
                return {blamed}
    return {audio_id for audio_id in sent if audio_id is not None}


def _is_audio_not_found(error: BaseException, text: str) -> bool:
    # Gateways wrap the error, and then its code is found only in the text.
    return getattr(error, "code", None) == "audio_not_found" or (
        isinstance(getattr(error, "status_code", None), int)
        and ("audio_not_found" in text or re.search(r"audio_\w+ not found", text) is not None)
    )


def _text_of(error: BaseException) -> str:
    return f"{error} {getattr(error, 'body', None)}"

"""The summary of the beginning of a conversation."""

from __future__ import annotations

import attrs


@attrs.frozen
class Summary:
    """Words that are sent in place of the first turns.

    Attributes:
        text: The words.
        turns: Number of turns that it covers, counted from the beginning.
    """

    text: str
    turns: int

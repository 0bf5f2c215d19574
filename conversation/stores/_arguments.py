"""Arguments that all stores take, refused in the same words."""

from __future__ import annotations

from conversation._values.data import Kind
from conversation.errors import InvalidSetting
from conversation.stores import SessionInfo

_NOT_KEPT = {"all": (), "user": ("answer",), "none": ("answer", "speech")}
"""Kinds of bytes that stay in memory, by `keep_sound`."""


def check_keep_sound(keep_sound: object) -> None:
    """Refuse what `keep_sound` cannot be.

    Raises:
        InvalidSetting: if it is none of its words.
    """
    if keep_sound not in [*_NOT_KEPT]:  # it may have no hash
        msg = f'keep_sound must be "all", "user" or "none", got {keep_sound!r}'
        raise InvalidSetting(msg)


def is_kept(kind: Kind, keep_sound: str) -> bool:
    """Return False for bytes that stay in memory."""
    return kind not in _NOT_KEPT[keep_sound]


def check_list(limit: object, prefix: object, before: object) -> None:
    """Refuse arguments that a list of sessions cannot have.

    Raises:
        InvalidSetting: if one is no whole number >= 0, no text, or no `SessionInfo`.
    """
    rule = ""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
        rule = f"limit must be a whole number >= 0, or None for all, got {limit!r}"
    elif not isinstance(prefix, str):
        rule = f"prefix must be text, got {prefix!r}"
    elif before is not None and not isinstance(before, SessionInfo):
        rule = f"before must be a SessionInfo of another list, got {before!r}"
    if rule:
        raise InvalidSetting(rule)

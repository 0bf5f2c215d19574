"""Prices of tokens, as the caller knows them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import attrs

from conversation.errors import InvalidSetting


def _exact(value: Decimal | float) -> Decimal:
    """Return a number as it is written: 0.1 is a tenth. What is no number is left to `_check`."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Decimal(str(value)) if is_number else value  # type: ignore[return-value]


def _check(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is None and field.default is None:
        return
    if not (isinstance(value, Decimal) and value.is_finite() and value >= 0):
        msg = f"{field.name} must be dollars per million tokens, a number >= 0, got {value!r}"
        raise InvalidSetting(msg)


@attrs.frozen(kw_only=True)
class Prices:
    """Prices of a model in dollars per million tokens, for `Usage.cost`; kept as `Decimal`.

    Attributes:
        text_input: Text of a request; pictures too.
        text_output: Text of an answer, and all else of it but sound.
        audio_input: Sound of a request; None: not known, so that a usage with any is refused.
        audio_output: Sound of an answer; None: not known, so that a usage with any is refused.
        cached_input: What was cached of a request; None: as much as what was not.

    Raises:
        InvalidSetting: if one is no number >= 0.
    """

    text_input: Decimal = attrs.field(converter=_exact, validator=_check)
    text_output: Decimal = attrs.field(converter=_exact, validator=_check)
    audio_input: Decimal | None = attrs.field(
        default=None, converter=attrs.converters.optional(_exact), validator=_check
    )
    audio_output: Decimal | None = attrs.field(
        default=None, converter=attrs.converters.optional(_exact), validator=_check
    )
    cached_input: Decimal | None = attrs.field(
        default=None, converter=attrs.converters.optional(_exact), validator=_check
    )


def price_of(tokens: int, price: Decimal | None, name: str) -> Decimal:
    """Return what so many tokens cost, in dollars.

    Raises:
        InvalidSetting: if there are any, and the price of this name is not known.
    """
    if price is None and tokens:
        msg = f"the usage has {tokens} tokens of sound, whose price is not known: give {name}=…"
        raise InvalidSetting(msg)
    return tokens * (price or Decimal(0)) / 1_000_000

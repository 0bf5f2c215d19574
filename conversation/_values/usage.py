"""Tokens that were spent, and their price."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from conversation._values.text import repr_without_defaults, shown
from conversation._values.unchecked import unchecked
from conversation.errors import InvalidSetting, InvalidTurn

if TYPE_CHECKING:
    from decimal import Decimal

    from conversation._values.prices import Prices

MOST_TOKENS = 2**63 - 1
"""What JSON holds everywhere; sums of such counts are exact in memory and cut off when saved."""


def _count(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_TOKENS:
        msg = f"{field.name} must be a number of tokens, got {shown(value)}"
        raise InvalidTurn(msg)


@attrs.frozen
class Usage:
    """Tokens as counted by the API (OpenAI: 10 per second of user sound, 20 of spoken answers).

    Sums with `+`. Without a breakdown from the API only the first two are set.

    Attributes:
        prompt_tokens: Tokens of the whole request.
        completion_tokens: Tokens of the whole answer.
        prompt_text_tokens: Text tokens of the request.
        prompt_audio_tokens: Audio tokens of the request.
        cached_tokens: Tokens of the request that were billed at the lower cached rate.
        completion_text_tokens: Text tokens of the answer.
        completion_audio_tokens: Audio tokens of the answer.
        prompt_image_tokens: Tokens of pictures in the request.
        cache_write_tokens: Tokens of the request that were written to the cache.
    """

    __repr__ = repr_without_defaults
    prompt_tokens: int = attrs.field(default=0, validator=_count)
    completion_tokens: int = attrs.field(default=0, validator=_count)
    prompt_text_tokens: int = attrs.field(default=0, validator=_count)
    prompt_audio_tokens: int = attrs.field(default=0, validator=_count)
    cached_tokens: int = attrs.field(default=0, validator=_count)
    completion_text_tokens: int = attrs.field(default=0, validator=_count)
    completion_audio_tokens: int = attrs.field(default=0, validator=_count)
    prompt_image_tokens: int = attrs.field(default=0, validator=_count)
    cache_write_tokens: int = attrs.field(default=0, validator=_count)

    @property
    def total_tokens(self) -> int:
        """Tokens of request and answer together."""
        return self.prompt_tokens + self.completion_tokens

    def cost(self, prices: Prices) -> Decimal:
        """Return the price of these tokens in dollars, exact and not rounded.

        Cached tokens are taken to be text as far as there is text. Without a breakdown from the API
        all tokens count as text.

        Args:
            prices: What the model's maker asks for; the package has no list of prices.

        Raises:
            InvalidSetting: if there are tokens of sound, and `prices` has no price of them; or if
                they are no `Prices`.
        """
        from decimal import Decimal, localcontext

        from conversation._values.prices import Prices, price_of

        if not isinstance(prices, Prices):
            raise InvalidSetting(f"prices must be Prices(…), got {type(prices).__name__}")
        audio, text = self.prompt_audio_tokens, self.prompt_tokens - self.prompt_audio_tokens
        cached = 0 if prices.cached_input is None else self.cached_tokens
        cached_text = min(cached, max(text, 0))
        cached_audio = min(cached - cached_text, audio)
        said = self.completion_audio_tokens
        with localcontext(prec=100):
            costs = (
                price_of(max(text, 0) - cached_text, prices.text_input, "text_input"),
                price_of(audio - cached_audio, prices.audio_input, "audio_input"),
                price_of(cached_text + cached_audio, prices.cached_input, "cached_input"),
                price_of(max(self.completion_tokens - said, 0), prices.text_output, "text_output"),
                price_of(said, prices.audio_output, "audio_output"),
            )
            return sum(costs, Decimal(0))

    def __add__(self, other: Usage) -> Usage:
        if not isinstance(other, Usage):
            return NotImplemented
        counts = zip(attrs.astuple(self), attrs.astuple(other), strict=True)
        return _sum(*(mine + theirs for mine, theirs in counts))


_sum = unchecked(Usage)  # a sum may be larger than each count may be

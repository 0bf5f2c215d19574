"""Costs of tokens, by prices that the caller gives."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import pytest

from conversation import Prices, Usage
from conversation.errors import InvalidSetting

PRICES = Prices(
    text_input=2.5, cached_input=Decimal("1.25"), audio_input=32, text_output=10, audio_output=64
)


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(), "0"),
        (Usage(1_000_000), "2.5"),
        (Usage(0, 1_000_000), "10"),
        (Usage(1_000_000, 0, prompt_audio_tokens=1_000_000), "32"),
        (Usage(0, 1_000_000, completion_audio_tokens=1_000_000), "64"),
        (Usage(100, 100, 60, 40, 0, 30, 70), "0.00621"),
        (Usage(100, 0, 60, 40, 50), "0.0013675"),
        (Usage(100, 0, 60, 40, 70), "0.0010475"),
        (Usage(100, 0, 60, 40, 500), "0.000125"),
        (Usage(100, 50), "0.00075"),
        (Usage(100, 0, prompt_image_tokens=40), "0.00025"),
        (Usage(40, 0, prompt_audio_tokens=50, completion_audio_tokens=1), "0.001664"),
        (Usage(100, 50) + Usage(100, 100, 60, 40, 0, 30, 70), "0.00696"),
        (Usage(1, 1), "0.0000125"),
    ],
)
def test_cost_counts_each_kind_of_token(usage: Usage, dollars: str) -> None:
    """Sound has its own price; cached tokens are text first; without a breakdown all is text."""
    cost = usage.cost(PRICES)
    assert type(cost) is Decimal
    assert cost == Decimal(dollars)


def test_cost_without_a_price_of_cached_tokens_gives_no_discount() -> None:
    """Without `cached_input`, cached tokens cost as much as others."""
    prices = Prices(text_input=1, text_output=2, audio_input=10, audio_output=20)
    assert Usage(100, 0, 60, 40, 100).cost(prices) == Decimal("0.00046")


def test_cost_of_sound_without_its_price_is_refused() -> None:
    """A price that is missing is named; text alone does not need it."""
    prices = Prices(text_input=0.1, text_output=0)
    assert Usage(3, 9).cost(prices) == Decimal("0.0000003")
    with pytest.raises(InvalidSetting, match=r"5 tokens of sound.*audio_input"):
        Usage(9, 0, prompt_audio_tokens=5).cost(prices)
    with pytest.raises(InvalidSetting, match=r"7 tokens of sound.*audio_output"):
        Usage(0, 9, completion_audio_tokens=7).cost(prices)


@pytest.mark.parametrize("name", ["text_input", "text_output", "audio_input", "cached_input"])
@pytest.mark.parametrize(
    "value", [-1, -0.01, float("nan"), float("inf"), Decimal("nan"), True, "2.5", b"", [1]]
)
def test_price_is_a_number_of_dollars(name: str, value: Any) -> None:
    """A price that is no number >= 0 is refused with its name."""
    given: dict[str, Any] = {"text_input": 1, "text_output": 1, name: value}
    with pytest.raises(InvalidSetting, match=f"{name} must be dollars per million tokens"):
        Prices(**given)


def test_prices_of_text_are_needed() -> None:
    """Text has to have a price, and None is none."""
    nothing: Any = None
    with pytest.raises(InvalidSetting, match="text_output must be"):
        Prices(text_input=1, text_output=nothing)


@pytest.mark.parametrize("prices", [None, {"text_input": 1}, Decimal(1)])
def test_cost_takes_prices_alone(prices: Any) -> None:
    """A value that is no `Prices`, such as a single number, is refused."""
    with pytest.raises(InvalidSetting, match=r"prices must be Prices\(…\), got"):
        Usage(1, 1).cost(prices)


def test_cost_is_exact_in_programs_that_round() -> None:
    """The precision of the caller's decimal context rounds no cost, which may be added up."""
    with localcontext(prec=2):
        assert Usage(123_457, 0).cost(Prices(text_input=2.5, text_output=1)) == Decimal("0.3086425")

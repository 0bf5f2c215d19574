"""A stand-in for the example programs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conversation.testing import StandIn


@pytest.fixture
def server() -> Iterator[StandIn]:
    """A stand-in with the real clock, as other processes have it."""
    with StandIn() as server:
        yield server

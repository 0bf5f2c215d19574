"""Tokens in answers, in turns and in sums."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conversation import AssistantTurn, Conversation, FileStore, Usage
from conversation._wire.usage import usage_entry
from tests.samples import answer

DETAILS = {
    "text_tokens": 1,
    "audio_tokens": 2,
    "cached_tokens": 3,
    "image_tokens": 40,
    "cache_write_tokens": 50,
    "video_tokens": 6,
}


def counted(details: dict[str, Any]) -> dict[str, Any]:
    """Return a completion with these details of its prompt."""
    usage = {"prompt_tokens": 100, "completion_tokens": 1, "prompt_tokens_details": details}
    return {**answer(content="Yes."), "usage": usage}


@pytest.mark.parametrize(
    "details", [DETAILS, {"image_tokens": 40}, {"cache_write_tokens": 50}, {"image_tokens": 0}]
)
def test_all_details_of_a_prompt_are_counted(tmp_path: Path, details: dict[str, int]) -> None:
    """Tokens of pictures and of the cache are counted, kept on disk, summed and undone."""
    expected = Usage(
        100,
        1,
        details.get("text_tokens", 0),
        details.get("audio_tokens", 0),
        details.get("cached_tokens", 0),
        prompt_image_tokens=details.get("image_tokens", 0),
        cache_write_tokens=details.get("cache_write_tokens", 0),
    )
    store = FileStore(tmp_path)
    chat = Conversation.open("s", store=store)
    for _ in range(2):
        chat.add_user("Is it?")
        assert chat.add_completion(counted(details)).usage == expected
    chat.undo()
    again = Conversation.open("s", store=store)
    turn = again.turns[1]
    assert isinstance(turn, AssistantTurn)
    assert turn.usage == expected
    assert again.usage == chat.usage == expected + expected
    line = store.root.joinpath("s.json").read_text().splitlines()[2]
    assert all(f'"{key}":{count}' in line for key, count in details.items())


@pytest.mark.parametrize("wrong", [-1, "5", None, True, 1e300])
def test_invalid_counts_are_zero(wrong: Any) -> None:
    """A count that is none is kept with the turn and counts nothing."""
    turn = Conversation().add_completion(counted({"image_tokens": wrong}))
    assert turn.usage == Usage(100, 1)
    assert '"image_tokens"' in turn.extra


def test_counts_that_are_zero_are_not_written() -> None:
    """Documents do not grow by counts that are zero."""
    entry = usage_entry(Usage(100, 1, prompt_text_tokens=4))
    assert entry["prompt_tokens_details"].keys() == {"text_tokens", "audio_tokens", "cached_tokens"}

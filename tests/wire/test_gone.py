"""Pictures, documents and sound whose bytes are gone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from conversation import AudioInput, Conversation, FileInput, FileStore, ImageInput
from conversation._wire.messages import MISSING
from conversation._wire.reading import turn_from_entry
from conversation.stores._stored_file import StoredFile
from tests.samples import PNG, SOUND, entry_from_turn


def test_bytes_that_are_gone_leave_a_place(tmp_path: Path) -> None:
    """A session whose files were lost can be saved and forked, and opens again."""
    with Conversation.open("x") as chat:
        for part in (ImageInput(PNG, "low"), FileInput(b"%PDF", "a.pdf"), AudioInput(SOUND)):
            chat.add_user("This:", part)
    shutil.rmtree(FileStore().root / "x.audio")
    chat = Conversation.open("x")
    chat.fork("y")
    copies = Conversation.load(chat.save(tmp_path / "a.json")), Conversation.open("y")
    for copy in copies:
        assert [turn.text for turn in copy.turns] == ["This:"] * 3
        parts = [message["content"][1] for message in copy.messages()]
        assert parts == [{"type": "text", "text": MISSING}] * 3


@pytest.mark.parametrize(
    "part",
    [{"type": "image_url", "image_url": {}}, {"type": "file", "file": {"filename": "a.pdf"}}],
    ids=["image", "file"],
)
def test_parts_without_bytes_are_read_from_sessions_only(part: dict[str, Any]) -> None:
    """Earlier versions wrote them so; in a message from elsewhere there is nothing to keep."""
    entry = {"role": "user", "content": [{"type": "text", "text": "Look"}, part]}
    turn = turn_from_entry(entry, fetch=lambda name: StoredFile(Path(), name))
    assert turn_from_entry(entry_from_turn(turn)) == turn
    assert Conversation.from_messages([entry]).messages()[0]["content"] == "Look"

"""The format `messages`: a list that the API accepts and `from_messages` reads back."""

from __future__ import annotations

import json
from pathlib import Path

from conversation import Conversation
from conversation.testing import StandIn
from tests.conftest import Clock


def test_the_api_accepts_exported_messages_at_any_time(
    full: Conversation, clock: Clock, tmp_path: Path
) -> None:
    """There are no audio ids in them and user audio is inline, so a server that is new answers."""
    messages = json.loads(full.export(tmp_path / "a.messages.json").read_text())
    assert not any("audio" in message for message in messages)
    assert messages[0] == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in messages[4]["content"]] == ["input_audio", "image_url"]
    for message in messages:  # no model takes both sound and pictures
        if isinstance(content := message.get("content"), list):
            kinds = ("text", "input_audio")
            message["content"] = [part for part in content if part["type"] in kinds]
    with StandIn(clock=clock) as stranger:
        request = Conversation().request() | {"messages": messages}
        answer = stranger.client().chat.completions.create(**request)
    assert "0 of my earlier answers by voice and 7 from transcripts" in str(
        answer.choices[0].message.audio and answer.choices[0].message.audio.transcript
    )


def test_exported_messages_read_back(full: Conversation, tmp_path: Path) -> None:
    """`from_messages` gets all texts; transcripts of user audio are not part of API messages."""
    messages = json.loads(full.export(tmp_path / "a.messages.json").read_text())
    again = Conversation.from_messages(messages)
    assert [turn.text for turn in again.turns[1:]] == [
        "" if turn.text == "And a cat?" else turn.text for turn in full.turns
    ]


def test_an_empty_conversation_is_exported_as_an_empty_list(tmp_path: Path) -> None:
    """Without turns and instructions the file is still valid JSON."""
    assert json.loads(Conversation().export(tmp_path / "a.messages.json").read_text()) == []

"""A turn's `extra` in its entry: unknown keys stay, reserved ones neither come in nor get out."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation import (
    AssistantAudio,
    AssistantTurn,
    AudioInput,
    Conversation,
    FileStore,
    ImageInput,
    SystemTurn,
    ToolCall,
    ToolTurn,
    Usage,
    UserTurn,
)
from conversation._values.media import kept_data
from conversation._values.turns import Turn
from conversation._wire.completions import Asked, completion_object, turn_from_completion
from conversation._wire.reading import turn_from_entry
from conversation._wire.strict_json import json_text
from conversation.stores._stored_file import StoredFile
from tests.samples import PNG, SOUND, answer, entry_from_turn, tool_call
from tests.strategies import turns

KEY_NAMES = """
at audio cached_tokens completion_tokens_details content custom data detail duration expires_at file
file_data file_id filename finish_reason format function id image_url input_audio interrupted lost
model name prompt_tokens prompt_tokens_details refusal role text text_tokens tool_call_id tool_calls
total_tokens transcript type unknown url usage voice_dropped
"""
KEYS = KEY_NAMES.split()

VALUES: list[Any] = [None, True, False, 7, 2.5, "", "x", "../x", "0001-aa.wav", "UklGRg==", "wav"]
VALUES += ["2026-11-22T10:15:00Z", [], {}, [tool_call("a")], [{"type": "text", "text": "x"}]]

objects = st.recursive(
    st.sampled_from(VALUES),
    lambda inner: (
        st.dictionaries(st.sampled_from(KEYS), inner, max_size=5) | st.lists(inner, max_size=3)
    ),
    max_leaves=12,
)
extras = st.dictionaries(st.sampled_from(KEYS), objects, max_size=6)


def fetch(name: str) -> StoredFile:
    """Return the file of that name, in a folder that is never read."""
    return StoredFile(Path("session.audio"), name)


def stored(turn: Turn) -> Turn:
    """Return the turn with its bytes kept in files, as a session has it."""
    return turn_from_entry(with_files(entry_from_turn(turn)), fetch=fetch)


def with_files(value: Any) -> Any:
    """Return an entry with a file's name in place of all inline bytes."""
    if isinstance(value, list):
        return [with_files(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    value = {key: with_files(inner) for key, inner in value.items()}
    for key in ("data", "file_data"):
        if value.pop(key, None):
            value["file"] = "0001-7f3a91c4.bin"
    if str(value.get("url")).startswith("data:"):
        value["file"] = "0001-7f3a91c4.png"
        del value["url"]
    return value


@given(turns, extras, st.booleans())
def test_extra_changes_nothing_that_a_turn_says(
    turn: Turn, extra: dict[str, Any], is_stored: bool
) -> None:
    """Whatever keys it holds, at any depth, the saved turn is read with the same fields."""
    turn = stored(turn) if is_stored else turn
    given_extra = attrs.evolve(turn, extra=json_text(extra))
    read = turn_from_entry(entry_from_turn(given_extra), fetch=fetch)
    assert attrs.evolve(read, extra="{}") == attrs.evolve(turn, extra="{}")
    assert turn_from_entry(entry_from_turn(read), fetch=fetch) == read


@pytest.mark.parametrize(
    "turn",
    [
        UserTurn(("Look", ImageInput(PNG))),
        AssistantTurn(content="Hi"),
        AssistantTurn(audio=AssistantAudio("audio_1", None, "Hi"), usage=Usage(1)),
        ToolTurn("a", "Rain"),
        SystemTurn("Be kind"),
    ],
    ids=lambda turn: type(turn).__name__,
)
@pytest.mark.parametrize(
    "extra",
    [
        {"content": [None, {"image_url": {"file": "../x", "url": "https://example.org"}}]},
        {"content": [{"input_audio": {"file": "../x"}}, {"file": {"file": "../x"}}]},
        {"audio": {"file": "../x", "transcript": "No", "lost": True, "duration": 5}},
        {"tool_calls": [{"id": "a"}], "tool_call_id": 5, "usage": {"prompt_tokens": 10**30}},
        {"at": "2026-11-22T10:15:00Z", "interrupted": True, "voice_dropped": True},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_no_extra_keeps_a_session_from_opening(
    turn: Turn, extra: dict[str, Any], tmp_path: Path
) -> None:
    """Keys that a turn reserves are not written from a program's `extra`."""
    store = FileStore(tmp_path, fsync=False)
    calling = AssistantTurn(tool_calls=(ToolCall("a", "weather", "{}"),))
    with Conversation.open("x", store=store) as chat:
        for added in (calling, attrs.evolve(turn, extra=json_text(extra))):
            chat.add(added)
        before = [attrs.evolve(turn, extra="{}") for turn in chat.turns]
    opened = Conversation.open("x", store=store, read_only=True)
    assert [attrs.evolve(turn, extra="{}") for turn in opened.turns] == before


OWN: dict[str, Any] = {
    "at": "yesterday",
    "file": "../x",
    "lost": "yes",
    "duration": "long",
    "interrupted": 1,
    "voice_dropped": 1,
}
SOUND_TEXT = "UklGRg=="


def messages_with(own: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a message of each role and part, with these keys in each object."""
    wav = entry_from_turn(UserTurn((AudioInput(SOUND),)))["content"][0]["input_audio"]
    png = entry_from_turn(UserTurn((ImageInput(PNG),)))["content"][0]["image_url"]
    parts = [
        {"type": "input_audio", "input_audio": {**wav, **own}},
        {"type": "image_url", "image_url": {**png, **own}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", **own}},
        {"type": "file", "file": {"file_id": "file-1", **own}},
        {"type": "file", "file": {"file_data": SOUND_TEXT, "filename": "a.pdf", **own}},
    ]
    audio = {"id": "audio_1", "transcript": "Hi", **own}
    return [
        {"role": "system", "content": "Be kind", **own},
        {"role": "developer", "content": "Be brief", **own},
        {"role": "user", "content": parts, **own},
        {"role": "assistant", "audio": audio, "tool_calls": [tool_call("a")], **own},
        {"role": "tool", "tool_call_id": "a", "content": "Rain", **own},
    ]


def test_reserved_keys_of_imported_messages_are_dropped(tmp_path: Path) -> None:
    """In all roles and parts; the session opens, and no turn names a file that is not its own."""
    chat = Conversation.from_messages(messages_with(OWN), clock=lambda: 9.0)
    assert chat.turns == Conversation.from_messages(messages_with({}), clock=lambda: 9.0).turns
    store = FileStore(tmp_path, fsync=False)
    saved = chat.save(tmp_path / "a.json")
    assert b"../x" not in saved.read_bytes()
    with Conversation.open("x", store=store) as copy:
        for turn in chat.turns:
            copy.add(turn)
    opened = Conversation.open("x", store=store, read_only=True)
    names = [data.name for turn in opened.turns for data in kept_data(turn)]
    assert len(names) == 3
    assert all(name in {path.name for path in tmp_path.rglob("*")} for name in names)
    assert Conversation.load(saved).turns == chat.turns


def test_reserved_keys_of_a_servers_answer_are_dropped() -> None:
    """A server cannot date, interrupt or lose an answer, nor name a file."""
    own = {**OWN, "at": "2026-11-22T10:15:00Z", "interrupted": True, "lost": True}
    message = {"audio": {"id": "audio_1", "transcript": "Hi", **own, "duration": 1e14}, **own}
    completion = completion_object({**answer(**message), "interrupted": True})
    turn = turn_from_completion(completion, Asked(None, None, speaks=True))
    assert (turn.at, turn.interrupted, turn.voice_dropped) == (None, False, False)
    assert turn.audio == AssistantAudio("audio_1", None, "Hi")
    assert turn.extra == "{}"


@pytest.mark.parametrize("duration", [1e14, -1e14, 0])
def test_imported_messages_say_nothing_that_is_ours(duration: float) -> None:
    """An import cannot date, interrupt or lose an answer, nor say how long a sound is."""
    own = {**OWN, "at": "9999-12-31T23:59:59Z", "interrupted": True, "voice_dropped": True}
    sound = {"data": base64.b64encode(SOUND).decode(), "format": "wav", "duration": duration}
    chat = Conversation.from_messages(
        [
            {"role": "user", "content": [{"type": "input_audio", "input_audio": sound}], **own},
            {
                "role": "assistant",
                "content": "Hi",
                "audio": {"id": "audio_1", "lost": True, "duration": duration, "transcript": "Hi"},
                **own,
            },
        ]
    )
    question, reply = chat.turns
    assert isinstance(question, UserTurn)
    assert question.content == (AudioInput(SOUND),)
    assert isinstance(reply, AssistantTurn)
    assert reply.audio == AssistantAudio("audio_1", None, "Hi")
    assert (reply.interrupted, reply.voice_dropped, question.at, reply.at) == (
        False,
        False,
        *2 * (None,),
    )
    assert question.extra == reply.extra == "{}"


def test_negative_duration_in_a_document_counts_as_unknown() -> None:
    """A saved answer of less than no seconds does not make room for others in a request."""
    audio = {"id": "audio_1", "transcript": "Hi", "duration": -1e14}
    turn = turn_from_entry({"role": "assistant", "audio": audio})
    assert isinstance(turn, AssistantTurn)
    assert turn.audio == AssistantAudio("audio_1", None, "Hi")


def test_more_audio_tokens_than_any_answer_has_leave_its_duration_unknown() -> None:
    """An absurd count of audio tokens does not lose the answer."""
    message = {
        "audio": {
            "id": "a",
            "transcript": "Hi",
            "data": base64.b64encode(b"OggS" + bytes(99)).decode(),
        }
    }
    usage = {"completion_tokens_details": {"audio_tokens": 2**60}}
    turn = turn_from_completion(
        {**answer(**message), "usage": usage}, Asked(None, "opus", speaks=True)
    )
    assert turn.audio
    assert turn.audio.duration is None
    assert turn.audio.transcript == "Hi"

"""Seeding of a Realtime session: which turns become which items."""

from __future__ import annotations

import array
import asyncio
import base64
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from openai.types.realtime import ConversationItemCreateEvent
from pydantic import TypeAdapter

from conversation import (
    AssistantAudio,
    AssistantTurn,
    AsyncConversation,
    AudioInput,
    Context,
    Conversation,
    FileInput,
    ImageInput,
    SystemTurn,
    ToolCall,
    ToolTurn,
    UserTurn,
)
from conversation._values.samples import resampled
from conversation._values.turns import Turn
from conversation.errors import ContextTooSmall, InvalidSetting
from conversation.realtime import seed_events
from tests.samples import MP3, PNG

EVENTS: TypeAdapter[Any] = TypeAdapter(ConversationItemCreateEvent)

JPEG = b"\xff\xd8\xff" + bytes(9)
GIF = b"GIF89a" + bytes(9)
SECOND = bytes(range(240)) * 200
"""A second of 24 kHz s16le."""


def chat_of(*turns: Turn, **settings: Any) -> Conversation:
    """Return a conversation with these turns."""
    chat = Conversation(**settings)
    chat.extend(turns)
    return chat


def seeded(chat: Conversation, **options: Any) -> list[dict[str, Any]]:
    """Return the items without their ids, each checked by the SDK's types."""
    items = []
    for event in seed_events(chat, **options):
        EVENTS.validate_python(event)
        item = dict(event["item"])
        assert len(item.pop("id")) <= 32
        items.append(item)
    return items


def message(role: str, *content: dict[str, Any]) -> dict[str, Any]:
    """Return an item of words."""
    return {"type": "message", "role": role, "content": list(content)}


def text(words: str) -> dict[str, Any]:
    """Return a part with text of the user."""
    return {"type": "input_text", "text": words}


def spoken(words: str, **fields: Any) -> AssistantTurn:
    """Return a spoken answer."""
    return AssistantTurn(audio=AssistantAudio("audio_1", 1e12, words, SECOND, "pcm16"), **fields)


@pytest.mark.parametrize(
    ("turn", "item"),
    [
        (SystemTurn("Be kind.", "developer"), message("system", text("Be kind."))),
        (UserTurn("Hello"), message("user", text("Hello"))),
        (UserTurn(("Look", "here")), message("user", text("Look"), text("here"))),
        (
            UserTurn((AudioInput.from_pcm(SECOND, 24_000, "Good day"),)),
            message("user", text("Good day")),
        ),
        (
            UserTurn((AudioInput.from_pcm(SECOND, 24_000),)),
            message("user", text("[speech, which cannot be played to you]")),
        ),
        (
            UserTurn(("A dog", ImageInput(PNG, "low"))),
            message(
                "user",
                text("A dog"),
                {
                    "type": "input_image",
                    "image_url": f"data:image/png;base64,{base64.b64encode(PNG).decode()}",
                    "detail": "low",
                },
            ),
        ),
        (
            UserTurn((ImageInput(JPEG),)),
            message(
                "user",
                {
                    "type": "input_image",
                    "image_url": f"data:image/jpeg;base64,{base64.b64encode(JPEG).decode()}",
                },
            ),
        ),
        (
            UserTurn((ImageInput(GIF), ImageInput("https://example.org/a.png"))),
            message("user", *[text("[a picture, which cannot be shown to you]")] * 2),
        ),
        (
            UserTurn((FileInput(b"%PDF", "a.pdf"),)),
            message("user", text("[a file, which cannot be shown to you]")),
        ),
        (
            spoken("Good morning."),
            message("assistant", {"type": "output_text", "text": "Good morning."}),
        ),
        (
            spoken("Good mor", interrupted=True),
            message("assistant", {"type": "output_text", "text": "Good mor"}),
        ),
        (
            AssistantTurn(refusal="No."),
            message("assistant", {"type": "output_text", "text": "No."}),
        ),
        (
            spoken(""),
            message(
                "assistant",
                {"type": "output_text", "text": "[spoken answer, its words are not known]"},
            ),
        ),
    ],
)
def test_each_turn_becomes_an_item(turn: Turn, item: dict[str, Any]) -> None:
    """Words of all kinds become text, answers never sound; what a session takes not, is named."""
    assert seeded(chat_of(turn)) == [item]


def test_calls_and_results_are_items_of_their_own() -> None:
    """Words, calls and results follow one another; long ids are shortened, the same in both."""
    long = "call-" + "0123456789" * 4
    chat = chat_of(
        UserTurn("Cold?"),
        AssistantTurn(
            "Wait.", tool_calls=[ToolCall("a", "see.it", "{}"), ToolCall(long, "b", "x", "custom")]
        ),
        ToolTurn(long, "no"),
        ToolTurn("a", "-3"),
    )
    _, words, *calls = seeded(chat)
    short = calls[1]["call_id"]
    assert words["content"][0]["text"] == "Wait."
    assert len(short) <= 32
    assert calls == [
        {"type": "function_call", "call_id": "a", "name": "see_it", "arguments": "{}"},
        {"type": "function_call", "call_id": short, "name": "b", "arguments": '{"input":"x"}'},
        {"type": "function_call_output", "call_id": "a", "output": "-3"},
        {"type": "function_call_output", "call_id": short, "output": "no"},
    ]


def test_an_open_call_stays_open() -> None:
    """A call without a result is seeded without one, so that it can be answered in the session."""
    chat = chat_of(UserTurn("Cold?"), AssistantTurn(tool_calls=[ToolCall("a", "f", "{}")]))
    assert [item["type"] for item in seeded(chat)] == ["message", "function_call"]


@pytest.mark.parametrize(
    ("rate", "channels", "encoding"),
    [
        (24_000, 1, "s16le"),
        (24_000, 2, "s16le"),
        (48_000, 1, "s16le"),
        (8000, 1, "mulaw"),
        (44_100, 2, "f32le"),
        (16_000, 1, "alaw"),
    ],
)
def test_sound_goes_as_24_khz_mono(rate: int, channels: int, encoding: Any) -> None:
    """A second of any rate and coding is a second of raw 24 kHz samples, with its words."""
    width = {"s16le": 2, "f32le": 4}.get(encoding, 1)
    sound = AudioInput.from_pcm(
        bytes(rate * channels * width), rate, "Hm", channels=channels, encoding=encoding
    )
    (item,) = seeded(chat_of(UserTurn((sound, "see"))), sound=True)
    part, words = item["content"]
    assert words == text("see")
    assert part["type"] == "input_audio"
    assert part["transcript"] == "Hm"
    assert abs(len(base64.b64decode(part["audio"])) - 48_000) <= 4


@pytest.mark.parametrize("words", ["Good day", None])
def test_sound_that_needs_a_decoder_goes_as_its_words(words: str | None) -> None:
    """MP3 is never sent to a session, which takes raw samples only."""
    (item,) = seeded(chat_of(UserTurn((AudioInput(MP3, transcript=words),))), sound=True)
    assert item["content"] == [text(words or "[speech, which cannot be played to you]")]


def test_resampling_keeps_pitch_and_loudness() -> None:
    """A tone of another rate has as many periods and nearly the same peaks at 24 kHz."""
    for rate in (8000, 16_000, 44_100, 48_000):
        tone = array.array(
            "h", (round(9000 * math.sin(2 * math.pi * 440 * i / rate)) for i in range(rate))
        )
        new = array.array("h", resampled(tone.tobytes(), rate, 24_000))
        assert len(new) == 24_000
        assert 8500 < max(new) <= 9000
        crossings = sum(a < 0 <= b for a, b in itertools.pairwise(new))
        assert abs(crossings - 440) <= 1


def test_the_newest_whole_exchanges_are_taken() -> None:
    """Beyond the limit the oldest exchanges are left out; system turns stay."""
    turns: list[Turn] = [SystemTurn("Stay")]
    for number in range(6):
        turns += [UserTurn(f"Question {number} " + "x" * 380), spoken(f"Answer {number}")]
    chat = chat_of(*turns)
    first, *others = seeded(chat, max_tokens=250)
    assert first["role"] == "system"
    assert [item["role"] for item in others] == ["user", "assistant"] * 2
    assert others[0]["content"][0]["text"].startswith("Question 4")
    with pytest.raises(ContextTooSmall):
        seed_events(chat, max_tokens=50)


@pytest.mark.parametrize(
    ("context", "count"),
    [
        (Context(), 28),
        (Context(max_prompt_tokens=10_500), 10),
        (Context(max_prompt_tokens=10**9), 28),
    ],
)
def test_a_session_takes_what_context_allows_up_to_its_window(context: Context, count: int) -> None:
    """By default, at most 28,224 tokens are seeded, or less if `Context` says so."""
    chat = chat_of(*[UserTurn("x" * 4000) for _ in range(40)], context=context)
    assert len(seeded(chat)) == count


def test_old_sound_goes_as_words() -> None:
    """With `sound=True`, user sound that is old by `Context` goes as its words."""
    sounds = [UserTurn((AudioInput.from_pcm(SECOND, 24_000, f"W{n}"),)) for n in range(3)]
    chat = chat_of(*sounds, context=Context(user_audio_turns=1))
    assert [item["content"][0]["type"] for item in seeded(chat, sound=True)] == [
        "input_text",
        "input_text",
        "input_audio",
    ]


def test_a_summary_stands_in_for_what_it_covers(client: OpenAI) -> None:
    """Turns that were summarised go as the summary, as in a request."""
    context = Context(max_prompt_tokens=300, summarize=lambda turns, _: f"{len(turns)} turns")
    chat = Conversation(client=client, context=context)
    for number in range(8):
        chat.say(f"Question {number} " + "x" * 200, modalities=["text"], model="gpt-4.1")
    first, *others = seeded(chat)
    assert first["role"] == "system"
    assert "summary of the first" in first["content"][0]["text"]
    assert 0 < len(others) < 16


@pytest.mark.parametrize("most", [-1, True, 1.5, "many"])
def test_bad_limits_are_refused(most: Any) -> None:
    """A limit is a number of tokens."""
    with pytest.raises(InvalidSetting, match="max_tokens must be"):
        seed_events(Conversation(), max_tokens=most)


def test_sound_that_is_gone_goes_as_its_words(tmp_path: Path) -> None:
    """Sound whose file was lost is no reason to refuse the hand-over."""
    with Conversation.open("s", store=tmp_path) as chat:
        for words in ("Good day", None):
            chat.add_user(AudioInput.from_pcm(SECOND, 24_000, words))
        for file in (tmp_path / "s.audio").iterdir():
            file.unlink()
        items = seeded(chat, sound=True)
    gone = "[speech, which cannot be played to you]"
    assert [item["content"] for item in items] == [[text("Good day")], [text(gone)]]


def test_ids_are_unique() -> None:
    """Items of one and of several seeds have different ids with the same beginning."""
    chat = chat_of(UserTurn("a"), AssistantTurn("b"), UserTurn("a"))
    ids = [event["item"]["id"] for _ in range(2) for event in seed_events(chat)]
    assert len(set(ids)) == 6
    assert {found[:5] for found in ids} == {"kept_"}


def test_the_async_twin_is_awaited() -> None:
    """Of an `AsyncConversation`, the same events are awaited."""

    async def seed() -> list[dict[str, Any]]:
        chat = AsyncConversation()
        await chat.add_user("Hello")
        return await seed_events(chat)

    (event,) = asyncio.run(seed())
    assert event["item"]["content"] == [text("Hello")]


def test_an_empty_conversation_seeds_nothing() -> None:
    """There are no events without turns; instructions are the session's own."""
    assert seed_events(Conversation(instructions="Be brief.")) == []

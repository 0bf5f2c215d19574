"""Sound in conversations with models that hear none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from conversation import AudioInput, Context, Conversation, FileStore, Form, ImageInput
from conversation._rendering.unseen import untaken_by
from conversation.errors import InvalidTurn
from conversation.testing import StandIn
from tests.conftest import Clock
from tests.samples import PNG, SOUND, answer, spoken

SAID, UNSAID = AudioInput(SOUND, transcript="Good morning"), AudioInput(SOUND)
UNHEARD = "[speech, which cannot be played to you]"
REFUSED = "Invalid 'messages[0]'. Content blocks are expected to be either text or image_url type."
TEXT: dict[str, Any] = {"modalities": ["text"]}


def ask(chat: Conversation, sound: AudioInput, *, streams: bool) -> None:
    """Ask, streamed or not."""
    if streams:
        with chat.stream(sound):
            pass
    else:
        chat.say(sound)


@pytest.mark.parametrize(
    ("model", "hears"),
    [
        *((f"{vendor}{model}", False) for model in ("gpt-5", "o3-mini") for vendor in ("", "a/b/")),
        ("gpt-4", False),
        ("gpt-4o-mini-2024-07-18", False),
        ("gpt-5.6-terra", False),
        ("ft:gpt-4.1:org::x", False),
        ("gpt-4o-audio-preview", True),
        ("gpt-4o-realtime-preview", True),
        ("gpt-audio-1.5", True),
        ("gpt-6", True),
        ("o30", True),
        ("qwen3-omni", True),
        ("google/gemini-3", True),
    ],
)
def test_text_models_are_known_by_name(model: str, hears: bool) -> None:
    """OpenAI's text models are known to take no sound; nothing is assumed of others."""
    assert (AudioInput not in untaken_by(model)) is hears


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("context", [Context(), Context(user_audio_turns=9)])
def test_earlier_sound_goes_as_words_to_text_models(
    server: StandIn, client: OpenAI, clock: Clock, tmp_path: Path, saved: bool, context: Context
) -> None:
    """Text models get the words of all that was spoken, or a placeholder; the turns keep it."""
    given: dict[str, Any] = {"client": client, "clock": clock, "context": context}
    chat = Conversation.open("s", store=FileStore(tmp_path), **given)
    chat.say(SAID)
    chat.say("And this:", UNSAID)
    chat.say(SAID, "both?")
    if saved:
        chat = Conversation.open("s", store=FileStore(tmp_path), **given)
    assert chat.say("Summarize", model="gpt-5", **TEXT).text
    sent = [message["content"] for message in server.requests[-1]["messages"]]
    answers = [turn.text for turn in chat.turns if turn.role == "assistant"]
    assert sent == [
        "Good morning",
        answers[0],
        [{"type": "text", "text": text} for text in ("And this:", UNHEARD)],
        answers[1],
        [{"type": "text", "text": text} for text in ("Good morning", "both?")],
        answers[2],
        "Summarize",
    ]
    text = Conversation(client=client, clock=clock, model="gpt-5", **TEXT)
    for turn in chat.turns:
        text.add(turn)
    assert [(item.form, item.why) for item in text.render().items[:3]] == [
        (Form.WORDS, "words, the model takes no sound"),
        (Form.TRANSCRIPT, "transcript, the model takes no sound"),
        (Form.PLACEHOLDER, "placeholder, the model takes no sound"),
    ]
    chat.say("Go on")  # with the voice model
    kinds = [part["type"] for part in server.requests[-1]["messages"][2]["content"]]
    assert kinds == ["text", "input_audio"]
    assert "audio" in server.requests[-1]["messages"][1]


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("sound", [SAID, UNSAID])
def test_new_sound_is_refused_before_it_is_sent(
    server: StandIn, client: OpenAI, sound: AudioInput, streams: bool
) -> None:
    """New sound for a model that hears none raises; nothing is sent or added."""
    chat = Conversation(client=client, model="gpt-4o", **TEXT)
    with pytest.raises(InvalidTurn, match=r"takes no sound.* say\(…, model='gpt-audio-1.5'\)"):
        ask(chat, sound, streams=streams)
    assert (server.requests, chat.turns) == ([], ())
    chat.add_user(sound)
    with pytest.raises(InvalidTurn, match=r"undo\(\) takes the turn back.* reply\(model='gpt-aud"):
        chat.reply()
    assert chat.reply(model="gpt-audio-1.5").text
    assert chat.say("And in writing?").text


def test_sound_that_is_always_sent_as_words_is_not_refused(server: StandIn, client: OpenAI) -> None:
    """A text model behind a transcription gets new sound as its words."""
    settings: dict[str, Any] = {"context": Context(user_audio_turns=0), "transcribe": True, **TEXT}
    chat = Conversation(client=client, model="gpt-5", **settings)
    server.will_transcribe("Good evening")
    assert chat.say(UNSAID).text
    assert server.requests[-1]["messages"] == [{"role": "user", "content": "Good evening"}]


@pytest.mark.parametrize("kept", [None, 0, 5])
def test_sound_that_a_model_does_not_take_is_transcribed(
    server: StandIn, client: OpenAI, kept: int | None
) -> None:
    """With `transcribe=True` earlier sound that has no words gets them, once."""
    context = Context(user_audio_turns=kept)
    chat = Conversation(client=client, transcribe=True, context=context, modalities=["text"])
    for part in (UNSAID, SAID, UNSAID):
        chat.add_user(part, ImageInput(PNG))
        chat.add_completion(answer(content="Yes."))
    server.will_transcribe("Good evening")
    for _ in range(2):
        assert chat.say("What did I say?", model="gpt-5").text
    heard = [r for r in server.requests if "file" in r]
    sent = [m["content"][0].get("text") for m in server.requests[-1]["messages"][:6:2]]
    assert len(heard) == 2
    assert sent == ["Good evening", "Good morning", "0.1 seconds of sound."]


def test_refusal_of_sound_is_learned(
    server: StandIn, client: OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    """Another model that refuses earlier sound gets words, at once and from then on."""
    chat = Conversation(client=client, model="gpt-6", **TEXT)
    chat.add_user(UNSAID)
    chat.add_completion(answer(content="Hello."))
    assert chat.say("What did I say?").text  # refused by the stand-in, and sent again
    assert chat.say("Really?").text
    assert len(server.requests) == 3
    assert [r["messages"][0]["content"] for r in server.requests[1:]] == [UNHEARD, UNHEARD]
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        "'gpt-6' takes no sound: placeholders are sent instead"
    ]
    with pytest.raises(InvalidTurn, match="'gpt-6' takes no sound"):
        chat.say(SAID)
    chat.add_user(ImageInput(PNG))
    assert chat.reply().text  # pictures are another kind


@pytest.mark.parametrize("streams", [False, True])
def test_refused_new_sound_raises(server: StandIn, client: OpenAI, streams: bool) -> None:
    """New sound that the server refuses raises, also where it has words."""
    chat = Conversation(client=client, model="gpt-6", **TEXT)
    with pytest.raises(openai.BadRequestError, match="either text or image_url"):
        ask(chat, SAID, streams=streams)
    assert (len(server.requests), chat.turns) == (1, ())


def test_heal_learns_it_for_calls_of_ones_own(server: StandIn, client: OpenAI) -> None:
    """`heal` learns from a refusal of sound, once, and only where sound was sent."""
    chat = Conversation(model="gpt-6", **TEXT)
    chat.add_user(SAID)
    chat.add_completion(answer(content="Hello."))
    chat.add_user("What did I say?")
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**chat.request())
    assert chat.heal(refused.value)
    assert chat.request()["messages"][0]["content"] == "Good morning"
    assert not chat.heal(refused.value)
    silent = Conversation(client=client, model="gpt-6", **TEXT)
    silent.add_user("Hello")
    silent.request()
    assert not silent.heal(refused.value)
    server.will_answer("Fine.")
    silent.add_user(SAID)
    assert silent.request()["messages"][-1]["content"][0]["type"] == "input_audio"


def test_refusal_of_a_voice_is_learned(server: StandIn, client: OpenAI, clock: Clock) -> None:
    """A model that refuses answers as voice gets their words."""
    chat = Conversation(client=client, clock=clock, model="other", **TEXT)
    chat.add_user("Hello")
    chat.add_completion(spoken("Good day", expires_at=int(clock.now) + 999))
    chat.add_user("And?")
    server.will_fail(400, "This model does not support audio input.")
    server.will_answer("Yes.")
    assert "audio" in chat.request()["messages"][1]
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**chat.request())
    assert chat.heal(refused.value)
    assert chat.request()["messages"][1] == {"role": "assistant", "content": "Good day"}

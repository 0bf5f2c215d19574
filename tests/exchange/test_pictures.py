"""Pictures and files in conversations with models that take none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from conversation import (
    AudioInput,
    Context,
    Conversation,
    FileInput,
    FileStore,
    Form,
    ImageInput,
    UserTurn,
)
from conversation._values.parts import Part
from conversation.errors import InvalidTurn
from conversation.testing import StandIn
from tests.conftest import Clock
from tests.samples import PNG, SOUND, answer

PICTURE, FILE = ImageInput(PNG), FileInput(b"%PDF", "a.pdf")
NO_PICTURE, NO_FILE = (f"[a {it}, which cannot be shown to you]" for it in ("picture", "file"))
REFUSED = "This model does not support image_url content."


def shown(chat: Conversation, *content: Part) -> UserTurn:
    """Add a question with pictures, and the answer of another model that took them."""
    turn = chat.add_user(*content)
    chat.add_completion(answer(content="A dog."))
    return turn


def ask(chat: Conversation, *content: Part, streams: bool = False) -> None:
    """Ask, streamed or not."""
    if streams:
        with chat.stream(*content):
            pass
    else:
        chat.say(*content)


@pytest.mark.parametrize(
    ("content", "sent", "why"),
    [
        ([PICTURE], NO_PICTURE, "pictures"),
        (["Look:", PICTURE], ["Look:", NO_PICTURE], "pictures"),
        ([FILE, "Read."], [NO_FILE, "Read."], "files"),
        ([ImageInput("https://a.org/b.png"), FILE], [NO_PICTURE, NO_FILE], "pictures and files"),
        ([FileInput(file_id="file-1")], NO_FILE, "files"),
        ([AudioInput(SOUND), PICTURE], ["input_audio", NO_PICTURE], "pictures"),
    ],
)
@pytest.mark.parametrize("saved", [False, True])
def test_earlier_media_go_as_placeholders_to_voice_models(
    server: StandIn,
    client: OpenAI,
    clock: Clock,
    tmp_path: Path,
    content: list[Part],
    sent: Any,
    why: str,
    saved: bool,
) -> None:
    """Voice models get placeholders for earlier pictures and files; the turns keep them."""
    given: dict[str, Any] = {"client": client, "clock": clock}
    chat = Conversation(**given)
    if saved:
        chat = Conversation.open("s", store=FileStore(tmp_path), **given)
    turn = shown(chat, *content)
    if saved:
        chat = Conversation.open("s", store=FileStore(tmp_path), **given)
    assert chat.say("What colour?").audio
    got = server.requests[0]["messages"][0]["content"]
    if not isinstance(got, str):
        got = [part.get("text", part["type"]) for part in got]
    assert got == sent
    item = chat.render().items[0]
    assert (item.form, item.why) == (Form.PLACEHOLDER, f"placeholder, the model takes no {why}")
    assert item.turn is chat.turns[0]
    assert [type(part) for part in turn.content] == [type(part) for part in content]
    other = chat.request(model="gpt-5", modalities=["text"])["messages"][0]["content"]
    assert {part["type"] for part in other} & {"image_url", "file"}


@pytest.mark.parametrize(
    "model",
    [
        "openai/gpt-audio-1.5",
        "a/b/gpt-audio-mini",
        "gpt-audio",
        "ft:gpt-audio:org::x",
        "openai:gpt-audio",
    ],
)
def test_voice_models_are_known_with_their_vendor(client: OpenAI, model: str) -> None:
    """A vendor's name before a voice model's changes nothing."""
    chat = Conversation(client=client, model=model)
    assert Context().limit_for(model) == 128_000 - 16_384
    shown(chat, PICTURE)
    assert chat.render().items[0].form is Form.PLACEHOLDER
    with pytest.raises(InvalidTurn, match="takes no pictures"):
        chat.say(PICTURE)


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(("part", "what"), [(PICTURE, "pictures"), (FILE, "files")])
def test_new_media_are_refused_before_they_are_sent(
    server: StandIn, chat: Conversation, part: Part, what: str, streams: bool
) -> None:
    """A new picture or file for a model that takes none raises, and nothing is sent or added."""
    shown(chat, part)
    before = chat.turns
    with pytest.raises(InvalidTurn, match=f"'gpt-audio-1.5' takes no {what}"):
        ask(chat, part, streams=streams)
    assert (server.requests, chat.turns) == ([], before)
    assert chat.say("And then?").audio


def test_unanswered_picture_is_not_answered_unseen(server: StandIn, chat: Conversation) -> None:
    """A picture that no model has answered is refused until it is taken back or answered."""
    chat.add_user(PICTURE)
    with pytest.raises(InvalidTurn, match=r"undo\(\) takes the turn back"):
        chat.reply()
    with pytest.raises(InvalidTurn, match=r"undo\(\) takes the turn back"):
        chat.say("What is it?")
    assert chat.request()["messages"][0]["content"][0]["type"] == "image_url"
    assert [turn.role for turn in chat.turns] == ["user"]
    assert server.requests == []
    assert chat.reply(model="gpt-5", modalities=["text"]).text
    assert chat.say("What colour?").audio


def texts_of(request: Any) -> list[str]:
    """Return the contents of a request's messages."""
    return [message["content"] for message in request["messages"]]


def test_refusal_of_pictures_is_learned(
    server: StandIn, client: OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    """Another model that refuses earlier pictures gets placeholders, at once and from then on."""
    chat = Conversation(client=client, model="gpt-5", modalities=["text"])
    shown(chat, PICTURE)
    server.will_fail(400, REFUSED, code="invalid_value", param="messages[0].content")
    assert chat.say("What colour?").text
    assert chat.say("Really?").text
    assert chat.fork().say("Really?").text
    assert len(server.requests) == 4
    assert all(texts_of(request)[0] == NO_PICTURE for request in server.requests[1:])
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        "'gpt-5' takes no pictures or files: placeholders are sent instead"
    ]
    shown(chat, FILE)
    chat.say("Files are another kind")
    assert server.requests[-1]["messages"][-2]["role"] == "assistant"
    assert server.requests[-1]["messages"][-3]["content"][0]["type"] == "file"


@pytest.mark.parametrize("streams", [False, True])
def test_refused_new_picture_raises(server: StandIn, client: OpenAI, streams: bool) -> None:
    """A new picture that the server refuses raises; the next is refused before it is sent."""
    chat = Conversation(client=client, model="gpt-5", modalities=["text"])
    shown(chat, PICTURE)
    before = chat.turns
    server.will_fail(400, REFUSED, code="invalid_value")
    with pytest.raises(openai.BadRequestError, match="image_url"):
        ask(chat, PICTURE, streams=streams)
    with pytest.raises(InvalidTurn, match="'gpt-5' takes no pictures"):
        ask(chat, PICTURE, streams=streams)
    assert (len(server.requests), chat.turns) == (1, before)
    assert chat.say("And then?").text


def test_heal_learns_it_for_calls_of_ones_own(server: StandIn, client: OpenAI) -> None:
    """`heal` learns from a refusal of pictures, once; a new picture is not healed."""
    chat = Conversation(model="gpt-5", modalities=["text"])
    shown(chat, PICTURE)
    chat.add_user("What colour?")
    server.will_fail(400, REFUSED)
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**chat.request())
    assert chat.heal(refused.value)
    assert texts_of(chat.request())[0] == NO_PICTURE
    assert not chat.heal(refused.value)
    new = Conversation(model="gpt-5", modalities=["text"])
    new.add_user(PICTURE)
    new.request()
    assert not new.heal(refused.value)
    assert new.request()["messages"][0]["content"][0]["type"] == "image_url"


def test_placeholders_cost_no_upload(clock: Clock) -> None:
    """Pictures that are not sent take no room from older exchanges."""
    chat = Conversation(clock=clock, context=Context(max_upload_bytes=10, user_audio_turns=0))
    shown(chat, "First")
    shown(chat, AudioInput(SOUND, transcript="Old words"), PICTURE)
    chat.add_user("Last")
    assert texts_of(chat.request()) == [
        "First",
        "A dog.",
        [{"type": "text", "text": "Old words"}, {"type": "text", "text": NO_PICTURE}],
        "A dog.",
        "Last",
    ]

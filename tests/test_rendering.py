"""In which form each turn is sent, and why."""

from __future__ import annotations

import logging
import math
from typing import Any

import attrs
import pytest

from conversation import (
    AssistantAudio,
    AssistantTurn,
    AudioInput,
    Conversation,
    FileInput,
    Form,
    ImageInput,
    SystemTurn,
    ToolCall,
    ToolTurn,
    UserTurn,
)
from conversation._rendering.explanation import explained
from conversation._rendering.forms import PLACEHOLDER, Moment, prepare
from conversation._rendering.messages import NO_RESULT, arranged, messages
from conversation._values.turns import Turn
from tests.conftest import START, Clock
from tests.samples import PNG, SOUND, spoken

HOUR = 3600.0
HEX = "0" * 24


def audio(**fields: Any) -> AssistantAudio:
    """Spoken sound that lives for another hour."""
    default: dict[str, Any] = {
        "id": "audio_abc",
        "expires_at": START + HOUR,
        "transcript": "Hello.",
    }
    return AssistantAudio(**(default | fields))


def one(turn: Turn, now: float = START, margin: float = 30.0) -> tuple[dict[str, Any], str]:
    """The message of a single turn, and why."""
    rendering = explained(arranged([prepare(turn)], None), Moment(now, margin))
    assert rendering.messages == messages(arranged([prepare(turn)], None), Moment(now, margin))
    return rendering.messages[0], rendering.items[0].why


def test_a_live_id_goes_as_voice_and_nothing_else() -> None:
    """No data, no expires_at, no transcript, no content."""
    message, why = one(AssistantTurn(audio=audio()))
    assert message == {"role": "assistant", "audio": {"id": "audio_abc"}}
    assert why == "voice, 60 min left"


def test_text_of_its_own_goes_beside_the_voice() -> None:
    """What the model wrote beside the audio is content."""
    message, _ = one(AssistantTurn(content="See: 1, 2.", audio=audio()))
    assert message == {"role": "assistant", "content": "See: 1, 2.", "audio": {"id": "audio_abc"}}


@pytest.mark.parametrize(
    ("now", "form"),
    [
        (START + HOUR - 30 - 1e-3, "voice"),
        (START + HOUR - 30, "transcript, expires in 30 s"),
        (START + HOUR, "transcript, expired 0 s ago"),
        (START + HOUR + 180, "transcript, expired 3 min ago"),
    ],
)
def test_at_the_deadline_the_id_is_no_longer_used(now: float, form: str) -> None:
    """The deadline is expires_at less the margin, and belongs to the transcript."""
    assert one(AssistantTurn(audio=audio()), now)[1].startswith(form)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"lost": True}, "transcript, server lost it"),
        ({"id": None}, "transcript, server gave no id"),
        ({"id": "audio-0123456789abcdef"}, "transcript, its id is of no use"),
        ({"expires_at": None}, "transcript, its id tells no time"),
        ({"expires_at": START - 7200}, "transcript, expired 2 h ago"),
        ({"expires_at": START - 86_400 * 400}, "transcript, expired 400 d ago"),
    ],
)
def test_a_useless_id_is_not_sent(fields: dict[str, Any], why: str) -> None:
    """Lost, absent, foreign, timeless and expired ids make the transcript go."""
    assert one(AssistantTurn(audio=audio(**fields))) == (
        {"role": "assistant", "content": "Hello."},
        why,
    )


def test_an_interrupted_turn_never_goes_as_voice() -> None:
    """The server remembers all of it, the user heard a part."""
    assert one(AssistantTurn(audio=audio(), interrupted=True))[1] == "transcript, interrupted"


def test_an_id_without_expiry_lives_an_hour_from_its_own_time() -> None:
    """The first eight digits of the id are its time."""
    turn = AssistantTurn(audio=audio(id=f"audio_{int(START):08x}{HEX}", expires_at=None))
    assert one(turn, START + HOUR - 31)[1].startswith("voice")
    assert one(turn, START + HOUR - 30)[1].startswith("transcript")


@pytest.mark.parametrize(
    ("turn", "content"),
    [
        (AssistantTurn(content="Hello.", audio=audio(id=None)), "Hello."),
        (AssistantTurn(content="A list.", audio=audio(id=None)), "A list.\n\nHello."),
        (AssistantTurn(content="Only text."), "Only text."),
        (AssistantTurn(content="Text.", audio=audio(id=None, transcript="")), "Text."),
        (AssistantTurn(refusal="I must not."), "I must not."),
        (AssistantTurn(audio=audio(id=None, transcript=None)), PLACEHOLDER),
        (AssistantTurn(content="", audio=audio(id=None, transcript=" \n")), PLACEHOLDER),
    ],
)
def test_without_voice_the_words_are_content(turn: AssistantTurn, content: str) -> None:
    """Transcript, own text before it, once if equal; refusal; placeholder."""
    assert one(turn)[0] == {"role": "assistant", "content": content}


def test_tool_calls_go_along_in_every_form() -> None:
    """As voice, as transcript, and alone without content."""
    call = ToolCall("c", "f", "{}")
    entry = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    for turn, keys in (
        (AssistantTurn(audio=audio(), tool_calls=[call]), {"audio"}),
        (AssistantTurn(audio=audio(id=None), tool_calls=[call]), {"content"}),
        (AssistantTurn(tool_calls=[call]), set[str]()),
    ):
        message, _ = one(turn)
        assert message["tool_calls"] == [entry]
        assert set(message) == {"role", "tool_calls"} | keys


def test_a_placeholder_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Words that are lost to the model do not vanish in silence."""
    with caplog.at_level(logging.WARNING, "conversation"):
        one(AssistantTurn())
    assert "placeholder" in caplog.text


def test_user_parts_take_the_apis_form() -> None:
    """Text alone is a string; all else are parts, without our own fields."""
    assert one(UserTurn("Hi"))[0] == {"role": "user", "content": "Hi"}
    content = (
        "Look",
        AudioInput(SOUND, transcript="x"),
        ImageInput(PNG, "low"),
        FileInput(b"%PDF", "a.pdf"),
        FileInput(file_id="f"),
    )
    parts = one(UserTurn(content))[0]["content"]
    assert parts[0] == {"type": "text", "text": "Look"}
    assert parts[1].keys() == {"type", "input_audio"}
    assert parts[1]["input_audio"].keys() == {"data", "format"}
    assert parts[2]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert parts[2]["image_url"]["detail"] == "low"
    assert parts[3]["file"] == {
        "filename": "a.pdf",
        "file_data": "data:application/pdf;base64,JVBERg==",
    }
    assert parts[4]["file"] == {"file_id": "f"}


def called(*ids: str, **fields: Any) -> AssistantTurn:
    """A turn that calls a tool for each id."""
    return AssistantTurn(tool_calls=[ToolCall(i, "f", "{}") for i in ids], **fields)


def roles(*turns: Turn) -> list[tuple[Any, Any]]:
    """What is sent: role, and what the message is about."""
    rendered = messages(arranged([prepare(turn) for turn in turns], None), Moment(START, 30))
    return [(m["role"], m.get("tool_call_id", m.get("content", "calls"))) for m in rendered]


def test_a_call_without_answer_is_answered() -> None:
    """The process died or the user never ran it; the request stays valid."""
    rendering = explained(
        arranged([prepare(called("a", "b")), prepare(ToolTurn("b", "2"))], None), Moment(START, 30)
    )
    assert [m.get("content") for m in rendering.messages[1:]] == [NO_RESULT, "2"]
    assert [item.form for item in rendering.items] == [Form.TOOL_CALLS, Form.NO_RESULT, Form.PLAIN]


def test_a_late_answer_moves_beside_its_call() -> None:
    """The stored order stays as it was."""
    turns = (called("a"), UserTurn("Well?"), ToolTurn("a", "1"))
    assert roles(*turns) == [("assistant", "calls"), ("tool", "a"), ("user", "Well?")]


def test_an_answer_goes_to_the_nearest_earlier_open_call() -> None:
    """Two calls with one id: the later takes the first answer, the earlier the next."""
    turns = (called("a"), called("a"), ToolTurn("a", "new"), ToolTurn("a", "old"))
    sent = messages(arranged([prepare(turn) for turn in turns], None), Moment(START, 30))
    assert [m.get("content") for m in sent] == [None, "old", None, "new"]


def test_an_answer_without_a_call_is_left_out() -> None:
    """It is kept, it is told, and it is not sent."""
    turns = [
        prepare(turn)
        for turn in (ToolTurn("x", "1"), called("a"), ToolTurn("a", "1"), ToolTurn("a", "2"))
    ]
    rendering = explained(arranged(turns, None), Moment(START, 30))
    assert len(rendering.messages) == 2
    assert [i.why for i in rendering.items if i.form is Form.LEFT_OUT] == [
        "left out, it answers no open call"
    ] * 2
    assert messages(arranged(turns, None), Moment(START, 30)) == rendering.messages


def test_instructions_come_first_and_are_no_turn() -> None:
    """Instructions are a setting; system turns stand where they were added."""
    chat = Conversation(instructions="Be brief.")
    chat.add_user("Hi")
    chat.add_system("The user is Ann.")
    assert [m["content"] for m in chat.messages()] == ["Be brief.", "Hi", "The user is Ann."]
    assert [item.why for item in chat.render().items] == ["instructions", "as it is", "as it is"]
    assert str(chat.render()).splitlines()[0] == "system: instructions"


def test_developer_messages_keep_their_role_and_names_are_sent() -> None:
    """What the API takes back goes back."""
    assert one(SystemTurn("x", "developer"))[0] == {"role": "developer", "content": "x"}
    named = UserTurn("x", extra='{"name":"ann","internal":1}')
    assert one(named)[0] == {"role": "user", "content": "x", "name": "ann"}


def test_the_servers_clock_decides_not_ours(clock: Clock) -> None:
    """A machine that is two hours slow must not send ids that died, nor drop ones that live."""
    for ahead in (7200, -7200, 86_400 * 3000):
        chat = Conversation(clock=clock)
        chat.request()
        created = START + ahead
        chat.add_completion({**spoken(expires_at=created + HOUR), "created": int(created)})
        assert chat.render().items[0].why == "voice, 60 min left"
        clock.now += HOUR - 29
        assert chat.render().items[0].form is Form.TRANSCRIPT
        clock.now = START


def test_the_latest_measure_of_the_clock_counts(clock: Clock) -> None:
    """Each answer to a request measures anew; one without a request does not."""
    chat = Conversation(clock=clock)
    chat.request()
    chat.add_completion({**spoken(), "created": START + 500})
    assert "51 min" in str(chat.render())
    chat.messages()
    chat.add_completion({**spoken(), "created": START})
    assert "60 min" in str(chat.render())
    chat.add_completion({**spoken(), "created": START + 900})
    assert "60 min" in str(chat.render())


def test_messages_are_the_callers_to_change(clock: Clock) -> None:
    """What is done to a rendered list does not come back with the next one."""
    chat = Conversation(clock=clock, instructions="x")
    chat.add_user("Hi")
    chat.add_user(AudioInput(SOUND), "and text")
    chat.add_completion(spoken())
    first = chat.messages()
    kept = chat.messages()
    for message in first:
        message["content"] = None
    first[2].clear()
    first[3]["audio"]["id"] = "changed"
    assert chat.messages() == kept


def test_values_without_voice_end_at_minus_infinity() -> None:
    """Turns of the user are never voice, whatever the time."""
    assert prepare(UserTurn("x")).voice_end == -math.inf
    lost = attrs.evolve(audio(), lost=True)
    assert prepare(AssistantTurn(audio=lost)).voice_end == -math.inf

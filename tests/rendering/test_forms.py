"""Form in which each turn is sent, and the reason for it."""

from __future__ import annotations

import logging
import math
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    UserTurn,
)
from conversation._rendering.explanation import explained
from conversation._rendering.forms import PLACEHOLDER, Moment
from conversation._rendering.messages import arranged, messages
from conversation._rendering.preparing import prepare, prepare_entries
from conversation._values.turns import Turn
from conversation._wire.reading import turn_from_entry
from conversation._wire.writing import line_from_turn
from tests.conftest import Clock
from tests.samples import PNG, SOUND, START, spoken
from tests.strategies import turns

HOUR = 3600.0
HEX = "0" * 24


def audio(**fields: Any) -> AssistantAudio:
    """Return spoken sound whose id lives for another hour."""
    default: dict[str, Any] = {
        "id": "audio_abc",
        "expires_at": START + HOUR,
        "transcript": "Hello.",
    }
    return AssistantAudio(**(default | fields))


def one(turn: Turn, now: float = START, margin: float = 30.0) -> tuple[dict[str, Any], str]:
    """Return the message of a single turn, and the reason for its form."""
    rendering = explained(arranged([prepare(turn)], None), Moment(now, margin))
    assert rendering.messages == messages(arranged([prepare(turn)], None), Moment(now, margin))
    return rendering.messages[0], rendering.items[0].why


def test_unexpired_id_is_sent_alone() -> None:
    """An unexpired id is sent without data, `expires_at`, transcript or content."""
    message, why = one(AssistantTurn(audio=audio()))
    assert message == {"role": "assistant", "audio": {"id": "audio_abc"}}
    assert why == "voice, 60 min left"


def test_written_text_is_sent_beside_the_voice() -> None:
    """Text that the model wrote beside its audio is sent as `content`."""
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
def test_id_is_sent_until_expiry_margin_before_it_expires(now: float, form: str) -> None:
    """An id that expires within `expiry_margin` is sent as its transcript."""
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
def test_unusable_id_is_sent_as_transcript(fields: dict[str, Any], why: str) -> None:
    """A lost, missing, foreign, timeless or expired id is sent as its transcript."""
    assert one(AssistantTurn(audio=audio(**fields))) == (
        {"role": "assistant", "content": "Hello."},
        why,
    )


def test_interrupted_turn_is_sent_as_transcript() -> None:
    """An interrupted turn is sent as its transcript, because its id stands for all of it."""
    assert one(AssistantTurn(audio=audio(), interrupted=True))[1] == "transcript, interrupted"


def test_id_without_expires_at_lives_an_hour_from_its_timestamp() -> None:
    """An id without `expires_at` expires an hour after the time in its first eight digits."""
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
def test_turn_without_voice_is_sent_as_its_words(turn: AssistantTurn, content: str) -> None:
    """A turn without voice is sent as its text and transcript, refusal, or placeholder."""
    assert one(turn)[0] == {"role": "assistant", "content": content}


def test_tool_calls_are_sent_in_every_form() -> None:
    """Tool calls are sent beside a voice, beside a transcript, and alone."""
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


def test_placeholder_is_logged_as_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A turn without any words is sent as a placeholder, with a warning in the log."""
    with caplog.at_level(logging.WARNING, "conversation"):
        one(AssistantTurn())
    assert "placeholder" in caplog.text


def test_user_parts_are_sent_in_the_form_of_the_api() -> None:
    """Text alone is sent as a string, other content as parts without private fields."""
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


def test_developer_role_and_user_name_are_sent() -> None:
    """The role `developer` and the key `name` are sent, unknown keys are not."""
    assert one(SystemTurn("x", "developer"))[0] == {"role": "developer", "content": "x"}
    for named in (
        UserTurn("x", name="ann", extra='{"internal":1}'),
        UserTurn("x", extra='{"name":"ann","internal":1}'),
    ):
        assert one(named)[0] == {"role": "user", "content": "x", "name": "ann"}
        assert named.extra == '{"internal":1}'


def test_expiry_is_measured_by_the_servers_clock(clock: Clock) -> None:
    """Ids expire by the server's clock, however wrong the local clock is."""
    for ahead in (7200, -7200, 86_400 * 3000):
        chat = Conversation(clock=clock)
        chat.request()
        created = START + ahead
        chat.add_completion({**spoken(expires_at=created + HOUR), "created": int(created)})
        assert chat.render().items[0].why == "voice, 60 min left"
        clock.now += HOUR - 29
        assert chat.render().items[0].form is Form.TRANSCRIPT
        clock.now = START


def test_each_answer_to_a_request_measures_the_clock_skew(clock: Clock) -> None:
    """Each answer to a request measures the clock skew anew, other completions do not."""
    chat = Conversation(clock=clock)
    chat.request()
    chat.add_completion({**spoken(), "created": START + 500})
    assert "51 min" in str(chat.render())
    chat.messages()
    chat.add_completion({**spoken(), "created": START})
    assert "60 min" in str(chat.render())
    chat.add_completion({**spoken(), "created": START + 900})
    assert "60 min" in str(chat.render())


def test_voice_end_without_a_usable_id_is_minus_infinity() -> None:
    """`voice_end` of user turns and of lost ids is minus infinity."""
    assert prepare(UserTurn("x")).voice_end == -math.inf
    lost = attrs.evolve(audio(), lost=True)
    assert prepare(AssistantTurn(audio=lost)).voice_end == -math.inf


# --- stored entries ----------------------------------------------------------------------------


@given(turns)
def test_stored_entry_is_prepared_as_its_turn(turn: Turn) -> None:
    """A stored entry that is prepared without decoding gives what its decoded turn gives."""
    entry = orjson.loads(line_from_turn(turn))
    [prepared] = prepare_entries([entry])
    if prepared is not None:
        assert prepared == prepare(turn_from_entry(entry))._replace(turn=None)


ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, 0, -1, 1, 1.5, 1e300, 10**20, "", " ", "text", [], {}]
)


@given(turns, st.data())
def test_damaged_entry_is_prepared_as_its_turn(turn: Turn, data: st.DataObject) -> None:
    """An entry with a field of another type gives what its decoded turn gives, or nothing."""
    entry = orjson.loads(line_from_turn(turn))
    inside = entry.get("audio") if isinstance(entry.get("audio"), dict) else entry
    where = data.draw(st.sampled_from([entry, inside]))
    where[data.draw(st.sampled_from([*where, "name", "lost", "interrupted"]))] = data.draw(ODD)
    [prepared] = prepare_entries([entry])
    if prepared is not None:
        assert prepared == prepare(turn_from_entry(entry))._replace(turn=None)


def test_usual_entries_need_no_decoding() -> None:
    """Text of the user and words of the model, spoken or written, are prepared as they are."""
    audio = AssistantAudio("audio_" + "6" * 32, START + 60, "Yes.", None, duration=1.5)
    for usual in (
        UserTurn("Hello"),
        AssistantTurn(content="Yes."),
        AssistantTurn(audio=audio),
        AssistantTurn(audio=audio, interrupted=True),
    ):
        assert prepare_entries([orjson.loads(line_from_turn(usual))]) != [None]

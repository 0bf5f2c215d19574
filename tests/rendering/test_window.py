"""Part of a long history that is sent: ageing, bounds, estimates and their correction."""

from __future__ import annotations

import asyncio
import base64
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import BadRequestError, OpenAI

from conversation import (
    AssistantAudio,
    AssistantTurn,
    AsyncConversation,
    AudioInput,
    Context,
    Conversation,
    FileInput,
    FileStore,
    Form,
    ImageInput,
    RenderedMessage,
    Rendering,
    SystemTurn,
    ToolCall,
    ToolTurn,
    UserTurn,
)
from conversation._history.answers import end_of_answers
from conversation._rendering.forms import NO_VOICE
from conversation._rendering.messages import NO_RESULT
from conversation._rendering.preparing import prepare
from conversation._rendering.unseen import media_in
from conversation._rendering.window import Limits, tokens_at
from conversation._values.parts import Part
from conversation._values.sound import duration_of
from conversation._values.turns import Turn
from conversation.errors import ContextTooSmall, InvalidSetting, InvalidTurn
from conversation.testing import StandIn, _contract
from tests.conftest import Clock
from tests.samples import MP3, PNG, SOUND, START, answer
from tests.strategies import histories, user_turns, words

CHATS = "/v1/chat/completions"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
NO_BOUNDS = 10**12


def talking(history: Sequence[Turn], context: Context, **given: Any) -> Conversation:
    """Return a conversation with exactly this history."""
    chat = Conversation(clock=given.pop("clock", Clock()), context=context, **given)
    chat._history.fill(history)
    return chat


def said(seconds: float, transcript: str | None = None, rate: int = 8000) -> AudioInput:
    """Return user sound of that length in seconds."""
    return AudioInput.from_pcm(b"\1\0" * round(seconds * rate), rate, transcript=transcript)


def answered(
    transcript: str | None = "Yes.", *, seconds: float = 1, left: float = 3000, number: int = 1
) -> AssistantTurn:
    """Return a spoken answer whose id lives for `left` more seconds."""
    data = b"\1\0" * round(seconds * 24_000)
    audio_id = f"audio_{number:032x}"
    audio = AssistantAudio(audio_id, START + left, transcript, data, "pcm16")
    return AssistantTurn(audio=audio)


def forms(rendering: Rendering) -> list[Form]:
    """Return the form of each item, including those left out."""
    return [item.form for item in rendering.items]


def asked(server: StandIn, path: str = CHATS) -> list[Any]:
    """Return the requests to one endpoint."""
    return [request for request in server.requests if request.path == path]


# --- an independent estimate, computed from the rendered messages ------------------------------


def tokens_of(text: str) -> int:
    """Return the estimate for a text: its UTF-8 bytes / 4, rounded up."""
    return -(-len(text.encode()) // 4)


def cost_of(item: RenderedMessage) -> tuple[int, int]:
    """Return the tokens and the bytes of base64 of one rendered message."""
    if item.message is None:
        return 0, 0
    message, tokens, upload = item.message, 0, 0
    for call in message.get("tool_calls", ()):
        body = call.get("function") or call["custom"]
        tokens += tokens_of(body["name"]) + tokens_of(body.get("arguments", body.get("input")))
    if item.form is Form.VOICE:
        assert isinstance(item.turn, AssistantTurn)
        assert item.turn.audio
        seconds = item.turn.audio.duration
        spoken = (item.turn.audio.transcript or "").split()
        return (
            tokens
            + tokens_of(item.turn.text)
            + (8 * len(spoken) if seconds is None else int(20 * seconds)),
            0,
        )
    if item.form is Form.TOOL_CALLS:
        assert item.turn  # a refusal counts, although it is not sent
        return tokens + tokens_of(item.turn.text), 0
    content = message.get("content") or ""
    parts: list[dict[str, Any]] = (
        [{"type": "text", "text": content}] if isinstance(content, str) else content
    )
    for part in parts:
        inner: Any = part.get(part["type"])
        match part["type"]:
            case "text":
                tokens += tokens_of(inner)
            case "input_audio":
                data = base64.b64decode(inner["data"])
                tokens += int(10 * (duration_of(data, inner["format"]) or 0))
                upload += len(inner["data"])
            case kind:
                url = inner["url"] if kind == "image_url" else inner.get("file_data", "")
                tokens += 1000
                upload += len(url.partition(",")[2] if url.startswith("data:") else url)
    return tokens, upload


def total(items: Sequence[RenderedMessage]) -> tuple[int, int]:
    """Return the sum of the costs of all items."""
    costs = [cost_of(item) for item in items]
    return sum(tokens for tokens, _ in costs), sum(upload for _, upload in costs)


def is_always_sent(item: RenderedMessage) -> bool:
    """Return True for instructions and system turns."""
    return isinstance(item.turn, SystemTurn) or item.why == "instructions"


def from_cut(items: Sequence[RenderedMessage], cut: int) -> list[RenderedMessage]:
    """Return the items from index `cut` on, and those before it that are always sent."""
    return [item for i, item in enumerate(items) if i >= cut or is_always_sent(item)]


# --- properties of every history and every bound -----------------------------------------------

ages = st.none() | st.integers(0, 3)
contexts = st.builds(
    Context,
    max_prompt_tokens=st.none() | st.integers(0, 120) | st.integers(0, 5000),
    max_upload_bytes=st.integers(0, 60_000) | st.just(NO_BOUNDS),
    user_audio_turns=ages,
    assistant_audio_turns=ages,
)
nows = st.floats(START - 9000, START + 9000)


def unbounded(context: Context) -> Context:
    """Return a context with the same ageing and no bounds."""
    return Context(NO_BOUNDS, NO_BOUNDS, context.user_audio_turns, context.assistant_audio_turns)


def beginnings(items: Sequence[RenderedMessage]) -> list[int]:
    """Return the indexes at which exchanges begin."""
    return [0, *(i for i, item in enumerate(items) if i and isinstance(item.turn, UserTurn))]


def check_longest_suffix_is_sent(history: Sequence[Turn], context: Context, **given: Any) -> None:
    """Check a request for a history that ends with a user turn."""
    whole = talking(history, unbounded(context), **given).render().items
    begins = beginnings(whole)
    limit = context.limit_for("gpt-audio-1.5")
    assert limit is not None

    def fits(cut: int) -> bool:
        tokens, upload = total(from_cut(whole, cut))
        return tokens <= limit and upload <= context.max_upload_bytes

    chat = talking(history, context, **given)
    if not fits(begins[-1]):
        with pytest.raises(ContextTooSmall) as failure:
            chat.request()
        error = failure.value
        assert (error.tokens, error.upload_bytes) == total(from_cut(whole, begins[-1]))
        assert error.max_prompt_tokens == limit
        assert error.max_upload_bytes == context.max_upload_bytes
        return
    cut = next(cut for cut in begins if fits(cut))
    expected = [item.message for item in from_cut(whole, cut) if item.message is not None]
    request = chat.request()
    assert request["messages"] == expected
    assert chat.messages() == chat.render().messages == expected
    if not any(map(media_in, history[end_of_answers(history) :])):  # which `say` refuses
        _contract.check(request, lambda _: True)

    items = [item for item in chat.render().items if item.turn]
    for item, unbound in zip(items, (i for i in whole if i.turn), strict=True):
        assert item.turn is unbound.turn
        if item.message is None and unbound.message is not None:
            assert item.why == "left out, over budget"
            assert not is_always_sent(item)
    assert any(item.turn is history[-1] and item.message for item in items)
    assert chat.turns == tuple(history)


@given(histories, user_turns, st.none() | words, nows, contexts)
def test_longest_suffix_within_the_bounds_is_sent(
    history: list[Turn], last: Turn, instructions: str | None, now: float, context: Context
) -> None:
    """The longest suffix within the bounds is sent, or `ContextTooSmall` is raised."""
    check_longest_suffix_is_sent(
        [*history, last], context, clock=Clock(now), instructions=instructions
    )


@given(histories, user_turns, st.none() | words, nows, ages, ages, st.data())
def test_bounds_are_exact_to_the_token_and_the_byte(
    history: list[Turn],
    last: Turn,
    instructions: str | None,
    now: float,
    heard: int | None,
    said: int | None,
    data: st.DataObject,
) -> None:
    """A suffix that fits exactly is sent, and one that is a token or a byte larger is not."""
    ageing = Context(NO_BOUNDS, NO_BOUNDS, heard, said)
    given: dict[str, Any] = {"clock": Clock(now), "instructions": instructions}
    whole = talking([*history, last], ageing, **given).render().items
    cut = data.draw(st.sampled_from(beginnings(whole)))
    tokens, upload = total(from_cut(whole, cut))
    exact = data.draw(
        st.sampled_from([(tokens, NO_BOUNDS), (tokens - 1, NO_BOUNDS), (NO_BOUNDS, upload - 1)])
    )
    bounds = Context(max(0, exact[0]), max(0, exact[1]), heard, said)
    check_longest_suffix_is_sent([*history, last], bounds, **given)


@pytest.fixture(scope="module")
def lasting() -> Iterator[tuple[StandIn, Clock, OpenAI]]:
    """Provide one stand-in for all examples of a property."""
    clock = Clock()
    with StandIn(clock=clock) as server:
        yield server, clock, server.client()


@given(histories, user_turns, contexts)
def test_question_after_any_history_is_answered_or_refused_unsent(
    lasting: tuple[StandIn, Clock, OpenAI], history: list[Turn], last: UserTurn, context: Context
) -> None:
    """A question after any history is answered, or taken back without a request."""
    server, clock, client = lasting
    chat = talking(history, context, clock=clock, client=client)
    before, requests = chat.turns, len(server.requests)
    if not any(part.strip() if isinstance(part, str) else part for part in last.content):
        return
    try:
        turn = chat.say(*last.content)
    except InvalidTurn:
        assert any(map(media_in, [*history[end_of_answers(history) :], last]))
        assert len(server.requests) == requests
        assert chat.turns == before
    except ContextTooSmall:
        assert len(server.requests) == requests
        assert chat.turns == before
    else:
        assert chat.turns[:-2] == before or len(chat.turns) == len(before) + 2
        assert chat.turns[-1] is turn
        # Ids that the stand-in never issued cost up to two healing requests.
        assert 1 <= len(server.requests) - requests <= 3


# --- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field",
    [
        "max_prompt_tokens",
        "max_upload_bytes",
        "user_audio_turns",
        "assistant_audio_turns",
        "max_tool_result_tokens",
    ],
)
@pytest.mark.parametrize("value", [-1, 1.5, "5", True, [], float("inf")])
def test_invalid_bound_is_refused(field: str, value: Any) -> None:
    """A bound that is not a non-negative integer is refused by name."""
    with pytest.raises(InvalidSetting, match=field):
        Context(**{field: value})


def test_upload_bound_is_required() -> None:
    """`max_upload_bytes` is 20 MB by default and cannot be None."""
    with pytest.raises(InvalidSetting, match="max_upload_bytes"):
        Context(max_upload_bytes=None)  # type: ignore[arg-type]
    assert Context().max_upload_bytes == 20_000_000


@pytest.mark.parametrize(
    ("model", "own", "limit"),
    [
        ("gpt-audio-1.5", None, 111_616),
        ("gpt-audio", None, 111_616),
        ("gpt-audio-mini-2025-12-15", None, 111_616),
        ("gpt-4o-audio-preview-2025-06-03", None, 111_616),
        ("gpt-4o-mini-audio-preview", None, 111_616),
        ("qwen3-omni", None, None),
        ("gpt-4o", None, None),
        ("gpt-audio-1.5", 50, 50),
        ("gpt-audio-1.5", 0, 0),
        ("qwen3-omni", 32_000, 32_000),
    ],
)
def test_token_limit_is_given_or_known_for_the_model(
    model: str, own: int | None, limit: int | None
) -> None:
    """The token limit is `max_prompt_tokens`, else the one known for the model, if any."""
    assert Context(max_prompt_tokens=own).limit_for(model) == limit


def test_token_limit_follows_the_model_of_the_request(clock: Clock) -> None:
    """The token limit is that of each request's model; unknown models have none."""
    chat = Conversation(model="qwen3-omni", clock=clock)
    for _ in range(3):
        chat.add_user("x" * 200_000)
    assert len(chat.messages()) == 3
    assert len(chat.request(model="gpt-audio-1.5")["messages"]) == 2
    assert len(chat.request()["messages"]) == 3


def test_default_context_sends_a_short_history_whole(chat: Conversation) -> None:
    """The default `Context` ages nothing and sends a short history whole."""
    for number in range(30):
        chat.add_user(said(0.1, "Woof."))
        chat.add(answered(number=number))
    assert forms(chat.render()) == [Form.PLAIN, Form.VOICE] * 30


# --- ageing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 1, 2, 5])
def test_old_user_sound_is_sent_as_words(clock: Clock, kept: int) -> None:
    """User sound older than the last `user_audio_turns` is sent as text beside its pictures."""
    chat = Conversation(clock=clock, context=Context(user_audio_turns=kept))
    for number in range(3):
        chat.add_user(ImageInput(PNG), said(0.1, f"Sound {number}."))
        chat.add_user("Written.")
    spoken_to = [item for item in chat.render().items if item.turn in chat.turns[::2]]
    old = max(0, 3 - kept)
    assert [item.form for item in spoken_to] == [Form.WORDS] * old + [Form.PLAIN] * (3 - old)
    for number, item in enumerate(spoken_to):
        assert item.message
        picture, sound = item.message["content"]
        assert picture["type"] == "image_url"
        if number < old:
            assert sound == {"type": "text", "text": f"Sound {number}."}
            assert item.why == "words, its sound has grown old"
        else:
            assert sound["type"] == "input_audio"


def test_turn_of_old_sound_alone_is_sent_as_a_string(clock: Clock) -> None:
    """A turn of old sound alone is sent as a string, with the `name` of its turn."""
    chat = Conversation.from_messages(
        [
            {
                "role": "user",
                "name": "Ann",
                "content": [
                    {
                        "type": "input_audio",
                        "input_audio": {"data": base64.b64encode(SOUND).decode(), "format": "wav"},
                    }
                ],
            }
        ],
        clock=clock,
        context=Context(user_audio_turns=0),
    )
    chat.set_transcript(chat.turns[0], "Good dog!")
    assert chat.messages() == [{"role": "user", "content": "Good dog!", "name": "Ann"}]


@pytest.mark.parametrize("kept", [0, 1, 2, 5])
def test_old_answers_are_sent_as_transcripts(clock: Clock, kept: int) -> None:
    """Answers older than the last `assistant_audio_turns` are sent as transcripts."""
    chat = Conversation(clock=clock, context=Context(assistant_audio_turns=kept))
    for number in range(3):
        chat.add_user("Question")
        chat.add(answered(f"Answer {number}.", number=number))
    chat.add_assistant("Written answers are not counted.")
    items = [item for item in chat.render().items if item.role == "assistant"][:3]
    old = max(0, 3 - kept)
    assert [item.form for item in items] == [Form.TRANSCRIPT] * old + [Form.VOICE] * (3 - old)
    assert {item.why for item in items[:old]} <= {"transcript, its sound has grown old"}


def test_old_answer_without_transcript_is_sent_as_voice_until_it_expires(clock: Clock) -> None:
    """An old answer without a transcript is sent as voice until its id expires."""
    chat = Conversation(clock=clock, context=Context(assistant_audio_turns=0))
    chat.add(answered(None))
    call = ToolCall("a", "look_up", "{}")
    audio = answered(None, number=2).audio
    chat.add(AssistantTurn(audio=audio, tool_calls=(call,)))
    assert forms(chat.render()) == [Form.VOICE, Form.VOICE, Form.NO_RESULT]
    clock.now += 3600
    assert forms(chat.render()) == [Form.PLACEHOLDER, Form.TOOL_CALLS, Form.NO_RESULT]


def test_old_sound_without_words_is_sent_as_sound_with_one_warning(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Old sound without words is sent as sound within the bounds, with one warning."""
    chat = Conversation(clock=clock, context=Context(user_audio_turns=1, max_prompt_tokens=220))
    for _ in range(2):
        chat.add_user(said(10))
    for _ in range(3):
        chat.messages()
    assert forms(chat.render()) == [Form.PLAIN] * 2
    [warning] = [record.getMessage() for record in caplog.records]
    assert "transcribe() finds those of users now" in warning
    assert "transcribe=True" in warning
    chat.add_user(said(10, "Known."))
    assert forms(chat.render()) == [Form.LEFT_OUT, Form.PLAIN, Form.PLAIN]
    assert len(caplog.records) == 1


def test_old_turn_with_partly_known_words_is_sent_as_sound(clock: Clock) -> None:
    """An old turn is sent as sound unless the words of all its sounds are known."""
    chat = Conversation(clock=clock, context=Context(user_audio_turns=0))
    chat.add_user(said(0.1, "Known."), said(0.1))
    chat.add_user(said(0.1, ""))
    assert forms(chat.render()) == [Form.PLAIN] * 2
    chat.add_user(said(0.1, "Known."), said(0.1, "too"))
    assert chat.messages()[2]["content"] == [
        {"type": "text", "text": "Known."},
        {"type": "text", "text": "too"},
    ]


def test_ageing_leaves_room_for_more_exchanges() -> None:
    """Old sound sent as words leaves room for more exchanges under the same bound."""
    history: list[Turn] = []
    for number in range(5):
        history += [UserTurn((said(60, "Woof."),)), answered(seconds=30, number=number)]
    loud = talking(history, Context(max_prompt_tokens=1300))
    assert len(loud.messages()) == 2
    quiet = Context(max_prompt_tokens=1300, user_audio_turns=1, assistant_audio_turns=1)
    assert len(talking(history, quiet).messages()) == 10


def test_words_of_old_sound_count_against_the_bound(clock: Clock) -> None:
    """Words of old sound count against the token bound."""
    context = Context(user_audio_turns=0, max_prompt_tokens=20)
    chat = Conversation(clock=clock, context=context)
    for _ in range(5):
        chat.add_user(said(0.1, "w" * 40))
    assert len(chat.messages()) == 2


# --- bounds ------------------------------------------------------------------------------------


def test_oldest_exchanges_over_the_bound_are_left_out(clock: Clock) -> None:
    """The oldest exchanges over the bound are left out, instructions and system turns never."""
    context = Context(max_prompt_tokens=29)
    chat = Conversation(clock=clock, context=context, instructions="Be brief.")
    chat.add_system("Be kind.")
    for number in range(3):
        chat.add_user(f"Question {number} " + "x" * 29)
        chat.add_assistant("Yes.")
        chat.add_system(f"S{number}")
    rendering = chat.render()
    assert [(item.role, item.why) for item in rendering.items] == [
        ("system", "instructions"),
        ("system", "as it is"),
        ("user", "left out, over budget"),
        ("assistant", "left out, over budget"),
        ("system", "as it is"),
        ("user", "left out, over budget"),
        ("assistant", "left out, over budget"),
        ("system", "as it is"),
        ("user", "as it is"),
        ("assistant", "text"),
        ("system", "as it is"),
    ]
    texts = [message["content"] for message in rendering.messages]
    assert texts[:4] == ["Be brief.", "Be kind.", "S0", "S1"]
    assert texts == [message["content"] for message in chat.messages()]
    assert texts[-1] == "S2"


def test_turns_left_out_stay_saved(store: FileStore, clock: Clock) -> None:
    """Turns that are left out stay saved, and are sent again under larger bounds."""
    small = Context(max_prompt_tokens=5)
    with Conversation.open("s", store=store, clock=clock, context=small) as chat:
        for number in range(4):
            chat.add_user(f"Question number {number}")
        assert len(chat.messages()) == 1
        assert len(chat.turns) == 4
    with Conversation.open("s", store=store, clock=clock) as chat:
        assert len(chat.messages()) == 4


@pytest.mark.parametrize("tokens", [200, 1000, 4000, NO_BOUNDS])
def test_resumed_history_is_sent_as_one_in_memory(
    store: FileStore, clock: Clock, tokens: int
) -> None:
    """A long history of all kinds of turns is sent alike from a file and from memory."""
    kinds: list[list[Turn]] = [
        [UserTurn("Why are they loyal?"), answered("They are bred for it.", left=9)],
        [UserTurn("Hello", name="ann"), AssistantTurn(content="Hello, Ann.", extra='{"mood":1}')],
        [
            UserTurn("Is it raining?"),
            AssistantTurn(tool_calls=(ToolCall("call_1", "weather", "{}"),)),
            ToolTurn("call_1", "rain"),
            AssistantTurn(content="It is."),
        ],
        [UserTurn(["Look", ImageInput(PNG)]), AssistantTurn(refusal="No.")],
        [SystemTurn("Be brief."), UserTurn([said(1, "What did I say?")])],
        [
            UserTurn("Go on"),
            AssistantTurn(audio=AssistantAudio(transcript="Well"), interrupted=True),
        ],
    ]
    history = [turn for i in range(60) for turn in kinds[i * i % 11 % len(kinds)]]
    context = Context(max_prompt_tokens=tokens)
    chat = talking(history, context, clock=clock)
    chat.fork("retriever", store=store).close()
    for left in (0, 3600):  # then all voices have expired
        clock.now += left
        resumed = Conversation.open("retriever", store=store, clock=clock, context=context)
        assert resumed.request() == resumed.request() == chat.request()
        assert len(resumed.turns) == len(history)  # all are decoded now
        assert resumed.request() == chat.request()


def test_turns_beyond_the_bound_are_not_looked_at(store: FileStore, clock: Clock) -> None:
    """A request looks at few stored turns beyond the first that is left out."""
    with Conversation.open("retriever", store=store, clock=clock) as chat:
        chat.extend([turn for _ in range(300) for turn in (UserTurn("Why?"), answered())])
    context = Context(max_prompt_tokens=100)
    with Conversation.open("retriever", store=store, clock=clock, context=context) as chat:
        assert len(chat.messages()) < 20
        assert chat._requests._turns._missing > 500


@pytest.mark.parametrize(("less", "sent"), [(0, 3), (1, 2)])
def test_token_bound_is_exact(clock: Clock, less: int, sent: int) -> None:
    """A history of exactly `max_prompt_tokens` is sent whole; one token less drops a turn."""
    context = Context(max_prompt_tokens=30 - less)
    chat = Conversation(clock=clock, context=context)
    for _ in range(3):
        chat.add_user("x" * 40)
    assert len(chat.messages()) == sent


@pytest.mark.parametrize("extra", ["instructions", "a system turn", "a missing result"])
@pytest.mark.parametrize(("less", "sent"), [(0, 2), (1, 1)])
def test_instructions_system_turns_and_missing_results_count(
    extra: str, less: int, sent: int
) -> None:
    """Instructions, system turns and missing results each count once against the bound."""
    call = AssistantTurn(tool_calls=(ToolCall("a", "abcd", "abcd"),))
    history: list[Turn] = [UserTurn("x" * 40), UserTurn("x" * 40)]
    others: dict[str, list[Turn]] = {
        "a system turn": [SystemTurn("x" * 40)],
        "a missing result": [call],
    }
    history += others.get(extra, [])
    besides = 2 + tokens_of(NO_RESULT) if extra == "a missing result" else 10
    chat = talking(
        history,
        Context(max_prompt_tokens=20 + besides - less),
        instructions="x" * 40 if extra == "instructions" else None,
    )
    assert [message["role"] for message in chat.messages()].count("user") == sent


@pytest.mark.parametrize("kind", ["sound", "picture", "file"])
@pytest.mark.parametrize(("less", "sent"), [(0, 3), (1, 2)])
def test_upload_bound_is_exact(
    store: FileStore, clock: Clock, kind: str, less: int, sent: int
) -> None:
    """Uploads are bounded to the byte of base64, read from memory or from disk."""
    picture = PNG + bytes(984)
    kinds: dict[str, tuple[Part, bytes]] = {
        "sound": (AudioInput(MP3), MP3),
        "picture": (ImageInput(picture), picture),
        "file": (FileInput(bytes(1000), "a.pdf"), bytes(1000)),
    }
    part, data = kinds[kind]
    most = 3 * len(base64.b64encode(data)) - less
    context = Context(max_upload_bytes=most)
    saved = Conversation.open("s", store=store, clock=clock, context=context)
    for chat in (Conversation(clock=clock, context=context), saved):
        for _ in range(3):
            chat.add_user(part)
        assert len(chat.messages()) == sent
        assert sum(map(len, _base64_in(chat.messages()))) <= most
    saved.close()


def _base64_in(messages: list[dict[str, Any]]) -> Iterator[str]:
    for message in messages:
        for part in message["content"]:
            body = part[part["type"]]
            text = body.get("data") or body.get("url") or body.get("file_data")
            yield text.rpartition(",")[2]


def test_voice_counts_no_upload_bytes(clock: Clock) -> None:
    """An answer sent as voice counts no upload bytes."""
    chat = Conversation(clock=clock, context=Context(max_upload_bytes=0))
    chat.add_user("Question")
    chat.add(answered(seconds=60))
    chat.add_user("Question")
    assert forms(chat.render()) == [Form.PLAIN, Form.VOICE, Form.PLAIN]


def test_expired_voice_leaves_room_for_older_exchanges(clock: Clock) -> None:
    """An expired voice costs less as a transcript, so that older exchanges are sent again."""
    context = Context(max_prompt_tokens=150)
    history: list[Turn] = []
    for number in range(4):
        history += [UserTurn("Question"), answered(seconds=5, number=number)]
    chat = talking([*history, UserTurn("Question")], context, clock=clock)
    assert len(chat.messages()) == 3
    clock.now += 3600
    assert len(chat.messages()) == 9


def test_greeting_is_left_out_first(clock: Clock) -> None:
    """Turns before the first question are the oldest exchange and are left out first."""
    chat = Conversation(clock=clock, context=Context(max_prompt_tokens=8))
    chat.add_assistant("x" * 20)
    chat.add_user("x" * 16)
    assert forms(chat.render()) == [Form.LEFT_OUT, Form.PLAIN]
    chat.add_assistant("x" * 16)
    assert len(chat.messages()) == 2


def test_history_without_a_question_is_never_cut(clock: Clock) -> None:
    """A history without a question is one exchange, which is sent whole or refused."""
    chat = Conversation(clock=clock, context=Context(max_prompt_tokens=8))
    for _ in range(2):
        chat.add_assistant("x" * 16)
    assert len(chat.messages()) == 2
    chat.add_assistant("x")
    with pytest.raises(ContextTooSmall):
        chat.messages()


def test_tool_exchange_is_never_cut() -> None:
    """A late tool result is sent or left out together with its call."""
    call = AssistantTurn(tool_calls=(ToolCall("a", "look_up", "{}"), ToolCall("b", "wait", "{}")))
    history: list[Turn] = [UserTurn("x" * 40), call, UserTurn("x" * 40), ToolTurn("b", "late")]
    bodies = {}
    for most in (10, 30, 50):
        chat = talking([*history, UserTurn("x" * 36)], Context(max_prompt_tokens=most))
        bodies[most] = chat.request()
        _contract.check(bodies[most], lambda _: True)
    roles = {most: [m["role"] for m in body["messages"]] for most, body in bodies.items()}
    assert roles == {
        10: ["user"],
        30: ["user", "user"],
        50: ["user", "assistant", "tool", "tool", "user", "user"],
    }
    results = [m["content"] for m in bodies[50]["messages"] if m["role"] == "tool"]
    assert results == [NO_RESULT, "late"]


@pytest.mark.parametrize("most", [0, 5, 40, 1000, 1004, 1005])
def test_long_tool_result_is_cut_in_what_is_sent(store: FileStore, clock: Clock, most: int) -> None:
    """Its beginning is sent, within the bound, with a mark; what is stored stays whole."""
    long = "ü" * 2008  # 1,004 tokens
    calls = (ToolCall("a", "look_up", "{}"), ToolCall("b", "wait", "{}"))
    history: list[Turn] = [UserTurn(("Look",)), AssistantTurn(tool_calls=calls)]
    with Conversation.open("x", store=store, clock=clock) as saved:
        history += [ToolTurn("a", long), ToolTurn("b", "Rain")]
        for turn in history:
            saved.add(turn)
    context = Context(max_tool_result_tokens=most, max_prompt_tokens=2 * most + 100)
    chat = Conversation.open("x", store=store, clock=clock, context=context)
    _contract.check(chat.request(), lambda _: True)
    first, _ = (m["content"] for m in chat.messages() if m["role"] == "tool")
    item = chat.render().items[2]
    if most >= 1004:
        assert (first, item.form, item.why) == (long, Form.PLAIN, "as it is")
    else:
        assert len(first.encode()) <= 4 * most
        assert (item.form, item.why) == (Form.CUT, f"tool result, cut to {most} tokens")
    if most == 1000:
        assert first.startswith("ü" * 1900)
        assert "[cut: the result has some 1004 tokens" in first
    assert chat.turns[2].text == chat.fork().turns[2].text == long


def test_error_for_a_large_tool_result_names_the_bound_that_cuts_it() -> None:
    """`ContextTooSmall` says which setting of `Context` helps."""
    call = AssistantTurn(tool_calls=(ToolCall("a", "look_up", "{}"),))
    history: list[Turn] = [UserTurn(("Look",)), call, ToolTurn("a", "x" * 660_000)]
    with pytest.raises(ContextTooSmall, match="max_tool_result_tokens"):
        talking(history, Context()).messages()
    chat = talking(history, Context(max_tool_result_tokens=500))
    assert len(chat.messages()[2]["content"]) <= 2000


def test_stray_tool_result_is_left_out_with_its_reason() -> None:
    """A stray tool result is left out as stray, or as over budget in an old exchange."""
    history: list[Turn] = [UserTurn("Question"), ToolTurn("a", "stray"), UserTurn("Question")]
    [_, stray, _] = talking(history, Context()).render().items
    assert (stray.message, stray.why) == (None, "left out, it answers no open call")
    [_, stray, _] = talking(history, Context(max_prompt_tokens=2)).render().items
    assert stray.why == "left out, over budget"


# --- ContextTooSmall ---------------------------------------------------------------------------


ASKS: dict[str, Callable[..., object]] = {
    "say": lambda chat, content: chat.say(*content),
    "stream": lambda chat, content: chat.stream(*content).__enter__(),
}


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize(
    ("context", "content", "numbers"),
    [
        (Context(max_prompt_tokens=20), ("x" * 80,), (23, 20, 0, 20_000_000)),
        (Context(max_upload_bytes=5000), (AudioInput(SOUND),), (4, 111_616, 6460, 5000)),
    ],
    ids=["tokens", "bytes"],
)
def test_too_large_question_is_refused_unsent_and_taken_back(
    server: StandIn,
    client: OpenAI,
    clock: Clock,
    store: FileStore,
    context: Context,
    content: tuple[Any, ...],
    numbers: tuple[int, ...],
    ask: str,
) -> None:
    """A question over the bounds raises `ContextTooSmall` unsent, and is taken back."""

    def opened(**given: Any) -> Conversation:
        return Conversation.open("s", store=store, client=client, clock=clock, **given)

    with opened(context=context, instructions="Be brief.") as chat:
        chat.say("First")
        before, requests = chat.turns, len(server.requests)
        chat._requests._scale = 1.0
        with pytest.raises(ContextTooSmall) as failure:
            ASKS[ask](chat, content)
        error = failure.value
        assert (
            error.tokens,
            error.max_prompt_tokens,
            error.upload_bytes,
            error.max_upload_bytes,
        ) == numbers
        assert all(str(number) in str(error) for number in numbers)
        names_smaller = "AudioInput.convert(data, to='mp3') makes sound smaller" in str(error)
        assert names_smaller == (error.upload_bytes > error.max_upload_bytes)
        assert "the user turn was taken back" in error.__notes__[-1]
        assert (len(server.requests), chat.turns) == (requests, before)
        chat.say("Second")
    with opened() as chat:
        assert [turn.text for turn in chat.turns[::2]] == ["First", "Second"]
    assert not list((store.root / "s.audio").glob("*-*.wav"))[2:]


def test_async_twin_raises_context_too_small(server: StandIn, clock: Clock) -> None:
    """`AsyncConversation` raises `ContextTooSmall` in each method that renders."""

    async def talk() -> None:
        context = Context(max_prompt_tokens=3)
        chat = AsyncConversation(client=server.async_client(), clock=clock, context=context)
        with pytest.raises(ContextTooSmall):
            await chat.say("x" * 80)
        with pytest.raises(ContextTooSmall):
            async with chat.stream("x" * 80):
                pass
        assert (chat.turns, server.requests) == ((), [])
        await chat.add_user("x" * 80)
        for render in (chat.request, chat.messages, chat.render, chat.reply):
            with pytest.raises(ContextTooSmall):
                await render()
        assert len(chat.turns) == 1
        assert server.requests == []

    asyncio.run(talk())


def test_reply_keeps_a_question_that_is_too_large(server: StandIn, client: OpenAI) -> None:
    """`reply` keeps a question that is too large, and sends it once the bounds allow."""
    chat = Conversation(client=client, context=Context(max_prompt_tokens=10))
    turn = chat.add_user("x" * 80)
    with pytest.raises(ContextTooSmall):
        chat.reply()
    assert (chat.turns, server.requests) == ((turn,), [])
    chat._requests.context = Context(max_prompt_tokens=20)
    chat.reply()
    assert len(chat.turns) == 2


def test_too_large_tool_result_does_not_brick_the_chat(server: StandIn, client: OpenAI) -> None:
    """A tool result over the bounds is kept, and the next question is sent without it."""

    def look_up() -> str:
        """Look it up."""
        return "x" * 4000

    context = Context(max_prompt_tokens=500)
    chat = Conversation(client=client, tools=[look_up], context=context)
    server.will_answer(tool_calls=[("look_up", {})])
    with pytest.raises(ContextTooSmall) as failure:
        chat.say("Look it up")
    assert failure.value.tokens > 1000
    assert [turn.role for turn in chat.turns] == ["user", "assistant", "tool"]
    assert chat.say("Never mind").text
    assert [message["role"] for message in asked(server)[-1]["messages"]] == ["user"]


def test_transcribed_question_that_is_too_large_is_taken_back(
    server: StandIn, client: OpenAI, clock: Clock, store: FileStore
) -> None:
    """A spoken question whose transcript is over the bound is taken back with its file."""
    context = Context(user_audio_turns=0, max_prompt_tokens=10)
    with Conversation.open(
        "s", store=store, client=client, clock=clock, context=context, transcribe=True
    ) as chat:
        server.will_transcribe("w" * 100)
        with pytest.raises(ContextTooSmall) as failure:
            chat.say(AudioInput(SOUND))
        assert "the user turn was taken back" in failure.value.__notes__[-1]
        assert chat.turns == ()
    assert not list((store.root / "s.audio").glob("*.wav"))


# --- estimates ---------------------------------------------------------------------------------

RECORDED_SOUNDS = [(6.96, 69), (4.488, 44)]
"""Seconds of user sound, and the audio tokens that OpenAI counted for it."""


@pytest.mark.parametrize(("seconds", "counted"), RECORDED_SOUNDS)
def test_user_sound_is_estimated_at_the_recorded_tokens(seconds: float, counted: int) -> None:
    """User sound is estimated at the audio tokens that OpenAI counted for it."""
    estimate = prepare(UserTurn((said(seconds, rate=24_000),))).tokens
    assert estimate == pytest.approx(counted, rel=0.1)
    assert estimate == counted


def test_spoken_answer_is_estimated_at_the_recorded_tokens() -> None:
    """355,200 bytes of pcm16 are estimated at the 148 tokens that OpenAI counted."""
    audio = AssistantAudio("audio_" + "6" * 32, START, None, bytes(355_200), "pcm16")
    assert prepare(AssistantTurn(audio=audio)).voice_tokens == 148


def test_estimate_of_spoken_exchanges_is_within_a_tenth_of_usage(chat: Conversation) -> None:
    """The estimate of six spoken exchanges is within 10% of `usage.prompt_tokens`."""
    for number in range(6):
        chat.say(said(3 + number))
    items, at = chat._requests.sent.items, chat._requests.sent.at
    usage = chat.turns[-1].usage  # type: ignore[union-attr]
    assert usage
    assert tokens_at(items, at) == pytest.approx(usage.prompt_tokens, rel=0.1)


def test_base64_is_never_counted_as_tokens() -> None:
    """Sound counts by its duration and a picture at a fixed price, whatever their bytes."""
    low, high = (prepare(UserTurn((said(5, rate=rate),))) for rate in (8000, 48_000))
    assert low.tokens == high.tokens == 50
    assert low.upload < high.upload / 5
    small, large = (prepare(UserTurn((ImageInput(PNG + bytes(n)),))) for n in (0, 10**6))
    assert small.tokens == large.tokens


@pytest.mark.parametrize(
    ("turn", "tokens"),
    [
        (UserTurn(""), 0),
        (UserTurn("abcde"), 2),
        (UserTurn("犬が好き"), 3),
        (SystemTurn("abcd"), 1),
        (ToolTurn("a", "abcd"), 1),
        (AssistantTurn(content="abcd"), 1),
        (AssistantTurn(refusal="abcd"), 1),
        (AssistantTurn(tool_calls=(ToolCall("a", "abcd", "abcdefgh"),)), 3),
    ],
)
def test_text_counts_a_quarter_of_its_bytes(turn: Turn, tokens: int) -> None:
    """Text counts a quarter of its UTF-8 bytes, rounded up."""
    item = prepare(turn)
    assert (item.tokens, item.upload) == (tokens, 0)


def test_voice_of_unknown_length_counts_by_its_words() -> None:
    """A voice of unknown length counts 8 tokens a word, plus the words."""
    audio = AssistantAudio("audio_" + "6" * 32, START, "one two three four")
    item = prepare(AssistantTurn(audio=audio))
    assert (item.tokens, item.voice_tokens) == (5, 37)


def test_unusable_voice_counts_as_its_transcript() -> None:
    """An answer whose id can never be sent counts as its transcript."""
    item = prepare(AssistantTurn(audio=AssistantAudio("audio_x", None, "abcd", SOUND)))
    assert (item.voice_end, item.tokens, item.voice_tokens) == (NO_VOICE, 1, 1)


def test_tool_descriptions_count(client: OpenAI, clock: Clock) -> None:
    """Descriptions of tools count against the bound of the request that carries them."""
    tool = {"type": "function", "function": {"name": "look_up", "description": "x" * 4000}}
    chat = Conversation(client=client, clock=clock, context=Context(max_prompt_tokens=1000))
    chat.add_user("Question")
    assert len(chat.request()["messages"]) == 1
    with pytest.raises(ContextTooSmall) as failure:
        chat.request(tools=[tool])
    assert 1000 < failure.value.tokens < 1100
    assert len(chat.request()["messages"]) == 1


# --- correction of the estimate by usage -------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "measured", "tokens", "fixed", "corrected"),
    [
        (1.0, 100, 50, 0, 50),
        (2.0, 100, 100, 0, 200),
        (2.0, 100, 50, 0, 100),
        (2.0, 100, 300, 0, 400),
        (2.0, 100, 90, 10, 200),
        (0.5, 100, 300, 0, 250),
        (0.5, 100, 60, 0, 30),
    ],
)
def test_correction_scales_up_to_the_measured_size(
    scale: float, measured: int, tokens: int, fixed: int, corrected: float
) -> None:
    """An estimate is scaled up to the size that was measured, and shifted beyond it."""
    limits = Limits(int(corrected), 0, fixed, scale, measured)
    assert limits.corrected(tokens) == corrected
    assert limits.hold(tokens, 0)
    assert not limits.hold(tokens + 2, 0)
    assert not limits.hold(tokens, 1)


@pytest.mark.parametrize(("factor", "sent"), [(1, 12), (2, 6), (4, 3), (100, 3), (0.5, 18)])
def test_last_usage_corrects_the_estimate(clock: Clock, factor: float, sent: int) -> None:
    """The last `usage` scales the estimate by a factor of 0.5 to 4."""
    chat = Conversation(clock=clock, context=Context(max_prompt_tokens=120))
    for _ in range(12):
        chat.add_user("x" * 40)
    assert len(chat.request()["messages"]) == 12
    usage = {"prompt_tokens": round(120 * factor), "completion_tokens": 1}
    chat.add_completion({**answer(content="."), "usage": usage})
    chat.undo(answer_only=True)
    for _ in range(8):
        chat.add_user("x" * 40)
    assert len(chat.messages()) == sent


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 0}, {"prompt_tokens": "many"}])
def test_answer_without_usage_corrects_nothing(clock: Clock, usage: Any) -> None:
    """An answer without valid `usage` leaves the estimate as it was."""
    chat = Conversation(clock=clock, context=Context(max_prompt_tokens=120))
    for _ in range(12):
        chat.add_user("x" * 40)
    chat.request()
    chat.add_completion({**answer(content="."), "usage": usage})
    chat.undo(answer_only=True)
    assert len(chat.messages()) == 12


def test_usage_of_a_completion_without_a_request_corrects_nothing(clock: Clock) -> None:
    """Only the first completion after a request corrects the estimate."""
    chat = Conversation(clock=clock, context=Context(max_prompt_tokens=120))
    for _ in range(12):
        chat.add_user("x" * 40)
    chat.add_completion({**answer(content="."), "usage": {"prompt_tokens": 5000}})
    chat.undo(answer_only=True)
    assert len(chat.messages()) == 12
    chat.request()
    chat.add_completion({**answer(content="."), "usage": {"prompt_tokens": 240}})
    chat.add_completion({**answer(content="."), "usage": {"prompt_tokens": 1}})
    chat.undo(answer_only=True)
    assert len(chat.messages()) == 6


def test_overhead_of_a_short_request_is_not_scaled(server: StandIn, client: OpenAI) -> None:
    """Fixed overhead, large beside a short question, does not make a long one too large."""
    chat = Conversation(client=client, context=Context(max_prompt_tokens=2000))
    first = chat.say("Hi")
    assert first.usage
    assert first.usage.prompt_tokens >= 4 * tokens_of("Hi")
    assert chat.say("word " * 1200).text
    assert len(asked(server)) == 2


def test_correction_bounds_a_growing_chat(client: OpenAI) -> None:
    """Prompt tokens stay bounded on a server that counts more than the estimate."""
    chat = Conversation(client=client, context=Context(max_prompt_tokens=200))
    for _ in range(20):
        chat.say("x " * 20)
        usage = chat.turns[-1].usage  # type: ignore[union-attr]
        assert usage
        assert usage.prompt_tokens <= 400 * 1.1


# --- transcription of old sound ----------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """Provide a store without fsync."""
    return FileStore(tmp_path / "sessions", fsync=False)


@pytest.fixture
def opened(store: FileStore, client: OpenAI, clock: Clock) -> Iterator[Callable[..., Conversation]]:
    """Open a session that sends its last sound as sound and transcribes older sound."""
    chats = []

    def talk(**given: Any) -> Conversation:
        given = {"transcribe": True, "context": Context(user_audio_turns=1), **given}
        chats.append(Conversation.open("s", store=store, client=client, clock=clock, **given))
        return chats[-1]

    yield talk
    for chat in chats:
        chat.close()


def test_ageing_sound_is_transcribed_once(
    server: StandIn, opened: Callable[..., Conversation]
) -> None:
    """Sound that grows old is transcribed once, and its words are saved with the session."""
    chat = opened()
    for number in range(4):
        server.will_transcribe(f"Sound {number}.")
        chat.say(said(1 + number))
        assert len(asked(server, TRANSCRIPTIONS)) == number
    sizes = [request["file"]["size"] for request in asked(server, TRANSCRIPTIONS)]
    assert sizes == [16_044, 32_044, 48_044]
    users = [m["content"] for m in asked(server)[-1]["messages"] if m["role"] == "user"]
    assert users[:3] == ["Sound 0.", "Sound 1.", "Sound 2."]
    assert users[3][0]["type"] == "input_audio"
    chat.close()
    again = opened()
    assert [turn.text for turn in again.turns[::2]] == ["Sound 0.", "Sound 1.", "Sound 2.", ""]
    again.say("Written.")
    assert len(asked(server, TRANSCRIPTIONS)) == 3
    again.say(said(1))
    assert len(asked(server, TRANSCRIPTIONS)) == 4
    first = again.turns[0]
    assert isinstance(first, UserTurn)
    assert isinstance(first.content[0], AudioInput)
    assert len(first.content[0].read()) == 16_044, "its sound is kept"


@pytest.mark.parametrize(
    "given",
    [{"transcribe": None}, {"transcribe": False}, {"context": Context()}],
    ids=["not asked for", "off", "nothing grows old"],
)
def test_nothing_is_transcribed_unless_requested_and_old(
    server: StandIn, opened: Callable[..., Conversation], given: dict[str, Any]
) -> None:
    """Nothing is transcribed without `transcribe=True`, or while no sound is old."""
    chat = opened(**given)
    for _ in range(3):
        chat.say(said(1))
    assert asked(server, TRANSCRIPTIONS) == []


def test_sound_with_a_transcript_is_not_transcribed(
    server: StandIn, opened: Callable[..., Conversation]
) -> None:
    """Old sounds with a transcript are not transcribed, others in the same turn are."""
    chat = opened()
    chat.add_user(said(1, "Given."))
    chat.add_user(said(1, "Given."), said(2))
    server.will_transcribe("Found.")
    chat.say(said(3))
    [request] = asked(server, TRANSCRIPTIONS)
    assert request["file"]["size"] == 32_044
    users = [m["content"] for m in asked(server)[-1]["messages"]]
    assert users[0] == "Given."
    assert [part["text"] for part in users[1]] == ["Given.", "Found."]


def test_rendering_never_transcribes(server: StandIn, opened: Callable[..., Conversation]) -> None:
    """`request`, `messages` and `render` never transcribe; `transcribe` does."""
    chat = opened()
    for _ in range(2):
        chat.add_user(said(1))
    chat.request()
    chat.messages()
    chat.render()
    assert server.requests == []
    chat.transcribe()
    assert chat.messages()[0]["content"] == "1.0 seconds of sound."


def test_stream_transcribes_old_sound_first(
    server: StandIn, opened: Callable[..., Conversation]
) -> None:
    """`stream` transcribes old sound before its request is rendered."""
    chat = opened()
    chat.add_user(said(1))
    with chat.stream(said(1)) as events:
        assert list(events)
    assert [request.path for request in server.requests] == [TRANSCRIPTIONS, CHATS]
    assert server.requests[1]["messages"][0]["content"] == "1.0 seconds of sound."


def test_async_say_transcribes_old_sound(server: StandIn, clock: Clock) -> None:
    """`AsyncConversation.say` transcribes old sound."""

    async def talk() -> None:
        context = Context(user_audio_turns=1)
        chat = AsyncConversation(
            client=server.async_client(), clock=clock, context=context, transcribe=True
        )
        for _ in range(3):
            await chat.say(said(1))
        assert chat.turns[0].text == "1.0 seconds of sound."

    asyncio.run(talk())
    assert len(asked(server, TRANSCRIPTIONS)) == 2


def test_failed_transcription_is_logged_and_tried_once_per_object(
    server: StandIn, opened: Callable[..., Conversation], caplog: pytest.LogCaptureFixture
) -> None:
    """Sound whose transcription failed is sent as sound, and retried after a resume only."""
    chat = opened()
    chat.add_user(said(1))
    server.will_fail(500)
    chat.say(said(1))
    part = asked(server)[0]["messages"][0]["content"][0]
    assert part["type"] == "input_audio"
    assert any("transcribing old sound failed" in record.getMessage() for record in caplog.records)
    chat.say("Written.")
    assert len(asked(server, TRANSCRIPTIONS)) == 1
    chat.close()
    opened().say("Written.")
    assert len(asked(server, TRANSCRIPTIONS)) == 2


def test_empty_transcript_is_saved(server: StandIn, opened: Callable[..., Conversation]) -> None:
    """Silence is sent as sound, and its empty transcript is saved and not asked for again."""
    chat = opened()
    chat.add_user(said(1))
    server.will_transcribe("")
    chat.say(said(1))
    assert asked(server)[0]["messages"][0]["content"][0]["type"] == "input_audio"
    chat.close()
    opened().say("Written.")
    assert len(asked(server, TRANSCRIPTIONS)) == 1


def test_undo_forgets_a_failed_transcription(
    server: StandIn, opened: Callable[..., Conversation]
) -> None:
    """Sound added after `undo` is transcribed, although an equal one had failed before."""
    chat = opened(context=Context(user_audio_turns=0))
    server.will_fail(500)
    chat.say(said(1))
    chat.undo()
    chat.say(said(1))
    assert len(asked(server, TRANSCRIPTIONS)) == 2
    assert chat.turns[0].text == "1.0 seconds of sound."


def test_refusal_forgets_a_failed_transcription(
    server: StandIn, opened: Callable[..., Conversation]
) -> None:
    """Sound added after a refusal is transcribed, although an equal one had failed before."""
    chat = opened(context=Context(user_audio_turns=0))
    server.will_fail(500)
    server.will_fail(400, "No.")
    with pytest.raises(BadRequestError):
        chat.say(said(1))
    assert not chat.turns
    chat.say(said(1))
    assert len(asked(server, TRANSCRIPTIONS)) == 2


def test_turns_left_out_are_not_transcribed(
    server: StandIn, opened: Callable[..., Conversation]
) -> None:
    """Old sound is transcribed only in turns within the bounds."""
    chat = opened(context=Context(user_audio_turns=1, max_prompt_tokens=200))
    for number in range(40):
        chat.add_user(said(1 + number / 8000))
        chat.add_assistant(f"Yes, {number}.")
    chat.say(said(1))
    users = [m for m in asked(server)[-1]["messages"] if m["role"] == "user"]
    assert 3 < len(users) < 41
    assert all(isinstance(message["content"], str) for message in users[:-1])
    assert len(asked(server, TRANSCRIPTIONS)) == len(users) - 1


# --- errors of the server ----------------------------------------------------------------------


def test_param_of_an_error_indexes_the_messages_as_sent(
    server: StandIn, client: OpenAI, clock: Clock
) -> None:
    """`param` of an error is an index into the shortened list, not into the history."""
    context = Context(max_prompt_tokens=100)
    chat = Conversation(client=client, clock=clock, context=context, instructions="Be brief.")
    chat.add_user("x" * 300)
    for number in range(3):
        chat.add(answered(f"Answer {number}.", number=number))
        chat.add_user("Question")
    sent = chat.messages()
    [blamed] = [i for i, m in enumerate(sent) if m.get("audio", {}).get("id", "").endswith("2")]
    assert blamed < len(chat.turns) - 2
    server.will_fail(
        400, "Not there.", code="audio_not_found", param=f"content.messages[{blamed}].audio.id"
    )
    with pytest.raises(openai.BadRequestError) as failure:
        client.chat.completions.create(**chat.request())
    assert chat.heal(failure.value)
    lost = [
        turn.audio.lost for turn in chat.turns if isinstance(turn, AssistantTurn) and turn.audio
    ]
    assert lost == [False, False, True]


def test_loss_of_all_ids_costs_two_extra_requests(
    server: StandIn, client: OpenAI, clock: Clock
) -> None:
    """Loss of all ids costs two extra requests, however many older turns then fit."""
    chat = Conversation(client=client, clock=clock, context=Context(max_prompt_tokens=700))
    for _ in range(30):
        server.will_answer("One two three four.")
        chat.say("Question")
    for turn in chat.turns:
        if isinstance(turn, AssistantTurn) and turn.audio and turn.audio.id:
            server.forget(turn.audio.id)
    requests = len(server.requests)
    chat.say("Still there?")
    assert len(server.requests) - requests == 3
    chat.say("And now?")
    assert len(server.requests) - requests == 4


def test_absurd_token_count_in_an_error_is_ignored(server: StandIn, chat: Conversation) -> None:
    """A length error with an absurd token count is raised as the SDK's error."""
    told = f"However, your messages resulted in {'9' * 5000} tokens."
    server.will_fail(400, told, code="context_length_exceeded")
    with pytest.raises(BadRequestError):
        chat.say("Hello")


@pytest.mark.slow
@pytest.mark.slow
def test_request_refused_for_its_length_is_shortened(
    server: StandIn, client: OpenAI, clock: Clock
) -> None:
    """A request refused for its length is shortened and sent again, also after a short one."""
    chat = Conversation(client=client, clock=clock)
    chat.say("Hi")
    chat.extend([UserTurn("x" * 100)] * 4600)
    assert chat.say("Still there?").text
    assert len(asked(server)) == 3
    assert len(asked(server)[-1]["messages"]) < len(asked(server)[-2]["messages"])
    assert chat.say("And now?").text
    assert len(asked(server)) == 4


def test_messages_ignore_the_options_of_the_last_request(clock: Clock) -> None:
    """`messages` and `render` ignore the model of the last request."""
    chat = Conversation(clock=clock)
    for _ in range(3):
        chat.add_user("x" * 200_000)
    chat.request(model="qwen3-omni")
    assert len(chat.messages()) == len(chat.request()["messages"]) == 2
    chat.request(model="qwen3-omni")
    assert len(chat.render().messages) == 2


def test_old_answers_without_transcript_are_warned_of_once(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Old answers without a transcript are sent as voice, with one warning."""
    chat = Conversation(clock=clock, context=Context(assistant_audio_turns=0))
    chat.add(answered(None))
    for _ in range(2):
        assert forms(chat.render()) == [Form.VOICE]
    assert [r.getMessage()[:27] for r in caplog.records] == ["old sound is sent as sound "]


def test_a_new_turn_is_looked_at_alone() -> None:
    """A request walks through no turns again that are known to fit, however many are new."""
    chat = Conversation()
    chat.extend([UserTurn("Why?")] * 200)
    assert len(chat.messages()) == 200
    called: list[str] = []
    for new in (1, 100):
        chat.extend([UserTurn("And?")] * new)
        sys.setprofile(lambda frame, _, __: called.append(frame.f_code.co_name))
        try:
            messages = chat.messages()
        finally:
            sys.setprofile(None)
        assert messages[-1]["content"] == "And?"
    assert len(messages) == 301
    assert "prepare" in called
    assert "window" not in called

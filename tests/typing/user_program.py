"""A user's program over the README's whole surface, checked by mypy and never run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, assert_never, assert_type

from openai import AsyncOpenAI, BadRequestError, OpenAI

from conversation import (
    AssistantAudio,
    AssistantTurn,
    AsyncConversation,
    AsyncStream,
    AudioDelta,
    AudioInput,
    Context,
    Conversation,
    FileInput,
    FileStore,
    Form,
    ImageInput,
    Prices,
    Recovery,
    RenderedMessage,
    Rendering,
    Salvage,
    SessionInfo,
    Stream,
    SystemTurn,
    TextDelta,
    ToolCall,
    ToolCalled,
    ToolTurn,
    TranscriptDelta,
    TurnFinished,
    Usage,
    UserTurn,
)
from conversation.errors import (
    ContextTooSmall,
    ConversationBusy,
    ConversationError,
    SaveFailed,
    SessionChanged,
    SessionCorrupt,
    SessionError,
    SessionLocked,
    UnknownToolCall,
)
from conversation.realtime import AsyncRecorder, Recorder, seed_events
from conversation.stores import Store
from conversation.testing import StandIn

AnyTurn = SystemTurn | UserTurn | AssistantTurn | ToolTurn
AnyEvent = TranscriptDelta | TextDelta | AudioDelta | ToolCalled | TurnFinished


def remembered(turns: Sequence[AnyTurn], previous: str | None) -> str:
    """Return a summary."""
    return f"{previous or ''} {len(turns)} turns"


async def remembered_later(turns: tuple[AnyTurn, ...], previous: str | None) -> str:
    """Return a summary, awaited."""
    return remembered(turns, previous)


def weather(city: str, days: int = 1) -> dict[str, object]:
    """Return the weather forecast."""
    return {"city": city, "degrees": [-3] * days}


async def slow_weather(city: str) -> str:
    """Return the weather."""
    return city


def make(client: OpenAI, store: Store) -> None:
    """Construct, open, load and import conversations."""
    chat = Conversation(
        client=client,
        model="gpt-audio-1.5",
        voice={"id": "voice_1"},
        audio_format="mp3",
        modalities=["text", "audio"],
        instructions="Be brief.",
        tools=[weather, {"type": "function", "function": {"name": "look_up"}}],
        max_tool_rounds=3,
        context=Context(
            max_prompt_tokens=20_000,
            max_upload_bytes=20_000_000,
            user_audio_turns=3,
            assistant_audio_turns=10,
            summarize=remembered,
        ),
        transcribe=True,
        speak_when_dropped="tts-1",
        options={"temperature": 0.8, "max_completion_tokens": 500},
        clock=time.time,
        expiry_margin=30.0,
    )
    Context(summarize=remembered_later)
    swept = FileStore("s").sweep(older_than=timedelta(days=90), sound_only=True, dry_run=True)
    assert_type(swept, tuple[SessionInfo, ...])
    assert_type(chat, Conversation)
    with Conversation.open("ann", store=store, create=False, timeout=5, voice="alloy") as opened:
        assert_type(opened, Conversation)
    assert_type(Conversation.open("ann", store=store, read_only=True), Conversation)
    assert_type(Conversation.load("backup.json"), Conversation)
    assert_type(Conversation.load(Path("backup.json"), client=client), Conversation)
    assert_type(Conversation.from_messages(chat.messages()), Conversation)
    assert_type(Conversation.from_messages([], session_id="ann", store="sessions"), Conversation)
    assert_type(chat.fork(), Conversation)
    assert_type(chat.fork("copy"), Conversation)
    assert_type(chat.fork("copy", until=chat.turns[0], store=Path("sessions")), Conversation)
    assert_type(chat.save("backup.json"), Path)
    assert_type(chat.export("talk.html"), Path)
    assert_type(chat.export(Path("talk"), format="markdown"), Path)
    chat.close()


def look(chat: Conversation) -> None:
    """Read the properties."""
    assert_type(chat.id, str | None)
    assert_type(chat.title, str | None)
    assert_type(chat.metadata, dict[str, Any])
    assert_type(chat.usage, Usage)
    assert_type(chat.usage.total_tokens, int)
    prices = Prices(text_input=2.5, text_output=10, audio_input=32, audio_output=Decimal(64))
    assert_type(chat.usage.cost(prices), Decimal)
    assert_type(prices.cached_input, Decimal | None)
    assert_type(chat.recovered, Recovery | None)
    assert_type(chat.turns, tuple[AnyTurn, ...])
    for turn in chat.turns:
        assert_type(turn.text, str)
        assert_type(turn.at, datetime | None)
        match turn:
            case SystemTurn() | UserTurn() | ToolTurn():
                assert_type(turn.role, str)
            case AssistantTurn():
                look_at_answer(turn)
            case _:
                assert_never(turn)


def look_at_answer(turn: AssistantTurn) -> None:
    """Read the fields of an answer."""
    assert_type(turn.content, str | None)
    assert_type(turn.audio, AssistantAudio | None)
    if turn.audio:
        assert_type(turn.audio.id, str | None)
        assert_type(turn.audio.expires_at, float | None)
        assert_type(turn.audio.transcript, str | None)
        assert_type(turn.audio.format, str | None)
        assert_type(turn.audio.duration, float | None)
        assert_type((turn.audio.path, turn.audio.media_type), tuple[Path | None, str | None])
        assert_type(turn.audio.read(), bytes)
        assert_type(turn.audio.save("dog.wav"), Path)
    assert_type(turn.tool_calls, tuple[ToolCall, ...])
    assert_type([call.arguments for call in turn.tool_calls], list[str])
    assert_type(turn.refusal, str | None)
    assert_type(turn.usage, Usage | None)
    assert_type(turn.model, str | None)
    assert_type(turn.finish_reason, str | None)
    assert_type(turn.interrupted, bool)
    assert_type(turn.voice_dropped, bool)


def change(chat: Conversation) -> None:
    """Add, edit and undo turns."""
    sound = AudioInput.from_pcm(bytes(48_000), rate=24_000)
    assert_type(sound, AudioInput)
    assert_type(AudioInput.from_file("dog.wav", transcript="Woof."), AudioInput)
    assert_type(AudioInput(b"RIFF").read(), bytes)
    assert_type((sound.path, sound.media_type), tuple[Path | None, str])
    picture, file = ImageInput(b"\x89PNG", "low"), FileInput(b"%PDF", filename="a.pdf")
    assert_type(chat.add_user("Look:", sound, picture, file), UserTurn)
    user = chat.add_user("Hi", name="Zoë", message_id="telegram:42:1001")
    assert_type((user.name, user.message_id), tuple[str | None, str | None])
    assert_type(chat.say("Hi", name="Zoë", message_id="telegram:42:1002"), AssistantTurn)
    with chat.stream("Hi", name="Zoë", message_id="telegram:42:1003") as events:
        assert_type(next(events), AnyEvent)
    assert_type(chat.unanswered, bool)
    with chat.hold() as held:
        assert_type(held, Conversation)
    assert_type(chat.refresh(), tuple[AnyTurn, ...])
    assert_type(chat.add_system("Be kind."), SystemTurn)
    assert_type(chat.add_assistant("Hello!"), AssistantTurn)
    assert_type(chat.add_completion({"choices": []}), AssistantTurn)
    assert_type(chat.add_tool_result("call_1", {"degrees": -3}), ToolTurn)
    assert_type(chat.add(UserTurn("Hi")), UserTurn)
    for turn in chat.undo():
        assert_type(chat.add(turn), AnyTurn)
    assert_type(chat.undo(answer_only=True), tuple[AnyTurn, ...])
    kept = chat.extend([UserTurn("Hi"), AssistantTurn("Hello")])
    assert_type(kept, tuple[AnyTurn, ...])
    assert_type(chat.extend(chat.rewind(kept[0])), tuple[AnyTurn, ...])
    assert_type(chat.remove(*chat.turns[:2]), tuple[AnyTurn, ...])
    chat.clear()
    assert_type(chat.truncate(1.5, chat.turns[-1]), AssistantTurn)
    assert_type(chat.truncate(1.5), AssistantTurn)
    assert_type(chat.set_transcript(chat.turns[-1], "Hi"), AssistantTurn | UserTurn)
    assert_type(chat.transcribe(), tuple[UserTurn, ...])
    chat.set_title("Dogs")
    chat.set_title(None)
    chat.set_metadata({"user": {"name": "Ann"}})


def talk(chat: Conversation, client: OpenAI) -> None:
    """Ask the model, by the library and by own calls."""
    assert_type(chat.say("Hi", AudioInput(b"RIFF"), temperature=0.5), AssistantTurn)
    assert_type(chat.reply(modalities=["text"]), AssistantTurn)
    with chat.stream("Tell me about them") as events:
        assert_type(events, Stream)
        for event in events:
            assert_type(event, AnyEvent)
            match event:
                case TranscriptDelta(text) | TextDelta(text):
                    assert_type(text, str)
                case AudioDelta(data):
                    assert_type(data, bytes)
                case ToolCalled(call, result):
                    assert_type((call, result), tuple[ToolCall, str])
                case TurnFinished(turn):
                    assert_type(turn, AssistantTurn)
                case _:
                    assert_never(event)
    chat.add_user("Again")
    assert_type(chat.request(stream=True), dict[str, Any])
    assert_type(chat.messages(), list[dict[str, Any]])
    assert_type(chat.render(), Rendering)
    for item in chat.render().items:
        assert_type(item, RenderedMessage)
        assert_type(item.message, dict[str, Any] | None)
        assert_type(item.turn, AnyTurn | None)
        assert_type(item.form, Form)
        assert_type((item.role, item.why), tuple[str, str])
    try:
        chat.add_completion(client.chat.completions.create(**chat.request()))
    except BadRequestError as error:
        assert_type(chat.heal(error), bool)


def handle_errors(chat: Conversation) -> None:
    """Catch the package's errors and use what they carry."""
    try:
        chat.say("Hi")
    except SaveFailed as error:
        chat.add(error.turn)
    except SessionChanged as error:
        chat.add(error.turn)
    except SessionCorrupt as error:
        assert_type((error.path, error.line, error.reason), tuple[Path | None, int | None, str])
    except (SessionLocked, SessionError) as error:
        assert_type(error.path, Path | None)
    except ContextTooSmall as error:
        assert_type((error.tokens, error.max_prompt_tokens), tuple[int, int | None])
        assert_type((error.upload_bytes, error.max_upload_bytes), tuple[int, int])
    except UnknownToolCall as error:
        assert_type((error.tool_call_id, error.open_calls), tuple[str, tuple[str, ...]])
    except (ConversationBusy, ConversationError) as error:
        assert_type(str(error), str)


def keep() -> None:
    """Use the store on its own."""
    store = FileStore("sessions", fsync=False, keep_sound="user")
    assert_type(store.list(), Sequence[SessionInfo])
    for info in store.list():
        assert_type((info.id, info.title, info.size), tuple[str, str | None, int])
        assert_type(info.metadata, dict[str, Any])
        assert_type((info.created_at, info.updated_at), tuple[datetime | None, datetime])
    salvage = store.repair("ann")
    assert_type(salvage, Salvage)
    assert_type((salvage.kept, salvage.lost), tuple[int, tuple[bytes, ...]])
    assert_type(store.exists("ann"), bool)
    store.delete("ann")
    make(OpenAI(), store)


async def talk_async(client: AsyncOpenAI, store: FileStore) -> None:
    """Do the same with the async twin."""
    opened = await AsyncConversation.open("ann", store=store, client=client, tools=[slow_weather])
    assert_type(opened, AsyncConversation)
    async with AsyncConversation.open("ann", create=False) as chat:
        assert_type(chat, AsyncConversation)
        assert_type(await chat.say("Good morning"), AssistantTurn)
        assert_type(await chat.reply(), AssistantTurn)
        async with chat.stream("Go on") as events:
            assert_type(events, AsyncStream)
            async for event in events:
                assert_type(event, AnyEvent)
        try:
            assert_type(await chat.add_user("Hi", AudioInput(b"RIFF")), UserTurn)
        except SaveFailed as error:
            await chat.add(error.turn)
        assert_type(await chat.add_system("Be kind."), SystemTurn)
        assert_type(await chat.add_assistant("Hello!"), AssistantTurn)
        assert_type(await chat.add_tool_result("call_1", None), ToolTurn)
        assert_type(await chat.add(UserTurn("Hi")), UserTurn)
        completion = await client.chat.completions.create(**await chat.request())
        assert_type(await chat.add_completion(completion), AssistantTurn)
        assert_type(await chat.messages(), list[dict[str, Any]])
        assert_type(await chat.render(), Rendering)
        assert_type(await chat.heal(ValueError()), bool)
        async with chat.hold() as held:
            assert_type(held, AsyncConversation)
        assert_type(await chat.refresh(), tuple[AnyTurn, ...])
        assert_type(await chat.say("Hi", name="Zoë", message_id="1"), AssistantTurn)
        assert_type(await chat.undo(), tuple[AnyTurn, ...])
        assert_type(await chat.truncate(1.5), AssistantTurn)
        assert_type(await chat.extend([UserTurn("Hi"), SystemTurn("Go")]), tuple[AnyTurn, ...])
        assert_type(await chat.rewind(chat.turns[0]), tuple[AnyTurn, ...])
        assert_type(await chat.remove(*chat.turns), tuple[AnyTurn, ...])
        await chat.clear()
        assert_type(await chat.set_transcript(chat.turns[-1], "Hi"), AssistantTurn | UserTurn)
        assert_type(await chat.transcribe(), tuple[UserTurn, ...])
        await chat.set_title("Dogs")
        await chat.set_metadata({})
        assert_type(await chat.fork("copy"), AsyncConversation)
        assert_type(await chat.save("backup.json"), Path)
        assert_type(await chat.export("talk.html"), Path)
        assert_type(chat.turns, tuple[AnyTurn, ...])
    assert_type(await AsyncConversation.load("backup.json"), AsyncConversation)
    assert_type(AsyncConversation.from_messages([]), AsyncConversation)
    saved = await AsyncConversation.from_messages([], session_id="ann", store=store)
    assert_type(saved, AsyncConversation)
    await opened.close()


def hand_over(chat: Conversation) -> None:
    """Seed a Realtime session, and record it."""
    assert_type(seed_events(chat, sound=True, max_tokens=20_000), list[dict[str, Any]])
    with Recorder(chat) as recorder:
        recorder.sent({"type": "response.create"})
        assert_type(recorder.received({"type": "response.done"}), list[AnyTurn])
    assert_type(recorder.close(), list[AnyTurn])


async def hand_over_async(chat: AsyncConversation) -> None:
    """Same as `hand_over`, with asyncio."""
    assert_type(await seed_events(chat), list[dict[str, Any]])
    async with AsyncRecorder(chat) as recorder:
        recorder.sent({"type": "response.create"})
        assert_type(await recorder.received({"type": "response.done"}), list[AnyTurn])


def try_without_openai() -> None:
    """Script the stand-in."""
    with StandIn(audio_lifetime=3600, clock=time.time) as server:
        assert_type(server.client(), OpenAI)
        assert_type(server.async_client(), AsyncOpenAI)
        assert_type(server.url, str)
        server.forget("audio_1")
        server.will_answer("Sunny.", spoken=False)
        server.will_answer("A long story", cut_after=5, hold_after=3)
        server.will_answer(tool_calls=[("weather", {"city": "Oslo"})])
        server.will_fail(429)
        server.will_send({"choices": []})
        server.wait_until_held()
        server.go_on()
        for request in server.requests:
            body: Mapping[str, Any] = request
            assert_type(request.path, str)
            assert_type(body["model"], Any)

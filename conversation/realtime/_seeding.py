"""Turns as the events that seed a Realtime session."""

from __future__ import annotations

import hashlib
import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, overload

import attrs
import orjson

from conversation._rendering.forms import PLACEHOLDER, Form, Moment, Prepared
from conversation._rendering.preparing import cut, prepare
from conversation._rendering.unseen import unseen
from conversation._rendering.window import Limits, window
from conversation._values.parts import AudioInput, ImageInput, Part
from conversation._values.samples import as_mono, as_s16, resampled
from conversation._values.sound import PCM_RATE
from conversation._values.turns import AssistantTurn, SystemTurn, ToolCall, ToolTurn, Turn, UserTurn
from conversation._values.wav import walked
from conversation._wire.messages import base64_text, part_message, wire_name
from conversation.errors import AudioFileMissing, InvalidSetting

if TYPE_CHECKING:
    from conversation._async_conversation import AsyncConversation
    from conversation._conversation import Conversation

log = logging.getLogger("conversation")

SEED = "kept_"
"""Beginning of the ids of all items that seed a session: their echo is no news."""

SESSION_TOKENS = 28_224
"""Tokens that a Realtime session takes in: its window of 32,000 less its largest answer."""

_LONGEST_ID = 32

Item = dict[str, Any]


@overload
def seed_events(
    chat: Conversation, *, sound: bool = False, max_tokens: int | None = None
) -> list[Item]: ...
@overload
def seed_events(
    chat: AsyncConversation, *, sound: bool = False, max_tokens: int | None = None
) -> Awaitable[list[Item]]: ...
def seed_events(
    chat: Conversation | AsyncConversation, *, sound: bool = False, max_tokens: int | None = None
) -> list[Item] | Awaitable[list[Item]]:
    """Return the events that tell a new Realtime session what was said so far, oldest first.

    Send each of them, and the instructions by `session.update`. The newest whole exchanges that fit
    are taken, as for a request, behind the summary if there is one. Answers go as their words, as
    the API takes no spoken ones back. Tool calls without a result stay open, to be answered there.

    Args:
        chat: The conversation; it is not changed. Of an `AsyncConversation`, await the result.
        sound: Send the user's sound (24 kHz `audio/pcm`) where it can be decoded here; False: its
            words.
        max_tokens: Most estimated tokens, instructions and tools included; None: what the
            conversation's `Context` allows, at most the 28,224 of a session.

    Raises:
        ContextTooSmall: if the newest exchange alone is larger.
        InvalidSetting: if `max_tokens` is no number of tokens.
    """
    job = partial(_seed, chat, sound=sound, max_tokens=max_tokens)
    return _in_thread(job) if chat._is_async else job()


async def _in_thread(job: Callable[[], list[Item]]) -> list[Item]:
    import asyncio

    return await asyncio.to_thread(job)


def short_call_id(call_id: str) -> str:
    """Return the id of a tool call as a session takes it: of 32 characters at most."""
    if len(call_id) <= _LONGEST_ID:
        return call_id
    return f"call_{hashlib.sha256(call_id.encode()).hexdigest()[: _LONGEST_ID - 5]}"


def _seed(
    chat: Conversation | AsyncConversation, *, sound: bool, max_tokens: int | None
) -> list[Item]:
    requests = chat._requests
    history, context, settings = requests.history, requests.context, requests.settings
    limit = context.limit_for(settings.model)
    if max_tokens is None:
        max_tokens = SESSION_TOKENS if limit is None else min(limit, SESSION_TOKENS)
    elif isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 0:
        msg = f"max_tokens must be a whole number >= 0 or None, got {max_tokens!r}"
        raise InvalidSetting(msg)

    def prepared(position: int) -> Prepared:
        item = prepare(_turn(history[position], sound=sound))
        most = context.max_tool_result_tokens
        return item if most is None else cut(item, most)

    with history.reading:
        found = window(
            lambda: map(prepared, reversed(range(len(history)))),
            len(history),
            systems=[(position, prepared(position)) for position in history.systems()],
            instructions=settings.instructions,
            context=context,
            limits=Limits(max_tokens, context.max_upload_bytes, requests._next.tool_tokens),
            at=Moment(math.inf, 0.0),  # no voice is left
            summary=None if context.summarize is None else history.summary,
        )
    token = secrets.token_hex(4)
    items = (item for chosen in found.items for item in _items(chosen))
    return [
        {"type": "conversation.item.create", "item": {"id": f"{SEED}{token}_{number}", **item}}
        for number, item in enumerate(items)
    ]


def _turn(turn: Turn, *, sound: bool) -> Turn:
    """Return a turn with what a session takes: words in place of sound, placeholders for files."""
    if not isinstance(turn, UserTurn) or all(isinstance(part, str) for part in turn.content):
        return turn
    return attrs.evolve(turn, content=[_part(part, sound=sound) for part in turn.content])


def _part(part: Part, *, sound: bool) -> Part:
    is_taken = (
        (sound and part.format == "wav")
        if isinstance(part, AudioInput)
        else isinstance(part, ImageInput) and part.media_type in ("image/png", "image/jpeg")
    )
    return part if is_taken else _in_words(part)


def _in_words(part: Part) -> str:
    """Return the words of sound, or a placeholder."""
    if isinstance(part, str):
        return part
    shown = unseen(prepare(UserTurn((part,))), (type(part),)).sent
    return str(shown.content[0]) if shown else ""


def _items(chosen: Prepared) -> Iterator[Item]:
    """Yield the items of a turn that was chosen; none for results that nobody knows."""
    if chosen.form is Form.SUMMARY and chosen.message:
        yield _message("system", [_input_text(chosen.message["content"])])
    aged = chosen.words.turn if chosen.form is Form.WORDS and chosen.words else None
    match aged or chosen.turn:
        case SystemTurn(text):
            yield _message("system", [_input_text(text)])
        case UserTurn(content):
            parts = [
                _content(part) for part in content if not isinstance(part, str) or part.strip()
            ]
            if parts:
                yield _message("user", parts)
        case AssistantTurn() as turn:
            if turn.text.strip() or not turn.tool_calls:
                words = turn.text if turn.text.strip() else PLACEHOLDER
                yield _message("assistant", [{"type": "output_text", "text": words}])
            yield from map(_call, turn.tool_calls)
        case ToolTurn() as turn:
            yield {
                "type": "function_call_output",
                "call_id": short_call_id(turn.tool_call_id),
                "output": (chosen.message or {}).get("content", turn.content),
            }


def _message(role: str, content: list[Item]) -> Item:
    return {"type": "message", "role": role, "content": content}


def _input_text(text: str) -> Item:
    return {"type": "input_text", "text": text}


def _content(part: Part) -> Item:
    try:
        if isinstance(part, AudioInput) and (samples := _samples(part.read())):
            sound = {"type": "input_audio", "audio": base64_text(samples)}
            return sound | ({"transcript": part.transcript} if part.transcript else {})
        if isinstance(part, ImageInput):
            image = part_message(part)["image_url"]
            return {"type": "input_image", "image_url": image.pop("url"), **image}
    except (AudioFileMissing, KeyError) as error:
        log.warning("seeding a session without a file that is gone (%s)", error)
    return _input_text(_in_words(part))


def _samples(data: bytes) -> bytes:
    """Return a WAV file as 24 kHz mono s16le; empty where it cannot be decoded here."""
    layout = walked(data)
    if layout is None or layout.encoding is None or not layout.rate:
        return b""
    samples = as_s16(data[layout.start : layout.start + layout.size], layout.encoding)
    return resampled(as_mono(samples, layout.channels), layout.rate, PCM_RATE)


def _call(call: ToolCall) -> Item:
    is_text = call.type == "custom"  # which a session has not
    arguments = orjson.dumps({"input": call.arguments}).decode() if is_text else call.arguments
    return {
        "type": "function_call",
        "call_id": short_call_id(call.id),
        "name": wire_name(call.name),
        "arguments": arguments,
    }

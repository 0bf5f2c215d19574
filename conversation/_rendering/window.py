"""The part of a long history that is sent: old sound goes as words, old exchanges are left out.

Pure. Estimates never count base64: user sound is 10 tokens a second, a spoken answer 20 and its
words, as OpenAI counts them; text is its bytes / 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import attrs

from conversation._rendering.forms import (
    NO_VOICE,
    Form,
    Moment,
    Prepared,
    is_voice_model,
)
from conversation._rendering.messages import instructions_item, no_result_item
from conversation._values.parts import AudioInput
from conversation._values.turns import AssistantTurn, ToolCall, ToolTurn, UserTurn
from conversation.errors import ContextTooSmall, InvalidSetting

_WINDOW, _LARGEST_ANSWER = 128_000, 16_384
"""Tokens, of all of OpenAI's audio models."""

_OLD = "its sound has grown old"


def _count(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is None and field.default is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        msg = f"{field.name} must be a whole number >= 0, got {value!r}"
        raise InvalidSetting(msg)


@attrs.frozen
class Context:
    """Limits of a request. All turns are kept, whatever is sent.

    Attributes:
        max_prompt_tokens: Estimated tokens of a request; beyond them, the oldest whole exchanges
            are left out. None: the model's window less its largest answer, for OpenAI's audio
            models (111,616); for others, no limit.
        max_upload_bytes: Bytes of sound, pictures and files in a request, as base64; likewise.
        user_audio_turns: Number of the last spoken user turns that are sent as sound; older ones
            are sent as their words, where they are known. None: all.
        assistant_audio_turns: Number of the last spoken answers that may be sent as voice; older
            ones are sent as their transcripts. None: all.
        max_tool_result_tokens: Estimated tokens of each tool's result in a request; of longer ones,
            only the beginning is sent. None: all of it.
    """

    max_prompt_tokens: int | None = attrs.field(default=None, validator=_count)
    max_upload_bytes: int = attrs.field(default=20_000_000, validator=_count)
    user_audio_turns: int | None = attrs.field(default=None, validator=_count)
    assistant_audio_turns: int | None = attrs.field(default=None, validator=_count)
    max_tool_result_tokens: int | None = attrs.field(default=None, validator=_count)

    def limit_for(self, model: str) -> int | None:
        """Return the largest number of prompt tokens for this model; None: no limit is known."""
        if self.max_prompt_tokens is None and is_voice_model(model):
            return _WINDOW - _LARGEST_ANSWER
        return self.max_prompt_tokens

    @property
    def ages(self) -> bool:
        """True if old sound is sent as words."""
        return self.user_audio_turns is not None or self.assistant_audio_turns is not None


class Size(NamedTuple):
    """The size of a part of a request.

    Attributes:
        tokens: Estimated tokens.
        upload: Bytes of base64.
    """

    tokens: int = 0
    upload: int = 0


@attrs.frozen
class Limits:
    """Limits of a request, and how the estimate is corrected.

    Attributes:
        tokens: The most tokens; None: no limit.
        upload: The most bytes of base64.
        fixed: Tokens of the tools' descriptions.
        scale: Tokens that the last request cost, divided by their estimate.
        measured: The estimate for the last request. Beyond it nothing is known that would correct
            the estimate: a few words with the overhead of each request tell little of long ones.
    """

    tokens: int | None
    upload: int
    fixed: int = 0
    scale: float = 1.0
    measured: float = math.inf

    def corrected(self, tokens: int) -> float:
        """Return the expected cost of so many estimated tokens, with the fixed ones."""
        tokens += self.fixed
        return tokens + (self.scale - 1) * min(tokens, self.measured)

    def hold(self, tokens: int, upload: int) -> bool:
        """Return True if so much may be sent."""
        fits = self.tokens is None or self.corrected(tokens) <= self.tokens
        return fits and upload <= self.upload


class Window(NamedTuple):
    """The turns that are sent.

    Attributes:
        first: Position of the first turn from which on all turns are sent.
        items: All prepared items that are sent, in order.
        wordless: Positions of turns whose old sound is sent for want of words.
    """

    first: int
    items: Sequence[Prepared]
    wordless: Sequence[int] = ()


def window(
    prepared: Callable[[int], Prepared],
    count: int,
    *,
    systems: Sequence[int],
    instructions: str | None,
    context: Context,
    limits: Limits,
    at: Moment,
) -> Window:
    """Walk back from the newest turn, exchange by exchange, until the limits are reached.

    An exchange is a user turn and what follows it. The newest one is always sent; so are
    instructions and system turns.

    Args:
        prepared: Returns the prepared turn of a position; called for no more than are looked at.
        count: Number of turns.
        systems: Positions of all system turns.
        instructions: The instructions, sent first.
        context: From when on sound is old.
        limits: The limits.
        at: The moment of the request.

    Raises:
        ContextTooSmall: if the newest exchange alone exceeds the limits.
    """
    head = [] if instructions is None else [instructions_item(instructions)]
    staying = [*head, *map(prepared, systems)]
    tokens, upload = sum(item.tokens for item in staying), 0
    aging = _Aging(context)
    ages, limit = context.ages, at.limit
    results: dict[str, list[Prepared]] = {}  # of calls that are still to come
    sent: list[Prepared] = []  # newest first
    exchange: list[Prepared] = []
    first = count
    for position in range(count - 1, -1, -1):
        item = prepared(position)
        turn = item.turn
        if item.in_tools and isinstance(turn, ToolTurn):
            results.setdefault(turn.tool_call_id, []).append(item)
        else:
            if item.in_tools and isinstance(turn, AssistantTurn):
                answers = [_result(call, results) for call in reversed(turn.tool_calls)]
                exchange += answers
                tokens += sum(answer.tokens for answer in answers)
            if ages:
                item = aging.aged(item, position)
            exchange.append(item)
            if not item.stays:
                tokens += item.voice_tokens if limit < item.voice_end else item.tokens
                upload += item.upload
        if item.begins or not position:
            if not limits.hold(tokens, upload):
                if first == count:
                    raise _too_small(Size(tokens, upload), limits)
                break
            first = position
            sent += exchange
            exchange = []
    if not count and not limits.hold(tokens, upload):
        raise _too_small(Size(tokens, upload), limits)
    sent.reverse()
    before = (prepared(position) for position in systems if position < first)
    wordless = [position for position in aging.wordless if position >= first]
    return Window(first, [*head, *before, *sent], wordless)


def _result(call: ToolCall, results: Mapping[str, list[Prepared]]) -> Prepared:
    waiting = results.get(call.id)
    return waiting.pop() if waiting else no_result_item(call.id)


class _Aging:
    """Counts sound from the newest turn back, and takes it out of what is old."""

    def __init__(self, context: Context) -> None:
        self._sounds = math.inf if (n := context.user_audio_turns) is None else n
        self._answers = math.inf if (n := context.assistant_audio_turns) is None else n
        self.wordless: list[int] = []

    def aged(self, item: Prepared, position: int) -> Prepared:
        turn = item.sent or item.turn
        if isinstance(turn, UserTurn) and any(isinstance(p, AudioInput) for p in turn.content):
            self._sounds -= 1
            if self._sounds < 0 and item.words is not None:
                return item._replace(
                    form=Form.WORDS,
                    reason=_OLD,
                    message=item.words.message,
                    tokens=item.words.tokens,
                    upload=item.words.upload,
                )
            if self._sounds < 0:
                self.wordless.append(position)
        elif isinstance(turn, AssistantTurn) and turn.audio:
            self._answers -= 1
            if self._answers < 0 and item.voice_end > NO_VOICE:
                if item.form not in (Form.PLACEHOLDER, Form.TOOL_CALLS):
                    return item._replace(voice_end=NO_VOICE, reason=_OLD)
                if item.form is Form.PLACEHOLDER:
                    self.wordless.append(position)
        return item


def marked(items: Sequence[Prepared], window: Window) -> list[Prepared]:
    """Return all items in order: those of the window, the others marked as left out."""
    sent = {id(item.turn): item for item in window.items if item.turn is not None}
    marked: list[Prepared] = []
    is_sent = not window.first
    for item in items:
        if item.turn is not None and not isinstance(item.turn, ToolTurn):
            is_sent = id(item.turn) in sent
        if is_sent or item.stays:
            marked.append(sent.get(id(item.turn), item))
        elif item.turn is not None:  # else a result that nobody gave
            marked.append(item.left_out("over budget"))
    return marked


def size_of(items: Iterable[Prepared], at: Moment) -> Size:
    """Return the size of the items at that moment."""
    tokens = upload = 0
    for item in items:
        tokens += item.voice_tokens if at.limit < item.voice_end else item.tokens
        upload += item.upload
    return Size(tokens, upload)


def _too_small(size: Size, limits: Limits) -> ContextTooSmall:
    tokens = math.ceil(limits.corrected(size.tokens))
    convert = "AudioInput.convert(data, to='mp3') makes sound smaller; or "
    msg = (
        f"the newest exchange alone, with instructions and system turns, has some {tokens} tokens "
        f"(limit: {limits.tokens}) and {size.upload} bytes of sound, pictures and files (limit: "
        f"{limits.upload}); {convert if size.upload > limits.upload else ''}shorten it, raise the "
        "limits of Context, or cut long tool results by its max_tool_result_tokens"
    )
    return ContextTooSmall(
        msg,
        tokens=tokens,
        max_prompt_tokens=limits.tokens,
        upload_bytes=size.upload,
        max_upload_bytes=limits.upload,
    )

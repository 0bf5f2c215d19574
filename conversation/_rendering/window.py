"""The part of a long history that is sent: old sound goes as words, old exchanges are left out.

Where they are summarised, the window begins behind the turns that the last summary covers. When the
rest exceeds the limits, the next summary takes so much of it that a quarter of the room is free:
it serves several exchanges, and nothing is neither sent nor summarised until then.

Pure. Estimates never count base64: user sound is 10 tokens a second, a spoken answer 20 and its
words, as OpenAI counts them; text is its bytes / 4.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import attrs

from conversation._rendering.forms import NO_VOICE, Form, Moment, Prepared
from conversation._rendering.messages import instructions_item, no_result_item, summary_item
from conversation._rendering.unseen import is_voice_model
from conversation._values.parts import AudioInput
from conversation._values.summary import Summary
from conversation._values.turns import AssistantTurn, ToolCall, ToolTurn, Turn, UserTurn
from conversation.errors import ContextTooSmall, InvalidSetting

_WINDOW, _LARGEST_ANSWER = 128_000, 16_384
"""Tokens, of all of OpenAI's audio models."""

_OLD = "its sound has grown old"

_ROOM = 0.75
"""Share of the limits that is used behind a new summary, unless the newest exchange needs more."""

_SUMMARY = 8
"""A summary has at most this part of the tokens of a request …"""

_SUMMARY_TOKENS = 4000
"""… or so many, where no limit is known."""

_PORTION_TOKENS = 50_000
"""The most tokens that are summarised at once, where no limit of the requests is known."""

Summarizer: TypeAlias = Callable[[tuple[Turn, ...], str | None], str | Awaitable[str]]


def _summarizer(_: object, __: object, value: Any) -> None:
    is_model = isinstance(value, str) and bool(value.strip())
    if not (value is None or is_model or (callable(value) and not isinstance(value, type))):
        msg = (
            "summarize must be a model's name such as 'gpt-4.1-mini', or a function of (turns, "
            f"previous summary), got {value!r}"
        )
        raise InvalidSetting(msg)


def _count(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is None and field.default is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        msg = f"{field.name} must be a whole number >= 0, got {value!r}"
        raise InvalidSetting(msg)


@attrs.frozen
class Context:
    """Limits of a request. All turns are kept, whatever is sent.

    What is left out is always the oldest whole exchanges, and never instructions, system turns,
    half of a tool call or the newest exchange (`ContextTooSmall` tells the numbers, before anything
    is sent). Tokens are estimated, and corrected by each answer's `usage`: user sound is 10 a
    second, an answer 20 a second and its words, text its bytes / 4.

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
        summarize: A model's name, or a function of (turns, previous summary or None) that returns
            text; in `AsyncConversation` also an async one. What is left out is summarised, before
            the first request of an exchange and once for several, and the summary is sent behind
            the instructions. It is saved with the conversation, and made of the last one and the
            turns that were left out since; it is dropped when turns that it covers are taken back
            or corrected. If it fails, there is a log warning. None: no summaries. A model costs
            money, and its tokens count in `usage`.
    """

    max_prompt_tokens: int | None = attrs.field(default=None, validator=_count)
    max_upload_bytes: int = attrs.field(default=20_000_000, validator=_count)
    user_audio_turns: int | None = attrs.field(default=None, validator=_count)
    assistant_audio_turns: int | None = attrs.field(default=None, validator=_count)
    max_tool_result_tokens: int | None = attrs.field(default=None, validator=_count)
    summarize: str | Summarizer | None = attrs.field(default=None, validator=_summarizer)

    def limit_for(self, model: str) -> int | None:
        """Return the largest number of prompt tokens for this model; None: no limit is known."""
        if self.max_prompt_tokens is None and is_voice_model(model):
            return _WINDOW - _LARGEST_ANSWER
        return self.max_prompt_tokens

    @property
    def ages(self) -> bool:
        """True if old sound is sent as words."""
        return self.user_audio_turns is not None or self.assistant_audio_turns is not None


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

    @property
    def safe(self) -> float:
        """Estimated tokens that are sure to be within the limit, whatever the correction."""
        most = math.inf if self.tokens is None else self.tokens
        return most / max(self.scale, 1) - self.fixed - 1

    @property
    def room(self) -> Limits:
        """The limits of what is sent behind a new summary."""
        tokens = None if self.tokens is None else int(self.tokens * _ROOM)
        return attrs.evolve(self, tokens=tokens, upload=int(self.upload * _ROOM))

    @property
    def summary(self) -> int:
        """The most tokens of a summary."""
        if self.tokens is None:
            return _SUMMARY_TOKENS
        return max(int(self.tokens / _SUMMARY / max(self.scale, 1)), 1)

    @property
    def portion(self) -> int:
        """The most tokens that are summarised at once."""
        return _PORTION_TOKENS if self.tokens is None else self.tokens


class Window(NamedTuple):
    """The turns that are sent.

    Attributes:
        first: Position of the first turn from which on all turns are sent.
        items: All prepared items that are sent, in order.
        wordless: Positions of turns whose old sound is sent for want of words.
        roomy: Position of the first turn from which on all would be sent behind a new summary.
        summary: The summary that is sent.
    """

    first: int
    items: Sequence[Prepared]
    wordless: Sequence[int] = ()
    roomy: int = 0
    summary: Prepared | None = None


def window(
    newest_first: Callable[[], Iterable[Prepared]],
    count: int,
    *,
    systems: Sequence[tuple[int, Prepared]],
    instructions: str | None,
    context: Context,
    limits: Limits,
    at: Moment,
    summary: Summary | None = None,
) -> Window:
    """Walk back from the newest turn, exchange by exchange, until the limits are reached.

    An exchange is a user turn and what follows it. The newest one is always sent; so are
    instructions and system turns.

    Args:
        newest_first: Returns the prepared turns, which are taken as far as they are looked at.
        count: Number of turns.
        systems: All system turns, with their positions.
        instructions: The instructions, sent first.
        context: From when on sound is old.
        limits: The limits.
        at: The moment of the request.
        summary: Sent in place of the turns that it covers; an empty one is not sent, nor are they.

    Raises:
        ContextTooSmall: if the newest exchange alone exceeds the limits.
    """
    head = [] if instructions is None else [instructions_item(instructions)]
    memory = None if summary is None or not summary.text else summary_item(summary)
    head += [] if memory is None else [memory]
    room = None if context.summarize is None else limits.room
    start = 0 if summary is None else summary.turns
    staying = [*head, *(item for _, item in systems)]
    tokens, upload = sum(item.tokens for item in staying), 0
    aging = _Aging(context)
    ages, limit, safe = context.ages, at.limit, limits.safe
    results: dict[str, list[Prepared]] = {}  # of calls that are still to come
    looked_at: list[Prepared] = []  # newest first
    whole, first, roomy = 0, count, count
    for position, item in zip(range(count - 1, start - 1, -1), newest_first(), strict=False):
        in_tools = item.in_tools
        if in_tools and isinstance(item.turn, ToolTurn):
            results.setdefault(item.turn.tool_call_id, []).append(item)
        else:
            if in_tools and isinstance(item.turn, AssistantTurn):
                answers = [_result(call, results) for call in reversed(item.turn.tool_calls)]
                looked_at += answers
                tokens += sum(answer.tokens for answer in answers)
            sent = aging.aged(item, position) if ages else item
            looked_at.append(sent)
            if not sent.stays:
                tokens += sent.voice_tokens if limit < sent.voice_end else sent.tokens
                upload += sent.upload
        if item.begins or position == start:
            if (tokens > safe or upload > limits.upload) and not limits.hold(tokens, upload):
                if first == count:
                    raise _too_small(tokens, upload, limits)
                break
            first, whole = position, len(looked_at)
            if room is None or roomy == count or room.hold(tokens, upload):
                roomy = first
    if first == count and not limits.hold(tokens, upload):
        raise _too_small(tokens, upload, limits)
    before = [item for position, item in systems if position < first]
    wordless = [position for position in aging.wordless if position >= first]
    return Window(first, [*head, *before, *looked_at[:whole][::-1]], wordless, roomy, memory)


def portions(
    prepared: Callable[[int], Prepared], window: Window, start: int, limits: Limits
) -> list[range]:
    """Return the positions of the turns to be summarised, in portions of whole exchanges.

    Args:
        prepared: Returns the prepared turn of a position.
        window: The turns that would be sent now.
        start: Number of turns that are summarised already.
        limits: The limits of the request.
    """
    if window.first <= start:
        return []
    ends = [i for i in range(start + 1, window.roomy) if prepared(i).begins]
    found, begin, end, total = list[range](), start, start, 0
    for stop in (*ends, window.roomy):
        exchange = map(prepared, range(end, stop))
        tokens = sum(item.tokens for item in exchange if not item.stays)
        if total and total + tokens > limits.portion:
            found.append(range(begin, end))
            begin, total = end, 0
        end, total = stop, total + tokens
    return [*found, range(begin, end)]


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


def marked(
    items: Sequence[Prepared], window: Window, summarized: Collection[int] = ()
) -> list[Prepared]:
    """Return all items in order: those of the window, the others marked as left out.

    Args:
        items: All of them, instructions first.
        window: What is sent of them.
        summarized: The `id` of each turn that a summary covers.
    """
    sent = {id(item.turn): item for item in window.items if item.turn is not None}
    marked: list[Prepared] = []
    is_sent = not window.first
    for item in items:
        if item.turn is not None and not isinstance(item.turn, ToolTurn):
            is_sent = id(item.turn) in sent
        if is_sent or item.stays:
            marked.append(sent.get(id(item.turn), item))
        elif item.turn is not None:  # else a result that nobody gave
            is_covered = window.summary is not None and id(item.turn) in summarized
            marked.append(item.left_out("in the summary" if is_covered else "over budget"))
    if window.summary is not None:
        marked.insert(bool(items and items[0].turn is None), window.summary)
    return marked


def tokens_at(items: Iterable[Prepared], at: Moment) -> int:
    """Return the estimated tokens of the items at that moment."""
    return sum(item.voice_tokens if at.limit < item.voice_end else item.tokens for item in items)


def _too_small(estimate: int, upload: int, limits: Limits) -> ContextTooSmall:
    tokens = math.ceil(limits.corrected(estimate))
    convert = "AudioInput.convert(data, to='mp3') makes sound smaller; or "
    msg = (
        f"the newest exchange alone, with instructions and system turns, has some {tokens} tokens "
        f"(limit: {limits.tokens}) and {upload} bytes of sound, pictures and files (limit: "
        f"{limits.upload}); {convert if upload > limits.upload else ''}shorten it, raise the "
        "limits of Context, or cut long tool results by its max_tool_result_tokens"
    )
    return ContextTooSmall(
        msg,
        tokens=tokens,
        max_prompt_tokens=limits.tokens,
        upload_bytes=upload,
        max_upload_bytes=limits.upload,
    )

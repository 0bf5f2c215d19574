"""What of a long history is sent: what grows old goes as words, what is too much is left out.

Pure, like rendering. Estimates never count base64: user sound is 10 tokens a second, a spoken
answer 20 and its words, as OpenAI counts them; text is its bytes / 4.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import attrs

from conversation._rendering.forms import NO_VOICE, Form, Moment, Prepared
from conversation._values.parts import AudioInput
from conversation._values.turns import AssistantTurn, Turn, UserTurn
from conversation.errors import ContextTooSmall, InvalidSetting

_WINDOW, _LARGEST_ANSWER = 128_000, 16_384
"""Tokens, of all of OpenAI's audio models."""

_OLD = "its sound has grown old"

_AUDIO_MODELS = ("gpt-audio", "gpt-4o-audio-preview", "gpt-4o-mini-audio-preview")


def _count(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is None and field.default is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        msg = f"{field.name} is a number, 0 or more, not {value!r}"
        raise InvalidSetting(msg)


@attrs.frozen
class Context:
    """What of a long history is sent; all of it is kept, whatever is sent.

    Attributes:
        max_prompt_tokens: Tokens of a request, as they are estimated; beyond them, the oldest whole
            exchanges are left out. None: the model's window less its largest answer, for OpenAI's
            audio models (111,616); for others, no bound.
        max_upload_bytes: Bytes of sound, pictures and files in a request, as base64; likewise.
        user_audio_turns: How many of the last spoken user turns go as sound; older ones go as their
            words, where they are known. None: all.
        assistant_audio_turns: How many of the last spoken answers may go as voice; older ones go as
            their transcripts. None: all.
    """

    max_prompt_tokens: int | None = attrs.field(default=None, validator=_count)
    max_upload_bytes: int = attrs.field(default=20_000_000, validator=_count)
    user_audio_turns: int | None = attrs.field(default=None, validator=_count)
    assistant_audio_turns: int | None = attrs.field(default=None, validator=_count)

    def limit_for(self, model: str) -> int | None:
        """The most prompt tokens for this model; None: no bound is known."""
        if self.max_prompt_tokens is None and model.startswith(_AUDIO_MODELS):
            return _WINDOW - _LARGEST_ANSWER
        return self.max_prompt_tokens


class Bulk(NamedTuple):
    """How much there is.

    Attributes:
        tokens: By the estimate.
        upload: Bytes of base64.
    """

    tokens: int = 0
    upload: int = 0


class Totals:
    """How much a growing history is at most, without counting it anew each time."""

    def __init__(self) -> None:
        self._tokens = self._upload = 0
        # Of what has a voice: until when, in order, and what it costs more for so long.
        self._ends: list[float] = []
        self._extras: list[int] = []

    def add(self, item: Prepared) -> None:
        """Count one more."""
        # Words can be more than the sound for which they are sent when it has grown old.
        self._tokens += max(item.tokens, item.words.tokens if item.words else 0)
        self._upload += item.upload
        if item.voice_end > NO_VOICE:
            at = bisect.bisect_right(self._ends, item.voice_end)
            self._ends.insert(at, item.voice_end)
            self._extras.insert(at, item.voice_tokens - item.tokens)

    def bulk(self, at: Moment) -> Bulk:
        """How much all of it is at most at that moment."""
        living = bisect.bisect_right(self._ends, at.limit)
        return Bulk(self._tokens + sum(self._extras[living:]), self._upload)


@attrs.frozen
class Limits:
    """How much may be sent, by the estimate.

    Attributes:
        tokens: None: no bound.
        upload: Bytes of base64.
        fixed: Tokens that are sent besides: descriptions of tools.
        scale: What the last request cost, by what was estimated for it.
        measured: The tokens that were estimated for it. Of more, nothing is known that would
            correct it: a few words with what every request has besides say little of long ones.
    """

    tokens: int | None
    upload: int
    fixed: int = 0
    scale: float = 1.0
    measured: float = math.inf

    def corrected(self, tokens: int) -> float:
        """What so many tokens will cost, with those that are sent besides."""
        tokens += self.fixed
        return tokens + (self.scale - 1) * min(tokens, self.measured)

    def hold(self, bulk: Bulk) -> bool:
        """Whether so much may be sent."""
        fits = self.tokens is None or self.corrected(bulk.tokens) <= self.tokens
        return fits and bulk.upload <= self.upload


def aged(items: Sequence[Prepared], context: Context) -> Sequence[Prepared]:
    """The items, old sound in them as words, where they are known."""
    if context.user_audio_turns is None and context.assistant_audio_turns is None:
        return items
    out = list(items)
    for position in old_sounds([item.turn for item in items], context.user_audio_turns):
        item = items[position]
        if item.words is not None:
            out[position] = item._replace(
                form=Form.WORDS,
                reason=_OLD,
                message=item.words.message,
                tokens=item.words.tokens,
                upload=item.words.upload,
            )
    for position in _old_answers(items, context.assistant_audio_turns):
        item = items[position]
        if item.voice_end > NO_VOICE and item.form not in (Form.PLACEHOLDER, Form.TOOL_CALLS):
            out[position] = item._replace(voice_end=NO_VOICE, reason=_OLD)
    return out


def old_sounds(turns: Sequence[Turn | None], kept: int | None) -> list[int]:
    """Where user sound is that is older than the last so many."""
    if kept is None:
        return []
    sounds = [
        position
        for position, turn in enumerate(turns)
        if isinstance(turn, UserTurn) and any(isinstance(p, AudioInput) for p in turn.content)
    ]
    return _all_but_last(sounds, kept)


def _old_answers(items: Sequence[Prepared], kept: int | None) -> list[int]:
    if kept is None:
        return []
    spoken = [
        position
        for position, item in enumerate(items)
        if isinstance(item.turn, AssistantTurn) and item.turn.audio
    ]
    return _all_but_last(spoken, kept)


def wordless(items: Sequence[Prepared], context: Context) -> bool:
    """Whether old sound is left as it is for want of words, among items that are `aged`."""
    if context.user_audio_turns is None and context.assistant_audio_turns is None:
        return False
    sounds = old_sounds([item.turn for item in items], context.user_audio_turns)
    answers = _old_answers(items, context.assistant_audio_turns)
    return any(items[position].form is not Form.WORDS for position in sounds) or any(
        items[position].voice_end > NO_VOICE and items[position].form is Form.PLACEHOLDER
        for position in answers
    )


def _all_but_last(positions: list[int], kept: int) -> list[int]:
    return positions[: max(0, len(positions) - kept)]


def first_sent(items: Sequence[Prepared], at: Moment, limits: Limits) -> int:
    """From which item on all are sent; before it, only instructions and system turns are.

    It begins an exchange: a user turn and what follows it. The newest one is always sent.

    Raises:
        ContextTooSmall: if that alone is too much.
    """
    count, limit = len(items), at.limit
    staying = bulk_of([item for item in items if item.stays], at)
    # Of the last 0, 1, 2, … items. It is `cost` of each, spelled out: that halves the time.
    costs = [
        0 if stays or form is Form.LEFT_OUT else voiced if limit < end else plain
        for _, end, form, _, _, _, plain, voiced, _, _, stays, _ in reversed(items)
    ]
    sizes = [0 if item.stays else item.upload for item in reversed(items)]
    tokens = list(accumulate(costs, initial=staying.tokens))
    uploads = list(accumulate(sizes, initial=staying.upload))

    def is_too_much(last: int) -> bool:
        return not limits.hold(Bulk(tokens[last], uploads[last]))

    fitting = bisect.bisect_left(range(count + 1), True, key=is_too_much) - 1
    for position in range(max(0, count - fitting), count):
        if _begins(items, position):
            return position
    newest = next((p for p in range(count - 1, -1, -1) if _begins(items, p)), 0)
    last = count - newest
    if is_too_much(last):
        raise _too_small(Bulk(tokens[last], uploads[last]), limits)
    return newest


def _begins(items: Sequence[Prepared], position: int) -> bool:
    """Whether an exchange begins there."""
    return position == 0 or isinstance(items[position].turn, UserTurn)


def sent(items: Sequence[Prepared], first: int) -> Sequence[Prepared]:
    """The items that are sent, without the others."""
    return [*(item for item in items[:first] if item.stays), *items[first:]] if first else items


def marked(items: Sequence[Prepared], first: int) -> Sequence[Prepared]:
    """All items, those that are not sent marked as left out."""
    before = (item if item.stays else item.left_out("over budget") for item in items[:first])
    return [*before, *items[first:]]


def bulk_of(items: Sequence[Prepared], at: Moment) -> Bulk:
    """How much the items are at that moment."""
    costs = [cost(item, at) for item in items]
    return Bulk(sum(tokens for tokens, _ in costs), sum(upload for _, upload in costs))


def cost(item: Prepared, at: Moment) -> tuple[int, int]:
    """Tokens by the estimate, and bytes of base64."""
    if item.form is Form.LEFT_OUT:
        return 0, 0
    tokens = item.voice_tokens if at.limit < item.voice_end else item.tokens
    return tokens, item.upload


def _too_small(bulk: Bulk, limits: Limits) -> ContextTooSmall:
    tokens = math.ceil(limits.corrected(bulk.tokens))
    msg = (
        f"the newest exchange alone, with instructions and system turns, is some {tokens} tokens "
        f"(at most {limits.tokens}) and {bulk.upload} bytes of sound, pictures and files (at most "
        f"{limits.upload}); make it shorter, or raise the bounds of context"
    )
    return ContextTooSmall(
        msg,
        tokens=tokens,
        max_prompt_tokens=limits.tokens,
        upload_bytes=bulk.upload,
        max_upload_bytes=limits.upload,
    )

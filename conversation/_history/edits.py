"""Edits of turns, pure: which may be added, where one is found, what a cut or a removal leaves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import attrs

from conversation._values.parts import NO_WORDS_YET, AudioInput
from conversation._values.sound import cut as cut_sound
from conversation._values.summary import Summary
from conversation._values.turns import (
    AssistantAudio,
    AssistantTurn,
    SystemTurn,
    ToolTurn,
    Turn,
    UserTurn,
    open_calls,
    own_text,
)
from conversation.errors import AudioFileMissing, InvalidTurn, UnknownToolCall

INHERITED_TURNS = "inherited_turns"
"""Label: how many turns of a fork, the first ones, were paid for by its origin."""

SUMMARY = "summary"
"""Label: the summary of the first turns: its `text`, and the number of `turns`."""

_SECONDS_PER_WORD = 0.4
"""Pace of OpenAI's voices."""


def check(turn: Turn) -> None:
    """Refuse a turn that cannot be added to any conversation.

    Raises:
        InvalidTurn: if it is no turn, or a user's or the system's without content.
    """
    match turn:
        case UserTurn():
            if not any(part.strip() if isinstance(part, str) else part for part in turn.content):
                msg = "a user turn must have words, sound, a picture or a file, got none"
                raise InvalidTurn(msg)
        case SystemTurn():
            if not turn.text.strip():
                msg = "a system turn must have words, got none"
                raise InvalidTurn(msg)
        case AssistantTurn() | ToolTurn():
            pass
        case _:
            msg = (
                f"expected a UserTurn, AssistantTurn, SystemTurn or ToolTurn, got "
                f"{type(turn).__name__}; add_user(…) takes text and sound"
            )
            raise InvalidTurn(msg)


def listed(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """Return several turns that are to be added.

    Raises:
        InvalidTurn: if it is no sequence.
    """
    if not isinstance(turns, Iterable):
        msg = f"extend takes a sequence of turns, got {type(turns).__name__}; add(turn) takes one"
        raise InvalidTurn(msg)
    return tuple(turns)


def unknown_call(call_id: str, turns: Sequence[Turn]) -> UnknownToolCall:
    """Return the error for a result that answers none of the calls in these turns."""
    waiting = tuple(open_calls(turns))
    known = ", ".join([*map(repr, waiting[:10]), *["…"][: len(waiting) > 10]]) or "none"
    msg = (
        f"no tool call {call_id!r} waits for a result (waiting: {known}); add one result for each "
        "call in an AssistantTurn's tool_calls"
    )
    return UnknownToolCall(msg, tool_call_id=call_id, open_calls=waiting)


def start_of_last_exchange(turns: Sequence[Turn], *, answer_only: bool) -> int:
    """Return the position of the last user turn, or the one behind it.

    Without a user turn, the position of the first turn that is not the system's.
    """
    for position in range(len(turns) - 1, -1, -1):
        if isinstance(turns[position], UserTurn):
            return position + answer_only
    others = (i for i, turn in enumerate(turns) if not isinstance(turn, SystemTurn))
    return next(others, len(turns))


def position_of(turn: Turn, turns: Sequence[Turn]) -> int:
    """Return the position of a turn: found by identity, else as an equal one.

    Else it is the only one that differs in nothing but what is learned of a spoken turn later: its
    words, the loss of its id, the part that was heard.

    Raises:
        InvalidTurn: if it is not among the turns, or equals several of them.
    """
    for position in range(len(turns) - 1, -1, -1):
        if turns[position] is turn:
            return position
    if (count := turns.count(turn)) == 1:
        return turns.index(turn)
    if count:
        msg = f"this {type(turn).__name__} equals {count} of the turns; take the one from turns"
        raise InvalidTurn(msg)
    core: Any = _unlearned(turn)
    if core is not turn and core.at is not None:
        same = [i for i, one in enumerate(turns) if one.at == core.at and _unlearned(one) == core]
        if len(same) == 1:
            return same[0]
    msg = f"this {type(turn).__name__} is not in the conversation; take it from turns"
    raise InvalidTurn(msg)


def _unlearned(turn: Turn) -> Turn:
    """Return a spoken turn without what may be learned of it later; others as they are."""
    if isinstance(turn, AssistantTurn) and turn.audio and turn.audio.id:
        audio = AssistantAudio(turn.audio.id)
        return attrs.evolve(turn, content=None, audio=audio, interrupted=False)
    if isinstance(turn, UserTurn) and any(isinstance(part, AudioInput) for part in turn.content):
        parts = (
            attrs.evolve(part, transcript=None, refused_by=None)
            if isinstance(part, AudioInput)
            else part
            for part in turn.content
        )
        return attrs.evolve(turn, content=tuple(parts))
    return turn


def inherited(header: Mapping[str, Any]) -> int:
    """Return the number of turns, the first ones, that were paid for elsewhere."""
    count = header.get(INHERITED_TURNS)
    return count if type(count) is int and count > 0 else 0


def labels_without(header: Mapping[str, Any], dropped: AbstractSet[int] | range) -> dict[str, Any]:
    """Return the labels as they are once the turns at these positions are dropped.

    Every edit that drops turns goes through here: a label that speaks of turns is mended here.
    """
    labels, count = dict(header), inherited(header)
    if dropped:
        labels = without_summary(labels, min(dropped))
    if gone := sum(position < count for position in dropped):
        labels[INHERITED_TURNS] = count - gone
    return labels


def summary_in(header: Mapping[str, Any]) -> Summary | None:
    """Return the summary that the labels hold; None if there is none, or what is no summary."""
    saved = header.get(SUMMARY)
    if isinstance(saved, dict):
        text, turns = saved.get("text"), saved.get("turns")
        if isinstance(text, str) and text.strip() and type(turns) is int and turns > 0:
            return Summary(text, turns)
    return None


def without_summary(header: dict[str, Any], position: int) -> dict[str, Any]:
    """Return the labels without a summary that covers a turn from this position on."""
    found = summary_in(header)
    if found is None or found.turns <= position:
        return header
    return {name: value for name, value in header.items() if name != SUMMARY}


def with_transcript(turn: Turn, text: str) -> AssistantTurn | UserTurn:
    """Return a spoken turn with other words; they may be the first of a turn without its sound.

    Raises:
        InvalidTurn: if it has no sound or several, or `text` is no text.
    """
    if not isinstance(text, str):
        msg = f"a transcript must be text, got {type(text).__name__}"
        raise InvalidTurn(msg)
    if isinstance(turn, AssistantTurn) and turn.audio:
        return attrs.evolve(turn, audio=attrs.evolve(turn.audio, transcript=text))
    parts = turn.content if isinstance(turn, UserTurn) else ()
    sounds = [part for part in parts if isinstance(part, AudioInput) or part == NO_WORDS_YET]
    if not isinstance(turn, UserTurn) or len(sounds) != 1:
        msg = f"a transcript belongs to a turn with one sound, got one with {len(sounds)}"
        raise InvalidTurn(msg)
    sound = sounds[0]
    said = attrs.evolve(sound, transcript=text) if isinstance(sound, AudioInput) else text
    new = attrs.evolve(turn, content=tuple(said if part is sound else part for part in parts))
    check(new)
    return new


def truncated(turn: Turn | None, seconds: float, which: str = "the last") -> AssistantTurn:
    """Return an answer cut to its first seconds; the same one if it is not longer.

    Of one that was interrupted before its sound began, nothing was heard.

    Raises:
        InvalidTurn: if it is no spoken answer, or its length is unknown.
    """
    audio = turn.audio if isinstance(turn, AssistantTurn) else None
    is_unspoken = isinstance(turn, AssistantTurn) and turn.interrupted and turn.voice_dropped
    if not isinstance(turn, AssistantTurn) or (audio is None and not is_unspoken):
        what = "there is no turn" if turn is None else f"{which} turn is no spoken answer"
        msg = f"{what}; call truncate(seconds) right after one, or pass it"
        raise InvalidTurn(msg)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        msg = f"seconds must be a number >= 0, got {seconds!r}"
        raise InvalidTurn(msg)
    if audio is None:
        content = _first_words(turn.content, 0)
        return turn if content == turn.content else attrs.evolve(turn, content=content)
    if audio.duration is None and audio.data is None and turn.interrupted:
        return _cut(turn, audio, 0)
    if audio.duration is None:
        msg = f"the length of {which} answer is unknown; shorten its words by set_transcript(…)"
        raise InvalidTurn(msg)
    return turn if seconds >= audio.duration else _cut(turn, audio, seconds)


def _cut(turn: AssistantTurn, audio: AssistantAudio, seconds: float) -> AssistantTurn:
    share = seconds / (spoken_length(turn, audio) or 1)
    try:
        sound = audio.read() if audio.data is not None else None
    except AudioFileMissing:
        sound = None
    shorter = attrs.evolve(
        audio,
        transcript=_first_words(audio.transcript, share),
        data=cut_sound(sound, audio.format, seconds) if sound else audio.data,
        duration=abs(float(seconds)),  # not -0.0
    )
    # Without a transcript, the text is what was said.
    is_said = not own_text(turn) or not (audio.transcript or "").strip()
    content = _first_words(turn.content, share) if is_said else turn.content
    return attrs.evolve(turn, content=content, audio=shorter, interrupted=True)


def spoken_length(turn: AssistantTurn, audio: AssistantAudio) -> float:
    """Return the seconds that all words take: of a stream that was left, words precede sound."""
    length = audio.duration or 0.0
    if not turn.interrupted:
        return length
    words = turn.text.split()
    return max(length, _SECONDS_PER_WORD * (len(words) if len(words) > 1 else len(turn.text) / 3))


def _first_words(text: str | None, share: float) -> str | None:
    if text is None or not text.strip():
        return text
    # Chinese and Japanese have no spaces between words.
    between = " " if " " in text else ""
    words = text.split(" ") if between else list(text)
    return between.join(words[: round(len(words) * share)]) or "…"

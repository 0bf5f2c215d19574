"""An answer cut to what was heard of it: its sound, and its words in proportion."""

from __future__ import annotations

import attrs

from conversation._values.sound import cut as cut_sound
from conversation._values.turns import AssistantAudio, AssistantTurn, own_text
from conversation.errors import AudioFileMissing

_SECONDS_A_WORD = 0.4
"""How long it takes to say one; as OpenAI's voices speak."""


def cut(turn: AssistantTurn, audio: AssistantAudio, seconds: float) -> AssistantTurn:
    """The first seconds of an answer: its sound, and its words in proportion."""
    share = seconds / (_whole_length(turn, audio) or 1)
    try:
        sound = audio.read() if audio.data is not None else None
    except AudioFileMissing:
        sound = None
    cut = attrs.evolve(
        audio,
        transcript=_first_words(audio.transcript, share),
        data=cut_sound(sound, audio.format, seconds) if sound else audio.data,
        duration=float(seconds),
    )
    # Without a transcript of their own, the words that were said are the text.
    is_said = not own_text(turn) or not (audio.transcript or "").strip()
    content = _first_words(turn.content, share) if is_said else turn.content
    return attrs.evolve(turn, content=content, audio=cut, interrupted=True)


def _whole_length(turn: AssistantTurn, audio: AssistantAudio) -> float:
    """Seconds that all the words take: of a stream that was left, words run ahead of the sound."""
    length = audio.duration or 0.0
    if not turn.interrupted:
        return length
    words = turn.text.split()
    spoken = _SECONDS_A_WORD * (len(words) if len(words) > 1 else len(turn.text) / 3)
    return max(length, spoken)


def _first_words(text: str | None, share: float) -> str | None:
    if text is None or not text.strip():
        return text
    # Chinese and Japanese have no spaces between words.
    between = " " if " " in text else ""
    words = text.split(" ") if between else list(text)
    return between.join(words[: round(len(words) * share)]) or "…"

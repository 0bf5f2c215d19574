"""Words for what users said, and a voice for answers that came as text: made by other models."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from typing import Any, TypeGuard, cast

import attrs

from conversation._exchange.requests import Requests
from conversation._exchange.steps import Steps, Transcribe, Work
from conversation._rendering.settings import SPEECH_MODEL, TRANSCRIPTION_MODEL
from conversation._values.parts import AudioInput
from conversation._values.sound import wav_from_pcm
from conversation._values.turns import AssistantAudio, AssistantTurn, Turn, UserTurn
from conversation.errors import AudioFileMissing, ContextTooSmall

log = logging.getLogger("conversation")


class Transcripts:
    """Finds the words of user sound by `audio.transcriptions`, and keeps each once it is known."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._history = requests.history
        # Sound that could not be transcribed: it is sent as sound.
        self._failed: set[AudioInput] = set()

    def forget(self, turns: Iterable[Turn]) -> None:
        """Allow sound of these turns, which were taken back, to be transcribed anew."""
        parts = (part for turn in turns if isinstance(turn, UserTurn) for part in turn.content)
        self._failed -= {part for part in parts if isinstance(part, AudioInput)}

    def find(self, *, old: bool = False) -> Steps[tuple[UserTurn, ...]]:
        """Find the words of user sound that has none.

        Args:
            old: Only of sound that is too old to be sent as such, where `transcribe` is set, and
                once; sound that is left out for want of room is not transcribed.

        Returns:
            The turns that have words now.
        """
        if old and not self._requests.settings.transcribe:
            return ()
        if not old:
            self._failed.clear()
        changed: list[UserTurn] = []
        # Sound that became words may make room for older turns.
        while positions := (yield Work(partial(self._wordless, old=old), writes=False)):
            for position in positions:
                before = self._history[position]
                yield from self._transcribe(position, old=old)
                now = self._history[position]
                if now is not before:
                    changed.append(cast("UserTurn", now))
        return tuple(changed)

    def _transcribe(self, position: int, *, old: bool) -> Steps[None]:
        turn = cast("UserTurn", self._history[position])
        for at, part in enumerate(turn.content):
            if not _is_wordless(part):
                continue
            try:
                words = yield from self._words_in(part)
            except Exception as error:
                if not old:
                    raise
                log.warning("transcribing old sound failed: %s", error)
                words = None
            if words is None:
                self._failed.add(part)
                continue
            said = attrs.evolve(part, transcript=words)
            turn = attrs.evolve(turn, content=(*turn.content[:at], said, *turn.content[at + 1 :]))
            yield Work(partial(self._history.replace, {position: turn}))
            log.info("transcribed turn %d", position + 1)

    def _words_in(self, sound: AudioInput) -> Steps[str | None]:
        try:
            data = yield Work(sound.read)
        except AudioFileMissing as error:
            log.warning("%s; it cannot be transcribed", error)
            return None
        given = self._requests.settings.transcribe
        model = given if isinstance(given, str) else TRANSCRIPTION_MODEL
        words = yield Transcribe({"model": model, "file": (f"sound.{sound.format}", data)})
        return cast("str", words)

    def _wordless(self, *, old: bool) -> list[int]:
        """Return the positions of the user turns whose words are to be found."""
        kept = self._requests.context.user_audio_turns
        if not old:
            return [i for i in range(len(self._history)) if self._lacks_words(i)]
        if kept is None:
            return []
        try:
            positions = self._requests.window().wordless
        except ContextTooSmall:
            # As words it may fit.
            newest = [i for i in range(len(self._history)) if self._has_sound(i)]
            positions = [i for i in newest[: max(0, len(newest) - kept)] if self._lacks_words(i)]
            return positions[-1:]
        return sorted(i for i in positions if self._lacks_words(i))

    def _has_sound(self, position: int) -> bool:
        turn = self._history[position]
        return isinstance(turn, UserTurn) and any(isinstance(p, AudioInput) for p in turn.content)

    def _lacks_words(self, position: int) -> bool:
        turn = self._history[position]
        return isinstance(turn, UserTurn) and any(
            _is_wordless(part) and part not in self._failed for part in turn.content
        )


def _is_wordless(part: object) -> TypeGuard[AudioInput]:
    return isinstance(part, AudioInput) and part.transcript is None


def speech_request(
    requests: Requests, turn: AssistantTurn, *, streams: bool
) -> dict[str, Any] | None:
    """Return the `audio.speech` request for an answer that came as text; None if not wanted."""
    model = requests.settings.speak_when_dropped
    if not model or not turn.voice_dropped or not turn.text.strip():
        return None
    audio_format = "pcm16" if streams else requests.sent.asked.audio_format
    return {
        "model": SPEECH_MODEL if model is True else model,
        "voice": requests.sent.asked.voice,
        "input": turn.text,
        "response_format": "pcm" if audio_format == "pcm16" else audio_format,
    }


def spoken(
    requests: Requests, turn: AssistantTurn, sound: bytes, *, streams: bool
) -> AssistantTurn:
    """Return the answer with sound made for it, which has no id and is never sent as voice."""
    if not sound:
        msg = "no sound came for the words"
        raise ValueError(msg)
    data = wav_from_pcm(sound) if streams else sound
    audio = AssistantAudio(data=data, format=requests.sent.asked.audio_format)
    return attrs.evolve(turn, audio=audio)

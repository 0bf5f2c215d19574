"""The words of what users said, found by `audio.transcriptions` when they are needed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Protocol, TypeGuard, cast

import attrs

from conversation._exchange.steps import Steps, Transcribe, Work
from conversation._history.history import History
from conversation._rendering.forms import Prepared
from conversation._rendering.settings import TRANSCRIPTION_MODEL, Settings
from conversation._rendering.window import Context, old_sounds
from conversation._values.parts import AudioInput
from conversation._values.turns import Turn, UserTurn
from conversation.errors import AudioFileMissing, ContextTooSmall

log = logging.getLogger("conversation")


class Talk(Protocol):
    """What is needed of a conversation."""

    settings: Settings
    history: History

    @property
    def context(self) -> Context:
        """From when on sound is old."""

    def sent(self) -> Sequence[Prepared]:
        """What of the history would be sent now."""


class Words:
    """Finds them, and keeps each as soon as it is known."""

    def __init__(self) -> None:
        # What could not be transcribed: it is sent as sound.
        self._untold: set[AudioInput] = set()

    def forget(self, turns: Iterable[Turn]) -> None:
        """These turns were taken back: such sound may be asked for anew."""
        parts = (part for turn in turns if isinstance(turn, UserTurn) for part in turn.content)
        self._untold -= {part for part in parts if isinstance(part, AudioInput)}

    def transcribing(self, talk: Talk, *, old: bool) -> Steps[tuple[UserTurn, ...]]:
        """The words of user sound that has none.

        Args:
            talk: The conversation.
            old: Only of sound that is too old to be sent as such, where `transcribe` is set, and
                once; what is left out for want of room is not asked for.

        Returns:
            The turns that have words now.
        """
        if not old:
            self._untold.clear()
        changed: list[UserTurn] = []
        # What got its words may make room for what is old, too.
        while positions := self._wordless(talk, old=old):
            for position in positions:
                before = talk.history.turns[position]
                yield from self._tell(talk, position, old=old)
                now = talk.history.turns[position]
                if now is not before:
                    changed.append(cast("UserTurn", now))
        return tuple(changed)

    def _tell(self, talk: Talk, position: int, *, old: bool) -> Steps[None]:
        turn = cast("UserTurn", talk.history.turns[position])
        for at, part in enumerate(turn.content):
            if not _is_wordless(part):
                continue
            try:
                words = yield from _words_in(talk, part)
            except Exception as error:
                if not old:
                    raise
                log.warning("old sound could not be transcribed: %s", error)
                words = None
            if words is None:
                self._untold.add(part)
                continue
            said = attrs.evolve(part, transcript=words)
            turn = attrs.evolve(turn, content=(*turn.content[:at], said, *turn.content[at + 1 :]))
            yield Work(partial(talk.history.replace, {position: turn}))
            log.info("the words of turn %d are known", position + 1)

    def _wordless(self, talk: Talk, *, old: bool) -> list[int]:
        """Where the user turns are whose words are to be found."""
        if old and not talk.settings.transcribe:
            return []
        turns = talk.history.turns
        found = [
            position
            for position in old_sounds(turns, talk.context.user_audio_turns if old else 0)
            if any(
                _is_wordless(part) and part not in self._untold
                for part in cast("UserTurn", turns[position]).content
            )
        ]
        if not old or not found:
            return found
        try:
            sent = {id(item.turn) for item in talk.sent()}
        except ContextTooSmall:
            return found[-1:]  # as words it may fit
        return [position for position in found if id(turns[position]) in sent]


def _words_in(talk: Talk, sound: AudioInput) -> Steps[str | None]:
    try:
        data = yield Work(sound.read)
    except AudioFileMissing as error:
        log.warning("%s; it cannot be transcribed", error)
        return None
    given = talk.settings.transcribe
    model = given if isinstance(given, str) else TRANSCRIPTION_MODEL
    words = yield Transcribe({"model": model, "file": (f"sound.{sound.format}", data)})
    return cast("str", words)


def _is_wordless(part: object) -> TypeGuard[AudioInput]:
    return isinstance(part, AudioInput) and part.transcript is None

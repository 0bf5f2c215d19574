"""Words for what users said, and a voice for answers that came as text: made by other models."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeGuard, cast

import attrs

from conversation._exchange.holding import work_on
from conversation._exchange.requests import Requests
from conversation._exchange.steps import (
    END,
    Close,
    Open,
    Receive,
    Send,
    Speak,
    Steps,
    Transcribe,
    Work,
)
from conversation._rendering.settings import TRANSCRIPTION_MODEL
from conversation._values.events import AudioDelta
from conversation._values.parts import AudioInput, Part
from conversation._values.sound import format_of
from conversation._values.streamed import StreamedSound
from conversation._values.text import counted
from conversation._values.turns import AssistantAudio, AssistantTurn, Turn, UserTurn
from conversation._values.usage import Usage
from conversation._wire.chunks import StreamedCompletion
from conversation._wire.completions import Asked, completion_object, turn_from_completion
from conversation._wire.failures import is_refused_sound
from conversation._wire.usage import usage_from_entry
from conversation.errors import AudioFileMissing, ContextTooSmall

log = logging.getLogger("conversation")

_MOST_FAULTS = 5

_READ_ALOUD = (
    "Repeat the user's message verbatim: say exactly its words. Do not answer it, and add nothing."
)

_SAME = (
    "model",
    "modalities",
    "audio",
    "stream",
    "stream_options",
    "extra_headers",
    "extra_query",
    "extra_body",
    "timeout",
)
"""The arguments of a request with which its answer is read aloud."""


class Transcripts:
    """Finds the words of user sound by `audio.transcriptions`, and keeps each once it is known."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._history = requests.history
        # Sound that could not be transcribed: it is sent as sound.
        self._failed: set[AudioInput] = set()
        self._faults = 0  # of the server, one after another

    def forget(self, turns: Iterable[Turn]) -> None:
        """Allow sound of these turns, which were taken back, to be transcribed anew."""
        parts = (part for turn in turns if isinstance(turn, UserTurn) for part in turn.content)
        self._failed -= {part for part in parts if isinstance(part, AudioInput)}

    def find(self, *, before: str | None = None) -> Steps[tuple[UserTurn, ...]]:
        """Find the words of user sound that has none.

        Args:
            before: The model that is about to be asked: only of sound that is too old to be sent as
                such, or that it does not take, where `transcribe` is set, and once; sound that is
                left out for want of room is not transcribed. Failures are logged.

        Returns:
            The turns that have words now.

        Raises:
            Exception: what came for one sound, after the others were tried; at once where that is
                in vain, without a connection or a key.
        """
        old = before is not None
        if old and not self._requests.settings.transcribe:
            return ()
        tried: set[AudioInput] = set()
        if not old:
            tried, self._failed = self._failed, tried
            self._faults = 0
        found: list[Turn] = []
        failures: list[Exception] = []
        # Sound that became words may make room for older turns.
        while positions := (yield Work(partial(self._wordless, before), writes=False)):
            # What failed before comes last, so that it keeps no other from its words.
            for position in sorted(positions, key=lambda at: not tried.isdisjoint(self._parts(at))):
                is_found = yield from self._transcribe(position, failures, old=old)
                found += (self._history[position],) if is_found else ()
        if failures and not old:
            failures[0].add_note(
                f"{counted(len(failures), 'sound')} could not be transcribed, the words of "
                f"{counted(len(found), 'turn')} are found and kept; what was refused for good is "
                "not sent again: set_transcript(…) sets its words"
            )
            raise failures[0]
        return cast("tuple[UserTurn, ...]", tuple(found))

    def _transcribe(self, position: int, failures: list[Exception], *, old: bool) -> Steps[bool]:
        """Find the words of the sounds in a turn; return True if any were found."""
        turn, is_found = cast("UserTurn", self._history[position]), False
        for at, part in enumerate(turn.content):
            if not self._is_asked_for(part):
                continue
            said = part
            try:
                words = yield from self._words_in(part)
                said = attrs.evolve(part, transcript=words)
                self._faults = 0
            except Exception as error:
                is_refused = is_refused_sound(error)
                # A server may fail for one sound, and another; many times in a row, it is down.
                is_fault = (getattr(error, "status_code", None) or 0) >= 500
                is_down = self._faults == _MOST_FAULTS or not is_fault
                if not (old or is_refused) and is_down:
                    self._failed |= {part} if is_fault else set()
                    raise
                if old:
                    log.warning("transcribing old sound failed: %s", error)
                self._faults += not is_refused
                failures.append(error)
                if is_refused:
                    said = attrs.evolve(part, refused_by=self._model)
            if said == part:
                self._failed.add(part)
                continue
            turn = attrs.evolve(turn, content=(*turn.content[:at], said, *turn.content[at + 1 :]))
            yield Work(partial(self._history.replace, {position: turn}))
            if said.transcript is not None:
                is_found = True
                log.info("transcribed turn %d", position + 1)
        return is_found

    @property
    def _model(self) -> str:
        given = self._requests.settings.transcribe
        return given if isinstance(given, str) else TRANSCRIPTION_MODEL

    def _is_asked_for(self, part: object) -> TypeGuard[AudioInput]:
        return (
            isinstance(part, AudioInput)
            and part.transcript is None
            and part.refused_by != self._model
            and part not in self._failed
        )

    def _words_in(self, sound: AudioInput) -> Steps[str | None]:
        try:
            data = yield Work(sound.read)
        except AudioFileMissing as error:
            log.warning("%s; it cannot be transcribed", error)
            return None
        file = (f"sound.{sound.format}", data)
        words = yield Transcribe({"model": self._model, "file": file})
        return cast("str", words)

    def _wordless(self, before: str | None) -> list[int]:
        """Return the positions of the user turns whose words are to be found."""
        kept = self._requests.context.user_audio_turns
        if before is None:
            return [i for i in range(len(self._history)) if self._lacks_words(i)]
        try:
            positions = self._requests.unheard(before)
            if kept is not None:
                positions += self._requests.window().wordless
        except ContextTooSmall:
            if kept is None:
                return []
            # As words it may fit.
            parts = map(self._parts, range(len(self._history)))
            newest = [i for i, of in enumerate(parts) if any(isinstance(p, AudioInput) for p in of)]
            positions = [i for i in newest[: max(0, len(newest) - kept)] if self._lacks_words(i)]
            return positions[-1:]
        return sorted(i for i in {*positions} if self._lacks_words(i))

    def _parts(self, position: int) -> Sequence[Part]:
        turn = self._history[position]
        return turn.content if isinstance(turn, UserTurn) else ()

    def _lacks_words(self, position: int) -> bool:
        return any(map(self._is_asked_for, self._parts(position)))


def speaking(
    requests: Requests, turn: AssistantTurn, request: Mapping[str, Any]
) -> Steps[AssistantTurn]:
    """Have an answer that came as text spoken, where that is wanted.

    The answer is in the history already: whatever happens to its sound, its words are there.

    Args:
        requests: Where the answer was asked for.
        turn: The last turn.
        request: The request that it answers.

    Returns:
        The turn, as it is kept then.
    """
    history, model = requests.history, requests.settings.speak_when_dropped
    if not model or not turn.voice_dropped or not turn.text.strip():
        return turn
    asked, spent, heard = requests.sent.asked, Usage(), list[AudioDelta]()
    audio = None
    try:
        if model is True:
            completion = yield from _read_aloud(_verbatim(request, turn.text), heard)
            spent = usage_from_entry(completion.get("usage"))
            audio = _voice_in(completion, asked, turn.text)
        else:
            sound = yield Speak(_speech_request(model, asked, turn.text))
            audio = _made(sound, asked, heard, streams=bool(request.get("stream")))
    except Exception as error:  # noqa: BLE001  # the words are there
        log.warning("an answer that came as text could not be spoken: %s", error)
    if audio is None:
        yield from work_on(history, partial(history.spend, spent))
        return turn
    changed = {len(history) - 1: attrs.evolve(turn, audio=audio)}
    job = partial(history.replace, changed, must_save=False, spent=spent)
    yield from work_on(history, job)
    yield from heard
    return cast("AssistantTurn", history[-1])


def _verbatim(request: Mapping[str, Any], words: str) -> dict[str, Any]:
    """Return the request that has the same model read the words aloud, in the same voice."""
    messages = [{"role": "system", "content": _READ_ALOUD}, {"role": "user", "content": words}]
    return {key: request[key] for key in _SAME if key in request} | {"messages": messages}


def _read_aloud(request: Mapping[str, Any], heard: list[AudioDelta]) -> Steps[Mapping[str, Any]]:
    """Return the completion; if it is streamed, its sound is added to `heard`."""
    if not request.get("stream"):
        return completion_object((yield Send(request)))
    streamed, stream = StreamedCompletion(), (yield Open(request))
    try:
        while (chunk := (yield Receive(stream))) is not END:
            heard += (event for event in streamed.add(chunk) if isinstance(event, AudioDelta))
    except GeneratorExit:  # nobody performs steps any more
        raise
    except BaseException:
        yield Close(stream)
        raise
    heard += (event for event in streamed.finish() if isinstance(event, AudioDelta))
    yield Close(stream)
    return streamed.completion()


def _voice_in(completion: Mapping[str, Any], asked: Asked, words: str) -> AssistantAudio:
    """Return the sound of the words, with the id under which the server remembers it."""
    said = turn_from_completion(completion, asked)
    if said.audio is None:
        raise ValueError("no sound came for the words")
    if said.interrupted or said.text.split() != words.split():
        raise ValueError("other words were said, so their sound is discarded")
    return attrs.evolve(said.audio, transcript=words)


def _speech_request(model: str, asked: Asked, words: str) -> dict[str, Any]:
    audio_format = "pcm" if asked.audio_format == "pcm16" else asked.audio_format
    return {
        "model": model,
        "voice": asked.voice,
        "input": words,
        "response_format": audio_format,
    }


def _made(sound: bytes, asked: Asked, heard: list[AudioDelta], *, streams: bool) -> AssistantAudio:
    """Return sound that another model made; without an id it is never sent as voice."""
    if not sound:
        raise ValueError("no sound came for the words")
    if not streams:
        if format_of(sound) is None and asked.audio_format != "pcm16":
            raise ValueError("what came for the words is no sound")
        return AssistantAudio(data=sound, format=asked.audio_format)
    # It may be another format than the PCM that was asked for.
    streamed = StreamedSound()
    heard += (AudioDelta(*found) for found in (*streamed.add(sound), *streamed.finish()))
    return AssistantAudio(data=streamed.whole())

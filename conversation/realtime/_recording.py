"""A Realtime session as turns: events go in, changes of a history come out."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import orjson

from conversation._history.edits import spoken_length, truncated, with_transcript
from conversation._history.history import History
from conversation._values.parts import NO_WORDS_YET, AudioInput, ImageInput, Part
from conversation._values.samples import as_s16
from conversation._values.sound import wav_from_pcm
from conversation._values.text import clean_text
from conversation._values.turns import (
    AssistantAudio,
    AssistantTurn,
    SystemTurn,
    ToolCall,
    ToolTurn,
    Turn,
    Usage,
    UserTurn,
)
from conversation._wire.messages import bytes_from_base64
from conversation._wire.reading import usage_from_entry
from conversation.errors import InvalidTurn, SaveFailed, UnknownToolCall
from conversation.realtime._appended import PCM, AppendedSound, Format
from conversation.realtime._seeding import SEED, short_call_id

log = logging.getLogger("conversation")

ITEM_ID = "realtime_item_id"
"""Key of a turn by which later events about its item find it, also after a restart."""

_FORMATS: Mapping[str, Format] = {
    "audio/pcm": PCM,
    "audio/pcmu": ("mulaw", 8000),
    "audio/pcma": ("alaw", 8000),
    "pcm16": PCM,
    "g711_ulaw": ("mulaw", 8000),
    "g711_alaw": ("alaw", 8000),
}

_BETA = {
    "response.audio.delta": "response.output_audio.delta",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
    "conversation.item.created": "conversation.item.added",
    "conversation.item.done": "conversation.item.added",
}
"""Names of events in the API's beta version, which other servers still use, and of like events."""

_REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}

_MOST_UNKNOWN = 1000
"""Number of words and responses that are remembered for items that may never come."""

Json = Mapping[str, Any]


@attrs.define(eq=False)
class _Response:
    """A response under way.

    Attributes:
        is_outside: True if it belongs to no conversation.
        format: The format of its sound.
        speaks: True if sound was asked for.
    """

    is_outside: bool
    format: Format
    speaks: bool


@attrs.define(eq=False)
class _Item:
    """An item that is no turn yet.

    Attributes:
        id: The id in the session.
        kind: `"answer"`, `"call"`, or `"said"`: all that was not generated.
        response: The id of the response that generates it; empty if it is not known.
        is_ready: True if nothing more of it will come.
        is_whole: False if it broke off.
        said: The turn of an item that was not generated; a user turn without its words.
        words: What the user said, if it is known by now.
        spoken: Pieces of the transcript by the index of their part.
        written: Pieces of text by the index of their part.
        sound: Pieces of sound.
        call_id: The id of a tool call.
        name: The name of the called tool.
        arguments: Pieces of its arguments.
        cut_ms: Milliseconds of it that were heard.
        fields: Further fields of the answer.
        turn: The turn as it could not be saved.
    """

    id: str
    kind: str = "answer"
    response: str = ""
    is_ready: bool = False
    is_whole: bool = False
    said: Turn | None = None
    words: str | None = None
    spoken: dict[int, list[str]] = attrs.field(factory=dict)
    written: dict[int, list[str]] = attrs.field(factory=dict)
    sound: list[bytes] = attrs.field(factory=list)
    format: Format = PCM
    call_id: str = ""
    name: str = ""
    arguments: list[str] = attrs.field(factory=list)
    cut_ms: float | None = None
    fields: dict[str, Any] = attrs.field(factory=dict)
    turn: Turn | None = None

    def made(self) -> Turn | None:
        """Return the turn of the item; None if there is nothing in it.

        Raises:
            InvalidTurn: if it can be none.
        """
        extra = orjson.dumps({ITEM_ID: self.id}).decode()
        if self.said is not None:
            turn = with_words(self.said, self.words) if self.words else self.said
            return attrs.evolve(turn, extra=extra)
        fields = {**self.fields, "extra": extra}
        speaks = fields.pop("speaks", False)
        if self.kind == "call":
            # Of a call that broke off, nobody has seen all arguments.
            if not (self.is_whole and self.call_id and self.name):
                return None
            call = ToolCall(self.call_id, self.name, "".join(self.arguments))
            return AssistantTurn(tool_calls=(call,), **{**fields, "finish_reason": "tool_calls"})
        spoken, written, sound = _joined(self.spoken), _joined(self.written), b"".join(self.sound)
        if not (spoken.strip() or written.strip() or sound):
            return None
        audio = None
        if spoken.strip() or sound:
            encoding, rate = self.format
            data = wav_from_pcm(as_s16(sound, encoding), rate=rate) if sound else None
            audio = AssistantAudio(transcript=spoken or None, data=data)
        answer = AssistantTurn(
            content=written or None,
            audio=audio,
            interrupted=not self.is_whole,
            voice_dropped=speaks and audio is None,
            **fields,
        )
        return answer if self.cut_ms is None else heard(answer, self.cut_ms)


def _joined(parts: Mapping[int, list[str]]) -> str:
    return "\n".join("".join(parts[index]) for index in sorted(parts))


def with_words(turn: Turn, words: str) -> Turn:
    """Return what a user said with its words: beside its sound, or in place of the missing one."""
    try:
        return with_transcript(turn, words) if isinstance(turn, UserTurn) else turn
    except InvalidTurn as error:
        log.warning("leaving out words of the session: %s", error)
        return turn


def heard(turn: Turn, ms: float) -> Turn:
    """Return an answer cut to the part that was heard; without sound, by the pace of its words."""
    if not isinstance(turn, AssistantTurn) or turn.audio is None:
        return turn
    timed = turn
    if turn.audio.duration is None:
        length = spoken_length(attrs.evolve(turn, interrupted=True), turn.audio)
        timed = attrs.evolve(turn, audio=attrs.evolve(turn.audio, duration=length))
    cut = truncated(timed, ms / 1000)
    return turn if cut is timed else cut


class Recording:
    """The state of a session, as far as its turns need it.

    `sent` and `received` note events; `settle` makes the changes that are due.
    """

    def __init__(self) -> None:
        self._sound = AppendedSound()
        self._queue: dict[str, _Item] = {}  # in the server's order
        self._has_session = False
        # A format that was sent, until the session confirms one.
        self._is_format_sent = False
        self._edits: deque[tuple[str, Callable[[Turn], Turn | None]]] = deque()
        self._spent = Usage()
        self._told: dict[str, int] = {}  # marks of events, by their ids
        self._begin_session()

    def _begin_session(self) -> None:
        self._model: str | None = None
        self._speaks = False
        self._format = PCM
        self._seen: set[str] = set()  # ids of items and responses
        self._words: dict[str, str] = {}
        self._partial: dict[str, str] = {}  # words as far as they have come
        self._cuts: dict[str, float] = {}
        self._sounds: dict[str, AudioInput | None] = {}
        self._created: deque[tuple[str | None, AudioInput]] = deque(maxlen=16)
        self._responses: dict[str, _Response] = {}

    # --- what the client sends -----------------------------------------------------------------

    def sent(self, event: Json) -> None:
        """Note an event of the client: of the user's sound it tells more than the server does."""
        match event.get("type"):
            case "input_audio_buffer.append":
                self._sound.append(_bytes(event, "audio"))
            case "input_audio_buffer.commit":
                self._sound.commit()
            case "input_audio_buffer.clear":
                self._sound.clear()
            case "session.update":
                if (found := _format_of(_object(event, "session"), "input")) is not None:
                    self._is_format_sent = True
                    self._sound.change_format(found)
            case "conversation.item.create":
                item = _object(event, "item")
                for part in _objects(item, "content"):
                    if sound := self._playable(_bytes(part, "audio")):
                        self._created.append((_text(item, "id"), sound))

    def _playable(self, data: bytes) -> AudioInput | None:
        encoding, rate = self._sound.format
        whole = data[: len(data) - len(data) % 2] if encoding == "s16le" else data
        return AudioInput.from_pcm(whole, rate, encoding=encoding) if whole else None

    # --- what the server sends -----------------------------------------------------------------

    def received(self, event: Json) -> bool:
        """Note an event of the server; return True if there is something to settle."""
        kind = event.get("type")
        note = _NOTES.get(_BETA.get(kind, kind)) if isinstance(kind, str) else None
        if note is not None and not self._was_told(event):
            note(self, event)
        first = next(iter(self._queue.values()), None)
        return bool((first and first.is_ready) or self._edits or self._spent != Usage())

    def _was_told(self, event: Json) -> bool:
        """Note an event; return True for one that comes again, as over a second connection."""
        event_id = _text(event, "event_id") or ""
        mark = hash((event.get("type"), _text(event, "delta")))
        was_told = self._told.get(event_id) == mark
        if event_id:
            _remember(self._told, event_id, mark)
        return was_told

    def finish(self, history: History) -> list[Turn]:
        """Same as `settle`, with what has begun: as nothing more will come of it, interrupted."""
        self._break_off()
        return self.settle(history)

    @property
    def is_idle(self) -> bool:
        """True if nothing has begun and nothing is due."""
        has_begun = self._queue or self._sounds or self._partial or self._sound.begun
        return not (has_begun or self._edits) and self._spent == Usage()

    def _break_off(self) -> None:
        for item_id in self._partial.copy():
            self._words_failed({"item_id": item_id})
        for item_id in self._sound.begun:  # the user was speaking
            if sound := self._playable(self._sound.take(item_id)):
                self._sounds.setdefault(item_id, sound)
        for item_id in self._sounds.copy():
            self._say(item_id, [self._spoken(item_id, None)])
        for item in self._queue.values():
            item.is_ready = True
            item.fields.setdefault("model", self._model)
        self._responses.clear()

    def _session_created(self, event: Json) -> None:
        if self._has_session:  # connected anew: times begin at 0, and nothing old goes on
            self._break_off()
            self._sound = AppendedSound()
            self._begin_session()
        self._has_session = True
        self._read_session(_object(event, "session"), is_new=True)

    def _session_updated(self, event: Json) -> None:
        self._read_session(_object(event, "session"), is_new=False)

    def _read_session(self, session: Json, *, is_new: bool) -> None:
        self._model = _text(session, "model") or self._model
        self._speaks = _speaks(session, otherwise=self._speaks)
        self._format = _format_of(session, "output") or self._format
        found = _format_of(session, "input")
        if found is not None and not (is_new and self._is_format_sent):
            self._sound.change_format(found)

    def _speech_started(self, event: Json) -> None:
        item_id, start = _text(event, "item_id"), _ms(event, "audio_start_ms")
        if item_id and start is not None:
            self._sound.begin_speech(item_id, start)

    def _speech_stopped(self, event: Json) -> None:
        item_id, end = _text(event, "item_id"), _ms(event, "audio_end_ms")
        if item_id and end is not None:
            self._sound.end_speech(item_id, end)

    def _timed_out(self, event: Json) -> None:
        self._speech_started(event)
        self._speech_stopped(event)

    def _committed(self, event: Json) -> None:
        item_id = _text(event, "item_id")
        if item_id and item_id not in self._seen:
            self._sounds[item_id] = self._playable(self._sound.take(item_id))

    def _cleared(self, _: Json) -> None:
        self._sound.clear(is_confirmed=True)

    def _failed(self, event: Json) -> None:
        if _text(_object(event, "error"), "code") == "input_audio_buffer_commit_empty":
            self._sound.refuse_commit()

    def _added(self, event: Json) -> None:
        item = _object(event, "item")
        item_id = _text(item, "id")
        if not item_id or item_id.startswith(SEED):
            return
        role, content = _text(item, "role"), _objects(item, "content")
        if item_id in self._seen:
            self._fill(item_id, item)
            for part in content if role == "user" else ():
                self._words_known({"item_id": item_id, "transcript": part.get("transcript")})
            return
        match _text(item, "type"), role:
            case "message", "user":
                parts = [found for part in content if (found := self._part(item_id, part))]
                self._say(item_id, parts or ([] if content else [self._spoken(item_id, None)]))
            case "message", "system":
                text = "\n".join(_text(part, "text") or "" for part in content)
                self._put(_Item(item_id, "said", said=SystemTurn(text), is_ready=True))
            case "function_call_output", _:
                result = ToolTurn(_text(item, "call_id") or "", _text(item, "output") or "")
                self._put(_Item(item_id, "said", said=result, is_ready=True))
            case "message", "assistant":
                self._begin_or_put(item, _Item(item_id, format=self._format))
            case "function_call", _:
                self._begin_or_put(item, _Item(item_id, "call"))

    def _begin_or_put(self, item: Json, new: _Item) -> None:
        """Put an item of the model in its place; one that the client has made is whole."""
        self._put(new)
        self._fill(new.id, item)
        status, has_begun = _text(item, "status"), new.written or new.spoken or new.arguments
        if status == "completed" or (has_begun and status != "in_progress"):
            new.is_ready = new.is_whole = True

    def _part(self, item_id: str, part: Json) -> Part | None:
        match _text(part, "type"):
            case "input_text" | "text":
                return _text(part, "text") or None
            case "input_audio" | "audio":
                return self._spoken(item_id, _text(part, "transcript"))
            case "input_image":
                try:
                    return ImageInput(_text(part, "image_url") or "", _text(part, "detail"))
                except InvalidTurn as error:
                    log.warning("leaving out a picture of the session: %s", error)
        return None

    def _spoken(self, item_id: str, words: str | None) -> Part:
        """Return what the user said: the sound if it was sent by here, and the words if known."""
        words = words or self._words.pop(item_id, None)
        sound = self._sounds.pop(item_id, None) if item_id in self._sounds else self._sent(item_id)
        if sound is not None:
            return attrs.evolve(sound, transcript=words) if words else sound
        return words if words and words.strip() else NO_WORDS_YET

    def _sent(self, item_id: str) -> AudioInput | None:
        for made in self._created:
            if made[0] in (item_id, None):
                self._created.remove(made)
                return made[1]
        return None

    def _say(self, item_id: str, parts: list[Part]) -> None:
        self._sounds.pop(item_id, None)
        if any(not isinstance(part, str) or part.strip() for part in parts):
            self._put(_Item(item_id, "said", said=UserTurn(tuple(parts)), is_ready=True))

    def _put(self, item: _Item) -> None:
        item.cut_ms = self._cuts.pop(item.id, None)
        self._seen.add(item.id)
        self._queue[item.id] = item

    def _words_delta(self, event: Json) -> None:
        if item_id := _text(event, "item_id"):
            words = self._partial.get(item_id, "") + _piece(event)
            _remember(self._partial, item_id, words)

    def _words_failed(self, event: Json) -> None:
        """Take the words that have come: no more will."""
        words = self._partial.get(_text(event, "item_id") or "")
        self._words_known({**event, "transcript": words})

    def _words_known(self, event: Json) -> None:
        item_id, words = _text(event, "item_id"), _text(event, "transcript")
        self._partial.pop(item_id or "", None)
        if not item_id or item_id.startswith(SEED) or not words or not words.strip():
            return
        item = self._queue.get(item_id)
        if item is not None and item.turn is None:
            item.words = words
            return
        if item_id not in self._seen:  # yet, or by this recorder
            _remember(self._words, item_id, words)
        self._edits.append((item_id, lambda turn: with_words(turn, words)))

    def _truncated(self, event: Json) -> None:
        item_id, ms = _text(event, "item_id"), _ms(event, "audio_end_ms")
        if not item_id or ms is None:
            return
        item = self._queue.get(item_id)
        if item is not None and item.turn is None:
            item.cut_ms = ms if item.cut_ms is None else min(item.cut_ms, ms)
        else:
            if item_id not in self._seen:  # yet, or by this recorder
                _remember(self._cuts, item_id, ms)
            self._edits.append((item_id, lambda turn: heard(turn, ms)))

    def _deleted(self, event: Json) -> None:
        item_id = _text(event, "item_id")
        if not item_id or item_id.startswith(SEED):
            return
        self._sounds.pop(item_id, None)
        self._seen.add(item_id)
        if item := self._queue.pop(item_id, None):
            self._spent += item.fields.get("usage") or Usage()
        if item is None or item.turn is not None:
            self._edits.append((item_id, lambda _: None))

    # --- responses -----------------------------------------------------------------------------

    def _response_created(self, event: Json) -> None:
        response = _object(event, "response")
        if response_id := _text(response, "id"):
            _remember(self._responses, response_id, self._response(response))

    def _response(self, response: Json) -> _Response:
        is_outside = "conversation_id" in response and response["conversation_id"] is None
        sound = _format_of(response, "output") or self._format
        return _Response(is_outside, sound, _speaks(response, otherwise=self._speaks))

    def _generated(self, event: Json) -> _Item | None:
        """Return the item that an event adds to; None if it belongs to no conversation."""
        item_id, response_id = _text(event, "item_id"), _text(event, "response_id") or ""
        response = self._responses.get(response_id)
        if not item_id or item_id.startswith(SEED) or (response and response.is_outside):
            return None
        if item_id not in self._seen and response_id not in self._seen:
            self._put(_Item(item_id, format=response.format if response else self._format))
        item = self._queue.get(item_id)
        if item is None or item.said is not None or item.is_ready:
            return None
        item.response = item.response or response_id
        return item

    def _output_added(self, event: Json) -> None:
        made = _object(event, "item")
        if _text(made, "type") in ("message", "function_call"):
            self._generated({**event, "item_id": made.get("id")})
            self._fill(_text(made, "id") or "", made)

    def _fill(self, item_id: str, made: Json) -> None:
        """Take what an item says of itself in the place of its pieces."""
        item = self._queue.get(item_id)
        if item is None or item.said is not None or item.is_ready:
            return
        if _text(made, "type") == "function_call":
            item.kind = "call"
            item.call_id = _text(made, "call_id") or item.call_id
            item.name = _text(made, "name") or item.name
            if arguments := _text(made, "arguments"):
                item.arguments = [arguments]
            item.is_whole = item.is_whole or _text(made, "status") == "completed"
        for index, part in enumerate(_objects(made, "content")):
            if words := _text(part, "transcript"):
                item.spoken[index] = [words]
            if _text(part, "type") in ("output_text", "text") and (text := _text(part, "text")):
                item.written[index] = [text]

    def _sound_delta(self, event: Json) -> None:
        if item := self._generated(event):
            item.sound.append(_bytes(event, "delta"))

    def _transcript_delta(self, event: Json) -> None:
        if (item := self._generated(event)) and (words := _piece(event)):
            item.spoken.setdefault(_index(event), []).append(words)

    def _transcript_done(self, event: Json) -> None:
        if (item := self._generated(event)) and (words := _text(event, "transcript")):
            item.spoken[_index(event)] = [words]

    def _text_delta(self, event: Json) -> None:
        if (item := self._generated(event)) and (text := _piece(event)):
            item.written.setdefault(_index(event), []).append(text)

    def _text_done(self, event: Json) -> None:
        if (item := self._generated(event)) and (text := _text(event, "text")):
            item.written[_index(event)] = [text]

    def _arguments_delta(self, event: Json) -> None:
        if item := self._generated(event):
            item.kind = "call"
            item.call_id = _text(event, "call_id") or item.call_id
            item.arguments.append(_piece(event))

    def _arguments_done(self, event: Json) -> None:
        if item := self._generated(event):
            item.kind = "call"
            item.call_id = _text(event, "call_id") or item.call_id
            item.name = _text(event, "name") or item.name
            item.arguments = [_text(event, "arguments") or "".join(item.arguments)]

    def _response_done(self, event: Json) -> None:
        made = _object(event, "response")
        response_id = _text(made, "id") or ""
        if response_id in self._seen:
            return
        response = self._responses.pop(response_id, None) or self._response(made)
        usage = usage_from_entry(_usage_entry(_object(made, "usage")))
        is_outside = response.is_outside or self._response(made).is_outside
        if not is_outside:
            for output in _objects(made, "output"):
                self._output_added({"item": output, "response_id": response_id})
        if response_id:
            self._seen.add(response_id)
        items = [
            item
            for item in self._queue.values()
            if item.said is None and not item.is_ready and item.response in (response_id, "")
        ]
        if is_outside or not items:
            self._spent += usage
        status = _text(made, "status")
        reason = _text(_object(made, "status_details"), "reason") or ""
        for item in items:
            if is_outside and item.response:
                del self._queue[item.id]
                continue
            item.is_ready, item.format = True, response.format
            item.is_whole = item.is_whole or status in ("completed", None)
            item.fields = {
                "model": self._model,
                "finish_reason": "stop" if item.is_whole else _REASONS.get(reason),
                "speaks": response.speaks,
            }
        if items and not is_outside and usage != Usage():
            items[-1].fields["usage"] = usage

    # --- changes -------------------------------------------------------------------------------

    def settle(self, history: History) -> list[Turn]:
        """Make the changes that are due, and return the turns that were added or changed.

        What cannot be saved stays due. The caller holds the history's lock.
        """
        changed: list[Turn] = []
        while (item := next(iter(self._queue.values()), None)) and item.is_ready:
            turn = self._kept(item, history)
            if turn is not None:
                changed.append(turn)
            elif usage := item.fields.get("usage"):
                self._spent += usage
            del self._queue[item.id]
        while self._edits:
            changed += _edited(history, *self._edits[0])
            self._edits.popleft()
        spent, self._spent = self._spent, Usage()
        history.spend(spent)
        return changed

    def _kept(self, item: _Item, history: History) -> Turn | None:
        """Add the turn of an item; None if it is none."""
        try:
            item.turn = item.turn or item.made()
            return None if item.turn is None else _add(item.turn, history)
        except SaveFailed as error:
            item.turn = error.turn or item.turn  # if it was saved after all, it is found again
            raise
        except (InvalidTurn, UnknownToolCall) as error:
            log.warning("leaving out an item of the session: %s", error)
            return None


def _add(turn: Turn, history: History) -> Turn:
    try:
        return history.add(turn)
    except UnknownToolCall as error:
        given = error.tool_call_id
        same = [call for call in error.open_calls if short_call_id(call) == given]
        if not same or not isinstance(turn, ToolTurn):
            raise
        return history.add(attrs.evolve(turn, tool_call_id=same[-1]))


def _edited(history: History, item_id: str, edit: Callable[[Turn], Turn | None]) -> list[Turn]:
    """Change the turn of an item, if it is there: return it as it is now; nothing if it is gone."""
    for position in range(len(history) - 1, -1, -1):
        turn = history[position]
        if ITEM_ID in turn.extra and orjson.loads(turn.extra).get(ITEM_ID) == item_id:
            new = edit(turn)
            if new is None:
                history.remove((turn,))
            elif new != turn:
                history.replace({position: new})
                return [history[position]]
            return []
    log.debug("no turn is known of the item %r", item_id)
    return []


_NOTES: Mapping[str, Callable[[Recording, Json], None]] = {
    "response.output_audio.delta": Recording._sound_delta,
    "response.output_audio_transcript.delta": Recording._transcript_delta,
    "response.output_audio_transcript.done": Recording._transcript_done,
    "response.output_text.delta": Recording._text_delta,
    "response.output_text.done": Recording._text_done,
    "response.function_call_arguments.delta": Recording._arguments_delta,
    "response.function_call_arguments.done": Recording._arguments_done,
    "response.created": Recording._response_created,
    "response.output_item.added": Recording._output_added,
    "response.output_item.done": Recording._output_added,
    "response.done": Recording._response_done,
    "conversation.item.added": Recording._added,
    "conversation.item.input_audio_transcription.delta": Recording._words_delta,
    "conversation.item.input_audio_transcription.completed": Recording._words_known,
    "conversation.item.input_audio_transcription.failed": Recording._words_failed,
    "conversation.item.truncated": Recording._truncated,
    "conversation.item.deleted": Recording._deleted,
    "input_audio_buffer.speech_started": Recording._speech_started,
    "input_audio_buffer.speech_stopped": Recording._speech_stopped,
    "input_audio_buffer.timeout_triggered": Recording._timed_out,
    "input_audio_buffer.committed": Recording._committed,
    "input_audio_buffer.cleared": Recording._cleared,
    "session.created": Recording._session_created,
    "session.updated": Recording._session_updated,
    "error": Recording._failed,
}


# --- fields of events, which may have any type ---------------------------------------------------


def _remember(known: dict[str, Any], key: str, value: Any) -> None:
    known[key] = value
    if len(known) > _MOST_UNKNOWN:
        del known[next(iter(known))]


def _object(value: Json, name: str) -> Json:
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}


def _objects(value: Json, name: str) -> list[Json]:
    found = value.get(name)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def _text(value: Json, name: str) -> str | None:
    found = value.get(name)
    return clean_text(found) if isinstance(found, str) else None


def _piece(event: Json) -> str:
    """Return a piece of text, which may hold half of a character."""
    found = event.get("delta")
    return found if isinstance(found, str) else ""


def _ms(value: Json, name: str) -> float | None:
    found = value.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return found if 0 <= found < 1e12 else None


def _index(value: Json) -> int:
    found = value.get("content_index")
    return found if type(found) is int else 0


def _bytes(value: Json, name: str) -> bytes:
    text = _text(value, name)
    try:
        return bytes_from_base64(text) if text else b""
    except ValueError:
        log.warning("skipping sound that is not base64")
        return b""


def _format_of(value: Json, side: str) -> Format | None:
    """Return the format of the sound that goes in or out; None if it is not told."""
    told = _object(_object(value, "audio"), side).get("format") or value.get(f"{side}_audio_format")
    name = _text(told, "type") if isinstance(told, Mapping) else told
    return _FORMATS.get(name) if isinstance(name, str) else None


def _speaks(value: Json, *, otherwise: bool) -> bool:
    told = value.get("output_modalities") or value.get("modalities")
    return "audio" in told if isinstance(told, list) else otherwise


def _usage_entry(usage: Json) -> Json:
    """Return usage in the form of Chat Completions."""
    names = (("input", "prompt"), ("output", "completion"))
    counts = {f"{to}_tokens": usage.get(f"{name}_tokens", 0) for name, to in names}
    details = {
        f"{to}_tokens_details": _object(usage, f"{name}_token_details") for name, to in names
    }
    return {**counts, **details}

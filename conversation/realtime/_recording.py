"""A Realtime session as turns: events go in, changes of a history come out."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from conversation._history.history import History
from conversation._values.parts import NO_WORDS_YET, AudioInput, ImageInput, Part
from conversation._values.turns import SystemTurn, ToolTurn, Turn, UserTurn
from conversation._values.usage import Usage
from conversation.errors import InvalidTurn
from conversation.realtime._appended import PCM, AppendedSound
from conversation.realtime._changes import Changes
from conversation.realtime._fields import (
    Json,
    bytes_of,
    format_of,
    index_of,
    ms_of,
    object_of,
    objects_of,
    piece_of,
    speaks,
    text_of,
    usage_of,
)
from conversation.realtime._items import Item, Response, heard, with_words
from conversation.realtime._seeding import SEED

log = logging.getLogger("conversation")

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


class Recording:
    """The state of a session, as far as its turns need it.

    `sent` and `received` note events; `settle` makes the changes that are due.
    """

    def __init__(self) -> None:
        self._sound = AppendedSound()
        self._changes = Changes()
        self._queue, self._edits = self._changes.queue, self._changes.edits
        self._has_session = False
        # A format that was sent, until the session confirms one.
        self._is_format_sent = False
        self._told: dict[str, int] = {}  # marks of events, by their ids
        self._begin_session()

    def _begin_session(self) -> None:
        self._model: str | None = None
        self._speaks = False
        self._format = PCM
        self._seen: set[str] = set()  # ids of items and responses
        self._words: dict[str, str] = {}
        self._partial: dict[str, str] = {}  # words as far as they have come
        self._worded: set[str] = set()  # ids of items with all of their words
        self._cuts: dict[str, float] = {}
        self._sounds: dict[str, AudioInput | None] = {}
        self._created: deque[tuple[str | None, AudioInput]] = deque(maxlen=16)
        self._responses: dict[str, Response] = {}
        self._changes.start = None

    # --- what the client sends -----------------------------------------------------------------

    def sent(self, event: Json) -> None:
        """Note an event of the client: of the user's sound it tells more than the server does."""
        match event.get("type"):
            case "input_audio_buffer.append":
                self._sound.append(bytes_of(event, "audio"))
            case "input_audio_buffer.commit":
                self._sound.commit()
            case "input_audio_buffer.clear":
                self._sound.clear()
            case "session.update":
                if (found := format_of(object_of(event, "session"), "input")) is not None:
                    self._is_format_sent = True
                    self._sound.change_format(found)
            case "conversation.item.create":
                item = object_of(event, "item")
                for part in objects_of(item, "content"):
                    if sound := self._playable(bytes_of(part, "audio")):
                        self._created.append((text_of(item, "id"), sound))

    def _playable(self, data: bytes) -> AudioInput | None:
        encoding, rate = self._sound.format
        whole = data[: len(data) - len(data) % 2] if encoding == "s16le" else data
        return AudioInput.from_pcm(whole, rate, encoding=encoding) if whole else None

    # --- what the server sends -----------------------------------------------------------------

    def received(self, event: Json) -> bool:
        """Note an event of the server; return True if there is something to settle."""
        kind = event.get("type")
        note = _NOTES.get(_BETA.get(kind, kind)) if isinstance(kind, str) else None
        if note is not None:
            self._once(event, note)
        return self._changes.are_due

    def _once(self, event: Json, note: Callable[[Recording, Json], None]) -> None:
        """Note an event, unless it comes again, as over a second connection."""
        event_id = text_of(event, "event_id") or ""
        mark = hash((event.get("type"), text_of(event, "delta")))
        if self._told.get(event_id) != mark:
            note(self, event)
            if event_id:  # not before: a note may be interrupted, and repeated by the caller
                _remember(self._told, event_id, mark)

    def settle(self, history: History) -> list[Turn]:
        """Make the changes that are due; as `Changes.settle`."""
        return self._changes.settle(history)

    def finish(self, history: History) -> list[Turn]:
        """Same as `settle`, with what has begun: as nothing more will come of it, interrupted."""
        self._break_off()
        return self.settle(history)

    @property
    def is_idle(self) -> bool:
        """True if nothing has begun and nothing is due."""
        has_begun = self._queue or self._sounds or self._partial or self._sound.begun
        return not (has_begun or self._changes.are_due)

    def _break_off(self) -> None:
        for item_id in self._partial.copy():
            self._words_failed({"item_id": item_id})
        for item_id in self._sound.begun:  # the user was speaking
            if sound := self._playable(self._sound.take(item_id)):
                self._sounds.setdefault(item_id, sound)
        for item_id in self._sounds.copy():
            self._say(item_id, [self._spoken(item_id, None)])
        for item in self._queue.values():
            self._end(item)
        self._responses.clear()

    def _session_created(self, event: Json) -> None:
        if self._has_session:  # connected anew: times begin at 0, and nothing old goes on
            self._break_off()
            self._sound = AppendedSound()
            self._begin_session()
        self._has_session = True
        self._read_session(object_of(event, "session"), is_new=True)

    def _session_updated(self, event: Json) -> None:
        self._read_session(object_of(event, "session"), is_new=False)

    def _read_session(self, session: Json, *, is_new: bool) -> None:
        self._model = text_of(session, "model") or self._model
        self._speaks = speaks(session, otherwise=self._speaks)
        self._format = format_of(session, "output") or self._format
        found = format_of(session, "input")
        if found is not None and not (is_new and self._is_format_sent):
            self._sound.change_format(found)

    def _speech_started(self, event: Json) -> None:
        item_id, start = text_of(event, "item_id"), ms_of(event, "audio_start_ms")
        if item_id and start is not None:
            self._sound.begin_speech(item_id, start)

    def _speech_stopped(self, event: Json) -> None:
        item_id, end = text_of(event, "item_id"), ms_of(event, "audio_end_ms")
        if item_id and end is not None:
            self._sound.end_speech(item_id, end)

    def _timed_out(self, event: Json) -> None:
        self._speech_started(event)
        self._speech_stopped(event)

    def _committed(self, event: Json) -> None:
        item_id = text_of(event, "item_id")
        if item_id and item_id not in self._seen:
            self._sounds[item_id] = self._playable(self._sound.take(item_id))

    def _cleared(self, _: Json) -> None:
        self._sound.clear(is_confirmed=True)

    def _failed(self, event: Json) -> None:
        if text_of(object_of(event, "error"), "code") == "input_audio_buffer_commit_empty":
            self._sound.refuse_commit()

    def _added(self, event: Json) -> None:
        item = object_of(event, "item")
        item_id = text_of(item, "id")
        if not item_id or item_id.startswith(SEED):
            return
        role, content = text_of(item, "role"), objects_of(item, "content")
        if item_id in self._seen:
            self._fill(item_id, item)
            for part in content if role == "user" else ():
                self._words_known({"item_id": item_id, "transcript": part.get("transcript")})
            return
        match text_of(item, "type"), role:
            case "message", "user":
                parts = [found for part in content if (found := self._part(item_id, part))]
                self._say(item_id, parts or ([] if content else [self._spoken(item_id, None)]))
            case "message", "system":
                text = "\n".join(text_of(part, "text") or "" for part in content)
                self._put(Item(item_id, "said", said=SystemTurn(text), is_ready=True))
            case "function_call_output", _:
                result = ToolTurn(text_of(item, "call_id") or "", text_of(item, "output") or "")
                self._put(Item(item_id, "said", said=result, is_ready=True))
            case "message", "assistant":
                self._begin_or_put(item, Item(item_id, format=self._format))
            case "function_call", _:
                self._begin_or_put(item, Item(item_id, "call"))

    def _begin_or_put(self, item: Json, new: Item) -> None:
        """Put an item of the model in its place; one that the client has made is whole."""
        self._put(new)
        self._fill(new.id, item)
        status, has_begun = text_of(item, "status"), new.written or new.spoken or new.arguments
        if status == "completed" or (has_begun and status != "in_progress"):
            new.is_ready = new.is_whole = True

    def _part(self, item_id: str, part: Json) -> Part | None:
        match text_of(part, "type"):
            case "input_text" | "text":
                return text_of(part, "text") or None
            case "input_audio" | "audio":
                return self._spoken(item_id, text_of(part, "transcript"))
            case "input_image":
                try:
                    return ImageInput(text_of(part, "image_url") or "", text_of(part, "detail"))
                except InvalidTurn as error:
                    log.warning("leaving out a picture of the session: %s", error)
        return None

    def _spoken(self, item_id: str, words: str | None) -> Part:
        """Return what the user said: the sound if it was sent by here, and the words if known."""
        words = words or self._words.pop(item_id, None)
        if item_id in self._sounds:
            sound = self._sounds.pop(item_id)
        else:
            sound = self._sent(item_id) or self._playable(self._sound.take_early(item_id))
        if sound is not None:
            return attrs.evolve(sound, transcript=words) if words else sound
        return words if words and words.strip() else NO_WORDS_YET

    def _sent(self, item_id: str) -> AudioInput | None:
        for made in tuple(self._created):  # another thread may send meanwhile
            if made[0] in (item_id, None):
                with contextlib.suppress(ValueError, IndexError):
                    self._created.remove(made)
                return made[1]
        return None

    def _say(self, item_id: str, parts: list[Part]) -> None:
        self._sounds.pop(item_id, None)
        is_news = item_id not in self._seen
        if is_news and any(not isinstance(part, str) or part.strip() for part in parts):
            self._put(Item(item_id, "said", said=UserTurn(tuple(parts)), is_ready=True))

    def _put(self, item: Item) -> None:
        item.cut_ms = self._cuts.pop(item.id, None)
        self._queue[item.id] = item
        self._seen.add(item.id)

    def _words_delta(self, event: Json) -> None:
        item_id = text_of(event, "item_id")
        if item_id and item_id not in self._worded:
            words = self._partial.get(item_id, "") + piece_of(event)
            _remember(self._partial, item_id, words)

    def _words_failed(self, event: Json) -> None:
        """Take the words that have come: no more will."""
        words = self._partial.get(text_of(event, "item_id") or "")
        self._words_known({**event, "transcript": words})

    def _words_known(self, event: Json) -> None:
        item_id, words = text_of(event, "item_id"), text_of(event, "transcript")
        self._partial.pop(item_id or "", None)
        if not item_id or item_id.startswith(SEED) or not words or not words.strip():
            return
        self._worded.add(item_id)
        item = self._queue.get(item_id)
        if item is not None and item.turn is None:
            item.words = words
            return
        if item_id not in self._seen:  # yet, or by this recorder
            _remember(self._words, item_id, words)
        self._edits.append((item_id, lambda turn: with_words(turn, words)))

    def _truncated(self, event: Json) -> None:
        item_id, ms = text_of(event, "item_id"), ms_of(event, "audio_end_ms")
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
        item_id = text_of(event, "item_id")
        if not item_id or item_id.startswith(SEED):
            return
        self._sounds.pop(item_id, None)
        self._seen.add(item_id)
        if item := self._queue.pop(item_id, None):
            self._changes.spent += item.fields.get("usage") or Usage()
        if item is None or item.turn is not None:
            self._edits.append((item_id, lambda _: None))

    # --- responses -----------------------------------------------------------------------------

    def _response_created(self, event: Json) -> None:
        response = object_of(event, "response")
        if response_id := text_of(response, "id"):
            begun = self._response(response)
            _remember(self._responses, response_id, begun)
            for item in self._queue.values():
                # A conversation has one response at a time: the end of this one was missed.
                is_over = item.is_whole or item.response
                if is_over and item.response != response_id and not begun.is_outside:
                    self._end(item)

    def _end(self, item: Item) -> None:
        """Take an item as it is: nothing more will come of it."""
        item.is_ready = True
        ended = {"finish_reason": "stop"} if item.is_whole else {}
        item.fields = {"model": self._model, **ended, **item.fields}

    def _response(self, response: Json) -> Response:
        is_outside = "conversation_id" in response and response["conversation_id"] is None
        sound = format_of(response, "output") or self._format
        return Response(is_outside, sound, speaks(response, otherwise=self._speaks))

    def _generated(self, event: Json) -> Item | None:
        """Return the item that an event adds to; None if it belongs to no conversation."""
        item_id, response_id = text_of(event, "item_id"), text_of(event, "response_id") or ""
        response = self._responses.get(response_id)
        if not item_id or item_id.startswith(SEED) or (response and response.is_outside):
            return None
        if item_id not in self._seen and response_id not in self._seen:
            self._put(Item(item_id, format=response.format if response else self._format))
        item = self._queue.get(item_id)
        if item is None or item.said is not None or item.is_ready:
            return None
        item.response = item.response or response_id
        return item

    def _output_added(self, event: Json) -> None:
        made = object_of(event, "item")
        if text_of(made, "type") in ("message", "function_call"):
            self._generated({**event, "item_id": made.get("id")})
            self._fill(text_of(made, "id") or "", made)

    def _fill(self, item_id: str, made: Json) -> None:
        """Take what an item says of itself in the place of its pieces."""
        item = self._queue.get(item_id)
        if item is None or item.said is not None or item.is_ready:
            return
        if text_of(made, "type") == "function_call":
            item.kind = "call"
            item.call_id = text_of(made, "call_id") or item.call_id
            item.name = text_of(made, "name") or item.name
            if arguments := text_of(made, "arguments"):
                item.arguments = [arguments]
        item.is_whole = item.is_whole or text_of(made, "status") == "completed"
        for index, part in enumerate(objects_of(made, "content")):
            if words := text_of(part, "transcript"):
                item.spoken[index] = [words]
            if text_of(part, "type") in ("output_text", "text") and (text := text_of(part, "text")):
                item.written[index] = [text]

    def _sound_delta(self, event: Json) -> None:
        if item := self._generated(event):
            item.sound.append(bytes_of(event, "delta"))

    def _transcript_delta(self, event: Json) -> None:
        if (item := self._generated(event)) and (words := piece_of(event)):
            item.spoken.setdefault(index_of(event), []).append(words)

    def _transcript_done(self, event: Json) -> None:
        if (item := self._generated(event)) and (words := text_of(event, "transcript")):
            item.spoken[index_of(event)] = [words]

    def _text_delta(self, event: Json) -> None:
        if (item := self._generated(event)) and (text := piece_of(event)):
            item.written.setdefault(index_of(event), []).append(text)

    def _text_done(self, event: Json) -> None:
        if (item := self._generated(event)) and (text := text_of(event, "text")):
            item.written[index_of(event)] = [text]

    def _called(self, event: Json) -> Item | None:
        if item := self._generated(event):
            item.kind = "call"
            item.call_id = text_of(event, "call_id") or item.call_id
            item.name = text_of(event, "name") or item.name
        return item

    def _arguments_delta(self, event: Json) -> None:
        if item := self._called(event):
            item.arguments.append(piece_of(event))

    def _arguments_done(self, event: Json) -> None:
        if item := self._called(event):
            item.arguments = [text_of(event, "arguments") or "".join(item.arguments)]

    def _response_done(self, event: Json) -> None:
        made = object_of(event, "response")
        response_id = text_of(made, "id") or ""
        if response_id in self._seen:
            return
        response = self._responses.pop(response_id, None) or self._response(made)
        usage = usage_of(made)
        is_outside = response.is_outside or self._response(made).is_outside
        if not is_outside:
            for output in objects_of(made, "output"):
                self._output_added({"item": output, "response_id": response_id})
        items = [
            item
            for item in self._queue.values()
            if item.said is None and not item.is_ready and item.response in (response_id, "")
        ]
        if is_outside or not items:
            self._changes.spent += usage
        status = text_of(made, "status")
        reason = text_of(object_of(made, "status_details"), "reason") or ""
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
        if response_id:
            self._seen.add(response_id)


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


def _remember(known: dict[str, Any], key: str, value: Any) -> None:
    known[key] = value
    if len(known) > _MOST_UNKNOWN:
        del known[next(iter(known))]

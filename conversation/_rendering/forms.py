"""The rule of substitution: the form in which each turn is sent.

Pure: the caller reads the clock once for a request, as a `Moment`.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

import attrs
import orjson

from conversation._values.parts import AudioInput, FileInput, ImageInput, Part
from conversation._values.turns import (
    AssistantTurn,
    SystemTurn,
    ToolTurn,
    Turn,
    UserTurn,
    own_text,
)
from conversation._wire.extra import merged
from conversation._wire.messages import (
    KNOWN_KEYS,
    Message,
    has_name,
    named,
    system_message,
    tool_call_entry,
    tool_message,
    unknown_keys,
    upload_size,
    user_message,
    wire_id,
    wire_name,
)
from conversation._wire.servers import OPENAI, Server

log = logging.getLogger("conversation")

PLACEHOLDER = "[spoken answer, its words are not known]"
NO_VOICE = -math.inf
ID_LIFETIME = 3600
"""Seconds from the time inside an id to its expiry (undocumented, but so in all recordings)."""

USER_TOKENS_PER_SECOND = 10
ASSISTANT_TOKENS_PER_SECOND = 20
"""Tokens of sound, as OpenAI counts them."""

MEDIA_TOKENS = 1000
"""Tokens of a picture or a file: a guess, until the next answer's usage corrects it."""

VOICE_MODELS = ("gpt-audio", "gpt-4o-audio-preview", "gpt-4o-mini-audio-preview")
"""Beginnings of the names of OpenAI's voice models."""

_TEXT_MODELS = re.compile(
    r"(?:gpt-(?:3\.5|4o?|5)|chatgpt-4o|o[134])(?![0-9a-z])(?!.*(?:audio|realtime|omni))"
)
"""Beginnings of the names of OpenAI's models that take no sound."""

MediaKinds: TypeAlias = tuple[type[ImageInput | FileInput | AudioInput], ...]

_UNSEEN: Mapping[type, tuple[str, str]] = {
    AudioInput: ("[speech, which cannot be played to you]", "sound"),
    ImageInput: ("[a picture, which cannot be shown to you]", "pictures"),
    FileInput: ("[a file, which cannot be shown to you]", "files"),
}

_TIMED_ID = re.compile(r"audio_([0-9a-f]{8})[0-9a-f]{24}")


class Form(Enum):
    """The form in which a turn is sent."""

    PLAIN = "as it is"
    VOICE = "voice"
    TRANSCRIPT = "transcript"
    TEXT = "text"
    TOOL_CALLS = "tool calls alone"
    REFUSAL = "refusal"
    PLACEHOLDER = "placeholder"
    WORDS = "words"
    NO_RESULT = "no result"
    CUT = "tool result"
    SUMMARY = "summary"
    LEFT_OUT = "left out"


# To look up a member of an enum takes as long as the rest of a short function.
_PLAIN, _TRANSCRIPT = Form.PLAIN, Form.TRANSCRIPT
# To call a named tuple with some of its fields takes twice as long.
_new: Any = tuple.__new__
_are_usual = (KNOWN_KEYS - {"name", "tool_calls"}).issuperset


@attrs.frozen
class Moment:
    """The moment of a request, for deciding which audio ids are still used.

    Attributes:
        now: Unix time in seconds by the server's clock.
        margin: Seconds before its expiry from which on an id is no longer used.
    """

    now: float
    margin: float

    @property
    def limit(self) -> float:
        """Time at or before which an id that expires is no longer used."""
        return self.now + self.margin


NEVER = Moment(0.0, 0.0)


class Prepared(NamedTuple):
    """A turn prepared for sending, as far as that does not depend on the time.

    Attributes:
        turn: None for instructions, for results that nobody gave, and for a stored entry that was
            not decoded.
        voice_end: Unix time in seconds at which the server forgets the voice; minus infinity: no
            voice.
        form: The form without voice.
        message: The message in that form; None if it holds more than text and is made anew.
        voice_id: The audio id, if the message in voice form holds nothing else.
        in_tools: True for tool calls and their results.
        tokens: Estimated tokens in the form without voice.
        voice_tokens: Estimated tokens as voice.
        upload: Bytes of base64 in it.
        words: A user turn with words in place of its sound; None if some words are not known.
        begins: True if an exchange begins with it: user turns.
        stays: True if it is always sent: instructions and system turns.
        reason: The reason why it is left out, or sent without its sound, whatever the time.
        sent: The turn that is sent in its place, with placeholders for pictures and files.
    """

    turn: Turn | None
    voice_end: float
    form: Form
    message: Message | None
    voice_id: str | None = None
    in_tools: bool = False
    tokens: int = 0
    voice_tokens: int = 0
    upload: int = 0
    words: Prepared | None = None
    begins: bool = False
    stays: bool = False
    reason: str = ""
    sent: UserTurn | None = None

    def left_out(self, reason: str) -> Prepared:
        """Return the same, marked as not sent."""
        return self._replace(
            form=Form.LEFT_OUT, message=None, voice_end=NO_VOICE, upload=0, reason=reason
        )


def prepare(turn: Turn) -> Prepared:
    """Prepare a turn; for an answer the first half of the rule: its forms, and until when."""
    if isinstance(turn, AssistantTurn):
        form, end, audio = form_without_voice(turn), voice_end(turn), turn.audio
        has_more = has_name(turn) or bool(_unknown_keys(turn))
        is_plain = not (turn.content or turn.tool_calls or has_more)
        if audio and form is Form.TRANSCRIPT and is_plain:
            return _speech(turn, audio.id, end, audio.transcript or "", audio.duration)
        calls = sum(
            text_tokens(wire_name(call.name)) + text_tokens(call.arguments)
            for call in turn.tool_calls
        )
        tokens = text_tokens(turn.text) + calls
        spoken = tokens
        if audio and end > NO_VOICE:
            spoken += _spoken_tokens(audio.duration, audio.transcript or "")
        if turn.tool_calls:
            return Prepared(
                turn, end, form, None, in_tools=True, tokens=tokens, voice_tokens=spoken
            )
        is_short = turn.audio and not (own_text(turn) or has_more)
        voice_id = turn.audio.id if turn.audio and is_short else None
        if form is Form.PLACEHOLDER:
            tokens = text_tokens(PLACEHOLDER)
        is_made_anew = form is Form.PLACEHOLDER or has_more
        message = None if is_made_anew else assistant_message(turn, form)
        return Prepared(turn, end, form, message, voice_id, tokens=tokens, voice_tokens=spoken)
    if isinstance(turn, UserTurn):
        return _prepared_user(turn)
    if isinstance(turn, SystemTurn):
        message = system_message(turn)
        return Prepared(
            turn, NO_VOICE, Form.PLAIN, message, tokens=text_tokens(turn.text), stays=True
        )
    message = tool_message(turn.tool_call_id, turn.content, turn)
    return Prepared(
        turn, NO_VOICE, Form.PLAIN, message, in_tools=True, tokens=text_tokens(turn.content)
    )


def cut(prepared: Prepared, most: int) -> Prepared:
    """Return a tool's result, cut to so many tokens if it has more."""
    if not isinstance(prepared.turn, ToolTurn) or prepared.tokens <= most:
        return prepared
    mark = f"\n[cut: the result has some {prepared.tokens} tokens, of which this is the beginning]"
    room = max(4 * most - len(mark), 0)
    text = prepared.turn.content.encode()[:room].decode(errors="ignore") + mark
    text = text if text_tokens(text) <= most else text[: 4 * most]
    message = {**(prepared.message or {}), "content": text}
    tokens, reason = text_tokens(text), f"cut to {most} tokens"
    return prepared._replace(form=Form.CUT, message=message, tokens=tokens, reason=reason)


def _prepared_user(turn: UserTurn) -> Prepared:
    if len(turn.content) == 1 and isinstance(turn.content[0], str):
        message, tokens = user_message(turn), text_tokens(turn.content[0])
        return Prepared(turn, NO_VOICE, Form.PLAIN, message, tokens=tokens, begins=True)
    tokens = 0
    words: list[Part] = []
    for part in turn.content:
        if isinstance(part, AudioInput):
            tokens += int(USER_TOKENS_PER_SECOND * (part.duration or 0))
            if part.transcript and part.transcript.strip():
                words.append(part.transcript)
        else:
            tokens += text_tokens(part) if isinstance(part, str) else MEDIA_TOKENS
            words.append(part)
    changed = len(words) == len(turn.content) and tuple(words) != turn.content
    return Prepared(
        turn,
        NO_VOICE,
        Form.PLAIN,
        None,
        tokens=tokens,
        upload=sum(map(upload_size, turn.content)),
        words=prepare(attrs.evolve(turn, content=tuple(words))) if changed else None,
        begins=True,
    )


def is_voice_model(model: str) -> bool:
    """Return True for OpenAI's voice models, also behind a vendor's name, and tuned ones."""
    return _own_name(model).startswith(VOICE_MODELS)


def untaken_by(model: str) -> MediaKinds:
    """Return the kinds of media that a model is known to refuse, by its name."""
    if is_voice_model(model):
        return (ImageInput, FileInput)
    return (AudioInput,) if _TEXT_MODELS.match(_own_name(model)) else ()


def _own_name(model: str) -> str:
    return re.sub(r".*[/:.](?=(?:chat)?gpt-|o\d)", "", model)


def media_in(turn: Turn | None, kinds: MediaKinds = (ImageInput, FileInput)) -> str:
    """Return the kinds of media that a user turn holds, in words; empty if there are none."""
    parts = turn.content if isinstance(turn, UserTurn) else ()
    found = {_UNSEEN[type(part)][1] for part in parts if isinstance(part, kinds)}
    return " and ".join(sorted(found, reverse=True))


def unseen(item: Prepared, kinds: MediaKinds) -> Prepared:
    """Return a turn without the media of these kinds; the same one if it has none.

    Words go in place of the user's sound where they are known, and placeholders for all else. What
    a model has said is no voice to one that hears none.
    """
    turn = item.turn
    if AudioInput in kinds and item.voice_end > NO_VOICE:
        return item._replace(voice_end=NO_VOICE, reason="the model takes no sound")
    if not (names := media_in(turn, kinds)) or not isinstance(turn, UserTurn):
        return item
    content = [
        part if not isinstance(part, kinds) else _words_of(part) or _UNSEEN[type(part)][0]
        for part in turn.content
    ]
    sent = attrs.evolve(turn, content=content)
    is_said = all(_words_of(part) for part in turn.content if isinstance(part, kinds))
    form = Form.WORDS if is_said else Form.PLACEHOLDER
    reason = f"the model takes no {names}"
    return prepare(sent)._replace(turn=turn, sent=sent, form=form, reason=reason)


def _words_of(part: Part) -> str | None:
    words = part.transcript if isinstance(part, AudioInput) else None
    return words if words and words.strip() else None


def prepare_entries(slots: Iterable[Any]) -> list[Prepared | None]:
    """Prepare the stored entries of usual turns without decoding them; None for all others.

    Same as `prepare` of the decoded turn, but for `turn`: text of the user, or words of the model,
    spoken or written, and nothing else. It makes the first request after a resume cheap: one loop,
    since a call more for each turn is felt.
    """
    found: list[Prepared | None] = []
    for entry in slots:
        item = None
        try:
            role, content = entry["role"], entry["content"]
            if role == "user" and type(content) is str and "name" not in entry:
                tokens = (len(content) if content.isascii() else len(content.encode())) + 3 >> 2
                message = {"role": "user", "content": content}
                # fmt: off
                item = _new(Prepared, (
                    None, NO_VOICE, _PLAIN, message, None, False, tokens, 0, 0, None, True, False,
                    "", None,
                ))
                # fmt: on
            elif role != "assistant" or not _are_usual(entry):
                pass
            elif content is None:
                audio = entry["audio"]
                audio_id, words, end = audio["id"], audio["transcript"], audio["expires_at"]
                seconds, begin = audio.get("duration"), audio_id.rfind("audio_")
                if (
                    "data" not in audio
                    and begin <= 0
                    and type(words) is str
                    and words
                    and not words.isspace()
                    and (seconds is None or (type(seconds) is float and 0 < seconds < 1e15))
                    and (type(end) is int or type(end) is float)
                    and 0 < end < 1e15
                ):
                    is_lost = audio.get("lost") is True or entry.get("interrupted") is True
                    end = NO_VOICE if begin or is_lost else end
                    item = _speech(None, audio_id, end, words, seconds)
            elif type(content) is str and content.strip() and entry.get("audio") is None:
                item = _text(content)
        except (KeyError, TypeError, AttributeError):  # a field is missing, or of another type
            pass
        found.append(item)
    return found


def _text(text: str) -> Prepared:
    """Prepare an answer that is nothing but written words."""
    message, tokens = {"role": "assistant", "content": text}, text_tokens(text)
    return Prepared(None, NO_VOICE, Form.TEXT, message, tokens=tokens, voice_tokens=tokens)


def _speech(
    turn: Turn | None, audio_id: str | None, end: float, words: str, seconds: float | None
) -> Prepared:
    """Prepare an answer that is nothing but spoken words."""
    tokens = spoken = (len(words) if words.isascii() else len(words.encode())) + 3 >> 2
    if end > NO_VOICE:
        spoken += _spoken_tokens(seconds, words)
    message = {"role": "assistant", "content": words}
    # fmt: off
    item: Prepared = _new(Prepared, (
        turn, end, _TRANSCRIPT, message, audio_id, False, tokens, spoken, 0, None, False, False,
        "", None,
    ))
    # fmt: on
    return item


def _spoken_tokens(seconds: float | None, transcript: str) -> int:
    # Where only an id came, some eight tokens a word.
    if seconds is None:
        return 8 * len(transcript.split())
    return int(ASSISTANT_TOKENS_PER_SECOND * seconds)


def text_tokens(text: str) -> int:
    """Return the estimated tokens of a text: its bytes / 4."""
    return (len(text) if text.isascii() else len(text.encode())) + 3 >> 2


def form_at(prepared: Prepared, at: Moment) -> Form:
    """The second half of the rule: the moment at which the id turns into the transcript."""
    return Form.VOICE if at.limit < prepared.voice_end else prepared.form


def voice_end(turn: AssistantTurn) -> float:
    """Return the Unix time at which an answer's id expires; minus infinity if it is never used.

    An id without `expires_at` is used only if it carries its time.
    """
    audio = turn.audio
    if audio is None or audio.lost or turn.interrupted or not (audio.id or "").startswith("audio_"):
        return NO_VOICE
    if audio.expires_at is not None:
        return audio.expires_at
    timed = _TIMED_ID.fullmatch(audio.id or "")
    return int(timed[1], 16) + ID_LIFETIME if timed else NO_VOICE


def form_without_voice(turn: AssistantTurn) -> Form:
    """Return the first that exists: transcript, text, tool calls alone, refusal, placeholder."""
    if turn.audio is not None and (turn.audio.transcript or "").strip():
        return Form.TRANSCRIPT
    if (turn.content or "").strip():
        return Form.TEXT
    if turn.tool_calls:
        return Form.TOOL_CALLS
    if (turn.refusal or "").strip():
        return Form.REFUSAL
    return Form.PLACEHOLDER


def assistant_message(turn: AssistantTurn, form: Form, server: Server = OPENAI) -> Message:
    """Return the message of an answer in that form. Of `audio` it never holds more than the id."""
    message = named({"role": "assistant"}, turn)
    if server.takes_unknown_keys:
        keys = _unknown_keys(turn)
        message |= {key: keys[key] for key in keys if key not in server.refused_keys}
    if form is Form.VOICE and turn.audio is not None:
        message["audio"] = {"id": turn.audio.id}
        if text := own_text(turn):
            message["content"] = text
    elif form is Form.PLACEHOLDER:
        message["content"] = PLACEHOLDER
    elif form is not Form.TOOL_CALLS:
        message["content"] = turn.text
    if turn.tool_calls:
        message["tool_calls"] = _sent_calls(turn, server)
    return message


def _unknown_keys(turn: AssistantTurn) -> dict[str, Any]:
    return {} if turn.extra == "{}" else unknown_keys(orjson.loads(turn.extra))


def _sent_calls(turn: AssistantTurn, server: Server) -> list[dict[str, Any]]:
    """Return the tool calls; a server of their kind gets back all that came with them."""
    if not server.takes_unknown_keys:
        return [
            tool_call_entry(attrs.evolve(call, id=wire_id(call.id), name=wire_name(call.name)))
            for call in turn.tool_calls
        ]
    entries = [tool_call_entry(call) for call in turn.tool_calls]
    unknown = orjson.loads(turn.extra).get("tool_calls")
    for entry, keys in zip(entries, unknown if isinstance(unknown, list) else (), strict=False):
        if isinstance(keys, dict):
            left_out = {"index", *server.refused_keys}
            merged(entry, {key: keys[key] for key in keys if key not in left_out}, {})
    return entries


def unusual_keys(turn: Turn | None) -> set[str]:
    """Return the keys of an answer and its calls that only its own server knows."""
    if not isinstance(turn, AssistantTurn) or turn.extra == "{}":
        return set()
    extra = orjson.loads(turn.extra)
    calls = extra.get("tool_calls")
    bodies = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return set(unknown_keys(extra)).union(*bodies)

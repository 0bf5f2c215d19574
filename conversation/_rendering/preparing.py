"""Turns prepared for sending: their forms, and what they cost in a request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from conversation._rendering.forms import (
    NO_VOICE,
    PLACEHOLDER,
    Form,
    Prepared,
    assistant_message,
    form_without_voice,
    unknown_keys_of,
    voice_end,
)
from conversation._values.parts import AudioInput, Part
from conversation._values.turns import AssistantTurn, SystemTurn, ToolTurn, Turn, UserTurn, own_text
from conversation._wire.messages import (
    KNOWN_KEYS,
    has_name,
    system_message,
    tool_message,
    upload_size,
    user_message,
    wire_name,
)
from conversation._wire.reading import TOKENS_PER_SECOND

USER_TOKENS_PER_SECOND = 10
"""Tokens of the user's sound, as OpenAI counts them."""

MEDIA_TOKENS = 1000
"""Tokens of a picture or a file: a guess, until the next answer's usage corrects it."""

# To look up a member of an enum takes as long as the rest of a short function.
_PLAIN, _TRANSCRIPT = Form.PLAIN, Form.TRANSCRIPT
# To call a named tuple with some of its fields takes twice as long.
_new: Any = tuple.__new__
_are_usual = (KNOWN_KEYS - {"name", "tool_calls"}).issuperset


def prepare(turn: Turn) -> Prepared:
    """Prepare a turn; for an answer the first half of the rule: its forms, and until when."""
    if isinstance(turn, AssistantTurn):
        form, end, audio = form_without_voice(turn), voice_end(turn), turn.audio
        has_more = has_name(turn) or bool(unknown_keys_of(turn))
        is_plain = not (turn.content or turn.tool_calls or has_more)
        if audio and form is Form.TRANSCRIPT and is_plain:
            return _speech(turn, audio.id, end, audio.transcript or "", audio.duration)
        tokens = text_tokens(turn.text)
        for call in turn.tool_calls:
            tokens += text_tokens(wire_name(call.name)) + text_tokens(call.arguments)
        spoken = tokens
        if audio and end > NO_VOICE:
            spoken += _spoken_tokens(audio.duration, audio.transcript or "")
        if turn.tool_calls:
            return Prepared(
                turn, end, form, None, in_tools=True, tokens=tokens, voice_tokens=spoken
            )
        voice_id = audio.id if audio and not (own_text(turn) or has_more) else None
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
                message, tokens = {"role": "assistant", "content": content}, text_tokens(content)
                item = Prepared(None, NO_VOICE, Form.TEXT, message, None, False, tokens, tokens)
        except (KeyError, TypeError, AttributeError):  # a field is missing, or of another type
            pass
        found.append(item)
    return found


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
    return int(TOKENS_PER_SECOND * seconds)


def text_tokens(text: str) -> int:
    """Return the estimated tokens of a text: its bytes / 4."""
    return (len(text) if text.isascii() else len(text.encode())) + 3 >> 2

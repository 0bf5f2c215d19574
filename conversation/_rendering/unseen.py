"""Media that a model does not take, and what it gets in their place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

import attrs

from conversation._rendering.forms import NO_VOICE, Form, Prepared
from conversation._rendering.preparing import prepare
from conversation._values.parts import AudioInput, FileInput, ImageInput, Part
from conversation._values.turns import Turn, UserTurn

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

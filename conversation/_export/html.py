"""The format `html`: one page to read and listen to, which fetches nothing."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
from collections.abc import Iterator
from importlib import resources

from conversation._export import waveform
from conversation._export.outline import (
    Exported,
    counts,
    notes,
    text_of,
    time_of,
    without_controls,
)
from conversation._rendering.forms import Form
from conversation._values.data import Data, read_data
from conversation._values.parts import AudioInput, ImageInput
from conversation._values.sound import MEDIA_TYPES, identified, mended, wav_from_pcm
from conversation._values.turns import (
    AssistantTurn,
    ToolCall,
    ToolTurn,
    Turn,
    Usage,
    UserTurn,
    answers_by_call,
)
from conversation._wire.messages import base64_text
from conversation.errors import AudioFileMissing

_BARS = 120
"""Bars of a waveform. Its view box is as many units wide, and reaches from -1 to 1."""

_PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")


def html_page(exported: Exported) -> Iterator[str]:
    """Yield the page piece by piece. All text is escaped."""
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; img-src data:; media-src data:; style-src {_source(style)}; "
        f"script-src {_source(script)}; base-uri 'none'; form-action 'none'"
    )
    title = _escaped(exported.title)
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>\n"
        f'<h1 dir="auto">{title}</h1>\n'
        f'<p class="about">{" · ".join(map(_isolated, exported.about))}</p>\n'
    )
    if exported.instructions:
        yield (
            '<article class="system">\n<header><b>Instructions</b></header>\n'
            f"{_words(exported.instructions)}</article>\n"
        )
    answers = answers_by_call(exported.turns)
    folded = set(answers.values())  # shown with their calls
    for position, turn in enumerate(exported.turns):
        if position not in folded:
            yield from _article(exported, position, turn, answers)
    yield from _usage(exported.usage)
    yield f"</main>\n<script>{script}</script>\n</body>\n</html>\n"


@functools.cache
def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _source(text: str) -> str:
    """Return the source expression that allows the inline text in a content security policy."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _article(
    exported: Exported, position: int, turn: Turn, answers: dict[tuple[int, int], int]
) -> Iterator[str]:
    time = f'<time datetime="{turn.at.isoformat()}">{time_of(turn.at)}</time>' if turn.at else ""
    facts = "".join(f"<span>{_isolated(note)}</span>" for note in notes(turn))
    yield (
        f'<article class="{turn.role}">\n'
        f"<header><b>{turn.role.capitalize()}</b>{time}{facts}</header>\n"
    )
    yield from _media(turn)
    if text := text_of(turn):
        yield _words(text, is_known=bool(turn.text))
    for index, call in enumerate(turn.tool_calls if isinstance(turn, AssistantTurn) else ()):
        answer = answers.get((position, index))
        yield _call(call, None if answer is None else exported.turns[answer])
    form, why = exported.reasons.get(id(turn), (Form.PLAIN, ""))
    if form is not Form.PLAIN:
        kind = " voice" if form is Form.VOICE else ""
        yield f'<p class="sent{kind}">sent now as: {_escaped(why)}</p>\n'
    yield "</article>\n"


def _media(turn: Turn) -> Iterator[str]:
    if isinstance(turn, AssistantTurn) and turn.audio and turn.audio.data is not None:
        yield _player(turn.audio.data, turn.audio.format)
    for part in turn.content if isinstance(turn, UserTurn) else ():
        if isinstance(part, AudioInput):
            yield _player(part.data, part.format)
        elif isinstance(part, ImageInput) and part.media_type in _PICTURES:
            yield _picture(part)


def _player(data: Data, audio_format: str | None) -> str:
    try:
        sound, audio_format = identified(read_data(data), audio_format)
        sound = mended(sound)
    except AudioFileMissing:
        return _flag("The audio file is missing.")
    if audio_format == "pcm16":
        sound, audio_format = wav_from_pcm(sound), "wav"
    media_type = MEDIA_TYPES.get(audio_format or "")
    if media_type is None:
        source = f"data:application/octet-stream;base64,{base64_text(sound)}"
        link = f'<a download="sound" href="{source}">Download it.</a>'
        return _flag(f"Browsers cannot play this audio format. {link}")
    peaks = waveform.peaks(sound, audio_format, _BARS) or ()
    heights = (f"{max(peak, 0.02):.2f}" for peak in peaks)
    bars = "".join(f"M{bar}.5 -{height}V{height}" for bar, height in enumerate(heights))
    return (
        f'<figure><svg viewBox="0 -1 {_BARS} 2" preserveAspectRatio="none" role="img" '
        f'aria-label="Waveform"><path d="{bars}"/><line y1="-1" y2="1"/></svg>'
        f'<audio controls preload="metadata" data-name="sound.{audio_format}" '
        f'src="data:{media_type};base64,{base64_text(sound)}"></audio></figure>\n'
    )


def _picture(image: ImageInput) -> str:
    if isinstance(image.data, str):
        return ""  # a URL: the page fetches nothing
    try:
        picture = read_data(image.data)
    except AudioFileMissing:
        return _flag("The image file is missing.")
    return f'<img alt="" src="data:{image.media_type};base64,{base64_text(picture)}">\n'


def _call(call: ToolCall, answer: Turn | None) -> str:
    result = answer.content if isinstance(answer, ToolTurn) else None
    shown = "no result" if result is None else f"<pre>{_escaped(result)}</pre>"
    return (
        f"<details><summary>called <code>{_isolated(call.name)}</code></summary>\n"
        f'<pre dir="auto">{_escaped(call.arguments)}</pre>\n{shown}</details>\n'
    )


def _usage(usage: Usage) -> Iterator[str]:
    if usage == Usage():
        return
    rows = (f"<tr><td>{name}</td><td>{count:,}</td></tr>\n" for name, count in counts(usage))
    yield f"<h2>Usage, in tokens</h2>\n<table>\n{''.join(rows)}</table>\n"


def _words(text: str, *, is_known: bool = True) -> str:
    kind = "" if is_known else " unknown"
    return f'<p class="words{kind}" dir="auto">{_escaped(text)}</p>\n'


def _flag(text: str) -> str:
    return f'<p class="words flag">{text}</p>\n'


def _isolated(text: str) -> str:
    """Return inline text whose direction marks cannot affect what follows it."""
    return f"<bdi>{_escaped(text)}</bdi>"


def _escaped(text: str) -> str:
    return html.escape(without_controls(text))

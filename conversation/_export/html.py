"""The format `html`: one page to read and listen to, which fetches nothing."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import html
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib import resources

from conversation._export import waveform
from conversation._export.outline import (
    Exported,
    Note,
    counts,
    notes,
    time_of,
    unanswered,
    without_controls,
)
from conversation._export.rich_text import rich_text
from conversation._rendering.forms import Form
from conversation._values import conversion
from conversation._values.data import Data, read_data
from conversation._values.parts import AudioInput, ImageInput, Part
from conversation._values.sound import MEDIA_TYPES, identified, mended, wav_from_pcm
from conversation._values.turns import (
    AssistantAudio,
    AssistantTurn,
    ToolCall,
    ToolTurn,
    Turn,
    UserTurn,
    answers_by_call,
    own_text,
)
from conversation._values.usage import Usage
from conversation._wire.messages import base64_text
from conversation.errors import AudioFileMissing, UnsupportedAudio

_BARS = 64
"""Bars of a waveform. Its view box is as many units wide, and reaches from -1 to 1."""

_PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_PLAIN = [
    *((form, form.value) for form in (Form.TEXT, Form.TOOL_CALLS, Form.REFUSAL)),
    (Form.TEXT, "text, the model did not speak"),
]
"""Forms and reasons that tell nothing that is not seen."""

_LONGEST = 3_600
"""Seconds of the longest sound that is made smaller: a few hostile bytes may decode to days."""

_MANY = 300
"""Turns from which on a page is laid out only where it is seen: it opens at once."""

_COMPRESSED = ("mp3", "opus", "aac")

_TOOLBAR = """\
<div class="bar" role="group" aria-label="All sounds" hidden>
<button type="button">Play all</button>
<label>Speed <select>
<option value="0.75">0.75&times;</option>
<option value="1" selected>1&times;</option>
<option value="1.25">1.25&times;</option>
<option value="1.5">1.5&times;</option>
<option value="2">2&times;</option>
</select></label>
</div>
"""

_LEGEND = """\
<p>“When exported” tells how the next request would have carried a turn at that time.
Spoken answers go as voice while the server knows their ids, for about an hour, and then as
transcripts.</p>
"""

_LETTERS = (
    '<p>Spoken words <span class="spoken">look like this</span>, written ones like this.</p>\n'
)


def html_page(exported: Exported) -> Iterator[str]:
    """Yield the page piece by piece. All text is escaped."""
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; img-src data:; media-src data:; style-src {_source(style)}; "
        f"script-src {_source(script)}; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    title = _escaped(exported.title)
    is_long = ' class="long"' if len(exported.turns) > _MANY else ""
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta http-equiv="x-dns-prefetch-control" content="off">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n<main{is_long}>\n"
        f'<header>\n<h1 dir="auto">{title}</h1>\n'
        f'<p class="about">{" · ".join(_facts(exported))}</p>\n'
        f'<p class="about">Exported {_time(exported.at)}</p>\n</header>\n{_TOOLBAR}'
    )
    if exported.instructions:
        yield (
            '<article class="system">\n<header><h2>Instructions</h2></header>\n'
            f"{_words(exported.instructions)}</article>\n"
        )
    answers = answers_by_call(exported.turns)
    folded = set(answers.values())  # shown with their calls
    sounds: Counter[str] = Counter()
    lacking = unanswered(exported.turns)
    for position, turn in enumerate(exported.turns):
        if position not in folded:
            told = [*notes(turn), *([Note(lacking[position])] if position in lacking else [])]
            yield from _article(exported, position, told, answers, sounds)
    yield "<footer>\n"
    yield from _usage(exported.usage)
    if any(form is not Form.PLAIN for form, _ in exported.reasons.values()):
        yield _LEGEND
    if any(note.is_spoken for turn in exported.turns for note in notes(turn)):
        yield _LETTERS
    if sounds:
        kinds = ", ".join(f"{count} &times; {kind}" for kind, count in sounds.items())
        yield f"<p>Sound in this page: {kinds}.</p>\n"
    yield f"</footer>\n</main>\n<script>{script}</script>\n</body>\n</html>\n"


@functools.cache
def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _source(text: str) -> str:
    """Return the source expression that allows the inline text in a content security policy."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _facts(exported: Exported) -> Iterator[str]:
    for fact in exported.about:
        yield _isolated(fact) if isinstance(fact, str) else f"begun {_time(fact)}"


def _article(
    exported: Exported,
    position: int,
    told: Sequence[Note],
    answers: dict[tuple[int, int], int],
    sounds: Counter[str],
) -> Iterator[str]:
    turn = exported.turns[position]
    yield (
        f'<article class="{turn.role}">\n<header><h2>{turn.role.capitalize()}</h2>'
        f"{_time(turn.at) if turn.at else ''}{''.join(map(_note, told))}</header>\n"
    )
    calls = turn.tool_calls if isinstance(turn, AssistantTurn) else ()
    is_empty = not calls
    for piece in _content(turn, sounds):
        yield piece
        is_empty = False
    if is_empty:
        yield _words("(no text)", "unknown")
    for index, call in enumerate(calls):
        answer = answers.get((position, index))
        yield _call(call, None if answer is None else exported.turns[answer])
    form, why = exported.reasons.get(id(turn), (Form.PLAIN, ""))
    if form is not Form.PLAIN and (form, why) not in _PLAIN:
        yield _sent(form, why, exported.at)
    yield "</article>\n"


def _content(turn: Turn, sounds: Counter[str]) -> Iterator[str]:
    """Yield the words, sounds and pictures of a turn in their order."""
    match turn:
        case UserTurn():
            for part in turn.content:
                yield from _part(part, sounds)
        case AssistantTurn():
            yield from _answer(turn, sounds)
        case _ if turn.text:
            yield _words(turn.text)


def _part(part: Part, sounds: Counter[str]) -> Iterator[str]:
    if isinstance(part, AudioInput):
        yield _sound(part, part.data, sounds)
    elif isinstance(part, ImageInput) and part.media_type in _PICTURES:
        yield _picture(part)
    elif isinstance(part, str) and part.strip():
        yield _words(part)


def _answer(turn: AssistantTurn, sounds: Counter[str]) -> Iterator[str]:
    audio = turn.audio
    if written := own_text(turn):
        yield f'<div class="words typed rich">{rich_text(written, _escaped)}</div>\n'
    if audio and audio.data is not None:
        yield _sound(audio, audio.data, sounds)
    elif audio and audio.transcript:
        yield _words(audio.transcript, "spoken")
    if turn.refusal and turn.text == turn.refusal:
        yield _words(turn.refusal)


def _sound(audio: AudioInput | AssistantAudio, data: Data, sounds: Counter[str]) -> str:
    player = _player(data, audio.format, audio.duration, sounds)
    if audio.transcript and audio.transcript.strip():
        words = _words(audio.transcript, "spoken")
    else:
        words = _words("(no transcript)", "spoken unknown")
    return f'<div class="said">\n{player}{words}</div>\n'


def _player(
    data: Data, audio_format: str | None, seconds: float | None, sounds: Counter[str]
) -> str:
    declared = audio_format
    try:
        sound, audio_format = identified(read_data(data), audio_format)
        sound = mended(sound)
    except AudioFileMissing:
        return _flag("The audio file is missing.")
    if audio_format == "pcm16" != declared:
        return _flag("The audio file is damaged.")
    if audio_format == "pcm16":
        sound, audio_format = wav_from_pcm(sound), "wav"
    peaks = waveform.peaks(sound, audio_format, _BARS) or ()
    sound, audio_format, how = _small(sound, audio_format)
    media_type = MEDIA_TYPES.get(audio_format or "")
    if media_type is None:
        source = f"data:application/octet-stream;base64,{base64_text(sound)}"
        link = f'<a download="sound" href="{source}">Download it.</a>'
        return _flag(f"Browsers cannot play this audio format. {link}")
    sounds[f"{str(audio_format).upper()}{how}"] += 1
    heights = (f"{max(peak, 0.03):.2f}" for peak in peaks)
    bars = "".join(f"M{bar}.5 -{height}V{height}" for bar, height in enumerate(heights))
    return (
        f'<figure data-seconds="{seconds or 0:.3f}"><div class="wave"><svg '
        f'viewBox="0 -1 {_BARS} 2" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="{bars}"/></svg></div>'
        f'<audio controls preload="none" data-name="sound.{audio_format}" '
        f'src="data:{media_type};base64,{base64_text(sound)}"></audio></figure>\n'
    )


def _small(sound: bytes, audio_format: str | None) -> tuple[bytes, str | None, str]:
    """Return sound, its format, and a note; as MP3 where it is larger and PyAV is there."""
    if audio_format not in _COMPRESSED and conversion.is_available():
        with contextlib.suppress(UnsupportedAudio):
            if smaller := conversion.converted(sound, "mp3", _LONGEST):
                return smaller, "mp3", " made for this page (24 kHz, mono, 48 kbit/s)"
    return sound, audio_format, ""


def _picture(image: ImageInput) -> str:
    if isinstance(image.data, str):
        return ""  # a URL: the page fetches nothing
    try:
        picture = read_data(image.data)
    except AudioFileMissing:
        return _flag("The image file is missing.")
    return f'<img alt="Picture" src="data:{image.media_type};base64,{base64_text(picture)}">\n'


def _call(call: ToolCall, answer: Turn | None) -> str:
    result = answer.content if isinstance(answer, ToolTurn) else None
    shown = "<p>no result</p>" if result is None else f'<pre dir="auto">{_escaped(result)}</pre>'
    return (
        f"<details><summary>called <code>{_isolated(call.name)}</code></summary>\n"
        f'<pre dir="auto">{_escaped(call.arguments)}</pre>\n{shown}</details>\n'
    )


def _sent(form: Form, why: str, at: datetime) -> str:
    kind = " voice" if form is Form.VOICE else ""
    reason = why.removeprefix(form.value).removeprefix(", ")
    how = "not sent" if form is Form.LEFT_OUT else form.value
    told = ", ".join(filter(None, (how, reason)))
    return (
        f'<p class="sent{kind}" title="as of {time_of(at)}">when exported: {_escaped(told)}</p>\n'
    )


def _usage(usage: Usage) -> Iterator[str]:
    if usage == Usage():
        return
    rows = (
        f'<tr><th scope="row">{name}</th><td>{count:,}</td></tr>\n' for name, count in counts(usage)
    )
    table = f"<table>\n{''.join(rows)}</table>"
    yield f'<section class="usage">\n<h2>Usage, in tokens</h2>\n{table}\n</section>\n'


def _time(at: datetime) -> str:
    return f'<time datetime="{at.replace(microsecond=0).isoformat()}">{time_of(at)}</time>'


def _note(note: Note) -> str:
    kind = ' class="voice"' if note.is_spoken else ""
    return f"<span{kind}>{_isolated(note.text)}</span>"


def _words(text: str, kind: str = "typed") -> str:
    return f'<p class="words {kind}" dir="auto">{_escaped(text)}</p>\n'


def _flag(text: str) -> str:
    return f'<p class="words flag">{text}</p>\n'


def _isolated(text: str) -> str:
    """Return inline text whose direction marks cannot affect what follows it."""
    return f"<bdi>{_escaped(text)}</bdi>"


def _escaped(text: str) -> str:
    return html.escape(without_controls(text))

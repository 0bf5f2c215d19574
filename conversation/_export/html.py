"""A conversation as one page that needs nothing else, to be looked at and listened to."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterator

from conversation._export import waveform
from conversation._export.outline import (
    Exported,
    counts,
    notes,
    texts_of,
    time_of,
    without_controls,
)
from conversation._rendering.forms import Form
from conversation._values.data import Data, read_data
from conversation._values.parts import AudioInput, ImageInput
from conversation._values.sound import wav_from_pcm
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
"""Of a waveform, as the script knows too. In its picture each is one wide, the loudest two high."""

_MEDIA_TYPES = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "opus": "audio/ogg",
    "aac": "audio/aac",
}
_PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")

_STYLE = """
:root { color-scheme: light dark; --page: #f5f4f1; --ink: #1c1c1e; --soft: #66666d;
  --line: #dcdad4; --user: #dce8f8; --model: #fff; --accent: #2563c9; --warn: #9a5700 }
@media (prefers-color-scheme: dark) {
  :root { --page: #151517; --ink: #ececef; --soft: #9d9da6; --line: #35353b; --user: #1d2f4b;
    --model: #222226; --accent: #82b1ff; --warn: #e3a857 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
main { max-width: 46rem; margin: 0 auto; padding: 1.5rem 1rem 4rem }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0; overflow-wrap: anywhere }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .5rem }
.about { color: var(--soft); margin: .25rem 0 1.5rem; overflow-wrap: anywhere }
article { background: var(--model); border: 1px solid var(--line); border-radius: .9rem;
  padding: .7rem 1rem; margin: .8rem 3rem .8rem 0; content-visibility: auto;
  contain-intrinsic-size: auto 9rem }
article.user { background: var(--user); margin: .8rem 0 .8rem 3rem }
article.system, article.tool { background: none; border-style: dashed; margin: .8rem 0 }
article > header { color: var(--soft); font-size: .8rem; display: flex; flex-wrap: wrap;
  gap: 0 .6rem; align-items: baseline }
article > header b { color: var(--ink) }
.words { margin: .4rem 0; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate }
.unknown { color: var(--soft); font-style: italic }
.sent { color: var(--soft); font-size: .8rem; margin: .3rem 0 0 }
.sent.voice { color: var(--accent) }
.flag { color: var(--warn) }
figure { margin: .6rem 0 }
figure svg { display: block; width: 100%; height: 2.6rem; cursor: pointer; overflow: visible }
figure path { stroke: var(--accent); stroke-width: clamp(1px, .4vw, 3px);
  stroke-linecap: round; vector-effect: non-scaling-stroke; opacity: .8 }
figure line { stroke: var(--warn); stroke-width: .5; visibility: hidden }
figure.begun line { visibility: visible }
audio { display: block; width: 100%; height: 2.4rem; margin-top: .3rem }
img { display: block; max-width: 100%; max-height: 24rem; border-radius: .5rem; margin: .5rem 0 }
details { border: 1px solid var(--line); border-radius: .6rem; padding: .35rem .7rem;
  margin: .5rem 0; font-size: .9rem }
summary { cursor: pointer; overflow-wrap: anywhere }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .4rem 0; max-height: 20rem;
  overflow: auto; font: .85rem/1.45 ui-monospace, Menlo, Consolas, monospace }
table { border-collapse: collapse }
td { padding: .15rem 1.5rem .15rem 0 }
td + td { text-align: right; font-variant-numeric: tabular-nums; padding-right: 0 }
@media (max-width: 36rem) {
  article { margin-right: .8rem } article.user { margin-left: .8rem } }
"""

_SCRIPT = """
const BARS = 120;
const figures = [...document.querySelectorAll("figure")];
const players = figures.map((figure) => figure.querySelector("audio"));

for (const [number, audio] of players.entries()) {
  const figure = figures[number];
  const wave = figure.querySelector("svg");
  const head = figure.querySelector("line");
  const move = () => {
    const at = audio.duration ? (BARS * audio.currentTime) / audio.duration : 0;
    head.setAttribute("x1", at);
    head.setAttribute("x2", at);
    figure.classList.add("begun");
  };
  audio.addEventListener("timeupdate", move);
  audio.addEventListener("seeking", move);
  audio.addEventListener("play", () => {
    for (const other of players) if (other !== audio) other.pause();
  });
  wave.addEventListener("click", (event) => {
    const box = wave.getBoundingClientRect();
    if (Number.isFinite(audio.duration)) {
      audio.currentTime = (audio.duration * (event.clientX - box.left)) / box.width;
    }
    audio.play();
  });
}

// Of coded sound the waveform is drawn here, when it is first seen: it needs a decoder.
async function draw(figure) {
  const coded = figure.querySelector("audio").src.split(",")[1];
  const bytes = Uint8Array.from(atob(coded), (char) => char.charCodeAt(0));
  const decoder = new OfflineAudioContext(1, 1, 24000);
  const samples = (await decoder.decodeAudioData(bytes.buffer)).getChannelData(0);
  const peaks = Array.from({ length: BARS }, (_, bar) => {
    let peak = 0;
    const end = Math.floor((samples.length * (bar + 1)) / BARS);
    for (let at = Math.floor((samples.length * bar) / BARS); at < end; at++) {
      peak = Math.max(peak, Math.abs(samples[at]));
    }
    return peak;
  });
  const loudest = Math.max(...peaks) || 1;
  const bars = peaks.map((peak, bar) => {
    const high = Math.max(peak / loudest, 0.02).toFixed(2);
    return `M${bar + 0.5} -${high}V${high}`;
  });
  figure.querySelector("path").setAttribute("d", bars.join(""));
}

const unseen = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    if (!isIntersecting) continue;
    unseen.unobserve(target);
    draw(target).catch(() => target.classList.add("undrawn"));
  }
});
for (const figure of figures) {
  if (!figure.querySelector("path").getAttribute("d")) unseen.observe(figure);
}
"""


def _source(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


_POLICY = (
    f"default-src 'none'; img-src data:; media-src data:; style-src {_source(_STYLE)}; "
    f"script-src {_source(_SCRIPT)}; base-uri 'none'; form-action 'none'"
)


def page(exported: Exported) -> Iterator[str]:
    """The page, piece by piece. All text is escaped, and nothing is fetched from anywhere."""
    title = _escaped(exported.title)
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<h1 dir="auto">{title}</h1>\n'
        f'<p class="about">{" · ".join(map(_isolated, exported.about))}</p>\n'
    )
    if exported.instructions:
        yield (
            '<article class="system">\n<header><b>Instructions</b></header>\n'
            f"{_words(exported.instructions)}</article>\n"
        )
    answers = answers_by_call(exported.turns)
    folded = set(answers.values())
    for position, turn in enumerate(exported.turns):
        if position not in folded:
            yield from _article(exported, position, turn, answers)
    yield from _usage(exported.usage)
    yield f"</main>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"


def _article(
    exported: Exported, position: int, turn: Turn, answers: dict[tuple[int, int], int]
) -> Iterator[str]:
    time = f'<time datetime="{turn.at.isoformat()}">{time_of(turn.at)}</time>' if turn.at else ""
    told = "".join(f"<span>{_isolated(n)}</span>" for n in notes(turn)[1 if turn.at else 0 :])
    yield (
        f'<article class="{turn.role}">\n'
        f"<header><b>{turn.role.capitalize()}</b>{time}{told}</header>\n"
    )
    yield from _media(turn)
    for text in texts_of(turn):
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
        sound = read_data(data)
    except AudioFileMissing:
        return '<p class="words flag">Its sound is gone.</p>\n'
    if audio_format == "pcm16":
        sound, audio_format = wav_from_pcm(sound), "wav"
    media_type = _MEDIA_TYPES.get(audio_format or "")
    if media_type is None:
        return '<p class="words flag">Its sound is in a form that browsers do not play.</p>\n'
    peaks = waveform.peaks(sound, audio_format, _BARS) or ()
    heights = (f"{max(peak, 0.02):.2f}" for peak in peaks)
    bars = "".join(f"M{bar}.5 -{height}V{height}" for bar, height in enumerate(heights))
    return (
        f'<figure><svg viewBox="0 -1 {_BARS} 2" preserveAspectRatio="none" role="img" '
        f'aria-label="Waveform"><path d="{bars}"/><line y1="-1" y2="1"/></svg>'
        f'<audio controls preload="metadata" src="data:{media_type};base64,'
        f'{base64_text(sound)}"></audio></figure>\n'
    )


def _picture(image: ImageInput) -> str:
    if isinstance(image.data, str):
        return ""  # an address elsewhere: nothing is fetched
    try:
        picture = read_data(image.data)
    except AudioFileMissing:
        return '<p class="words flag">This picture is gone.</p>\n'
    return f'<img alt="" src="data:{image.media_type};base64,{base64_text(picture)}">\n'


def _call(call: ToolCall, answer: Turn | None) -> str:
    result = answer.content if isinstance(answer, ToolTurn) else None
    told = "no result" if result is None else f"<pre>{_escaped(result)}</pre>"
    return (
        f"<details><summary>called <code>{_isolated(call.name)}</code></summary>\n"
        f'<pre dir="auto">{_escaped(call.arguments)}</pre>\n{told}</details>\n'
    )


def _usage(usage: Usage) -> Iterator[str]:
    if usage == Usage():
        return
    rows = (f"<tr><td>{name}</td><td>{count:,}</td></tr>\n" for name, count in counts(usage))
    yield f"<h2>Usage, in tokens</h2>\n<table>\n{''.join(rows)}</table>\n"


def _words(text: str, *, is_known: bool = True) -> str:
    kind = "" if is_known else " unknown"
    return f'<p class="words{kind}" dir="auto">{_escaped(text)}</p>\n'


def _isolated(text: str) -> str:
    """Text in a line with others, whose marks of direction reach no further."""
    return f"<bdi>{_escaped(text)}</bdi>"


def _escaped(text: str) -> str:
    return html.escape(without_controls(text))

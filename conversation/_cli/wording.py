"""Errors and notes in the command line's words: no calls, classes or types of Python.

The library names remedies as callers write them in Python. `said` puts an error into other words,
`in_words` a text; a remedy that the command line lacks is left out. The library joins an error and
its remedy by a semicolon; here they are sentences.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs


@attrs.frozen
class Remedies:
    """Remedies after a failed exchange, as they are called where the error is shown.

    Attributes:
        retry: Asks the model again.
        undo: Removes the last exchange.
    """

    retry: str = "`/retry` in `conversation chat ID`"
    undo: str = "`/undo` in `conversation chat ID`"


ELSEWHERE = Remedies()
IN_CHAT = Remedies("/retry", "/undo")

_JSON = {
    "NoneType": "null",
    "None": "null",
    "True": "true",
    "False": "false",
    "bool": "a truth value",
    "str": "text",
    "int": "a number",
    "float": "a number",
    "list": "a list",
    "dict": "an object",
}
"""Values and types of Python, as JSON calls them."""

_WORDS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        # Exchanges.
        ("before an answer came; ask again", "before an answer came"),
        (
            r"kept as an interrupted turn; undo\(answer_only=True\) takes it back, .* tries again",
            "kept; {retry} asks again",
        ),
        (
            r"the user turn is kept: reply\(\) tries again",
            "your message is kept: {retry} asks again",
        ),
        ("the user turn (was|could not be) taken back", r"your message \1 removed"),
        (r": undo\(\) tries again", "; {undo} removes it"),
        (r"undo\(\) takes (?:all of the exchange back|the turn back)", "{undo} removes it"),
        (r"reply\(\) goes on, max_tool_rounds=… allows for more", "{retry} goes on"),
        (r"answer is in error\.turn; .*keeps it", "answer was not saved: {retry} asks again"),
        (r"(\w+) is in error\.turn; .*keeps it", r"\1 was not saved"),
        (r"; call add_user\(…\) first, or say\(…\)", "; write a message first"),
        (r", or ask a model that does: \w+\([^)]*model='([^'…]+)'\)", r", or choose \1 by --model"),
        (r", or ask a model that does: \w+\([^)]*\)", ""),
        (r"; enter it first, .*|; request it with n=1", ""),
        # Limits and sound.
        (r", or pass modalities=\['text'\]", ", by --model"),
        (
            r"AudioInput\.convert\(.*\) makes sound smaller; or |, raise the limits of Context, .*",
            "",
        ),
        (r": context=Context\(max_prompt_tokens=…\)", "; go on in another session"),
        ("add an AudioInput, or ask for text and audio", "send sound, by /audio FILE"),
        (
            r": use stream\(…\) instead of say\(…\) and reply\(…\)",
            ", as `conversation chat` asks for it",
        ),
        (r"longer than max_seconds=\S+; shorten it, or raise max_seconds", "too long; shorten it"),
        (r"; (?:or )?use AudioInput\.from_pcm\(data, rate\) for raw samples", ""),
        (r"; use AudioInput\.from_pcm\(samples, rate\) if you know them", "; record it anew"),
        (
            r"AudioInput\.convert\(data\) makes WAV of it \(needs the extra 'formats'\)",
            "the extra `formats` converts it: pip install '.[formats]'",
        ),
        (r"; pass base64\.b64decode\(data.*\)", "; decode it first"),
        (
            r"transcribe\(\) finds those of users now, .*; set_transcript\(…\) sets any",
            "`conversation export --transcribe` finds those of users",
        ),
        (r": set_transcript\(…\) sets its words", ""),
        (r"transcribe\(\) adds", "--transcribe adds"),
        # Keys and servers.
        (r", or pass client=\w+\(api_key=…\)(?:; to try without a key, .*StandIn)?", ""),
        ("; pass the whole result of chat.completions.create", ""),
        (r"what chat\.completions\.create returned \(.*\), got", "a chat completion, got"),
        # Stores and sessions.
        (
            "the last write was cut off at line .* left in place",
            "the last turn was cut off while it was saved, and may be lost; a change repairs it",
        ),
        (
            "the last write was cut off at line .* put aside as .*",
            "the file is repaired; `conversation repair ID` reads what is left of that turn",
        ),
        ("; finish there first, or pass read_only=True", "; finish there first"),
        (r"FileStore\.repair\(id\), or (`conversation repair`), saves", r"\1 saves"),
        (r"FileStore\(\)\.list\(\), or that of another store, shows", "`conversation list` shows"),
        (
            r"; open the session anew, and save\(path\) keeps what this object holds",
            "; start the command again",
        ),
        ("opened with read_only=True", "opened for reading"),
        ("; open it anew to go on", "; start the command again"),
        (
            r"by FileStore\(folder\), \$CONVERSATION_HOME or --store",
            "by --store or $CONVERSATION_HOME",
        ),
        (
            r"a FileStore needs a folder; for a URL such as (\S+), pass .*",
            r"--store needs a folder or a URL such as \1",
        ),
        ("PostgresStore needs the extra", "a database needs the extra"),
        (r"'conversation(\[\w+\])'", r"'.\1'"),
        (
            r"a PostgresStore needs a URL( such as \S+), or libpq's key=value pairs; it got",
            r"--store needs a folder or a URL\1, got",
        ),
        (r", and create=False", "; `conversation sql` prints those that create them"),
        (r"connections \(max_size\)", "connections"),
        ("(?:; )?a pooler in transaction mode needs prepare=False", ""),
        # Imports.
        (
            r"there is a session at (.*) already; choose another id",
            r"there is a session of this id already (\1); choose another by --id ID",
        ),
        (", which Conversation.load reads|; add_completion takes it", ""),
        (r"; pass (?:them one by one|str\(…\))", ""),
        (r"; use ImageInput\.from_file\(path\) for a file", ""),
        (r": b(['\"]).*?\1…", ""),
        (" or None, got", ", got"),
        ("of type None", "without a type"),
        *((rf"got {name}(?=[;,)]|$)", f"got {words}") for name, words in _JSON.items()),
        *(
            (rf"and no '?{name}\b'?", f"and no {words.split(' ', 1)[-1]}")
            for name, words in _JSON.items()
        ),
        # Python's own.
        (r"\[Errno \d+\] ", ""),
    )
)


_QUOTED_OR_END = re.compile(r"""`[^`]*`|(?<!\w)(?:'[^']*'|"[^"]*")|\([^()]*\)|(; )""")

_PATH = re.compile(r"/\S*[\w/]$")
"""A path at the end, which a full stop would make another one."""


def sentences(text: str) -> str:
    """Return a message whose parts, such as an error and its remedy, are sentences."""
    ends = [found.span() for found in _QUOTED_OR_END.finditer(text) if found[1]]
    if not ends:
        return text
    begins, stops = [0, *(end for _, end in ends)], [*(start for start, _ in ends), len(text)]
    first, *others = (text[start:stop] for start, stop in zip(begins, stops, strict=True))
    others = [re.sub(r"^[a-z](?=[a-z]*(?:[ ,]|$))", lambda it: it[0].upper(), o) for o in others]
    *ended, last = (part if part[-1:] in ".!?…" else f"{part}." for part in (first, *others))
    return " ".join([*ended, others[-1] if _PATH.search(others[-1]) else last])


def without_password(text: str) -> str:
    """Return a text without the passwords of URLs in it: somebody may have put one elsewhere."""
    text = re.sub(r"(?i)([?&]\w*password=)[^&\s'\"]*", r"\1…", text)
    return re.sub(r"(://[^\s:@/]*):(?!password@)\S*@", r"\1:…@", text)


def in_words(text: str, remedies: Remedies = ELSEWHERE) -> str:
    """Return a message or note of the library in the command line's words."""
    for pattern, words in _WORDS:
        text = pattern.sub(words.format(retry=remedies.retry, undo=remedies.undo), text)
    return sentences(text)


def said(error: BaseException, remedies: Remedies = ELSEWHERE) -> str:
    """Return an error with its notes in the command line's words."""
    told = [_told(error), *getattr(error, "__notes__", ())]
    return in_words("; ".join(each.rstrip(". ") for each in told), remedies).replace("\xa0", " ")


def _told(error: BaseException) -> str:
    """Return an error's own message: of the system with its file, of a server without its JSON."""
    if type(error).__str__ is OSError.__str__ and isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f"{error.filename}: "
        return f"{where}{error.strerror}"
    status = getattr(error, "status_code", None)
    if status is not None:
        body = getattr(error, "body", None)
        found = body.get("message") if isinstance(body, Mapping) else body
        is_said = isinstance(found, str) and found.strip() and "<html" not in found.lower()
        words = f": {found:.300}".replace("; ", ";\xa0") if is_said else ""  # theirs stay theirs
        return f"the server refused it ({status}){words}"
    if str(error) == "Connection error.":  # the SDK's, without a reason
        why = f" ({error.__cause__})" if str(error.__cause__ or "") else ""
        return f"no connection to the server{why}"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return str(error) or type(error).__name__

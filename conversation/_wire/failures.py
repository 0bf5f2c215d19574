"""The meaning of the SDK's errors: dead audio ids, refusals, remedies."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from conversation._values.parts import AudioInput, FileInput, ImageInput
from conversation.errors import InvalidCompletion

# Failures are rare: patterns are compiled when there is one.
_NAMED_ID = r"audio_[A-Za-z0-9]+"
_RESULTED_IN = r"resulted in (\d{1,12}) tokens"
_NAMED_MESSAGE = r"messages\.?\[(\d+)\]"

# Servers and gateways that drop `audio` from answers, or refuse it: Ollama, vLLM, Mistral.
_NO_VOICE = (
    r"(?i)expected a string, got null|content type: <nil>|assistant\W+audio\W[^{}]*extra inputs"
    r"|extra inputs[^{}]*assistant\W+audio\b"
)

# "This model does not support image_url content", "image input is not supported", "No endpoints
# found that support image input", "image_url is only supported by certain models", …
_KIND = r"\b(?:input[_ ])?(image|file|audio)"
_TAKEN = r"(?:support|accept|enabl|allow)(?:ed)?\b"
_NO_MEDIA = (
    rf"(?i)(?:not|n't) (?:support|accept) (?:the |any )?{_KIND}(?:_url|s?)\b"
    r"(?!/| (?:format|type|size|output))"
    rf"|(?<!audio ){_KIND}(?:_url|s?)\W?(?: (?:inputs?|content|parts?))?"
    rf" (?:is|are) (?:not |only |un)(?:currently )?{_TAKEN}(?! (?:format|in stream|with stream))"
    rf"|endpoints found that support {_KIND}"
    rf"|unknown variant `{_KIND}"
    rf"|at most 0 {_KIND}"
    r"|(?:invalid|unsupported|unknown|unexpected) (?:content|item)(?: part)?(?: type)?"
    rf"(?: in content)?\W+{_KIND}"
    rf"|input tag [`'\"]{_KIND}"
    rf"|[`'\"]{_KIND}(?:_url)?[`'\"] is not a valid content"
    r"|not support (vision|pdf|speech)\b"
    r"|(?:no|without|lacks?) (vision)\b|(vision) is (?:not|un)"
    r"|not support (multi-?modal)|is not (?:a )?(multimodal)"
    r"|(multimodal) (?:content|input)s? (?:is|are) not supported"
    rf"|{_KIND} input modality is not|{_KIND}(?:_url|s?) not supported"
    r"|is (text)-only|only supports? (text)\b(?! output)|only (text) (?:content|inputs?) (?:is|are)"
    r"|content\S*type: input should be '(text)'"
    r"|(expected to be either text or image_url)|(invalid message format)"
)
_MEDIA: Mapping[type[ImageInput | FileInput | AudioInput], Sequence[str]] = {
    ImageInput: ("image", "vision", "multimodal", "text"),
    FileInput: ("file", "pdf", "text"),
    AudioInput: (
        "audio",
        "speech",
        "multimodal",
        "text",
        "expected to be either text or image_url",  # OpenAI
        "invalid message format",  # Ollama
    ),
}

_REFUSES_KEYS = (
    r"(?i)unsupported|not (?:be )?(?:supported|permitted|allowed|recogni[sz]ed)|forbidden"
    r"|un(?:known|expected|recogni[sz]ed)|additional propert"
)
_REFUSES_CALLS = (
    r"(?:tool_calls\[\d+\]\.(?:id|function\.name)|tool_call_id)'?:"
    r" string (?:too long|does not match)"
)

# Statuses after which a retry can succeed, perhaps with a remedy.
_RETRIABLE = frozenset({401, 403, 408, 409, 429})


def _answer_text(error: BaseException) -> str:
    """Return all that a server's error says; empty for other errors.

    Gateways wrap the error of another server, as text with quotes of its own.
    """
    body = getattr(error, "body", None)
    if body is None and not (hasattr(error, "status_code") or hasattr(error, "code")):
        return ""
    return f"{error} {getattr(error, 'code', None)} {body}".replace("\\", "")


def _status_of(error: BaseException) -> int | None:
    """Return the HTTP status of a server's error, or the one that its body names."""
    body = getattr(error, "body", None)
    wrapped = body.get("code") if isinstance(body, Mapping) else None
    found = (getattr(error, "status_code", None), wrapped)
    return next((code for code in found if isinstance(code, int) and 400 <= code < 600), None)


def tokens_refused(error: BaseException) -> int | None:
    """Return the tokens of a request that was too long for the model; None if not known."""
    text = _answer_text(error)
    if "context_length_exceeded" not in text:
        return None
    found = re.search(_RESULTED_IN, text)
    return int(found[1]) if found else None


def refused_media(
    error: BaseException,
) -> tuple[type[ImageInput | FileInput | AudioInput], ...]:
    """Return the kinds of media that the model does not take, as the error says; mostly none."""
    found = re.findall(_NO_MEDIA, _answer_text(error))
    names = {name.lower().replace("-", "") for groups in found for name in groups if name}
    return tuple(kind for kind, signs in _MEDIA.items() if not names.isdisjoint(signs))


def refused_keys(error: BaseException, sent: Collection[str]) -> set[str]:
    """Return those of the sent keys that a server refuses as unknown; none for other errors."""
    text = _answer_text(error)
    if _status_of(error) not in (400, 422) or not re.search(_REFUSES_KEYS, text):
        return set()
    return {key for key in sent if re.search(rf"(?<![\w-]){re.escape(key)}(?![\w-])", text)}


def refuses_calls(error: BaseException) -> bool:
    """Return True for a refusal of an id or a name of a tool call in another than OpenAI's form."""
    return re.search(_REFUSES_CALLS, _answer_text(error)) is not None


def dead_ids(
    error: BaseException, sent: Sequence[str | None], known: Collection[str], heals: int
) -> set[str]:
    """Return the audio ids that an `audio_not_found` reports as dead; none for other errors.

    All that were sent are, too, where a server sees an answer of nothing in one that is an id.

    Args:
        error: The error that came instead of a completion.
        sent: The audio id in each message that was sent.
        known: The ids that the history holds valid.
        heals: The number of times that this exchange was healed before. From the second time on
            all ids are dead, also those of turns that did not fit: transcripts make room for them.
            So a third time finds none.
    """
    text = _answer_text(error)
    named = {audio_id for audio_id in re.findall(_NAMED_ID, text) if audio_id in known}
    everything = {audio_id for audio_id in sent if audio_id is not None and audio_id in known}
    position = re.search(_NAMED_MESSAGE, str(getattr(error, "param", None) or text))
    blamed = sent[int(position[1])] if position and int(position[1]) < len(sent) else None
    if "audio_not_found" not in text and not (named and re.search("not found|expired", text)):
        takes_none = (blamed or not position) and re.search(_NO_VOICE, text)
        return everything if takes_none else set()
    if heals:
        return set(known) if everything else set()
    if named:
        return named
    return {blamed} if blamed is not None and blamed in known else everything


def is_refused(error: BaseException) -> bool:
    """Return True if the same request would fail in the same way again."""
    status = _status_of(error)
    if status is not None:
        return status < 500 and status not in _RETRIABLE
    # A request that the SDK could not serialize; an answer that cannot be parsed is no refusal.
    import json

    unreadable = (InvalidCompletion, json.JSONDecodeError, UnicodeDecodeError)
    return isinstance(error, TypeError | ValueError) and not isinstance(error, unreadable)


def is_refused_sound(error: BaseException) -> bool:
    """Return True if a transcription was refused for its sound, which is no better next time."""
    field = str(getattr(error, "param", None) or "file").rpartition(".")[2]
    is_about_it = field in ("file", "audio") or getattr(error, "code", None) == "audio_too_short"
    return getattr(error, "status_code", None) in (400, 413, 415, 422) and is_about_it


_STREAMS_ONLY = (
    r"(?i)requires? (?:the )?stream|set stream\W+true"
    r"|only (?:supports? |supported )?(?:in |with |when |if )?stream"
)
_IS_SILENT = (
    "this model does not speak: choose one that does, such as 'gpt-audio-1.5', or pass "
    "modalities=['text']"
)
# Patterns of what errors say, each with its remedy.
_REMEDIES = (
    ("nknown parameter: 'audio'", _IS_SILENT),
    ("not support audio output", _IS_SILENT),
    (
        "either input content or output modality contain audio",
        "this model needs sound on one side: add an AudioInput, or ask for text and audio",
    ),
    (
        "model_not_found",
        "the model is unknown here or was shut down; the current voice model is 'gpt-audio-1.5'",
    ),
    (
        "context_length_exceeded",
        "the conversation is longer than the model's window: context=Context(max_prompt_tokens=…)",
    ),
    (
        "unsupported_format",
        "the model could not read the sound; convert it to plain 16-bit WAV or to MP3",
    ),
    (
        "'response_format' of type 'json_schema'",
        "voice models do not support schemas; ask for JSON in the prompt, or use a text model",
    ),
    (
        _STREAMS_ONLY,
        "this server sends sound in streams only: use stream(…) instead of say(…) and reply(…)",
    ),
    (
        "invalid_api_key",
        "the key was refused: check OPENAI_API_KEY, or pass client=OpenAI(api_key=…)",
    ),
)


_UNKNOWN_OPTION = r"got an unexpected keyword argument '(\w+)'"


def add_remedy(error: BaseException) -> None:
    """Add a note with the remedy to the error, if it is known."""
    if isinstance(error, TypeError) and (found := re.search(_UNKNOWN_OPTION, str(error))):
        error.add_note(_about_option(found[1]))
    text = _answer_text(error)
    for sign, remedy in _REMEDIES:
        if re.search(sign, text):
            error.add_note(remedy)
            return


def _about_option(name: str) -> str:
    import difflib

    from openai.types.chat.completion_create_params import CompletionCreateParamsBase

    near = difflib.get_close_matches(name, CompletionCreateParamsBase.__annotations__, 1)
    meant = f"did you mean {near[0]!r}? W" if near else "w"
    return (
        f"{name!r} is no option of chat.completions.create; {meant}hat the SDK does not know is "
        f"passed by extra_body={{{name!r}: …}}"
    )

"""Content parts of other formats to those of Chat Completions."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from conversation._values.sound import format_of, wav_from_pcm
from conversation._wire.messages import base64_text, bytes_from_base64

Json = dict[str, Any]

SPOKEN = ("audio", "output_audio")
"""Types of the Realtime API's spoken answers."""


def field(value: object, name: str) -> Any:
    """Return what an object or a JSON object has under this name; None if it has nothing."""
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def text_in(value: object, name: str) -> str | None:
    """Return the text that is there under this name; None if there is none."""
    found = field(value, name)
    return found if isinstance(found, str) else None


def text_part(text: str) -> Json:
    """Return a part of text."""
    return {"type": "text", "text": text}


def part_from(part: object) -> Any:  # a case a kind
    """Return a part as Chat Completions has it; a part of an unknown kind as it is."""
    if isinstance(part, str):
        return text_part(part)
    kind = text_in(part, "type") or text_in(part, "kind")
    text = text_in(part, "text")
    match kind:
        case "input_text" | "output_text" | "text-plain" if text is not None:
            return text_part(text)
        case "text" if text is None and (content := text_in(part, "content")) is not None:
            return text_part(content)
        case "input_audio" | "audio" | "output_audio" if field(part, "input_audio") is None:
            return _sound(part)
        case "input_audio" | "audio_url" if sound := _sent_sound(part):
            return {"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}}
        case "input_image" | "image_url" if url := text_in(part, "image_url"):
            detail = text_in(part, "detail")
            return image_part(url) if detail is None else image_part(url, detail=detail)
        case "input_file" if field(part, "file_data") or field(part, "file_id"):
            names = ("file_id", "file_data", "filename")
            given = {name: found for name in names if (found := text_in(part, name))}
            return {"type": "file", "file": given}
        case "image-url" if url := text_in(part, "url"):
            return image_part(url)
        case "image" | "file" | "media" | "binary" if field(part, "file") is None:
            return _media(part, kind)
    is_json = hasattr(part, "model_dump") or (isinstance(part, Mapping) and "type" in part)
    return part if is_json or kind is None else {"type": kind}


def image_part(url: str, **detail: str) -> Json:
    """Return a part of a picture, by its URL."""
    return {"type": "image_url", "image_url": {"url": url, **detail}}


def _sound(part: object) -> Any:
    """Return the sound of a Realtime item or of LangChain's standard block; else its words."""
    data, transcript = field(part, "audio"), text_in(part, "transcript")
    given = data if isinstance(data, str) else text_in(part, "base64") or text_in(part, "data")
    if given:
        sound = {"data": wav_text(given), "format": "wav"}
        return {"type": "input_audio", "input_audio": sound | _given(transcript=transcript)}
    return part if transcript is None else text_part(transcript)


def _sent_sound(part: object) -> str | None:
    """Return the base64 or data URL in a part of Mistral's or vLLM's; None if it has neither."""
    url = text_in(field(part, "audio_url"), "url") or text_in(part, "audio_url") or ""
    return text_in(part, "input_audio") or (url if url.startswith("data:") else None)


def _media(part: object, kind: str) -> Any:
    """Return a picture, sound or file that is inside the part, or a picture by its URL."""
    source = field(part, "source")
    body = source if isinstance(source, Mapping) else part
    data = field(body, "data")
    if isinstance(data, bytes):
        data = base64_text(data)
    data = text_in(body, "base64") or (data if isinstance(data, str) else None)
    names = ("mime_type", "media_type")
    mime = next((found for name in names if (found := text_in(body, name))), None)
    group = (mime or kind).partition("/")[0]
    url = text_in(body, "url")
    if data is None:
        return image_part(url) if url and group == "image" else {"type": kind}
    data = _standard(data)
    if group == "audio":
        return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    data_url = f"data:{mime or 'application/octet-stream'};base64,{data}"
    if group == "image":
        return image_part(data_url)
    filename = text_in(part, "filename") or text_in(field(part, "metadata"), "filename") or "file"
    return {"type": "file", "file": {"filename": filename, "file_data": data_url}}


def wav_text(text: str) -> str:
    """Return base64 of sound with a header: raw samples, as Realtime sends them, become WAV."""
    try:
        data = bytes_from_base64(_standard(text))
    except ValueError:
        return text  # refused by name later
    return text if format_of(data) else base64.b64encode(wav_from_pcm(data)).decode()


def _standard(text: str) -> str:
    # pydantic writes the alphabet for URLs.
    return text.translate({ord("-"): "+", ord("_"): "/"})


def _given(**fields: Any) -> Json:
    return {key: value for key, value in fields.items() if value is not None}

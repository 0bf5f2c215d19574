"""The stand-in's voice models: answers that depend on words and media in the request."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai import OpenAI


def said(client: OpenAI, *messages: Any, **options: Any) -> Any:
    """Return the message of a spoken answer."""
    asked: dict[str, Any] = {"audio": {"voice": "alloy", "format": "wav"}, **options}
    completion = client.chat.completions.create(
        model="gpt-audio-1.5", modalities=["text", "audio"], messages=list(messages), **asked
    )
    return completion.choices[0].message


def user(text: str) -> dict[str, str]:
    """Return a user message."""
    return {"role": "user", "content": text}


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ([{"role": "system", "content": "Repeat the text verbatim."}], "Who: are you?"),
        ([], "Repeat this verbatim:\nWho: are you?"),
    ],
)
def test_words_are_repeated_verbatim(client: OpenAI, order: Any, words: str) -> None:
    """Words that are to be repeated verbatim are read aloud, and nothing else is said."""
    audio = said(client, *order, user(words)).audio
    assert audio.transcript == "Who: are you?"
    assert len(audio.data) > 48_000 * 1.2


def test_nothing_is_repeated_without_being_asked(client: OpenAI) -> None:
    """Words about repeating something verbatim are answered as any others."""
    for words in ("Do not repeat me", "Tell me: what does verbatim mean?"):
        assert said(client, user(words)).audio.transcript.startswith(f"You wrote: {words}")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("image_url", {"url": "https://example.org/a.png"}),
        ("file", {"file_id": "file-1"}),
    ],
)
def test_voice_models_take_no_pictures_and_files(client: OpenAI, kind: str, body: Any) -> None:
    """Voice models refuse pictures and files, and text models take them."""
    part = {"type": kind, kind: body}
    with pytest.raises(openai.BadRequestError) as caught:
        said(client, user("Hello"), {"role": "user", "content": [part]})
    assert caught.value.body == {
        "message": f"This model does not support {kind} content.",
        "type": "invalid_request_error",
        "param": "messages[1].content",
        "code": "invalid_value",
    }
    messages: Any = [{"role": "user", "content": [part]}]
    assert client.chat.completions.create(model="gpt-5", messages=messages).choices

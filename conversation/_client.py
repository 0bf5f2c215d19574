"""The only module that knows the SDK: its client, the driver of an exchange, its errors."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

from conversation.errors import InvalidCompletion

if TYPE_CHECKING:
    from collections.abc import Generator

    from openai import OpenAI

    from conversation._turns import AssistantTurn

# Statuses that another try, perhaps after a remedy, can mend.
_MENDABLE = frozenset({401, 403, 408, 409, 429})


def client_or_default(client: OpenAI | None) -> OpenAI:
    """The client given, or this process's own, which is made when first needed."""
    return client if client is not None else _default_client(os.getpid())


@functools.lru_cache(maxsize=1)
def _default_client(_process: int) -> OpenAI:
    import openai

    try:
        return openai.OpenAI()
    except openai.OpenAIError as error:
        error.add_note(
            "set OPENAI_API_KEY, or pass client=OpenAI(api_key=…); to try without a key, pass the "
            "client() of conversation.testing.StandIn; nothing was changed"
        )
        raise


def run(exchange: Generator[dict[str, Any], Any, AssistantTurn], client: OpenAI) -> AssistantTurn:
    """Drive an exchange to its end; errors of the SDK pass through, with a note."""
    try:
        request = next(exchange)
        while True:
            try:
                completion = client.chat.completions.create(**request)
            except Exception as error:  # noqa: BLE001  # the exchange decides which it raises again
                request = exchange.throw(error)
            else:
                request = exchange.send(completion)
    except StopIteration as done:
        answer: AssistantTurn = done.value
        return answer


def is_refused(error: BaseException) -> bool:
    """Whether sending the same again would fail the same way."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return 400 <= status < 500 and status not in _MENDABLE
    # What the SDK could not even write down; but an answer that cannot be read is no refusal.
    import json

    unreadable = (InvalidCompletion, json.JSONDecodeError, UnicodeDecodeError)
    return isinstance(error, TypeError | ValueError) and not isinstance(error, unreadable)


_REMEDIES = (
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
        "the conversation is longer than the model's window; begin a new one",
    ),
    (
        "unsupported_format",
        "the model could not read the sound; convert it to plain 16-bit WAV or to MP3",
    ),
    (
        "'response_format' of type 'json_schema'",
        "voice models answer in no schema; ask for JSON in words, or use a text model",
    ),
    (
        "invalid_api_key",
        "the key was refused: check OPENAI_API_KEY, or pass client=OpenAI(api_key=…)",
    ),
)


def add_remedy(error: BaseException) -> None:
    """Note on the error what to do about it, where that is known."""
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        return
    text = f"{error} {getattr(error, 'code', '')}"
    for sign, remedy in _REMEDIES:
        if sign in text:
            error.add_note(remedy)
            return

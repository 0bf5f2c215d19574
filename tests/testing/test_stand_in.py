"""The stand-in's chat endpoint and client, and the command that serves it."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import itertools
import json
import math
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
import wave
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

import conversation
from conversation import AudioInput
from conversation._values.sound import format_of
from conversation.testing import StandIn, _http
from conversation.testing.__main__ import main
from conversation.testing._api import Api
from tests.conftest import Clock
from tests.samples import MP3, SOUND, START, tool_call

Json = dict[str, Any]

HELLO: Json = {"role": "user", "content": "Hello"}
UNKNOWN_ID = "audio_" + "0" * 32
BYTES_PER_TOKEN = 2400  # 50 ms of 24 kHz, 16 bit
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def sound(data: bytes | str = SOUND, audio_format: str = "wav") -> Json:
    """Return a content part with sound."""
    encoded = base64.b64encode(data).decode() if isinstance(data, bytes) else data
    return {"type": "input_audio", "input_audio": {"data": encoded, "format": audio_format}}


def user(*parts: Json) -> Json:
    """Return a user message."""
    return {"role": "user", "content": list(parts)}


def assistant(**fields: Any) -> Json:
    """Return an assistant message."""
    return {"role": "assistant", **fields}


def recall(audio_id: str) -> Json:
    """Return an assistant message of nothing but an audio id."""
    return assistant(audio={"id": audio_id})


def calls(*ids: str) -> Json:
    """Return an assistant message with a tool call for each id."""
    return assistant(tool_calls=[tool_call(call_id) for call_id in ids])


def result(call_id: str) -> Json:
    """Return a tool message."""
    return {"role": "tool", "tool_call_id": call_id, "content": "12 degrees"}


def asking(*messages: Json, **changes: Any) -> Json:
    """Return a request for a spoken answer; changes to None remove the key."""
    body = {
        "model": "gpt-audio-1.5",
        "messages": list(messages or (HELLO,)),
        "modalities": ["text", "audio"],
        "audio": {"voice": "alloy", "format": "wav"},
        **changes,
    }
    return {key: value for key, value in body.items() if value is not None}


def writing(*messages: Json, **changes: Any) -> Json:
    """Return a request to a text model."""
    return asking(*messages, **{"model": "gpt-5", "modalities": None, "audio": None, **changes})


def sent(
    url: str, body: Json | bytes | None, headers: Json | None = None
) -> tuple[int, str, bytes]:
    """Send a request, GET without a body; return status, content type and body of the answer."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    headers = {"Authorization": "Bearer any"} if headers is None else headers
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    try:
        with NO_PROXY.open(request, timeout=300) as response:
            return response.status, response.headers["Content-Type"], response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read()


def ask(server: StandIn, body: Json | bytes) -> tuple[int, Any]:
    """Return the status and JSON of the answer to a chat request."""
    status, _, data = sent(f"{server.url}/chat/completions", body)
    return status, json.loads(data)


def answered(server: StandIn, body: Json) -> Json:
    """Return the completion that answers a chat request."""
    status, completion = ask(server, body)
    assert status == 200, completion
    assert isinstance(completion, dict)
    return completion


def message_of(completion: Json) -> Json:
    """Return the message of the only choice."""
    [choice] = completion["choices"]
    assert isinstance(choice["message"], dict)
    return choice["message"]


def refusal(message: str, param: str | None, code: str | None) -> Json:
    """Return the body of an error."""
    kind = "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def missing(name: str) -> tuple[str, str, str]:
    """Return message, param and code for a missing parameter."""
    return f"Missing required parameter: '{name}'.", name, "missing_required_parameter"


def unknown(name: str) -> tuple[str, str, str]:
    """Return message, param and code for an unknown parameter."""
    return f"Unknown parameter: '{name}'.", name, "unknown_parameter"


def empty(name: str) -> tuple[str, str, str]:
    """Return message, param and code for an empty array."""
    text = "empty array. Expected an array with minimum length 1, but got an empty array instead."
    return f"Invalid '{name}': {text}", name, "empty_array"


def wrong_type(name: str, expected: str, found: str) -> tuple[str, str, str]:
    """Return message, param and code for a value of the wrong type."""
    message = f"Invalid type for '{name}': expected {expected}, but got {found} instead."
    return message, name, "invalid_type"


def unanswered(*ids: str) -> tuple[str, str, None]:
    """Return message, param and code for tool calls without results."""
    message = (
        "An assistant message with 'tool_calls' must be followed by tool messages responding to "
        "each 'tool_call_id'. The following tool_call_ids did not have response messages: "
    )
    return message + ", ".join(ids), "messages", None


def unheard(audio_id: str, position: int) -> tuple[str, str, str]:
    """Return message, param and code for an audio id that is not known."""
    param = f"content.messages[{position}].audio.id"
    return f"Assistant audio {audio_id} not found.", param, "audio_not_found"


UNREADABLE = "We could not parse the JSON body of your request."
NO_AUDIO = (
    "This model requires that either input content or output modality contain audio.",
    "model",
    "invalid_value",
)
UNSUPPORTED = (
    "This model does not support the format you provided.",
    "messages",
    "unsupported_format",
)
WEBM = (
    "Invalid value: 'webm'. Supported values are: 'wav' and 'mp3'.",
    "messages[0].content[0].input_audio.format",
    "invalid_value",
)
NO_SCHEMA = (
    "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
    "response_format",
    None,
)
NO_CONTENT = ("Invalid value for 'content': expected a string, got null.", "messages.[1].content")
N_TOO_SMALL = (
    "Invalid 'n': integer below minimum value. Expected a value >= 1, but got 0 instead.",
    "n",
    "integer_below_min_value",
)
N_TOO_LARGE = (
    "Invalid 'n': integer above maximum value. Expected a value <= 128, but got 999 instead.",
    "n",
    "integer_above_max_value",
)
TEXT_OR_IMAGE = (
    "Invalid 'messages[3]'. Content blocks are expected to be either text or image_url type.",
    "messages[3]",
    "invalid_value",
)
WAV_STREAMED = (
    "Unsupported value: 'audio.format' does not support 'wav' when stream=true. "
    "Supported values are: 'pcm16'."
)
AUDIO_ALONE = (
    "Invalid value: ['audio']. Supported values are: ['text'] and ['text', 'audio'].",
    "modalities",
    "invalid_value",
)
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
PLAIN_FILE = {"type": "file", "file": {"data": "aGk=", "filename": "a.pdf"}}

REFUSED: dict[str, tuple[Json, tuple[str, str | None, str | None]]] = {
    "no audio in or out": (asking(modalities=None, audio=None), NO_AUDIO),
    "text out only": (asking(modalities=["text"], audio=None), NO_AUDIO),
    "never issued id": (asking(HELLO, recall(UNKNOWN_ID), HELLO), unheard(UNKNOWN_ID, 1)),
    "no voice": (asking(audio={"format": "wav"}), missing("audio.voice")),
    "no voice, text out": (
        asking(user(sound()), modalities=None, audio={"format": "wav"}),
        missing("audio.voice"),
    ),
    "no output format": (asking(audio={"voice": "alloy"}), missing("audio.format")),
    "no audio parameter": (asking(audio=None), missing("audio")),
    "audio alone": (asking(modalities=["audio"]), AUDIO_ALONE),
    "input format": (asking(user(sound(audio_format="webm"))), WEBM),
    "input format further on": (
        asking(*[HELLO] * 4, user(sound(audio_format="webm"))),
        (WEBM[0], "messages[4].content[0].input_audio.format", WEBM[2]),
    ),
    "wav labelled mp3": (asking(user(sound(SOUND, "mp3"))), UNSUPPORTED),
    "mp3 labelled wav": (asking(user(sound(MP3, "wav"))), UNSUPPORTED),
    "corrupt sound": (asking(user(sound(b"no sound at all"))), UNSUPPORTED),
    "no base64": (asking(user(sound("!" + base64.b64encode(SOUND).decode()))), UNSUPPORTED),
    "sound as data URL": (
        asking(user(sound("data:audio/wav;base64," + base64.b64encode(SOUND).decode()))),
        UNSUPPORTED,
    ),
    "sound to a text model": (writing(*[HELLO] * 3, user(sound())), TEXT_OR_IMAGE),
    "audio parameter to a text model": (asking(model="gpt-5"), unknown("audio")),
    "audio out of a text model": (writing(modalities=["text", "audio"]), unknown("modalities")),
    "json_schema": (asking(response_format=SCHEMA), NO_SCHEMA),
    **{
        f"response_format {found}": (
            asking(response_format=value),
            wrong_type("response_format", "an object", found),
        )
        for found, value in (("a string", "text"), ("an array", [SCHEMA]), ("an integer", 5))
    },
    "assistant without anything": (asking(HELLO, assistant()), (*NO_CONTENT, None)),
    "assistant of null": (
        asking(HELLO, assistant(content=None, audio=None, tool_calls=None)),
        (*NO_CONTENT, None),
    ),
    "no calls in tool_calls": (
        asking(HELLO, assistant(content="Hm.", tool_calls=[])),
        empty("messages[1].tool_calls"),
    ),
    "no messages in messages": ({**asking(), "messages": []}, empty("messages")),
    "tool call unanswered": (asking(HELLO, calls("a"), HELLO), unanswered("a")),
    "tool call unanswered at the end": (asking(HELLO, calls("a", "b")), unanswered("a", "b")),
    "user between tool results": (
        asking(HELLO, calls("a", "b"), result("a"), HELLO, result("b")),
        unanswered("b"),
    ),
    "unknown key in a part": (
        asking(HELLO, user({"type": "text", "text": "Read"}, PLAIN_FILE)),
        unknown("messages[1].content[1].file.data"),
    ),
    "unknown key in a message": (asking({**HELLO, "id": "x"}), unknown("messages[0].id")),
    "unknown key": (asking(voice="alloy"), unknown("voice")),
    "expiry sent back": (
        asking(HELLO, assistant(audio={"id": UNKNOWN_ID, "expires_at": 1})),
        unknown("messages[1].audio.expires_at"),
    ),
    "transcript sent back": (
        asking(HELLO, assistant(audio={"id": UNKNOWN_ID, "transcript": "Hi"})),
        unknown("messages[1].audio.transcript"),
    ),
    "sound sent back": (
        asking(HELLO, assistant(audio={"id": UNKNOWN_ID, "data": "AAAA"})),
        unknown("messages[1].audio.data"),
    ),
    "audio without id": (asking(HELLO, assistant(audio={})), missing("messages[1].audio.id")),
    "n of 0": (asking(n=0), N_TOO_SMALL),
    "n of 999": (asking(n=999), N_TOO_LARGE),
    "n of text": (asking(n="2"), wrong_type("n", "an integer", "a string")),
    "n of a fraction": (asking(n=1.5), wrong_type("n", "an integer", "a decimal number")),
    "content of number": (
        asking({"role": "user", "content": 7}),
        wrong_type("messages[0].content", "one of a string or array of objects", "an integer"),
    ),
    "call id of number": (
        asking(HELLO, {**result("a"), "tool_call_id": 7}),
        wrong_type("messages[1].tool_call_id", "a string", "an integer"),
    ),
    "stream of wav": (
        asking(stream=True),
        (WAV_STREAMED, "audio.format", "unsupported_value"),
    ),
}


@pytest.mark.parametrize(("body", "error"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_has_the_status_message_param_and_code_of_the_api(
    server: StandIn, body: Json, error: tuple[str, str | None, str | None]
) -> None:
    """Invalid chat requests are refused with the errors of CONTRACT §3."""
    assert ask(server, body) == (400, refusal(*error))


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o-audio-preview",
        "gpt-4o-audio-preview-2025-06-03",
        "gpt-4o-mini-audio-preview",
        "gpt-audio-9",
    ],
)
def test_chat_with_a_retired_or_unknown_model_is_not_found(server: StandIn, model: str) -> None:
    """Models that were shut down or never existed answer 404."""
    message = f"The model `{model}` does not exist or you do not have access to it."
    expected = 404, refusal(message, None, "model_not_found")
    assert ask(server, asking(model=model)) == expected


@pytest.mark.parametrize(
    "body",
    [
        asking(HELLO, assistant(content=""), HELLO),
        asking(HELLO, assistant(content=[]), HELLO),
        asking(HELLO, assistant(content=None, refusal="No."), HELLO),
        asking(HELLO, calls("a", "b"), result("b"), result("a"), HELLO),
        asking(model="gpt-audio-mini-2025-12-15"),
        asking(user(sound()), modalities=["text"], audio=None),
        writing(response_format=SCHEMA),
        writing(modalities=["text"]),
    ],
)
def test_requests_that_the_api_accepts_are_answered(server: StandIn, body: Json) -> None:
    """Valid but unusual chat requests are answered."""
    assert message_of(answered(server, body))["role"] == "assistant"


def test_checks_run_in_the_order_of_the_api(server: StandIn) -> None:
    """A request with many errors is refused for each of them in the order of CONTRACT §3."""
    webm = [user(sound(audio_format="webm")), assistant(), recall(UNKNOWN_ID)]
    wav = [user(sound()), *webm[1:]]
    body: Json = {"surprise": 1, "n": 0, "audio": {}}
    body |= {"modalities": ["text", "audio"], "response_format": SCHEMA}
    steps: list[tuple[Json, tuple[str, str | None, str | None]]] = [
        ({}, ("you must provide a model parameter", None, None)),
        ({"model": ""}, ("you must provide a model parameter", None, None)),
        ({"model": 5}, (UNREADABLE, None, None)),
        ({"model": "gpt-audio-1.5"}, missing("messages")),
        ({"messages": webm}, unknown("surprise")),
        ({"surprise": None}, WEBM),
        ({"messages": wav}, N_TOO_SMALL),
        ({"n": 1}, missing("audio.voice")),
        ({"audio": {"voice": "alloy", "format": "wav"}}, NO_SCHEMA),
        ({"response_format": {"type": "text"}}, unheard(UNKNOWN_ID, 2)),
        ({"messages": wav[:2]}, (*NO_CONTENT, None)),
    ]
    for change, error in steps:
        body = {key: value for key, value in {**body, **change}.items() if value is not None}
        assert ask(server, body) == (400, refusal(*error))
    assert ask(server, {**body, "messages": wav[:1]})[0] == 200


def test_the_input_format_is_checked_before_the_abilities_of_the_model(server: StandIn) -> None:
    """A text model refuses WebM input for its format, not for being sound."""
    assert ask(server, writing(user(sound(audio_format="webm")))) == (400, refusal(*WEBM))


def test_a_prompt_may_have_128000_tokens(server: StandIn) -> None:
    """A prompt that fills the window is answered; one token more is refused."""
    full = {"role": "user", "content": "x" * 4 * 127_996}
    assert answered(server, writing(full))["usage"]["prompt_tokens"] == 128_000
    message = (
        "This model's maximum context length is 128000 tokens. However, your messages resulted in "
        "128001 tokens. Please reduce the length of the messages."
    )
    over = {**full, "content": full["content"] + "x"}
    expected = 400, refusal(message, "messages", "context_length_exceeded")
    assert ask(server, asking(over)) == expected


@pytest.mark.parametrize("body", [b"", b"{'model': 1}", b"\xff\xfe", b"[]", b'"text"'])
def test_chat_with_a_body_that_is_not_a_json_object_is_refused(
    server: StandIn, body: bytes
) -> None:
    """Bodies that are empty, malformed or not an object get the error of the API in JSON."""
    assert ask(server, body) == (400, refusal(UNREADABLE, None, None))


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer "}])
def test_chat_without_an_api_key_is_unauthorized(server: StandIn, headers: Json) -> None:
    """Requests without a key, or with an empty one, answer 401."""
    status, kind, data = sent(f"{server.url}/chat/completions", asking(), headers)
    assert (status, kind) == (401, "application/json")
    assert json.loads(data)["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("path", "body", "called"),
    [
        ("/responses", asking(), "POST /v1/responses"),
        ("/chat/completions/", asking(), "POST /v1/chat/completions/"),
        ("/files", None, "GET /v1/files"),
    ],
)
def test_an_unknown_path_is_not_found(
    server: StandIn, path: str, body: Json | None, called: str
) -> None:
    """Unknown paths answer 404 and name the method and the path."""
    status, _, data = sent(server.url + path, body)
    expected = 404, refusal(f"Invalid URL ({called})", None, None)
    assert (status, json.loads(data)) == expected


def test_a_spoken_answer_has_the_shape_of_the_recorded_one(server: StandIn) -> None:
    """A spoken answer has the keys of CONTRACT §1, and its text in the transcript only."""
    completion = answered(server, asking())
    assert re.fullmatch(r"chatcmpl-\w+", completion.pop("id"))
    usage, [choice] = completion.pop("usage"), completion.pop("choices")
    assert completion == {
        "object": "chat.completion",
        "created": int(START),
        "model": "gpt-audio-1.5",
        "service_tier": "default",
        "system_fingerprint": None,
    }
    message = choice.pop("message")
    assert choice == {"index": 0, "logprobs": None, "finish_reason": "stop"}
    audio = message.pop("audio")
    assert message == {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    assert audio.keys() == {"id", "data", "expires_at", "transcript"}
    assert audio["transcript"].startswith("You wrote: Hello")
    details = usage["prompt_tokens_details"], usage["completion_tokens_details"]
    assert details[0].keys() == {"cached_tokens", "audio_tokens", "text_tokens", "image_tokens"}
    assert details[1].keys() == {
        "reasoning_tokens",
        "audio_tokens",
        "text_tokens",
        "accepted_prediction_tokens",
        "rejected_prediction_tokens",
    }


@pytest.mark.parametrize("lifetime", [3600, 60])
def test_an_audio_id_contains_its_time_of_issue(clock: Clock, lifetime: int) -> None:
    """The first eight digits of an audio id are its Unix time; it expires one lifetime later."""
    clock.now += 0.75
    with StandIn(lifetime, clock) as server:
        audio = message_of(answered(server, asking()))["audio"]
    assert re.fullmatch(r"audio_[0-9a-f]{32}", audio["id"])
    assert int(audio["id"][6:14], 16) == int(START)
    assert audio["expires_at"] == int(START) + lifetime


@pytest.mark.parametrize("modalities", [None, ["text"]])
def test_a_text_answer_has_no_audio_key(server: StandIn, modalities: list[str] | None) -> None:
    """Without audio output, the answer is in `content` and the key `audio` is absent."""
    body = asking(user(sound()), modalities=modalities, audio=None)
    message = message_of(answered(server, body))
    assert "audio" not in message
    assert message["content"].startswith("I heard 0.1 seconds of sound.")


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 8), ("Hi", 8), ("Good morning to you.", 32), ("la " * 50, 400)]
)
def test_spoken_answers_last_a_second_for_every_twenty_tokens(
    server: StandIn, text: str, tokens: int
) -> None:
    """WAV, PCM and MP3 answers all last as long as their billed audio tokens."""
    sounds: dict[str, bytes] = {}
    for audio_format in ("wav", "pcm16", "mp3"):
        server.will_answer(text)
        audio = {"voice": "alloy", "format": audio_format}
        completion = answered(server, asking(audio=audio))
        assert completion["usage"]["completion_tokens_details"]["audio_tokens"] == tokens
        sounds[audio_format] = base64.b64decode(message_of(completion)["audio"]["data"])
    assert len(sounds["pcm16"]) == tokens * BYTES_PER_TOKEN
    with wave.open(io.BytesIO(sounds["wav"])) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 24_000)
        assert file.readframes(file.getnframes()) == sounds["pcm16"]
    frames = [sounds["mp3"][at : at + 192] for at in range(0, len(sounds["mp3"]), 192)]
    assert {(len(frame), frame[:4]) for frame in frames} == {(192, b"\xff\xf3\x84\xc4")}
    assert len(frames) * 0.024 == pytest.approx(tokens / 20, abs=0.012)


def wav_of(server: StandIn, path: str) -> bytes:
    """Return a WAV file from one of the two endpoints."""
    if path == "chat":
        return base64.b64decode(message_of(answered(server, asking()))["audio"]["data"])
    speech = server.client().audio.speech
    return speech.create(model="tts-1", voice="alloy", input="Hi", response_format="wav").content


@pytest.mark.parametrize("path", ["chat", "speech"])
def test_wav_answers_have_the_head_of_today(server: StandIn, path: str) -> None:
    """WAV answers have a head of 44 bytes, whose sizes are 2**32-1 (CONTRACT §1)."""
    data = wav_of(server, path)
    assert (data[:16], data[36:44]) == (b"RIFF\xff\xff\xff\xffWAVEfmt ", b"data\xff\xff\xff\xff")
    assert len(data[44:]) % BYTES_PER_TOKEN == 0


@pytest.mark.parametrize("path", ["chat", "speech"])
def test_old_wav_answers_have_a_list_chunk_and_correct_sizes(path: str) -> None:
    """With `old_wav_head` WAV answers have the 78-byte header of early 2025 (CONTRACT §1)."""
    with StandIn(old_wav_head=True) as server:
        data = wav_of(server, path)
    assert (data[:4], data[36:40], data[70:74]) == (b"RIFF", b"LIST", b"data")
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    assert int.from_bytes(data[74:78], "little") == len(data) - 78


@pytest.mark.parametrize("path", ["chat", "speech"])
@pytest.mark.parametrize("audio_format", ["flac", "opus", "aac"])
def test_answers_are_made_in_all_formats(server: StandIn, audio_format: str, path: str) -> None:
    """With the extra `formats`, what is encoded sounds as the same words in WAV."""
    pytest.importorskip("av", reason="needs the extra `formats`")
    server.will_answer("One two three four.")
    if path == "chat":
        body = asking(audio={"voice": "alloy", "format": audio_format})
        data = base64.b64decode(answered(server, body)["choices"][0]["message"]["audio"]["data"])
    else:
        with server.client() as client:
            speech = client.audio.speech.create(
                model="tts-1",
                voice="alloy",
                input="One two three four.",
                response_format=audio_format,  # type: ignore[arg-type]  # parametrized
            )
        assert speech.response.headers["content-type"] == f"audio/{audio_format}"
        data = speech.content
    assert format_of(data) == audio_format
    assert AudioInput.convert(data).duration == pytest.approx(1.6, abs=0.05)


@pytest.mark.parametrize("audio_format", ["ogg", "wma"])
def test_unknown_output_formats_are_refused(server: StandIn, audio_format: str) -> None:
    """The error lists the formats of the API."""
    status, answer = ask(server, asking(audio={"voice": "alloy", "format": audio_format}))
    assert status == 400
    assert f"'{audio_format}'" in answer["error"]["message"]
    assert "'wav'" in answer["error"]["message"]
    assert (answer["error"]["param"], answer["error"]["code"]) == ("audio.format", "invalid_value")


WITHOUT_PYAV = """
import openai
from conversation.testing import StandIn

with StandIn() as server, server.client() as client:
    for made in ("flac", "opus", "aac"):
        for ask in (
            lambda: client.audio.speech.create(
                model="tts-1", voice="alloy", input="Hi", response_format=made
            ),
            lambda: client.chat.completions.create(
                model="gpt-audio-1.5",
                modalities=["text", "audio"],
                audio={"voice": "alloy", "format": made},
                messages=[{"role": "user", "content": "Hi"}],
            ),
        ):
            try:
                ask()
            except openai.BadRequestError as error:
                print(error.param, error.code, error.message)
"""


def test_without_the_extra_some_formats_are_refused(tmp_path: Path) -> None:
    """Formats that need an encoder have another error code than unknown ones."""
    (tmp_path / "av.py").write_text("raise ImportError('no av')")
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    told = subprocess.run(
        [sys.executable, "-c", WITHOUT_PYAV],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert len(told) == 6
    for line, param in zip(told, ("response_format", "audio.format") * 3, strict=True):
        assert line.startswith(f"{param} not_made_by_the_stand_in")
        assert "This is a stand-in: " in line
        assert "without the extra 'formats'" in line


@pytest.mark.parametrize(
    ("parts", "tokens"),
    [
        ([sound()], 1),
        ([sound(MP3, "mp3")], 12),
        ([sound(MP3[:192] * 187, "mp3")], 44),  # 4.488 s, as measured
        ([sound(MP3[:192] * 290, "mp3")], 69),  # 6.96 s, as measured
        ([sound(MP3[:192] * 350, "mp3")], 84),  # 8.4 s, which a sum of floats falls short of
        ([sound(), sound(MP3, "mp3")], 13),
    ],
)
def test_user_sound_costs_ten_tokens_a_second(
    server: StandIn, parts: list[Json], tokens: int
) -> None:
    """Prompt audio tokens are the tenths of a second of all user sound, rounded down."""
    usage = answered(server, asking(user(*parts)))["usage"]
    assert usage["prompt_tokens_details"]["audio_tokens"] == tokens


def test_an_answer_sent_by_id_costs_its_tokens_as_prompt(server: StandIn) -> None:
    """An answer sent by its id costs its audio tokens, and its transcript as text."""
    first = answered(server, asking())
    spoken = first["usage"]["completion_tokens_details"]["audio_tokens"]
    usage = answered(server, asking(HELLO, recall(message_of(first)["audio"]["id"])))["usage"]
    assert spoken > 0
    assert usage["prompt_tokens_details"]["audio_tokens"] == spoken
    assert (
        usage["prompt_tokens_details"]["text_tokens"]
        > first["usage"]["prompt_tokens_details"]["text_tokens"]
    )


@pytest.mark.parametrize("body", [asking(), asking(user(sound()), n=3), writing()])
def test_usage_details_add_up_to_the_totals(server: StandIn, body: Json) -> None:
    """Audio and text tokens add up to each side, and both sides to the total."""
    usage = answered(server, body)["usage"]
    for side in ("prompt", "completion"):
        details = usage[f"{side}_tokens_details"]
        assert details["text_tokens"] > 0
        assert usage[f"{side}_tokens"] == details["text_tokens"] + details["audio_tokens"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_every_choice_has_an_audio_id_and_is_billed(server: StandIn) -> None:
    """With `n=3` there are three ids that can be sent back, and three times the tokens."""
    one = answered(server, asking())
    three = answered(server, asking(n=3))
    ids = [choice["message"]["audio"]["id"] for choice in three["choices"]]
    assert [choice["index"] for choice in three["choices"]] == [0, 1, 2]
    assert len(set(ids)) == 3
    assert three["usage"]["completion_tokens"] == 3 * one["usage"]["completion_tokens"]
    words = message_of(answered(server, asking(*map(recall, ids), HELLO)))["audio"]["transcript"]
    assert "recall 3 of my earlier answers by voice" in words


def test_an_audio_id_is_not_found_from_its_expiry_on(server: StandIn, clock: Clock) -> None:
    """An audio id is accepted until just before `expires_at` and refused at that time."""
    audio = message_of(answered(server, asking()))["audio"]
    body = asking(HELLO, HELLO, recall(audio["id"]), HELLO)
    clock.now = audio["expires_at"] - 0.001
    assert ask(server, body)[0] == 200
    clock.now = audio["expires_at"]
    assert ask(server, body) == (400, refusal(*unheard(audio["id"], 2)))
    with pytest.raises(KeyError):
        server.forget(audio["id"])


def test_forget_expires_one_audio_id(server: StandIn) -> None:
    """A forgotten audio id is refused at once, while other ids are still accepted."""
    first, second = (message_of(answered(server, asking()))["audio"]["id"] for _ in range(2))
    server.forget(first)
    assert ask(server, asking(HELLO, recall(second), HELLO))[0] == 200
    expected = 400, refusal(*unheard(first, 3))
    assert ask(server, asking(HELLO, recall(second), HELLO, recall(first))) == expected
    for gone in (first, UNKNOWN_ID):
        with pytest.raises(KeyError, match=gone):
            server.forget(gone)


def test_the_default_answer_counts_earlier_answers_by_voice_and_transcript(server: StandIn) -> None:
    """Messages with an audio id count as voice, those with text only as transcripts."""
    ids = [message_of(answered(server, asking()))["audio"]["id"] for _ in range(2)]
    by_voice = [recall(ids[0]), assistant(content="I said that.", audio={"id": ids[1]})]
    by_words = [assistant(content="One."), assistant(content=[{"type": "text", "text": "Two."}])]
    by_words += [assistant(content="Three.")]
    neither = [calls("a"), result("a"), assistant(content="")]
    for voices, transcripts in itertools.product(range(3), range(4)):
        earlier = [HELLO, *by_voice[:voices], *by_words[:transcripts], *neither, HELLO]
        message = message_of(answered(server, asking(*earlier)))
        assert message["audio"]["transcript"] == (
            f"You wrote: Hello I recall {voices} of my earlier answers by voice and {transcripts} "
            "from transcripts."
        )


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ([user(sound(MP3, "mp3"))], "I heard 1.2 seconds of sound."),
        (
            [user(sound(MP3, "mp3"), {"type": "text", "text": "What is it?"})],
            "I heard 1.2 seconds of sound. You wrote: What is it?",
        ),
        ([HELLO, calls("a"), result("a")], "The tool says 12 degrees."),
        ([{"role": "user", "content": ""}], "I have nothing to answer."),
    ],
)
def test_the_default_answer_describes_the_last_message(
    server: StandIn, last: list[Json], words: str
) -> None:
    """The default answer reports sound, text or tool result of the last message."""
    message = message_of(answered(server, asking(*last)))
    assert message["audio"]["transcript"].startswith(f"{words} I recall 0 of my")


def test_scripted_answers_come_in_order_before_the_default_answer(server: StandIn) -> None:
    """Each scripted answer is given once, spoken or in text as scripted."""
    server.will_answer("One.")
    server.will_answer("Two.", spoken=False)
    server.will_answer("Three.", finish_reason="length")
    choices = [answered(server, asking())["choices"][0] for _ in range(4)]
    messages = [choice["message"] for choice in choices]
    words = [message.get("audio", {}).get("transcript") for message in messages]
    assert words[:3] == ["One.", None, "Three."]
    assert words[3].startswith("You wrote: Hello")
    assert [message["content"] for message in messages] == [None, "Two.", None, None]
    reasons = [choice["finish_reason"] for choice in choices]
    assert reasons == ["stop", "stop", "length", "stop"]


@pytest.mark.parametrize(
    ("text", "has_audio"), [(None, False), ("One moment.", True)], ids=["silent", "spoken"]
)
def test_scripted_tool_calls_are_sent(server: StandIn, text: str | None, has_audio: bool) -> None:
    """Scripted tool calls have unique ids and JSON arguments, and text only if scripted."""
    server.will_answer(text, tool_calls=[("weather", {"city": "Köln"}), ("time", {})])
    [choice] = answered(server, asking())["choices"]
    message = choice["message"]
    ids = [call.pop("id") for call in message["tool_calls"]]
    assert choice["finish_reason"] == "tool_calls"
    assert len(set(ids)) == 2
    assert all(re.fullmatch(r"call_\w+", call_id) for call_id in ids)
    assert [call["type"] for call in message["tool_calls"]] == ["function", "function"]
    functions = [call["function"] for call in message["tool_calls"]]
    assert [function["name"] for function in functions] == ["weather", "time"]
    arguments = [json.loads(function["arguments"]) for function in functions]
    assert arguments == [{"city": "Köln"}, {}]
    assert ("audio" in message, message["content"]) == (has_audio, None)


def test_a_scripted_refusal_has_neither_content_nor_audio(server: StandIn) -> None:
    """A scripted refusal is in `refusal` only."""
    server.will_answer(refusal="I would rather not.")
    message = message_of(answered(server, asking()))
    assert (message["refusal"], message["content"]) == ("I would rather not.", None)
    assert "audio" not in message


@pytest.mark.parametrize(
    ("status", "kind"), [(429, "invalid_request_error"), (500, "server_error")]
)
def test_a_scripted_failure_answers_any_request_once(
    server: StandIn, status: int, kind: str
) -> None:
    """`will_fail` fails the next request, valid or not, and the request is recorded."""
    server.will_fail(status, "Not now.", code="some_code", param="model")
    error = {"message": "Not now.", "type": kind, "param": "model", "code": "some_code"}
    assert ask(server, {"nothing": "right"}) == (status, {"error": error})
    assert server.requests == [{"nothing": "right"}]
    assert ask(server, asking())[0] == 200


@pytest.mark.parametrize(
    ("body", "data"),
    [({"choices": [], "x": "é"}, '{"choices":[],"x":"é"}'.encode()), (b"\xff{not json", None)],
)
def test_a_scripted_body_is_sent_verbatim(
    server: StandIn, body: Json | bytes, data: bytes | None
) -> None:
    """`will_send` sends bytes unchanged and mappings as JSON, even to an invalid request."""
    server.will_send(body)
    assert sent(f"{server.url}/chat/completions", {}) == (200, "application/json", data or body)


@pytest.mark.parametrize(
    "faulty", [asking(n=0), asking({"role": "user", "content": "x" * 600_000})]
)
def test_a_refused_request_leaves_scripted_answers_in_place(server: StandIn, faulty: Json) -> None:
    """The corrected request gets the scripted answer, and the one after it the next."""
    server.will_answer()
    server.will_answer("Scripted.")
    assert ask(server, faulty)[0] == 400
    words = [message_of(answered(server, asking()))["audio"]["transcript"] for _ in range(2)]
    assert words[0].startswith("You wrote: Hello")
    assert words[1] == "Scripted."


def test_requests_are_recorded_with_path_and_headers(server: StandIn) -> None:
    """`requests` is a new list of all received bodies, refused ones included."""
    bodies = [asking(), asking(n=0), writing()]
    for body in bodies:
        ask(server, body)
    received = server.requests
    assert received == bodies
    assert {request.path for request in received} == {"/v1/chat/completions"}
    assert received[0].headers["authorization"] == "Bearer any"
    received.clear()
    assert server.requests == bodies


def test_the_last_two_thousand_requests_are_kept() -> None:
    """Older ones are dropped, and so are those before the last 256 MB of bodies."""
    api = Api(3600, lambda: START)

    def receive(data: bytes) -> None:
        api.answer(_http.Request("POST", "/v1/chat/completions", {"authorization": "x"}, data))

    for number in range(2002):
        receive(b'{"seed":%d}' % number)
    assert [received["seed"] for received in api.requests] == list(range(2, 2002))
    large = b'{"user":"%b"}' % (b"x" * 2**26)
    for _ in range(5):
        receive(large)
    assert [received.keys() for received in api.requests] == [{"user"}] * 3


def raw(server: StandIn, head: str, body: bytes = b"") -> tuple[int, bytes]:
    """Send these bytes as a request; return status and body of the answer, up to the end."""
    request = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: x\r\n{head}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0), 10) as connection:
        connection.sendall(request.encode() + body)
        with contextlib.suppress(OSError):  # it has answered and closed already
            connection.shutdown(socket.SHUT_WR)
        answer, _, data = b"".join(iter(lambda: connection.recv(65_536), b"")).partition(
            b"\r\n\r\n"
        )
    return int(answer.split()[1]), data


CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        *((f"Content-Length: {size}", b"{}") for size in ("abc", "-1", f"{10**15}", "+2", "0_2")),
        ("Content-Length: 99", b"{}"),
        *(
            (CHUNKED, size + b"\r\n{}\r\n0\r\n\r\n")
            for size in (b"x", b"-2", b"0x2", b"", b"f" * 99)
        ),
        (CHUNKED, b"8\r\n{}\r\n0\r\n\r\n"),
        (CHUNKED, b"1\r\n{}\r\n0\r\n\r\n"),
        (CHUNKED, b"2\r\n{}\r\n%x\r\n" % 10**15),
        (CHUNKED, b"\xff" * 100_000),
        (CHUNKED, b"2\r\n{}\r\n"),
    ],
    ids=repr,
)
def test_a_body_of_unknown_length_is_refused(
    head: str, body: bytes, server: StandIn, capfd: pytest.CaptureFixture[str]
) -> None:
    """With 400 and no traceback; the connection is closed, and the next one is served."""
    status, data = raw(server, head, body)
    assert status == 400
    assert json.loads(data)["error"]["type"] == "invalid_request_error"
    assert ask(server, asking())[0] == 200
    assert capfd.readouterr().err == ""


def test_a_body_in_chunks_is_read(server: StandIn) -> None:
    """Sizes are hexadecimal, extensions and trailers are skipped."""
    data = json.dumps(asking()).encode()
    pieces = b"1\r\n%b\r\n%X;x=y\r\n%b\r\n0\r\nX: y\r\n\r\n" % (data[:1], len(data) - 1, data[1:])
    assert raw(server, f"{CHUNKED}\r\nConnection: close", pieces)[0] == 200
    assert server.requests == [asking()]


def streamed(server: StandIn, **changes: Any) -> list[Json]:
    """Return the chunks of a streamed answer."""
    audio = {"voice": "alloy", "format": "pcm16"}
    body = asking(**{"audio": audio, "stream": True, **changes})
    status, kind, data = sent(f"{server.url}/chat/completions", body)
    assert (status, kind) == (200, "text/event-stream")
    *events, done, rest = data.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert all(event.startswith("data: ") for event in events)
    return [json.loads(event.removeprefix("data: ")) for event in events]


def test_a_stream_has_the_recorded_order_of_deltas(server: StandIn) -> None:
    """A stream brings head, transcript, sound and expiry as in CONTRACT §2."""
    server.will_answer("Hi there !")
    chunks = streamed(server)
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    parts = [delta.get("audio", {}) for delta in deltas]
    sounds = [base64.b64decode(part["data"], validate=True) for part in parts if "data" in part]
    for part in parts:
        if "data" in part:
            part["data"] = "…"
    audio_id = parts[1]["id"]
    assert re.fullmatch(r"audio_[0-9a-f]{32}", audio_id)
    assert deltas == [
        {"role": "assistant", "refusal": None},
        {"content": None, "audio": {"id": audio_id, "transcript": "Hi"}},
        {"audio": {"transcript": " there"}},
        {"audio": {"transcript": " !"}},
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "audio": {"id": audio_id, "data": "…"},
        },
        {"audio": {"data": "…"}},
        {"audio": {"data": "…"}},
        {"audio": {"expires_at": int(START) + 3600}},
        {},
    ]
    assert [len(piece) for piece in sounds] == [19_200] * 3
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    assert reasons == [None] * 8 + ["stop"]
    assert {(chunk["object"], chunk["created"]) for chunk in chunks} == {
        ("chat.completion.chunk", int(START))
    }
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_a_stream_equals_the_answer_that_is_not_streamed(server: StandIn) -> None:
    """The joined chunks have the same transcript and sound, and an id that can be sent back."""
    whole = message_of(answered(server, asking(audio={"voice": "alloy", "format": "pcm16"})))
    chunks = streamed(server)
    parts = [chunk["choices"][0]["delta"].get("audio", {}) for chunk in chunks]
    assert "".join(part.get("transcript", "") for part in parts) == whole["audio"]["transcript"]
    data = b"".join(base64.b64decode(part.get("data", "")) for part in parts)
    assert data == base64.b64decode(whole["audio"]["data"])
    [audio_id] = {part["id"] for part in parts if "id" in part}
    assert ask(server, asking(HELLO, recall(audio_id), HELLO))[0] == 200


def test_usage_is_streamed_on_request_only(server: StandIn) -> None:
    """With `include_usage`, the last chunk has the usage and all others have null."""
    whole = answered(server, asking())["usage"]
    for options in (None, {}, {"include_usage": False}):
        assert all("usage" not in chunk for chunk in streamed(server, stream_options=options))
    *chunks, last = streamed(server, stream_options={"include_usage": True})
    assert (last["choices"], last["usage"]) == ([], whole)
    assert all(chunk["choices"] and chunk["usage"] is None for chunk in chunks)


def test_text_refusal_and_tool_calls_are_streamed_in_pieces(server: StandIn) -> None:
    """The joined pieces are the scripted text, refusal and arguments, without audio."""
    arguments = {"city": "Reykjavík", "days": 3}
    server.will_answer(
        "On it, now.", spoken=False, tool_calls=[("weather", arguments)], refusal="Not twice."
    )
    deltas = [chunk["choices"][0]["delta"] for chunk in streamed(server)]
    assert not any("audio" in delta for delta in deltas)
    pieces = [delta["content"] for delta in deltas if delta.get("content")]
    assert pieces == ["On", " it,", " now."]
    assert [delta["refusal"] for delta in deltas if delta.get("refusal")] == ["Not twice."]
    first, *more = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert (first["index"], first["function"]) == (0, {"name": "weather", "arguments": ""})
    assert len(more) > 1
    assert all(call.keys() == {"index", "function"} for call in more)
    assert json.loads("".join(call["function"]["arguments"] for call in more)) == arguments


def test_streams_begin_like_recorded_ones(server: StandIn) -> None:
    """The first delta has empty text before text, null before tool calls, and none before sound."""
    server.will_answer("Hi.", spoken=False)
    server.will_answer(tool_calls=[("weather", {})])
    first = [streamed(server)[0]["choices"][0]["delta"] for _ in range(3)]
    assert first == [
        {"role": "assistant", "content": "", "refusal": None},
        {"role": "assistant", "content": None},
        {"role": "assistant", "refusal": None},
    ]


def test_chunks_tell_their_tier_and_hide_their_length(server: StandIn) -> None:
    """Each chunk has `service_tier`, and `obfuscation` unless the request does without."""
    usage = {"include_usage": True}
    chunks = streamed(server, service_tier="fast", stream_options=usage)
    assert {chunk["service_tier"] for chunk in chunks} == {"priority"}
    padding = [chunk["obfuscation"] for chunk in chunks]
    assert len(set(padding)) == len(padding) > 3
    assert len({len(characters) for characters in padding}) > 1
    plain = streamed(server, stream_options={**usage, "include_obfuscation": False})
    assert not any("obfuscation" in chunk for chunk in plain)


def test_streamed_choices_are_told_apart_by_their_index(server: StandIn) -> None:
    """With `n=2`, each streamed choice has its own index, audio id and finish reason."""
    choices = [choice for chunk in streamed(server, n=2) for choice in chunk["choices"]]
    ids = {(c["index"], c["delta"]["audio"]["id"]) for c in choices if "id" in audio_of(c)}
    assert len({audio_id for _, audio_id in ids}) == len(ids) == 2
    assert [c["index"] for c in choices if c["finish_reason"]] == [0, 1]


def audio_of(choice: Json) -> Json:
    """Return the audio of a choice in a chunk, empty if there is none."""
    audio = choice["delta"].get("audio", {})
    assert isinstance(audio, dict)
    return audio


def test_the_openai_client_reads_answers_and_streams(server: StandIn) -> None:
    """The official client finds transcript, expiry and usage in answers and streams."""
    client = server.client()
    server.will_answer("Good morning.")
    completion = client.chat.completions.create(
        model="gpt-audio-1.5",
        messages=[{"role": "user", "content": "Hello"}],
        modalities=["text", "audio"],
        audio={"voice": "alloy", "format": "wav"},
    )
    audio = completion.choices[0].message.audio
    assert audio is not None
    assert (audio.transcript, audio.expires_at) == ("Good morning.", int(START) + 3600)
    server.will_answer("Good night.", spoken=False)
    with client.chat.completions.create(
        model="gpt-audio-1.5",
        messages=[{"role": "assistant", "audio": {"id": audio.id}}],
        modalities=["text", "audio"],
        audio={"voice": "alloy", "format": "pcm16"},
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        chunks = list(stream)
    words = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(words) == "Good night."
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens_details is not None
    assert chunks[-1].usage.prompt_tokens_details.audio_tokens == 16


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (503, openai.InternalServerError),
    ],
)
def test_the_client_does_not_retry(
    server: StandIn, status: int, error: type[openai.APIStatusError]
) -> None:
    """A scripted status raises the error of the official client after a single request."""
    server.will_fail(status, code="some_code")
    with pytest.raises(error) as caught:
        server.client().chat.completions.create(
            model="gpt-audio-1.5", messages=[{"role": "user", "content": "Hello"}]
        )
    assert caught.value.code == "some_code"
    assert len(server.requests) == 1


def test_a_client_takes_options_and_is_closed_with_the_server() -> None:
    """Options reach the official client, which is closed when the server stops."""
    with StandIn() as server:
        client = server.client(api_key="mine")
        with pytest.raises(openai.BadRequestError, match="requires that either input content"):
            client.chat.completions.create(
                model="gpt-audio-1.5", messages=[{"role": "user", "content": "Hello"}]
            )
        assert server.requests[0].headers["authorization"] == "Bearer mine"
        assert not client.is_closed()
    assert client.is_closed()


@pytest.mark.parametrize("kind", ["client", "async_client"])
def test_a_client_loads_no_certificates(
    server: StandIn, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Neither client reads the trust store, which takes longer than most tests."""
    loaded: list[object] = []
    for name in ("load_verify_locations", "load_default_certs"):
        monkeypatch.setattr(ssl.SSLContext, name, lambda *args, **_: loaded.append(args))
    getattr(server, kind)()
    assert loaded == []


def test_a_client_ignores_proxies(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies of the environment are not asked for a server on this machine."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert list(server.client().models.list())


def open_connection(url: str) -> http.client.HTTPConnection:
    """Return a connection to the server."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=300)


def test_twenty_concurrent_requests_get_their_own_answers() -> None:
    """Requests that wait for the server to start are all answered, with unique audio ids."""
    server = StandIn()
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(open_connection(server.url))) for _ in range(20)]
        for number, connection in enumerate(connections):
            body = json.dumps(asking({"role": "user", "content": f"No. {number}!"}))
            headers = {"Authorization": "Bearer any"}
            connection.request("POST", "/v1/chat/completions", body, headers)
        stack.enter_context(server)
        answers = [json.load(connection.getresponse()) for connection in connections]
    messages = [message_of(answer) for answer in answers]
    for number, message in enumerate(messages):
        assert message["audio"]["transcript"].startswith(f"You wrote: No. {number}! I recall")
    assert len({message["audio"]["id"] for message in messages}) == 20
    assert len(server.requests) == 20


def test_a_connection_is_kept_alive(server: StandIn) -> None:
    """One connection carries answers, refusals and streams."""
    pcm = {"voice": "alloy", "format": "pcm16"}
    bodies = [asking(), asking(n=0), asking(stream=True, audio=pcm), asking()]
    statuses = []
    with closing(open_connection(server.url)) as connection:
        connection.connect()
        kept = connection.sock
        for key, body in [("", asking()), *(("any", body) for body in bodies)]:
            headers = {"Authorization": f"Bearer {key}"}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
            assert connection.sock is kept
    assert statuses == [401, 200, 400, 200, 200]


def test_an_open_connection_does_not_block_the_shutdown() -> None:
    """Leaving the block closes connections that a client keeps alive."""
    with StandIn() as server, closing(open_connection(server.url)) as connection:
        connection.request("GET", "/v1/models")
        assert connection.getresponse().read()
        kept = connection.sock.dup()
    with kept:
        assert kept.recv(1) == b""


def command(*options: str) -> subprocess.Popen[str]:
    """Start `python -m conversation.testing` with the package under test."""
    root = str(Path(conversation.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-m", "conversation.testing", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )


@contextmanager
def served(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the command; yield the process and the URL that it prints."""
    with command(*options) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("serving on http://")
            line = process.stdout.readline()
            told = re.fullmatch(
                r"export OPENAI_BASE_URL=(http://127\.0\.0\.1:\d+/v1) OPENAI_API_KEY=any\n", line
            )
            assert told, line
            yield process, told[1]
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="signals end a process at once there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_interrupted(number: signal.Signals) -> None:
    """SIGINT and SIGTERM end the command silently with status 0."""
    with served("--port", "0", "--audio-lifetime", "60") as (process, url):
        status, _, data = sent(f"{url}/chat/completions", asking())
        assert status == 200
        audio = message_of(json.loads(data))["audio"]
        assert audio["expires_at"] == int(audio["id"][6:14], 16) + 60
        process.send_signal(number)
        assert process.communicate(timeout=300) == ("", "")
        assert process.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals end a process at once there")
def test_the_command_ends_while_a_connection_is_open() -> None:
    """SIGTERM ends the command with status 0 although a client stays connected."""
    with served("--port", "0") as (process, url), closing(open_connection(url)) as connection:
        connection.request("GET", "/v1/models")
        assert connection.getresponse().status == 401
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0


@pytest.mark.parametrize("seconds", ["nan", "inf", "-inf", "-1", "1e10", "long"])
def test_the_command_refuses_a_lifetime_that_is_none(
    seconds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ids live for a number of seconds; anything else is wrong usage."""
    with pytest.raises(SystemExit) as caught:
        main([f"--audio-lifetime={seconds}"])
    assert caught.value.code == 2
    assert "argument --audio-lifetime: " in capsys.readouterr().err


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1, 1e10, "60", None, True])
def test_the_stand_in_refuses_a_lifetime_that_is_none(seconds: Any) -> None:
    """The error names the argument, its bounds and the value."""
    message = f"audio_lifetime must be from 0 to 1000000000 seconds, got {seconds!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        StandIn(seconds)


def test_the_command_reports_a_port_in_use() -> None:
    """A port in use gives status 1 and one line on stderr instead of a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with command("--port", str(port)) as process:
            output, errors = process.communicate(timeout=300)
    assert (process.returncode, output) == (1, "")
    told = rf"cannot listen on port {port}: [^\[]+; --port 0 takes any free one\n"
    assert re.fullmatch(told, errors)


@pytest.mark.parametrize("port", ["abc", "-1", "65536", "1.5", "", "٣"])
def test_the_command_refuses_a_port_that_is_none(
    port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ports are numbers of 16 bits; anything else is wrong usage, and is named."""
    with pytest.raises(SystemExit) as caught:
        main([f"--port={port}"])
    assert caught.value.code == 2
    told = f"argument --port: a port is a number from 0 to 65535, got {port!r}"
    assert told in capsys.readouterr().err


def test_the_command_names_a_script_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing script gives status 1 and one line, without Python's numbers."""
    assert main(["--port", "0", "--script", str(tmp_path / "nothere")]) == 1
    why = "No such file or directory"
    assert capsys.readouterr().err == f"cannot follow {tmp_path / 'nothere'}: {why}\n"

"""The stand-in's endpoints for speech, transcriptions and models (CONTRACT §5, §7)."""

from __future__ import annotations

import base64
import http.client
import io
import json
import wave
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from openai import OpenAI

from conversation import AudioInput
from conversation._values.conversion import encoded
from conversation.testing import StandIn
from conversation.testing._voice import OLD_VOICES, VOICES
from tests.samples import MP3, SOUND

Json = dict[str, Any]

SUPPORTED = "['flac', 'm4a', 'mp3', 'mp4', 'mpeg', 'mpga', 'oga', 'ogg', 'wav', 'webm']"
READ: Json = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "Good morning to you."}


def speak(client: OpenAI, **changes: Any) -> bytes:
    """Return the sound of speech."""
    # As extra fields, because old versions of the client lack some of them.
    create: Any = client.audio.speech.create
    sound = create(**READ, extra_body=changes).content
    assert isinstance(sound, bytes)
    return sound


def transcribe(
    client: OpenAI, data: bytes, name: str = "said.wav", model: str = "gpt-transcribe"
) -> str:
    """Return the transcript of a sound."""
    return client.audio.transcriptions.create(file=(name, data), model=model).text


def posted(
    server: StandIn, path: str, body: bytes, content_type: str = "application/json"
) -> tuple[int, Any]:
    """Return the status and JSON of the answer to a body."""
    parts = urlsplit(server.url)
    with closing(http.client.HTTPConnection(parts.netloc, timeout=300)) as connection:
        headers = {"Authorization": "Bearer any", "Content-Type": content_type}
        connection.request("POST", parts.path + path, body, headers)
        response = connection.getresponse()
        return response.status, json.load(response)


def form(**fields: str | tuple[str, bytes]) -> tuple[bytes, str]:
    """Return the body and content type of a form; pairs are files."""
    parts = b""
    for name, value in fields.items():
        filename = f'; filename="{value[0]}"' if isinstance(value, tuple) else ""
        data = value[1] if isinstance(value, tuple) else value.encode()
        head = f'--XX\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'
        parts += head.encode() + data + b"\r\n"
    return parts + b"--XX--\r\n", "multipart/form-data; boundary=XX"


def refusal(message: str, param: str | None = None, code: str | None = None) -> Json:
    """Return the body of an error."""
    kind = "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@pytest.mark.parametrize(
    ("chosen", "content_type"),
    [(None, "audio/mpeg"), ("mp3", "audio/mpeg"), ("wav", "audio/wav"), ("pcm", "audio/pcm")],
)
def test_speech_has_the_requested_format(
    server: StandIn, client: OpenAI, chosen: str | None, content_type: str
) -> None:
    """Speech is MP3 by default and lasts 0.4 s for each word in every format."""
    options = {"instructions": "Cheerfully.", "speed": 1.5}
    if chosen:
        options["response_format"] = chosen
    create: Any = client.audio.speech.with_raw_response.create
    response = create(**READ, extra_body=options)
    assert response.headers["content-type"] == content_type
    sound = response.content
    if chosen == "pcm":
        assert len(sound) == 48_000 * 1.6
    elif chosen == "wav":
        assert AudioInput(sound).duration == 1.6
    else:
        assert len(sound) == 192 * round(1.6 / 0.024)
    assert server.requests[0]["input"] == READ["input"]
    assert server.requests[0].path == "/v1/audio/speech"


def test_streamed_speech_equals_plain_speech(client: OpenAI) -> None:
    """The streaming call of the official client gets the same bytes as the plain one."""
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input=READ["input"], response_format="pcm"
    ) as response:
        assert b"".join(response.iter_bytes(1000)) == speak(client, response_format="pcm")


def listed(kind: str, name: str, message: str, **more: Any) -> str:
    """Return the message of the API's validator with one error."""
    return str([{"type": kind, "loc": ("body", name), "msg": message, **more}])


LONG = listed(
    "string_too_long",
    "input",
    "String should have at most 4096 characters",
    ctx={"max_length": 4096},
)
SHORT = listed(
    "string_too_short", "input", "String should have at least 1 character", ctx={"min_length": 1}
)
EXPECTED = "'mp3', 'opus', 'aac', 'flac', 'wav' or 'pcm'"
NO_FORMAT = listed(
    "enum", "response_format", f"Input should be {EXPECTED}", ctx={"expected": EXPECTED}
)


def unspoken(*voices: str) -> str:
    """Return the refusal of a voice that a model does not have."""
    expected = f"{', '.join(map(repr, voices[:-1]))} or '{voices[-1]}'"
    return listed("enum", "voice", f"Input should be {expected}", ctx={"expected": expected})


NO_VOICE = unspoken(*VOICES)
NO_OLD_VOICE = unspoken(*OLD_VOICES)
FAST = listed(
    "less_than_equal", "speed", "Input should be less than or equal to 4", ctx={"le": 4.0}
)
SLOW = listed(
    "greater_than_equal",
    "speed",
    "Input should be greater than or equal to 0.25",
    ctx={"ge": 0.25},
)
NEITHER = str(
    [
        {"type": "missing", "loc": ("body", name), "msg": "Field required"}
        for name in ("input", "voice")
    ]
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, "you must provide a model parameter"),
        ({"model": ""}, "you must provide a model parameter"),
        ({"model": 5}, "We could not parse the JSON body of your request."),
        ({"input": None}, listed("missing", "input", "Field required")),
        ({"voice": None}, listed("missing", "voice", "Field required")),
        ({"input": None, "voice": None}, NEITHER),
        ({"input": 5}, listed("string_type", "input", "Input should be a valid string")),
        ({"voice": 5}, listed("string_type", "voice", "Input should be a valid string")),
        ({"input": ""}, SHORT),
        ({"input": "é" * 4097}, LONG),
        ({"response_format": "ogg"}, NO_FORMAT),
        ({"response_format": ["mp3"]}, NO_FORMAT),
        ({"voice": "samantha"}, NO_VOICE),
        ({"voice": "samantha", "model": "tts-1"}, NO_OLD_VOICE),
        ({"voice": "ballad", "model": "tts-1-hd"}, NO_OLD_VOICE),
        ({"speed": 4.1}, FAST),
        ({"speed": 0.2}, SLOW),
        ({"speed": "fast"}, listed("float_type", "speed", "Input should be a valid number")),
    ],
)
def test_invalid_speech_requests_get_the_list_of_the_validator(
    server: StandIn, changes: Json, message: str
) -> None:
    """Refusals of speech list the errors in the message, without param and code."""
    body = {name: value for name, value in {**READ, **changes}.items() if value is not None}
    answer = posted(server, "/audio/speech", json.dumps(body).encode())
    assert answer == (400, refusal(message))
    assert server.requests == [body]


@pytest.mark.parametrize("body", [b"[]", b"{'", b"\xff"])
def test_speech_with_a_body_that_is_not_a_json_object_is_refused(
    server: StandIn, body: bytes
) -> None:
    """Malformed bodies of speech requests get the error of the API in JSON."""
    message = "We could not parse the JSON body of your request."
    assert posted(server, "/audio/speech", body) == (400, refusal(message))


@pytest.mark.parametrize(
    "changes",
    [{"input": "é" * 4096}, {"voice": {"id": "voice_1"}}, {"model": "tts-1-hd"}, {"surprise": 1}],
)
def test_speech_requests_that_the_api_accepts_are_answered(client: OpenAI, changes: Json) -> None:
    """Long input, custom voices and unknown fields of speech requests are accepted."""
    assert speak(client, response_format="pcm", **changes)


def test_speech_that_only_the_api_can_make_is_refused(client: OpenAI) -> None:
    """Features of speech that the stand-in lacks have an error that says so."""
    with pytest.raises(openai.BadRequestError, match="This is a stand-in: ") as caught:
        speak(client, stream_format="sse")
    assert (caught.value.param, caught.value.code) == ("stream_format", "not_made_by_the_stand_in")


@pytest.mark.parametrize("model", ["gpt-audio-1.5", "whisper-1", "tts-9", "gpt-4o-mini-ttss"])
def test_speech_with_a_model_of_another_kind_is_not_found(client: OpenAI, model: str) -> None:
    """The speech endpoint answers 404 to models without speech."""
    with pytest.raises(openai.NotFoundError, match=f"`{model}` does not exist") as caught:
        speak(client, model=model)
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("chosen", ["wav", "pcm"])
def test_its_own_speech_is_transcribed_exactly(client: OpenAI, chosen: str) -> None:
    """Speech of the stand-in is transcribed to its text, raw PCM in a WAV file included."""
    sound = speak(client, response_format=chosen, input="Is  it raining?")
    if chosen == "pcm":
        file = io.BytesIO()
        with wave.open(file, "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(24_000)
            out.writeframes(sound)
        sound = file.getvalue()
    speak(client, response_format="wav", input="Is it snowing?")
    assert transcribe(client, sound) == "Is  it raining?"


def test_speech_of_different_words_is_transcribed_differently(client: OpenAI) -> None:
    """No two of forty words have the same sound."""
    words = [f"word{number}" for number in range(40)]
    sounds = [speak(client, response_format="wav", input=word) for word in words]
    assert [transcribe(client, sound) for sound in sounds] == words


def test_the_sound_of_a_chat_answer_is_transcribed_exactly(server: StandIn, client: OpenAI) -> None:
    """A spoken chat answer is transcribed to its text, and a cut one by its length only."""
    server.will_answer("The sun is out.")
    create: Any = client.chat.completions.create
    completion = create(
        model="gpt-audio-1.5",
        messages=[{"role": "user", "content": "Hello"}],
        modalities=["text", "audio"],
        audio={"voice": "alloy", "format": "wav"},
    )
    sound = base64.b64decode(completion.choices[0].message.audio.data)
    assert transcribe(client, sound) == "The sun is out."
    assert transcribe(client, sound[:-4800]) == "1.5 seconds of sound."


@pytest.mark.parametrize(
    ("data", "name", "words"),
    [
        (SOUND, "a.wav", "0.1 seconds of sound."),
        (MP3, "a.mp3", "1.2 seconds of sound."),
        (MP3, "A.MPGA", "1.2 seconds of sound."),
        (SOUND[:4] + b"\xff\xff\xff\xff" + SOUND[8:], "a.wav", "0.1 seconds of sound."),
        (SOUND[:20] + b"\3\0" + SOUND[22:], "float.wav", "0.1 seconds of sound."),
    ],
)
def test_foreign_sound_is_transcribed_by_its_length(
    client: OpenAI, data: bytes, name: str, words: str
) -> None:
    """The transcript of sound that the stand-in did not make states its duration."""
    assert transcribe(client, data, name) == words


def test_scripted_transcripts_come_in_order(server: StandIn, client: OpenAI) -> None:
    """Scripted transcripts survive refused uploads and do not mix with chat answers."""
    server.will_answer("For the chat.")
    server.will_transcribe("One.")
    server.will_transcribe("Two.")
    with pytest.raises(openai.BadRequestError):
        transcribe(client, b"no sound")
    words = [transcribe(client, SOUND) for _ in range(3)]
    assert words == ["One.", "Two.", "0.1 seconds of sound."]
    create: Any = client.chat.completions.create
    completion = create(
        model="gpt-audio-1.5",
        messages=[{"role": "user", "content": "Hello"}],
        modalities=["text", "audio"],
        audio={"voice": "alloy", "format": "wav"},
    )
    assert completion.choices[0].message.audio.transcript == "For the chat."


def test_transcriptions_have_the_requested_format(client: OpenAI) -> None:
    """Transcriptions come as plain text or as JSON with the duration."""
    create: Any = client.audio.transcriptions.create
    text = create(file=("a.wav", SOUND), model="gpt-4o-transcribe", response_format="text")
    assert text == "0.1 seconds of sound.\n"
    verbose = create(file=("a.wav", SOUND), model="whisper-1", response_format="verbose_json")
    assert (verbose.text, verbose.duration) == ("0.1 seconds of sound.", 0.1)


UNFIT = (
    "response_format 'verbose_json' is not compatible with model 'gpt-transcribe'. "
    "Use 'json' or 'text' instead."
)
NOT_A_FORMAT = (
    "Invalid value: 'xml'. Supported values are: 'json', 'text', 'srt', 'verbose_json', and 'vtt'."
)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"model": None}, ("you must provide a model parameter", None, None)),
        ({"file": None}, (listed("missing", "file", "Field required", input=None), None, None)),
        ({"file": "text"}, (listed("missing", "file", "Field required", input=None), None, None)),
        (
            {"file": ("a.wav", b"")},
            ("Audio file might be corrupted or unsupported", "file", "invalid_value"),
        ),
        (
            {"file": ("a.mp3", b"no sound")},
            ("Audio file might be corrupted or unsupported", "file", "invalid_value"),
        ),
        (
            {"file": ("a.mp3", b"no sound"), "model": "whisper-1"},
            (f"Invalid file format. Supported formats: {SUPPORTED}", None, None),
        ),
        (
            {"file": ("a.bin", SOUND)},
            ("Unsupported file format bin", "file", "unsupported_value"),
        ),
        (
            {"file": ("upload", SOUND), "model": "whisper-1"},
            (f"Invalid file format. Supported formats: {SUPPORTED}", None, None),
        ),
        (
            {"file": ("a.wav", SOUND[:-2])},
            (
                "Audio file is too short. Minimum audio length is 0.1 seconds.",
                "file",
                "audio_too_short",
            ),
        ),
        ({"response_format": "verbose_json"}, (UNFIT, "response_format", "unsupported_value")),
        ({"response_format": "xml"}, (NOT_A_FORMAT, "response_format", "invalid_value")),
    ],
)
def test_invalid_transcription_requests_get_the_errors_of_the_api(
    server: StandIn,
    fields: dict[str, str | tuple[str, bytes] | None],
    error: tuple[str, str | None, str | None],
) -> None:
    """Missing fields, bad files and bad formats are refused as in CONTRACT §7."""
    whole = {"model": "gpt-transcribe", "file": ("a.wav", SOUND), **fields}
    body, content_type = form(**{name: value for name, value in whole.items() if value})
    answer = posted(server, "/audio/transcriptions", body, content_type)
    assert answer == (400, refusal(*error))


@pytest.mark.parametrize(
    ("fields", "param", "named"),
    [
        ({"file": ("a.flac", b"fLaC" + bytes(50))}, "file", "'flac'"),
        ({"file": ("a.wav", b"fLaC" + bytes(50))}, "file", "'flac'"),
        ({"file": ("a.webm", b"\x1aE\xdf\xa3")}, "file", "'webm'"),
        ({"model": "whisper-1", "response_format": "srt"}, "response_format", "'srt'"),
        ({"stream": "true"}, "stream", "streamed transcriptions"),
    ],
)
def test_transcriptions_that_only_the_api_can_make_are_refused(
    server: StandIn, fields: dict[str, str | tuple[str, bytes]], param: str, named: str
) -> None:
    """Uploads and formats that the stand-in lacks have an error that says so."""
    body, content_type = form(**{"model": "gpt-transcribe", "file": ("a.wav", SOUND), **fields})
    status, answer = posted(server, "/audio/transcriptions", body, content_type)
    error = answer["error"]
    assert (status, error["param"], error["code"]) == (400, param, "not_made_by_the_stand_in")
    assert error["message"].startswith("This is a stand-in: ")
    assert named in error["message"]


@pytest.mark.parametrize(
    ("audio_format", "name"), [("opus", "note.ogg"), ("aac", "note.m4a"), ("flac", "note.flac")]
)
def test_voice_notes_are_transcribed(client: OpenAI, audio_format: str, name: str) -> None:
    """Sound of other formats is heard, as long as it is, where it can be converted."""
    data = encoded([bytes(96_000)], audio_format)
    assert transcribe(client, data, name) in ("2.0 seconds of sound.", "2.1 seconds of sound.")
    with pytest.raises(openai.BadRequestError, match=r"short|hear|corrupted"):
        transcribe(client, data[: len(data) // 50], name)


def test_an_upload_of_more_than_25_mib_is_too_large(server: StandIn) -> None:
    """The limit of an upload counts the whole form, to the byte."""
    empty, content_type = form(model="gpt-transcribe", file=("a.wav", b""))
    most = 26_214_400 - len(empty)
    sound = SOUND + bytes(most - len(SOUND))
    body, _ = form(model="gpt-transcribe", file=("a.wav", sound))
    assert posted(server, "/audio/transcriptions", body, content_type)[0] == 200
    body, _ = form(model="gpt-transcribe", file=("a.wav", sound + b"\0"))
    status, answer = posted(server, "/audio/transcriptions", body, content_type)
    assert (status, answer["error"]["type"]) == (413, "server_error")
    assert "(26214400) exceeded (26214401 bytes read)" in answer["error"]["message"]


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data", ""])
def test_a_transcription_request_without_a_form_has_no_model(
    server: StandIn, content_type: str
) -> None:
    """A transcription body that is not a form is refused for its missing model."""
    answer = posted(server, "/audio/transcriptions", form(model="whisper-1")[0], content_type)
    assert answer == (400, refusal("you must provide a model parameter"))


@pytest.mark.parametrize(
    "data", [b"RIFF\r\n--XX\r\n--\r\n\r\n", bytes(range(256)) * 3, b"\r\n", b"", b"--XX--"]
)
def test_a_file_in_a_form_is_parsed_unchanged(data: bytes) -> None:
    """Line ends, hyphens and lookalikes of the boundary in a file stay as they are."""
    from conversation.testing._forms import Upload, parse_form

    head = (
        b'--Xy\r\nContent-Disposition: form-data; name="file"; filename="\xc3\xa9 \\"a\\".wav"\r\n'
    )
    body = head + b"Content-Type: audio/wav\r\n\r\n" + data + b"\r\n--Xy--\r\n"
    fields = parse_form('multipart/form-data; boundary="Xy"', body)
    assert fields == {"file": Upload('é "a".wav', data)}


def test_uploads_are_recorded_by_name_and_size(server: StandIn, client: OpenAI) -> None:
    """A recorded form has all its fields, with file names and sizes instead of data."""
    client.audio.transcriptions.create(
        file=("said.wav", SOUND),
        model="whisper-1",
        language="en",
        prompt="Grüße",
        temperature=0,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    [received] = server.requests
    assert received == {
        "file": {"filename": "said.wav", "size": len(SOUND)},
        "model": "whisper-1",
        "language": "en",
        "prompt": "Grüße",
        "temperature": "0",
        "response_format": "verbose_json",
        "timestamp_granularities[]": ["word", "segment"],
    }
    assert received.path == "/v1/audio/transcriptions"
    assert received.headers["content-type"].startswith("multipart/form-data")


def test_a_scripted_failure_answers_every_endpoint_once(server: StandIn, client: OpenAI) -> None:
    """Speech, transcriptions and models fail once as scripted and then answer."""
    for call in (
        lambda: speak(client),
        lambda: transcribe(client, SOUND),
        client.models.list,
        lambda: client.models.retrieve("gpt-audio-1.5"),
    ):
        server.will_fail(503, "Not now.")
        with pytest.raises(openai.InternalServerError, match="Not now"):
            call()
        assert call()


@pytest.mark.parametrize("path", ["/audio/speech", "/audio/transcriptions", "/models"])
def test_every_endpoint_requires_an_api_key(server: StandIn, path: str) -> None:
    """Speech, transcriptions and models answer 401 without a key and record nothing."""
    client = server.client(default_headers={"Authorization": ""})
    with pytest.raises(openai.AuthenticationError):
        client.get(path, cast_to=object) if path == "/models" else client.post(path, cast_to=object)
    assert server.requests == []


def test_models_are_listed_with_their_shutdown_dates(client: OpenAI) -> None:
    """Each listed model has its shutdown date and can be retrieved by its id."""
    models = list(client.models.list())
    ends = {model.id: getattr(model, "shutdown_date", None) for model in models}
    assert list(ends)[:3] == ["gpt-audio-1.5", "gpt-audio", "gpt-audio-mini"]
    assert (ends["gpt-audio-1.5"], ends["gpt-audio"]) == (None, "2027-01-20")
    assert {"gpt-4o-mini-tts", "gpt-transcribe", "whisper-1"} < set(ends)
    assert {(model.object, model.owned_by) for model in models} == {("model", "system")}
    for model in models:
        assert client.models.retrieve(model.id) == model


@pytest.mark.parametrize("model", ["gpt-audio-mini-2025-12-15", "gpt-5", "gpt-4o-mini-tts"])
def test_models_that_are_accepted_can_be_retrieved(client: OpenAI, model: str) -> None:
    """Dated versions and text models can be retrieved although they are not listed."""
    assert client.models.retrieve(model).id == model


@pytest.mark.parametrize("model", ["gpt-audio-9", "gpt-4o-audio-preview", "tts/9"])
def test_unknown_and_retired_models_cannot_be_retrieved(client: OpenAI, model: str) -> None:
    """Retrieving an unknown or retired model answers 404."""
    with pytest.raises(openai.NotFoundError, match=f"`{model}` does not exist") as caught:
        client.models.retrieve(model)
    assert caught.value.code == "model_not_found"


def test_a_chunked_request_body_is_read(server: StandIn) -> None:
    """Uploads with chunked encoding are answered, two on the same connection."""
    body, content_type = form(model="whisper-1", file=("a.wav", SOUND))
    parts = urlsplit(server.url)
    headers = {"Authorization": "Bearer any", "Content-Type": content_type}
    with closing(http.client.HTTPConnection(parts.netloc, timeout=300)) as connection:
        for _ in range(2):
            connection.request(
                "POST", "/v1/audio/transcriptions", iter([body[:99], body[99:]]), headers
            )
            assert json.load(connection.getresponse()) == {"text": "0.1 seconds of sound."}

"""The stand-in reads aloud, writes down what it hears, and tells which models there are."""

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

from conversation.testing import StandIn
from tests.samples import MP3, SOUND

Json = dict[str, Any]

SUPPORTED = "['flac', 'm4a', 'mp3', 'mp4', 'mpeg', 'mpga', 'oga', 'ogg', 'wav', 'webm']"
READ: Json = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "Good morning to you."}


def speak(client: OpenAI, **changes: Any) -> bytes:
    """The sound of a text."""
    # As extra fields, for old versions of the client do not know all of them.
    create: Any = client.audio.speech.create
    sound = create(**READ, extra_body=changes).content
    assert isinstance(sound, bytes)
    return sound


def transcribe(
    client: OpenAI, data: bytes, name: str = "said.wav", model: str = "gpt-transcribe"
) -> str:
    """The words that are heard in a sound."""
    return client.audio.transcriptions.create(file=(name, data), model=model).text


def posted(
    server: StandIn, path: str, body: bytes, content_type: str = "application/json"
) -> tuple[int, Any]:
    """Status and JSON of the answer to bytes."""
    parts = urlsplit(server.url)
    with closing(http.client.HTTPConnection(parts.netloc, timeout=10)) as connection:
        headers = {"Authorization": "Bearer any", "Content-Type": content_type}
        connection.request("POST", parts.path + path, body, headers)
        response = connection.getresponse()
        return response.status, json.load(response)


def form(**fields: str | tuple[str, bytes]) -> tuple[bytes, str]:
    """A form's body and content type; a pair is a file."""
    parts = b""
    for name, value in fields.items():
        filename = f'; filename="{value[0]}"' if isinstance(value, tuple) else ""
        data = value[1] if isinstance(value, tuple) else value.encode()
        head = f'--XX\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'
        parts += head.encode() + data + b"\r\n"
    return parts + b"--XX--\r\n", "multipart/form-data; boundary=XX"


def refusal(message: str, param: str | None = None, code: str | None = None) -> Json:
    """The body of an error."""
    kind = "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@pytest.mark.parametrize(
    ("chosen", "content_type"),
    [(None, "audio/mpeg"), ("mp3", "audio/mpeg"), ("wav", "audio/wav"), ("pcm", "audio/pcm")],
)
def test_a_text_is_read_aloud(
    server: StandIn, client: OpenAI, chosen: str | None, content_type: str
) -> None:
    """The bytes are the sound, as long as that of a spoken answer, MP3 unless another is asked."""
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
        with wave.open(io.BytesIO(sound)) as file:
            assert file.getnframes() / file.getframerate() == 1.6
    else:
        assert len(sound) == 192 * round(1.6 / 0.024)
    assert server.requests[0]["input"] == READ["input"]
    assert server.requests[0].path == "/v1/audio/speech"


def test_speech_can_be_read_as_a_stream(client: OpenAI) -> None:
    """The client's streaming call gets the same bytes."""
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input=READ["input"], response_format="pcm"
    ) as response:
        assert b"".join(response.iter_bytes(1000)) == speak(client, response_format="pcm")


def listed(kind: str, name: str, message: str, **more: Any) -> str:
    """The list of the API's validator with one fault in it."""
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
    ],
)
def test_faulty_speech_is_refused_in_the_words_of_the_api(
    server: StandIn, changes: Json, message: str
) -> None:
    """Its validator lists the faults, and names neither param nor code."""
    body = {name: value for name, value in {**READ, **changes}.items() if value is not None}
    answer = posted(server, "/audio/speech", json.dumps(body).encode())
    assert answer == (400, refusal(message))
    assert server.requests == [body]


@pytest.mark.parametrize("body", [b"[]", b"{'", b"\xff"])
def test_speech_of_no_json_object_is_refused(server: StandIn, body: bytes) -> None:
    """Whatever the bytes are, the answer is an error in JSON."""
    message = "We could not parse the JSON body of your request."
    assert posted(server, "/audio/speech", body) == (400, refusal(message))


@pytest.mark.parametrize(
    "changes",
    [{"input": "é" * 4096}, {"voice": {"id": "voice_1"}}, {"model": "tts-1-hd"}, {"surprise": 1}],
)
def test_what_the_api_reads_aloud_is_read(client: OpenAI, changes: Json) -> None:
    """Strictness goes no further: unknown fields are passed over, as they were when recorded."""
    assert speak(client, response_format="pcm", **changes)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"response_format": "flac"}, "response_format"),
        ({"response_format": "opus"}, "response_format"),
        ({"response_format": "aac"}, "response_format"),
        ({"stream_format": "sse"}, "stream_format"),
    ],
)
def test_what_only_the_api_makes_is_refused_by_name(
    client: OpenAI, changes: Json, param: str
) -> None:
    """The error says that it is the stand-in that cannot."""
    with pytest.raises(openai.BadRequestError, match="This is a stand-in: ") as caught:
        speak(client, **changes)
    assert (caught.value.param, caught.value.code) == (param, "not_made_by_the_stand_in")


@pytest.mark.parametrize("model", ["gpt-audio-1.5", "whisper-1", "tts-9", "gpt-4o-mini-ttss"])
def test_a_model_that_does_not_speak_is_not_found(client: OpenAI, model: str) -> None:
    """Only speech models are known there."""
    with pytest.raises(openai.NotFoundError, match=f"`{model}` does not exist") as caught:
        speak(client, model=model)
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("chosen", ["wav", "pcm"])
def test_what_it_said_itself_is_heard_word_by_word(client: OpenAI, chosen: str) -> None:
    """Speech is written down again, also when raw PCM was made a WAV file in between."""
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


def test_single_words_are_told_apart(client: OpenAI) -> None:
    """No two of many words hum alike."""
    words = [f"word{number}" for number in range(40)]
    sounds = [speak(client, response_format="wav", input=word) for word in words]
    assert [transcribe(client, sound) for sound in sounds] == words


def test_the_sound_of_an_answer_is_heard_word_by_word(server: StandIn, client: OpenAI) -> None:
    """What a chat model said can be written down too."""
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
def test_other_sound_is_heard_by_its_length(
    client: OpenAI, data: bytes, name: str, words: str
) -> None:
    """What it did not say itself it can only measure."""
    assert transcribe(client, data, name) == words


def test_scripted_transcripts_come_in_order(server: StandIn, client: OpenAI) -> None:
    """They wait for sound that is accepted, and answers of a chat wait for a chat."""
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


def test_a_transcription_comes_in_the_form_that_is_asked_for(client: OpenAI) -> None:
    """JSON, plain text, or, from the model that can, with the length."""
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
def test_faulty_transcriptions_are_refused_in_the_words_of_the_api(
    server: StandIn,
    fields: dict[str, str | tuple[str, bytes] | None],
    error: tuple[str, str | None, str | None],
) -> None:
    """The file's name counts as well as its bytes."""
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
        ({"stream": "true"}, "stream", "a stream of a transcription"),
    ],
)
def test_what_only_the_api_hears_is_refused_by_name(
    server: StandIn, fields: dict[str, str | tuple[str, bytes]], param: str, named: str
) -> None:
    """The error says that it is the stand-in that cannot."""
    body, content_type = form(**{"model": "gpt-transcribe", "file": ("a.wav", SOUND), **fields})
    status, answer = posted(server, "/audio/transcriptions", body, content_type)
    error = answer["error"]
    assert (status, error["param"], error["code"]) == (400, param, "not_made_by_the_stand_in")
    assert error["message"].startswith("This is a stand-in: ")
    assert named in error["message"]


def test_a_body_of_more_than_25_mib_is_too_large(server: StandIn) -> None:
    """The whole form counts, and one byte decides."""
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
def test_a_transcription_without_a_form_has_no_model(server: StandIn, content_type: str) -> None:
    """What is no form holds nothing."""
    answer = posted(server, "/audio/transcriptions", form(model="whisper-1")[0], content_type)
    assert answer == (400, refusal("you must provide a model parameter"))


@pytest.mark.parametrize(
    "data", [b"RIFF\r\n--XX\r\n--\r\n\r\n", bytes(range(256)) * 3, b"\r\n", b"", b"--XX--"]
)
def test_a_file_in_a_form_arrives_as_it_is(data: bytes) -> None:
    """Line ends, hyphens and what looks like a boundary are its own affair."""
    from conversation.testing._forms import Upload, fields_of

    head = (
        b'--Xy\r\nContent-Disposition: form-data; name="file"; filename="\xc3\xa9 \\"a\\".wav"\r\n'
    )
    body = head + b"Content-Type: audio/wav\r\n\r\n" + data + b"\r\n--Xy--\r\n"
    fields = fields_of('multipart/form-data; boundary="Xy"', body)
    assert fields == {"file": Upload('é "a".wav', data)}


def test_requests_with_files_are_kept_without_their_bytes(server: StandIn, client: OpenAI) -> None:
    """The fields of the form stand there as the client sent them, the file by name and size."""
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


def test_a_scripted_failure_meets_every_endpoint(server: StandIn, client: OpenAI) -> None:
    """Each is failed once, and then answers."""
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
def test_every_endpoint_wants_a_key(server: StandIn, path: str) -> None:
    """Any key will do, but there has to be one."""
    client = server.client(default_headers={"Authorization": ""})
    with pytest.raises(openai.AuthenticationError):
        client.get(path, cast_to=object) if path == "/models" else client.post(path, cast_to=object)
    assert server.requests == []


def test_the_models_are_listed_with_the_day_they_end(client: OpenAI) -> None:
    """Those that hear, speak or write down, and each can be asked for by itself."""
    models = list(client.models.list())
    ends = {model.id: getattr(model, "shutdown_date", None) for model in models}
    assert list(ends)[:3] == ["gpt-audio-1.5", "gpt-audio", "gpt-audio-mini"]
    assert (ends["gpt-audio-1.5"], ends["gpt-audio"]) == (None, "2027-01-20")
    assert {"gpt-4o-mini-tts", "gpt-transcribe", "whisper-1"} < set(ends)
    assert {(model.object, model.owned_by) for model in models} == {("model", "system")}
    for model in models:
        assert client.models.retrieve(model.id) == model


@pytest.mark.parametrize("model", ["gpt-audio-mini-2025-12-15", "gpt-5", "gpt-4o-mini-tts"])
def test_a_model_that_is_answered_is_known(client: OpenAI, model: str) -> None:
    """Dated versions and text models too, though the list has only the others."""
    assert client.models.retrieve(model).id == model


@pytest.mark.parametrize("model", ["gpt-audio-9", "gpt-4o-audio-preview", "tts/9"])
def test_a_model_that_is_not_there_is_not_found(client: OpenAI, model: str) -> None:
    """Retired ones neither."""
    with pytest.raises(openai.NotFoundError, match=f"`{model}` does not exist") as caught:
        client.models.retrieve(model)
    assert caught.value.code == "model_not_found"


def test_a_body_that_comes_in_chunks_is_read(server: StandIn) -> None:
    """A client that does not know the length beforehand is understood, and its connection kept."""
    body, content_type = form(model="whisper-1", file=("a.wav", SOUND))
    parts = urlsplit(server.url)
    headers = {"Authorization": "Bearer any", "Content-Type": content_type}
    with closing(http.client.HTTPConnection(parts.netloc, timeout=10)) as connection:
        for _ in range(2):
            connection.request(
                "POST", "/v1/audio/transcriptions", iter([body[:99], body[99:]]), headers
            )
            assert json.load(connection.getresponse()) == {"text": "0.1 seconds of sound."}

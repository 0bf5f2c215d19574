"""The meaning of the errors of servers."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai import OpenAI

from conversation import Conversation
from conversation._values.parts import AudioInput, FileInput, ImageInput
from conversation._wire.failures import refused_media
from conversation.errors import InvalidCompletion
from conversation.testing import StandIn
from tests.samples import spoken


@pytest.mark.parametrize(
    ("status", "message", "kinds"),
    [
        (400, "This model does not support image_url content.", (ImageInput,)),
        (400, "This model does not support file content.", (FileInput,)),
        (400, "invalid content type image_url", (ImageInput,)),
        (400, "'image_url' is not a valid content type", (ImageInput,)),
        (400, "The model does not support vision", (ImageInput,)),
        (400, "this deployment has no vision tower", (ImageInput,)),
        (422, "Unsupported content type: image_url", (ImageInput,)),
        (400, "file inputs are not enabled for this key", (FileInput,)),
        (400, "The endpoint doesn't accept images", (ImageInput,)),
        (400, "Only text inputs are allowed here.", (ImageInput, FileInput, AudioInput)),
        (400, "This model only supports text output.", ()),
        (400, "image/webp is not supported, and the server does not support image/bmp", ()),
        (400, "llama-3 is not multimodal", (ImageInput, AudioInput)),
        (400, "multimodal content is not supported", (ImageInput, AudioInput)),
        (400, "Image input modality is not enabled", (ImageInput,)),
        (400, "images not supported by this model", (ImageInput,)),
        (400, "This model does not support PDF inputs", (FileInput,)),
        (404, "No endpoints found that support image input", (ImageInput,)),
        (
            400,
            "Invalid content type. image_url is only supported by certain models.",
            (ImageInput,),
        ),
        (500, "image input is not supported - hint: provide a projector", (ImageInput,)),
        (400, "The model doesn't support images.", (ImageInput,)),
        (422, "unknown variant `image_url`, expected `text`", (ImageInput,)),
        (400, "At most 0 image(s) may be provided in one prompt.", (ImageInput,)),
        (400, "Image and file content: images and files are not supported.", (FileInput,)),
        (400, "This model does not support input_audio content.", (AudioInput,)),
        (400, "Audio input is not supported by this model", (AudioInput,)),
        (404, "No endpoints found that support input audio", (AudioInput,)),
        (422, "unknown variant `input_audio`, expected `text`", (AudioInput,)),
        (400, "At most 0 audio(s) may be provided in one prompt.", (AudioInput,)),
        (400, "Invalid content type: 'input_audio'", (AudioInput,)),
        (422, "Input tag 'input_audio' found does not match 'text'", (AudioInput,)),
        (500, "audio input is not supported - hint: provide a projector", (AudioInput,)),
        (400, "Audio is not currently supported", (AudioInput,)),
        (400, "invalid message format", (AudioInput,)),
        (400, "This model does not support audio output.", ()),
        (400, "Audio output requires stream: true", ()),
        (400, "The audio format is not supported.", ()),
        (400, "The audio file could not be decoded or its format is not supported.", ()),
        (400, "You uploaded an unsupported image. Use one of: png, jpeg, gif, webp.", ()),
        (400, "The image format is not supported.", ()),
        (400, "Server does not support file format heic.", ()),
        (400, "The audio file is not supported.", ()),
        (400, "Content blocks are expected to be either text or image_url type.", (AudioInput,)),
        (400, "This model does not support the format you provided.", ()),
        (404, "The model `image` does not exist.", ()),
    ],
)
def test_refusals_of_media_are_told_from_others(
    server: StandIn,
    client: OpenAI,
    status: int,
    message: str,
    kinds: tuple[type[ImageInput | FileInput | AudioInput], ...],
) -> None:
    """A refusal of sound, pictures or files by the model is told from refusals of one of them."""
    server.will_fail(status, message)
    with pytest.raises(openai.APIStatusError) as caught:
        client.models.list()
    assert refused_media(caught.value) == kinds
    assert refused_media(ValueError(message)) == ()


def wrapped(message: str, code: str | None = None) -> dict[str, Any]:
    """Return the error of another server as a gateway passes it on."""
    raw = json.dumps({"error": {"message": message, "code": code}})
    return {"message": "Provider returned error", "code": 400, "metadata": {"raw": raw}}


def fail(server: StandIn, way: str, error: dict[str, Any]) -> None:
    """Script an error: with a status, as an answer with status 200, or in a stream."""
    if way == "status":
        server.will_fail(400, json.dumps(error))
    elif way == "answer":
        server.will_send({"error": error})
    else:
        server.will_stream([{"error": error}])


def ask(chat: Conversation, way: str) -> None:
    """Ask, in a stream if the error comes in one."""
    if way == "stream":
        with chat.stream("Hello") as events:
            list(events)
    else:
        chat.say("Hello")


ways = pytest.mark.parametrize("way", ["status", "answer", "stream"])


@ways
@pytest.mark.parametrize(
    ("message", "code", "note"),
    [
        ("'response_format' of type 'json_schema' is not supported", None, "support schemas"),
        ("No such format", "unsupported_format", "convert it"),
        ("Audio output requires stream: true", None, "use stream(…) instead of say(…)"),
        ("This model only supports streaming mode", None, "use stream(…) instead of say(…)"),
        ("no http call here, please set stream=True", None, "use stream(…) instead of say(…)"),
        ("The key is wrong", "invalid_api_key", "OPENAI_API_KEY"),
    ],
)
def test_wrapped_errors_carry_the_remedy(
    server: StandIn, chat: Conversation, way: str, message: str, code: str | None, note: str
) -> None:
    """An error that a gateway wraps carries the remedy, and its question is taken back."""
    fail(server, way, wrapped(message, code))
    with pytest.raises((openai.APIError, InvalidCompletion)) as caught:
        ask(chat, way)
    notes = "\n".join(caught.value.__notes__)
    assert note in notes
    assert "taken back" in notes
    assert chat.turns == ()
    assert len(server.requests) == 1


NO_VOICE = {
    "Ollama": "invalid message content type: <nil>",
    "a gateway that drops audio": "Invalid value for 'content': expected a string, got null.",
    "Mistral": "[{'type': 'extra_forbidden', 'loc': ['body', 'messages', 0, 'assistant', 'audio'], "
    "'msg': 'Extra inputs are not permitted', 'input': {'id': 'a'}}]",
    "an id in other words": f"The audio audio_{'6' * 32} has expired.",
}


@pytest.mark.parametrize("message", NO_VOICE.values(), ids=NO_VOICE)
def test_a_server_that_takes_no_voice_gets_transcripts(
    server: StandIn, chat: Conversation, message: str
) -> None:
    """A chat that moves to another server goes on there, although it knows none of the ids."""
    chat.add_completion(spoken(audio_id="audio_" + "6" * 32))
    chat.add_user("Hi")
    chat.add_completion(spoken(audio_id="audio_" + "7" * 32))
    server.will_fail(400, message)
    if "audio_" in message:  # the stand-in knows none of the others
        server.will_fail(400, message.replace("6", "7"))
    chat.say("Hello")
    assert "audio" not in str(server.requests[-1]["messages"])
    assert len(server.requests) == (3 if "audio_" in message else 2)


@pytest.mark.parametrize("param", ["messages.[1].content", "messages[1].content"])
def test_an_error_about_another_message_gives_up_no_voice(
    server: StandIn, chat: Conversation, param: str
) -> None:
    """An empty message of the user is no reason to forget how an answer sounded."""
    chat.add_completion(spoken(audio_id="audio_" + "6" * 32))
    server.will_fail(400, NO_VOICE["a gateway that drops audio"], param=param)
    with pytest.raises(openai.BadRequestError):
        chat.say("Hello")
    assert len(server.requests) == 1


@ways
def test_wrapped_loss_of_an_id_is_healed(server: StandIn, chat: Conversation, way: str) -> None:
    """`audio_not_found` is healed in whatever form a gateway passes it on."""
    audio_id = "audio_" + "6" * 32
    chat.add_completion(spoken(audio_id=audio_id))
    fail(server, way, wrapped(f"Assistant audio {audio_id} not found.", "audio_not_found"))
    ask(chat, way)
    assert server.requests[1]["messages"][0] == {"role": "assistant", "content": "Good morning."}


def test_error_of_an_overloaded_gateway_keeps_the_question(
    server: StandIn, chat: Conversation
) -> None:
    """A status in the body of an error counts as that of the answer: 429 and 5xx can pass."""
    for code in (429, 502):
        server.will_send({"error": {"message": "Provider returned error", "code": code}})
        with pytest.raises(InvalidCompletion, match="Provider returned error"):
            chat.say("Hello")
        assert len(chat.turns) == 1
        chat.undo()

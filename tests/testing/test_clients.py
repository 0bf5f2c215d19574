"""Other clients of the stand-in: curl, the official Node package, and the AI SDK."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conversation import AudioInput
from conversation.testing import StandIn
from tests.samples import SOUND

Json = dict[str, Any]

CURL = shutil.which("curl")
NODE = shutil.which("node")
NODE_MODULES = os.environ.get("CONVERSATION_NODE_MODULES")
CUT_SHORT = 18  # curl's exit status for an incomplete body

needs_curl = pytest.mark.skipif(CURL is None, reason="needs curl")


def needs_node(package: str) -> pytest.MarkDecorator:
    """Skip a test where Node or one of its packages is not installed."""
    is_there = NODE and NODE_MODULES and Path(NODE_MODULES, package).is_dir()
    reason = f"needs node, and the package `{package}` in CONVERSATION_NODE_MODULES"
    return pytest.mark.skipif(not is_there, reason=reason)


def node(script: str, *arguments: str) -> Json:
    """Run a script of the folder `clients`; return the JSON that it prints."""
    path = Path(__file__).parent / "clients" / script
    command = [str(NODE), str(path), *arguments]
    done = subprocess.run(command, capture_output=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    results: Json = json.loads(done.stdout)
    return results


def curl(server: StandIn, path: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    """Run curl on a path of the server."""
    key = "Authorization: Bearer any"
    command = [str(CURL), "--silent", "--noproxy", "*", "--max-time", "20", "--header", key]
    return subprocess.run([*command, *options, server.url + path], capture_output=True, check=False)


def as_json(**body: Any) -> list[str]:
    """Return the options that send a JSON body."""
    return ["--header", "Content-Type: application/json", "--data", json.dumps(body)]


def question(**changes: Any) -> list[str]:
    """Return the options that request a spoken answer."""
    body = {
        "model": "gpt-audio-1.5",
        "messages": [{"role": "user", "content": "Hello"}],
        "modalities": ["text", "audio"],
        "audio": {"voice": "alloy", "format": "pcm16"},
    }
    return as_json(**{**body, **changes})


@needs_curl
def test_curl_gets_a_spoken_answer(server: StandIn) -> None:
    """Curl receives a completion with the scripted transcript."""
    server.will_answer("Good morning.")
    completion = json.loads(curl(server, "/chat/completions", *question()).stdout)
    assert completion["choices"][0]["message"]["audio"]["transcript"] == "Good morning."


@needs_curl
def test_curl_gets_a_stream(server: StandIn) -> None:
    """Curl receives all events up to `[DONE]`, and reports a stream that is cut."""
    server.will_answer("Good morning.")
    done = curl(server, "/chat/completions", "--no-buffer", *question(stream=True))
    *events, last, rest = done.stdout.decode().split("\n\n")
    assert (done.returncode, last, rest) == (0, "data: [DONE]", "")
    choices = [json.loads(event.removeprefix("data: "))["choices"][0] for event in events]
    words = [choice["delta"].get("audio", {}).get("transcript", "") for choice in choices]
    assert "".join(words) == "Good morning."
    server.will_answer("Good morning.", cut_after=2)
    cut = curl(server, "/chat/completions", "--no-buffer", *question(stream=True))
    assert (cut.returncode, cut.stdout.count(b"data: ")) == (CUT_SHORT, 2)


@needs_curl
def test_curl_saves_speech_and_transcribes_it(server: StandIn, tmp_path: Path) -> None:
    """Speech that curl saves as a WAV file and uploads is transcribed to its text."""
    saved = tmp_path / "said.wav"
    body = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "It is raining."}
    curl(server, "/audio/speech", *as_json(**body, response_format="wav"), "-o", str(saved))
    assert AudioInput.from_file(saved).duration == 1.2
    form = ["--form", f"file=@{saved}", "--form", "model=whisper-1"]
    assert json.loads(curl(server, "/audio/transcriptions", *form).stdout) == {
        "text": "It is raining."
    }
    assert server.requests[-1] == {
        "file": {"filename": "said.wav", "size": saved.stat().st_size},
        "model": "whisper-1",
    }


@needs_curl
def test_curl_uploads_more_than_a_mebibyte(server: StandIn, tmp_path: Path) -> None:
    """Curl sends `Expect: 100-continue` before a large upload and is answered."""
    big = tmp_path / "big.wav"
    big.write_bytes(SOUND + bytes(2_000_000))
    form = ["--form", f"file=@{big}", "--form", "model=whisper-1"]
    done = curl(server, "/audio/transcriptions", "--expect100-timeout", "20", *form)
    assert json.loads(done.stdout)["text"].endswith(" seconds of sound.")
    assert server.requests[0]["file"]["size"] == big.stat().st_size


@needs_curl
def test_curl_lists_the_models(server: StandIn) -> None:
    """Curl lists the models with a query in the URL."""
    models = json.loads(curl(server, "/models?limit=3").stdout)
    assert models["object"] == "list"
    assert "gpt-audio-1.5" in [model["id"] for model in models["data"]]


@needs_node("openai")
def test_the_official_node_package_is_served(server: StandIn) -> None:
    """The Node client reads answers, streams, errors, speech, transcriptions and models."""
    results = node("node_client.mjs", server.url)
    first = "You wrote: Hello I recall 0 of my earlier answers by voice and 0 from transcripts."
    second = "You wrote: And now? I recall 1 of my earlier answers by voice and 0 from transcripts."
    tokens = 8 * len(second.split())
    assert results.pop("models")[0] == "gpt-audio-1.5"
    assert results == {
        "transcript": first,
        "streamed": {
            "transcript": second,
            "bytes": tokens * 2400,
            "finishReason": "stop",
            "audioTokens": tokens,
        },
        "refused": {
            "status": 400,
            "code": "audio_not_found",
            "param": "content.messages[1].audio.id",
        },
        "transcription": first,
        "speechBytes": 2 * 8 * 2400,
    }


SAID_COLD = (
    "The tool says cold in Oslo. I recall 0 of my earlier answers by voice and 0 from transcripts."
)
SAID_HELLO = "You wrote: Hello I recall 0 of my earlier answers by voice and 0 from transcripts."


@needs_node("openai")
def test_the_tool_runner_of_the_official_node_package_is_served(server: StandIn) -> None:
    """The runner calls the scripted tool and sends its result, streamed and not."""
    for _ in range(2):
        server.will_answer(tool_calls=[("weather", {"city": "Oslo"})])
        server.will_answer()
    assert node("node_tools.mjs", server.url, "gpt-5") == {
        "content": SAID_COLD,
        "streamed": SAID_COLD,
        "calls": ["Oslo", "Oslo"],
    }


@needs_node("@ai-sdk/openai-compatible")
def test_the_ai_sdk_is_served(server: StandIn, tmp_path: Path) -> None:
    """The AI SDK gets text, streams, tools, objects of a schema, answers to sound, and errors."""
    sound = tmp_path / "question.wav"
    sound.write_bytes(SOUND)
    for answer in (None, None, "weather", None, "weather", None):
        server.will_answer(tool_calls=[(answer, {"city": "Oslo"})] if answer else ())
    assert node("ai_sdk.mjs", server.url, str(sound)) == {
        "text": SAID_HELLO,
        "streamed": SAID_HELLO,
        "tools": SAID_COLD,
        "streamedTools": SAID_COLD,
        "forced": [["weather", {"city": "city"}]],
        "object": {"city": "city", "days": 3},
        "heard": "I heard 0.1 seconds of sound. " + SAID_HELLO.replace("Hello", "What did I say?"),
        "refused": "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but "
        "got 3 instead.",
        "calls": ["Oslo", "Oslo", "city"],
    }

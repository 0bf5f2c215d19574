"""Python clients of the stand-in. CI installs them in an environment of their own."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel, Field

from conversation.testing import StandIn
from tests.samples import SOUND

# Warnings of others are none of ours.
pytestmark = pytest.mark.filterwarnings("ignore")

HELLO: dict[str, Any] = {"role": "user", "content": "Hello"}
SAID_HELLO = "You wrote: Hello I recall 0 of my earlier answers by voice and 0 from transcripts."
SAID_COLD = SAID_HELLO.replace("You wrote: Hello", "The tool says cold in Oslo.")
SOUND_PART = {
    "type": "input_audio",
    "input_audio": {"data": base64.b64encode(SOUND).decode(), "format": "wav"},
}
SPOKEN: dict[str, Any] = {
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "wav"},
}
STREAMED = {**SPOKEN, "audio": {"voice": "alloy", "format": "pcm16"}}


class Trip(BaseModel):
    """A journey."""

    city: str = Field(min_length=5)
    days: int = Field(ge=3)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    monkeypatch.setenv("OPENAI_API_KEY", "any")


def call_weather(server: StandIn) -> None:
    """Script a call of the tool `weather` as the next answer."""
    server.will_answer(tool_calls=[("weather", {"city": "Oslo"})])


def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"cold in {city}"


def test_the_official_client_parses_answers_and_tools(client: OpenAI) -> None:
    """`parse` and the stream helper of the official client give models and arguments."""
    completions: Any = client.chat.completions
    if not hasattr(completions, "parse"):  # before 1.92
        completions = client.beta.chat.completions
    question: dict[str, Any] = {"model": "gpt-5", "messages": [HELLO]}
    parsed = completions.parse(**question, response_format=Trip).choices[0].message.parsed
    assert isinstance(parsed, Trip)
    tools = {"tools": [openai.pydantic_function_tool(Trip)], "tool_choice": "required"}
    [call] = completions.parse(**question, **tools).choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Trip)
    with completions.stream(**question, **tools) as events:
        kinds = {event.type for event in events}
        [call] = events.get_final_completion().choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Trip)
    assert "tool_calls.function.arguments.done" in kinds
    with completions.stream(**question) as events:
        pieces = [event.delta for event in events if event.type == "content.delta"]
    assert "".join(pieces) == SAID_HELLO


def test_langchain_is_served(server: StandIn) -> None:
    """`langchain-openai`: text, streams, tools, structured output, and voice by id."""
    langchain = pytest.importorskip("langchain_openai")
    options: dict[str, Any] = {"base_url": server.url, "api_key": "any", "max_retries": 0}
    chat = langchain.ChatOpenAI(model="gpt-5", **options)
    assert chat.invoke("Hello").content == SAID_HELLO
    assert "".join(chunk.content for chunk in chat.stream("Hello")) == SAID_HELLO
    able = chat.bind_tools([weather])
    call_weather(server)
    called = able.invoke("Hello")
    result = {"role": "tool", "tool_call_id": called.tool_calls[0]["id"], "name": "weather"}
    result["content"] = weather(**called.tool_calls[0]["args"])
    assert able.invoke([HELLO, called, result]).content == SAID_COLD
    call_weather(server)
    first, *more = able.stream("Hello")
    assert sum(more, first).tool_calls[0]["args"] == {"city": "Oslo"}
    for method in ("json_schema", "function_calling"):
        assert isinstance(chat.with_structured_output(Trip, method=method).invoke("Hello"), Trip)
    speaking = langchain.ChatOpenAI(model="gpt-audio-1.5", model_kwargs=SPOKEN, **options)
    answer = speaking.invoke([{"role": "user", "content": [SOUND_PART]}])
    assert answer.additional_kwargs["audio"]["transcript"].startswith("I heard 0.1 seconds")
    again = speaking.invoke([HELLO, answer, HELLO])
    assert "recall 1 of my earlier" in again.additional_kwargs["audio"]["transcript"]


def test_litellm_is_served(server: StandIn) -> None:
    """`litellm`: text, streams, tools, structured output, voice, speech and transcriptions."""
    litellm = pytest.importorskip("litellm")
    options: dict[str, Any] = {"api_base": server.url, "api_key": "any", "max_retries": 0}

    def ask(*more: Any, model: str = "openai/gpt-5", **changes: Any) -> Any:
        return litellm.completion(model=model, messages=[HELLO, *more], **options, **changes)

    assert ask().choices[0].message.content == SAID_HELLO
    pieces = [chunk.choices[0].delta.content or "" for chunk in ask(stream=True)]
    assert "".join(pieces) == SAID_HELLO
    assert Trip.model_validate_json(ask(response_format=Trip).choices[0].message.content)
    tools: dict[str, Any] = {"tools": [{"type": "function", "function": {"name": "weather"}}]}
    call_weather(server)
    message = ask(**tools).choices[0].message
    [call] = message.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "name": "weather"}
    result["content"] = weather(**json.loads(call.function.arguments))
    assert ask(message, result, **tools).choices[0].message.content == SAID_COLD
    voice: dict[str, Any] = {"model": "openai/gpt-audio-1.5"}
    audio = ask(**voice, **SPOKEN).choices[0].message.audio
    assert audio.transcript == SAID_HELLO
    again = ask({"role": "assistant", "audio": {"id": audio.id}}, HELLO, **voice, **SPOKEN)
    assert "recall 1 of my earlier" in again.choices[0].message.audio.transcript
    deltas = [chunk.choices[0].delta for chunk in ask(**voice, **STREAMED, stream=True)]
    parts = [part for delta in deltas if (part := getattr(delta, "audio", None))]
    assert "".join(part.get("transcript") or "" for part in parts) == SAID_HELLO
    speech = litellm.speech("openai/tts-1", "Hi there.", "alloy", response_format="wav", **options)
    upload = ("said.wav", speech.content)
    heard = litellm.transcription("openai/gpt-4o-transcribe", upload, **options)
    assert heard.text == "Hi there."


def test_pydantic_ai_is_served(server: StandIn) -> None:
    """`pydantic-ai`: text, streams, tools, structured output in two ways, and sound."""
    ai = pytest.importorskip("pydantic_ai")
    models = pytest.importorskip("pydantic_ai.models.openai")
    providers = pytest.importorskip("pydantic_ai.providers.openai")
    provider = providers.OpenAIProvider(base_url=server.url, api_key="any")

    def agent(model: str = "gpt-5", **options: Any) -> Any:
        return ai.Agent(models.OpenAIChatModel(model, provider=provider), **options)

    async def talk() -> None:
        assert (await agent().run("Hello")).output == SAID_HELLO
        async with agent().run_stream("Hello") as stream:
            pieces = [piece async for piece in stream.stream_text(delta=True)]
        assert "".join(pieces) == SAID_HELLO
        for output in (Trip, ai.NativeOutput(Trip)):
            assert isinstance((await agent(output_type=output).run("Hello")).output, Trip)
        call_weather(server)
        assert (await agent(tools=[weather]).run("Hello")).output == SAID_COLD
        question = ["Hello", ai.BinaryContent(SOUND, media_type="audio/wav")]
        answer = (await agent("gpt-audio-1.5").run(question)).output
        assert answer == f"I heard 0.1 seconds of sound. {SAID_HELLO}"

    asyncio.run(talk())


def test_instructor_is_served(server: StandIn, client: OpenAI, tmp_path: Path) -> None:
    """`instructor`: models by tools and by JSON Schema, partial ones of a stream, and sound."""
    instructor = pytest.importorskip("instructor")
    question: dict[str, Any] = {"model": "gpt-5", "messages": [HELLO], "response_model": Trip}
    for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
        asking = instructor.from_openai(client, mode=mode)
        assert isinstance(asking.create(**question, max_retries=0), Trip)
    asking = instructor.from_openai(client)
    *_, last = asking.create_partial(**question)
    assert Trip.model_validate(last.model_dump())
    server.will_answer(tool_calls=[("Trip", {"city": "Reykjavik", "days": 5})])
    assert asking.create(**question).model_dump() == {"city": "Reykjavik", "days": 5}
    path = tmp_path / "question.wav"
    path.write_bytes(SOUND)
    content = ["Hello", instructor.Audio.from_path(path)]
    question |= {"model": "gpt-audio-1.5", "messages": [{"role": "user", "content": content}]}
    assert isinstance(asking.create(**question), Trip)

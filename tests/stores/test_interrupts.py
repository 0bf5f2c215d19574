"""Exceptions at any moment of a change: nobody is locked out, nothing acknowledged is missing.

`CONVERSATION_INTERRUPTS=1` injects at each moment instead of at some, and sends 5,000 signals.
"""

from __future__ import annotations

import contextlib
import dis
import gc
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from openai import OpenAI

import conversation
from conversation import (
    AssistantTurn,
    AudioInput,
    Conversation,
    FileStore,
    TranscriptDelta,
    UserTurn,
)
from conversation.testing import StandIn
from tests.conftest import Clock
from tests.programs import ran
from tests.samples import SOUND

# Python itself ignores what is raised while it collects a generator that was not read to its end.
IGNORED = "ignore:Exception ignored in. <generator object:pytest.PytestUnraisableExceptionWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(IGNORED)]

ALL = bool(os.environ.get("CONVERSATION_INTERRUPTS"))
STRIDE = 1 if ALL else 97

ROOT = Path(__file__).parents[2]
PACKAGE = str(Path(str(conversation.__file__)).parent)
TESTING = str(Path(PACKAGE) / "testing")

UNGUARDED = {"__exit__", "__del__"}
"""Functions at whose first line no Python code can catch anything."""


class Injected(BaseException):
    """An exception that nobody expects."""


def delegates(frame: FrameType) -> bool:
    """Return True if a generator resumes inside of `yield from`, where Python raises nothing.

    An exception there would end the outer generator without a word to the inner one, so that
    CPython handles no signal until the inner one runs.
    """
    resume, code = dis.opmap["RESUME"], frame.f_code.co_code
    places = [at for at in (frame.f_lasti, frame.f_lasti + 2) if at >= 0 and code[at] == resume]
    return any(code[at + 1] & 3 > 1 for at in places)


@contextlib.contextmanager
def injected(step: int) -> Iterator[list[int]]:
    """Raise at the step-th moment: the start of a function of ours, or the return of a C call.

    Meanwhile nothing is collected: what is left of earlier changes would have moments, too, which
    come at any time, and in which Python raises nothing.
    """
    moments = [0]

    def profile(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        is_ours = code.co_filename.startswith(PACKAGE)
        if not is_ours or code.co_filename.startswith(TESTING) or event not in ("call", "c_return"):
            return
        if code.co_name in UNGUARDED or (event == "call" and delegates(frame)):
            return
        moments[0] += 1
        if moments[0] == step:
            sys.setprofile(None)
            raise Injected(f"{event} in {code.co_name}, line {frame.f_lineno}")

    gc.disable()
    sys.setprofile(profile)
    try:
        yield moments
    finally:
        sys.setprofile(None)
        gc.enable()


def consume(chat: Conversation) -> None:
    """Stream an answer and read all of its events."""
    with chat.stream("Hello?") as events:
        for _ in events:
            pass


def listen(chat: Conversation, seen: list[str]) -> None:
    """Stream an answer, and note the words that have come."""
    with chat.stream("Count") as events:
        for event in events:
            if isinstance(event, TranscriptDelta):
                seen += [event.text]


def fail_to_find(chat: Conversation) -> None:
    """Heal a conversation of an audio id that the server lost."""
    error = Exception(f"Assistant audio {answer_of(chat).audio.id} not found.")  # type: ignore[union-attr]
    error.code = "audio_not_found"  # type: ignore[attr-defined]
    chat.heal(error)


def answer_of(chat: Conversation) -> AssistantTurn:
    """Return the last answer."""
    return next(turn for turn in reversed(chat.turns) if isinstance(turn, AssistantTurn))


CHANGES: dict[str, Callable[[Conversation], object]] = {
    "add text": lambda chat: chat.add_user("New"),
    "add sound": lambda chat: chat.add_user(AudioInput(SOUND)),
    "title": lambda chat: chat.set_title("New"),
    "undo": lambda chat: chat.undo(),
    "extend": lambda chat: chat.extend([UserTurn("New"), UserTurn((AudioInput(SOUND),))]),
    "remove": lambda chat: chat.remove(chat.turns[1]),
    "truncate": lambda chat: chat.truncate(0.1),
    "transcript": lambda chat: chat.set_transcript(answer_of(chat), "New"),
    "fork": lambda chat: chat.fork("fork"),
    "heal": fail_to_find,
    "say": lambda chat: chat.say("Hello?"),
    "stream": consume,
}


def check_sound(chat: Conversation) -> None:
    """Read all sound that the turns name."""
    for turn in chat.turns:
        if isinstance(turn, AssistantTurn) and turn.audio and turn.audio.data:
            turn.audio.read()
        for part in turn.content if isinstance(turn, UserTurn) else ():
            if isinstance(part, AudioInput):
                part.read()


@pytest.fixture
def origin(tmp_path: Path, client: OpenAI, clock: Clock) -> Path:
    """Return the folder of a session of two spoken exchanges."""
    with Conversation.open(
        "s", store=FileStore(tmp_path / "origin", fsync=False), client=client, clock=clock
    ) as chat:
        chat.say(AudioInput(SOUND))
        chat.say("And you?")
    return tmp_path / "origin"


@pytest.mark.parametrize("name", CHANGES)
def test_exception_at_any_moment_loses_nothing(
    name: str, origin: Path, tmp_path: Path, client: OpenAI, clock: Clock
) -> None:
    """After an exception at any moment of a change all go on, and memory equals the disk."""
    change, step = CHANGES[name], 1 + len(name) % STRIDE
    while True:
        store = FileStore(tmp_path / f"{step}", fsync=False)
        shutil.copytree(origin, store.root)
        given: Any = {"store": store, "client": client, "clock": clock, "timeout": 0}
        chat = Conversation.open("s", **given)
        before = [turn.text for turn in chat.turns]
        caught: BaseException | None = None
        with injected(step) as moments:
            try:
                change(chat)
            except BaseException as error:  # noqa: BLE001  # kept, as an interactive shell does
                caught = error
        if moments[0] < step:
            assert caught is None
            break
        with Conversation.open("s", **given) as other:
            other.add_user("Other")
            check_sound(other)
        chat.add_user("Next")
        check_sound(chat)
        with Conversation.open("s", store=store, read_only=True) as again:
            assert again.turns == chat.turns
            assert (again.title, again.usage) == (chat.title, chat.usage)
        texts = [turn.text for turn in chat.turns]
        assert texts[-2:] == ["Other", "Next"]
        if name == "undo":
            assert texts[:-2] in (before, before[:-2])
        elif name == "remove":
            assert texts[:-2] in (before, [before[0], *before[2:]])
        elif name == "extend":
            assert texts[:-2] in (before, [*before, "New", ""])
        elif name in ("truncate", "transcript"):
            assert texts[:3] == before[:3]
            assert len(texts) == len(before) + 2
        else:
            assert texts[: len(before)] == before
        if "fork" in [info.id for info in store.list()]:
            with Conversation.open("fork", store=store) as fork:
                assert [turn.text for turn in fork.turns] == before
                check_sound(fork)
        shutil.rmtree(store.root)
        step += STRIDE
    assert step > STRIDE


def test_exception_at_the_end_of_a_sweep_leaves_no_lock(origin: Path, tmp_path: Path) -> None:
    """A sweep that is interrupted while it unlocks a session keeps nobody out of it."""
    last, caught = 0, []
    for step in range(-1, 16):
        store = FileStore(tmp_path / f"{step}", fsync=False)
        shutil.copytree(origin, store.root)
        with injected(last - step if last else 0) as moments:
            try:
                store.sweep(older_than=timedelta(0), sound_only=True)
            except Injected as error:
                caught.append(error)  # with its frames, as an interactive shell does
        last = last or moments[0]
        with Conversation.open("s", store=store, timeout=0) as chat:
            chat.add_user("Next")
    assert len(caught) > 10


def test_exception_at_any_moment_of_a_stream_keeps_what_was_delivered(
    origin: Path, tmp_path: Path, server: StandIn, client: OpenAI, clock: Clock
) -> None:
    """Words that the consumer has seen are in the conversation, whatever ended the stream."""
    step, tried = 1, 0
    while True:
        store = FileStore(tmp_path / f"{step}", fsync=False)
        shutil.copytree(origin, store.root)
        seen: list[str] = []
        with Conversation.open("s", store=store, client=client, clock=clock, timeout=0) as chat:
            server.will_answer("one two three four five six")
            with contextlib.suppress(Injected), injected(step) as moments:
                listen(chat, seen)
            is_over = moments[0] < step
            if seen:
                tried += 1
                chat.add_user("Next")
                assert "".join(seen) in chat.turns[-2].text
                with Conversation.open("s", store=store, read_only=True) as again:
                    assert again.turns == chat.turns
        shutil.rmtree(store.root)
        if is_over:
            break
        step += STRIDE
    assert tried > 3


class Watched:
    """A client that notes at which moment an answer arrived, in the place of an `OpenAI`."""

    def __init__(self, client: OpenAI) -> None:
        self.chat = self.completions = self
        self.arrived = 0
        self.moments = [0]
        self._client = client

    def create(self, **request: Any) -> object:
        """Same as the client's."""
        answer = self._client.chat.completions.create(**request)
        self.arrived = self.moments[0]
        return answer


def test_answer_that_arrived_is_kept_whatever_comes(
    origin: Path, tmp_path: Path, client: OpenAI, clock: Clock
) -> None:
    """An exception at any moment behind the arrival of an answer does not lose it."""
    step, first, last = sys.maxsize, 0, 0
    while not first or step <= last:
        store = FileStore(tmp_path / f"{step}", fsync=False)
        shutil.copytree(origin, store.root)
        watched = Watched(client)
        given: Any = {"client": watched, "store": store, "clock": clock, "timeout": 0}
        with Conversation.open("s", **given) as chat:
            before = len(chat.turns)
            with contextlib.suppress(Injected), injected(step) as watched.moments:
                chat.say("Hello?")
            assert [turn.role for turn in chat.turns[before:]] == ["user", "assistant"]
            with Conversation.open("s", store=store, read_only=True) as again:
                assert again.turns == chat.turns
        shutil.rmtree(store.root)
        if not first:
            step, first, last = watched.arrived, watched.arrived, watched.moments[0]
        step += 1 if ALL else 23
    assert last > first + 100


@pytest.mark.parametrize("kind", ["SIGINT", "SIGALRM"])
def test_signals_at_random_moments_lose_nothing(kind: str, tmp_path: Path) -> None:
    """A program that is interrupted again and again goes on, and nothing acknowledged is lost."""
    count = "5000" if ALL else "150"
    module = "tests.stores.processes.interrupted_writer"
    arguments = ("-m", module, str(tmp_path), kind, count, "7")
    done = ran(*arguments, folder=ROOT, environment=os.environ, timeout=600)
    assert done.stdout == f"interrupted {count}\n", done.stderr

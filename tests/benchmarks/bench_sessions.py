"""Sessions on the disk: adding, opening and listing."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import orjson

from conversation import AudioInput, Context, Conversation, FileStore
from tests.benchmarks.measure import Result, compared
from tests.samples import spoken

WORDS = "Why do you say that golden retrievers are loyal, and what about small children? " * 2
SOUND = AudioInput.from_pcm(bytes(96_000 - 44), 24_000)
NO_BOUND = Context(max_prompt_tokens=10**12)


def filled(root: Path, turns: int, *, name: str = "session") -> FileStore:
    """Return a store with one session of so many turns: questions and spoken answers in turn.

    The answers have transcripts, and their sound is not kept.
    """
    store = FileStore(root, fsync=False, keep_sound="none")
    with Conversation.open(name, store=store) as chat:
        chat.add_user("Begin")
        answer = spoken(WORDS)
        chat.add_completion(
            {**answer, "model": "gpt-audio-1.5", "usage": {"prompt_tokens": 9, "total_tokens": 9}}
        )
    path = root / f"{name}.json"
    first, question, reply, *end = path.read_bytes().split(b"\n")
    pair = [question.removesuffix(b",") + b",", reply.removesuffix(b",") + b","]
    lines = pair * (turns // 2)
    lines[-1] = lines[-1].removesuffix(b",")
    path.write_bytes(b"\n".join([first, *lines, *end]))
    return store


def bare_appender(path: Path, data: bytes) -> Iterator[None]:
    """Perform only `write` and `fdatasync` of these bytes at each step."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sync = getattr(os, "fdatasync", os.fsync)
    while True:
        os.write(descriptor, data)
        sync(descriptor)
        yield


def run(*, quick: bool) -> Iterator[Result]:
    """Yield all figures of this module."""
    rounds = 1000 if quick else 3000
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        root = Path(folder)
        yield from durable_turns(root, rounds)
        yield durable_sound(root, rounds // 10)
        yield from opening(root, 5 if quick else 31)
        if Path("/proc/self/status").exists():
            yield memory(root)
        yield listing(root, 3 if quick else 11)


def durable_turns(root: Path, rounds: int) -> Iterator[Result]:
    """Compare a text turn with its bytes written bare, in a short and in a long session."""
    chats = {}
    for turns in (10, 100_000):
        filled(root / str(turns), turns)
        chat = Conversation.open("session", store=FileStore(root / str(turns)))
        chat.add_user(WORDS)
        chats[turns] = chat
        document = (root / str(turns) / "session.json").read_bytes()
        line = document[document.rindex(b"\n{") :]
        bare = bare_appender(root / f"bare-{turns}", line)
        yield compared(
            f"a durable text turn after {turns:,} / write + fdatasync of its bytes",
            lambda chat=chat: chat.add_user(WORDS),  # type: ignore[misc]
            lambda bare=bare: next(bare),  # type: ignore[misc]
            limit=1.4,
            rounds=rounds,
        )
    yield compared(
        "a durable text turn after 100,000 / after 10",
        lambda: chats[100_000].add_user(WORDS),
        lambda: chats[10].add_user(WORDS),
        limit=1.3,
        rounds=rounds,
    )
    for chat in chats.values():
        chat.close()


def durable_sound(root: Path, rounds: int) -> Result:
    """Compare a turn with 96 KB of sound with the sound alone."""
    data = SOUND.read()
    numbers = iter(range(10**9))

    def bare() -> None:
        descriptor = os.open(root / f"sound-{next(numbers)}", os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, data)
        os.fsync(descriptor)
        os.close(descriptor)

    with Conversation.open("sound", store=FileStore(root / "sound")) as chat:
        chat.add_user(SOUND)
        return compared(
            "a durable turn with 96 KB of sound / write + fsync of the sound",
            lambda: chat.add_user(SOUND),
            bare,
            limit=3,
            rounds=rounds,
        )


def opening(root: Path, rounds: int) -> Iterator[Result]:
    """Compare opening a session of 10,000 turns, and its first request, with parsing its JSON."""
    store = filled(root / "open", 10_000)
    data = (root / "open" / "session.json").read_bytes()

    def opened() -> None:
        Conversation.open("session", store=store).close()

    def first_request(context: Context) -> None:
        with Conversation.open("session", store=store, context=context) as chat:
            chat.request()

    for name, ours, limit in (
        ("opening 10,000 turns", opened, 3.0),
        ("opening 10,000 turns and the first request", partial(first_request, Context()), 2.5),
        ("the same without a bound on tokens", partial(first_request, NO_BOUND), 6.0),
    ):
        yield compared(
            f"{name} / orjson.loads of the file",
            ours,
            lambda: orjson.loads(data),
            limit=limit,
            rounds=rounds,
        )


IMPORTS = "import orjson, conversation, conversation.stores.files"
# Unlike `ru_maxrss`, VmHWM ignores the process that started this one.
RESIDENT = "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"


def memory(root: Path) -> Result:
    """Compare the memory of a session with 1,000 turns of 72 KB of sound with the imports'."""
    sound = AudioInput.from_pcm(bytes(72_000), 24_000, transcript=WORDS)
    with Conversation.open("loud", store=FileStore(root / "loud", fsync=False)) as chat:
        for _ in range(1000):
            chat.add_user(sound)
    opened = (
        f"{IMPORTS}; from conversation import Conversation, FileStore; "
        f"chat = Conversation.open('loud', store=FileStore({str(root / 'loud')!r})); "
        f"assert len(chat.turns) == 1000; {RESIDENT}"
    )

    def megabytes(code: str) -> float:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        return int(done.stdout) / 1024

    return Result(
        "opening 1,000 turns of 72 KB sound - the imports alone",
        megabytes(opened),
        megabytes(f"{IMPORTS}; {RESIDENT}"),
        40,
        "MB",
        is_difference=True,
    )


def listing(root: Path, rounds: int) -> Result:
    """Compare listing 1,000 sessions of 1,000 turns with reading a block of each file."""
    store = filled(root / "many", 1000)
    whole = (root / "many" / "session.json").read_bytes()
    (root / "many" / "session.json").unlink()
    for number in range(1000):
        path = root / "many" / f"s{number}.json"
        path.write_bytes(whole.replace(b'"id":"session"', f'"id":"s{number}"'.encode(), 1))

    def bare() -> None:
        with os.scandir(root / "many") as entries:
            for entry in entries:
                descriptor = os.open(entry.path, os.O_RDONLY)
                os.read(descriptor, 4096)
                os.close(descriptor)

    if len(store.list()) != 1000:
        msg = "all sessions must be listed"
        raise AssertionError(msg)
    return compared(
        "listing 1,000 sessions of 1,000 turns / the folder and a block a file",
        store.list,
        bare,
        limit=10,
        rounds=rounds,
    )

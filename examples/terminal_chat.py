"""Chat by typing or speaking: `python examples/terminal_chat.py [SESSION] [--voice …] [--model …]`.

With OPENAI_API_KEY it talks to OpenAI, else to the stand-in server on your machine. Words are shown
and sound is played while they stream, if there is a speaker and the extra `sound` (`pip install
'.[sound]'`); otherwise each answer's sound is written into the folder SESSION-sound. The session is
saved, and resumed the next time. All is in `example-data/terminal-chat`. /help lists the commands.
"""

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from openai import OpenAI

from conversation import (
    AssistantTurn,
    AudioDelta,
    AudioInput,
    Conversation,
    TextDelta,
    TranscriptDelta,
    TurnFinished,
)
from conversation.errors import ConversationError, UnsupportedAudio
from conversation.testing import StandIn

FOLDER = Path("example-data", "terminal-chat")
RATE = 24_000  # Hz, of streamed and recorded sound
HELP = """\
/say FILE          send a sound file as your speech (not only WAV and MP3 with the extra `formats`)
/record [SECONDS]  record from the microphone and send it (5 seconds; Ctrl-C ends it early)
/undo              remove the last exchange
/why               show what the next request would send, and why
/quit              quit, like Ctrl-D, or Ctrl-C at the prompt
An empty line retries a missing answer; Ctrl-C interrupts an answer."""

sounddevice: Any = None
with contextlib.suppress(ImportError, OSError):  # OSError: its PortAudio library is missing
    sounddevice = importlib.import_module("sounddevice")


@contextlib.contextmanager
def some_client() -> Iterator[OpenAI]:
    """Yield a client of OpenAI if there is a key, else one of a stand-in."""
    if os.environ.get("OPENAI_API_KEY"):
        with OpenAI() as client:
            yield client
        return
    print("No OPENAI_API_KEY: talking to the stand-in on this machine, which hums its answers.")
    with StandIn() as server:
        yield server.client()


def speaker() -> Any:
    """Return a context manager that plays 24 kHz mono s16le, or yields None without a device."""
    if sounddevice is not None:
        with contextlib.suppress(sounddevice.PortAudioError):
            return sounddevice.RawOutputStream(samplerate=RATE, channels=1, dtype="int16")
    return contextlib.nullcontext()


def sound_in(file: Path) -> AudioInput:
    """Read a sound file; formats that the API does not take are converted."""
    data = file.read_bytes()
    try:
        return AudioInput(data)
    except UnsupportedAudio:
        return AudioInput.convert(data, to="mp3")


def recorded(seconds: float) -> AudioInput:
    """Record from the microphone."""
    if sounddevice is None:
        raise OSError("recording needs PortAudio and pip install '.[sound]'")
    samples = bytearray()
    with sounddevice.RawInputStream(samplerate=RATE, channels=1, dtype="int16") as microphone:
        print(f"recording {seconds:g} seconds; Ctrl-C ends it early")
        with contextlib.suppress(KeyboardInterrupt):
            while len(samples) < seconds * RATE * 2:
                samples += microphone.read(RATE // 10)[0]
    return AudioInput.from_pcm(bytes(samples), RATE)


def answer(chat: Conversation, folder: Path, *content: str | AudioInput) -> None:
    """Stream an answer to the content, else to the last turn; show and play it."""
    print("assistant> ", end="", flush=True)
    try:
        with speaker() as out, chat.stream(*content) as events:
            for event in events:
                match event:
                    case TranscriptDelta(text) | TextDelta(text):
                        print(text, end="", flush=True)
                    case AudioDelta(data) if out:
                        out.write(data)
                    case TurnFinished(turn) if turn.audio and not out:
                        number = sum(isinstance(turn, AssistantTurn) for turn in chat.turns)
                        folder.mkdir(parents=True, exist_ok=True)
                        print(f"\n    {turn.audio.save(folder / f'answer-{number}.wav')}", end="")
    except KeyboardInterrupt:
        match chat.turns[-1:]:
            case [AssistantTurn(interrupted=True)]:
                print("\n(interrupted; this part is kept)", end="")
            case _ if chat.unanswered:
                print("\n(interrupted before the first word; an empty line retries)", end="")
    finally:
        print()


def obey(chat: Conversation, folder: Path, line: str) -> None:
    """Carry out one line of input."""
    command, _, argument = line.partition(" ")
    match command:
        case "":
            if chat.unanswered:
                answer(chat, folder)
        case "/say":
            answer(chat, folder, sound_in(Path(argument.strip()).expanduser()))
        case "/record":
            answer(chat, folder, recorded(float(argument or 5)))
        case "/undo":
            taken = chat.undo()
            print(f"took back {len(taken)} turns" if taken else "there is nothing to take back")
        case "/why":
            print(chat.render())
        case _ if command.startswith("/"):
            print(HELP)
        case _:
            answer(chat, folder, line)


def one_line(error: BaseException) -> str:
    """Return an error and its notes as one line."""
    told = "; ".join([str(error) or type(error).__name__, *getattr(error, "__notes__", ())])
    return f"! {' '.join(told.split())}"


def main() -> None:
    """Show the last turns, then chat until the end of input."""
    parser = argparse.ArgumentParser(description=__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument("session", nargs="?", default="terminal")
    parser.add_argument("--model")
    parser.add_argument("--voice")
    settings = vars(parser.parse_args())  # only those given: a resumed session has the others
    session = settings.pop("session")
    folder = FOLDER / f"{quote(session, safe='')}-sound"
    prompt = "user> " if sys.stdin and sys.stdin.isatty() else ""
    try:
        with (
            some_client() as client,
            Conversation.open(session, store=FOLDER, client=client, **settings) as chat,
        ):
            print(f"session {session!r} of {len(chat.turns)} turns; /help lists the commands")
            for turn in chat.turns[-6:]:
                print(f"  {turn.role:9} {turn.text or '(sound)'}")
            while sys.stdin and (line := input(prompt).strip()) != "/quit":
                try:
                    obey(chat, folder, line)
                except Exception as error:  # noqa: BLE001  # must not end the chat
                    print(one_line(error))
    except (EOFError, KeyboardInterrupt):
        print(end="\n" if prompt else "")
    except (ConversationError, OSError) as error:
        sys.exit(one_line(error))


if __name__ == "__main__":
    main()

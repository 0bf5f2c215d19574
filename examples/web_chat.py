"""A voice chat in the browser: `python examples/web_chat.py [--port N] [--workers N] [--store …]`.

It serves the page `web_chat.html` beside this file: hold a button and talk, or go hands-free, or
type, or drop a sound file. Answers are heard and read while they come; talking over one stops it.
Each browser has its own session, named by a signed cookie, and --hourly questions. Sessions and the
cookies' secret are in the folder `example-data/web-chat`; --store is another folder, or a database,
postgresql://…. Needs the extras `web` and `formats`. With OPENAI_API_KEY it talks to OpenAI, else
to a stand-in on your machine.

The page sends JSON, each with what to `do`, and binary messages: speech (24 kHz mono s16le) or a
file. It gets JSON, each with its `type`, and the sound of answers, again as binary messages: mono
s16le of 24 kHz, or of the `rate` that it was told.
"""

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

if __name__ == "__mp_main__":  # a worker that starts: if Ctrl-C ended it, uvicorn would wait for it
    signal.signal(signal.SIGINT, signal.SIG_IGN)

import uvicorn
from itsdangerous import BadSignature, URLSafeSerializer
from openai import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    OpenAIError,
    RateLimitError,
)
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from conversation import (
    AssistantTurn,
    AsyncConversation,
    AudioDelta,
    AudioInput,
    FileStore,
    PostgresStore,
    TextDelta,
    TranscriptDelta,
    UserTurn,
)
from conversation.errors import ConversationError, SessionLocked, SessionNotFound, UnsupportedAudio
from conversation.testing import StandIn

PAGE = Path(__file__).with_name("web_chat.html")
DATA = Path("example-data", "web-chat")
COOKIE = "web_chat"
YEAR = 365 * 24 * 3600
RATE = 24_000  # Hz
SPEECH = 120  # seconds
LONGEST = 20 * 60  # seconds of a file
TEXT = 4_000  # characters
FILE = 20_000_000  # bytes, of any message
SHOWN = 200  # turns
HOUR = timedelta(hours=1)
SAFE = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}
POLICY = (
    "default-src 'none'; script-src 'nonce-{0}' blob:; style-src 'nonce-{0}'; connect-src 'self'; "
    "media-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

# --- what all workers share -----------------------------------------------------------------------


@cache
def settings() -> dict[str, Any]:
    """Return what `main` gave to this process."""
    return dict(json.loads(os.environ["WEB_CHAT"]))


@cache
def store() -> FileStore | PostgresStore:
    """Return this process's one store."""
    place: str = settings()["store"]
    is_url = place.startswith(("postgresql://", "postgres://"))
    return PostgresStore(place) if is_url else FileStore(place)


@cache
def cookies() -> URLSafeSerializer:
    """Return the signer of cookies."""
    return URLSafeSerializer(Path(settings()["secret"]).read_text("ascii"), salt="web-chat")


def user_of(connection: HTTPConnection) -> str | None:
    """Return the user that a cookie of ours names."""
    with contextlib.suppress(BadSignature):
        return str(cookies().loads(connection.cookies.get(COOKIE, "")))
    return None


def session_of(user: str) -> str:
    """Return the id of a user's session: a stand-in's answers stay out of real ones."""
    return f"{'stand-in' if settings()['stand_in'] else 'web'}:{user}"


# --- pages ----------------------------------------------------------------------------------------


async def page(request: Request) -> Response:
    """Serve the page, and give a new user a cookie."""
    nonce = secrets.token_urlsafe()
    response = HTMLResponse(PAGE.read_text("utf-8").replace("{{nonce}}", nonce))
    response.headers.update(SAFE)
    response.headers["Content-Security-Policy"] = POLICY.format(nonce)
    response.headers["Cache-Control"] = "no-store"
    user = user_of(request) or secrets.token_hex(16)
    response.set_cookie(
        COOKIE,
        cookies().dumps(user),
        max_age=YEAR,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


def sounds(turn: object) -> Iterator[Any]:
    """Yield the sounds of a turn."""
    if isinstance(turn, AssistantTurn) and turn.audio:
        yield turn.audio
    elif isinstance(turn, UserTurn):
        yield from (part for part in turn.content if isinstance(part, AudioInput))


async def sound(request: Request) -> Response:
    """Serve a sound of the user's own session, by the name under which it is stored."""
    name, user = request.path_params["name"], user_of(request)
    with contextlib.suppress(SessionNotFound, FileNotFoundError):
        if user:
            chat = await AsyncConversation.open(
                session_of(user), store=store(), create=False, read_only=True
            )
            for part in (part for turn in chat.turns for part in sounds(turn)):
                if getattr(part.data, "name", None) == name:
                    return Response(
                        await asyncio.to_thread(part.read),
                        media_type=part.media_type,
                        headers={"Cache-Control": "private, immutable, max-age=604800"} | SAFE,
                    )
    return PlainTextResponse("There is no such sound.", 404)


# --- talking --------------------------------------------------------------------------------------


def shown(turn: object) -> dict[str, Any] | None:
    """Return a turn as the page shows it; None for what it does not show."""
    if not isinstance(turn, UserTurn | AssistantTurn):
        return None
    sound = next(sounds(turn), None)
    name = getattr(sound.data, "name", None) if sound else None
    return {
        "role": turn.role,
        "text": turn.text,
        "sound": f"/sound/{name}" if name else None,
        "seconds": sound.duration if sound else None,
        "cut": isinstance(turn, AssistantTurn) and turn.interrupted,
    }


def in_words(error: Exception) -> str:
    """Return an error for the user of the page."""
    match error:
        case SessionLocked():
            return "Another tab is still being answered. Wait for it, or close it."
        case AuthenticationError():
            return "The server's key was refused. Whoever runs this page has to check it."
        case RateLimitError():
            return "The model has too much to do. Try again in a moment."
        case APIConnectionError():
            return "The model cannot be reached."
        case APIStatusError(status_code=status) if status >= 500:
            return f"The model failed (status {status})."
        case ImportError():
            return "This server reads WAV and MP3 files only: it lacks the extra 'formats'."
        case UnsupportedAudio() if "max_seconds" in str(error):
            return f"Sound files are limited to {LONGEST // 60} minutes."
        case OpenAIError() | ConversationError():  # what follows a semicolon is for programmers
            told = " ".join(str(error).partition("; ")[0].split())[:300]
            return f"{told[:1].upper()}{told[1:].removesuffix('.')}."
    return f"The server failed ({type(error).__name__})."


class Unreadable(Exception):
    """A message that no page of ours sends."""


class Talk:
    """One connection: hears what the page sends, and streams one answer at a time."""

    def __init__(self, page: WebSocket, chat: AsyncConversation) -> None:
        self._page = page
        self._chat = chat
        self._answering: asyncio.Task[None] | None = None
        self._asked: tuple[str | AudioInput, ...] = ()
        self._speech: bytearray | None = None
        self._awaits_file = False

    async def go_on(self) -> None:
        """Show the history, then obey until the page is gone."""
        limits = {"speech": SPEECH, "file": FILE}
        await self._tell("hello", standIn=settings()["stand_in"], limits=limits)
        await self._show()
        while (message := await self._page.receive())["type"] == "websocket.receive":
            if (data := message.get("bytes")) is not None:
                await self._take(data)
            else:
                await self._obey(message["text"])

    async def stop(self) -> None:
        """Stop the answer that is on its way; what has come is kept."""
        if self._answering:
            self._answering.cancel()
            await asyncio.wait([self._answering])
            self._answering = None

    async def _obey(self, text: str) -> None:
        try:
            order = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Unreadable from error
        match order:
            case {"do": "say", "text": str(words)} if words.strip() and len(words) <= TEXT:
                await self._ask(words)
            case {"do": "listen"}:
                self._speech = bytearray()
            case {"do": "forget"}:
                self._speech = None
            case {"do": "hear"} if self._speech is not None:
                speech, self._speech = bytes(self._speech), None
                if speech:
                    await self._ask(AudioInput.from_pcm(speech, RATE))
            case {"do": "file"}:
                self._awaits_file = True
            case {"do": "stop", "played": int(played) | float(played)}:
                await self._cut(played)
            case {"do": "retry"}:
                await self._retry()
            case _:
                raise Unreadable

    async def _take(self, data: bytes) -> None:
        """Take a piece of speech, or a file."""
        if self._awaits_file:
            self._awaits_file = False
            try:
                sound = await asyncio.to_thread(as_input, data)
            except (UnsupportedAudio, ImportError) as error:
                await self._tell("error", text=in_words(error), retry=False)
            else:
                await self._ask(sound)
        elif self._speech is not None:
            self._speech += data[: len(data) // 2 * 2]
            if len(self._speech) > SPEECH * RATE * 2:
                self._speech = None
                told = f"Speech is limited to {SPEECH} seconds."
                await self._tell("error", text=told, retry=False)

    async def _ask(self, *content: str | AudioInput) -> None:
        await self.stop()
        since, most = datetime.now(UTC) - HOUR, settings()["hourly"]
        asked = [turn.at for turn in self._chat.turns if isinstance(turn, UserTurn) and turn.at]
        recent = sorted(at for at in asked if at > since)
        if content and len(recent) >= most:
            minutes = (recent[-most] - since) // timedelta(minutes=1) + 1
            told = f"You may ask {most} times an hour. Go on in {minutes} min."
            await self._tell("error", text=told, retry=False)
            return
        self._asked = content or self._asked
        self._answering = asyncio.create_task(self._answer(*content))

    async def _answer(self, *content: str | AudioInput) -> None:
        rate = RATE
        try:
            await self._tell("thinking")
            async with self._chat.stream(*content) as events:
                await self._show()
                await self._tell("answer")
                async for event in events:
                    match event:
                        case TranscriptDelta(text) | TextDelta(text):
                            await self._tell("text", text=text)
                        case AudioDelta(data, its_rate):
                            if its_rate != rate:
                                rate = its_rate
                                await self._tell("rate", rate=rate)
                            await self._send(bytes=data)
        except Exception as error:  # noqa: BLE001  # the page tells it
            await self._show()
            await self._tell("error", text=in_words(error), retry=True)
        else:
            await self._show()
            await self._tell("done")

    async def _cut(self, played: float) -> None:
        """Keep of an answer what was heard."""
        await self.stop()
        match self._chat.turns[-1:]:
            case [AssistantTurn() as turn] if turn.audio:
                try:
                    await self._chat.truncate(played, turn)
                except ConversationError as error:
                    await self._tell("error", text=in_words(error), retry=False)
        await self._tell("stopped")
        await self._show()

    async def _retry(self) -> None:
        await self.stop()
        match self._chat.turns[-1:]:
            case [UserTurn()]:
                await self._ask()
            case [AssistantTurn(interrupted=True)]:
                await self._chat.undo(answer_only=True)
                await self._ask()
            case _ if self._asked:  # the refused question was taken back
                await self._ask(*self._asked)

    async def _show(self) -> None:
        turns = [shown(turn) for turn in self._chat.turns[-SHOWN:]]
        await self._tell("turns", turns=[turn for turn in turns if turn])

    async def _tell(self, kind: str, **fields: Any) -> None:
        await self._send(text=json.dumps({"type": kind, **fields}))

    async def _send(self, **message: str | bytes) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # gone: `receive` tells it
            await self._page.send({"type": "websocket.send", **message})


def as_input(data: bytes) -> AudioInput:
    """Return a sound file as the API takes it."""
    sound = None
    with contextlib.suppress(UnsupportedAudio):
        sound = AudioInput(data)
    if sound and len(data) <= FILE // 2 and (sound.duration or 0) <= LONGEST:
        return sound
    return AudioInput.convert(data, to="mp3", max_seconds=LONGEST)


async def talk(page: WebSocket) -> None:
    """Serve one connection; pages of others, and strangers, get 403."""
    user = user_of(page)
    if user is None or page.headers.get("origin") not in settings()["origins"]:
        await page.close()
        return
    await page.accept()
    try:
        async with AsyncConversation.open(
            session_of(user), store=store(), instructions="Answer in a few spoken sentences."
        ) as chat:
            talking = Talk(page, chat)
            try:
                await talking.go_on()
            finally:
                await talking.stop()
    except Unreadable:
        await page.close(1008)
    except ConversationError as error:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            told = {"type": "error", "text": in_words(error), "retry": False}
            await page.send_text(json.dumps(told))
            await page.close(1011)


app = Starlette(
    routes=[Route("/", page), Route("/sound/{name}", sound), WebSocketRoute("/talk", talk)]
)

# --- the command ----------------------------------------------------------------------------------


@contextlib.contextmanager
def model() -> Iterator[bool]:
    """Provide a model to this process and its workers; yield True for a stand-in."""
    if os.environ.get("OPENAI_API_KEY"):
        yield False
        return
    with StandIn() as server:
        print("No OPENAI_API_KEY: a stand-in on this machine answers; it hums.", flush=True)
        os.environ |= {"OPENAI_API_KEY": "any", "OPENAI_BASE_URL": server.url}
        yield True


def kept_secret(path: Path) -> Path:
    """Return the file with the secret, made once."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileExistsError):
        made = path.with_name(f"secret-{os.getpid()}")
        made.touch(0o600)
        made.write_text(secrets.token_hex(32), "ascii")
        try:
            os.link(made, path)  # whole or not at all, also with two programs at once
        finally:
            made.unlink()
    return path


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def announce(host: str, port: int) -> None:
    """Print the address as soon as the server answers."""
    while True:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            print(f"Voice chat: http://{host}:{port}/", flush=True)
            return
        time.sleep(0.1)


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=8000, help="0 takes any free one")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--store", help="a folder, or postgresql://…", default=str(DATA))
    parser.add_argument("--hourly", type=int, default=100, help="questions an hour of each user")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument(
        "--origin", action="append", help="address of the page, such as https://chat.example"
    )
    options = parser.parse_args()
    if options.hourly < 1:
        parser.error(f"--hourly must be >= 1, got {options.hourly}")
    port = options.port or free_port()
    addresses = [f"http://{name}:{port}" for name in (options.host, "localhost", "127.0.0.1")]
    with model() as is_stand_in:
        given = {
            "store": options.store,
            "secret": str(kept_secret(DATA / "secret").absolute()),
            "origins": options.origin or addresses,
            "hourly": options.hourly,
            "stand_in": is_stand_in,
        }
        os.environ["WEB_CHAT"] = json.dumps(given)
        threading.Thread(target=announce, args=(options.host, port), daemon=True).start()
        uvicorn.run(
            "web_chat:app",
            app_dir=str(Path(__file__).parent),
            host=options.host,
            port=port,
            workers=options.workers,
            ws="websockets-sansio",
            ws_max_size=FILE,
            timeout_graceful_shutdown=5,
            timeout_worker_healthcheck=60,  # workers may take long to start
            log_level="warning",
        )


if __name__ == "__main__":
    main()

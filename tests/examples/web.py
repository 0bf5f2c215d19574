"""The web chat as a process, and a page of it without a browser."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import Any, Self

import pytest

from conversation import Conversation, FileStore, PostgresStore
from conversation._values.turns import Turn
from conversation.testing import StandIn
from tests.programs import Program
from tests.terminals import PYTHON, Running, environment

for needed in ("starlette", "uvicorn", "websockets", "itsdangerous"):
    pytest.importorskip(needed, reason="needs the extra `web`")

from websockets.sync.client import ClientConnection, connect  # noqa: E402

EXAMPLE = Path(__file__).parents[2] / "examples" / "web_chat.py"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
Json = dict[str, Any]


class Site(Running):
    """The example, serving."""

    patience = 240.0  # each worker imports the SDK, on a machine that may be busy

    def __init__(self, folder: Path, server: StandIn | None, *options: str) -> None:
        self.folder = folder
        self._output, theirs = os.pipe()
        program = (str(EXAMPLE), *(options or ("--port", "0")))
        around = environment(server, folder)
        process: Program | subprocess.Popen[bytes]
        if "--workers" in options:
            process = subprocess.Popen(
                [*PYTHON, *program], cwd=folder, env=around, stdout=theirs, start_new_session=True
            )
        else:
            process = Program(program, folder, around, (0, theirs, 2))
        os.close(theirs)
        super().__init__(process, self._output)
        try:
            self.said = self.until("/\n")
        except BaseException:
            self.stop(signal.SIGKILL)
            raise
        self.url = self.said.split()[-1].rstrip("/")
        self.port = self.url.rpartition(":")[2]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it and its workers."""
        if isinstance(self.process, Program):
            self.process.send_signal(how)
        elif self.process.poll() is None:
            os.killpg(self.process.pid, how)
        self.process.wait(self.patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGKILL)
        os.close(self._output)

    def cookie(self) -> str:
        """Return the cookie of a new user, as a browser sends it."""
        with DIRECT.open(self.url + "/") as response:
            given = str(response.headers["Set-Cookie"])
        assert "httponly" in given.lower()
        assert "samesite=strict" in given.lower()
        return given.partition(";")[0]

    def page(self, cookie: str | None = None, origin: str | None = None) -> Page:
        """Return a connection as of a page of this site."""
        headers = {"Cookie": cookie} if cookie else {}
        return Page(
            connect(
                self.url.replace("http", "ws") + "/talk",
                origin=origin or self.url,  # type: ignore[arg-type]  # a NewType of str
                additional_headers=headers,
                proxy=None,
                max_size=None,
                open_timeout=self.patience,
                ping_interval=None,
            )
        )

    def get(self, path: str, cookie: str) -> bytes:
        """Return what a GET with the cookie gives."""
        request = urllib.request.Request(self.url + path, headers={"Cookie": cookie})
        with DIRECT.open(request) as response:
            return bytes(response.read())

    def latest(self, store: FileStore | PostgresStore | None = None) -> tuple[Turn, ...]:
        """Return the turns of the session that was changed last; None: in the example's folder."""
        store = store or FileStore(self.folder / "example-data" / "web-chat")
        with Conversation.open(store.list()[0].id, store=store, read_only=True) as chat:
            return chat.turns


class Page:
    """A page's connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.sound = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def send(self, *orders: Json | bytes) -> None:
        """Send messages."""
        for order in orders:
            self.connection.send(order if isinstance(order, bytes) else json.dumps(order))

    def until(self, kind: str) -> list[Json]:
        """Return all messages up to one of this kind; sound is kept aside."""
        told: list[Json] = []
        while not told or told[-1]["type"] != kind:
            data = self.connection.recv(Site.patience)
            if isinstance(data, bytes):
                self.sound += data
            else:
                told.append(json.loads(data))
        return told

    def hear(self, seconds: float) -> None:
        """Wait for so much sound."""
        while len(self.sound) < seconds * 48_000:
            data = self.connection.recv(Site.patience)
            self.sound += data if isinstance(data, bytes) else b""

    def ask(self, *orders: Json | bytes) -> list[Json]:
        """Send messages, and return the turns when they are answered."""
        self.send(*orders)
        return list(self.until("done")[-2]["turns"])

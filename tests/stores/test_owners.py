"""Owner and mode of files: a rewrite keeps them, and root leaves nothing that locks a user out."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from conversation import Conversation, FileStore
from conversation._cli.main import main
from conversation.stores._disk import make_folder
from tests.conftest import Clock
from tests.stores.samples import create, opened, path_of

as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away"
)
USER, GROUP = 12_345, 12_346


def owned(path: Path) -> tuple[int, int, int]:
    """Return owner, group and permissions of a file."""
    status = path.lstat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


def damage(path: Path) -> None:
    """Break the first turn of a document."""
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], b"{broken,", *lines[2:]]) + b"\n")


CHANGES: dict[str, Callable[[FileStore], object]] = {
    "a label": lambda store: opened(store).set_title("Dogs"),
    "undo": lambda store: opened(store).undo(),
    "a repair": lambda store: store.repair("retriever"),
    "a torn end": lambda store: opened(store).add_user("Hi"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("owner", [pytest.param((USER, GROUP), marks=as_root), None])
def test_a_rewrite_keeps_owner_and_mode(
    change: str, owner: tuple[int, int] | None, store: FileStore, clock: Clock
) -> None:
    """Whatever replaces the document: labels, edits, repairs and recoveries."""
    create(store, clock)
    path = path_of(store)
    if change == "a repair":
        damage(path)
    if change == "a torn end":
        path.write_bytes(path.read_bytes()[:-9])
    path.chmod(0o640)
    if owner:
        os.chown(path, *owner)
    before = owned(path)
    with path.open("rb") as held:  # its number is not given to another file meanwhile
        CHANGES[change](store)
        assert path.stat().st_ino != os.fstat(held.fileno()).st_ino
    assert owned(path) == before


@as_root
def test_files_that_root_makes_belong_to_the_owner_of_the_folder(
    tmp_path: Path, clock: Clock
) -> None:
    """Sessions, sound, locks, folders and what a repair puts aside."""
    os.chown(tmp_path, USER, GROUP)
    store = FileStore(tmp_path / "sessions", fsync=False)
    create(store, clock)
    damage(path_of(store))
    store.repair("retriever")
    made = [store.root, *store.root.rglob("*")]
    assert {path.suffix[:8] for path in made} >= {".json", ".audio", ".lock", ".wav", ".damaged"}
    assert {owned(path)[:2] for path in made} == {(USER, GROUP)}


def test_saved_and_exported_files_are_private(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New files have mode 0600 under every umask; existing ones keep theirs."""
    monkeypatch.chdir(tmp_path)
    with Conversation.open("x", clock=clock) as chat:
        chat.add_user("Hello")
        open_to_all = tmp_path / "open.json"
        open_to_all.touch()
        open_to_all.chmod(0o644)
        before = os.umask(0o022)
        try:
            paths = [chat.save(tmp_path / "a.json"), chat.export(tmp_path / "a.html")]
            chat.save(open_to_all)
            assert main(["export", "x", "-o", "b.md"]) == 0
        finally:
            os.umask(before)
    for path in (*paths, tmp_path / "b.md"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(open_to_all.stat().st_mode) == 0o644


@pytest.mark.skipif(not hasattr(os, "fchmod"), reason="needs fchmod")
def test_a_folder_that_is_swapped_for_a_link_changes_nothing_elsewhere(tmp_path: Path) -> None:
    """Whoever replaces a new folder by a link gets no other folder's mode or owner changed."""
    victim, name = tmp_path / "victim", tmp_path / "s.audio"
    victim.mkdir()
    victim.chmod(0o755)
    is_over = threading.Event()

    def swap() -> None:
        while not is_over.is_set():
            with contextlib.suppress(OSError):
                name.rmdir()
                name.symlink_to(victim)

    attacker = threading.Thread(target=swap)
    attacker.start()
    swapped = tries = 0
    try:
        while tries < 1000 or not swapped:
            tries += 1
            with contextlib.suppress(OSError):
                make_folder(name)
            with contextlib.suppress(OSError):
                name.unlink()
                swapped += 1
            with contextlib.suppress(OSError):
                name.rmdir()
    finally:
        is_over.set()
        attacker.join()
    assert owned(victim) == (os.getuid(), os.getgid(), 0o755)

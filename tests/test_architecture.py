"""Tests of the architecture: which package may import which, and that nothing imports in circles.

All imports are read, also those inside of functions and under `TYPE_CHECKING`. A room is a package
or a module directly below `conversation`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import conversation

ROOT = Path(str(conversation.__file__)).parent

LAYERS = (
    ("errors", "_version"),
    ("_values", "_locking"),
    ("_wire",),
    ("_tools", "stores", "testing"),
    ("_rendering",),
    ("_history",),
    ("_exchange", "_export"),
    ("_client", "_async_client", "_base"),
    ("_conversation", "_async_conversation"),
    ("__init__", "_cli", "realtime"),
    ("__main__",),
)
"""The rooms from the bottom up. Each imports only from layers below its own."""

SAME_LAYER = {("_async_client", "_client")}
"""Imports inside of a layer: the async driver takes from the other what does not wait."""

FORBIDDEN = {
    ("_wire", "stores"),
    ("_rendering", "stores"),
    ("_rendering", "_history"),
    ("_history", "_rendering"),
    ("_history", "_exchange"),
    ("stores", "_rendering"),
    ("_exchange", "_client"),
    ("_exchange", "_async_client"),
    ("_client", "_history"),
    ("_client", "stores"),
    ("_async_client", "_history"),
    ("_async_client", "stores"),
    ("testing", "_conversation"),
    ("testing", "_history"),
    ("testing", "stores"),
}
"""What would be an import downwards, and is none all the same."""


def imported_modules(path: Path) -> Iterator[str]:
    """Yield the dotted names, below `conversation`, of all modules that a file imports from."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            pytest.fail(f"{path}: relative imports are not used here")
        if isinstance(node, ast.ImportFrom) and node.module and node.module != "__future__":
            package, _, rest = node.module.partition(".")
            if package == "conversation":
                for name in node.names:
                    inner = f"{rest}.{name.name}".strip(".")
                    is_module = (ROOT / inner.replace(".", "/")).is_dir() or (
                        ROOT / f"{inner.replace('.', '/')}.py"
                    ).is_file()
                    yield inner if is_module else rest or "__init__"
        elif isinstance(node, ast.Import):
            for name in node.names:
                package, _, rest = name.name.partition(".")
                if package == "conversation":
                    yield rest or "__init__"


def module_of(path: Path) -> str:
    """Return the dotted name of a file's module below `conversation`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


@cache
def edges() -> frozenset[tuple[str, str]]:
    """Return all pairs of modules of which the first imports the second."""
    return frozenset(
        (module_of(path), imported)
        for path in ROOT.rglob("*.py")
        for imported in imported_modules(path)
        if imported != module_of(path)
    )


def rooms() -> frozenset[tuple[str, str]]:
    """Return all pairs of rooms of which the first imports the second."""
    pairs = ((a.partition(".")[0], b.partition(".")[0]) for a, b in edges())
    return frozenset((a, b) for a, b in pairs if a != b)


def depths(pairs: frozenset[tuple[str, str]]) -> dict[str, int]:
    """Return for each node the length of the longest chain of imports that ends at it."""
    found: dict[str, int] = {}

    def depth(node: str, chain: tuple[str, ...]) -> int:
        assert node not in chain, f"imports run in a circle: {' -> '.join((*chain, node))}"
        if node not in found:
            below = [depth(b, (*chain, node)) for a, b in pairs if a == node]
            found[node] = 1 + max(below, default=0)
        return found[node]

    for node in {node for pair in pairs for node in pair}:
        depth(node, ())
    return found


def test_every_room_has_its_layer() -> None:
    """A new package or module has a place in the layers before anything imports it."""
    there = {
        path.stem
        for path in ROOT.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert there == {room for layer in LAYERS for room in layer}


def test_rooms_import_only_from_layers_below() -> None:
    """No package imports from its own layer or from one above it."""
    layer_of = {room: number for number, layer in enumerate(LAYERS) for room in layer}
    wrong = [
        f"{a} imports {b}"
        for a, b in sorted(edges())
        if (rooms := (a.partition(".")[0], b.partition(".")[0]))[0] != rooms[1]
        if layer_of[rooms[0]] <= layer_of[rooms[1]] and rooms not in SAME_LAYER
    ]
    assert not wrong


def test_what_must_not_know_each_other_does_not() -> None:
    """The rules that are stricter than the layers hold."""
    wrong = [
        f"{a} imports {b}"
        for a, b in sorted(edges())
        if (a.partition(".")[0], b.partition(".")[0]) in FORBIDDEN
    ]
    assert not wrong


def test_nothing_imports_in_a_circle() -> None:
    """Neither rooms nor modules import in circles, and no chain of rooms is longer than ten."""
    depths(edges())
    assert max(depths(rooms()).values()) <= 10


def test_the_command_line_looks_into_no_part_of_a_conversation() -> None:
    """It asks conversations by their own methods, and never their history, requests or journal."""
    found = [
        f"{path.name}:{node.lineno}"
        for path in (ROOT / "_cli").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"_history", "_requests", "_journal"}
    ]
    assert not found


def test_one_module_imports_the_database_driver() -> None:
    """Psycopg is an extra: one module knows what is done without it."""
    importing = [
        module_of(path)
        for path in ROOT.rglob("*.py")
        if re.search(r"^ *(import|from) psycopg\b", path.read_text(), re.MULTILINE)
    ]
    assert importing == ["stores._postgres_driver"]


def test_few_imports_cross_rooms() -> None:
    """The rooms are tied by at most 90 imports."""
    assert len(rooms()) <= 90


@pytest.mark.parametrize("package", sorted({path.parent for path in ROOT.glob("_*/__init__.py")}))
def test_a_packages_init_is_one_docstring(package: Path) -> None:
    """A package states its single idea and holds no code of its own."""
    tree = ast.parse((package / "__init__.py").read_text())
    assert len(tree.body) == 1
    assert ast.get_docstring(tree)

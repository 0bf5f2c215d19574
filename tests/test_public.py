"""Public names, signatures and errors, and the cost of importing."""

from __future__ import annotations

import importlib.metadata
import inspect
import pickle
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import conversation
from conversation import AsyncConversation, Conversation, errors, realtime, testing

ERRORS = [getattr(errors, name) for name in errors.__all__]


def test_all_lists_every_public_name_sorted() -> None:
    """`__all__` is sorted and lists each public name of its module."""
    for module in (conversation, errors, testing, realtime):
        assert module.__all__ == sorted(module.__all__)
        public = {name for name in vars(module) if not name.startswith("_")}
        modules = {name for name in public if isinstance(getattr(module, name), types.ModuleType)}
        imported = {
            "annotations",
            "Any",
            "Path",
            "TYPE_CHECKING",
            "corrupt",
            "not_found",
            "another_session",
        }
        late = {"AsyncConversation", "AsyncStream", "FileStore", "Prices"} & set(module.__all__)
        assert set(module.__all__) - modules == public - modules - imported | late


def test_public_members_have_docstrings() -> None:
    """Each public class, method and property has a docstring."""
    for name in conversation.__all__:
        thing = getattr(conversation, name)
        assert inspect.getdoc(thing), name
        for member, value in vars(thing).items():
            if not member.startswith("_") and (callable(value) or isinstance(value, property)):
                assert inspect.getdoc(value), f"{name}.{member}"


def test_settings_are_keyword_only_with_fixed_defaults() -> None:
    """Settings of `Conversation` are keyword-only and keep their defaults."""
    parameters = inspect.signature(Conversation).parameters
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters.values())
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    assert defaults["model"] == "gpt-audio-1.5"
    assert defaults["voice"] == "alloy"
    assert defaults["audio_format"] == "wav"
    assert defaults["modalities"] == ("text", "audio")
    assert defaults["expiry_margin"] == 30.0
    assert defaults["client"] is None


def test_docstring_of_errors_lists_each_error_with_its_builtin_base() -> None:
    """The tree in the docstring of `errors` names each error and its builtin base."""
    for error in ERRORS:
        line = next(
            line for line in str(errors.__doc__).splitlines() if f" {error.__name__}" in f" {line}"
        )
        for base in error.__mro__:
            if base.__module__ == "builtins" and base in error.__bases__ and base is not Exception:
                assert f"({base.__name__})" in line


@pytest.mark.parametrize("kind", [Conversation, AsyncConversation])
@pytest.mark.parametrize(
    ("values", "given", "told"),
    [
        ((), {"voise": "nova"}, "there is no setting 'voise'; did you mean 'voice'?"),
        ((), {"klock": 1}, "there is no setting 'klock'; did you mean 'clock'?"),
        ((), {"read_only": True}, "'read_only' is no setting; open(…) takes it"),
        ((), {"frobnicate": 1}, "there is no setting 'frobnicate'; settings are model, voice, "),
        (("ann",), {}, "(…) takes settings by their names; "),
    ],
)
def test_unknown_arguments_are_named(
    kind: type[Any], values: tuple[Any, ...], given: dict[str, Any], told: str
) -> None:
    """What no constructor knows is refused with what was meant, and without a private name."""
    with pytest.raises(TypeError, match=re.escape(told)) as caught:
        kind(*values, **given)
    assert "Base" not in str(caught.value)
    if not values:
        with pytest.raises(TypeError, match=re.escape(told)):
            kind.from_messages([], **given | ({"store": None} if "read_only" in given else {}))


def test_open_names_its_unknown_arguments(tmp_path: Path) -> None:
    """`open` tells its own arguments and the settings from what it does not know."""
    for given, meant in (({"read_onyl": True}, "read_only"), ({"modle": "x"}, "model")):
        wrong: Any = given
        with pytest.raises(TypeError, match=f"no setting '{next(iter(given))}'.* '{meant}'"):
            Conversation.open("ann", store=tmp_path, **wrong)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error.__name__))
def test_errors_survive_pickling(error: type[errors.ConversationError]) -> None:
    """A pickled error keeps its message, attributes and notes."""
    before = error("what happened")
    before.__dict__["path"] = Path("chat.json")
    before.add_note("a remedy")
    after = pickle.loads(pickle.dumps(before))
    assert (type(after), str(after), after.__dict__) == (error, "what happened", before.__dict__)


def test_version_is_told_and_is_that_of_the_package() -> None:
    """`__version__` is the version in the package's metadata."""
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", conversation.__version__)
    assert conversation.__version__ == importlib.metadata.version("conversation")


def test_dir_lists_names_that_are_imported_late() -> None:
    """`dir()` of the package lists all its names, also before they are used."""
    code = "import conversation; print(*dir(conversation))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = done.stdout.split()
    assert {*conversation.__all__, "PostgresStore", "__version__"} <= {*names}
    assert names == sorted({*names})


def test_help_needs_no_extra() -> None:
    """After a plain install, `help` and `inspect` show each module and each name of the package."""
    code = (
        "import inspect, pkgutil, pydoc, sys\n"
        "extras = 'psycopg', 'av', 'sounddevice', 'websockets', 'numpy', 'starlette', 'uvicorn'\n"
        "sys.modules.update(dict.fromkeys(extras))\n"
        "import conversation\n"
        "from conversation import realtime, stores, testing\n"
        "for module in (conversation, realtime, stores, testing):\n"
        "    for _, kind in inspect.getmembers(module, inspect.isclass):\n"
        "        assert pydoc.render_doc(kind)\n"
        "    print(pydoc.render_doc(module, renderer=pydoc.plaintext))\n"
        "print(pydoc.render_doc(conversation.PostgresStore, renderer=pydoc.plaintext))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "class PostgresStore" in done.stdout
    assert "class StandIn" in done.stdout


def test_import_loads_no_slow_module() -> None:
    """`import conversation` loads neither asyncio, `openai`, pydantic nor the like."""
    code = (
        "import sys, conversation, conversation.testing; "
        "late = 'asyncio', 'openai', 'pydantic', 'filelock', 'websockets'; "
        "late += ('conversation.realtime',); "
        "print([name for name in late if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_import_leaves_modules_that_few_need_for_later() -> None:
    """`import conversation` alone loads no store, no export format and no import of histories."""
    late = "decimal fractions signal conversation.stores.files conversation._export.formats"
    code = (
        f"import sys, conversation; print([n for n in {late.split()} if n in sys.modules]); "
        "from conversation import *; print(FileStore.__name__, Prices.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\nFileStore Prices\n"

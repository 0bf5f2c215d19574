"""The public face: names, signatures, errors, and what importing costs."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
import types
from pathlib import Path

import pytest

import conversation
from conversation import Conversation, errors, testing

ERRORS = [getattr(errors, name) for name in errors.__all__]


def test_all_names_are_sorted_and_there() -> None:
    """`__all__` is the list of what can be imported, and each name works."""
    for module in (conversation, errors, testing):
        assert module.__all__ == sorted(module.__all__)
        public = {name for name in vars(module) if not name.startswith("_")}
        modules = {name for name in public if isinstance(getattr(module, name), types.ModuleType)}
        imported = {"annotations", "Any", "TYPE_CHECKING"}
        late = {"AsyncConversation"} & set(module.__all__)
        assert set(module.__all__) - modules == public - modules - imported | late


def test_everything_public_is_documented() -> None:
    """Each class and each method has a docstring."""
    for name in conversation.__all__:
        thing = getattr(conversation, name)
        assert inspect.getdoc(thing), name
        for member, value in vars(thing).items():
            if not member.startswith("_") and (callable(value) or isinstance(value, property)):
                assert inspect.getdoc(value), f"{name}.{member}"


def test_the_settings_are_keywords_with_the_defaults_of_the_design() -> None:
    """What others build on."""
    parameters = inspect.signature(Conversation).parameters
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters.values())
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    assert defaults["model"] == "gpt-audio-1.5"
    assert defaults["voice"] == "alloy"
    assert defaults["audio_format"] == "wav"
    assert defaults["modalities"] == ("text", "audio")
    assert defaults["expiry_margin"] == 30.0
    assert defaults["client"] is None


def test_the_tree_of_errors_is_the_modules_docstring() -> None:
    """Each error stands in it with the builtin that it also is."""
    for error in ERRORS:
        line = next(
            line for line in str(errors.__doc__).splitlines() if f" {error.__name__}" in f" {line}"
        )
        for base in error.__mro__:
            if base.__module__ == "builtins" and base in error.__bases__ and base is not Exception:
                assert f"({base.__name__})" in line


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error.__name__))
def test_errors_survive_pickling(error: type[errors.ConversationError]) -> None:
    """Message and data are the same on the other side of a process."""
    before = error("what happened")
    before.__dict__["path"] = Path("chat.json")
    before.add_note("a remedy")
    after = pickle.loads(pickle.dumps(before))
    assert (type(after), str(after), after.__dict__) == (error, "what happened", before.__dict__)


def test_importing_brings_no_sdk() -> None:
    """`openai`, pydantic, filelock and asyncio come when they are needed."""
    code = (
        "import sys, conversation, conversation.testing; "
        "print([n for n in ('asyncio', 'openai', 'pydantic', 'filelock') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

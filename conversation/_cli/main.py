"""The entry point: parses arguments, runs a command, maps errors to exit codes."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from conversation._cli.commands import (
    _begin_chat,
    _delete,
    _export_sessions,
    _import,
    _list,
    _repair,
    _show,
    _verify,
)
from conversation._cli.terminal import (
    Log,
    complain,
    one_line,
    show_progress,
)
from conversation._export.formats import ENDINGS
from conversation.errors import InvalidSetting
from conversation.stores.files import FileStore


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says, and return the exit status."""
    with contextlib.ExitStack() as stack:
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            if getattr(sys, name) is None:  # it was closed
                stream = stack.enter_context(Path(os.devnull).open(mode, encoding="utf-8"))
                setattr(sys, name, stream)
                stack.callback(setattr, sys, name, None)
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    options = _parser().parse_args(arguments)
    log = logging.getLogger("conversation")
    handler, level = Log(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        status: int = options.command(options, FileStore(options.store))
        sys.stdout.flush()
    except BrokenPipeError:
        # Who read it has enough; Python would complain about that once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        show_progress("")
        return 130
    except InvalidSetting as error:
        complain(one_line(error))
        return 2
    except Exception as error:  # noqa: BLE001  # the SDK's, the system's, or one of ours
        show_progress("")
        complain(one_line(error))
        return 1
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="conversation",
        description="Conversations with OpenAI's voice models: talk, and look after what is saved.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[..., int], about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about)
        added.set_defaults(command=command)
        added.add_argument(
            "--store",
            metavar="FOLDER",
            help="where sessions live (default: $CONVERSATION_HOME, else the user's data folder)",
        )
        return added

    chat = add("chat", _begin_chat, "Talk; a session that was saved before is resumed.")
    chat.add_argument("id", nargs="?", default="chat", help="the session (default: chat)")
    chat.add_argument("--audio", metavar="FILE", help="begin with speech from a WAV or MP3 file")
    chat.add_argument("--play", action="store_true", help="play the answers (the extra `sound`)")
    for name in ("model", "voice", "instructions"):
        chat.add_argument(f"--{name}", help=f"as in Conversation({name}=…); it is saved")

    listing = add("list", _list, "All sessions, last written first.")
    listing.add_argument("--json", action="store_true", help="as JSON")

    show = add("show", _show, "The turns of a session, what would be sent of them now, and why.")
    show.add_argument("id")
    show.add_argument("--json", action="store_true", help="as JSON")

    export = add("export", _export_sessions, "Write sessions in another form.")
    export.add_argument("id", nargs="*")
    export.add_argument("--all", action="store_true", help="all sessions")
    export.add_argument("--format", choices=ENDINGS, help="default: html")
    export.add_argument(
        "--output", "-o", metavar="PATH", help="a file, or a folder for several; - is stdout"
    )
    export.add_argument("--force", action="store_true", help="write over files that exist")
    export.add_argument(
        "--transcribe",
        action="store_true",
        help="first find the words of user sound that has none; costs money",
    )

    importing = add("import", _import, "Make a session of an exported file or of API messages.")
    importing.add_argument("file", help="of `export --format json` or `messages`, or a JSON list")
    importing.add_argument("--id", help="the new session (default: what the file or its name says)")

    delete = add("delete", _delete, "Delete sessions and their sound, for good.")
    delete.add_argument("id", nargs="+")
    delete.add_argument("--yes", action="store_true", help="do not ask")

    verify = add("verify", _verify, "Check sessions and their sound; changes nothing.")
    verify.add_argument("id", nargs="*", help="default: all")
    verify.add_argument("--json", action="store_true", help="as JSON")

    repair = add("repair", _repair, "Save what can be read of a damaged session; keeps the file.")
    repair.add_argument("id")
    return parser

"""The entry point: parses arguments, runs a command, and turns errors into an exit status.

Exit status: 0 on success, 1 if something is wrong, 2 if the command was used wrongly, and 130 after
Ctrl-C, as in shells.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from conversation._cli import places
from conversation._cli.chat import chat
from conversation._cli.completion import INSTALLING, SHELLS, completion
from conversation._cli.copying import copy, print_sql
from conversation._cli.deleting import delete, sweep
from conversation._cli.exporting import export
from conversation._cli.importing import import_file
from conversation._cli.listing import list_sessions
from conversation._cli.saying import say
from conversation._cli.searching import search
from conversation._cli.session import SETTINGS
from conversation._cli.showing import show
from conversation._cli.terminal import (
    LogHandler,
    name_remedies,
    one_line,
    plain_line,
    report,
    show_progress,
)
from conversation._cli.verification import repair, verify
from conversation._cli.wording import ELSEWHERE, without_password
from conversation._export.formats import FORMATS
from conversation._version import __version__
from conversation.errors import InvalidSetting, SessionNotFound

_Function: TypeAlias = Callable[[argparse.Namespace, places.AnyStore], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status."""
    with contextlib.ExitStack() as stack:
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            if getattr(sys, name) is None:  # closed, as cron and the like may do
                stream = stack.enter_context(Path(os.devnull).open(mode, encoding="utf-8"))
                setattr(sys, name, stream)
                stack.callback(setattr, sys, name, None)
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    options = _parser().parse_args(_in_order([*(sys.argv[1:] if arguments is None else arguments)]))
    log = logging.getLogger("conversation")
    handler, level = LogHandler(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    name_remedies(ELSEWHERE)
    try:
        status = _done(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout once more when it exits, and would report the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as error:
        show_progress("")
        if getattr(error, "__notes__", ()):
            report(one_line(error))
        return 130
    except InvalidSetting as error:
        report(one_line(error))
        return 2
    except Exception as error:  # noqa: BLE001  # the SDK's, the system's, or one of ours
        show_progress("")
        if type(error) is OSError and error.strerror and error.filename is None:
            report(f"the output could not be written ({error.strerror})")
        else:
            report(one_line(error))
        return 1
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    return status


def _in_order(given: list[str]) -> list[str]:
    """Return the arguments with a store that stands before the command behind it."""
    first = given[0] if given else ""
    count = 2 if first == "--store" else int(first.startswith("--store="))
    return [*given[count : count + 1], *given[:count], *given[count + 1 :]] if count else given


def _done(options: argparse.Namespace) -> int:
    """Run the command on its store, and return the exit status."""
    store = places.store_at(options.store)
    try:
        status: int = options.command(options, store)
    except SessionNotFound as error:
        show_progress("")
        report(places.not_there(store, error))
        return 1
    return status


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        msg = f"must be a whole number >= 0, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _file(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must be the name of a file, and is empty")
    return text


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(plain_line(without_password(message)))


class _Command(_Parser):
    """A command's parser, which takes options before, between and behind other arguments."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments, options first."""
        options: list[str] = []
        others: list[str] = []
        given = iter(args or ())
        for each in given:
            if each == "--":
                others += ["--", *given]
            elif each == "-" or not each.startswith("-"):
                others.append(each)
            else:
                options.append(each)
                if action := self._takes_value(each):
                    value = next(given, "--")
                    if value == "--":
                        self.error(str(argparse.ArgumentError(action, "expected one argument")))
                    options.append(value)
        found, unknown = super().parse_known_args([*options, *others], namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def _takes_value(self, option: str) -> argparse.Action | None:
        """Return an option, perhaps abbreviated, whose value is the next argument; else None."""
        known = self._option_string_actions
        fits = [option] if option in known else [each for each in known if each.startswith(option)]
        return known[fits[0]] if len(fits) == 1 and known[fits[0]].nargs != 0 else None


class _Commands:
    """The parser of the command line, and its commands.

    Attributes:
        parser: The parser.
    """

    def __init__(self) -> None:
        self.parser = _Parser(
            prog="conversation",
            description="Talk with OpenAI's voice models, and manage saved sessions.",
            epilog="`conversation COMMAND --help` describes a command.",
        )
        self.parser.add_argument(
            "--version", action="version", version=f"conversation {__version__}"
        )
        self._subparsers = self.parser.add_subparsers(
            required=True, metavar="COMMAND", parser_class=_Command
        )

    def add_bare(self, name: str, command: _Function, about: str) -> argparse.ArgumentParser:
        """Add a command that has no store of its own."""
        added = self._subparsers.add_parser(name, help=about, description=about)
        added.set_defaults(command=command, store=None, parser=self.parser)
        return added

    def add(self, name: str, command: _Function, about: str) -> argparse.ArgumentParser:
        """Add a command on the sessions of a store."""
        added = self.add_bare(name, command, about)
        added.add_argument(
            "--store",
            metavar="PLACE",
            help="where sessions are saved: a folder, or postgresql://… (default: "
            "$CONVERSATION_STORE, $CONVERSATION_HOME, else the user's data folder)",
        )
        return added


def _parser() -> argparse.ArgumentParser:
    commands = _Commands()
    _add_talking(commands)
    _add_reading(commands)
    _add_moving(commands)
    _add_keeping(commands)
    return commands.parser


def _add_talking(to: _Commands) -> None:
    talk = to.add("chat", chat, "Talk; a session that exists is resumed.")
    talk.add_argument(
        "id", metavar="ID", nargs="?", default="chat", help="the session (default: chat)"
    )
    talk.add_argument(
        "--audio", type=_file, metavar="FILE", help="begin with speech from a sound file"
    )
    talk.add_argument(
        "--play", action="store_true", help="play the answers (needs the extra `sound`)"
    )
    saying = to.add("say", say, "Say one thing, and print the answer; for scripts.")
    saying.add_argument("id", metavar="ID", help="the session; one that exists is resumed")
    saying.add_argument("text", nargs="*", metavar="TEXT", help="what to say; - for standard input")
    saying.add_argument(
        "--audio", type=_file, metavar="FILE", help="say the speech in a sound file"
    )
    saying.add_argument(
        "--retry",
        action="store_true",
        help="say nothing new: print the last answer, which is asked for if it is missing or cut",
    )
    saying.add_argument(
        "--save",
        metavar="FILE",
        help="write the answer's sound into a file, in place of what it holds",
    )
    saying.add_argument(
        "--json", action="store_true", help="print the answer as `show --json` does"
    )
    for command in (talk, saying):
        for option, about in SETTINGS.items():
            command.add_argument(
                option, help=f"{about}; saved in the session once it gave an answer"
            )


def _add_reading(to: _Commands) -> None:
    listing = to.add(
        "list", list_sessions, "List sessions, the latest first; exit status 1: damage."
    )
    listing.add_argument("--json", action="store_true", help="print JSON (default: text)")
    listing.add_argument(
        "--limit", type=_count, metavar="N", help="list only the latest N (default: all)"
    )

    searching = to.add("search", search, "Find a phrase in all sessions; exit status 1: nothing.")
    searching.add_argument("words", nargs="+", metavar="WORDS", help="the phrase, in any case")
    searching.add_argument("--json", action="store_true", help="print JSON (default: text)")

    showing = to.add("show", show, "Show a session's turns, and how each would be sent now.")
    showing.add_argument("id", metavar="ID", help="the session")
    showing.add_argument("--json", action="store_true", help="print JSON (default: text)")


def _add_moving(to: _Commands) -> None:
    exporting = to.add("export", export, "Write sessions in another format.")
    exporting.add_argument("id", metavar="ID", nargs="*", help="the sessions")
    exporting.add_argument("--all", action="store_true", help="export all sessions")
    exporting.add_argument(
        "--format", choices=FORMATS, help="default: from the ending of PATH, else html"
    )
    exporting.add_argument(
        "--output",
        "-o",
        metavar="PATH",
        help="a file; for several sessions a folder, or one .jsonl; - for stdout (default: files "
        "named after the sessions, in this folder)",
    )
    exporting.add_argument(
        "--force", action="store_true", help="overwrite existing files (default: refuse)"
    )
    exporting.add_argument(
        "--transcribe",
        action="store_true",
        help="first transcribe user sound that has no transcript; costs money",
    )

    importing = to.add("import", import_file, "Import an exported file, or a history of others.")
    importing.add_argument(
        "file",
        metavar="FILE",
        help="an exported file; or JSON, whole or by lines, of Chat Completions, the Responses or "
        "Realtime API, LangChain, pydantic-ai, ShareGPT or ChatGPT's export; - for standard input",
    )
    importing.add_argument(
        "--id",
        help="the new session (default: from the file, else its name); of several conversations, "
        "the beginning of their ids, followed by numbers",
    )
    importing.add_argument(
        "--key",
        help="of several conversations in an object, the one to import (default: all of them)",
    )

    copying = to.add_bare("copy", copy, "Copy sessions to another store; they stay here, too.")
    copying.add_argument("id", metavar="ID", nargs="*", help="the sessions (default: all)")
    for option, dest in (("--from", "source"), ("--to", "target")):
        copying.add_argument(
            option, dest=dest, required=True, metavar="PLACE", help="a folder, or postgresql://…"
        )


def _add_keeping(to: _Commands) -> None:
    deleting = to.add("delete", delete, "Delete sessions and their sound permanently.")
    deleting.add_argument("id", metavar="ID", nargs="+", help="the sessions")
    deleting.add_argument(
        "--yes", action="store_true", help="do not ask for confirmation (default: ask)"
    )

    sweeping = to.add("sweep", sweep, "Delete what nobody has changed for long.")
    sweeping.add_argument(
        "--older-than", required=True, metavar="AGE", help="such as 90d, 12w, 36h or 30min"
    )
    sweeping.add_argument(
        "--sound",
        action="store_true",
        help="delete the sound alone; words and pictures stay (default: whole sessions)",
    )
    sweeping.add_argument("--dry-run", action="store_true", help="only print what would be deleted")
    sweeping.add_argument(
        "--yes", action="store_true", help="do not ask (default: ask if there is a terminal)"
    )

    verifying = to.add("verify", verify, "Check sessions and their files; changes nothing.")
    verifying.add_argument("id", metavar="ID", nargs="*", help="the sessions (default: all)")
    verifying.add_argument("--json", action="store_true", help="print JSON (default: text)")

    repairing = to.add("repair", repair, "Recover a damaged session; keeps the damaged file.")
    repairing.add_argument("id", metavar="ID", help="the session")

    completing = to.add_bare(
        "completion", completion, "Print the script by which a shell completes commands at Tab."
    )
    completing.formatter_class = argparse.RawDescriptionHelpFormatter
    completing.epilog = INSTALLING
    completing.add_argument("shell", choices=SHELLS, help="the shell")
    completing.add_argument("--words", help=argparse.SUPPRESS)
    completing.add_argument("--breaks", default="", help=argparse.SUPPRESS)

    sql = to.add_bare("sql", print_sql, "Print the SQL that creates a database's tables.")
    sql.add_argument("--schema", default="public", help="their schema (default: public)")

"""`conversation completion`: what shells complete, found by the parser itself.

At each Tab the scripts ask this program by `--words`: lines, or from bash the line itself. It
prints one candidate a line; the exit status `_FILES` has the shell complete names of files.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import re
import shlex
from collections.abc import Iterator, Sequence

import attrs

from conversation._cli.places import AnyStore, store_at
from conversation._cli.terminal import plain, plain_line, write_own

SHELLS = ("bash", "zsh", "fish")

INSTALLING = """\
to install it:
  bash, in ~/.bashrc:                 eval "$(conversation completion bash)"
  zsh, in ~/.zshrc behind compinit:   eval "$(conversation completion zsh)"
  fish:  conversation completion fish >~/.config/fish/completions/conversation.fish
"""

_FILES = 3
_MOST = 5000
"""Sessions that are offered."""

_SCRIPTS = {
    "bash": """\
_conversation() {
    local found code each
    found=$("${1/#\\~/$HOME}" completion bash --breaks="$COMP_WORDBREAKS" \\
        --words="${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
    code=$?
    COMPREPLY=()
    if [[ $code == %(files)d ]]; then
        compopt -o default 2>/dev/null ||
            while IFS= read -r each; do COMPREPLY+=("$each"); done \\
                < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")
    elif [[ $code == 0 && -n $found ]]; then
        while IFS= read -r each; do COMPREPLY+=("$each"); done <<<"$found"
    fi
}
complete -F _conversation conversation
""",
    "zsh": """\
#compdef conversation
_conversation() {
    local text
    local -a found
    found=("${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}")
    text=$("${found[1]/#\\~/$HOME}" completion zsh --words="${(F)found}" 2>/dev/null)
    case $? in
        %(files)d) compset -P '--*='; _files ;;
        0) [[ -n $text ]] && found=("${(@f)text}") && _describe conversation found ;;
    esac
}
if [[ ${funcstack[1]} == _conversation ]]; then
    _conversation "$@"
else
    compdef _conversation conversation
fi
""",
    "fish": """\
function __conversation_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l option (string match -- '-*' "$current")
    set -l line (printf '%%s\\n' $words | string collect -N)"$option"
    set -l found (command $words[1] completion fish --words=$line 2>/dev/null)
    if test $status -eq %(files)d
        __fish_complete_path "$current"
    else
        string join \\n -- $found
    end
end
complete -c conversation -f -a '(__conversation_complete)'
""",
}


def completion(options: argparse.Namespace, _: AnyStore) -> int:
    """Print a shell's script; or with `--words` what stands behind them."""
    shell = options.shell
    if options.words is None:
        write_own(_SCRIPTS[shell] % {"files": _FILES})
        return 0
    logging.getLogger("conversation").setLevel(logging.CRITICAL)
    words, quote = options.words.split("\n"), ""
    if shell == "bash":
        words, quote = _split(options.words)
    found = _candidates(options.parser, words[:-1], words[-1])
    if found is None:
        return _FILES
    for name, about in found:
        if plain(name) != name:
            continue
        if shell == "bash":
            line = _replacement(name, words[-1], options.breaks, quote)
        elif shell == "zsh":
            line = re.sub(r"([:\\])", r"\\\1", name) + f":{about}"
        else:
            line = f"{name}\t{about}" if about else name
        write_own(f"{line}\n")
    return 0


def _split(line: str) -> tuple[list[str], str]:
    """Return the words of a line, the last as far as it is there, and the quote around that."""
    for quote in ("", '"', "'"):
        with contextlib.suppress(ValueError):
            *words, last = shlex.split(f"{line}x{quote}")
            if quote == '"':  # which shlex does not know to escape these, too
                last = re.sub(r"\\([$`])", r"\1", last)
            return [*words, last[:-1]], quote
    return [""], ""


def _replacement(name: str, word: str, breaks: str, quote: str) -> str:
    """Return what bash puts in place of its current word: behind the last of certain marks."""
    if quote == "'":
        return name.replace("'", r"'\''")
    if quote:
        return re.sub(r'([$`"\\])', r"\\\1", name)
    done = max((word.rfind(mark) for mark in ":=@" if mark in breaks), default=-1) + 1
    return re.sub(r"([^\w@%+=:,./-])", r"\\\1", name[done:])


_Candidates = list[tuple[str, str]]


def _candidates(
    parser: argparse.ArgumentParser, words: Sequence[str], word: str
) -> _Candidates | None:
    """Return what the word can become, and what each is; None for the name of a file."""
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    if len(words) < 2:
        if word.startswith("-"):
            return _options(parser, word, ())
        about = {each.dest: each.help or "" for each in commands._choices_actions}
        return _fitting(((name, about.get(name, "")) for name in commands.choices), word)
    if (command := commands.choices.get(words[1])) is None:
        return []
    return _of_command(command, words[2:], word)


@attrs.define
class _Words:
    """The words behind a command, as far as they are there.

    Attributes:
        command: The command's parser.
        pending: The option whose value comes next.
        values: Values of options, by their destinations.
        options: The options.
        others: The other words.
        are_over: True behind `--`, where no option comes.
    """

    command: argparse.ArgumentParser
    pending: argparse.Action | None = None
    values: dict[str, str] = attrs.Factory(dict)
    options: list[str] = attrs.Factory(list)
    others: list[str] = attrs.Factory(list)
    are_over: bool = False

    def add(self, word: str) -> None:
        """Take the next word."""
        if self.pending is not None:
            self.values[self.pending.dest], self.pending = word, None
        elif self.are_over or word == "-" or not word.startswith("-"):
            self.others.append(word)
        elif word == "--":
            self.are_over = True
        else:
            action, has_value, value = self.option(word)
            self.options += action.option_strings if action else ()
            if action and has_value:
                self.values[action.dest] = value
            elif action and action.nargs != 0:
                self.pending = action

    def option(self, word: str) -> tuple[argparse.Action | None, str, str]:
        """Return the option in a word, and behind a `=` its value."""
        name, mark, value = word.partition("=")
        return self.command._option_string_actions.get(name), mark, value


def _of_command(
    command: argparse.ArgumentParser, before: Sequence[str], word: str
) -> _Candidates | None:
    words = _Words(command)
    for each in before:
        words.add(each)
    if words.pending is not None:
        return _values(words.pending, word, words)
    if word.startswith("-") and not words.are_over:
        action, has_value, value = words.option(word)
        if not (action and has_value):
            return _options(command, word, words.options)
        found = _values(action, value, words)
        name = word.removesuffix(value)
        return None if found is None else [(f"{name}{each}", about) for each, about in found]
    for at, action in enumerate(each for each in command._actions if not each.option_strings):
        if at == len(words.others) or action.nargs in ("*", "+"):
            return _values(action, word, words)
    return []


def _options(parser: argparse.ArgumentParser, word: str, used: Sequence[str]) -> _Candidates:
    found = (
        (name, " ".join((action.help or "").split()))
        for action in parser._actions
        if action.help != argparse.SUPPRESS and not set(action.option_strings) & set(used)
        for name in action.option_strings
        if name.startswith("--")
    )
    return _fitting(found, word)


def _values(action: argparse.Action, word: str, words: _Words) -> _Candidates | None:
    """Return what an option or argument can be; None for the name of a file."""
    if action.choices is not None:
        return _fitting(((str(each), "") for each in action.choices), word)
    if action.metavar in ("FILE", "PATH", "PLACE"):
        return None
    if action.dest == "id" and not action.option_strings:
        store = store_at(words.values.get("source") or words.values.get("store"))
        return [
            (info.id, plain_line(info.title or ""))
            for info in store.list(prefix=word, limit=_MOST)
            if info.id not in words.others and (words.are_over or not info.id.startswith("-"))
        ]
    return []


def _fitting(found: Iterator[tuple[str, str]], word: str) -> _Candidates:
    return [each for each in found if each[0].startswith(word)]

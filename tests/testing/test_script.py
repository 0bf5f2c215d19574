"""Scripts of the stand-in: JSON lines from other processes and from files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conversation.testing import StandIn
from tests.testing.test_stand_in import (
    answered,
    ask,
    asking,
    command,
    message_of,
    sent,
    served,
)

SCRIPT = b"""\xef\xbb\xbf{"text": "Sunny.", "spoken": false}\r
\r
{"tool_calls": [["weather", {"city": "Oslo"}]]}
{"fail": 429, "message": "Slow down.", "code": "rate_limit_exceeded"}
{"text": "caf\xc3\xa9 \xe2\x80\xa8 two", "finish_reason": "length"}"""


def posted(url: str, script: bytes) -> tuple[int, Any]:
    """Post a script to the root of a server, without a key; return status and JSON."""
    status, _, data = sent(url.removesuffix("/v1") + "/stand-in/script", script, {})
    return status, json.loads(data)


def check(url: str) -> None:
    """Assert that the next four answers are those of SCRIPT."""
    answers = [sent(f"{url}/chat/completions", asking()) for _ in range(4)]
    assert [status for status, _, _ in answers] == [200, 200, 429, 200]
    first, second, third, fourth = (json.loads(data) for _, _, data in answers)
    assert message_of(first)["content"] == "Sunny."
    [call] = message_of(second)["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": '{"city":"Oslo"}'}
    assert (third["error"]["message"], third["error"]["code"]) == (
        "Slow down.",
        "rate_limit_exceeded",
    )
    assert message_of(fourth)["audio"]["transcript"] == "café \u2028 two"
    assert fourth["choices"][0]["finish_reason"] == "length"


def test_a_posted_script_is_followed_line_by_line(server: StandIn) -> None:
    """`POST /stand-in/script` takes answers, tool calls and errors, and is no recorded request."""
    assert posted(server.url, SCRIPT) == (200, {"scripted": 4})
    assert server.requests == []
    check(server.url)
    assert posted(server.url, b"") == (200, {"scripted": 0})


def test_a_script_calls_custom_tools(server: StandIn) -> None:
    """Text in the place of arguments is the input of a custom tool, beside other calls."""
    script = b'{"tool_calls": [["code", "print(1)"], ["weather", {}], ["code", ""]]}'
    assert posted(server.url, script)[0] == 200
    calls = message_of(answered(server, asking()))["tool_calls"]
    assert [call["type"] for call in calls] == ["custom", "function", "custom"]
    assert calls[0]["custom"] == {"name": "code", "input": "print(1)"}
    assert calls[2]["custom"] == {"name": "code", "input": ""}


def test_a_posted_script_follows_what_is_scripted_already(server: StandIn) -> None:
    """Lines queue up after earlier answers, also while an error waits for any request."""
    server.will_fail(503)
    assert posted(server.url, b'{"text": "Then."}')[0] == 200
    assert ask(server, asking())[0] == 503
    assert message_of(answered(server, asking()))["audio"]["transcript"] == "Then."


BAD = {
    "no JSON": (b"{text: 1}", "column 2: not JSON"),
    "half a character": (rb'{"text": "\ud800"}', "not JSON"),
    "no UTF-8": (b'{"text": "\xff"}', "not JSON"),
    "no object": (b'["Sunny."]', "expected an object"),
    "an unknown key": (b'{"txt": "Sunny."}', "unknown key 'txt'"),
    "an answer that fails": (b'{"fail": 429, "text": "x"}', "unknown key 'text'"),
    "text of a number": (b'{"text": 7}', "text must be a string"),
    "spoken of a word": (b'{"spoken": "no"}', "spoken must be true or false"),
    "calls of an object": (b'{"tool_calls": {"weather": {}}}', "tool_calls must be a list"),
    "a call without arguments": (b'{"tool_calls": [["weather"]]}', "must be a pair"),
    "a call of a number": (b'{"tool_calls": [["a", 1]]}', "must be a pair"),
    "a call of two letters": (b'{"tool_calls": ["ab"]}', "must be a pair"),
    "an unknown order": (b'{"order": "random"}', "order must be one of"),
    "no chunks": (b'{"chunk_bytes": 0}', "chunk_bytes must be >= 1"),
    "a cut in between": (b'{"cut_after": 1.5}', "cut_after must be >= 0"),
    "a hold of truth": (b'{"hold_after": true}', "hold_after must be >= 0"),
    "a success": (b'{"fail": 200}', "must be from 400 to 599"),
    "a word for a status": (b'{"fail": "429"}', "must be from 400 to 599"),
    "no message": (b'{"fail": 429, "message": null}', "message must be a string"),
}


@pytest.mark.parametrize(("line", "reason"), BAD.values(), ids=BAD)
def test_a_bad_line_is_refused_by_its_number(server: StandIn, line: bytes, reason: str) -> None:
    """Nothing of a script with a bad line is taken; the error says which line, and why."""
    status, answer = posted(server.url, b'{"text": "One."}\n\n' + line + b'\n{"text": "Two."}')
    assert status == 400
    assert answer["error"]["message"].startswith("line 3")
    assert reason in answer["error"]["message"]
    assert message_of(answered(server, asking()))["audio"]["transcript"].startswith("You wrote")


def test_the_command_follows_a_script(tmp_path: Path) -> None:
    """`--script FILE` scripts the first answers, and further ones can be posted."""
    path = tmp_path / "script.jsonl"
    path.write_bytes(SCRIPT)
    with served("--port", "0", "--script", str(path)) as (_, url):
        check(url)
        assert posted(url, SCRIPT)[0] == 200
        check(url)


@pytest.mark.parametrize(
    ("script", "reason"),
    [(b'{"text": "One."}\n{"fail": 1}', "line 2: the status"), (None, "No such")],
)
def test_the_command_refuses_a_bad_script(
    tmp_path: Path, script: bytes | None, reason: str
) -> None:
    """A bad line, or a file that cannot be read, gives status 1 and one line on stderr."""
    path = tmp_path / "script.jsonl"
    if script is not None:
        path.write_bytes(script)
    with command("--port", "0", "--script", str(path)) as process:
        output, errors = process.communicate(timeout=300)
    assert (process.returncode, output) == (1, "")
    assert errors.startswith(f"cannot follow {path}: ")
    assert reason in errors
    assert errors.count("\n") == 1


HALF = "\ud83d"


@pytest.mark.parametrize(
    ("method", "arguments", "options"),
    [
        ("will_answer", (HALF,), {}),
        ("will_answer", (), {"refusal": HALF}),
        ("will_answer", (), {"finish_reason": HALF}),
        ("will_answer", (), {"tool_calls": [(HALF, {})]}),
        ("will_answer", (), {"tool_calls": [("a", {"b": [HALF]})]}),
        ("will_answer", (), {"tool_calls": [("a", {"b": object()})]}),
        ("will_answer", (5,), {}),
        ("will_transcribe", (HALF,), {}),
        ("will_fail", (500, HALF), {}),
        ("will_fail", (500,), {"code": HALF}),
        ("will_fail", (99,), {}),
        ("will_follow", (f'{{"text": "{HALF}"}}',), {}),
        ("will_send", ({"text": HALF},), {}),
        ("will_stream", ([{"text": HALF}],), {}),
    ],
)
def test_what_cannot_be_sent_is_refused_when_it_is_scripted(
    server: StandIn, method: str, arguments: tuple[Any, ...], options: dict[str, Any]
) -> None:
    """A lone surrogate or an object raises at once; the next answers are the default ones."""
    with pytest.raises(ValueError, match=r"must be|cannot be sent as JSON|line 1"):
        getattr(server, method)(*arguments, **options)
    assert message_of(answered(server, asking()))["audio"]["transcript"].startswith("You wrote")


def test_a_script_can_be_posted_by_another_process(server: StandIn) -> None:
    """A process that knows nothing but the URL scripts the next answer."""
    program = (
        "import sys, urllib.request as r; r.install_opener(r.build_opener(r.ProxyHandler({})));"
        'r.urlopen(sys.argv[1], data=b\'{"text": "From afar."}\').read()'
    )
    url = server.url.removesuffix("/v1") + "/stand-in/script"
    subprocess.run([sys.executable, "-c", program, url], check=True, timeout=300)
    assert message_of(answered(server, asking()))["audio"]["transcript"] == "From afar."

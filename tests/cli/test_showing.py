"""`conversation show`: turns, and how each would be sent now."""

from __future__ import annotations

import json
import re
from pathlib import Path

from conversation import FileStore
from tests.cli.conftest import Run


def test_show_prints_each_turn_and_how_it_would_be_sent(cli: Run, session: str) -> None:
    """An answer of 2025 is shown as sent by its transcript, because its audio id has expired."""
    status, out, err = cli("show", session)
    assert (status, err) == (0, "")
    assert out.startswith("Dogs\nann@home · begun 2025-11-01 12:26 UTC · 5 turns · gpt-audio-1.5 ·")
    assert re.search(
        r"\n2 assistant 2025-11-01 12:26 UTC · spoken, \d\.\d s → transcript, exp", out
    )
    assert '  weather({"city":"Oslo"})' in out
    assert "3 user 2025-11-01 12:26 UTC · spoken, 0.1 s\n  (no text)" in out
    assert "\ntokens: " in out


def test_show_as_json_holds_saved_turns_and_how_they_would_be_sent(cli: Run, session: str) -> None:
    """Audio is not included, only the names of its files."""
    status, out, _ = cli("show", session, "--json")
    shown = json.loads(out)
    assert status == 0
    assert (shown["id"], shown["title"], shown["settings"]) == (session, "Dogs", {"voice": "ash"})
    turn = shown["turns"][1]
    assert turn["sent"]["form"] == "transcript"
    assert turn["audio"]["file"].endswith(".wav")
    assert "data" not in turn["audio"]
    assert shown["usage"]["completion_tokens"] > 0


def test_ids_of_a_stand_in_end_with_its_command(cli: Run, tmp_path: Path) -> None:
    """Its answers are shown and exported as what the next command would send: transcripts."""
    for words in ("One", "Two"):
        status, out, err = cli("say", "x", words)
        assert (status, "a stand-in on this machine answers" in err) == (0, True)
        assert "lost" not in err
    assert "I recall 0 of my earlier answers by voice and 1 from transcripts." in out
    before = (FileStore().root / "x.json").read_bytes()
    shown = json.loads(cli("show", "x", "--json")[1])
    assert [turn["sent"]["form"] for turn in shown["turns"]] == ["as it is", "transcript"] * 2
    assert cli("export", "x", "-o", str(tmp_path / "x.html"))[0] == 0
    assert "min left" not in (tmp_path / "x.html").read_text()
    assert (FileStore().root / "x.json").read_bytes() == before

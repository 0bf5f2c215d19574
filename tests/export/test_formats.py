"""`export` and `save`: how the format is chosen, and where the file is written."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from conversation import Conversation, FileStore
from conversation.errors import InvalidSetting, SaveFailed


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("a.html", "<!doctype html>"),
        ("a.HTML", "<!doctype html>"),
        ("a.md", "# Conversation"),
        ("a.messages.json", "[\n{"),
        ("a.jsonl", '{"messages":'),
        ("a.json", '{"conversation":1'),
    ],
)
def test_the_ending_of_the_name_decides_the_format(
    name: str, begins: str, full: Conversation, tmp_path: Path
) -> None:
    """The longest matching ending decides, in any case; the file's path is returned."""
    path = full.export(tmp_path / name)
    assert path == tmp_path / name
    assert path.read_text().startswith(begins)


def test_names_of_speakers_are_in_each_format(tmp_path: Path) -> None:
    """People read the name as it was given, without its controls; the API gets its own form."""
    chat = Conversation()
    chat.add_user("Hello", name="Zoë <b>\x1b[31m_K_")
    chat.add_assistant("Hi")
    chat.add_user("Bye", name=" ")
    chat.add_assistant("Bye")
    found = {
        name: chat.export(tmp_path / name).read_text()
        for name in ("a.html", "a.md", "a.messages.json", "a.jsonl", "a.json")
    }
    assert "Zoë &lt;b&gt;\ufffd[31m_K_" in found["a.html"]
    assert " UTC · Zoë &lt;b>\ufffd\\[31m\\_K\\_\n" in found["a.md"]
    assert found["a.messages.json"].count('"name":"Zoe__b___31m_K_"') == 1
    assert found["a.jsonl"].count('"name":"Zoe__b___31m_K_"') == 1
    assert '"name":"Zoë <b>\\u001b[31m_K_"' in found["a.json"]
    assert found["a.messages.json"].count('"name"') == found["a.jsonl"].count('"name"') == 1
    assert found["a.md"].count(" UTC\n") == 3


def test_a_given_format_overrides_the_name(full: Conversation, tmp_path: Path) -> None:
    """With `format=`, the name may end in anything, even in another format's ending."""
    assert full.export(tmp_path / "a.txt", format="markdown").read_text().startswith("# ")
    assert full.export(tmp_path / "a.json", "messages").read_text().startswith("[")


def test_an_unknown_format_is_refused(full: Conversation, tmp_path: Path) -> None:
    """The error lists the formats, and no file is written."""
    with pytest.raises(InvalidSetting, match=r"must be one of 'html', 'json', .* got 'docx'"):
        full.export(tmp_path / "a.html", "docx")
    with pytest.raises(
        InvalidSetting, match=r"from the name 'a\.docx'; pass format=, one of 'html', "
    ):
        full.export(tmp_path / "a.docx")
    assert not list(tmp_path.glob("a*"))


def test_an_export_never_overwrites_its_own_session(tmp_path: Path) -> None:
    """Exporting to the session's file is refused, also through a link; the file is unchanged."""
    store = FileStore(tmp_path)
    with Conversation.open("x", store=store) as chat:
        chat.add_user("Hello")
        before = (tmp_path / "x.json").read_bytes()
        (tmp_path / "link.html").symlink_to(tmp_path / "x.json")
        for name in ("x.json", "link.html"):
            with pytest.raises(InvalidSetting, match="is this session itself"):
                chat.export(tmp_path / name)
        with pytest.raises(InvalidSetting, match="is this session itself"):
            chat.save(tmp_path / "x.json")
        assert (tmp_path / "x.json").read_bytes() == before
        chat.add_user("Still here")


def test_a_loaded_file_can_be_overwritten(full: Conversation, tmp_path: Path) -> None:
    """A conversation from `load` may be saved to the file that it came from."""
    full.save(tmp_path / "a.json")
    again = Conversation.load(tmp_path / "a.json")
    again.add_user("More")
    again.save(tmp_path / "a.json")
    assert Conversation.load(tmp_path / "a.json").turns == again.turns


def test_an_export_that_fails_changes_no_file(full: Conversation, tmp_path: Path) -> None:
    """A path below a regular file raises `SaveFailed`."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(SaveFailed, match="could not be written"):
        full.export(tmp_path / "file" / "a.html")
    assert (tmp_path / "file").read_text() == "x"


def test_pipes_and_devices_are_written_to(full: Conversation, tmp_path: Path) -> None:
    """A FIFO or a device receives the export and is not replaced; a folder is refused."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as cat:
        full.export(pipe, "markdown")
        assert cat.stdout
        assert cat.stdout.read() == full.export(tmp_path / "a.md").read_bytes()
    assert pipe.is_fifo()
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        device.write_bytes(b"")
    except OSError:
        device = Path(os.devnull)
        if os.geteuid() == 0:
            return
    full.export(device, "markdown")
    assert device.is_char_device()
    with pytest.raises(SaveFailed):
        full.export(tmp_path, "markdown")

"""`conversation import`: files with one conversation or several, and what cannot be imported."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conversation import AudioInput, Conversation, FileStore, ImageInput, UserTurn
from conversation.errors import InvalidTurn
from tests.cli.conftest import Run, shell
from tests.samples import PNG, SOUND, spoken
from tests.terminals import turns_of
from tests.wire.foreign.samples import HISTORIES, PYDANTIC_AI, SHAREGPT, SHOWN, chatgpt

TALK = [{"role": "user", "content": "Good dog?"}, {"role": "assistant", "content": "Yes."}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file that is imported."""
    return tmp_path / "talks.json"


def texts() -> dict[str, list[str]]:
    """Return the words of each session in the store, by its id."""
    return {
        info.id: [turn.text for turn in Conversation.open(info.id, read_only=True).turns]
        for info in FileStore().list()
    }


def lines(*values: Any) -> str:
    """Return the values as JSON, one a line, as other programs write it."""
    return "".join(json.dumps(value) + "\r\n" for value in values)


@pytest.mark.parametrize("name", HISTORIES)
def test_history_of_another_program_becomes_a_session(name: str, cli: Run, path: Path) -> None:
    """A file of any known format is one session; `verify` finds it whole."""
    path.write_text(json.dumps(HISTORIES[name]()))
    assert cli("import", str(path), "--id", "talk")[:2] == (
        0, "imported session 'talk', 5 turns\n"
    )  # fmt: skip
    assert texts()["talk"][-1] == "Take it."
    assert cli("verify")[0] == 0


@pytest.mark.parametrize("history", [SHOWN, PYDANTIC_AI], ids=["messages", "pydantic-ai"])
def test_lines_of_messages_are_one_session(history: list[Any], cli: Run, path: Path) -> None:
    """Messages one a line are one conversation, named after the file."""
    path = path.with_suffix(".jsonl")
    path.write_text(lines(*history))
    assert cli("import", str(path))[0] == 0
    assert {key: len(found) for key, found in texts().items()} == {"talks": 5}


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that puts a text into standard input."""

    def put(text: str) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    return put


def test_standard_input_is_imported(cli: Run, piped: Callable[[str], None]) -> None:
    """The session is named by what is in it, or by `--id`, which is demanded where both lack."""
    piped(json.dumps({"messages": TALK}))
    assert cli("import", "-", "--id", "talk")[:2] == (0, "imported session 'talk', 2 turns\n")
    piped(lines({"messages": TALK}, {"messages": TALK}))
    assert cli("import", "-", "--id", "t")[0] == 0
    piped(json.dumps(chatgpt()))
    assert cli("import", "-")[0] == 0
    before = texts().keys()
    assert {"talk", "t-1", "t-2"} < before
    for document in (json.dumps(TALK), lines({"messages": TALK}, {"messages": TALK})):
        piped(document)
        status, out, err = cli("import", "-")
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert "--id" in err
    piped("{")
    status, _, err = cli("import", "-", "--id", "x")
    assert status == 1
    assert "standard input is not JSON" in err
    piped("")
    assert cli("import", "-", "--id", "x")[0] == 1
    assert texts().keys() == before


def test_lines_for_fine_tuning_are_a_session_each(cli: Run, path: Path) -> None:
    """Several lines are named after the file, or after `--id`, with numbers."""
    path = path.with_suffix(".jsonl")
    path.write_text("\ufeff" + lines({"messages": TALK}, {"messages": SHOWN, "tools": []}))
    status, out, err = cli("import", str(path))
    assert (status, err) == (0, "")
    assert out == "imported session 'talks-1', 2 turns\nimported session 'talks-2', 5 turns\n"
    assert cli("import", str(path), "--id", "tuned")[0] == 0
    assert sorted(texts()) == ["talks-1", "talks-2", "tuned-1", "tuned-2"]
    status, _, err = cli("import", str(path))
    assert status == 1, "they are there already"
    assert [line[:11] for line in err.splitlines()] == ["! talks-1: ", "! talks-2: "]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (lines({"messages": TALK}) + "{broken\n" + lines({"messages": TALK}), 2),
        (lines(*TALK) + "\n" + '{"role": "user", "cont', 4),
        ('[\n{"role": "user"},\n{"role": user}]', 3),
        ("{broken\n" + lines(*TALK), 1),
    ],
)
def test_broken_line_is_named(content: str, line: int, cli: Run, path: Path) -> None:
    """Nothing is imported of a file with a line that is not JSON."""
    path.write_text(content)
    status, out, err = cli("import", str(path))
    assert (status, out) == (1, "")
    assert "is not JSON" in err
    assert f"line {line})" in err
    assert not texts()


def test_object_of_lists_needs_a_key(cli: Run, path: Path) -> None:
    """The error names the keys; `--key` chooses one, by which the session is not named."""
    path.write_text(json.dumps({"ann": TALK, "bob": SHOWN, "version": 3}))
    status, _, err = cli("import", str(path))
    assert status == 1
    assert "Choose one by its key: it has 'ann', 'bob'" in err
    status, _, err = cli("import", str(path), "--key", "eve")
    assert status == 1
    assert "nothing under the key 'eve': it has 'ann', 'bob', 'version'" in err
    assert cli("import", str(path), "--key", "bob")[0] == 0
    assert [len(found) for found in texts().values()] == [5]


def test_conversations_of_an_export_are_named_by_id_or_title(cli: Run, path: Path) -> None:
    """A list of ChatGPT's or ShareGPT's gives one session each, with its title."""
    untold = chatgpt("Dogs & cats\n") | {"conversation_id": None}
    nameless = {key: value for key, value in SHAREGPT.items() if key != "id"}
    path.write_text(json.dumps([chatgpt(), untold, untold, SHAREGPT, nameless]))
    assert cli("import", str(path))[0] == 0
    ids = {"6650c0de-1", "Dogs & cats", "Dogs & cats-3", "dog-1", "talks-5"}
    assert texts().keys() == ids
    assert Conversation.open("6650c0de-1").title == "An umbrella"
    assert cli("import", str(path), "--id", "old")[0] == 0
    assert texts().keys() == ids | {f"old-{number}" for number in range(1, 6)}


def test_one_conversation_of_an_export_is_named_by_it(cli: Run, path: Path) -> None:
    """With a single conversation `--id` is its id, without a number."""
    path.write_text(json.dumps([chatgpt()]))
    assert cli("import", str(path))[0] == 0
    assert cli("import", str(path), "--id", "umbrella")[0] == 0
    assert sorted(texts()) == ["6650c0de-1", "umbrella"]


def test_conversations_of_which_nothing_can_be_kept_are_named(cli: Run, path: Path) -> None:
    """The others are imported, and the exit status is 1."""
    gemini = {"messages": [{"role": "model", "parts": [{"text": "Hi"}]}]}
    empty: dict[str, Any] = {"id": "e", "conversations": []}
    path.write_text(json.dumps([{"messages": TALK}, {"messages": []}, gemini, empty, None]))
    status, out, err = cli("import", str(path))
    assert (status, out) == (1, "imported session 'talks-1', 2 turns\n")
    first, foreign, second, skipped, nothing = err.splitlines()
    assert first == "! talks-2: it has no messages"
    assert foreign.startswith("! talks-3: message 0 cannot be imported: it seems to be")
    assert second == "! e: it has no messages"
    assert skipped.startswith("! skipping message 0 of 'talks-5': it must be a message")
    assert nothing == "! talks-5: its one message cannot be imported"


def test_list_of_lists_is_a_session_each(cli: Run, path: Path) -> None:
    """Lists of messages without names are numbered."""
    path.write_text(json.dumps([TALK, SHOWN]))
    assert cli("import", str(path))[0] == 0
    assert {key: len(found) for key, found in texts().items()} == {"talks-1": 2, "talks-2": 5}


def test_archive_is_refused_by_its_name(cli: Run, path: Path) -> None:
    """ChatGPT's export comes as an archive; the error says to unpack it."""
    path.write_bytes(b"PK\3\4" + bytes(99))
    status, _, err = cli("import", str(path))
    assert (status, "is an archive. Unpack it" in err) == (1, True)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.md", b"# Dogs", "is a page, not JSON, and cannot be imported. Export the session as"),
        ("a.txt", b"\n<!doctype html><p>", "is a page, not JSON"),
        ("dog.wav", SOUND, "is sound (WAV), not JSON. `conversation say ID --audio FILE`"),
        ("dog", b"fLaC" + bytes(99), "is sound (FLAC)"),
        ("dog.gz", b"\x1f\x8b\x08" + bytes(99), "is compressed (gzip). Unpack it, and import the"),
        ("dog.png", PNG, "is PNG, not JSON, and cannot be imported"),
        ("dog.pdf", b"%PDF-1.7", "is PDF, not JSON, and cannot be imported"),
        ("dog", b"<!DOCTYPE html><html>", "is a page, not JSON"),
        ("a.json", b" \n", "is empty"),
        ("a.db", b"SQLite format 3\0" + bytes(range(256)), "is not JSON, but no text at all"),
        ("a.json", b"[]", "it has no messages"),
        ("a.json", b'{"role": "alien"}', "it is not a conversation in a known format"),
    ],
)
def test_file_that_is_no_conversation_is_named(
    name: str, content: bytes, words: str, cli: Run, tmp_path: Path
) -> None:
    """The error tells what the file is, and what can be done with it."""
    (tmp_path / name).write_bytes(content)
    status, out, err = cli("import", str(tmp_path / name))
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert words in err


def test_warnings_of_several_conversations_tell_them_apart(cli: Run, path: Path) -> None:
    """Each warning names the session whose message is left out."""
    path.write_text(lines({"messages": TALK}, {"messages": [*TALK, {"role": "alien"}]}))
    status, _, err = cli("import", str(path))
    assert status == 1
    assert err.startswith("! skipping message 2 of 'talks-2': role must be")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[{"role":"user","content":"caf\\udce9"}]', "caf\ufffd"),
        ('[{"role":"user","content":"Hi","score":NaN}]', "Hi"),
        ('[{"role":"user","content":"Hi","score":-Infinity,"big":1' + "0" * 400 + "}]", "Hi"),
        (
            '{"conversation":1,"id":"x","turns":[{"role":"user","content":"\\ud83d Hi"}]}',
            "\ufffd Hi",
        ),
        ('{"messages":[{"role":"user","content":"\\ud83d"}]}\n' * 2, "\ufffd"),
    ],
)
def test_json_that_only_python_reads_is_imported(
    content: str, words: str, cli: Run, path: Path
) -> None:
    """Lone surrogates become U+FFFD; NaN and huge numbers are kept as text."""
    path.write_text(content)
    assert cli("import", str(path))[0] == 0
    assert {tuple(found) for found in texts().values()} == {(words,)}
    assert cli("verify")[0] == 0


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("text", [json.dumps(TALK), lines(*TALK)], ids=["list", "lines"])
def test_other_encodings_of_json_are_imported(
    encoding: str, text: str, cli: Run, path: Path
) -> None:
    """Files that a shell on Windows wrote are read, whole or by lines."""
    path.write_bytes(text.encode(encoding))
    assert cli("import", str(path))[0] == 0
    assert texts() == {"talks": ["Good dog?", "Yes."]}


# --- a session's own document ------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The document of a session with sound and a picture, copied with its folder."""
    with Conversation.open("ann") as chat:
        chat.add_user("Look", AudioInput(SOUND), ImageInput(PNG))
        chat.add_completion(spoken("Yes."))
    root = FileStore().root
    shutil.copytree(root / "ann.audio", tmp_path / "ann.audio")
    return Path(shutil.copy(root / "ann.json", tmp_path / "ann.json"))


def test_own_document_is_imported_with_the_sound_beside_it(cli: Run, own: Path) -> None:
    """Sound and pictures are copied into the new session, which `verify` finds whole."""
    assert cli("import", str(own), "--id", "copy")[:2] == (0, "imported session 'copy', 2 turns\n")
    shutil.rmtree(own.with_suffix(".audio"))
    FileStore().delete("ann")
    assert cli("verify")[:2] == (0, "1 session, 2 turns, 3 files; 0 damaged\n")
    with Conversation.open("copy", model="a-model-that-sees") as chat:
        parts = chat.messages()[0]["content"]
        assert [part["type"] for part in parts] == ["text", "input_audio", "image_url"]


def test_own_document_without_its_sound_is_refused(cli: Run, own: Path) -> None:
    """The error names `export --format json`; nothing is imported."""
    shutil.rmtree(own.with_suffix(".audio"))
    status, out, err = cli("import", str(own), "--id", "copy")
    assert (status, out) == (1, "")
    assert "`conversation export --format json`" in err
    assert [info.id for info in FileStore().list()] == ["ann"]


def test_own_document_with_one_file_missing_keeps_the_rest(cli: Run, own: Path) -> None:
    """A single file that is gone is a warning, and the words are kept."""
    next(own.with_suffix(".audio").glob("*.wav")).unlink()
    status, _, err = cli("import", str(own), "--id", "copy")
    assert status == 0
    assert "is gone" in err
    assert texts()["copy"] == ["Look", "Yes."]
    assert cli("verify", "copy")[0] == 0


QUESTION, ANSWER = TALK
OTHER = {"role": "assistant", "content": "No."}
PREFERRED = {
    "input": {"messages": [{"role": "system", "content": "Be brief."}, QUESTION], "tools": []},
    "preferred_output": [ANSWER],
    "non_preferred_output": [OTHER],
}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (PREFERRED, ["Be brief.", "Good dog?", "Yes."]),
        (
            {"prompt": [QUESTION], "chosen": [ANSWER], "rejected": [OTHER]},
            ["Good dog?", "Yes."],
        ),
        ({"chosen": TALK, "rejected": [QUESTION, OTHER]}, ["Good dog?", "Yes."]),
        ({"prompt": "Good dog?", "chosen": "Yes.", "rejected": "No."}, ["Good dog?", "Yes."]),
        (
            {"system": "Be brief.", "prompt": "Good dog?", "chosen": "Yes.", "rejected": "No."},
            ["Be brief.", "Good dog?", "Yes."],
        ),
    ],
)
@pytest.mark.parametrize("count", [1, 2])
def test_line_for_preference_tuning_keeps_the_preferred_answer(
    line: Any, words: list[str], count: int, cli: Run, path: Path
) -> None:
    """Question and preferred answer are a session; the other answer is named as left out."""
    path.write_text(lines(*[line] * count))
    status, _, err = cli("import", str(path))
    assert (status, err.count("it is an answer that was not preferred")) == (0, count)
    names = ["talks"] if count == 1 else ["talks-1", "talks-2"]
    assert texts() == dict.fromkeys(names, words)


@pytest.mark.parametrize("count", [1, 2])
def test_output_of_a_batch_is_named(count: int, cli: Run, path: Path) -> None:
    """Answers without their questions are no conversation."""
    body = {"object": "chat.completion", "choices": [{"index": 0, "message": ANSWER}]}
    line = {"id": "batch_req_1", "custom_id": "a", "response": {"status_code": 200, "body": body}}
    path.write_text(lines(*[line] * count))
    status, _, err = cli("import", str(path))
    assert (status, texts()) == (1, {})
    assert "it seems to be output of OpenAI's Batch API" in err


def test_several_saved_conversations_in_a_file_are_a_session_each(cli: Run, path: Path) -> None:
    """Exported documents in one file keep ids, titles and sound, among others, too."""
    made = []
    for name in ("ann", "bob"):
        chat = Conversation()
        chat.add_user(AudioInput(SOUND), "What is it?")
        chat.set_title(f"{name}'s")
        chat.save(path)
        made.append(json.loads(path.read_text()) | {"id": name})
    for text in (json.dumps(made), lines(*made, {"messages": TALK})):
        path.write_text(text)
        assert cli("import", str(path))[0] == 0
        titles = {info.id: info.title for info in FileStore().list()}
        assert (titles.pop("ann"), titles.pop("bob")) == ("ann's", "bob's")
        assert list(titles) == ([] if text.startswith("[") else ["talks-3"])
        turn = Conversation.open("ann", read_only=True).turns[0]
        assert isinstance(turn, UserTurn)
        assert isinstance(turn.content[0], AudioInput)
        assert turn.content[0].read() == SOUND
        cli("delete", "ann", "bob", "--yes")
    path.write_text(json.dumps({"x": made[0]}))
    assert cli("import", str(path), "--key", "x")[0] == 0
    with pytest.raises(InvalidTurn, match=r"a saved conversation, which Conversation\.load reads"):
        Conversation.from_messages(made[:1])


def nested(levels: int) -> str:
    """Return JSON of so many levels."""
    return '{"body":' * levels + "1" + "}" * levels


@pytest.mark.parametrize(
    "text",
    [
        lines({"messages": TALK})
        + nested(5000).replace("1", json.dumps({"messages": TALK}))
        + "\n"
        + lines({"messages": TALK}),
        json.dumps([{"messages": TALK}] * 2)[:-1] + f", {nested(950)}]",
        json.dumps([{"messages": TALK}] * 2)[:-1] + ', {"messages": [' + nested(900) + "]}]",
    ],
    ids=["a line", "an object", "a message"],
)
def test_conversation_that_is_nested_too_deep_keeps_no_other_out(
    text: str, cli: Run, path: Path
) -> None:
    """It is named; the others are imported."""
    path.write_text(text)
    status, _, err = cli("import", str(path))
    assert (status, len(texts())) == (1, 2)
    assert "talks-" in err


def test_document_that_is_nested_too_deep_is_no_broken_json(cli: Run, path: Path) -> None:
    """The error says what is wrong."""
    path.write_text(nested(200_000))
    status, _, err = cli("import", str(path))
    assert (status, "nested too deep" in err) == (1, True)


def item(role: str, text: str, **more: Any) -> dict[str, Any]:
    """Return an item of the Responses API."""
    kind = "input_text" if role == "user" else "output_text"
    content = [{"type": kind, "text": text}]
    return {"type": "message", "role": role, "content": content, **more}


CALLED = [
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": "2"},
]
ONE, TWO, THREE = item("user", "1"), item("assistant", "2"), item("user", "3")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([ONE, TWO], "12"),
        ([TWO, ONE], "12"),
        ([THREE, TWO, ONE], "123"),
        ([THREE, *CALLED[::-1], ONE], "123"),
        ([ONE, *CALLED, THREE], "123"),
        ([{**ONE, "created_at": 1}, TWO, {**THREE, "created_at": 2}], "123"),
        ([{**THREE, "created_at": 2}, TWO, {**ONE, "created_at": 1}], "123"),
        ([{"role": "user", "content": "1"}, {"role": "user", "content": "3"}], "13"),
        ([ONE], "1"),
        ([], ""),
    ],
)
def test_lists_of_the_api_are_read_from_the_oldest_item(data: list[Any], words: str) -> None:
    """Pages of items begin with the newest by default; what they tell of their order counts."""
    chat = Conversation.from_messages({"object": "list", "data": data, "has_more": False})
    assert "".join(turn.text for turn in chat.turns) == words


def test_page_of_the_sdk_is_read_as_its_json(caplog: pytest.LogCaptureFixture) -> None:
    """A page as an object gives the same; that there are more pages is said."""
    pagination: Any = pytest.importorskip("openai.pagination")
    if not hasattr(pagination, "SyncConversationCursorPage"):
        pytest.skip("this SDK has no pages of conversations")
    page = pagination.SyncConversationCursorPage[Any].construct(
        data=[THREE, TWO, ONE], has_more=True
    )
    assert [turn.text for turn in Conversation.from_messages(page).turns] == ["1", "2", "3"]
    assert "the list goes on, on other pages" in caplog.text


@pytest.mark.slow
def test_import_reads_from_a_pipe(session: str, tmp_path: Path) -> None:
    """`export -o - | import -` copies a session."""
    script = (
        f'"$@" -m conversation export {session} --format json -o - |'
        ' "$@" -m conversation import - --id copy'
    )
    done = shell(script, tmp_path)
    assert (done.stdout, done.stderr) == ("imported session 'copy', 5 turns\n", "")
    assert len(turns_of("copy")) == 5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b'{"a": 1}', 'not a conversation in a known format: it is {"a":1}.'),
        (b'"text"', 'not a conversation in a known format: it is "text".'),
        (b"[]", "it has no messages"),
        (b'{"conversation": 99, "turns": []}', "format 99"),
    ],
)
def test_import_of_an_invalid_file_is_an_error(
    content: bytes, words: str, cli: Run, tmp_path: Path
) -> None:
    """An import that fails is one line on stderr, and creates no session."""
    path = tmp_path / "x.json"
    path.write_bytes(content)
    status, out, err = cli("import", str(path))
    assert (status, out) == (1, "")
    assert words in err
    assert err.count("\n") == 1
    assert not FileStore().list()


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b'\xef\xbb\xbf[{"role": "user", "content": "Hello"}]', 0, ""),
        (b'[{"role": "alien"}]', 1, "its one message cannot be imported"),
        (b'{"messages": []}\n{"messages": []}\n', 1, "x-2: it has no messages"),
    ],
)
def test_import_of_unusual_files(
    content: bytes, status: int, words: str, cli: Run, tmp_path: Path
) -> None:
    """A byte order mark is skipped; conversations without a valid message are errors."""
    path = tmp_path / "x.json"
    path.write_bytes(content)
    found, _, err = cli("import", str(path))
    assert found == status
    assert words in err
    assert bool(FileStore().list()) is (status == 0)


def test_import_reports_skipped_messages(cli: Run, tmp_path: Path) -> None:
    """Each reason for which messages are skipped is a line on stderr, and the exit status is 1."""
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{"role": "user", "content": "Hello"}, {"role": "alien"}, 3]))
    status, out, err = cli("import", str(path))
    assert (status, out) == (1, "imported session 'x', 1 turn\n")
    assert [line[:20] for line in err.splitlines()] == [
        "! skipping message 1",
        "! skipping message 2",
    ]


def test_import_does_not_follow_file_names(cli: Run, tmp_path: Path) -> None:
    """The name of an audio file in an imported document means nothing; its text is imported."""
    audio = {"id": "audio_1", "transcript": "Hi", "file": "../../../etc/passwd"}
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "audio": audio}]
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"conversation": 1, "id": "x", "turns": turns}))
    assert cli("import", str(path))[0] == 0
    assert cli("show", "x")[0] == 0
    assert [turn.text for turn in turns_of("x")] == ["Hello", "Hi"]
    assert cli("verify")[0] == 0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (5, "content must be text or a list of parts, got a number"),
        ({"a": 1}, "content must be text or a list of parts, got an object"),
        ([{}], "a part's type must be text, input_audio, image_url or file, got null"),
        ([{"type": "text", "text": ["a"]}], "text must be text, got a list"),
        ([{"type": "text", "text": True}], "text must be text, got a truth value"),
        ([{"type": "image_url", "image_url": {"url": "x.png"}}], "http: or data:, got 'x.png'"),
        (
            [{"type": "input_audio", "input_audio": {"data": "b'b\"", "format": "wav"}}],
            "data must be base64, got 4 characters that are not",
        ),
        (
            [{"type": "input_audio", "input_audio": {"data": "J2InJyI=", "format": "wav"}}],
            "sound must be WAV or MP3, got no sound file but text (5 bytes)",
        ),
    ],
)
def test_what_stands_in_a_file_is_told_in_words_of_json(
    content: Any, told: str, cli: Run, path: Path
) -> None:
    """No type, value or call of Python is named."""
    path.write_text(json.dumps([{"role": "user", "content": content}, *TALK]))
    err = cli("import", str(path))[2]
    assert err.splitlines()[0].endswith(told), err

"""Damaged and malicious documents: they raise documented errors and reach no other file.

`CONVERSATION_DAMAGE=1` combines each kind of damage with each place, instead of with some of them.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation import AudioInput, Conversation, FileInput, FileStore, ImageInput
from conversation.errors import (
    AudioFileMissing,
    SessionCorrupt,
    SessionError,
    SessionTooNew,
)
from tests.conftest import Clock
from tests.samples import MP3, PNG, SOUND, START, answer, recorded, spoken, tool_call

SECRET = b"RIFF\x24\0\0\0WAVE a secret of another program"

STRIDE = 1 if os.environ.get("CONVERSATION_DAMAGE") else 3

pytestmark = pytest.mark.usefixtures("no_hang")


@attrs.frozen
class Scene:
    """A session beside another one and files of other programs.

    Attributes:
        base: Folder that contains everything.
        store: Store of both sessions.
        original: Content of the document before any damage.
    """

    base: Path
    store: FileStore
    original: bytes

    @property
    def path(self) -> Path:
        """Return the path of the session's document."""
        return self.store.root / "s.json"

    @property
    def folder(self) -> Path:
        """Return the path of the session's sound folder."""
        return self.store.root / "s.audio"

    def outside(self) -> dict[str, tuple[int, int, bytes]]:
        """Return mode, time of change and content of all files that are not the session's own."""
        found = {}
        for path in sorted(self.base.rglob("*")):
            name = str(path.relative_to(self.base))
            status = path.lstat()
            # The root is excluded, as creating a file changes its time.
            own = name.startswith("sessions/s.") or name in ("sessions", "sessions/.s.json.tmp")
            if not own:
                content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
                found[name] = (status.st_mode, status.st_mtime_ns, content)
        return found


def scene_in(base: Path) -> Scene:
    """Create a session with a turn of every kind, another session, and files of other programs."""
    store = FileStore(base / "sessions", fsync=False)
    (base / "precious").mkdir()
    (base / "precious" / "secret.wav").write_bytes(SECRET)
    (base / "sessions").mkdir()
    (base / "sessions" / "secret.wav").write_bytes(SECRET)
    with Conversation.open("other", store=store, clock=Clock()) as other:
        other.add_completion(spoken("Of another session"))
    with Conversation.open("s", store=store, clock=Clock(), voice="echo", tools=[{}]) as chat:
        chat.set_title("Dogs")
        chat.set_metadata({"user": "ann", "tags": [1, None]})
        chat.add_system("The user is Ann.")
        chat.add_user("Hi", AudioInput(SOUND, transcript="there"), AudioInput(MP3))
        chat.add_completion(recorded())
        chat.add_user(
            ImageInput(PNG, "low"),
            ImageInput("https://example.org/a.png"),
            FileInput(b"%PDF", "a.pdf"),
            FileInput(file_id="f"),
        )
        calls = [tool_call("a"), tool_call("b")]
        chat.add_completion(answer(content="Hm", tool_calls=calls, odd=[{"a": 1}]))
        chat.add_tool_result("a", "1")
        chat.add_completion(spoken("Yes"))
        chat.add_user("Bye")
    return Scene(base, store, (base / "sessions" / "s.json").read_bytes())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Return a session to damage."""
    return scene_in(tmp_path)


@pytest.fixture(scope="module")
def shared() -> Iterator[Scene]:
    """Return a session that many examples damage, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        yield scene_in(Path(folder))


def check_reads(chat: Conversation) -> None:
    """Read everything, and assert that no file of another program is sent."""
    assert isinstance(repr(chat), str)
    assert isinstance(chat.title, str | None)
    assert isinstance(chat.metadata, dict)
    if chat.turns:
        assert isinstance(repr(chat.turns), str)
    rendering = chat.render()
    sent = [chat.messages(), rendering.messages]
    assert chat.usage.total_tokens >= 0
    assert isinstance(str(rendering), str)
    assert base64.b64encode(SECRET) not in orjson.dumps(sent)
    for turn in chat.turns:
        audio = getattr(turn, "audio", None)
        if audio is not None and audio.data is not None:
            with contextlib.suppress(AudioFileMissing):
                assert audio.read() != SECRET


def failure_of(action: Callable[[], object]) -> SessionError | None:
    """Return the `SessionError` of an action; None if it succeeds."""
    try:
        action()
    except SessionError as error:
        return error
    return None


def try_all(scene: Scene, data: bytes, clock: Clock, *, relabel: bool = False) -> bool:
    """Open, read, load, list and change the session with this document.

    Returns:
        True if the session could be changed.
    """
    path = scene.path
    path.write_bytes(data)

    def read() -> None:
        with Conversation.open("s", store=scene.store, clock=clock, read_only=True) as chat:
            check_reads(chat)

    def load() -> None:
        check_reads(Conversation.load(path, clock=clock))

    def listed() -> None:
        assert {info.id for info in scene.store.list()} >= {"other"}

    for action in (read, load, listed):
        failure_of(action)
        assert path.read_bytes() == data

    def write() -> None:
        with Conversation.open("s", store=scene.store, clock=clock) as chat:
            recovered.append(chat.recovered)
            check_reads(chat)
            if relabel:
                chat.set_title("Cats")
            chat.add_user("And on")
            expected.append((chat.title, chat.turns))

    recovered: list[object] = []
    expected: list[object] = []
    failure = failure_of(write)
    if failure is not None and (not recovered or recovered[0] is None):
        assert path.read_bytes() == data, "an unreadable document was changed"
    if failure is not None:
        assert isinstance(failure, SessionCorrupt | SessionTooNew), repr(failure)
        assert failure.path == path
        return False
    orjson.loads(path.read_bytes())
    with Conversation.open("s", store=scene.store, clock=clock) as again:
        assert again.recovered is None
        assert [(again.title, again.turns)] == expected
        assert again.turns[-1] in again.turns
    return True


def try_document(scene: Scene, document: Any, clock: Clock, *, relabel: bool = False) -> bool:
    """Call `try_all` with a JSON value, on one line and with one turn per line."""
    changed = try_all(scene, orjson.dumps(document), clock, relabel=relabel)
    assert try_all(scene, laid_out(document), clock, relabel=relabel) is changed
    return changed


def laid_out(document: Any) -> bytes:
    """Return the JSON of a document, with one turn per line if it has turns."""
    turns = document.get("turns") if isinstance(document, dict) else None
    if not isinstance(turns, list) or len(document) == 1:
        return orjson.dumps(document)
    head = orjson.dumps({k: v for k, v in document.items() if k != "turns"})[:-1]
    return head + b',"turns":[\n' + b",\n".join(map(orjson.dumps, turns)) + b"\n]}\n"


JsonPath = tuple[str | int, ...]


def paths_in(value: Any, here: JsonPath = ()) -> Iterator[JsonPath]:
    """Yield the path of every value inside a JSON value, the whole first."""
    yield here
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths_in(inner, (*here, key))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths_in(inner, (*here, index))


def put(document: Any, where: JsonPath, value: Any) -> Any:
    """Return a copy of a document with another value at a path; `...` deletes it."""
    if not where:
        return {} if value is ... else value
    copied = orjson.loads(orjson.dumps(document))
    inner = copied
    for step in where[:-1]:
        inner = inner[step]
    if value is ...:
        del inner[where[-1]]
    else:
        inner[where[-1]] = value
    return copied


WRONG: dict[str, Any] = {
    "deleted": ...,
    "null": None,
    "true": True,
    "zero": 0,
    "negative": -1,
    "big": 2**64 - 1,
    "huge": 1.7e308,
    "empty text": "",
    "text": "x",
    "NUL": "\0",
    "long": "x" * 5000,
    "bidi and BOM": "\u202e\ufeff\U0010ffff",
    "date": "9999-12-31T23:59:59-23:59",
    "early date": "0001-01-01T00:00:00+23:59",
    "list": [],
    "lists": [[["x"]]],
    "object": {},
    "objects": {"": {"a": [{}]}},
    "list of objects": [{}, {"type": "text"}, {"role": "user"}],
}


@pytest.mark.slow
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_type_anywhere(scene: Scene, clock: Clock, wrong: str) -> None:
    """A value of a wrong type at any path of the document is refused or harmless."""
    before = scene.outside()
    document = json.loads(scene.original)
    paths = [*paths_in(document)][[*WRONG].index(wrong) % STRIDE :: STRIDE]
    for number, where in enumerate(paths):
        changed = put(document, where, WRONG[wrong])
        data = laid_out(changed) if number % 2 else orjson.dumps(changed)
        try_all(scene, data, clock, relabel=number % 3 > 0)
    assert scene.outside() == before


def test_undamaged_document_can_be_changed(scene: Scene, clock: Clock) -> None:
    """The undamaged document opens and can be changed, in both layouts."""
    assert try_document(scene, json.loads(scene.original), clock)
    assert try_all(scene, scene.original, clock, relabel=True)


DEPTHS = [100, 240, 254, 256, 300, 600, 1000, 1020, 100_000]
NESTS: dict[str, tuple[bytes, bytes, bytes]] = {
    "lists": (b"[", b"", b"]"),
    "objects": (b'{"a":', b"1", b"}"),
}
DEEP_PATHS: list[JsonPath] = [
    (),
    ("conversation",),
    ("id",),
    ("title",),
    ("colour",),
    ("metadata",),
    ("metadata", "deep"),
    ("settings",),
    ("settings", "speed"),
    ("settings", "voice"),
    ("settings", "tools"),
    ("settings", "modalities"),
    ("turns",),
    ("turns", 0),
    ("turns", 0, "role"),
    ("turns", 0, "content"),
    ("turns", 0, "mood"),
    ("turns", 1, "content"),
    ("turns", 1, "content", 1, "input_audio", "mood"),
    ("turns", 2, "audio"),
    ("turns", 2, "audio", "file"),
    ("turns", 2, "audio", "format"),
    ("turns", 2, "usage"),
    ("turns", 4, "tool_calls"),
    ("turns", 4, "tool_calls", 0, "function", "arguments"),
    ("turns", 7, "mood"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "where", DEEP_PATHS, ids=lambda where: ".".join(map(str, where)) or "document"
)
@pytest.mark.parametrize("nest", NESTS)
def test_nesting_of_any_depth(scene: Scene, clock: Clock, where: JsonPath, nest: str) -> None:
    """Nesting of any depth at any path is refused or harmless."""
    before = scene.outside()
    opening, middle, closing = NESTS[nest]
    document = orjson.dumps(put(json.loads(scene.original), where, "<deep>"))
    for number, depth in enumerate(DEPTHS):
        deep = opening * depth + middle + closing * depth
        data = document.replace(b'"<deep>"', deep)
        if number % 3 and data.endswith(b"]}"):
            data = data.replace(b'"turns":[{', b'"turns":[\n{').replace(
                b'},{"role"', b'},\n{"role"'
            )
            data = data[:-2] + b"\n]}\n"
        try_all(scene, data, clock, relabel=number % 2 > 0)
    assert scene.outside() == before


NUMBERS = [
    b"1e400",
    b"-1e400",
    b"1" * 400,
    b"-" + b"9" * 5000,
    b"1" * 400 + b".5e-300",
    b"0." + b"0" * 400 + b"1",
    b"18446744073709551616",
    b"1e15",
    b"999999999999999",
    b"-999999999999999",
    b"NaN",
    b"Infinity",
    b"-0",
    b"01",
    b"0x10",
    b"1_000",
]


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_of_any_size(scene: Scene, clock: Clock, number: bytes) -> None:
    """A number of any size in place of any value is refused or harmless."""
    before = scene.outside()
    document = json.loads(scene.original)
    numeric = [
        where
        for where in paths_in(document)
        if where and isinstance(where[-1], str) and where[-1] not in ("role", "id", "type")
    ]
    mine = numeric[NUMBERS.index(number) % STRIDE :: STRIDE]
    for where in [*mine, ("colour",), ("settings", "expiry_margin"), ("turns", 7, "mood")]:
        changed = orjson.dumps(put(document, where, "<number>"))
        try_all(scene, changed.replace(b'"<number>"', number), clock)
    assert scene.outside() == before


@pytest.mark.parametrize("indent", [None, 2])
def test_damage_in_reformatted_documents_is_not_repaired(
    scene: Scene, clock: Clock, indent: int | None
) -> None:
    """A cut or damaged document in another layout is corrupt, and is not repaired as torn."""
    document = json.loads(scene.original)
    text = json.dumps(document, indent=indent, separators=(",", ":")).encode()
    for cut in range(60, len(text) - 1, 97):
        for damaged in (text[:cut], text[:cut] + b"\0" + text[cut + 1 :]):
            assert not try_all(scene, damaged, clock)


DOCUMENTS: dict[str, bytes] = {
    "empty": b"",
    "NULs": bytes(5000),
    "newline": b"\n",
    "invalid UTF-8": b'{"conversation":1,"id":"s","title":"\xff\xfe","turns":[\n]}\n',
    "invalid UTF-8 in a turn": b'{"conversation":1,"id":"s","turns":[\n{"role":"user","content":'
    b'"\xc3("},\n{"role":"user","content":"x"}\n]}\n',
    "lone surrogate": b'{"conversation":1,"id":"s","title":"\\ud800","turns":[\n]}\n',
    "UTF-16": '{"conversation":1,"id":"s","turns":[\n]}\n'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"conversation":1,"id":"s","turns":[\n]}\n',
    "two documents": b'{"conversation":1,"id":"s","turns":[\n]}\n' * 2,
    "JSON lines": b'{"role":"user","content":"x"}\n{"role":"user","content":"y"}\n',
    "newer version": b'{"conversation":2,"id":"s","turns":[\n]}\n',
    "much newer version": b'{"conversation":18446744073709551615,"id":"s","turns":[\n]}\n',
    "duplicate version": b'{"conversation":2,"conversation":1,"id":"s","turns":[\n]}\n',
    "duplicate id": b'{"conversation":1,"id":"other","id":"s","turns":[\n]}\n',
    "duplicate id, wrong": b'{"conversation":1,"id":"s","id":"other","turns":[\n]}\n',
    "duplicate turns": b'{"conversation":1,"id":"s","turns":[\n{"role":"user","content":"a"}\n],'
    b'"turns":[\n{"role":"user","content":"b"}\n]}\n',
    "duplicate turns, the first empty": b'{"conversation":1,"id":"s","turns":[],"turns":[\n'
    b'{"role":"user","content":"b"}\n]}\n',
    "duplicate turns, one turn per line": b'{"conversation":1,"id":"s","turns":[\n'
    b'{"role":"user","content":"a"}],"turns":[{"role":"user","content":"b"}\n]}\n',
    "duplicate role": b'{"conversation":1,"id":"s","turns":[\n{"role":"robot","role":"user",'
    b'"content":"a","content":"b"}\n]}\n',
    "header in a string": b'{"conversation":1,"id":"s","title":"\\"turns\\":[","turns":[\n]}\n',
    "turns in the metadata": b'{"conversation":1,"id":"s","metadata":{"turns":[\n]},"turns":[]}\n',
    "turns in the metadata, no others": b'{"conversation":1,"id":"s","metadata":{"turns":[\n]}}\n',
    "keys after the turns": b'{"conversation":1,"id":"s","turns":[\n'
    b'{"role":"user","content":"a"}],"title":"x"}\n',
    "a list after the turns": b'{"conversation":1,"id":"s","turns":[\n'
    b'{"role":"user","content":"a"}],"colours":["red"\n]}\n',
    "a list of turns after the turns": b'{"conversation":1,"id":"s","turns":[\n'
    b'{"role":"user","content":"a"},\n{"role":"user","content":"b"}],"more":[1\n]}\n',
    "no turns, a list after them": b'{"conversation":1,"id":"s","turns":[\n],"more":[1]}\n',
    "one line for two turns, two for one": b'{"conversation":1,"id":"s","turns":[\n'
    b'{"role":"user","content":"a"},{"role":"user","content":"b"},\n{"role":"user","content":\n'
    b'"c"}\n]}\n',
    "a turn that ends inside a list": b'{"conversation":1,"id":"s","turns":[\n'
    b'{"role":"user","content":"a","more":[{"b":1},\n{"c":2}]},{"role":"user","content":"b"}\n]}\n',
    "an empty line and two turns in one": b'{"conversation":1,"id":"s","turns":[\n\n'
    b'{"role":"user","content":"a"},{"role":"user","content":"b"}\n]}\n',
    "CRLF": b'{"conversation":1,"id":"s","turns":[\r\n'
    b'{"role":"user","content":"a"},\r\n{"role":"user","content":"b"}\r\n]}\r\n',
    "a million brackets": b"[" * 1_000_000,
    "a million quotes": b'"' * 1_000_000,
    "long unclosed header": b'{"conversation":1,"id":"s","title":"'
    + b"x" * 1_000_000
    + b'","turns":[\n',
    "turns without end": b'{"conversation":1,"id":"s","turns":[' + b'"turns":[' * 5000,
    "a thousand torn lines": b'{"conversation":1,"id":"s","turns":[\n' + b"{]},\n" * 1000,
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_corpus_of_malformed_documents(scene: Scene, clock: Clock, name: str) -> None:
    """A malformed document is refused unchanged, or reads as expected after a change."""
    before = scene.outside()
    for relabel in (False, True):
        try_all(scene, DOCUMENTS[name], clock, relabel=relabel)
    assert scene.outside() == before


NAMES = [
    "..",
    ".",
    "",
    "../secret.wav",
    "../other.json",
    "../../precious/secret.wav",
    "..\\secret.wav",
    "/etc/passwd",
    "//etc/passwd",
    "C:\\secret.wav",
    "a/../../secret.wav",
    "./a.wav",
    "a/b.wav",
    "a.wav\0",
    "\0",
    "a.wav\0/../../secret.wav",
    "~/secret.wav",
    "%2e%2e/secret.wav",
    "a\nb.wav",
    "a.wav\n",
    " a.wav",
    ".hidden.wav",
    ".s.json.part.tmp",
    "é.wav",
    "x" * 300 + ".wav",
    "x" * 100_000,
    "s.json",
    "out.wav",
    "hard.wav",
    "folder.wav",
    "fifo.wav",
    "linked-folder",
    "dangling.wav",
    "self.wav",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_file_names_do_not_escape_the_session(scene: Scene, clock: Clock, name: str) -> None:
    """File names with `..`, absolute ones, NULs and links reach no file outside the session."""
    precious = scene.base / "precious"
    (scene.folder / "out.wav").symlink_to(precious / "secret.wav")
    (scene.folder / "linked-folder").symlink_to(precious, target_is_directory=True)
    (scene.folder / "dangling.wav").symlink_to(precious / "nowhere.wav")
    (scene.folder / "self.wav").symlink_to("self.wav")
    (scene.folder / "folder.wav").mkdir()
    os.mkfifo(scene.folder / "fifo.wav")
    before = scene.outside()
    document = json.loads(scene.original)
    for where in paths_in(document):
        if where and where[-1] == "file" and where[-2:] != ("type", "file"):
            named = put(document, where, name)
            try_all(scene, orjson.dumps(named), clock)
            try_all(scene, laid_out(put(named, (*where[:-1], "format"), "wav")), clock)
    assert scene.outside() == before
    assert not (precious / "nowhere.wav").exists()


@pytest.mark.parametrize("name", ["out.wav", "linked.wav"])
def test_linked_sound_is_missing(scene: Scene, clock: Clock, name: str) -> None:
    """A link in place of a sound file raises `AudioFileMissing`; the transcript is sent."""
    (scene.folder / name).symlink_to(scene.base / "precious" / "secret.wav")
    document = json.loads(scene.original)
    document["turns"][6]["audio"]["file"] = name
    scene.path.write_bytes(orjson.dumps(document))
    clock.now += 7200
    with Conversation.open("s", store=scene.store, clock=clock) as chat:
        turn: Any = chat.turns[6]
        with pytest.raises(AudioFileMissing):
            turn.audio.read()
        assert chat.messages()[-2]["content"] == "Yes"


SOUNDS = [
    b"",
    b"RIFF",
    b"RIFF\0\0\0\0WAVE",
    SOUND[:20],
    SOUND[:43],
    SOUND[:24] + bytes(8) + SOUND[32:],
    SOUND[:16] + b"\xff\xff\xff\xff" + SOUND[20:],
    SOUND[:40] + b"\xff\xff\xff\xff" + SOUND[44:],
    b"RIFF\0\0\0\0WAVE" + b"fmt \0\0\0\0" * 1000,
    b"ID3" + b"\xff" * 20,
    b"ID3\0\0\0\0\0\0\0" * 1000,
    b"\xff\xf3\x84\xc4",
    b"\xff" * 1000,
    b"\xff\xf1" + b"\0" * 50,
    b"OggS",
    b"fLaC",
]


@pytest.mark.slow
@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("named", ["wav", "mp3", "pcm16", "exe", None, ["wav"]])
def test_invalid_sound(scene: Scene, clock: Clock, sound: bytes, named: Any) -> None:
    """Invalid sound, in the document or in a file, is refused or harmless with any format."""
    before = scene.outside()
    (scene.folder / "bad.wav").write_bytes(sound)
    document = json.loads(scene.original)
    text = base64.b64encode(sound).decode()
    places: list[JsonPath] = [
        ("turns", 2, "audio"),
        ("turns", 6, "audio"),
        ("turns", 1, "content", 1, "input_audio"),
    ]
    bodies: list[dict[str, str]] = [{"data": text}, {"file": "bad.wav"}]
    pairs = [*itertools.product(bodies, places)][(len(sound) + len(str(named))) % STRIDE :: STRIDE]
    for number, (body, where) in enumerate(pairs, len(str(named))):
        changed = put(document, where, {**body, "format": named})
        try_all(scene, laid_out(changed) if number % 2 else orjson.dumps(changed), clock)
    assert scene.outside() == before


# --- random damage ---------------------------------------------------------------------------

TOKENS = [
    b"\n",
    b"\n]}\n",
    b"]}",
    b"]",
    b"[",
    b"{",
    b"}",
    b",",
    b",\n",
    b":",
    b'"',
    b"\\",
    b"\0",
    b"\0" * 4096,
    b"\xff",
    b"\xc3",
    b"0",
    b"1e999",
    b"null",
    b'"turns":[',
    b'"turns":[\n',
    b'{"conversation":1,"id":"s","turns":[\n',
    b'{"role":"user","content":"x"}',
    b',\n{"role":"user","content":"x"}',
    b'"file":"../secret.wav"',
]
edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "repeat", "end"]),
        st.floats(0, 1),
        st.integers(0, 200),
        st.sampled_from(TOKENS) | st.binary(max_size=8),
    ),
    min_size=1,
    max_size=4,
)


def edited(data: bytes, changes: Sequence[tuple[str, float, int, bytes]]) -> bytes:
    """Return the document after all changes."""
    for kind, where, size, piece in changes:
        at = int(where * len(data))
        match kind:
            case "flip":
                data = (
                    data[:at]
                    + bytes(b ^ (size & 255 or 1) for b in data[at : at + 1])
                    + (data[at + 1 :])
                )
            case "cut":
                data = data[:at] + data[at + size :]
            case "insert":
                data = data[:at] + piece + data[at:]
            case "repeat":
                data = data[: at + size] + data[at:]
            case _:
                data = data[: max(0, len(data) - size)] + piece
    return data


@given(edits)
def test_random_damage(shared: Scene, changes: list[tuple[str, float, int, bytes]]) -> None:
    """Random flips, cuts, insertions and repetitions of a document are refused or harmless."""
    before = shared.outside()
    try_all(shared, edited(shared.original, changes), Clock(), relabel=len(changes) % 2 > 0)
    assert shared.outside() == before


@given(st.binary(max_size=300))
def test_random_bytes(shared: Scene, data: bytes) -> None:
    """Random bytes, alone or behind an intact header, are refused or harmless."""
    before = shared.outside()
    try_all(shared, data, Clock())
    try_all(shared, shared.original.partition(b"\n")[0] + b"\n" + data, Clock())
    assert shared.outside() == before


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["user", "assistant", "tool", "text", "audio_x", "../secret.wav", "wav"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "audio", "file", "data", "id", "a"])
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(st.lists(st.tuples(st.floats(0, 1), json_values), min_size=1, max_size=3))
def test_random_json_anywhere(shared: Scene, values: list[tuple[float, Any]]) -> None:
    """Random JSON at random paths of the document is refused or harmless."""
    before = shared.outside()
    document = json.loads(shared.original)
    for where, value in values:
        paths = list(paths_in(document))[1:]
        if paths:
            document = put(document, paths[int(where * (len(paths) - 1))], value)
    try_document(shared, document, Clock(START + 7200 * (len(values) % 2)))
    assert shared.outside() == before


@given(json_values)
def test_random_json_as_a_turn(shared: Scene, value: Any) -> None:
    """Random JSON in place of a turn is refused or harmless."""
    before = shared.outside()
    document = json.loads(shared.original)
    role = {"role": ["user", "assistant", "tool", "system"][len(str(value)) % 4]}
    for turn in (
        value,
        {**value, **role} if isinstance(value, dict) else {**role, "content": value},
    ):
        try_document(shared, document | {"turns": [*document["turns"][:2], turn]}, Clock())
    assert shared.outside() == before


def test_healing_changes_one_of_two_turns_on_a_line(scene: Scene, clock: Clock) -> None:
    """`heal` changes only its own turn when two turns share a line with newlines inside."""
    (turn,) = json.loads(scene.original)["turns"][6:7]
    sly = b'{"role":"user","content":"a","more":[{"b":1},\n{"c":2}]},' + orjson.dumps(turn)
    error = Exception(f"Assistant audio {turn['audio']['id']} not found.")
    error.code = "audio_not_found"  # type: ignore[attr-defined]  # as the SDK's errors have it
    header = b'{"conversation":1,"id":"s","created_at":null,"title":null,"settings":{},'
    scene.path.write_bytes(header + b'"metadata":{},"turns":[\n' + sly + b"\n]}\n")
    with Conversation.open("s", store=scene.store, clock=clock) as chat:
        assert chat.heal(error)
        texts = [turn.text for turn in chat.turns]
    after = json.loads(scene.path.read_bytes())
    assert after["turns"][0]["more"] == [{"b": 1}, {"c": 2}]
    assert after["turns"][1]["audio"]["lost"] is True
    assert texts == ["a", "Yes"]

"""Edits of earlier turns: transcripts that are set, answers that are truncated."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest
from openai import BadRequestError, OpenAI

from conversation import (
    AssistantAudio,
    AssistantTurn,
    AudioInput,
    Conversation,
    FileStore,
    Form,
    ToolCall,
    ToolTurn,
    UserTurn,
)
from conversation.errors import AudioFileMissing, InvalidTurn, SaveFailed, UnknownToolCall
from conversation.testing import StandIn
from tests.conftest import Clock
from tests.exchange.test_speech import Talker, samples, spoken_part
from tests.samples import MP3, SOUND, START, spoken
from tests.samples import tool_call as tool_call_entry
from tests.stores.faulty_disk import FaultyDisk, files


@pytest.fixture
def disk() -> FaultyDisk:
    """Provide a disk that can be told to fail."""
    return FaultyDisk()


@pytest.fixture
def store(tmp_path: Path, disk: FaultyDisk) -> FileStore:
    """Provide a store on that disk."""
    store = FileStore(tmp_path / "sessions")
    store._disk = disk
    return store


@pytest.fixture
def talker(client: OpenAI, clock: Clock, store: FileStore) -> Iterator[Talker]:
    """Open the session `retriever` at each call."""
    opened: list[Conversation] = []

    def talk(**settings: Any) -> Conversation:
        chat = Conversation.open("retriever", store=store, client=client, clock=clock, **settings)
        opened.append(chat)
        return chat

    yield talk
    for chat in opened:
        chat.close()


# --- set_transcript ----------------------------------------------------------------------------


def test_set_transcript_replaces_the_words_of_an_answer(
    server: StandIn, chat: Conversation, clock: Clock
) -> None:
    """A transcript set on an answer is sent once the answer's id has expired."""
    first = chat.say("One")
    new = chat.set_transcript(first, "What was really said.")
    assert new is chat.turns[1]
    assert new == attrs.evolve(
        first, audio=attrs.evolve(spoken_part(first), transcript="What was really said.")
    )
    assert chat.render().items[1].form is Form.VOICE
    clock.now += 4000
    chat.say("Two")
    sent = server.requests[-1]["messages"][1]
    assert sent == {"role": "assistant", "content": "What was really said."}


def test_set_transcript_sets_the_words_of_user_sound(server: StandIn, chat: Conversation) -> None:
    """`set_transcript` sets or replaces the words of user sound."""
    silent = chat.add_user("Listen:", AudioInput(SOUND))
    turn = chat.set_transcript(chat.set_transcript(silent, "Good"), "Good dog!")
    assert turn == chat.turns[0]
    assert turn.text == "Listen:\nGood dog!"
    assert chat.transcribe() == ()
    assert server.requests == []


def test_set_transcript_distinguishes_equal_turns(chat: Conversation) -> None:
    """`set_transcript` changes the turn that was passed, not one that is equal."""
    turns = [chat.add_user(AudioInput(SOUND)) for _ in range(3)]
    assert turns[0] == turns[1]
    chat.set_transcript(turns[1], "second")
    assert [turn.text for turn in chat.turns] == ["", "second", ""]


def test_set_transcript_replaces_lone_surrogates(talker: Talker) -> None:
    """Lone surrogates in a transcript are replaced by U+FFFD."""
    chat = talker()
    turn = chat.set_transcript(chat.add_user(AudioInput(SOUND)), "a\ud800b")
    assert turn.text == "a\ufffdb"
    assert talker().turns == chat.turns


@pytest.mark.parametrize(
    ("turn", "found"),
    [
        (UserTurn((AudioInput(SOUND), AudioInput(MP3))), "got one with 2"),
        (UserTurn(("Only words",)), "got one with 0"),
        (AssistantTurn(content="Only words"), "got one with 0"),
    ],
    ids=["two sounds", "a question without sound", "an answer without sound"],
)
def test_set_transcript_needs_exactly_one_sound(
    chat: Conversation, turn: UserTurn | AssistantTurn, found: str
) -> None:
    """`set_transcript` refuses a turn without exactly one sound, and counts its sounds."""
    turn = chat.add(turn)
    before = chat.turns
    with pytest.raises(InvalidTurn, match=found):
        chat.set_transcript(turn, "Good dog!")
    assert chat.turns == before


def test_set_transcript_refuses_a_foreign_turn(chat: Conversation) -> None:
    """`set_transcript` refuses a turn of another conversation."""
    chat.add_user(AudioInput(SOUND))
    foreign = Conversation().add_completion(spoken())
    with pytest.raises(InvalidTurn, match="not in the conversation; take it from turns"):
        chat.set_transcript(foreign, "Good dog!")


@pytest.mark.parametrize("text", [None, 5, b"Good dog!"])
def test_set_transcript_refuses_other_types(chat: Conversation, text: Any) -> None:
    """A transcript that is not a string is refused with the name of its type."""
    chat.add_user(AudioInput(SOUND))
    chat.add_completion(spoken())
    before = chat.turns
    for turn in before:
        with pytest.raises(InvalidTurn, match=f"got {type(text).__name__}"):
            chat.set_transcript(turn, text)
    assert chat.turns == before


def test_set_transcript_is_durable(talker: Talker, store: FileStore) -> None:
    """`set_transcript` saves the words before it returns, and rewrites no sound file."""
    chat = talker()
    chat.add_user(AudioInput(SOUND))
    chat.add_completion(spoken())
    chat.close()
    again = talker()
    before = {path: path.stat().st_ino for path in (store.root / "retriever.audio").iterdir()}
    for turn, words in zip(again.turns, ("asked", "answered"), strict=True):
        again.set_transcript(turn, words)
    reader = talker()
    assert [turn.text for turn in reader.turns] == ["asked", "answered"]
    assert reader.turns == again.turns
    assert spoken_part(reader.turns[1]).read() == SOUND
    after = {path: path.stat().st_ino for path in (store.root / "retriever.audio").iterdir()}
    assert (after, len(after)) == (before, 2)


# --- truncate ----------------------------------------------------------------------------------

PCM = b"".join((i % 30_000).to_bytes(2, "little") for i in range(96_000))
"""4 s of samples."""

WAV = AudioInput.from_pcm(PCM, 24_000).read()
MP3_4S = (MP3 * 4)[: 192 * 167]
"""167 frames of 24 ms: 4.008 s."""

WORDS = "one two three four five six seven eight"


def answered(chat: Conversation, **changes: Any) -> AssistantTurn:
    """Add a question and a spoken answer of 4 s whose id is alive."""
    fields = {
        "id": f"audio_{int(START):08x}{'0' * 24}",
        "expires_at": START + 3600,
        "transcript": WORDS,
        "data": WAV,
    }
    content = changes.pop("content", None)
    chat.add_user("Count!")
    return chat.add(AssistantTurn(content, audio=AssistantAudio(**{**fields, **changes})))


@pytest.mark.parametrize(
    ("data", "audio_format", "heard"),
    [
        (WAV, "wav", AudioInput.from_pcm(PCM[:96_000], 24_000).read()),
        (PCM, "pcm16", PCM[:96_000]),
        (MP3_4S, "mp3", MP3_4S[: 192 * 84]),
        (b"fLaC" + bytes(40), "flac", b"fLaC" + bytes(40)),
    ],
    ids=["wav", "pcm16", "mp3", "flac"],
)
def test_truncate_cuts_sound_and_words(
    chat: Conversation, data: bytes, audio_format: str, heard: bytes
) -> None:
    """`truncate` cuts the words, and sound in WAV, pcm16 and MP3; other formats stay whole."""
    answered(chat, data=data, format=audio_format, duration=4.0)
    turn = chat.truncate(2)
    assert turn is chat.turns[-1]
    audio = spoken_part(turn)
    assert turn.text == "one two three four"
    assert turn.interrupted
    assert (audio.format, audio.duration) == (audio_format, 2.0)
    assert audio.read() == heard


def test_truncated_answer_is_sent_as_transcript(server: StandIn, chat: Conversation) -> None:
    """A truncated answer is sent as its transcript, although its id is alive."""
    server.will_answer(WORDS)
    length = spoken_part(chat.say("Count!")).duration
    assert length is not None
    assert chat.render().items[1].form is Form.VOICE
    turn = chat.truncate(length / 2)
    assert samples(spoken_part(turn).read())
    assert "0 of my earlier answers by voice and 1 from transcripts" in chat.say("Go on").text
    sent = server.requests[-1]["messages"][1]
    assert sent == {"role": "assistant", "content": "one two three four"}


def test_truncate_to_zero_keeps_an_ellipsis(server: StandIn, chat: Conversation) -> None:
    """`truncate(0)` keeps no sound, and an ellipsis for the words."""
    server.will_answer(WORDS)
    chat.say("Count!")
    turn = chat.truncate(0)
    audio = spoken_part(turn)
    assert (turn.text, audio.duration, audio.data, audio.format) == ("…", 0.0, None, None)
    with pytest.raises(LookupError):
        audio.read()
    chat.say("Go on")
    assert server.requests[-1]["messages"][1] == {"role": "assistant", "content": "…"}


@pytest.mark.parametrize("seconds", [4, 4.0, 4.5, math.inf, 10**400])
def test_truncate_beyond_the_end_changes_nothing(
    talker: Talker, store: FileStore, seconds: float
) -> None:
    """`truncate` at or beyond the end writes nothing and keeps the voice."""
    chat = talker()
    turn = answered(chat)
    before = files(store.root)
    inode = (store.root / "retriever.json").stat().st_ino
    assert chat.truncate(seconds) is turn
    assert not turn.interrupted
    assert files(store.root) == before
    assert (store.root / "retriever.json").stat().st_ino == inode
    assert chat.render().items[-1].form is Form.VOICE


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.01, "…"),
        (0.5, "one"),
        (1.2, "one two"),
        (2.5, "one two three four five"),
        (3.9, WORDS),
    ],
)
def test_truncate_cuts_words_in_proportion(chat: Conversation, seconds: float, words: str) -> None:
    """`truncate` keeps whole words in proportion to the seconds."""
    answered(chat)
    assert chat.truncate(seconds).text == words


def test_truncate_cuts_words_without_spaces_by_character(chat: Conversation) -> None:
    """`truncate` cuts text without spaces, such as Chinese, by characters."""
    answered(chat, transcript="今天天气很好我们去公园")
    assert chat.truncate(2).text == "今天天气很好"


@pytest.mark.parametrize("seconds", [0, 0.0, 1.5])
@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize(
    "delta",
    [
        {"audio": {"id": "audio_1", "transcript": "Once upon"}},
        {"audio": {"id": "audio_1", "transcript": "Once"}, "content": "Once"},
        {"content": "Once upon"},
    ],
    ids=["transcript", "both", "text"],
)
def test_answer_whose_sound_had_not_begun_is_cut_to_nothing(
    server: StandIn, chat: Conversation, store: FileStore, delta: Any, saved: bool, seconds: float
) -> None:
    """Of an answer that was interrupted before its sound, nothing was heard."""
    if saved:
        chat = Conversation.open("s", store=store, client=server.client())
    server.will_stream([{"choices": [{"index": 0, "delta": delta}]}])
    with chat.stream("A story") as events:
        list(events)
    turn = chat.truncate(seconds)
    assert (turn.text, turn.interrupted) == ("…", True)
    assert chat.truncate(seconds) is turn
    assert chat.messages()[1] == {"role": "assistant", "content": "…"}
    if saved:
        assert Conversation.open("s", store=store).turns == chat.turns
    with pytest.raises(InvalidTurn, match="seconds must be"):
        chat.truncate(-1)


def test_answer_that_was_written_is_not_truncated(server: StandIn, chat: Conversation) -> None:
    """Text that was asked for has no sound, also where it was interrupted."""
    server.will_stream([{"choices": [{"index": 0, "delta": {"content": "Once"}}]}])
    with chat.stream(AudioInput(SOUND), modalities=["text"]) as events:
        list(events)
    with pytest.raises(InvalidTurn, match="no spoken answer"):
        chat.truncate(0)


def test_truncated_answer_can_be_truncated_further(talker: Talker) -> None:
    """A truncated answer can be truncated further."""
    chat = talker()
    answered(chat)
    chat.truncate(3)
    turn = chat.truncate(1.5)
    assert (turn.text, spoken_part(turn).duration) == ("one two three", 1.5)
    assert samples(spoken_part(turn).read()) == PCM[:72_000]
    assert chat.truncate(1.5) is turn


@pytest.mark.parametrize("transcript", [None, "", WORDS])
def test_truncate_cuts_spoken_words_in_content(chat: Conversation, transcript: str | None) -> None:
    """`truncate` cuts `content` that holds the spoken words, with or without a transcript."""
    answered(chat, content=WORDS, transcript=transcript, id=None)
    turn = chat.truncate(2)
    assert turn.text == "one two three four"
    assert chat.render().items[-1].message == {"role": "assistant", "content": turn.text}


def test_truncate_keeps_written_text(chat: Conversation) -> None:
    """`truncate` keeps text that was written beside the speech."""
    answered(chat, content="A table.")
    assert chat.truncate(2).text == "A table.\n\none two three four"


def test_truncate_adds_no_words(chat: Conversation) -> None:
    """`truncate` of an answer without a transcript adds none."""
    answered(chat, transcript=None)
    turn = chat.truncate(2)
    assert (turn.text, spoken_part(turn).transcript) == ("", None)


def test_truncate_replaces_the_sound_file(talker: Talker, store: FileStore) -> None:
    """`truncate` writes a new sound file, removes the old one, and touches no other."""
    chat = talker()
    chat.add_user(AudioInput(SOUND))
    chat.add_completion(spoken())
    answered(chat)
    folder = store.root / "retriever.audio"
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in folder.iterdir()}
    [old] = (name for name in before if name.startswith("0004"))
    chat.truncate(2)
    after = {path.name: (path.stat().st_ino, path.read_bytes()) for path in folder.iterdir()}
    [new] = after.keys() - before.keys()
    assert before.keys() - after.keys() == {old}
    assert new.startswith("0004-")
    assert samples(after.pop(new)[1]) == PCM[:96_000]
    assert after == {name: file for name, file in before.items() if name != old}
    again = talker()
    assert again.turns == chat.turns
    assert spoken_part(again.turns[-1]).read() == spoken_part(chat.turns[-1]).read()
    assert again.render().items[-1].form is Form.TRANSCRIPT


def test_truncate_works_after_a_resume(talker: Talker) -> None:
    """`truncate` cuts an answer of a resumed session."""
    with talker() as chat:
        answered(chat)
    again = talker()
    turn = again.truncate(1)
    assert (turn.text, samples(spoken_part(turn).read())) == ("one two", PCM[:48_000])
    assert talker().turns == again.turns


def test_truncate_without_the_sound_file_cuts_the_words(talker: Talker, store: FileStore) -> None:
    """`truncate` cuts the words of an answer whose sound file is gone."""
    chat = talker()
    answered(chat)
    [path] = (store.root / "retriever.audio").iterdir()
    path.unlink()
    turn = chat.truncate(2)
    assert (turn.text, spoken_part(turn).duration) == ("one two three four", 2.0)
    with pytest.raises(AudioFileMissing):
        spoken_part(turn).read()
    assert talker().turns == chat.turns


def tool_call() -> AssistantTurn:
    """Return an answer that only calls a tool."""
    return AssistantTurn(tool_calls=(ToolCall("a", "look_up", "{}"),))


@pytest.mark.parametrize(
    ("add", "found"),
    [
        (lambda _: None, "there is no turn"),
        (lambda chat: chat.add_user("Hello"), "the last turn is no spoken answer"),
        (lambda chat: chat.add_user(AudioInput(SOUND)), "the last turn is no spoken answer"),
        (lambda chat: chat.add_assistant("Written."), "the last turn is no spoken answer"),
        (
            lambda chat: chat.add(tool_call()) and chat.add_tool_result("a", "42"),
            "the last turn is no spoken answer",
        ),
        (
            lambda chat: answered(chat, data=b"OggS" + bytes(40)),
            "the length of the last answer is unknown",
        ),
        (lambda chat: answered(chat, data=None), "the length of the last answer is unknown"),
    ],
    ids=["empty", "text", "question", "written", "tool result", "opus", "no data"],
)
def test_truncate_needs_a_spoken_answer_of_known_length(
    chat: Conversation, add: Callable[[Conversation], object], found: str
) -> None:
    """`truncate` refuses a last turn that is not a spoken answer of known length."""
    add(chat)
    before = chat.turns
    with pytest.raises(InvalidTurn, match=found):
        chat.truncate(0.01)
    assert chat.turns == before


# --- rewind, remove, clear, extend ------------------------------------------------------------


@pytest.mark.parametrize("edit", ["rewind", "remove", "truncate", "set_transcript"])
def test_edits_distinguish_equal_turns(chat: Conversation, edit: str) -> None:
    """An edit concerns the very turn that was passed, not one that is equal."""
    turns = [answered(chat) for _ in range(3)]
    assert turns[0] == turns[1] == turns[2]
    edits: dict[str, tuple[Callable[[], object], list[str]]] = {
        "rewind": (lambda: chat.rewind(turns[1]), [WORDS]),
        "remove": (lambda: chat.remove(turns[1]), [WORDS, WORDS]),
        "truncate": (lambda: chat.truncate(0.5, turns[1]), [WORDS, "one", WORDS]),
        "set_transcript": (lambda: chat.set_transcript(turns[1], "x"), [WORDS, "x", WORDS]),
    }
    change, words = edits[edit]
    change()
    answers = [turn for turn in chat.turns if isinstance(turn, AssistantTurn)]
    assert [turn.text for turn in answers] == words
    assert all(any(turn is one for one in turns) for turn in answers if turn.text == WORDS)
    assert not any(turn is turns[1] for turn in chat.turns)


def test_equal_turns_stay_apart_when_others_rewrite_the_session(talker: Talker) -> None:
    """A turn that others left as it was is the same object afterwards; of equal ones, too."""
    talker().extend([UserTurn("ok")] * 3)
    mine = talker()
    second = mine.turns[1]
    talker().set_title("another")
    mine.rewind(second)
    assert (mine.title, len(mine.turns)) == ("another", 1)


def test_turn_that_equals_several_is_refused(chat: Conversation) -> None:
    """Nobody can tell which of them is meant by a turn that is none of them."""
    ok, _ = chat.extend([UserTurn("ok")] * 2)
    with pytest.raises(InvalidTurn, match="equals 2 of the turns"):
        chat.rewind(attrs.evolve(ok))
    assert len(chat.turns) == 2


def test_turn_is_found_after_its_words_or_its_id_were_lost(
    server: StandIn, talker: Talker, clock: Clock
) -> None:
    """A turn that a program holds is found after a transcript or a lost id has replaced it."""
    chat = talker()
    question = chat.add_user(AudioInput(SOUND))
    reply = chat.reply()
    clock.now += 1
    server.forget(str(spoken_part(reply).id))
    chat.set_transcript(question, "Hm?")
    chat.say("Two")
    assert not any(turn in (question, reply) for turn in chat.turns)
    again = talker()
    assert again.truncate(0.01, reply) == again.turns[1]
    assert [turn.text for turn in again.remove(question)] == ["Hm?"]
    assert [turn.text for turn in again.rewind(reply)][1:] == ["Two", chat.turns[-1].text]
    assert again.turns == ()


def test_similar_turn_of_another_conversation_is_not_taken(
    client: OpenAI, clock: Clock, chat: Conversation
) -> None:
    """An answer of another conversation at the same time is none of these turns."""
    other = Conversation(client=client, clock=clock)
    for each in (chat, other):
        each.say(AudioInput(SOUND))
        each.say("Hi")
    other.set_transcript(other.turns[0], "Hm?")
    for turn in (other.turns[1], other.turns[2], UserTurn("Hi"), AssistantTurn("Hi")):
        if turn not in chat.turns:
            with pytest.raises(InvalidTurn, match="not in the conversation; take it from turns"):
                chat.rewind(turn)
    assert len(chat.turns) == 4


def test_removed_turns_keep_their_cost_and_forks_count_their_own(chat: Conversation) -> None:
    """Removed turns still count; of a fork's inherited turns none counts, whichever are removed."""
    for words in ("One", "Two", "Three"):
        chat.say(words)
    spent = chat.usage
    chat.remove(chat.turns[1], chat.turns[4])
    assert chat.usage == spent
    fork = chat.fork()
    own = fork.say("Four").usage
    assert fork.usage == own
    fork.remove(fork.turns[2], fork.turns[0])
    assert fork.usage == own
    fork.remove(fork.turns[0], fork.turns[-1])
    assert fork.usage == own
    fork.clear()
    assert fork.usage == own
    assert chat.usage == spent


def test_remove_keeps_unknown_keys_of_the_turns_behind(talker: Talker, store: FileStore) -> None:
    """Keys of a newer version survive, also inside of turns that move up."""
    chat = talker()
    for _ in range(2):
        chat.add_user(AudioInput(SOUND))
        chat.add_completion(spoken())
    path = store.root / "retriever.json"
    document = orjson.loads(path.read_bytes())
    for entry in document["turns"]:
        entry["mood"] = "calm"
        inner = entry.get("audio") or entry["content"][0]["input_audio"]
        inner |= {"pitch": 440, "tones": [{"a": None}]}
        entry["usage"] = {"prompt_tokens": 5, "novel": {"x": 1.5}, "completion_tokens": 0}
        entry["tool_calls"] = [{**tool_call_entry("a"), "speed": None}]
    path.write_bytes(orjson.dumps(document))
    again = talker()
    again.remove(again.turns[0], again.turns[2])
    assert orjson.loads(path.read_bytes())["turns"] == document["turns"][1::2]
    assert talker().turns == again.turns
    assert len(list((store.root / "retriever.audio").iterdir())) == 2


def test_remove_after_an_unsaved_heal_writes_all_turns(
    talker: Talker, disk: FaultyDisk, server: StandIn
) -> None:
    """A dead id that could not be saved is saved with the removal."""
    chat = talker()
    lost = spoken_part(chat.say("One"))
    chat.say("Two")
    server.forget(str(lost.id))
    request = chat.request()
    with pytest.raises(BadRequestError) as caught:
        chat._client.chat.completions.create(**request)  # type: ignore[union-attr]
    disk.arm("replace")
    assert chat.heal(caught.value)
    assert disk.fails is None
    chat.remove(chat.turns[0])
    again = talker()
    assert again.turns == chat.turns
    assert spoken_part(again.turns[0]).lost


def test_orphaned_result_is_kept_and_not_sent(chat: Conversation) -> None:
    """The result of a removed call stays a turn, and is left out of requests."""
    chat.add_user("Hi")
    chat.add(tool_call())
    chat.add_tool_result("a", "42")
    chat.remove(chat.turns[1])
    assert [turn.role for turn in chat.turns] == ["user", "tool"]
    assert chat.messages() == [{"role": "user", "content": "Hi"}]


def test_extend_is_one_write(talker: Talker, disk: FaultyDisk) -> None:
    """Many turns are one rename, behind the sound that they name."""
    chat = talker()
    chat.add_user(AudioInput(SOUND))
    whole = ["create", "write", "sync", "replace", "sync_folder"]
    disk.done.clear()
    chat.extend([UserTurn(f"{number}") for number in range(50)])
    assert disk.done == whole
    disk.done.clear()
    chat.extend([UserTurn("One"), UserTurn((AudioInput(SOUND),)), UserTurn("Two")])
    assert disk.done == [*whole, *whole]
    disk.done.clear()
    chat.extend([])
    assert disk.done == []
    assert talker().turns == chat.turns


def test_extend_takes_results_of_calls_among_the_turns(chat: Conversation) -> None:
    """A result may answer a call of the same `extend`, or an open one before, each once."""
    chat.add(tool_call())
    with pytest.raises(UnknownToolCall, match="no tool call 'a' waits"):
        chat.extend([ToolTurn("a", "1"), ToolTurn("a", "2")])
    chat.extend([ToolTurn("a", "1"), tool_call(), tool_call(), ToolTurn("a", "2")])
    chat.add_tool_result("a", "3")
    with pytest.raises(UnknownToolCall):
        chat.add_tool_result("a", "4")
    chat.clear()
    with pytest.raises(UnknownToolCall):
        chat.add_tool_result("a", "5")


@pytest.mark.parametrize("seconds", [math.nan, -1, -math.inf, True, "2", None])
def test_truncate_refuses_invalid_seconds(chat: Conversation, seconds: Any) -> None:
    """`truncate` refuses seconds that are negative or not a number, and shows them."""
    turn = answered(chat)
    with pytest.raises(InvalidTurn, match=f"seconds must be a number >= 0, got {seconds!r}"):
        chat.truncate(seconds)
    assert chat.turns[-1] is turn


# --- failing disks -----------------------------------------------------------------------------


CHANGES: dict[str, Callable[[Conversation], object]] = {
    "truncate": lambda chat: chat.truncate(2),
    "set_transcript": lambda chat: chat.set_transcript(chat.turns[-1], "Other words"),
    "transcribe": lambda chat: chat.transcribe(),
}


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("operation", ["create", "write", "sync", "replace"])
@pytest.mark.parametrize("change", CHANGES)
def test_failing_disk_changes_nothing(
    talker: Talker,
    store: FileStore,
    disk: FaultyDisk,
    change: str,
    operation: str,
    error: int,
) -> None:
    """An edit that the disk refuses changes neither memory nor disk, and can be retried."""
    chat = talker()
    chat.add_user(AudioInput(SOUND))
    answered(chat)
    before, turns = files(store.root), chat.turns
    disk.arm(operation, 0, error)
    with pytest.raises(SaveFailed) as caught:
        CHANGES[change](chat)
    assert caught.value.turn is None
    assert chat.turns == turns
    after = files(store.root)
    # A new sound file may stay after a failed fsync of its folder.
    assert {n: d for n, d in after.items() if operation != "sync" or n in before} == before
    assert talker().turns == turns
    CHANGES[change](chat)
    assert chat.turns != turns
    assert talker().turns == chat.turns


def test_truncate_keeps_the_old_sound_if_the_rewrite_fails(
    talker: Talker, store: FileStore, disk: FaultyDisk
) -> None:
    """`truncate` keeps the old sound if rewriting the document fails."""
    chat = talker()
    answered(chat)
    before = files(store.root)
    disk.arm("replace", 1)
    with pytest.raises(SaveFailed):
        chat.truncate(2)
    assert files(store.root) == before
    assert spoken_part(chat.turns[-1]).read() == WAV

"""`Conversation`: the turns, what is sent of them, and the exchange with the model."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, cast

import attrs
import orjson

from conversation import (
    _client,
    _completion,
    _entries,
    _exchange,
    _json,
    _rendering,
    _settings,
    _wire,
)
from conversation._inputs import Part
from conversation._turns import (
    AssistantTurn,
    SystemTurn,
    ToolTurn,
    Turn,
    Usage,
    UserTurn,
)
from conversation.errors import InvalidSetting, InvalidTurn, UnknownToolCall
from conversation.stores import _document

if TYPE_CHECKING:
    from openai import OpenAI

log = logging.getLogger("conversation")

_T = TypeVar("_T", bound=Turn)


class Conversation:
    """A conversation with a voice model, in memory.

    Args:
        client: An `openai.OpenAI`. None: one for the whole process, made when first needed from
            `OPENAI_API_KEY` and the like.
        model: The model's name.
        voice: The voice that answers.
        audio_format: What spoken answers come in: `wav`, `mp3`, `flac`, `opus`, `aac` or `pcm16`
            (24 kHz mono s16le without a header).
        modalities: `("text", "audio")` for spoken answers, `("text",)` for written ones.
        instructions: What the model is told before everything else.
        tools: Descriptions of tools, as `chat.completions.create` takes them; the calls are left
            to you, see `add_tool_result`.
        clock: Gives Unix time in seconds.
        expiry_margin: Seconds before `expires_at` from which an audio id is not used any more.

    Raises:
        InvalidSetting: if one of them cannot work.
    """

    def __init__(
        self,
        *,
        client: OpenAI | None = None,
        model: str = "gpt-audio-1.5",
        voice: str | Mapping[str, Any] = "alloy",
        audio_format: str = "wav",
        modalities: Iterable[str] = ("text", "audio"),
        instructions: str | None = None,
        tools: Iterable[Mapping[str, Any]] = (),
        clock: Callable[[], float] = time.time,
        expiry_margin: float = 30.0,
    ) -> None:
        self._client = client
        self._clock = clock
        self._settings = _settings.Settings(
            model=model,
            voice=voice,
            audio_format=audio_format,
            modalities=modalities,
            instructions=instructions,
            tools=tools,
            expiry_margin=expiry_margin,
        )
        self._header: dict[str, Any] = {
            "id": None,
            "created_at": _entries.time_text(self._now()),
            "title": None,
            "settings": {},
            "metadata": {},
        }
        self._foreign_settings: dict[str, Any] = {}
        self._turns: list[Turn] = []
        self._skew = 0.0
        self._asked = _completion.Asked(
            sent_at=None, audio_format=self._settings.audio_format, speaks=False
        )
        self._prepared: list[_rendering.Prepared] = []
        self._sent: tuple[Sequence[_rendering.Prepared], _rendering.Moment] = ((), self._moment(0))
        self._heals = 0

    def __repr__(self) -> str:
        model = self._settings.model
        return f"<{type(self).__name__} of {len(self._turns)} turns with {model}>"

    # --- adding turns --------------------------------------------------------------------------

    def add_user(self, *content: Part) -> UserTurn:
        """Add what the user said, wrote or showed.

        Args:
            content: One or more of `str`, `AudioInput`, `ImageInput`, `FileInput`.

        Raises:
            InvalidTurn: if there is nothing in it, or something else.
        """
        return self._added(UserTurn(content))

    def add_assistant(self, text: str) -> AssistantTurn:
        """Add an answer in words, such as a greeting that the model did not make itself.

        Raises:
            InvalidTurn: if `text` is empty or no text.
        """
        turn = AssistantTurn(content=text)
        if not turn.text.strip():
            msg = "an assistant turn needs words; this one has none"
            raise InvalidTurn(msg)
        return self._added(turn)

    def add_system(self, text: str) -> SystemTurn:
        """Add words from the program to the model, at this place of the conversation.

        What holds for the whole conversation belongs into `instructions`.

        Raises:
            InvalidTurn: if `text` is empty or no text.
        """
        return self._added(SystemTurn(text))

    def add_completion(self, completion: Any) -> AssistantTurn:
        """Add the model's answer, from a call of your own.

        After `request`, the server's clock is read off it too.

        Args:
            completion: What `chat.completions.create` returned, or its dict; with `stream=True`
                the stream itself, or any iterable of its chunks.

        Raises:
            InvalidCompletion: if there is no answer in it, or more than one (`n` above 1).
        """
        whole = _completion.completion_object(completion)
        turn = self._added(_completion.turn_from_completion(whole, self._asked))
        skew = _completion.skew_of(whole, self._asked)
        if skew is not None:
            self._skew = skew
        self._asked = attrs.evolve(self._asked, sent_at=None)
        return turn

    def add_tool_result(self, tool_call_id: str, content: Any) -> ToolTurn:
        """Add the answer to a tool call.

        Args:
            tool_call_id: The `id` of a `ToolCall` of an earlier turn.
            content: The result: text, or anything that JSON can hold.

        Raises:
            UnknownToolCall: if no call with this id waits for an answer.
            InvalidSetting: if JSON cannot hold the content.
        """
        if not isinstance(content, str):
            _json.check_json(content, "content")
            content = orjson.dumps(content).decode()
        return self._added(ToolTurn(tool_call_id, content))

    def add(self, turn: _T) -> _T:
        """Add a turn that was made before, such as one of another conversation.

        Raises:
            InvalidTurn: if it is empty or no turn.
            UnknownToolCall: if it answers a call that is not open.
        """
        return self._added(turn)

    def _added(self, turn: _T) -> _T:
        self._check(turn)
        if turn.at is None:
            turn = attrs.evolve(turn, at=self._now())
        self._turns.append(turn)
        self._heals = 0
        return turn

    def _check(self, turn: Turn) -> None:
        match turn:
            case UserTurn():
                if not any(not isinstance(part, str) or part.strip() for part in turn.content):
                    msg = "a user turn needs words, sound, a picture or a file; this one has none"
                    raise InvalidTurn(msg)
            case SystemTurn():
                if not turn.text.strip():
                    msg = "a system turn needs words; this one has none"
                    raise InvalidTurn(msg)
            case ToolTurn():
                waiting = tuple(_rendering.open_calls(self._turns))
                if turn.tool_call_id not in waiting:
                    known = ", ".join(map(repr, waiting)) or "none"
                    msg = (
                        f"no tool call {turn.tool_call_id!r} waits for an answer (waiting: "
                        f"{known}); answer each call of an AssistantTurn's tool_calls once"
                    )
                    raise UnknownToolCall(msg, tool_call_id=turn.tool_call_id, open_calls=waiting)
            case AssistantTurn():
                pass
            case _:
                msg = (
                    f"expected a UserTurn, AssistantTurn, SystemTurn or ToolTurn, got "
                    f"{type(turn).__name__}; add_user(…) takes text and sound"
                )
                raise InvalidTurn(msg)

    # --- what is sent --------------------------------------------------------------------------

    def request(self, **options: Any) -> dict[str, Any]:
        """The keyword arguments of the next `chat.completions.create`.

        For a call of your own: pass them to the client, and its answer to `add_completion`. With
        `stream=True` sound is asked for as `pcm16`, the only format that streams, and usage too.
        Without audio in `modalities` there is no `audio`.

        Args:
            options: Arguments of your own, which win over the settings.

        Raises:
            InvalidSetting: if an option cannot work in a conversation (`messages`, `n` above 1)
                or cannot be written as JSON.
        """
        request = self._settings.request(options)
        speaks = _settings.asks_for_sound(request)
        audio_format = request["audio"].get("format") if speaks else None
        return {**request, "messages": self._sending(speaks=speaks, audio_format=audio_format)}

    def messages(self) -> list[_wire.Message]:
        """The messages alone, as `request` sends them now."""
        speaks = "audio" in self._settings.modalities
        return self._sending(speaks=speaks, audio_format=self._settings.audio_format)

    def render(self) -> _rendering.Rendering:
        """What the next request would send, with each message's turn and why it took its form."""
        now = self._moment(self._clock())
        return _rendering.explained(self._prepare(), self._settings.instructions, now)

    def heal(self, error: BaseException) -> bool:
        """Take in an error of a call of your own: did the server forget an answer's audio id?

        If it is `audio_not_found` about this history, the dead id is given up for good and the
        answer goes as its transcript from now on; call again with a new `request`. The second
        time in a row all ids that were sent are given up, so it takes two extra calls at most.

        Returns:
            Whether anything was given up, so that calling again makes sense.
        """
        known = {
            turn.audio.id
            for turn in self._turns
            if isinstance(turn, AssistantTurn) and turn.audio and turn.audio.id
            if not turn.audio.lost
        }
        prepared, at = self._sent
        sent = _rendering.voices(prepared, self._settings.instructions, at)
        dead = _exchange.dead_ids(error, sent, known, self._heals)
        if not dead:
            return False
        self._heals += 1
        self._replace_turns(_without_id(turn, dead) for turn in self._turns)
        log.info("the server lost %d audio id(s); their transcripts are sent instead", len(dead))
        return True

    def _sending(self, *, speaks: bool, audio_format: str | None) -> list[_wire.Message]:
        """The messages of a request that is sent now, noted for its answer."""
        now = self._clock()
        self._asked = _completion.Asked(now, audio_format, speaks)
        self._sent = (self._prepare(), self._moment(now))
        prepared, at = self._sent
        return _rendering.messages(prepared, self._settings.instructions, at)

    def _prepare(self) -> tuple[_rendering.Prepared, ...]:
        done = len(self._prepared)
        self._prepared += map(_rendering.prepare, self._turns[done:])
        return tuple(self._prepared)

    def _moment(self, now: float) -> _rendering.Moment:
        return _rendering.Moment(now + self._skew, self._settings.expiry_margin)

    def _replace_turns(self, turns: Iterable[Turn]) -> None:
        self._turns = list(turns)
        self._prepared = []

    # --- talking to the model ------------------------------------------------------------------

    def say(self, *content: Part, **options: Any) -> AssistantTurn:
        """Add a user turn, and get the model's answer.

        Args:
            content: As in `add_user`.
            options: Go through to `chat.completions.create`, over the settings.

        Raises:
            InvalidTurn: if there is no content.
            InvalidSetting: if an option cannot work.
            InvalidCompletion: if the server answered with something else than an answer.
            openai.OpenAIError: whatever the SDK raises. Where trying again can mend it, the user
                turn is kept and `reply` goes on; after any other refusal it is taken back. A note
                on the error says which.
        """
        client = _client.client_or_default(self._client)
        self._settings.request(options)
        turn = self.add_user(*content)
        try:
            return self._exchanged(client, options)
        except Exception as error:
            if _client.is_refused(error) and self._turns[-1] is turn:
                self._replace_turns(self._turns[:-1])
                error.add_note("the user turn was taken back: the chat is as it was before")
            else:
                error.add_note("the user turn is kept: reply() tries again")
            raise

    def reply(self, **options: Any) -> AssistantTurn:
        """Get the model's answer to what is already there.

        Args:
            options: As in `say`.

        Raises:
            InvalidTurn: if there is nothing to answer yet.
            InvalidSetting, InvalidCompletion, openai.OpenAIError: as in `say`.
        """
        if not self._turns and self._settings.instructions is None:
            msg = "there is nothing to answer yet; add_user(…) first, or call say(…)"
            raise InvalidTurn(msg)
        return self._exchanged(_client.client_or_default(self._client), options)

    def _exchanged(self, client: OpenAI, options: dict[str, Any]) -> AssistantTurn:
        self._heals = 0
        try:
            return _client.run(_exchange.exchange(self, options), client)
        except Exception as error:
            _client.add_remedy(error)
            raise

    # --- what is there -------------------------------------------------------------------------

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns, oldest first."""
        return tuple(self._turns)

    @property
    def usage(self) -> Usage:
        """Tokens of all answers together, as the API counted them."""
        spent = (turn.usage for turn in self._turns if isinstance(turn, AssistantTurn))
        return sum((usage for usage in spent if usage is not None), Usage())

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    # --- files ---------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write everything, sound included, into one JSON file, and return its path.

        The file is written beside its place and renamed into it, so there is always the old
        content or the new. `client` and `clock` are not saved.

        Raises:
            SaveFailed: if it cannot be written; a file that was there is unchanged.
        """
        path = Path(path)
        header = self._header | {"settings": self._foreign_settings | self._settings.saved()}
        entries = (orjson.dumps(_entries.entry_from_turn(turn)) for turn in self._turns)
        _document.replace(path, _document.dump(header, entries))
        return path

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        client: OpenAI | None = None,
        clock: Callable[[], float] = time.time,
        **settings: Unpack[_settings.SettingsGiven],
    ) -> Self:
        """The conversation that `save` wrote, in memory.

        Args:
            path: The file.
            client: As in `Conversation`.
            clock: As in `Conversation`.
            settings: Settings of `Conversation`, which win over those in the file.

        Raises:
            SessionCorrupt: if it is no saved conversation, or a damaged one.
            SessionTooNew: if a later version wrote it.
            OSError: if it cannot be read.
        """
        path = Path(path)
        data = path.read_bytes()
        header, entries = _document.parse(data, path)
        saved, foreign = _read_settings(header.get("settings"), path)
        chat = cls(client=client, clock=clock, **(saved | settings))
        chat._header |= header
        chat._foreign_settings = foreign
        ours = data.count(b"\n") == len(entries) + 2
        for position, entry in enumerate(entries):
            try:
                chat._turns.append(_entries.turn_from_entry(entry))
            except InvalidTurn as error:
                line = position + 2 if ours else None
                raise _document.corrupt(path, f"turn {position + 1}: {error}", line) from error
        return chat


def _read_settings(saved: object, path: Path) -> tuple[_settings.SettingsGiven, dict[str, Any]]:
    """The settings in a file: those known here, checked, and those of another version."""
    if saved is not None and not isinstance(saved, dict):
        raise _document.corrupt(path, 'what is under "settings" is no object')
    names = [field.name for field in attrs.fields(_settings.Settings)]
    known = {key: value for key, value in (saved or {}).items() if key in names}
    try:
        _settings.Settings(**known)
    except (InvalidSetting, TypeError) as error:
        raise _document.corrupt(path, f'under "settings": {error}') from error
    foreign = {key: value for key, value in (saved or {}).items() if key not in names}
    return cast("_settings.SettingsGiven", known), foreign


def _without_id(turn: Turn, dead: set[str]) -> Turn:
    if isinstance(turn, AssistantTurn) and turn.audio and turn.audio.id in dead:
        return attrs.evolve(turn, audio=attrs.evolve(turn.audio, lost=True))
    return turn

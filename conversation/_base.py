"""What a conversation is before it talks: settings, turns, labels."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import orjson

from conversation import _completion, _entries, _json, _rendering, _settings
from conversation._history import History
from conversation._inputs import Part, clean_text
from conversation._turns import AssistantTurn, SystemTurn, ToolTurn, Turn, Usage, UserTurn
from conversation.errors import InvalidSetting, InvalidTurn, UnknownToolCall
from conversation.stores import Recovery

if TYPE_CHECKING:
    from openai import OpenAI

_T = TypeVar("_T", bound=Turn)


class Base:
    """Settings, turns and labels; `Conversation` says what the arguments mean."""

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
        if type(client).__name__.startswith("Async"):
            msg = f"client is an openai.OpenAI here, not {type(client).__name__}"
            raise InvalidSetting(msg)
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
        self._history = History(
            {
                "id": None,
                "created_at": _entries.time_text(self._now()),
                "title": None,
                "settings": self._settings.saved(),
                "metadata": {},
            }
        )
        self._skew = 0.0
        self._asked = _completion.Asked(
            sent_at=None, audio_format=self._settings.audio_format, speaks=False
        )
        self._sent: _rendering.Sent = ((), _rendering.Moment(0.0, 0.0))
        self._heals = 0

    def __repr__(self) -> str:
        model = self._settings.model
        name = "" if self.id is None else f" {self.id!r}"
        return f"<{type(self).__name__}{name} of {len(self._history)} turns with {model}>"

    # --- adding turns --------------------------------------------------------------------------

    def add_user(self, *content: Part) -> UserTurn:
        """Add what the user said, wrote or showed.

        Args:
            content: One or more of `str`, `AudioInput`, `ImageInput`, `FileInput`.

        Raises:
            InvalidTurn: if there is nothing in it, or something else.
        """
        return self._added(UserTurn(content, at=self._now()))

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
        skew = _completion.skew_of(whole, self._asked)
        turn = self._added(_completion.turn_from_completion(whole, self._asked))
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
            content = _json.json_bytes(content, "content").decode()
        return self._added(ToolTurn(tool_call_id, content))

    def add(self, turn: _T) -> _T:
        """Add a turn that was made before, such as one of another conversation.

        Raises:
            InvalidTurn: if it is no turn, or one of the user or the system without content.
            UnknownToolCall: if it answers a call that is not open.
        """
        return self._added(turn)

    def _added(self, turn: _T) -> _T:
        with self._history:
            self._check(turn)
            if turn.at is None:
                turn = attrs.evolve(turn, at=self._now())
            turn = self._history.add(turn)
            self._heals = 0
            return turn

    def _check(self, turn: Turn) -> None:
        match turn:
            case UserTurn():
                if not any(
                    part.strip() if isinstance(part, str) else part for part in turn.content
                ):
                    msg = "a user turn needs words, sound, a picture or a file; this one has none"
                    raise InvalidTurn(msg)
            case SystemTurn():
                if not turn.text.strip():
                    msg = "a system turn needs words; this one has none"
                    raise InvalidTurn(msg)
            case ToolTurn():
                waiting = tuple(_rendering.open_calls(self._history.turns))
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

    # --- what is there -------------------------------------------------------------------------

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns, oldest first."""
        return self._history.copied()

    @property
    def usage(self) -> Usage:
        """Tokens of all answers together, as the API counted them."""
        spent = (turn.usage for turn in self._history.turns if isinstance(turn, AssistantTurn))
        return sum((usage for usage in spent if usage is not None), Usage())

    @property
    def id(self) -> str | None:
        """What the session is opened by; None in memory."""
        session_id = self._history.header["id"]
        return session_id if isinstance(session_id, str) else None

    @property
    def title(self) -> str | None:
        """What the session is called; see `set_title`."""
        title = self._history.header.get("title")
        return title if isinstance(title, str) else None

    @property
    def metadata(self) -> dict[str, Any]:
        """What the program noted about the session, as a copy; see `set_metadata`."""
        metadata = self._history.header.get("metadata")
        return copy.deepcopy(metadata) if isinstance(metadata, dict) else {}

    @property
    def recovered(self) -> Recovery | None:
        """What was repaired when the session was opened; None if it was whole."""
        return self._history.recovered

    def set_title(self, text: str | None) -> None:
        """Call the session something.

        Raises:
            InvalidSetting: if it is no text.
            SaveFailed, SessionLocked, SessionChanged: as `open` says; then nothing is changed.
        """
        if text is not None and not isinstance(text, str):
            msg = f"a title is text or None, not {type(text).__name__}"
            raise InvalidSetting(msg)
        self._relabel("title", text and clean_text(text))

    def set_metadata(self, mapping: Mapping[str, Any]) -> None:
        """Note something about the session, in the place of what was noted before.

        Args:
            mapping: Anything that JSON can hold, by names.

        Raises:
            InvalidSetting: if JSON cannot hold it.
            SaveFailed, SessionLocked, SessionChanged: as `open` says; then nothing is changed.
        """
        if not isinstance(mapping, Mapping):
            msg = f"metadata is a mapping, not {type(mapping).__name__}"
            raise InvalidSetting(msg)
        self._relabel("metadata", orjson.loads(_json.json_bytes(mapping, "metadata")))

    def _relabel(self, name: str, value: Any) -> None:
        with self._history:
            self._history.relabel(name, value)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

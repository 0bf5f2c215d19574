"""What can be done with a conversation by whoever holds it; both twins do it through this."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

import attrs

from conversation._exchange import exchange
from conversation._exchange.sending import Asking, Sending
from conversation._exchange.speech import Words
from conversation._exchange.steps import Over, Steps, Wait, Work, work
from conversation._history.edits import cut
from conversation._history.history import History
from conversation._rendering import explanation, messages, settings, window
from conversation._rendering.explanation import Rendering, explained
from conversation._rendering.forms import Form, Moment, Prepared
from conversation._rendering.messages import voices
from conversation._rendering.settings import SPEECH_MODEL, Settings, ToolGiven, given
from conversation._rendering.window import Context, marked
from conversation._tools import Tool, by_name
from conversation._values.parts import AudioInput, Part
from conversation._values.sound import wav_from_pcm
from conversation._values.turns import (
    AssistantAudio,
    AssistantTurn,
    SystemTurn,
    ToolCall,
    ToolTurn,
    Turn,
    UserTurn,
    open_calls,
)
from conversation._wire.completions import Asked, completion_object, skew_of, turn_from_completion
from conversation._wire.failures import dead_ids, tokens_refused
from conversation._wire.messages import Message
from conversation._wire.reading import usage_from_entry
from conversation.errors import (
    InvalidCompletion,
    InvalidSetting,
    InvalidTurn,
    SaveFailed,
    SessionChanged,
    UnknownToolCall,
)

log = logging.getLogger("conversation")

_T = TypeVar("_T", bound=Turn)
_P = ParamSpec("_P")
_R = TypeVar("_R")


class Talk:
    """A conversation's settings, turns and clock. Who calls a method that changes it, holds it.

    Attributes:
        settings: How the model is asked.
        history: Turns and labels.
        clock: Gives Unix time in seconds.
        sending: What of the history is sent.
        asking: The last request.
    """

    # `can_await`: whether tools may be async.
    def __init__(
        self,
        settings: Settings,
        history: History,
        clock: Callable[[], float],
        *,
        context: Context,
        can_await: bool,
    ) -> None:
        self._can_await = can_await
        self._usable(settings.tools)
        self.settings = settings
        self.history = history
        self.clock = clock
        self.sending = Sending(settings, context)
        asked = Asked(None, settings.audio_format, speaks=False)
        self.asking = Asking(asked, settings.model, settings.tools)
        self._skew = 0.0
        self._words = Words()
        self._heals = 0

    def like(self, other: Talk) -> None:
        """Take over what another has learnt of server and history."""
        self._skew = other._skew
        self.sending.like(other.sending)

    @property
    def max_tool_rounds(self) -> int:
        """How often tools are run before the model has to answer."""
        return self.settings.max_tool_rounds

    def now(self) -> datetime:
        """The time, for a turn."""
        return datetime.fromtimestamp(self.clock(), UTC)

    # --- what is sent --------------------------------------------------------------------------

    def request(self, **options: Any) -> dict[str, Any]:
        """The next request of an exchange, with the options of a caller."""
        request, self.asking = self._rendered(options)
        return request

    def shown_request(self, **options: Any) -> dict[str, Any]:
        """The same for a caller; an exchange that is under way is not disturbed."""
        request, asking = self._rendered(options)
        self._note(asking)
        return request

    def messages(self) -> list[Message]:
        """The messages of the next request."""
        asked = attrs.evolve(self.asking.asked, sent_at=self.clock())
        messages, asking = self._sent_with(attrs.evolve(self._next, asked=asked))
        self._note(asking)
        return messages

    @property
    def _next(self) -> Asking:
        """The next request, as far as the settings tell it."""
        return attrs.evolve(self.asking, model=self.settings.model, tools=self.settings.tools)

    def render(self) -> Rendering:
        """The messages, each with its turn and why it took its form."""
        return explained(*self._marked())

    def reasons(self) -> Iterator[tuple[Prepared, Form, str]]:
        """The same without the messages themselves, which hold all sound that is sent."""
        return explanation.reasons(*self._marked())

    def _marked(self) -> tuple[Sequence[Prepared], Moment]:
        at = self._moment()
        return marked(*self.sending.items(self.history, self._next, at)), at

    def _rendered(self, options: Mapping[str, Any]) -> tuple[dict[str, Any], Asking]:
        options = given(options)
        tools = self._usable(settings.tools(options.get("tools", self.settings.tools)))
        request = self.settings.request({**options, "tools": tools})
        asking = attrs.evolve(self.sending.asking(request, self.clock()), tools=tools)
        messages, asking = self._sent_with(asking)
        return {**request, "messages": messages}, asking

    def _sent_with(self, asking: Asking) -> tuple[list[Message], Asking]:
        at = self._moment()
        items = window.sent(*self.sending.items(self.history, asking, at))
        return messages.messages(items, at), attrs.evolve(asking, items=items, at=at)

    def _note(self, asking: Asking) -> None:
        if not self.history.hold.is_in_exchange:
            self.asking = asking

    def _moment(self) -> Moment:
        return Moment(self.clock() + self._skew, self.settings.expiry_margin)

    def _usable(self, tools: Sequence[ToolGiven]) -> Sequence[ToolGiven]:
        for tool in tools:
            if isinstance(tool, Tool) and tool.is_async and not self._can_await:
                msg = f"the tool {tool.name!r} is async; give it to AsyncConversation"
                raise InvalidSetting(msg)
        return tools

    # --- one at a time -------------------------------------------------------------------------

    def holding(self, steps: Callable[[], Steps[_R]], turn: Turn | None = None) -> Steps[_R]:
        """The steps, while nobody else can change the conversation.

        Args:
            steps: Called as soon as it is held, and what others wrote is taken in.
            turn: What is to be added; errors have it.

        Raises:
            ConversationBusy: if this code was called from this conversation's own exchange.
            SessionLocked: if somebody else held it for too long.
            SessionReadOnly, SessionChanged, SessionCorrupt, SaveFailed: if it cannot be changed.
        """
        with contextlib.ExitStack() as held:
            try:
                with contextlib.closing(self.history.hold.waits()) as pauses:
                    for pause in pauses:
                        yield Wait(pause)
                held.callback(self.history.hold.release)
                if self.history.file is not None:
                    yield Work(self.history.take_in_news)
            except (SaveFailed, SessionChanged) as error:
                error.turn = turn
                raise
            return (yield from steps())

    def changing(self, job: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> Steps[_R]:
        """One change."""
        return self.holding(lambda: work(partial(job, *args, **kwargs)))

    def adding(self, turn: _T) -> Steps[_T]:
        """One turn more."""
        return self.holding(lambda: work(partial(self.add, turn)), turn)

    def adding_completion(self, completion: Any) -> Steps[AssistantTurn]:
        """The answer in a completion of the user's own."""
        whole = completion_object(completion)
        try:
            return (yield from self.changing(lambda: self.add(self.answer_in(whole))))
        except (SaveFailed, SessionChanged) as error:
            error.turn = error.turn or self.answer_in(whole)
            raise

    def asking_with(
        self, content: Sequence[Part], options: Mapping[str, Any], *, streams: bool = False
    ) -> Steps[AssistantTurn]:
        """The exchange that this content begins; without any, the answer to what is there."""
        question = self.question(content)

        def steps() -> Steps[AssistantTurn]:
            answer = yield from self.exchange(question, options, streams=streams)
            if streams:
                yield Over()
            return answer

        return self.holding(steps, question)

    # --- exchanges -----------------------------------------------------------------------------

    def question(self, content: Sequence[Part]) -> UserTurn | None:
        """The user turn of this content; None without any."""
        return UserTurn(tuple(content), at=self.now()) if content else None

    def exchange(
        self, question: UserTurn | None, options: Mapping[str, Any], *, streams: bool = False
    ) -> Steps[AssistantTurn]:
        """The exchange that answers this question; without one, what is already there.

        Raises:
            InvalidTurn, InvalidSetting: if there is nothing to answer, or an option cannot work;
                then nothing has been done.
        """
        options = given(options)
        if streams:
            options["stream"] = True
        if "tools" in options:
            options["tools"] = self._usable(settings.tools(options["tools"]))
        self.settings.request(options)
        if question is not None:
            self.check(question)
        elif not self.history.turns and self.settings.instructions is None:
            msg = "there is nothing to answer yet; add_user(…) first, or call say(…)"
            raise InvalidTurn(msg)
        self._heals = 0
        self.history.hold.begin_exchange()
        streams = bool(options.get("stream"))
        return exchange.exchange(self, question, options, streams=streams)

    def heal(self, error: BaseException) -> bool:
        """Give up what the error says the server has forgotten, or what was too much for it."""
        tokens = tokens_refused(error)
        if tokens is not None:
            return self.sending.learn(tokens, self.asking)
        known = {
            turn.audio.id
            for turn in self.history.turns
            if isinstance(turn, AssistantTurn) and turn.audio and turn.audio.id
            if not turn.audio.lost
        }
        sent = voices(self.asking.items, self.asking.at)
        dead = dead_ids(error, sent, known, self._heals)
        if not dead:
            return False
        self._heals += 1
        # What is given up next must have been sent again.
        self.asking = attrs.evolve(self.asking, items=())
        lost = {
            position: attrs.evolve(turn, audio=attrs.evolve(turn.audio, lost=True))
            for position, turn in enumerate(self.history.turns)
            if isinstance(turn, AssistantTurn) and turn.audio and turn.audio.id in dead
        }
        # Failing to save that never fails the exchange.
        self.history.replace(lost, must_save=False)
        log.info("the server lost %d audio id(s); their transcripts are sent instead", len(dead))
        return True

    def answer_in(self, completion: Any) -> AssistantTurn:
        """The answer in a completion; the server's clock is read off it too.

        Raises:
            InvalidCompletion: if there is none in it, or more than one.
        """
        whole = completion_object(completion)
        asked = self.asking.asked
        turn = turn_from_completion(whole, asked)
        self.sending.measure(turn, self.asking)
        skew = skew_of(whole, asked)
        if skew is not None:
            self._skew = skew
        self.asking = attrs.evolve(self.asking, asked=attrs.evolve(asked, sent_at=None))
        return turn

    def spend(self, completion: Any) -> None:
        """Count what an answer cost that cannot be kept."""
        with contextlib.suppress(InvalidCompletion):
            whole = completion_object(completion)
            self.history.spend(usage_from_entry(whole.get("usage")))

    def called_tools(self, turn: AssistantTurn) -> list[tuple[ToolCall, Tool | str]]:
        """The calls that are not left to the user, each with its tool, or why there is none.

        Where all tools are the user's, so are all calls.
        """
        functions = by_name(tool for tool in self.asking.tools if isinstance(tool, Tool))
        if not functions:
            return []
        theirs = {
            body.get("name")
            for tool in self.asking.tools
            if isinstance(tool, Mapping)
            for body in tool.values()
            if isinstance(body, Mapping)
        }
        unknown = f"Error: there is no tool of this name; there are: {', '.join(functions)}"
        return [
            (call, functions.get(call.name, unknown))
            for call in turn.tool_calls
            if call.name in functions or call.name not in theirs
        ]

    # --- speech --------------------------------------------------------------------------------

    def speech_request(self, turn: AssistantTurn, *, streams: bool) -> dict[str, Any] | None:
        """How to have the answer spoken that came as text; None where that is not wanted."""
        model = self.settings.speak_when_dropped
        if not model or not turn.voice_dropped or not turn.text.strip():
            return None
        audio_format = "pcm16" if streams else self.asking.asked.audio_format
        return {
            "model": SPEECH_MODEL if model is True else model,
            "voice": self.asking.asked.voice,
            "input": turn.text,
            "response_format": "pcm" if audio_format == "pcm16" else audio_format,
        }

    def spoken(self, turn: AssistantTurn, sound: bytes, *, streams: bool) -> AssistantTurn:
        """The answer with sound that was made for it; it has no id, so it never goes as voice."""
        if not sound:
            msg = "no sound came for the words"
            raise ValueError(msg)
        if streams:
            sound = wav_from_pcm(sound)
        audio = AssistantAudio(data=sound, format=self.asking.asked.audio_format)
        return attrs.evolve(turn, audio=audio)

    def transcribing(self, *, old: bool = False) -> Steps[tuple[UserTurn, ...]]:
        """The words of user sound that has none; `old`: only of what grows too old to be sent."""
        if not old:
            self.history.hold.begin_exchange()
        return self._words.transcribing(self, old=old)

    @property
    def context(self) -> Context:
        """How much of the history is sent."""
        return self.sending.context

    def sent(self) -> Sequence[Prepared]:
        """What of the history would be sent now."""
        return window.sent(*self.sending.items(self.history, self._next, self._moment()))

    # --- turns ---------------------------------------------------------------------------------

    def add(self, turn: _T) -> _T:
        """Add a turn, which gets the time where it has none."""
        self.check(turn)
        if turn.at is None:
            turn = attrs.evolve(turn, at=self.now())
        turn = self.history.add(turn)
        self._heals = 0
        return turn

    def takes_back(self, turn: Turn) -> bool:
        """Take the turn back, if it is the last; its sound may have got its words since."""
        last = self.history.turns[-1]
        if not isinstance(last, type(turn)) or last.at != turn.at:
            return False
        self._words.forget(self.history.drop(len(self.history) - 1))
        return True

    def undo(self, *, answer_only: bool) -> tuple[Turn, ...]:
        """Take back the last exchange, or what follows its question."""
        start = _start_of_last_exchange(self.history.turns, answer_only=answer_only)
        dropped = self.history.drop(start) if start < len(self.history) else ()
        self._words.forget(dropped)
        return dropped

    def set_transcript(self, turn: Turn, text: str) -> AssistantTurn | UserTurn:
        """Put other words in the place of what is known of a spoken turn."""
        position = self._position(turn)
        turn = self.history.turns[position]
        if not isinstance(text, str):
            msg = f"a transcript is text, not {type(text).__name__}"
            raise InvalidTurn(msg)
        new: AssistantTurn | UserTurn
        if isinstance(turn, AssistantTurn) and turn.audio:
            new = attrs.evolve(turn, audio=attrs.evolve(turn.audio, transcript=text))
        else:
            parts = turn.content if isinstance(turn, UserTurn) else ()
            sounds = [part for part in parts if isinstance(part, AudioInput)]
            if not isinstance(turn, UserTurn) or len(sounds) != 1:
                msg = f"a transcript belongs to a turn with one sound; this one has {len(sounds)}"
                raise InvalidTurn(msg)
            said = attrs.evolve(sounds[0], transcript=text)
            new = attrs.evolve(
                turn, content=tuple(said if part is sounds[0] else part for part in parts)
            )
        self.history.replace({position: new})
        return new

    def truncate(self, seconds: float) -> AssistantTurn:
        """Cut the last answer to what was heard of it."""
        turns = self.history.turns
        turn = turns[-1] if turns else None
        if not isinstance(turn, AssistantTurn) or turn.audio is None:
            what = "there is no turn" if turn is None else "the last turn is no spoken answer"
            raise InvalidTurn(f"{what}; truncate(seconds) is for right after one")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
            raise InvalidTurn(f"what was heard is a number of seconds, 0 or more, not {seconds!r}")
        if turn.audio.duration is None:
            raise InvalidTurn("nobody knows how long the last answer is; set_transcript(…) cuts it")
        if seconds >= turn.audio.duration:
            return turn
        new = cut(turn, turn.audio, seconds)
        self.history.replace({len(turns) - 1: new})
        return cast("AssistantTurn", self.history.turns[-1])

    def relabel(self, name: str, value: Any) -> None:
        """Change a label."""
        self.history.relabel(name, value)

    def _position(self, turn: Turn) -> int:
        turns = self.history.turns
        for position in range(len(turns) - 1, -1, -1):
            if turns[position] is turn:
                return position
        try:
            return turns.index(turn)
        except ValueError:
            msg = f"this {type(turn).__name__} is not in the conversation; take it from turns"
            raise InvalidTurn(msg) from None

    def check(self, turn: Turn) -> None:
        """Refuse a turn that cannot be added.

        Raises:
            InvalidTurn: if it is no turn, or one of the user or the system without content.
            UnknownToolCall: if it answers a call that is not open.
        """
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
                waiting = tuple(open_calls(self.history.turns))
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


def _start_of_last_exchange(turns: Sequence[Turn], *, answer_only: bool) -> int:
    for position in range(len(turns) - 1, -1, -1):
        if isinstance(turns[position], UserTurn):
            return position + answer_only
    spoken = (i for i, turn in enumerate(turns) if not isinstance(turn, SystemTurn))
    return next(spoken, len(turns))

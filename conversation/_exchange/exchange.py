"""One exchange with the model, without I/O: render, send, heal, record, run tools, again.

A generator that yields what is to be done (`Step`) and is sent the outcome, or thrown the error
that came instead; between the steps it yields what happens (`Event`). `_client` drives it, and
`_async` drives it too.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import attrs

from conversation import _tools
from conversation._exchange.steps import (
    END,
    Call,
    Close,
    Left,
    Open,
    Receive,
    Send,
    Speak,
    Steps,
    Work,
)
from conversation._values.events import AudioDelta, ToolCalled, TurnFinished
from conversation._values.turns import AssistantTurn, ToolCall, ToolTurn, Turn, UserTurn
from conversation._wire.chunks import Assembly, json_object
from conversation._wire.failures import add_remedy, is_refused
from conversation.errors import (
    InvalidCompletion,
    SaveFailed,
    SessionChanged,
    SessionError,
    ToolLoopExceeded,
)

log = logging.getLogger("conversation")

_PARTLY_KEPT = (
    "what had arrived of the answer is kept, as an interrupted turn; undo(answer_only=True) takes "
    "it back, then reply() tries again"
)

NOT_KEPT = "what had arrived of the answer was not kept: {}"

_TurnT = TypeVar("_TurnT", bound=Turn)


@attrs.frozen
class _Broken:
    """A stream that ended in an error, after it had brought something."""

    error: BaseException
    stream: Any


class Talk(Protocol):
    """What an exchange needs of a conversation, which it holds."""

    @property
    def max_tool_rounds(self) -> int:
        """How often tools are run before the model has to answer."""

    def transcribing(self, *, old: bool) -> Steps[tuple[UserTurn, ...]]:
        """Find the words of user sound that is too old to be sent."""

    def request(self, **options: Any) -> dict[str, Any]:
        """Render the next request."""

    def heal(self, error: BaseException) -> bool:
        """Give up what the error says the server has forgotten."""

    def answer_in(self, completion: Any) -> AssistantTurn:
        """The answer in a completion."""

    def spend(self, completion: Any) -> None:
        """Count what an answer cost that cannot be kept."""

    def add(self, turn: _TurnT) -> _TurnT:
        """Keep a turn."""

    def takes_back(self, turn: Turn) -> bool:
        """Take the turn back, if it is the last."""

    def called_tools(self, turn: AssistantTurn) -> Sequence[tuple[ToolCall, _tools.Tool | str]]:
        """The calls that are not left to the user, each with its tool, or why there is none."""

    def speech_request(self, turn: AssistantTurn, *, streams: bool) -> dict[str, Any] | None:
        """How to have the answer spoken that came as text; None where that is not wanted."""

    def spoken(self, turn: AssistantTurn, sound: bytes, *, streams: bool) -> AssistantTurn:
        """The answer with sound that was made for it."""


def exchange(
    talk: Talk, question: UserTurn | None, options: Mapping[str, Any], *, streams: bool
) -> Steps[AssistantTurn]:
    """The answer to a question, or to what the conversation ends with.

    After a failure that trying again can mend the question is kept; after any other refusal it is
    taken back.
    """
    if question is not None:
        question = yield Work(partial(talk.add, question))
    try:
        return (yield from _rounds(talk, options, streams=streams))
    except SessionError as error:
        if isinstance(error, SaveFailed | SessionChanged) and error.turn is not None:
            what = "answer" if isinstance(error.turn, AssistantTurn) else "turn"
            how = "add(error.turn)" if isinstance(error, SaveFailed) else "there, add(error.turn)"
            error.add_note(f"the {what} is in error.turn; {how} keeps it")
        raise
    except Exception as error:
        add_remedy(error)
        is_told = _PARTLY_KEPT in getattr(error, "__notes__", ())
        if question is not None and not is_told and not isinstance(error, ToolLoopExceeded):
            error.add_note((yield from _what_became_of(talk, question, error)))
        raise


def _what_became_of(talk: Talk, question: UserTurn, error: Exception) -> Steps[str]:
    if not is_refused(error):
        return "the user turn is kept: reply() tries again"
    try:
        is_gone = yield Work(partial(talk.takes_back, question))
    except SaveFailed as failure:
        return f"the user turn could not be taken back ({failure}): undo() tries again"
    if is_gone:
        return "the user turn was taken back: the chat is as it was before"
    return "what came before is kept: undo() takes all of the exchange back"


def _rounds(talk: Talk, options: Mapping[str, Any], *, streams: bool) -> Steps[AssistantTurn]:
    """Answers and tool results, until there is an answer that calls no tool."""
    rounds_left = talk.max_tool_rounds
    while True:
        turn = yield from _answer(talk, options, streams=streams)
        yield TurnFinished(turn)
        calls = talk.called_tools(turn)
        if not calls:
            return turn
        if not rounds_left:
            msg = (
                f"the model called tools once more after {talk.max_tool_rounds} rounds of them; "
                "all turns are kept: reply() goes on, max_tool_rounds=… allows for more"
            )
            raise ToolLoopExceeded(msg)
        rounds_left -= 1
        for call, tool in calls:
            result = yield from _result(call, tool)
            yield Work(partial(talk.add, ToolTurn(call.id, result)))
            yield ToolCalled(call, result)
        if len(calls) < len(turn.tool_calls):
            return turn
        if "tool_choice" in options:
            options = {**options, "tool_choice": _unforced(options["tool_choice"])}


def _unforced(choice: Any) -> Any:
    """A tool choice that forces no call: it would force one again and again."""
    if choice == "required":
        return "auto"
    if not isinstance(choice, Mapping):
        return choice
    allowed = choice.get("allowed_tools")
    if isinstance(allowed, Mapping):
        return {**choice, "allowed_tools": {**allowed, "mode": "auto"}}
    return "auto"


def _result(call: ToolCall, tool: _tools.Tool | str) -> Steps[str]:
    """What the model is told; faults are told too, so that it can mend them."""
    if isinstance(tool, str):
        return tool
    try:
        arguments = _tools.call_arguments(tool, call.arguments)
        returned = yield Call(tool, arguments)
        return _tools.result_text(returned)
    except Exception as error:  # whatever a user's function raises
        log.warning("the tool %r failed; the model is told so", call.name, exc_info=True)
        return _tools.fault_text(error)


def _answer(talk: Talk, options: Mapping[str, Any], *, streams: bool) -> Steps[AssistantTurn]:
    """One answer, kept; what the server forgot is healed on the way."""
    yield from talk.transcribing(old=True)
    while True:
        request = yield Work(partial(talk.request, **options))
        broken = None
        try:
            if streams:
                completion, broken = yield from _streamed(talk, request)
            else:
                completion = yield Send(request)
        except Exception as error:
            if not (yield Work(partial(talk.heal, error))):
                raise
        else:
            return (yield from _kept(talk, completion, broken, streams=streams))


def _streamed(talk: Talk, request: Mapping[str, Any]) -> Steps[tuple[Any, _Broken | None]]:
    """What a stream brings, and what broke it off. If it brought nothing, that is raised."""
    assembly = Assembly()
    stream = yield Open(request)
    try:
        while (chunk := (yield Receive(stream))) is not END:
            yield from assembly.add(json_object(chunk))
        yield Close(stream)
        return assembly.completion(), None
    except BaseException as error:
        if not assembly.is_empty:
            return assembly.broken_off(), _Broken(error, stream)
        yield Close(stream)
        if assembly.head:
            yield Work(partial(talk.spend, assembly.head))
        raise


def _kept(
    talk: Talk, completion: Any, broken: _Broken | None, *, streams: bool
) -> Steps[AssistantTurn]:
    if broken is not None:
        yield from _partly_kept(talk, completion, broken)
    try:
        turn = talk.answer_in(completion)
    except InvalidCompletion:
        yield Work(partial(talk.spend, completion))
        raise
    request = talk.speech_request(turn, streams=streams)
    sound = b""
    if request is not None:
        try:
            sound = yield Speak(request)
            turn = talk.spoken(turn, sound, streams=streams)
        except Exception:  # whatever happens to the sound, the words are there
            log.warning("an answer that came as text could not be spoken", exc_info=True)
        except BaseException:
            yield Work(partial(talk.add, turn))
            raise
    kept: AssistantTurn = yield Work(partial(talk.add, turn))
    if sound and streams:
        yield AudioDelta(sound[: len(sound) // 2 * 2])
    return kept


def _partly_kept(talk: Talk, completion: Any, broken: _Broken) -> Steps[None]:
    """Keep what had arrived, and raise what broke it off, whatever becomes of that."""
    error = broken.error
    try:
        yield Work(lambda: talk.add(talk.answer_in(completion)))
    except InvalidCompletion as lost:
        yield Work(partial(talk.spend, completion))
        error.add_note(f"what had arrived of the answer is lost: {lost}")
    except SessionError as failure:
        if isinstance(error, Left):
            raise  # nobody else would tell
        if isinstance(error, Exception):
            raise failure from error
        error.add_note(NOT_KEPT.format(failure))
        raise error from failure
    else:
        error.add_note(_PARTLY_KEPT)
    finally:
        yield Close(broken.stream)
    raise error

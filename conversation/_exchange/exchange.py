"""One exchange with the model, without I/O: render, send, heal, record, run tools, again.

Generators that yield steps for a driver and are sent the outcome, or thrown the error that came
instead; between the steps they yield events. `_client` and `_async_client` are the drivers.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeAlias

from conversation._exchange.holding import work_on
from conversation._exchange.requests import Requests
from conversation._exchange.sent import SentRequest
from conversation._exchange.speech import Transcripts, speaking
from conversation._exchange.steps import (
    END,
    Arrival,
    Call,
    Close,
    Left,
    Open,
    Receive,
    Send,
    Steps,
    Work,
)
from conversation._exchange.summary import summarizing
from conversation._history.answers import answer_behind, last_answer
from conversation._history.edits import check
from conversation._history.history import History
from conversation._tools import (
    InvalidArguments,
    Tool,
    by_name,
    call_arguments,
    fault_text,
    plain,
    refuse_bytes,
    result_text,
)
from conversation._values.events import ToolCalled, TurnFinished
from conversation._values.turns import AssistantTurn, ToolCall, ToolTurn, UserTurn
from conversation._wire.chunks import StreamedCompletion
from conversation._wire.completions import completion_object
from conversation._wire.failures import add_remedy, is_refused
from conversation._wire.usage import usage_from_entry
from conversation.errors import (
    InvalidCompletion,
    InvalidTurn,
    SaveFailed,
    SessionChanged,
    SessionError,
    ToolLoopExceeded,
)

log = logging.getLogger("conversation")

PARTLY_KEPT = (
    "the part of the answer that arrived is kept as an interrupted turn; undo(answer_only=True) "
    "takes it back, then reply() tries again"
)
KEPT = "the user turn is kept: reply() tries again"
NOT_KEPT = "the part of the answer that arrived was not kept: {}"

Template: TypeAlias = tuple[dict[str, Any], SentRequest]


def asking(
    requests: Requests,
    transcripts: Transcripts,
    question: UserTurn | None,
    options: Mapping[str, Any],
    known: int,
) -> Steps[AssistantTurn]:
    """Ask the question, or without one the model to answer what is already there.

    Nothing is sent where the answer is there: behind a question that was delivered before, or at
    the end. Others may have asked for it while this one waited for the lock.

    After a failure that a retry can mend the question is kept; after any other refusal it is taken
    back.

    Args:
        requests: What is sent, and the history.
        transcripts: The words of what was said.
        question: The question; one that was delivered before is not added again.
        options: Arguments of the request.
        known: Number of turns that the caller knows.

    Raises:
        InvalidTurn, InvalidSetting: if there is nothing to answer, or an option cannot work; then
            nothing has been done.
    """
    history = requests.history
    template = requests.template(options)
    new, answer = _looked_up(history, question, known)
    if new is not None:
        check(new)
    elif not history and requests.settings.instructions is None:
        msg = "there is nothing to answer yet; call add_user(…) first, or say(…)"
        raise InvalidTurn(msg)
    if answer is None:
        requests.untaken.refuse(template[1].model, new)
    requests.begin_exchange()
    history.lock.begin_exchange()
    if answer is not None:
        yield TurnFinished(answer)
        return answer
    if question is not None:
        question = yield from work_on(history, partial(history.add, question))
    try:
        return (yield from _rounds(requests, transcripts, template))
    except SessionError as error:
        if isinstance(error, SaveFailed | SessionChanged) and error.turn is not None:
            what = "answer" if isinstance(error.turn, AssistantTurn) else "turn"
            how = "add(error.turn)" if isinstance(error, SaveFailed) else "there, add(error.turn)"
            error.add_note(f"the {what} is in error.turn; {how} keeps it")
        raise
    except Exception as error:
        add_remedy(error)
        last = history[-1] if history else None
        is_told = isinstance(error, ToolLoopExceeded) or getattr(last, "interrupted", False)
        if question is not None and not is_told:
            error.add_note((yield from _fate_of(question, transcripts, history, error)))
        raise


def _looked_up(
    history: History, question: UserTurn | None, known: int
) -> tuple[UserTurn | None, AssistantTurn | None]:
    """Return the question if it is new, and the answer if it is there already."""
    if question is None:
        return None, last_answer(history, known)
    position = history.delivered(question)
    if position is None:
        return question, None
    return None, answer_behind(history, position)


def _fate_of(
    question: UserTurn, transcripts: Transcripts, history: History, error: Exception
) -> Steps[str]:
    """Keep the question or take it back, and return a note on that."""
    if not is_refused(error):
        return KEPT
    try:
        taken = yield from work_on(history, partial(history.take_back, question))
    except SaveFailed as failure:
        return f"the user turn could not be taken back ({failure}): undo() tries again"
    transcripts.forget(taken)
    if taken:
        return "the user turn was taken back: the chat is as it was before"
    return "earlier turns are kept: undo() takes all of the exchange back"


def _rounds(
    requests: Requests, transcripts: Transcripts, template: Template
) -> Steps[AssistantTurn]:
    """Get answers and run tools, until an answer calls no tool."""
    history, most = requests.history, requests.settings.max_tool_rounds
    yield from summarizing(requests, transcripts, *template)
    rounds = 0
    while True:
        turn = yield from _answer(requests, transcripts, template)
        yield TurnFinished(turn)
        calls = _own_calls(turn, template[1])
        if not calls:
            return turn
        if rounds == most:
            msg = (
                f"the model called tools again after {most} rounds of tool calls; all turns are "
                "kept: reply() goes on, max_tool_rounds=… allows for more"
            )
            raise ToolLoopExceeded(msg)
        rounds += 1
        for call, tool in calls:
            result = yield from _result(call, tool)
            yield from work_on(history, partial(history.add, ToolTurn(call.id, result)))
            yield ToolCalled(call, result)
        if len(calls) < len(turn.tool_calls):
            return turn
        request, sent = template
        if "tool_choice" in request:
            template = {**request, "tool_choice": _unforced(request["tool_choice"])}, sent


def _own_calls(turn: AssistantTurn, sent: SentRequest) -> list[tuple[ToolCall, Tool | str]]:
    """Return the calls of our functions, each with its tool, or with a text why there is none.

    Where all tools are the caller's, so are all calls.
    """
    functions = by_name(tool for tool in sent.tools if isinstance(tool, Tool))
    if not functions:
        return []
    theirs = {
        body.get("name")
        for tool in sent.tools
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


def _unforced(choice: Any) -> Any:
    """Return a tool choice that forces no call: it would force one again and again."""
    if choice == "required":
        return "auto"
    if not isinstance(choice, Mapping):
        return choice
    allowed = choice.get("allowed_tools")
    if isinstance(allowed, Mapping):
        return {**choice, "allowed_tools": {**allowed, "mode": "auto"}}
    return "auto"


def _result(call: ToolCall, tool: Tool | str) -> Steps[str]:
    """Run a tool, and return its result as text; faults too, so that the model can mend them."""
    if isinstance(tool, str):
        return tool
    try:
        returned = yield Call(tool, call_arguments(tool, call.arguments))
        result = plain(returned)
        refuse_bytes(result)
        return result_text(result)
    except InvalidArguments as error:
        log.warning("the arguments for the tool %r do not fit (%s)", call.name, error.faults)
        return fault_text(error)
    except Exception as error:  # whatever a user's function raises
        log.warning("the tool %r failed; its fault is sent to the model", call.name, exc_info=True)
        return fault_text(error)


def _answer(
    requests: Requests, transcripts: Transcripts, template: Template
) -> Steps[AssistantTurn]:
    """Get one answer, healed on the way of what the server forgot, and keep it.

    What has arrived is kept, whatever ends the exchange and wherever.
    """
    yield from transcripts.find(before=template[1].model)
    history, streams = requests.history, bool(template[0].get("stream"))
    while True:
        request = yield Work(partial(requests.render, template), writes=False)
        arrived, before = _Arrived(), len(history)
        try:
            if streams:
                yield from _receive(request, arrived)
            else:
                yield Send(request, arrived)
            return (yield from _record(requests, arrived, request))
        except GeneratorExit:  # nobody performs steps any more
            if arrived:
                with contextlib.suppress(Exception):
                    _keep(requests, arrived, before)
            raise
        except BaseException as error:
            if not (yield from _broken_off(requests, arrived, before, error)):
                raise


def _keep(requests: Requests, arrived: _Arrived, before: int) -> None:
    """Add what has arrived, if it was not added yet behind so many turns."""
    requests.history.settle()
    if len(requests.history) == before:
        requests.history.add(requests.answer(arrived.completion()))


def _broken_off(
    requests: Requests, arrived: _Arrived, before: int, error: BaseException
) -> Steps[bool]:
    """Keep what has arrived; return True if nothing has, and it makes sense to ask again."""
    is_settled = isinstance(error, SessionError) or len(requests.history) > before
    try:
        if arrived and not is_settled and not arrived.is_refused:
            yield from _record_part(requests, arrived, before, error)
    except GeneratorExit:
        raise
    except BaseException:
        yield from _close(arrived)
        raise
    yield from _close(arrived)
    if arrived and not arrived.is_refused:
        return False
    if not arrived.is_refused:
        yield from _spent(requests.history, arrived.streamed.head)
    if is_settled or not isinstance(error, Exception):
        return False
    healed: bool = yield from work_on(requests.history, partial(requests.heal, error))
    return healed


def _close(arrived: _Arrived) -> Steps[None]:
    if arrived.stream is not None:
        yield Close(arrived.stream)


class _Arrived(Arrival):
    """The part of an answer that has arrived.

    Attributes:
        answer: The completion as the client returned it; None for a stream.
        stream: The stream that it comes from.
        streamed: Collects the chunks of the stream.
        whole: The completion, once all of it is there.
        is_refused: True if there is no answer in it that can be kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stream: Any = None
        self.streamed = StreamedCompletion()
        self.whole: Mapping[str, Any] | None = None
        self.is_refused = False

    def __bool__(self) -> bool:
        answer = self.whole if self.answer is None else self.answer
        return answer is not None or not self.streamed.is_empty

    def completion(self) -> Mapping[str, Any]:
        if self.whole is None and self.answer is not None:
            self.whole = completion_object(self.answer)
        return self.streamed.broken_off() if self.whole is None else self.whole


def _receive(request: Mapping[str, Any], arrived: _Arrived) -> Steps[None]:
    arrived.stream = yield Open(request)
    receive, add = Receive(arrived.stream), arrived.streamed.add
    while (chunk := (yield receive)) is not END:
        yield from add(chunk)
    yield from arrived.streamed.finish()
    arrived.whole = arrived.streamed.completion()
    yield Close(arrived.stream)


def _record(
    requests: Requests, arrived: _Arrived, request: Mapping[str, Any]
) -> Steps[AssistantTurn]:
    history = requests.history
    try:
        turn = requests.answer(arrived.completion())
    except InvalidCompletion:
        arrived.is_refused = True
        yield from _spent(history, arrived.whole or arrived.streamed.head)
        raise
    kept = yield from work_on(history, partial(history.add, turn))
    return (yield from speaking(requests, kept, request))


def _record_part(
    requests: Requests, arrived: _Arrived, before: int, error: BaseException
) -> Steps[None]:
    """Keep what has arrived, and note on the error what became of it."""
    history = requests.history
    try:
        yield from work_on(history, partial(_keep, requests, arrived, before))
    except InvalidCompletion as lost:
        yield from _spent(history, arrived.whole or arrived.streamed.head)
        error.add_note(f"the part of the answer that arrived is lost: {lost}")
    except SessionError as failure:
        if isinstance(error, Left):
            raise  # nobody else would tell
        if isinstance(error, Exception):
            raise failure from error
        error.add_note(NOT_KEPT.format(failure))
        raise error from failure
    else:
        if arrived.whole is None:
            error.add_note(PARTLY_KEPT)


def _spent(history: History, completion: Mapping[str, Any]) -> Steps[None]:
    """Count what an answer cost that cannot be kept."""
    usage = usage_from_entry(completion.get("usage"))
    yield from work_on(history, partial(history.spend, usage))

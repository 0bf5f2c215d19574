"""Reasons for the form of each turn, for people who look at a request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from conversation._rendering.forms import NO_VOICE, Form, Moment, Prepared, form_at
from conversation._rendering.messages import message_at
from conversation._values.data import read_data
from conversation._values.parts import AudioInput
from conversation._values.turns import AssistantAudio, AssistantTurn, Turn, UserTurn
from conversation._wire.messages import Message, ReadData
from conversation._wire.servers import OPENAI, Server


@attrs.frozen
class RenderedMessage:
    """One message of a request, with its turn and the reason for its form.

    Attributes:
        message: The message; None for a turn that is left out.
        turn: The turn; None for the instructions, for the summary of turns that are left out, and
            for the result of a call without one.
        form: The form of the turn.
        why: The form and its reason, such as `"transcript, expired 3 min ago"`.
    """

    message: Message | None = attrs.field(repr=False)
    turn: Turn | None
    form: Form
    why: str

    @property
    def role(self) -> str:
        """The role of the message, such as `"assistant"`."""
        return str(self.message["role"]) if self.message else getattr(self.turn, "role", "")


@attrs.frozen
class Rendering:
    """The next request, message by message.

    Attributes:
        items: A `RenderedMessage` for each message and for each turn that is left out.
    """

    items: tuple[RenderedMessage, ...]

    @property
    def messages(self) -> list[Message]:
        """The messages alone, as `chat.completions.create(messages=…)` takes them."""
        return [item.message for item in self.items if item.message is not None]

    def __repr__(self) -> str:
        return f"<Rendering of {len(self.messages)} messages: print it, or look at its items>"

    def __str__(self) -> str:
        return "\n".join(f"{item.role}: {item.why}" for item in self.items)


def reasons(items: Sequence[Prepared], at: Moment) -> Iterator[tuple[Prepared, Form, str]]:
    """Yield all that is sent, and each turn that is not, with its form and the reason for it."""
    for item in items:
        form = form_at(item, at)
        if form is not Form.LEFT_OUT or item.turn is not None:
            yield item, form, _why(item, form, at)


def explained(
    items: Sequence[Prepared], at: Moment, read: ReadData = read_data, server: Server = OPENAI
) -> Rendering:
    """Return the messages with a reason for each."""
    rendered = []
    for item, form, why in reasons(items, at):
        message = None if form is Form.LEFT_OUT else message_at(item, at, read, server)
        rendered.append(RenderedMessage(message, item.turn, form, why))
    return Rendering(tuple(rendered))


def _why(item: Prepared, form: Form, at: Moment) -> str:
    turn = item.turn
    if form is Form.VOICE:
        return f"voice, {_span(item.voice_end - at.now)} left"
    if form is Form.SUMMARY:
        return item.reason
    if item.reason:
        return f"{form.value}, {item.reason}"
    if isinstance(turn, AssistantTurn) and turn.audio is not None:
        return f"{form.value}, {_why_no_voice(turn, turn.audio, item.voice_end, at)}"
    match form:
        case Form.PLAIN if turn is None:
            return "instructions"
        case Form.PLAIN if isinstance(turn, UserTurn):
            return _why_of_user(turn)
        case Form.TEXT if isinstance(turn, AssistantTurn) and turn.voice_dropped:
            return "text, the model did not speak"
        case Form.PLACEHOLDER:
            return "placeholder, no words are known"
        case Form.NO_RESULT:
            return "no result, the call may have been carried out"
    return str(form.value)


def _why_of_user(turn: UserTurn) -> str:
    sounds = [part for part in turn.content if isinstance(part, AudioInput)]
    return f"sound, {sum(s.duration or 0 for s in sounds):.1f} s" if sounds else "as it is"


def _why_no_voice(turn: AssistantTurn, audio: AssistantAudio, end: float, at: Moment) -> str:
    if turn.interrupted:
        return "interrupted"
    if audio.lost:
        return "server lost it"
    if audio.id is None:
        return "server gave no id"
    if end == NO_VOICE:
        return "its id tells no time" if audio.id.startswith("audio_") else "its id is of no use"
    left = end - at.now
    return f"expires in {_span(left)}" if left > 0 else f"expired {_span(abs(left))} ago"


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size * 2 or (unit == "min" and seconds >= size):
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"

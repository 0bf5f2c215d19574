"""Sound, pictures and files that a model does not take: new ones are refused, others given up."""

from __future__ import annotations

import logging
from typing import Any

from conversation._exchange.sent import SentRequest
from conversation._history.answers import end_of_answers
from conversation._history.history import History
from conversation._rendering.forms import Form
from conversation._rendering.messages import voices
from conversation._rendering.unseen import MediaKinds, media_in, untaken_by
from conversation._rendering.window import Context
from conversation._values.parts import AudioInput
from conversation._values.turns import Turn
from conversation.errors import InvalidTurn

log = logging.getLogger("conversation")


class Untaken:
    """The kinds of media that models are known to refuse, or have refused.

    Args:
        history: The turns.
        context: How much of them is sent.
    """

    def __init__(self, history: History, context: Context) -> None:
        self._history = history
        self._context = context
        self._refused: dict[str, MediaKinds] = {}  # by model

    def learn_from(self, other: Untaken) -> None:
        """Take over what another one has learned of the same models."""
        self._refused = dict(other._refused)

    def by(self, model: str) -> MediaKinds:
        """Return the kinds that a model refuses."""
        return (*untaken_by(model), *self._refused.get(model, ()))

    def refuse(self, model: str, question: Turn | None) -> None:
        """Refuse new media to a model that takes none of their kind: it would answer unseen.

        Raises:
            InvalidTurn: naming what it does not take.
        """
        kinds = self.by(model)
        if self._context.user_audio_turns == 0:  # all sound is sent as its words
            kinds = tuple(kind for kind in kinds if kind is not AudioInput)
        if not kinds:
            return
        turns = [*self._history[end_of_answers(self._history) :], question]
        names = " and ".join(filter(None, {media_in(turn, kinds) for turn in turns}))
        if names:
            is_new = media_in(question, kinds)
            how = "send words instead" if is_new else "undo() takes the turn back"
            call = "say(…, model=" if is_new else "reply(model="
            other = "'gpt-audio-1.5')" if names == "sound" else "'…', modalities=['text'])"
            msg = (
                f"the model {model!r} takes no {names}, so nothing was sent; {how}, or ask a model "
                f"that does: {call}{other}"
            )
            raise InvalidTurn(msg)

    def give_up(self, sent: SentRequest, kinds: MediaKinds) -> bool:
        """Send that model no media of these kinds any more; True if that mends the request."""
        kinds = tuple(kind for kind in kinds if _held(sent, kind))
        known = self.by(sent.model)
        if set(kinds) <= set(known):
            return False
        self._refused[sent.model] = tuple({*known, *kinds})
        if any(media_in(turn, kinds) for turn in self._history[end_of_answers(self._history) :]):
            return False
        what = "sound" if kinds == (AudioInput,) else "pictures or files"
        log.warning("%r takes no %s: placeholders are sent instead", sent.model, what)
        return True


def _held(sent: SentRequest, kind: type[Any]) -> bool:
    """Return True if a request held media of this kind."""
    as_voice = kind is AudioInput and any(voices(sent.items, sent.at))
    turns = (item.sent or item.turn for item in sent.items if item.form is not Form.WORDS)
    return as_voice or any(media_in(turn, (kind,)) for turn in turns)

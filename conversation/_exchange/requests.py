"""The requests of a conversation: what is sent of its history, and what answers tell about it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any

import attrs

from conversation._exchange.prepared import PreparedTurns
from conversation._exchange.sent import SentRequest
from conversation._exchange.untaken import Untaken
from conversation._history.answers import end_of_answers
from conversation._history.history import History
from conversation._rendering.explanation import Rendering, explained, reasons
from conversation._rendering.forms import NEVER, NO_VOICE, Form, Moment, Prepared, unusual_keys
from conversation._rendering.messages import arranged, messages, voices
from conversation._rendering.settings import Settings, ToolGiven, asks_for_sound, given_options
from conversation._rendering.settings import tools as checked_tools
from conversation._rendering.unseen import MediaKinds, unseen
from conversation._rendering.window import Context, Limits, Window, marked, portions, window
from conversation._tools import Tool, is_async
from conversation._values.data import Data, read_data
from conversation._values.media import kept_data
from conversation._values.naming import Naming
from conversation._values.parts import AudioInput
from conversation._values.text import counted
from conversation._values.turns import AssistantTurn, Turn
from conversation._wire.completions import Asked, skew_of, turn_from_completion
from conversation._wire.failures import (
    dead_ids,
    refused_keys,
    refused_media,
    refuses_calls,
    tokens_refused,
)
from conversation._wire.messages import Message
from conversation._wire.servers import Server
from conversation.errors import ContextTooSmall, InvalidSetting

log = logging.getLogger("conversation")

_message, _upload = attrgetter("message"), attrgetter("upload")


class Requests:
    """Renders requests, and learns from what comes back.

    Args:
        settings: The conversation's settings.
        history: Its turns.
        context: How much of them is sent.
        server: The server that gets them.
        can_await: True if tools may be async.

    Attributes:
        sent: The last request.
        untaken: What models do not take.
    """

    def __init__(
        self,
        settings: Settings,
        history: History,
        context: Context,
        server: Server,
        *,
        can_await: bool,
    ) -> None:
        self.settings = settings
        self.history = history
        self.context = context
        self._server = server
        self._can_await = can_await
        self._usable(settings.tools)
        self._check_summarizer()
        asked = Asked(None, settings.audio_format, speaks=False)
        self.sent = SentRequest(settings.model, asked, settings.tools)
        self._skew = 0.0
        self._scale, self._measured = 1.0, math.inf
        self._heals, self._healed_length = 0, 0
        self._is_warned = False
        self.untaken = Untaken(history, context)
        self._turns = PreparedTurns(history, context)

    def learn_from(self, other: Requests) -> None:
        """Take over what another one has learned of the same server and history."""
        self._skew, self._scale, self._measured = other._skew, other._scale, other._measured
        self.untaken.learn_from(other.untaken)
        self._server = other._server

    # --- rendering -----------------------------------------------------------------------------

    def template(self, options: Mapping[str, Any]) -> tuple[dict[str, Any], SentRequest]:
        """Check the options of a request, and return it without its messages.

        Raises:
            InvalidSetting: if an option cannot work.
        """
        options = given_options({**self.settings.options, **options})
        tools = self._usable(checked_tools(options.get("tools", self.settings.tools)))
        request = self.settings.request({**options, "tools": tools})
        sound = request["audio"] if asks_for_sound(request) else {}
        asked = Asked(None, sound.get("format"), speaks=bool(sound), voice=sound.get("voice"))
        return request, SentRequest(str(request["model"]), asked, tools)

    def render(self, template: tuple[dict[str, Any], SentRequest]) -> dict[str, Any]:
        """Return the next request of an exchange, and note it as the last one."""
        request, sent = template
        rendered, self.sent = self._rendered(sent)
        return {**request, "messages": rendered}

    def request(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request for the caller; an exchange under way is not disturbed."""
        request, sent = self.template(options)
        rendered, sent = self._rendered(sent)
        self._note(sent)
        return {**request, "messages": rendered}

    def messages(self) -> list[Message]:
        """Return the messages of the next request."""
        rendered, sent = self._rendered(self._next)
        self._note(sent)
        return rendered

    def explain(self) -> Rendering:
        """Return the messages of the next request, each with its turn and the reason for it."""
        items, at = self._marked()
        with Naming(self.history.id):
            return explained(items, at, self._reader(items), self._server)

    def reasons(self) -> Iterator[tuple[Prepared, Form, str]]:
        """Yield the same without the messages, which hold all sound that is sent."""
        return reasons(*self._marked())

    def window(self) -> Window:
        """Return what would be sent now."""
        return self._window(self._next, self._moment())

    def unheard(self, model: str) -> list[int]:
        """Return the positions of turns whose sound this model gets as a placeholder."""
        if AudioInput not in self.untaken.by(model):
            return []
        found = self._window(attrs.evolve(self._next, model=model), self._moment())
        turns = [item.turn for item in found.items if item.sent and item.form is Form.PLACEHOLDER]
        return [self.history.position(turn) for turn in turns if turn is not None]

    @property
    def _next(self) -> SentRequest:
        """The next request, as far as the settings tell."""
        return attrs.evolve(
            self.sent, model=self.settings.model, tools=self.settings.tools, items=(), at=NEVER
        )

    def _rendered(self, sent: SentRequest) -> tuple[list[Message], SentRequest]:
        at = self._moment()
        items = self._window(sent, at).items
        asked = attrs.evolve(sent.asked, sent_at=self._now())
        with Naming(self.history.id):
            rendered = messages(items, at, self._reader(items), self._server)
        return rendered, attrs.evolve(sent, asked=asked, items=items, at=at)

    def _note(self, sent: SentRequest) -> None:
        if not self.history.lock.is_in_exchange:
            self.sent = sent

    def _moment(self) -> Moment:
        return Moment(self._now() + self._skew, self.settings.expiry_margin)

    def _now(self) -> float:
        return self.history.now().timestamp()

    def _usable(self, tools: Sequence[ToolGiven]) -> Sequence[ToolGiven]:
        for tool in tools:
            if isinstance(tool, Tool) and tool.is_async and not self._can_await:
                msg = f"the tool {tool.name!r} is async; give it to AsyncConversation"
                raise InvalidSetting(msg)
        return tools

    def _check_summarizer(self) -> None:
        summarize = self.context.summarize
        if is_async(summarize) and not self._can_await:
            msg = "the function summarize of the context is async; give it to AsyncConversation"
            raise InvalidSetting(msg)

    # --- the window ----------------------------------------------------------------------------

    def _window(self, sent: SentRequest, at: Moment) -> Window:
        with self.history.reading:  # other threads may look at requests, and change turns
            found = self._found(sent, at)
        if found.wordless and not self._is_warned:
            self._is_warned = True
            with Naming(self.history.id):
                log.warning(
                    "old sound is sent as sound because its words are not known: transcribe() "
                    "finds those of users now, the setting transcribe=True before each request "
                    "that needs them; set_transcript(…) sets any"
                )
        return found

    def to_summarize(self, sent: SentRequest) -> list[range]:
        """Return the positions of the turns that are to be summarised before a request."""
        with self.history.reading:
            try:
                found = self._window(sent, self._moment())
            except ContextTooSmall:
                return []
            summary = self.history.summary
            start = 0 if summary is None else summary.turns
            return portions(self._turns.__getitem__, found, start, self.limits(sent))

    def limits(self, sent: SentRequest) -> Limits:
        """Return the limits of a request."""
        return Limits(
            self.context.limit_for(sent.model),
            self.context.max_upload_bytes,
            sent.tool_tokens,
            self._scale,
            self._measured,
        )

    def _found(self, sent: SentRequest, at: Moment) -> Window:
        limits, summary = self.limits(sent), None
        if self.context.summarize is not None:
            summary = self.history.summary
        count = self._turns.refresh()
        kinds, answered = self.untaken.by(sent.model), end_of_answers(self.history)
        is_deaf = AudioInput in kinds

        def prepared(position: int) -> Prepared:
            item = self._turns[position]
            is_mixed = item.message is None or (is_deaf and item.voice_end > NO_VOICE)
            return unseen(item, kinds) if is_mixed and position < answered else item

        instructions = self.settings.instructions
        items = self._turns.all_if_they_fit(instructions, limits, at) if summary is None else None
        if items is not None:
            if is_deaf:
                items = list(map(prepared, range(count)))
            elif kinds and self._turns.with_media:
                items = list(items)
                for position in self._turns.with_media:
                    items[position] = prepared(position)
            return Window(0, arranged(items, instructions))
        walk = partial(
            window,
            partial(self._newest_first, prepared, kinds),
            count,
            systems=[(position, prepared(position)) for position in self._turns.systems],
            instructions=instructions,
            context=self.context,
            limits=limits,
            at=at,
        )
        try:
            return walk(summary=summary)
        except ContextTooSmall:
            if summary is None:
                raise
            # The newest exchange needs the room of the summary.
            return walk(summary=attrs.evolve(summary, text=""))

    def _newest_first(
        self, prepared: Callable[[int], Prepared], kinds: MediaKinds
    ) -> Iterator[Prepared]:
        """Return the turns as a model sees them that takes no media of these kinds."""
        is_deaf = AudioInput in kinds

        def seen(block: tuple[int, list[Prepared]]) -> Iterator[Prepared]:
            start, items = block
            if is_deaf or (kinds and not all(map(_message, items))):
                return map(prepared, reversed(range(start, start + len(items))))
            return reversed(items)

        return chain.from_iterable(map(seen, self._turns.back()))

    def _marked(self) -> tuple[Sequence[Prepared], Moment]:
        at = self._moment()
        with self.history.reading:
            turns = self._turns.all_with_turns()
            found = self._window(self._next, at)
            summary = self.history.summary
            covered = {id(item.turn) for item in turns[: summary.turns if summary else 0]}
            return marked(arranged(turns, self.settings.instructions), found, covered), at

    def _reader(self, items: Iterable[Prepared]) -> Callable[[Data], bytes]:
        """Return a function that gives the bytes of these items, all fetched at once."""
        turns = [turn for item in filter(_upload, items) if (turn := item.sent or item.turn)]
        names = [data.name for turn in turns for data in kept_data(turn) if data.name]
        fetched = self.history.fetch_all(names)

        def read(data: Data) -> bytes:
            found = None if isinstance(data, bytes) else fetched.get(data.name)
            return read_data(data) if found is None else found

        return read

    # --- what comes back -----------------------------------------------------------------------

    def begin_exchange(self) -> None:
        """Forget the heals of exchanges before."""
        self._heals = 0

    def heal(self, error: BaseException) -> bool:
        """Give up what the error says the server has forgotten, or what was too much for it.

        Returns:
            True if the next request differs, so that it makes sense to send it.
        """
        tokens = tokens_refused(error)
        if tokens is not None:
            return self._learn(tokens)
        if kinds := refused_media(error):
            return self.untaken.give_up(self.sent, kinds)
        if self._server.takes_unknown_keys and self._give_up_keys(error):
            return True
        if self._healed_length != len(self.history):
            self._heals, self._healed_length = 0, len(self.history)
        turns = self.history.turns
        known = {
            turn.audio.id
            for turn in turns
            if isinstance(turn, AssistantTurn) and turn.audio and turn.audio.id
            if not turn.audio.lost
        }
        sent = voices(self.sent.items, self.sent.at)
        dead = dead_ids(error, sent, known, self._heals)
        if not dead:
            return False
        self._heals += 1
        # What is given up next must have been sent again.
        self.sent = attrs.evolve(self.sent, items=())
        lost: dict[int, Turn] = {
            position: attrs.evolve(turn, audio=attrs.evolve(turn.audio, lost=True))
            for position, turn in enumerate(turns)
            if isinstance(turn, AssistantTurn) and turn.audio and turn.audio.id in dead
        }
        # Failing to save that never fails the exchange.
        self.history.replace(lost, must_save=False)
        lost_ids = counted(len(dead), "audio id")
        log.info("the server lost %s; sending transcripts instead", lost_ids)
        return True

    def _give_up_keys(self, error: BaseException) -> bool:
        """Send this server no keys, ids and names any more that it refuses; True if there are."""
        server, turns = self._server, [item.turn for item in self.sent.items]
        sent = set[str]().union(*map(unusual_keys, turns)) - server.refused_keys
        if keys := refused_keys(error, sent):
            log.info("the server refuses the keys %s of earlier answers", ", ".join(sorted(keys)))
            self._server = attrs.evolve(server, refused_keys=server.refused_keys | keys)
        elif refuses_calls(error):
            self._server = attrs.evolve(server, takes_unknown_keys=False)
        return self._server is not server

    def answer(self, completion: Mapping[str, Any]) -> AssistantTurn:
        """Return the answer in a completion; learn the server's clock and its count of tokens.

        Raises:
            InvalidCompletion: if there is none in it, or more than one.
        """
        asked = self.sent.asked
        turn = turn_from_completion(completion, asked)
        self._measure(turn)
        skew = skew_of(completion, asked)
        if skew is not None:
            self._skew = skew
        self.sent = attrs.evolve(self.sent, asked=attrs.evolve(asked, sent_at=None))
        return turn

    def _measure(self, turn: AssistantTurn) -> None:
        """Correct the estimate by what the last request cost."""
        if self.sent.asked.sent_at is None or not self.sent.items:
            return
        if turn.usage and turn.usage.prompt_tokens and (estimate := self.sent.estimate):
            self._scale = min(max(turn.usage.prompt_tokens / estimate, 0.5), 4.0)
            self._measured = estimate

    def _learn(self, tokens: int) -> bool:
        """Correct the estimate by a request that was too long; True if less is sent then."""
        estimate, limit = self.sent.estimate, self.context.limit_for(self.sent.model)
        believed = Limits(limit, 0, 0, self._scale, self._measured).corrected(estimate)
        if not estimate or limit is None or tokens <= max(limit, believed):
            return False
        self._scale, self._measured = tokens / estimate, math.inf
        return True

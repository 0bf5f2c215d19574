"""`Conversation`: the turns, what is sent of them, and the exchange with the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, TypeVar

from conversation import _base, _client
from conversation._client import Stream
from conversation._exchange.steps import Steps
from conversation._kept import Kept
from conversation._rendering.explanation import Rendering
from conversation._values.parts import Part
from conversation._values.turns import AssistantTurn, SystemTurn, ToolTurn, Turn, UserTurn
from conversation._wire.messages import Message
from conversation.stores import Store

_R = TypeVar("_R")
_TurnT = TypeVar("_TurnT", bound=Turn)


class Conversation(Kept):
    """A conversation with a voice model, in memory; `open` gives a saved one.

    Args:
        client: An `openai.OpenAI`. None: one for the whole process, made when first needed from
            `OPENAI_API_KEY` and the like.
        model: The model's name.
        voice: The voice that answers.
        audio_format: What spoken answers come in: `wav`, `mp3`, `flac`, `opus`, `aac` or `pcm16`
            (24 kHz mono s16le without a header).
        modalities: `("text", "audio")` for spoken answers, `("text",)` for written ones.
        instructions: What the model is told before everything else.
        tools: Functions, which `say`, `reply` and `stream` call for the model, described to it by
            their signatures and docstrings (this needs pydantic 2); and dicts, as
            `chat.completions.create` takes them, whose calls are left to you: `add_tool_result`.
        max_tool_rounds: How often in a row functions are called before the model has to answer.
        context: What of a long history is sent; see `Context`.
        transcribe: A model's name, or True for `gpt-transcribe`: user sound that grows too old to
            be sent (see `Context`) gets its words, once. It costs money.
        speak_when_dropped: Have answers spoken by `audio.speech` that came as text although sound
            was asked for: a model's name, or True for `gpt-4o-mini-tts`. It costs money.
        clock: Gives Unix time in seconds.
        expiry_margin: Seconds before `expires_at` from which an audio id is not used any more.

    Raises:
        InvalidSetting: if one of them cannot work.
    """

    _client_kind = "OpenAI"

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
        return self._talk.shown_request(**options)

    def messages(self) -> list[Message]:
        """The messages alone, as `request` sends them now."""
        return self._talk.messages()

    def render(self) -> Rendering:
        """What the next request would send, with each message's turn and why it took its form."""
        return self._talk.render()

    def heal(self, error: BaseException) -> bool:
        """Take in an error of a call of your own: did the server forget an answer's audio id?

        If it is `audio_not_found` about this history, the dead id is given up for good and the
        answer goes as its transcript from now on; call again with a new `request`. The second
        time in a row all ids are given up, so it takes two extra calls at most.

        Returns:
            Whether anything was given up, so that calling again makes sense.
        """
        return self._do(self._talk.changing(self._talk.heal, error))

    # --- adding turns --------------------------------------------------------------------------

    def add_user(self, *content: Part) -> UserTurn:
        """Add what the user said, wrote or showed.

        Args:
            content: One or more of `str`, `AudioInput`, `ImageInput`, `FileInput`.

        Raises:
            InvalidTurn: if there is nothing in it, or something else.
        """
        return self.add(UserTurn(content, at=self._talk.now()))

    def add_assistant(self, text: str) -> AssistantTurn:
        """Add an answer in words, such as a greeting that the model did not make itself.

        Raises:
            InvalidTurn: if `text` is empty or no text.
        """
        return self.add(_base.greeting(text))

    def add_system(self, text: str) -> SystemTurn:
        """Add words from the program to the model, at this place of the conversation.

        What holds for the whole conversation belongs into `instructions`.

        Raises:
            InvalidTurn: if `text` is empty or no text.
        """
        return self.add(SystemTurn(text))

    def add_completion(self, completion: Any) -> AssistantTurn:
        """Add the model's answer, from a call of your own.

        After `request`, the server's clock is read off it too.

        Args:
            completion: What `chat.completions.create` returned, or its dict; with `stream=True`
                the stream itself, or any iterable of its chunks.

        Raises:
            InvalidCompletion: if there is no answer in it, or more than one (`n` above 1).
        """
        return self._do(self._talk.adding_completion(completion))

    def add_tool_result(self, tool_call_id: str, content: Any) -> ToolTurn:
        """Add the answer to a tool call.

        Args:
            tool_call_id: The `id` of a `ToolCall` of an earlier turn.
            content: The result: text, or anything that JSON can hold.

        Raises:
            UnknownToolCall: if no call with this id waits for an answer.
            InvalidSetting: if JSON cannot hold the content.
        """
        return self.add(ToolTurn(tool_call_id, _base.tool_content(content)))

    def add(self, turn: _TurnT) -> _TurnT:
        """Add a turn that was made before, such as one of another conversation.

        Raises:
            InvalidTurn: if it is no turn, or one of the user or the system without content.
            UnknownToolCall: if it answers a call that is not open.
        """
        return self._do(self._talk.adding(turn))

    # --- changing turns and labels -------------------------------------------------------------

    def undo(self, answer_only: bool = False) -> tuple[Turn, ...]:
        """Take back the last exchange: the last user turn and all that follows it.

        Where there is no user turn, all but the system turns that come first. The files of a saved
        session's turns are removed with them; what they cost still counts in `usage`.

        Args:
            answer_only: Keep the user turn, so that `reply` can try anew.

        Returns:
            What was taken back, oldest first, with its sound; `add` takes it again (and its
            usage counts again). Empty where there is nothing to take back.

        Raises:
            SaveFailed, SessionLocked, SessionChanged: as `open` says; then nothing is changed.
        """
        return self._do(self._talk.changing(self._talk.undo, answer_only=answer_only))

    def fork(self, session_id: str | None = None) -> Self:
        """A copy that goes its own way: with these turns, settings and labels, and no usage.

        Its sound is its own: deleting one of the two leaves the other whole.

        Args:
            session_id: Save it as a new session of this id, in the same store; None: it is in
                memory.

        Raises:
            SessionExists: if there is a session of this id.
            SaveFailed: if the disk refuses; then there is no copy.
            SessionLocked, SessionChanged: as `open` says.
        """
        return self._do(self._forking(session_id))

    def _moved(self, store: Store, session_id: str) -> Self:
        """The same, as a new session of a store; what was spent counts there."""
        self._store = store
        return self._do(self._begun(*self._forked(store.session(session_id), moves=True)))

    def truncate(self, seconds: float) -> AssistantTurn:
        """Cut the last answer to what was heard, when the user talked over it.

        Its sound is cut there (WAV, MP3 and `pcm16`; other formats stay whole), and its words in
        proportion. It counts as interrupted, and is never sent as voice again.

        Args:
            seconds: How much of it was played. At its end or beyond, nothing is changed.

        Returns:
            The answer, as it is now.

        Raises:
            InvalidTurn: if the last turn is no spoken answer, or nobody knows its length.
            SaveFailed, SessionLocked, SessionChanged: as `open` says; then nothing is changed.
        """
        return self._do(self._talk.changing(self._talk.truncate, seconds))

    def set_transcript(self, turn: Turn, text: str) -> AssistantTurn | UserTurn:
        """Put other words in the place of those that are known of a spoken turn.

        Args:
            turn: One of `turns`, with one sound in it.
            text: What was said.

        Returns:
            The turn, as it is now.

        Raises:
            InvalidTurn: if it is none of these turns, or has no sound, or several.
            SaveFailed, SessionLocked, SessionChanged: as `open` says; then nothing is changed.
        """
        return self._do(self._talk.changing(self._talk.set_transcript, turn, text))

    def set_title(self, text: str | None) -> None:
        """Call the session something.

        Raises:
            InvalidSetting: if it is no text.
            SaveFailed, SessionLocked, SessionChanged: as `open` says; then nothing is changed.
        """
        self._do(self._talk.changing(self._talk.relabel, "title", _base.checked_title(text)))

    def set_metadata(self, mapping: Mapping[str, Any]) -> None:
        """Note something about the session, in the place of what was noted before.

        Args:
            mapping: Anything that JSON can hold, by names.

        Raises:
            InvalidSetting: if JSON cannot hold it.
            SaveFailed, SessionLocked, SessionChanged: as `open` says; then nothing is changed.
        """
        metadata = _base.checked_metadata(mapping)
        self._do(self._talk.changing(self._talk.relabel, "metadata", metadata))

    # --- exchanges with the model --------------------------------------------------------------

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
        return self._ask(self._talk.asking_with(content or ("",), options))

    def reply(self, **options: Any) -> AssistantTurn:
        """Get the model's answer to what is already there.

        Args:
            options: As in `say`.

        Raises:
            InvalidTurn: if there is nothing to answer yet.
            InvalidSetting, InvalidCompletion, openai.OpenAIError: as in `say`.
        """
        return self._ask(self._talk.asking_with((), options))

    def stream(self, *content: Part, **options: Any) -> Stream:
        """The same as `say`, or without content as `reply`, as events while they come.

        ::

            with chat.stream("Good morning") as events:
                for event in events:
                    if isinstance(event, AudioDelta):
                        speaker.write(event.data)

        Events are `TranscriptDelta`, `TextDelta`, `AudioDelta`, `ToolCalled`, and `TurnFinished` at
        the end of each answer, which is kept by then; its sound is WAV. The session is held until
        the block is left, so leave it. Leaving it early, or with an error, keeps what had arrived
        as a turn that is `interrupted`; so does a connection that breaks, whose error is raised.

        Args:
            content: As in `say`; nothing: what is already there is answered.
            options: As in `say`.

        Raises:
            InvalidTurn, InvalidSetting, openai.OpenAIError: as in `say`, where the block is entered
                or while it runs.
        """
        return Stream(lambda: self._talk.asking_with(content, options, streams=True), self._client)

    def transcribe(self) -> tuple[UserTurn, ...]:
        """Find the words of all user sound that has none, with `audio.transcriptions`.

        Each is kept as soon as it is known, so that nothing is asked twice. It costs money.

        Returns:
            The turns that have words now.

        Raises:
            openai.OpenAIError: what the SDK raises; what was found before is kept.
            SaveFailed, SessionLocked, SessionChanged: as `open` says.
        """
        return self._ask(self._talk.holding(self._talk.transcribing))

    def _do(self, steps: Steps[_R]) -> _R:
        return _client.run(steps)

    def _ask(self, steps: Steps[_R]) -> _R:
        return _client.run(steps, _client.client_or_default(self._client))

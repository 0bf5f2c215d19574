"""`Conversation`: turns, what is sent of them, and the exchange with the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from conversation._base.making import BaseConversation, check_place
from conversation._base.talking import greeting, tool_content
from conversation._client import Hold, Stream, client_or_default, run
from conversation._exchange.holding import adding, adding_completion
from conversation._exchange.steps import Steps
from conversation._rendering.explanation import Rendering
from conversation._rendering.settings import SettingsGiven
from conversation._rendering.window import Context
from conversation._values.naming import Naming
from conversation._values.parts import Part
from conversation._values.turns import AssistantTurn, SystemTurn, ToolTurn, Turn, UserTurn
from conversation._wire.messages import Message
from conversation.stores import Store

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["Conversation", "Stream"]

_R = TypeVar("_R")
_TurnT = TypeVar("_TurnT", bound=Turn)


class Conversation(BaseConversation["OpenAI"]):
    """A conversation with a voice model, in memory; `open` returns a saved one.

    Args:
        client: An `openai.OpenAI`. None: one for the whole process, made when first needed from
            `OPENAI_API_KEY` and the like.
        model: The model's name. OpenAI's voice models take no pictures and files, its text models
            no sound: new ones are refused before anything is sent, and what another model was shown
            goes as its words or as a placeholder.
        voice: The voice of the answers.
        audio_format: Format of spoken answers: `wav`, `mp3`, `flac`, `opus` (in Ogg), `aac` or
            `pcm16` (24 kHz mono s16le without a header).
        modalities: `("text", "audio")` for spoken answers, `("text",)` for written ones.
        instructions: Words to the model before everything else.
        tools: Functions, which `say`, `reply` and `stream` call for the model, described to it by
            their signatures and docstrings (this needs pydantic 2.6); and dicts, as
            `chat.completions.create` takes them, whose calls are left to you: `add_tool_result`,
            then `reply`. Functions see the context variables of the code that calls `say` or reads
            the stream. What they raise, and arguments that do not fit, become the call's result and
            a log warning. Of a call without a result, as when the process dies, the model is told
            that it may have been carried out.
        max_tool_rounds: Number of rounds of tool calls before the model has to answer.
        context: Limits of a request; see `Context`.
        transcribe: Transcribes nothing now, which the method `transcribe` does. True, or a model's
            name (True is `gpt-transcribe`): from now on `say`, `reply` and `stream` first have user
            sound without words transcribed, once, when it has grown too old to be sent as sound
            (see `Context`), or the model takes none. It costs money.
        speak_when_dropped: True: have the same model read answers aloud that came as text although
            sound was asked for; where it says the same words, they are sent as voice later, else
            the sound is discarded. A model's name: have `audio.speech` speak them, whose models end
            on 2027-01-06. It costs money.
        clock: Returns Unix time in seconds.
        expiry_margin: Seconds before `expires_at` from which on an audio id is no longer used.
        audio_as_data_url: True: send user sound as a data URL, as DashScope wants it; None: if the
            client's `base_url` is DashScope's.
        options: Arguments of every request, by their names in `chat.completions.create`, such as
            `{"temperature": 0.8, "max_completion_tokens": 500}`; each can be overridden per call.
            They are saved, so no secrets belong there. What has a setting of its own is refused.

    Raises:
        InvalidSetting: if one of them cannot work.
    """

    _client_class = "OpenAI"

    # --- what is sent --------------------------------------------------------------------------

    def request(self, **options: Any) -> dict[str, Any]:
        """Return the keyword arguments of the next `chat.completions.create`.

        For a call of your own: pass them to the client, and its answer to `add_completion`. With
        `stream=True` they ask for `pcm16`, the only format that streams, and for usage. Without
        audio in `modalities` there is no `audio`.

        Args:
            options: Arguments of your own, which override the settings.

        Raises:
            InvalidSetting: if an option cannot work in a conversation (`messages`, `n` above 1)
                or cannot be written as JSON.
        """
        return self._requests.request(options)

    def messages(self) -> list[Message]:
        """Return the messages alone, as `request` sends them now."""
        return self._requests.messages()

    def render(self) -> Rendering:
        """Return the messages of the next request, each with its turn and why it took its form."""
        return self._requests.explain()

    def heal(self, error: BaseException) -> bool:
        """Learn from an error of a call of your own that the server forgot an audio id.

        If the error is `audio_not_found` about this history, the dead id is given up for good and
        the answer is sent as its transcript from now on; call again with a new `request`. The
        second time in a row all ids are given up, so it takes two extra calls at most.

        Returns:
            True if anything was given up, so that calling again makes sense.
        """
        return run(self._changing(partial(self._requests.heal, error)))

    # --- adding turns --------------------------------------------------------------------------

    def add_user(
        self, *content: Part, name: str | None = None, message_id: str | None = None
    ) -> UserTurn:
        """Add what the user said, wrote or showed.

        Args:
            content: One or more of `str`, `AudioInput`, `ImageInput`, `FileInput`.
            name: The name of who speaks, where there are several. It is sent in the API's form.
            message_id: The id under which a messenger delivers it, text of 1 to 512 bytes: a turn
                of this id that is there already is returned, and nothing is added.

        Raises:
            InvalidTurn: if there is nothing in it, or something else.
        """
        return self.add(self._said(content, name, message_id))

    def add_assistant(self, text: str) -> AssistantTurn:
        """Add an answer in words, such as a greeting that the model did not make itself.

        Raises:
            InvalidTurn: if `text` is empty or no text.
        """
        return self.add(greeting(text))

    def add_system(self, text: str) -> SystemTurn:
        """Add words from the program to the model, at this point of the conversation.

        Words that hold for the whole conversation belong in `instructions`.

        Raises:
            InvalidTurn: if `text` is empty or no text.
        """
        return self.add(SystemTurn(text))

    def add_completion(self, completion: Any) -> AssistantTurn:
        """Add the model's answer from a call of your own.

        Args:
            completion: The result of `chat.completions.create`, or its dict; with `stream=True`
                the stream itself, or any iterable of its chunks; or what `chat.completions.stream`
                returned. Of a stream that breaks nothing is kept; `stream` keeps what has arrived.

        Raises:
            InvalidCompletion: if there is no answer in it, or more than one (`n` above 1).
        """
        return run(adding_completion(self._requests, completion))

    def add_tool_result(self, tool_call_id: str, content: Any) -> ToolTurn:
        """Add the result of a tool call.

        Args:
            tool_call_id: The `id` of a `ToolCall` of an earlier turn.
            content: The result: text, or anything that JSON can hold.

        Raises:
            UnknownToolCall: if no call with this id waits for a result.
            InvalidSetting: if JSON cannot hold the content.
        """
        return self.add(ToolTurn(tool_call_id, tool_content(content)))

    def add(self, turn: _TurnT) -> _TurnT:
        """Add a turn that was made before, such as one of another conversation.

        Raises:
            InvalidTurn: if it is no turn, or a user's or the system's without content.
            UnknownToolCall: if it answers a call that is not open.
        """
        return run(adding(self._history, turn))

    def extend(self, turns: Iterable[Turn]) -> tuple[Turn, ...]:
        """Add several turns, all or none, whatever happens: errors, a kill, a power cut.

        One write for all of them: of a saved session's document, a new file that takes the place
        of the old one.

        Args:
            turns: Turns that were made before, oldest first.

        Returns:
            The turns as they are kept; for a `message_id` that is there already, that turn.

        Raises:
            InvalidTurn: if one is no turn, or a user's or the system's without content.
            UnknownToolCall: if one answers a call that is not open then.
            SaveFailed, SessionLocked, SessionChanged: as in `open`; then nothing is changed, and
                another `extend` with these turns adds none twice.
        """
        return run(self._extending(turns))

    # --- changing turns and labels -------------------------------------------------------------

    def undo(self, answer_only: bool = False) -> tuple[Turn, ...]:
        """Take back the last exchange: the last user turn and all that follows it.

        Without a user turn, all turns but leading system turns. Their sound is deleted from the
        store with them; their tokens still count in `usage`.

        Args:
            answer_only: Keep the user turn, so that `reply` can try again.

        Returns:
            The turns that were taken back, oldest first, with their sound; `add` takes them again
            (and their usage counts again). Empty if there is nothing to take back.

        Raises:
            SaveFailed, SessionLocked, SessionChanged: as in `open`; then nothing is changed.
        """
        return run(self._dropping(partial(self._history.undo, answer_only=answer_only)))

    def rewind(self, turn: Turn) -> tuple[Turn, ...]:
        """Take back a turn and all that follow it, such as to put a question in another way.

        Their sound is deleted from the store with them; their tokens still count in `usage`.

        Args:
            turn: One of `turns`; of equal ones, the very same.

        Returns:
            The turns that were taken back, oldest first, with their sound; `extend` takes them
            again.

        Raises:
            InvalidTurn: if it is none of these turns.
            SaveFailed, SessionLocked, SessionChanged: as in `open`; then nothing is changed.
        """
        return run(self._dropping(partial(self._history.rewind, turn)))

    def remove(self, *turns: Turn) -> tuple[Turn, ...]:
        """Remove just these turns, such as a message that its user wants to be forgotten.

        Their sound is deleted from the store with them; their tokens still count in `usage`. The
        result of a removed tool call stays, and is no longer sent.

        Args:
            turns: Some of `turns`, in any order; of equal ones, the very same.

        Returns:
            The turns that were removed, in their order, with their sound.

        Raises:
            InvalidTurn: if one is none of these turns; then none is removed.
            SaveFailed, SessionLocked, SessionChanged: as in `open`; then nothing is changed.
        """
        return run(self._dropping(partial(self._history.remove, turns)))

    def clear(self) -> None:
        """Remove all turns with their sound; title, metadata and settings stay.

        Their tokens still count in `usage`.

        Raises:
            SaveFailed, SessionLocked, SessionChanged: as in `open`; then nothing is changed.
        """
        run(self._dropping(self._history.clear))

    def fork(
        self,
        session_id: str | None = None,
        *,
        until: Turn | None = None,
        store: Store | str | Path | None = None,
    ) -> Self:
        """Return an independent copy: with these turns, settings and labels, and no usage.

        Its sound is its own: deleting one of the two leaves the other whole.

        Args:
            session_id: Save it as a new session of this id; None: keep it in memory.
            until: The last of `turns` that it gets; None: all.
            store: The store of the new session; a path: `FileStore(path)`; None: the same store,
                or `FileStore()` for a conversation in memory.

        Raises:
            InvalidTurn: if `until` is none of these turns.
            InvalidSetting: for a `store` without `session_id`.
            SessionExists: if there is a session of this id.
            SaveFailed: if the write fails; then there is no copy.
            SessionLocked, SessionChanged: as in `open`.
        """
        return run(self._forking(session_id, until, store))

    def truncate(self, seconds: float, turn: Turn | None = None) -> AssistantTurn:
        """Cut an answer to the part that was heard, when the user talked over it.

        Its sound is cut there (WAV, MP3 and `pcm16`; other formats stay whole), and its words in
        proportion. It becomes `interrupted`, and is never sent as voice again.

        Args:
            seconds: Length of the part that was played. At the answer's end or beyond, nothing is
                changed. Of an answer that was interrupted before its sound began, nothing was
                heard, and its words become "…".
            turn: One of `turns`: the answer; None: the last turn.

        Returns:
            The answer, as it is now.

        Raises:
            InvalidTurn: if it is no spoken answer, none of these turns, or its length is unknown.
            SaveFailed, SessionLocked, SessionChanged: as in `open`; then nothing is changed.
        """
        return run(self._changing(partial(self._history.truncate, seconds, turn)))

    def refresh(self) -> tuple[Turn, ...]:
        """Read what others have written into the session, without a change and without its lock.

        Every change does that too; this is for who only looks, also with `read_only=True`.

        Returns:
            The turns behind the common beginning of what was known and what is there; `turns` has
            all. Empty in memory, and while an exchange or a hold of this object goes on.

        Raises:
            SessionChanged: if the session was deleted.
            SessionCorrupt, SessionUnavailable, OSError: as in `open`.
        """
        return run(self._refreshing())

    def hold(self) -> Hold[Self]:
        """Lock the conversation for several changes and exchanges, which become one for others.

        ::

            with chat.hold():
                chat.add_system(f"The time is {now}.")
                chat.say(AudioInput(transcoded(note)))

        Others wait, in other processes too, up to their `timeout`; calls of this object inside of
        the block do not. They are told apart by their context (`contextvars`): tasks that are
        created in the block belong to it, take turns, and are waited for at its end (after an error
        for up to `timeout` seconds); threads that are started in it wait for that. A fixture or a
        web framework's dependency that enters a block in a context of its own holds it against its
        user, too. A block may be inside of another. An error undoes nothing.

        Raises:
            ConversationBusy: if a tool or a stream's consumer asks for it, or if the block is left
                before a stream inside of it, which keeps the part of the answer that has arrived.
            SessionReadOnly, SessionLocked, SessionChanged, SaveFailed: as in `open`.
        """
        return Hold(self._holding, self)

    def set_transcript(self, turn: Turn, text: str) -> AssistantTurn | UserTurn:
        """Replace the words of a spoken turn.

        Args:
            turn: One of `turns`, with one sound in it.
            text: Its words.

        Returns:
            The turn, as it is now.

        Raises:
            InvalidTurn: if it is none of these turns, or has no sound or several.
            SaveFailed, SessionLocked, SessionChanged: as in `open`; then nothing is changed.
        """
        return run(self._changing(partial(self._history.set_transcript, turn, text)))

    def set_title(self, text: str | None) -> None:
        """Set the title, or remove it with None.

        Raises:
            InvalidSetting: if it is no text.
            SaveFailed, SessionLocked, SessionChanged: as in `open`; then nothing is changed.
        """
        run(self._titling(text))

    def set_metadata(self, mapping: Mapping[str, Any]) -> None:
        """Replace the program's notes on the conversation.

        Args:
            mapping: Values that JSON can hold, by name.

        Raises:
            InvalidSetting: if JSON cannot hold it.
            SaveFailed, SessionLocked, SessionChanged: as in `open`; then nothing is changed.
        """
        run(self._noting(mapping))

    # --- exchanges with the model --------------------------------------------------------------

    def say(
        self,
        *content: Part,
        name: str | None = None,
        message_id: str | None = None,
        **options: Any,
    ) -> AssistantTurn:
        """Add a user turn and return the model's answer.

        Args:
            content: As in `add_user`.
            name: As in `add_user`.
            message_id: The id under which a messenger delivers it, perhaps several times. Where it
                was answered before, by whatever process, that answer is returned, and nothing is
                sent to the model; where it was added and not answered, it is answered now. What
                else a repeat holds is ignored. Delivering the answer once is up to you.
            options: Arguments of `chat.completions.create`, which override the settings, and those
                in `options` one by one.

        Raises:
            InvalidTurn: if there is no content.
            InvalidSetting: if an option cannot work.
            InvalidCompletion: if the server's response has no answer in it.
            openai.OpenAIError: any error of the SDK. Where a retry can mend it (no connection, 401,
                403, 408, 409, 429, 5xx), the user turn is kept and `reply` goes on; after any other
                refusal it is taken back. A note on the error says which.
        """
        return self._run(self._asking(self._said(content, name, message_id), options))

    def reply(self, **options: Any) -> AssistantTurn:
        """Return the model's answer to the turns that are there.

        Where an answer stands last, also an interrupted one, it is returned, and nothing is sent:
        others may have asked for it meanwhile. `undo(answer_only=True)` takes it back. A system
        turn behind it has the model speak again.

        Args:
            options: As in `say`.

        Raises:
            InvalidTurn: if there is nothing to answer yet.
            InvalidSetting, InvalidCompletion, openai.OpenAIError: as in `say`.
        """
        return self._run(self._asking(None, options))

    def stream(
        self,
        *content: Part,
        name: str | None = None,
        message_id: str | None = None,
        **options: Any,
    ) -> Stream:
        """Same as `say`, or without content as `reply`, as events while they arrive.

        ::

            with chat.stream("Good morning") as events:
                for event in events:
                    if isinstance(event, AudioDelta):
                        speaker.write(event.data)

        Events are `TranscriptDelta`, `TextDelta`, `AudioDelta`, `ToolCalled`, and `TurnFinished` at
        the end of each answer, which is kept by then; its sound is WAV. The conversation is locked
        until the block is left. Leaving it early, or with an error, keeps the part of the answer
        that has arrived as an `interrupted` turn; so does a connection that breaks, whose error is
        raised. An answer that is there already is its `TurnFinished` alone.

        Args:
            content: As in `say`; without any, the model answers the turns that are there.
            name: As in `say`.
            message_id: As in `say`.
            options: As in `say`.

        Raises:
            InvalidTurn, InvalidSetting, openai.OpenAIError: as in `say`, on entering the block or
                inside of it.
        """
        steps = partial(self._streaming, content, name, message_id, options)
        return Stream(steps, self._client)

    def transcribe(self) -> tuple[UserTurn, ...]:
        """Transcribe all user sound without known words, by `audio.transcriptions`.

        Each transcript is kept as soon as it is known, so that none is requested twice. It costs
        money. The setting `transcribe` does this later, for sound that is too old to be sent.

        Returns:
            The turns that have words now.

        Raises:
            openai.OpenAIError: any error of the SDK; transcripts found before are kept.
            SaveFailed, SessionLocked, SessionChanged: as in `open`.
        """
        return self._run(self._transcribing())

    def _change(self, job: Callable[[], _R]) -> _R:
        return run(self._changing(job))

    def _run(self, steps: Steps[_R]) -> _R:
        return run(steps, client_or_default(self._client))

    # --- files and sessions --------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write everything, sound included, into one JSON file, and return its path.

        The file is a copy: an opened session saves itself. It is replaced atomically. `client` and
        `clock` are not saved.

        Raises:
            SaveFailed: if it cannot be written; an existing file is unchanged.
        """
        return self._save(path)

    def export(self, path: str | Path, format: str | None = None) -> Path:  # noqa: A002  # as shutil's
        """Write the conversation in another format into a file, and return its path.

        - `html`: one page to look at and listen to, with all sound inside. Nothing is fetched. With
          the extra `formats`, large sound (WAV) is embedded as MP3: an eighth of the size, at the
          cost of a second or two for each minute of sound.
        - `markdown`: the words.
        - `messages`: the API's messages as JSON, answers as their words, user sound inside.
        - `jsonl`: a line of text for OpenAI's fine-tuning; exchanges without known words are left
          out, with a log warning.
        - `json`: the file that `save` writes.

        Args:
            path: The file. It is replaced atomically.
            format: One of these; None: by the file's ending: `.html`, `.md`, `.messages.json`,
                `.jsonl`, `.json`.

        Raises:
            InvalidSetting: if there is no such format, or the file is the session itself.
            SaveFailed: if it cannot be written; an existing file is unchanged.
        """
        return self._save(path, format)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        client: OpenAI | None = None,
        clock: Callable[[], float] = time.time,
        context: Context = Context(),  # noqa: B008  # it is frozen
        **settings: Unpack[SettingsGiven],
    ) -> Self:
        """Return the conversation that `save` wrote, in memory.

        Args:
            path: The file; or a session's own document, with its folder of sound beside it.
            client: As in `Conversation`.
            clock: As in `Conversation`.
            context: As in `Conversation`; it is not saved.
            settings: Settings of `Conversation`, which override those in the file.

        Raises:
            SessionCorrupt: if it is no saved conversation, a damaged one, or a session's document
                without its sound.
            SessionTooNew: if a later version wrote it.
            OSError: if it cannot be read.
        """
        return cls._loaded(path, client=client, clock=clock, context=context, settings=settings)

    @classmethod
    def from_messages(
        cls,
        messages: Iterable[Any],
        *,
        session_id: str | None = None,
        store: Store | str | Path | None = None,
        client: OpenAI | None = None,
        clock: Callable[[], float] = time.time,
        context: Context = Context(),  # noqa: B008  # it is frozen
        **settings: Unpack[SettingsGiven],
    ) -> Self:
        """Return a conversation with the turns of a list of API messages.

        Inline sound, audio ids, transcripts that were pasted into `content`, tool calls without
        results and results without calls are all kept. Anything else is named in log warnings.
        Times are not taken over: the turns have none.

        Args:
            messages: Messages as `chat.completions.create(messages=…)` takes or returns them; items
                of the Responses API, the Agents SDK or the Realtime API; messages of LangChain or
                pydantic-ai; or one conversation of ShareGPT or of ChatGPT's export.
            session_id: Save it as a new session of this id, all or nothing; None: keep it in
                memory.
            store: The store of the new session; a path: `FileStore(path)`; None: `FileStore()`.
            client: As in `Conversation`.
            clock: As in `Conversation`.
            context: As in `Conversation`.
            settings: Settings of `Conversation`.

        Raises:
            InvalidTurn: if it is no list of messages, several conversations, or in a format that is
                not known, which is named.
            InvalidSetting: for a `store` without `session_id`.
            SessionExists: if there is a session of this id; it is not changed.
            SaveFailed, SessionLocked: as in `open`; then there is no session.
        """
        from conversation._wire.importing import turns_from_messages

        check_place(session_id, store)
        with Naming(session_id):
            turns = turns_from_messages(messages)
        given: Any = {"client": client, "clock": clock, "context": context, **settings}
        if session_id is None:
            return cls._imported(turns, **given)
        return run(cls._imported(turns, **given)._moving(store, session_id))

    @classmethod
    def open(
        cls,
        session_id: str,
        *,
        store: Store | str | Path | None = None,
        create: bool = True,
        read_only: bool = False,
        timeout: float = 60.0,
        client: OpenAI | None = None,
        clock: Callable[[], float] = time.time,
        context: Context = Context(),  # noqa: B008  # it is frozen
        **settings: Unpack[SettingsGiven],
    ) -> Self:
        """Resume a saved session, or begin it if it does not exist.

        Every turn is on disk before the call that adds it returns; a user turn before it is sent.
        Several processes may have one session open: each change and each exchange locks it, and
        first takes in what the others added.

        Args:
            session_id: Text of 1 to 512 UTF-8 bytes without control characters.
            store: The store of the session; a path: `FileStore(path)`; None: `FileStore()`.
            create: False: refuse a session that does not exist.
            read_only: Never change it; needs no lock.
            timeout: Seconds to wait for others who hold its lock.
            client: As in `Conversation`.
            clock: As in `Conversation`.
            context: As in `Conversation`; it is not saved.
            settings: Settings of `Conversation`, which override those in the session and are saved
                with the next change.

        Raises:
            SessionNotFound: if it does not exist, with `create=False` or `read_only=True`.
            SessionCorrupt: if it is damaged, or another session's; it is not changed.
            SessionTooNew: if a later version wrote it.
            SessionLocked: if others held its lock for `timeout` seconds; later, by each change.
            SessionUnavailable: if the store cannot be reached; later, by each change.
            OSError: if it cannot be read.
            SessionChanged: by a change, if something else changed it in the middle of that.
            SessionReadOnly: by a change, if it was opened with `read_only=True`, or closed.
            SaveFailed: by a change, if the write fails; memory and session are as before, and
                `add(error.turn)` retries.
        """
        opening = cls._opening(
            store,
            session_id,
            create=create,
            read_only=read_only,
            timeout=timeout,
            client=client,
            clock=clock,
            context=context,
            settings=settings,
        )
        return run(opening)

    def close(self) -> None:
        """Refuse changes of a saved session from now on. Nothing is pending: all is saved."""
        self._history.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

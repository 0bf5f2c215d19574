"""`Conversation`: the turns, what is sent of them, and the exchange with the model."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

import attrs
import orjson

from conversation import _client, _completion, _entries, _exchange, _rendering, _settings, _wire
from conversation._base import Base
from conversation._history import History
from conversation._inputs import Part
from conversation._journal import Saved, inlined
from conversation._turns import AssistantTurn
from conversation.errors import (
    InvalidTurn,
    SaveFailed,
    SessionChanged,
    SessionError,
    SessionNotFound,
)
from conversation.stores import Store, _format
from conversation.stores._disk import replace_file
from conversation.stores.files import FileStore

if TYPE_CHECKING:
    from openai import OpenAI

log = logging.getLogger("conversation")


class Conversation(Base):
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
        tools: Descriptions of tools, as `chat.completions.create` takes them; the calls are left
            to you, see `add_tool_result`.
        clock: Gives Unix time in seconds.
        expiry_margin: Seconds before `expires_at` from which an audio id is not used any more.

    Raises:
        InvalidSetting: if one of them cannot work.
    """

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
        sound = request["audio"] if _settings.asks_for_sound(request) else {}
        self._asked = _completion.Asked(self._clock(), sound.get("format"), speaks=bool(sound))
        return {**request, "messages": self._sending()}

    def messages(self) -> list[_wire.Message]:
        """The messages alone, as `request` sends them now."""
        self._asked = attrs.evolve(self._asked, sent_at=self._clock())
        return self._sending()

    def render(self) -> _rendering.Rendering:
        """What the next request would send, with each message's turn and why it took its form."""
        now = self._moment(self._clock())
        return _rendering.explained(self._history.prepared, self._settings.instructions, now)

    def heal(self, error: BaseException) -> bool:
        """Take in an error of a call of your own: did the server forget an answer's audio id?

        If it is `audio_not_found` about this history, the dead id is given up for good and the
        answer goes as its transcript from now on; call again with a new `request`. The second
        time in a row all ids that were sent are given up, so it takes two extra calls at most.

        Returns:
            Whether anything was given up, so that calling again makes sense.
        """
        with self._history:
            known = {
                turn.audio.id
                for turn in self._history.turns
                if isinstance(turn, AssistantTurn) and turn.audio and turn.audio.id
                if not turn.audio.lost
            }
            prepared, at = self._sent
            sent = _rendering.voices(prepared, self._settings.instructions, at)
            dead = _exchange.dead_ids(error, sent, known, self._heals)
            if not dead:
                return False
            self._heals += 1
            # What is given up next must have been sent again.
            self._sent = ((), at)
            lost = {
                position: without_voice(turn)
                for position, turn in enumerate(self._history.turns)
                if isinstance(turn, AssistantTurn) and turn.audio and turn.audio.id in dead
            }
            # Failing to save that never fails the exchange.
            self._history.replace(lost, must_save=False)
        log.info("the server lost %d audio id(s); their transcripts are sent instead", len(dead))
        return True

    def _sending(self) -> list[_wire.Message]:
        at, prepared = self._moment(self._clock()), self._history.prepared
        self._sent = (prepared, at)
        return _rendering.messages(prepared, self._settings.instructions, at)

    def _moment(self, now: float) -> _rendering.Moment:
        return _rendering.Moment(now + self._skew, self._settings.expiry_margin)

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
        with self._history:
            turn = self.add_user(*content)
            try:
                return self._exchanged(client, options)
            except SessionError as error:
                if isinstance(error, SaveFailed | SessionChanged) and error.turn is not None:
                    error.add_note("the answer came and is in error.turn; add(error.turn) keeps it")
                raise
            except Exception as error:
                if _client.is_refused(error) and self._history.turns[-1] is turn:
                    self._history.drop(1)
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
        if not self._history.turns and self._settings.instructions is None:
            msg = "there is nothing to answer yet; add_user(…) first, or call say(…)"
            raise InvalidTurn(msg)
        client = _client.client_or_default(self._client)
        with self._history:
            return self._exchanged(client, options)

    def _exchanged(self, client: OpenAI, options: dict[str, Any]) -> AssistantTurn:
        self._heals = 0
        try:
            return _client.run(_exchange.exchange(self, options), client)
        except Exception as error:
            _client.add_remedy(error)
            raise

    # --- files ---------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write everything, sound included, into one JSON file, and return its path.

        It is a copy: an opened session saves itself. The file is written beside its place and
        renamed into it, so there is always the old content or the new. `client` and `clock` are
        not saved.

        Raises:
            SaveFailed: if it cannot be written; a file that was there is unchanged.
        """
        path = Path(path)
        lines = [
            orjson.dumps(_entries.entry_from_turn(inlined(turn))) for turn in self._history.turns
        ]
        replace_file(path, _format.dump(self._history.header, lines))
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
        document = _format.parse(path.read_bytes(), path)
        if document.torn is not None:
            raise _format.corrupt(path, "its end was cut off", document.torn.line)
        chat = cls._resumed(document.header, settings, path, client=client, clock=clock)
        chat._history = History(chat._history.header, document.entries, place=path)
        chat._history.turns  # noqa: B018  # decoded now, so that a damaged file is refused here
        return chat

    @classmethod
    def open(
        cls,
        session_id: str,
        *,
        store: Store | None = None,
        create: bool = True,
        read_only: bool = False,
        timeout: float = 60.0,
        client: OpenAI | None = None,
        clock: Callable[[], float] = time.time,
        **settings: Unpack[_settings.SettingsGiven],
    ) -> Self:
        """A saved session: resumed where it exists, begun where not.

        Every turn is on the disk before the call that adds it returns; a user turn before it is
        sent. Several processes may have one session open: each change and each exchange holds it
        alone, and first takes in what the others added.

        Args:
            session_id: 1 to 128 UTF-8 bytes without control characters.
            store: Where sessions live; None: `FileStore()`.
            create: False: only a session that exists.
            read_only: Never change it; needs no lock.
            timeout: Seconds to wait for others who hold it.
            client: As in `Conversation`.
            clock: As in `Conversation`.
            settings: Settings of `Conversation`, which win over those in the file and are saved
                with the next change.

        Raises:
            SessionNotFound: if it does not exist, with `create=False` or `read_only=True`.
            SessionCorrupt: if its file is damaged, or is another session; it is not changed.
            SessionTooNew: if a later version wrote it.
            SessionLocked: if others held it for `timeout` seconds; later, by each change.
            SessionChanged: by a change, if something else changed the file in the middle of it.
            SessionReadOnly: by a change, if it was opened with `read_only=True`, or closed.
            SaveFailed: by a change, if the disk refuses; file and memory are as they were, and
                `add(error.turn)` tries again.
        """
        session = (store or FileStore()).session(session_id)
        state = session.read(repair=False)
        if state is not None and state.recovered and not read_only:
            session.lock(timeout)
            try:
                state = session.read(repair=True)
            finally:
                session.unlock()
        if state is None and (read_only or not create):
            msg = f"there is no session {session_id!r} at {session.place}; FileStore().list() lists"
            raise SessionNotFound(msg, path=session.place)
        header = state.header if state else {"id": session_id}
        chat = cls._resumed(header, settings, session.place, client=client, clock=clock)
        chat._history = History(
            chat._history.header,
            state.entries if state else (),
            journal=Saved(
                session,
                read_only=read_only,
                timeout=timeout,
                begun=state is not None,
                stale_header=chat._history.header != header,
            ),
            fetch=session.fetch,
            place=session.place,
            recovered=state.recovered if state else None,
            given=chat._settings.saved(settings.keys(), only=True),
        )
        return chat

    @classmethod
    def _resumed(
        cls,
        header: Mapping[str, Any],
        given: _settings.SettingsGiven,
        place: Path,
        *,
        client: OpenAI | None,
        clock: Callable[[], float],
    ) -> Self:
        """A conversation with the labels of a file, and its settings under those that are given."""
        saved, foreign = _settings.read(header.get("settings"), place)
        chat = cls(client=client, clock=clock, **(saved | given))
        kept = foreign | chat._settings.saved(saved.keys() | given.keys())
        chat._history.header |= header
        chat._history.header["settings"] = kept
        return chat

    def close(self) -> None:
        """Let go of file handles. An opened session cannot be changed any more; all is saved."""
        self._history.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def without_voice(turn: AssistantTurn) -> AssistantTurn:
    """The turn, its audio id known to be dead."""
    return attrs.evolve(turn, audio=turn.audio and attrs.evolve(turn.audio, lost=True))

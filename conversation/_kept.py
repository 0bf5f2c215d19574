"""How a conversation comes from files and goes into them: one portable file, or a saved session."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from conversation import _client
from conversation._base import Base
from conversation._rendering.settings import SettingsGiven
from conversation._rendering.window import Context
from conversation._wire.importing import turns_from_messages
from conversation.stores import Store

if TYPE_CHECKING:
    from openai import OpenAI


class Kept(Base["OpenAI"]):
    """What `Conversation` has to do with files."""

    def save(self, path: str | Path) -> Path:
        """Write everything, sound included, into one JSON file, and return its path.

        It is a copy: an opened session saves itself. The file is written beside its place and
        renamed into it, so there is always the old content or the new. `client` and `clock` are
        not saved.

        Raises:
            SaveFailed: if it cannot be written; a file that was there is unchanged.
        """
        return self._save(path)

    def export(self, path: str | Path, format: str | None = None) -> Path:  # noqa: A002  # as shutil's
        """Write everything in another form into a file, and return its path.

        - `html`: one page to look at and listen to, with all sound inside. Nothing is fetched.
        - `markdown`: the words.
        - `messages`: the API's messages as JSON, answers as their words, user sound inside.
        - `jsonl`: a line of text for OpenAI's fine-tuning; exchanges whose words are not known are
          left out, with a log warning.
        - `json`: what `save` writes.

        Args:
            path: The file. As by `save`, there is always the old content or the new.
            format: One of these; None: what the name's end tells, `.html`, `.md`,
                `.messages.json`, `.jsonl`, `.json`.

        Raises:
            InvalidSetting: if there is no such form, or the file is the session itself.
            SaveFailed: if it cannot be written; a file that was there is unchanged.
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
        """The conversation that `save` wrote, in memory.

        Args:
            path: The file.
            client: As in `Conversation`.
            clock: As in `Conversation`.
            context: As in `Conversation`; it is not saved.
            settings: Settings of `Conversation`, which win over those in the file.

        Raises:
            SessionCorrupt: if it is no saved conversation, or a damaged one.
            SessionTooNew: if a later version wrote it.
            OSError: if it cannot be read.
        """
        return cls._loaded(path, client=client, clock=clock, context=context, settings=settings)

    @classmethod
    def from_messages(
        cls,
        messages: Iterable[Any],
        *,
        client: OpenAI | None = None,
        clock: Callable[[], float] = time.time,
        context: Context = Context(),  # noqa: B008  # it is frozen
        **settings: Unpack[SettingsGiven],
    ) -> Self:
        """A conversation, in memory, with the turns of a list of API messages.

        Inline sound, audio ids, transcripts that were pasted into `content`, tool calls without
        answers and answers without calls are all kept. What cannot be is named in log warnings.

        Args:
            messages: As `chat.completions.create(messages=…)` takes them, or returned them.
            client: As in `Conversation`.
            clock: As in `Conversation`.
            context: As in `Conversation`.
            settings: Settings of `Conversation`.

        Raises:
            InvalidTurn: if this is no list of messages at all.
        """
        turns = turns_from_messages(messages)
        return cls._imported(turns, client=client, clock=clock, context=context, **settings)

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
        context: Context = Context(),  # noqa: B008  # it is frozen
        **settings: Unpack[SettingsGiven],
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
            context: As in `Conversation`; it is not saved.
            settings: Settings of `Conversation`, which win over those in the file and are saved
                with the next change.

        Raises:
            SessionNotFound: if it does not exist, with `create=False` or `read_only=True`.
            SessionCorrupt: if its file is damaged, or is another session; it is not changed.
            SessionTooNew: if a later version wrote it.
            SessionLocked: if others held it for `timeout` seconds; later, by each change.
            OSError: if its file cannot be read.
            SessionChanged: by a change, if something else changed the file in the middle of it.
            SessionReadOnly: by a change, if it was opened with `read_only=True`, or closed.
            SaveFailed: by a change, if the disk refuses; file and memory are as they were, and
                `add(error.turn)` tries again.
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
        return _client.run(opening)

    def close(self) -> None:
        """Let go of file handles. An opened session cannot be changed any more; all is saved."""
        self._talk.history.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

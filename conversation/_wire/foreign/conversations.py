"""Documents of other programs to the conversations in them, and names for what is not known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import attrs

from conversation._values.text import shown
from conversation._wire.foreign.messages import TOO_DEEP, Left, is_role
from conversation._wire.foreign.parts import field, text_in
from conversation._wire.strict_json import json_text
from conversation.errors import InvalidTurn

_LISTS = ("messages", "conversations", "conversation", "items", "input", "output", "history")
"""Keys of requests, fine-tuning lines, responses and the like under which their messages are."""


@attrs.frozen
class Found:
    """A conversation in a document of another program.

    Attributes:
        messages: Its messages, as they were written.
        id: The id that it has there; None if it has none.
        title: Its title there.
    """

    messages: Sequence[Any]
    id: str | None = None
    title: str | None = None


def messages_of(given: Any) -> Sequence[Any]:
    """Return the messages of the one conversation that was given, as a list or a document.

    Raises:
        InvalidTurn: if it is none, or several.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise _no_messages(given)
    if hasattr(given, "model_dump"):  # a response, or LangChain's history, as an object
        lists = (getattr(given, name, None) for name in ("output", "messages"))
        if isinstance(page := getattr(given, "data", None), list) and hasattr(given, "has_more"):
            given = {"object": "list", "data": page, "has_more": given.has_more}
        else:
            given = next((found for found in lists if isinstance(found, list)), {"role": given})
    if isinstance(given, Mapping) and "role" in given:
        raise _no_messages(given)
    document = given if isinstance(given, Mapping) else list(given)
    found = conversations(document)
    if len(found) > 1:
        msg = (
            f"messages must be a list of API messages of one conversation, got {len(found)} "
            "conversations; pass them one by one"
        )
        raise InvalidTurn(msg)
    return found[0].messages if found else ()


def _no_messages(given: object) -> InvalidTurn:
    return InvalidTurn(f"messages must be a list of API messages, got {type(given).__name__}")


def conversations(document: Any, key: str | None = None) -> list[Found]:
    """Return all conversations in a document: a list of messages, or an export of other programs.

    Args:
        document: A JSON value, or a list of objects.
        key: Where the document is an object, the key of the conversation that is meant.

    Raises:
        InvalidTurn: if it is not known; the error names it as far as it can be told.
    """
    if key is not None:
        if not isinstance(document, Mapping) or key not in document:
            raise InvalidTurn(f"there is nothing under the key {key!r}{_keys_of(document)}")
        document = document[key]
    if isinstance(document, Mapping):
        found = _in_object(document)
        if found is None:
            raise unknown(document)
        return [found]
    if not isinstance(document, list | tuple):
        raise unknown(document)
    if not any(map(_is_whole, document)) and not _are_lists(document):
        return [Found(document)]
    return [found for each in document for found in _among_others(each)]


def _among_others(entry: object) -> list[Found]:
    """Return the conversations in an entry; what is none is refused by itself later."""
    try:
        is_whole = _is_whole(entry) or isinstance(entry, list)
        return conversations(entry) if is_whole else [Found([entry])]
    except RecursionError:
        return [Found([TOO_DEEP])]


def _are_lists(document: Sequence[Any]) -> bool:
    """Return True if it is made of lists of messages."""
    return bool(document) and all(
        isinstance(each, list) and each and all(isinstance(entry, Mapping) for entry in each)
        for each in document
    )


def _is_whole(entry: object) -> bool:
    """Return True for a conversation among others."""
    if not isinstance(entry, Mapping) or entry.keys() & {"role", "kind", "call_id"}:
        return False
    try:
        return _in_object(entry, one=False) is not None
    except RecursionError:
        return True


def _in_object(document: Mapping[str, Any], *, one: bool = True) -> Found | None:
    """Return the conversation in an object; None if it is none.

    Args:
        document: The object.
        one: Also take a single list of messages under any key.

    Raises:
        InvalidTurn: if there are several, and `one`.
    """
    names = ("conversation_id", "custom_id", "id", "uuid")
    own_id = next(filter(None, map(document.get, names)), None)
    label = str(own_id) if isinstance(own_id, str | int) else None
    title = text_in(document, "title") or text_in(document, "name")
    if is_own(document):
        return Found([document], label, title)
    if isinstance(nodes := document.get("mapping"), Mapping):
        return Found(list(_path(nodes, document.get("current_node"))), label, title)
    for key in ("body", "chat"):  # of a line for a batch, and of Open WebUI
        if isinstance(inner := document.get(key), Mapping):
            found = _in_object(inner, one=one)
            return found and attrs.evolve(found, id=label or found.id, title=title or found.title)
    told = [text for key in ("system", "instructions") if (text := document.get(key))]
    first = [{"role": "system", "content": text} for text in told]
    if (messages := _messages_in(document, told=bool(first))) is not None:
        return Found([*first, *messages], label, title)
    lists = {key: value for key, value in document.items() if _looks_like_messages(value)}
    if not one or not lists:
        return None
    if len(lists) > 1:
        msg = f"there are {len(lists)} conversations in it; choose one by its key{_keys_of(lists)}"
        raise InvalidTurn(msg)
    return Found([*first, *next(iter(lists.values()))], label, title)


def _messages_in(document: Mapping[str, Any], *, told: bool) -> Sequence[Any] | None:
    """Return the messages in an object of a known kind; None if it is none."""
    if document.get("object") == "list" and isinstance(page := document.get("data"), list | tuple):
        return [*_oldest_first(page), *([_MORE] if document.get("has_more") else [])]
    if preferred := _preferred(document):
        return preferred
    lists = (found for key in _LISTS if isinstance(found := document.get(key), list | tuple))
    if (found := next(lists, None)) is None and told:
        return _said_by("user", document.get("input")) or None
    return found


def is_own(document: object) -> bool:
    """Return True for a saved conversation of this package."""
    return isinstance(document, Mapping) and type(document.get("conversation")) is int


_MORE = Left("the list goes on, on other pages")

_PREFERENCES = (
    ("input", "preferred_output", "non_preferred_output"),  # OpenAI
    ("prompt", "chosen", "rejected"),  # TRL
)


def _preferred(document: Mapping[str, Any]) -> list[Any]:
    """Return the messages of a line for preference tuning, with the answer that was preferred."""
    for asked, preferred, other in _PREFERENCES:
        question, answer = document.get(asked), document.get(preferred)
        if answer and other in document:
            if isinstance(question, Mapping):
                question = question.get("messages")
            left = Left("it is an answer that was not preferred")
            return [*_said_by("user", question), *_said_by("assistant", answer), left]
    return []


def _said_by(role: str, given: Any) -> Sequence[Any]:
    if isinstance(given, str):
        return [{"role": role, "content": given}]
    return given if isinstance(given, list | tuple) else []


def _oldest_first(page: Sequence[Any]) -> Sequence[Any]:
    """Return the items of a list of the API in their order in time, as far as they tell it.

    By default, lists of items begin with the newest, lists of messages with the oldest.
    """
    times = [time for each in page if isinstance(time := field(each, "created_at"), int | float)]
    roles = [role for each in page if (role := text_in(each, "role")) in ("user", "assistant")]
    kinds = [kind for each in page if (kind := text_in(each, "type")) and "call" in kind]
    if times and times[0] != times[-1]:
        is_newest_first = times[0] > times[-1]
    elif kinds and kinds[0].endswith("_output") != kinds[-1].endswith("_output"):
        is_newest_first = kinds[0].endswith("_output")
    elif roles and roles[0] != roles[-1]:
        is_newest_first = roles[0] == "assistant"
    else:
        is_newest_first = any(text_in(each, "type") for each in page)
    return page[::-1] if is_newest_first else page


def _looks_like_messages(value: object) -> TypeGuard[Sequence[Any]]:
    names = ("role", "type", "from", "kind")
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(any(text_in(each, name) for name in names) for each in value)
    )


def _keys_of(document: object) -> str:
    if not isinstance(document, Mapping):
        return ", because it has no keys"
    names = [shown(key) for key in document]
    return f": it has {', '.join(names[:20])}" + (" …" if len(names) > 20 else "")


def _path(nodes: Mapping[str, Any], last: object) -> Iterator[Any]:
    """Return the messages of ChatGPT's export that lead to the one that was shown last."""
    if not isinstance(last, str) or last not in nodes:
        leaves = [key for key, node in nodes.items() if not field(node, "children")]
        last = max(leaves, key=lambda key: _time_of(nodes[key]), default=None)
    path: list[Any] = []
    seen = set()
    while isinstance(last, str) and last in nodes and last not in seen:
        seen.add(last)
        path.append(field(nodes[last], "message"))
        last = field(nodes[last], "parent")
    return (message for message in reversed(path) if isinstance(message, Mapping))


def _time_of(node: object) -> float:
    time = field(field(node, "message"), "create_time")
    return float(time) if isinstance(time, int | float) else 0.0


# --- what is not known ---------------------------------------------------------------------------


def unknown(document: object) -> InvalidTurn:
    """Return the error for a document that is no conversation of a known format."""
    name = seems_to_be(document)
    found = json_text(document)
    what = f"seems to be {name}" if name else f"is {found[:59]}{'…' * (len(found) > 59)}"
    return InvalidTurn(f"it is not a conversation in a known format: it {what}; {_KNOWN}")


_KNOWN = (
    "known are messages of Chat Completions, the Responses and Realtime APIs, LangChain, "
    "pydantic-ai and ShareGPT, and exports of ChatGPT"
)


def refuse_unknown(items: Sequence[Any]) -> None:
    """Refuse messages of formats of which only a part would be understood.

    Raises:
        InvalidTurn: naming the format.
    """
    pairs = "a history of pairs, as older ones of Gradio"
    all_pairs = bool(items) and all(_is_pair(item) and not is_role(item) for item in items)
    for number, item in enumerate(items):
        if name := pairs if all_pairs else seems_to_be(item):
            msg = f"message {number} cannot be imported: it seems to be {name}; {_KNOWN}"
            raise InvalidTurn(msg)


def seems_to_be(item: object) -> str | None:
    """Return the name of the unsupported format that a message or document has; None if none."""
    names = (name for name, fits in _FORMATS if isinstance(item, Mapping) and fits(item))
    return next(names, None)


def _has_part(item: Mapping[str, Any], key: str, *kinds: str) -> bool:
    """Return True if one of the parts under a key has one of these types, or one of these keys."""
    parts = item.get(key)
    return isinstance(parts, list | tuple) and any(
        text_in(part, "type") in kinds or any(kind in part for kind in kinds)
        for part in parts
        if isinstance(part, Mapping)
    )


def _is_by(item: Mapping[str, Any], author: str) -> bool:
    return "role" not in item and text_in(item, author) is not None


def _type(item: Mapping[str, Any]) -> str:
    return text_in(item, "type") or ""


_EVENTS = ("conversation.item.", "response.", "session.", "input_audio_buffer.")

_FORMATS: Sequence[tuple[str, Callable[[Mapping[str, Any]], bool]]] = (
    ("a saved conversation, which Conversation.load reads", is_own),
    (
        "output of OpenAI's Batch API, which has answers without their questions",
        lambda item: "custom_id" in item and isinstance(item.get("response"), Mapping),
    ),
    ("an export of LibreChat", lambda item: "isCreatedByUser" in item),
    ("an export of claude.ai", lambda item: "chat_messages" in item or _is_by(item, "sender")),
    ("a chat of SillyTavern", lambda item: {"mes", "is_user"} <= item.keys()),
    ("an export of Discord", lambda item: {"author", "content", "timestamp"} <= item.keys()),
    ("a log of Claude Code", lambda item: {"message", "sessionId"} <= item.keys()),
    (
        "a prompt with its completion",
        lambda item: (
            {"prompt", "completion"} <= item.keys() or {"instruction", "output"} <= item.keys()
        ),
    ),
    (
        "a chat completion; add_completion takes it",
        lambda item: isinstance(item.get("choices"), list),
    ),
    (
        "a message of the Gemini API",
        lambda item: (
            bool(item.keys() & {"contents", "systemInstruction", "chunkedPrompt"})
            or _has_part(item, "parts", "functionCall", "functionResponse", "inlineData")
            or (_has_part(item, "parts", "text") and not _has_part(item, "parts", "type"))
        ),
    ),
    (
        "a message of the Vercel AI SDK",
        lambda item: _has_part(item, "parts", "type") and not item.get("content"),
    ),
    ("a message of LlamaIndex", lambda item: _has_part(item, "blocks", "block_type")),
    (
        "a message of AutoGen",
        lambda item: _is_by(item, "source") and _type(item).endswith(("Message", "Event")),
    ),
    (
        "an event of the Realtime API; its items are known",
        lambda item: _type(item).startswith(_EVENTS),
    ),
    ("a message of the Assistants API", lambda item: item.get("object") == "thread.message"),
    ("a message of Slack", lambda item: {"ts", "user", "text"} <= item.keys()),
    ("an export of Telegram", lambda item: {"text", "from_id"} <= item.keys()),
    (
        "a message of Anthropic's API",
        lambda item: "role" in item and _has_part(item, "content", "tool_use", "tool_result"),
    ),
    (
        "a message of Bedrock's Converse API",
        lambda item: _has_part(item, "content", "toolUse", "toolResult"),
    ),
)
"""Formats by what tells them from others."""


def _is_pair(item: object) -> bool:
    return (
        isinstance(item, list | tuple)
        and len(item) == 2
        and all(isinstance(each, str | None) for each in item)
        and item != [None, None]
    )

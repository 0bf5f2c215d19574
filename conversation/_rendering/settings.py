"""The settings of a conversation, checked, and the request that they make."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

import attrs
import orjson

from conversation._tools import Tool, by_name, tool_from
from conversation._values.sound import FORMATS
from conversation._values.text import clean_text
from conversation._wire.strict_json import json_bytes, plain_json
from conversation.errors import InvalidSetting, corrupt

TRANSCRIPTION_MODEL = "gpt-transcribe"


class SettingsGiven(TypedDict, total=False):
    """The settings as keyword arguments; those of `Conversation`, without `client` and `clock`."""

    model: str
    voice: str | Mapping[str, Any]
    audio_format: str
    modalities: Iterable[str]
    instructions: str | None
    tools: Iterable[Mapping[str, Any] | Callable[..., Any]]
    max_tool_rounds: int
    transcribe: str | bool | None
    speak_when_dropped: str | bool
    expiry_margin: float
    audio_as_data_url: bool | None
    options: Mapping[str, Any]


BESIDE = ("client", "clock", "context")
"""Arguments beside the settings, which are not saved."""

_OF_OPEN = ("session_id", "store", "create", "read_only", "timeout")


def check_names(given: Collection[str]) -> None:
    """Refuse arguments that are no settings.

    Raises:
        TypeError: as Python does, naming the one that was probably meant.
    """
    known = (*SettingsGiven.__annotations__, *BESIDE)
    for name in given:
        if name in _OF_OPEN:
            raise TypeError(f"{name!r} is no setting; open(…) takes it")
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name, (*known, *_OF_OPEN), 1)
            remedy = f"did you mean {near[0]!r}?" if near else f"settings are {', '.join(known)}"
            raise TypeError(f"there is no setting {name!r}; {remedy}")


def _model(model: str) -> str:
    if not isinstance(model, str) or not model.strip():
        msg = f"model must be a model's name such as 'gpt-audio-1.5', got {model!r}"
        raise InvalidSetting(msg)
    return clean_text(model)


def _voice(voice: str | Mapping[str, Any]) -> Any:
    if not voice or not isinstance(voice, str | Mapping):
        msg = f"voice must be a voice's name such as 'alloy', got {voice!r}"
        raise InvalidSetting(msg)
    return orjson.loads(json_bytes(voice, "voice"))


def _audio_format(audio_format: str) -> str:
    if audio_format not in FORMATS:
        msg = f"audio_format must be one of {', '.join(FORMATS)}, got {audio_format!r}"
        raise InvalidSetting(msg)
    return audio_format


def _modalities(modalities: Iterable[str]) -> tuple[str, ...]:
    try:
        given = (modalities,) if isinstance(modalities, str) else tuple(modalities)
    except TypeError:
        given = ()
    if "text" not in given or not set(given) <= {"text", "audio"}:
        msg = (
            f'modalities must be ("text", "audio") or ("text",), got {modalities!r}: the API '
            "answers in text, or in sound with its transcript"
        )
        raise InvalidSetting(msg)
    return given


def _instructions(instructions: str | None) -> str | None:
    if instructions is not None and not isinstance(instructions, str):
        msg = f"instructions must be text or None, got {type(instructions).__name__}"
        raise InvalidSetting(msg)
    return None if instructions is None else clean_text(instructions)


ToolGiven: TypeAlias = Mapping[str, Any] | Tool


def tools(given: Iterable[Mapping[str, Any] | Callable[..., Any]]) -> tuple[ToolGiven, ...]:
    """Return tools as they were given, callables with their descriptions.

    Raises:
        InvalidSetting: naming the one that cannot be a tool.
    """
    try:
        found = None if isinstance(given, Mapping | str) else tuple(given)
    except TypeError:
        found = None
    if found is None:
        msg = f"tools must be a sequence of functions and dicts, got {type(given).__name__}"
        raise InvalidSetting(msg)
    made = tuple(_tool(tool) for tool in found)
    by_name(tool for tool in made if isinstance(tool, Tool))
    return made


def _tool(tool: object) -> ToolGiven:
    if isinstance(tool, Tool):
        return tool
    if isinstance(tool, Mapping):
        described: dict[str, Any] = orjson.loads(json_bytes(tool, "tools"))
        return described
    if callable(tool):
        return tool_from(tool)
    msg = (
        "a tool must be a function, or a dict as chat.completions.create takes it, got "
        f"{type(tool).__name__}"
    )
    raise InvalidSetting(msg)


def _rounds(rounds: int) -> int:
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 0:
        msg = f"max_tool_rounds must be >= 0, got {rounds!r}"
        raise InvalidSetting(msg)
    return rounds


def _model_or_flag(model: str | bool | None) -> str | bool | None:
    return model if model is None or isinstance(model, bool) else _model(model)


def _margin(margin: float) -> float:
    if not isinstance(margin, int | float) or not 0 <= margin <= 1e9:
        msg = f"expiry_margin must be a number of seconds >= 0, got {margin!r}"
        raise InvalidSetting(msg)
    return margin


def _flag(flag: bool | None) -> bool | None:
    if flag not in (True, False, None):
        msg = f"audio_as_data_url must be True, False or None, got {flag!r}"
        raise InvalidSetting(msg)
    return flag


_SAID_ELSEWHERE = {
    "audio": "pass voice=… and audio_format=…",
    "stream": "call stream(…)",
    "stream_options": "pass it to stream(…)",
    **dict.fromkeys(("name", "message_id"), "pass it to say(…)"),
    **{name: f"pass {name}=… beside options" for name in BESIDE},
}
"""Names that are no options, each with the remedy; names of settings are none either."""


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(options, Mapping):
        msg = f"options must be a mapping such as {{'temperature': 0.8}}, got {options!r}"
        raise InvalidSetting(msg)
    settings = attrs.fields_dict(Settings)
    for name in options:
        if name in _SAID_ELSEWHERE or name in settings:
            remedy = _SAID_ELSEWHERE.get(name, f"pass {name}=… beside options")
            raise InvalidSetting(f"options must not contain {name!r}; {remedy}")
    return dict(orjson.loads(json_bytes(_checked(given_options(options)), "options")))


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    if "messages" in options:
        msg = "messages are the conversation's own and cannot be passed; add turns instead"
        raise InvalidSetting(msg)
    for name in options:
        if name in _OF_CONVERSATION:
            remedy = _OF_REQUEST.get(name, "give it to Conversation(…) or open(…)")
            msg = f"{name} is a setting of the conversation, not of one request; {remedy}"
            raise InvalidSetting(msg)
    n = options.get("n")
    if isinstance(n, int | float | str) and n != 1:
        msg = f"n must be 1, got {n!r}: a conversation has one answer for each turn; leave n out"
        raise InvalidSetting(msg)
    if not isinstance(options.get("audio", {}), Mapping):
        msg = f"audio must be a mapping such as {{'voice': 'echo'}}, got {options['audio']!r}"
        raise InvalidSetting(msg)
    if isinstance(options.get("modalities"), str | tuple | list):
        options = {**options, "modalities": list(_modalities(options["modalities"]))}
    return {name: plain_json(value, name) for name, value in options.items()}


@attrs.frozen(kw_only=True)
class Settings:
    """The settings of a conversation; `Conversation` documents each."""

    model: str = attrs.field(default="gpt-audio-1.5", converter=_model)
    voice: str | Mapping[str, Any] = attrs.field(default="alloy", converter=_voice)
    audio_format: str = attrs.field(default="wav", converter=_audio_format)
    modalities: tuple[str, ...] = attrs.field(default=("text", "audio"), converter=_modalities)
    instructions: str | None = attrs.field(default=None, converter=_instructions)
    tools: tuple[ToolGiven, ...] = attrs.field(default=(), converter=tools)
    max_tool_rounds: int = attrs.field(default=8, converter=_rounds)
    transcribe: str | bool | None = attrs.field(default=None, converter=_model_or_flag)
    speak_when_dropped: str | bool | None = attrs.field(default=False, converter=_model_or_flag)
    expiry_margin: float = attrs.field(default=30.0, converter=_margin)
    audio_as_data_url: bool | None = attrs.field(default=None, converter=_flag)
    options: Mapping[str, Any] = attrs.field(factory=dict, converter=_options)

    def saved(self, given: Collection[str] = (), *, only: bool = False) -> dict[str, Any]:
        """Return the given ones and, unless `only`, the ones that differ from the defaults."""
        values = attrs.asdict(self, recurse=False)
        # Functions cannot be saved.
        values["tools"] = tuple(tool for tool in self.tools if not isinstance(tool, Tool))
        wanted = {
            key: value
            for key, value in values.items()
            if key in given or (not only and value != getattr(_DEFAULTS, key))
        }
        return dict(orjson.loads(orjson.dumps(wanted)))

    def request(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments of `chat.completions.create`, without the messages.

        Args:
            options: Arguments of the caller, which override the settings, and those in `options`
                already.

        Raises:
            InvalidSetting: if an option cannot work here.
        """
        given = tools(options.get("tools", self.tools))
        options = _checked({key: options[key] for key in options if key != "tools"})
        request: dict[str, Any] = {"model": self.model, "modalities": list(self.modalities)}
        if given:
            described = [tool.description if isinstance(tool, Tool) else tool for tool in given]
            request["tools"] = copy.deepcopy(described)
        request |= options
        streams = bool(options.get("stream"))
        if "stream" in options:
            request["stream"] = streams  # the API takes no other truth
        if streams:
            request.setdefault("stream_options", {"include_usage": True})
        if asks_for_sound(request):
            audio_format = "pcm16" if streams else self.audio_format
            voice = copy.deepcopy(self.voice)
            request["audio"] = {"voice": voice, "format": audio_format, **options.get("audio", {})}
        return request


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options without those that the SDK's own sentinels mark as not given."""
    return {
        key: value
        for key, value in options.items()
        if type(value).__name__ not in ("NotGiven", "Omit")
    }


def read_settings(saved: object, place: Path | str) -> tuple[Settings, dict[str, Any]]:
    """Return the settings of a document, and those of another version, unchecked.

    Raises:
        SessionCorrupt: if they are no settings.
    """
    if saved is None:
        return Settings(), {}
    if not isinstance(saved, dict):
        raise corrupt(place, '"settings" must be an object')
    names = {field.name for field in attrs.fields(Settings)}
    try:
        known = Settings(**{key: value for key, value in saved.items() if key in names})
    except (InvalidSetting, TypeError) as error:
        raise corrupt(place, f'"settings": {error}; correct them in the file') from error
    return known, {key: value for key, value in saved.items() if key not in names}


def asks_for_sound(request: Mapping[str, Any]) -> bool:
    """Return True if a request's modalities name audio."""
    modalities = request.get("modalities")
    return isinstance(modalities, list | tuple) and "audio" in modalities


_DEFAULTS = Settings()

_OF_CONVERSATION = {*attrs.fields_dict(Settings), *BESIDE} - {"model", "modalities", "tools"}
_OF_REQUEST = {
    "voice": "for one answer pass audio={'voice': …}",
    "audio_format": "for one answer pass audio={'format': …}",
    "instructions": "for one answer call add_system(…) first",
    "options": "pass them by their names, such as temperature=0.8",
}
"""What stands for a setting in a single request."""

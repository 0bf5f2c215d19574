"""Sound of files, from the microphone and for the loudspeaker.

Files in other formats than WAV and MP3 are converted, if PyAV is there.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from conversation._values import conversion, sound
from conversation._values.parts import AudioInput
from conversation._values.sound import PCM_RATE
from conversation.errors import InvalidSetting, UnsupportedAudio

_LARGEST = 14_000_000
"""Bytes of a file that can be sent as it is: some 20 MB of base64, less what else is sent."""


def sound_from(path: str | Path) -> AudioInput:
    """Read a sound file of any format; what cannot be sent as it is becomes MP3.

    Raises:
        UnsupportedAudio: if it is no sound, or needs PyAV, which is missing.
        OSError: if it cannot be read.
    """
    path = Path(path).expanduser()
    data = path.read_bytes()
    name = sound.name_of(data)
    if len(data) <= _LARGEST and sound.format_of(data) in ("wav", "mp3"):
        if not sound.mpeg_in_wav(data):
            return AudioInput(data)
    elif not conversion.can_convert(name):
        what = f"this is {name}" if name else "it is no sound file"
        raise UnsupportedAudio(f"{path}: sound must be WAV or MP3, {what}")
    if conversion.is_available():
        try:
            return AudioInput.convert(data, to="mp3")
        except UnsupportedAudio as error:
            is_long = "max_seconds" in str(error)
            told = "it is longer than half an hour; shorten it" if is_long else error
            raise UnsupportedAudio(f"{path}: {told}") from error
    what = f"{name} of {len(data)} bytes; smaller WAV and MP3 files are sent as they are"
    msg = f"{path}: {what}, others are converted with the extra `formats`: pip install '.[formats]'"
    raise UnsupportedAudio(msg)


def _devices(option: str) -> Any:
    try:
        return importlib.import_module("sounddevice")
    except (ImportError, OSError) as error:  # OSError: its library PortAudio is missing
        found = "" if isinstance(error, ImportError) else f" ({error})"
        msg = f"{option} needs PortAudio and the extra `sound`: pip install '.[sound]'{found}"
        raise InvalidSetting(msg) from error


def loudspeaker() -> Callable[[int], AbstractContextManager[Any]]:
    """Return the function that opens the loudspeaker for mono s16le of a rate (Hz).

    Raises:
        InvalidSetting: if the extra `sound` is missing.
    """
    devices = _devices("--play")

    def opened(rate: int) -> AbstractContextManager[Any]:
        try:
            stream: AbstractContextManager[Any] = devices.RawOutputStream(
                samplerate=rate, channels=1, dtype="int16"
            )
        except devices.PortAudioError as error:
            msg = f"no loudspeaker to play on ({error}); leave out --play"
            raise OSError(msg) from error
        return stream

    return opened


def recorded(is_over: Callable[[float], bool]) -> AudioInput:
    """Record from the microphone until it is over, or until Ctrl-C.

    Args:
        is_over: Gets the seconds that are recorded, ten times a second.

    Raises:
        InvalidSetting: if the extra `sound` is missing, or nothing was recorded.
        OSError: if there is no microphone.
    """
    devices = _devices("/record")
    samples, piece = bytearray(), PCM_RATE // 10
    try:
        with (
            devices.RawInputStream(samplerate=PCM_RATE, channels=1, dtype="int16") as microphone,
            contextlib.suppress(KeyboardInterrupt),
        ):
            while not is_over(len(samples) / 2 / PCM_RATE):
                samples += microphone.read(piece)[0]
    except devices.PortAudioError as error:
        raise OSError(f"no microphone to record from ({error})") from error
    if len(samples) < 2 * piece:
        raise InvalidSetting("nothing was recorded")
    return AudioInput.from_pcm(bytes(samples), PCM_RATE)

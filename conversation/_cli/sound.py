"""Sound files given on the command line: other formats are converted, if PyAV is there."""

from __future__ import annotations

from pathlib import Path

from conversation._values import conversion, sound
from conversation._values.parts import AudioInput
from conversation.errors import UnsupportedAudio

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

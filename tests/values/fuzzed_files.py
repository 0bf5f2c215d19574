"""A process that converts mutated files: FOLDER COUNT. Prints how many were read, and refused."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any

from conversation import AudioInput
from conversation.errors import UnsupportedAudio

DESCRIPTORS = Path("/proc/self/fd")


def mutated(data: bytes, dice: random.Random) -> bytes:
    """Return a file with some bytes flipped, set, removed, repeated, or cut off."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 5, 20, 200))):
        # Heads are worth more than samples.
        at = dice.randrange(min(len(changed), dice.choice((64, 512, len(changed)))))
        match dice.randrange(6):
            case 0:
                changed[at] ^= 1 << dice.randrange(8)
            case 1:
                changed[at] = dice.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                changed[at : at + 4] = dice.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"))
            case 3 if len(changed) > 64:
                del changed[at : at + dice.randrange(1, 32)]
            case 4:
                changed[at:at] = changed[at : at + dice.randrange(1, 32)]
            case _:
                changed[at] = dice.randrange(256)
    return bytes(changed[: dice.randrange(16, len(changed))] if dice.random() < 0.1 else changed)


def outcome(data: bytes, to: Any) -> bool:
    """Return True if a file is converted, False if it is refused."""
    try:
        sound = AudioInput.convert(data, to=to, max_seconds=60)
    except UnsupportedAudio:
        return False
    return sound.duration is not None


def main(folder: str, count: int) -> None:
    """Convert the files as they are, then mutated ones, while nothing may be opened."""
    files = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    for data in files:
        for to in ("wav", "mp3"):
            outcome(data, to)
            outcome(data[: len(data) // 2], to)
    dice = random.Random(0)
    touched: list[str] = []
    is_watching = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if is_watching and event.startswith(("open", "socket", "os.", "subprocess", "shutil")):
            touched.append(f"{event} {arguments}")

    os.access("/the-fuzz-begins", os.F_OK)
    before = sorted(DESCRIPTORS.iterdir()) if DESCRIPTORS.is_dir() else []
    sys.addaudithook(watch)
    results = [
        outcome(mutated(files[number % len(files)], dice), ("wav", "wav", "mp3")[number % 3])
        for number in range(count)
    ]
    is_watching = False
    after = sorted(DESCRIPTORS.iterdir()) if before else []
    os.access("/the-fuzz-ends", os.F_OK)
    if touched or before != after:
        sys.exit(f"touched {touched[:9]}, descriptors {before} became {after}")
    print(sum(results), len(results) - sum(results))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

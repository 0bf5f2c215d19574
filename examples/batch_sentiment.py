"""Judge a folder of recordings: `python examples/batch_sentiment.py [FOLDER]`.

Sound goes in, text comes out. Each recording (WAV or MP3; of phones and chats, too, with the extra
`formats`) has a session of its own, so that a batch that was interrupted goes on where it stopped,
and pays for no answer twice. The results are `sentiments.jsonl`, a line for each recording, and
`sentiments.html`, a page with players; all is written below `example-data/`. With OPENAI_API_KEY it
talks to OpenAI, else to a stand-in server on your machine, which only pretends to judge. Without a
folder, some recordings are made first.
"""

import argparse
import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from openai import OpenAI, OpenAIError

from conversation import AudioInput, Conversation, FileStore
from conversation.errors import ConversationError, UnsupportedAudio
from conversation.testing import StandIn

DATA = Path("example-data") / "batch-sentiment"
SAMPLES = {
    "cancel": ("negative", "I have waited three weeks for my parcel. Please cancel the order."),
    "hours": ("neutral", "Could you tell me when you open on Sundays?"),
    "thanks": ("positive", "The new kettle is wonderful. Thank you for the quick help!"),
}
ENDINGS = {".wav", ".mp3", ".ogg", ".opus", ".m4a", ".webm", ".flac", ".amr", ".aac", ".caf"}
INSTRUCTIONS = (
    "You hear a customer of a shop. Answer with one word, positive, neutral or negative, then a "
    "colon and the reason in one short sentence."
)


@contextlib.contextmanager
def some_server() -> Iterator[StandIn | None]:
    """Use OpenAI if there is a key, else point the environment to a stand-in."""
    if os.environ.get("OPENAI_API_KEY"):
        yield None
        return
    print("No OPENAI_API_KEY: a stand-in on this machine pretends to judge.")
    with StandIn() as server:
        os.environ |= {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "stand-in"}
        yield server


def make_samples(folder: Path, client: OpenAI) -> None:
    """Have the samples spoken, where they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (_, words) in SAMPLES.items():
        path = folder / f"{name}.wav"
        if not path.exists():
            sound = client.audio.speech.create(
                model="gpt-4o-mini-tts", voice="alloy", input=words, response_format="wav"
            )
            path.write_bytes(AudioInput(sound.content).read())  # with its true length


def recording(path: Path) -> AudioInput:
    """Read a recording; formats that the API does not take are converted."""
    try:
        return AudioInput.from_file(path)
    except UnsupportedAudio:
        return AudioInput.convert(path, to="mp3")


def judge(path: Path, client: OpenAI, server: StandIn | None) -> dict[str, Any]:
    """Return the judgement on one recording; one that was judged before is not sent again."""
    store = FileStore(DATA / "sessions")
    try:
        sound = recording(path)
        session = f"{path.stem}-{hashlib.sha256(sound.read()).hexdigest()[:8]}"
        with Conversation.open(
            session, store=store, client=client, modalities=["text"], instructions=INSTRUCTIONS
        ) as chat:
            if not chat.turns:
                chat.add_user(sound)
                chat.set_title(path.name)
            if chat.unanswered:
                if server:
                    server.will_answer(
                        f"{SAMPLES.get(path.stem, ['neutral'])[0]}: I am a stand-in."
                    )
                chat.reply()
            text, tokens = chat.turns[-1].text, chat.usage.total_tokens
    except (ConversationError, OpenAIError, OSError, ImportError) as error:
        return {"file": path.name, "error": str(error)}
    sentiment, _, reason = text.partition(":")
    sentiment = sentiment.strip().lower()
    if sentiment not in ("positive", "neutral", "negative"):
        sentiment, reason = "unclear", text
    return {
        "file": path.name,
        "sentiment": sentiment,
        "reason": reason.strip(),
        "seconds": sound.duration,
        "tokens": tokens,
        "session": session,
    }


def write_results(results: Sequence[dict[str, Any]]) -> None:
    """Write all judgements as one JSONL file, and as one page to read and to listen to."""
    lines = (json.dumps(result, ensure_ascii=False) + "\n" for result in results)
    (DATA / "sentiments.jsonl").write_text("".join(lines), "utf-8")
    page = Conversation(instructions=INSTRUCTIONS)
    page.set_title(f"Sentiments of {len(results)} recordings")
    store = FileStore(DATA / "sessions")
    for result in results:
        page.add_system(f"{result['file']}: {result.get('sentiment', 'not judged')}")
        if "error" not in result:
            for turn in Conversation.open(result["session"], store=store, read_only=True).turns:
                page.add(turn)
    page.export(DATA / "sentiments.html")


def main() -> int:
    """Judge all recordings, some at once; the exit status is 1 if one could not be judged."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="recordings")
    parser.add_argument("--at-once", type=int, default=4, help="recordings at a time (default: 4)")
    options = parser.parse_args()
    if options.folder and not options.folder.is_dir():
        parser.error(f"there is no folder {options.folder}")
    with some_server() as server, OpenAI() as client:
        if (folder := options.folder) is None:
            make_samples(folder := DATA / "recordings", client)
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in ENDINGS)
        at_once = 1 if server else options.at_once  # a stand-in answers in the order of its script
        results = []
        with ThreadPoolExecutor(at_once) as threads:
            judging = threads.map(partial(judge, client=client, server=server), paths)
            for number, result in enumerate(judging, 1):
                shown = result.get("sentiment") or f"FAILED, {result['error']}"
                print(f"[{number}/{len(paths)}] {result['file']}: {shown}", flush=True)
                results.append(result)
    DATA.mkdir(parents=True, exist_ok=True)
    write_results(results)
    print(f"the results are in {DATA / 'sentiments.jsonl'} and {DATA / 'sentiments.html'}")
    return int(any("error" in result for result in results))


if __name__ == "__main__":
    sys.exit(main())

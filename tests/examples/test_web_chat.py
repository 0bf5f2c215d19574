"""The web chat's server, without a browser."""

from __future__ import annotations

import base64
import io
import json
import signal
import threading
import urllib.error
import wave
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from conversation import AudioInput, Conversation, FileStore, PostgresStore, UserTurn
from conversation._values.conversion import encoded
from conversation.testing import StandIn
from tests.examples.web import Json, Site
from tests.postgres import reserved_port

exceptions = pytest.importorskip("websockets.exceptions")

pytestmark = pytest.mark.slow

SPEECH = (b"\0\x10\0\xf0" * 12_000)[:48_000]  # a second


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    """A stand-in for the one running example."""
    with StandIn() as server:
        yield server


@pytest.fixture(scope="module")
def site(server: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One running example; each cookie is another user."""
    with Site(tmp_path_factory.mktemp("site"), server) as site:
        yield site


def say(text: str) -> Json:
    """Return the order of a typed message."""
    return {"do": "say", "text": text}


def test_a_typed_and_a_spoken_message_are_answered(site: Site) -> None:
    """Words and sound stream; speech is kept as it was sent; sounds are served to their user."""
    cookie = site.cookie()
    with site.page(cookie) as page:
        hello = page.until("turns")
        assert hello[0]["standIn"] is False
        assert hello[1]["turns"] == []
        question, answer = page.ask(say("Good morning"))
        assert question["text"] == "Good morning"
        assert answer["text"].startswith("You wrote: Good morning")
        assert len(page.sound) == pytest.approx(48_000 * answer["seconds"])
        turns = page.ask({"do": "listen"}, SPEECH[:20_000], SPEECH[20_000:], {"do": "hear"})
        assert turns[3]["text"].startswith("I heard 1.0 seconds of sound. I recall 1")
    with wave.open(io.BytesIO(site.get(turns[2]["sound"], cookie))) as file:
        assert file.readframes(24_001) == SPEECH
    with pytest.raises(urllib.error.HTTPError, match="404"):
        site.get(turns[2]["sound"], site.cookie())


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_foreign_pages_are_refused(site: Site, origin: str) -> None:
    """A page of another origin gets 403, even with the user's cookie."""
    with pytest.raises(exceptions.InvalidStatus, match="403"):
        site.page(site.cookie(), origin)


@pytest.mark.parametrize("cookie", [None, "web_chat=ann", "web_chat=ImFubiI.c2lnbmF0dXJl", "x=y"])
def test_strangers_are_refused(site: Site, cookie: str | None) -> None:
    """Without a cookie that the server has signed there is no session."""
    with pytest.raises(exceptions.InvalidStatus, match="403"):
        site.page(cookie)


@pytest.mark.parametrize(
    "message",
    [
        "no JSON",
        "[" * 100_000,
        "null",
        '{"do": "dance"}',
        '{"do": "say"}',
        '{"do": "say", "text": " "}',
        '{"do": "say", "text": 5}',
        f'{{"do": "say", "text": "{"x" * 4001}"}}',
        '{"do": "hear"}',
        '{"do": "stop", "played": "all"}',
    ],
)
def test_unreadable_messages_close_the_connection(site: Site, message: str) -> None:
    """A message that no page of ours sends ends its connection with 1008; the server goes on."""
    with site.page(site.cookie()) as page:
        page.connection.send(message)
        with pytest.raises(exceptions.ConnectionClosed) as caught:
            page.until("never")
        assert caught.value.rcvd
        assert caught.value.rcvd.code == 1008


def test_messages_and_speech_are_bounded(site: Site) -> None:
    """A message over 20 MB closes the connection; speech over two minutes is refused in words."""
    with site.page(site.cookie()) as page:
        page.send({"do": "listen"}, *[bytes(2_000_000)] * 3)
        assert page.until("error")[-1]["text"] == "Speech is limited to 120 seconds."
        assert page.ask(say("Hi"))
        page.send({"do": "file"}, bytes(20_000_001))
        with pytest.raises(exceptions.ConnectionClosed):
            page.until("never")


def test_files_of_any_sound_are_taken(site: Site) -> None:
    """Opus becomes MP3; other files are refused in words without Python in them."""
    pytest.importorskip("av", reason="needs the extra `formats`")
    with site.page(site.cookie()) as page:
        turns = page.ask({"do": "file"}, encoded([SPEECH], "opus"))
        assert turns[1]["text"].startswith("I heard 1.0 seconds")
        assert turns[0]["sound"].endswith(".mp3")
        long = AudioInput.from_pcm(bytes(7_300_000), 3_000).read()
        for data, words in ((b"%PDF-1.7", "This is PDF"), (b"OggS", "Ogg"), (long, "20 minutes")):
            page.send({"do": "file"}, data)
            error = page.until("error")[-1]
            assert words in error["text"] or "no sound" in error["text"]
            assert "AudioInput" not in error["text"]
            assert error["retry"] is False


@pytest.mark.parametrize("played", [0, 0.4, 1, 99, -1, float("nan")])
def test_what_was_heard_of_an_answer_is_kept(site: Site, played: float) -> None:
    """`stop` cuts a whole answer to the seconds that were played; absurd ones change nothing."""
    with site.page(site.cookie()) as page:
        answer = page.ask(say("One two three four five six"))[1]
        page.send({"do": "stop", "played": played})
        told = page.until("stopped")
        assert [message["type"] for message in told[:-1]] == ["error"] * (not played >= 0)
        kept = page.until("turns")[-1]["turns"][1]
        is_cut = 0 <= played < answer["seconds"]
        assert kept["cut"] is is_cut
        assert kept["seconds"] == pytest.approx(played if is_cut else answer["seconds"])
        assert answer["text"].startswith(kept["text"].removesuffix("…"))
        assert page.ask(say("Go on"))[3]["text"]


def test_questions_of_an_hour_are_limited(site: Site, server: StandIn) -> None:
    """After 100 questions a user is told when to go on, in any tab; others are answered."""
    cookie = site.cookie()
    with site.page(cookie) as page:
        page.ask(say("Hi"))
    store = FileStore(site.folder / "example-data" / "web-chat")
    with Conversation.open(store.list()[0].id, store=store) as chat:
        at = datetime.now(UTC)
        old = [UserTurn(("Earlier?",), at=at - timedelta(minutes=61))] * 9
        chat.extend([*old, *[UserTurn(("Well?",), at=at - timedelta(minutes=20))] * 99])
    asked = len(server.requests)
    with site.page(cookie) as page, site.page(site.cookie()) as other:
        page.send(say("Once more"))
        error = page.until("error")[-1]
        assert error["text"].startswith("You may ask 100 times an hour. Go on in ")
        assert 30 <= int(error["text"].split()[-2]) <= 41
        assert error["retry"] is False
        assert len(server.requests) == asked
        assert other.ask(say("Me, too"))


def test_a_stopped_stream_keeps_what_was_heard(site: Site, server: StandIn) -> None:
    """An answer that is still on its way ends at once, and the next one knows the rest."""
    cookie = site.cookie()
    with site.page(cookie) as page:
        server.will_answer("One two three four five six.", order="mixed", hold_after=7)
        page.until("turns")
        page.send(say("Count"))
        page.hear(0.5)
        page.send({"do": "stop", "played": 0.5})
        page.until("stopped")
        with site.page(cookie) as other:
            kept = other.until("turns")[-1]["turns"][1]
        assert kept["cut"]
        assert kept["seconds"] == pytest.approx(0.5)
        assert "0 of my earlier answers by voice and 1 from" in page.ask(say("Go on"))[3]["text"]


def test_a_new_question_stops_the_answer(site: Site, server: StandIn) -> None:
    """A connection has one stream: the second question is answered, the first one's is kept."""
    with site.page(site.cookie()) as page:
        server.will_answer("One two three.", hold_after=4)
        page.until("turns")
        page.send(say("Count"))
        page.until("text")
        turns = page.ask(say("Stop"))
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * 2
    assert turns[1]["cut"]
    assert turns[3]["text"].startswith("You wrote: Stop")


def test_failures_are_told_and_can_be_retried(site: Site, server: StandIn) -> None:
    """A refused key, a broken stream and a refused question can each be tried again."""
    with site.page(site.cookie()) as page:
        server.will_fail(401, "Incorrect API key provided.", code="invalid_api_key")
        server.will_answer("One two three.", cut_after=4)
        server.will_fail(400, "No.")
        page.send(say("Hello"))
        told = []
        for _ in range(3):
            error = page.until("error")[-1]
            assert error["retry"]
            told.append(error["text"])
            page.send({"do": "retry"})
        turns = page.until("done")[-2]["turns"]
    assert "key was refused" in told[0]
    assert "No." in told[2]
    assert "reply()" not in " ".join(told)
    assert [turn["text"][:16] for turn in turns] == ["Hello", "You wrote: Hello"]


def test_two_tabs_of_a_user_take_turns(site: Site, server: StandIn) -> None:
    """The second tab waits, and its answer knows the first one's; other users do not wait."""
    cookie = site.cookie()
    with site.page(cookie) as one, site.page(cookie) as two, site.page(site.cookie()) as other:
        server.will_answer("One two three.", hold_after=4)
        one.send(say("First"))
        one.until("text")
        two.send(say("Second"))
        two.until("thinking")
        assert len(other.ask(say("Hello"))) == 2
        server.go_on()
        turns = two.until("done")[-2]["turns"]
    assert [turn["text"] for turn in turns[::2]] == ["First", "Second"]
    assert "I recall 1 of my earlier answers by voice" in turns[3]["text"]


def test_a_page_that_leaves_ends_its_answer(site: Site, server: StandIn) -> None:
    """When a page leaves, its part of an answer is kept, and the next page goes on."""
    cookie = site.cookie()
    with site.page(cookie) as page:
        server.will_answer("One two three.", hold_after=4)
        page.send(say("Count"))
        page.until("text")
    with site.page(cookie) as page:
        turns = page.ask(say("Again"))
    assert turns[1]["cut"]
    assert turns[3]["text"].startswith("You wrote: Again")


def test_a_server_that_is_stopped_closes_its_pages(tmp_path: Path) -> None:
    """Open pages are told, and what had come of an answer is kept."""
    with StandIn() as server, Site(tmp_path, server) as site, site.page(site.cookie()) as page:
        server.will_answer("One two three.", hold_after=4)
        page.send(say("Count"))
        page.until("text")
        site.stop(signal.SIGTERM)
        with pytest.raises(exceptions.ConnectionClosed) as caught:
            page.until("never")
        assert caught.value.rcvd
        assert caught.value.rcvd.code == 1012
    assert [turn.role for turn in site.latest()] == ["user", "assistant"]


def test_a_killed_server_goes_on(tmp_path: Path) -> None:
    """After a kill in mid-answer, with several workers, the same cookie finds the same session."""
    with StandIn() as server, reserved_port() as kept:
        port = str(kept.getsockname()[1])
        with Site(tmp_path, server, "--port", port, "--workers", "2") as site:
            cookie = site.cookie()
            with site.page(cookie) as page:
                page.ask(say("First"))
                server.will_answer("One two three.", hold_after=4)
                page.send(say("Second"))
                server.wait_until_held()
                site.stop(signal.SIGKILL)
        secret = tmp_path / "example-data" / "web-chat" / "secret"
        assert secret.stat().st_mode & 0o777 == 0o600
        assert [path.name for path in tmp_path.iterdir()] == ["example-data"]
        with Site(tmp_path, server, "--port", port) as again, again.page(cookie) as page:
            assert [turn["role"] for turn in page.until("turns")[-1]["turns"]][:3] == [
                "user",
                "assistant",
                "user",
            ]
            page.send({"do": "retry"})
            turns = page.until("done")[-2]["turns"]
            assert [turn["text"] for turn in turns[::2]] == ["First", "Second"]
            assert len(turns) == 4


@pytest.mark.parametrize("is_in_database", [False, True])
def test_several_workers_serve_one_user(
    tmp_path: Path, is_in_database: bool, request: pytest.FixtureRequest
) -> None:
    """Connections that land on different processes see one session, and one cookie's secret."""
    arguments, store = ["--port", "0", "--workers", "3"], None
    if is_in_database:
        store = PostgresStore(request.getfixturevalue("postgres").url)
        arguments += ["--store", request.getfixturevalue("postgres").url]
    with StandIn() as server, Site(tmp_path, server, *arguments) as site:
        cookie = site.cookie()
        seen: list[int] = []

        def ask(number: int) -> None:
            with site.page(cookie) as page:
                seen.append(len(page.ask(say(f"Question {number}"))))

        asking = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        assert len(seen) == 6
        # Not to its workers: it waits a minute for one that ends while it is asked how it is.
        site.process.send_signal(signal.SIGINT)
        site.process.wait(site.patience)
    asked = sorted(turn.text for turn in site.latest(store)[::2])
    assert asked == [f"Question {n}" for n in range(6)]


class Telephone(BaseHTTPRequestHandler):
    """A server whose answers are a second of sound at 8 kHz."""

    def do_POST(self) -> None:
        """Stream an answer, whatever is asked."""
        self.rfile.read(int(self.headers["Content-Length"]))
        data = base64.b64encode(AudioInput.from_pcm(bytes(16_000), 8_000).read()).decode()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for delta, reason in (({"audio": {"transcript": "Hi", "data": data}}, None), ({}, "stop")):
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "other"}
            self.wfile.write(f"data: {json.dumps(chunk | {'choices': [choice]})}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def test_the_rate_of_other_servers_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sound that is not of 24 kHz goes to the page as it is, behind its rate."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Telephone) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        try:
            with Site(tmp_path, None) as site, site.page(site.cookie()) as page:
                page.send(say("Hello"))
                told = page.until("done")
        finally:
            server.shutdown()
    assert [each["rate"] for each in told if each["type"] == "rate"] == [8_000]
    assert len(page.sound) == 16_000


def test_without_a_key_a_stand_in_answers(tmp_path: Path) -> None:
    """The program and the page say so, and its sessions are apart; --store is another folder."""
    with Site(tmp_path, None, "--port", "0", "--store", "elsewhere") as site:
        assert "stand-in" in site.said
        with site.page(site.cookie()) as page:
            assert page.until("hello")[-1]["standIn"] is True
            assert len(page.ask(say("Hello"))) == 2
    assert list((tmp_path / "elsewhere").glob("stand-in%3A*.json"))

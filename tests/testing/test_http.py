"""HTTP of the stand-in: headers, browsers of any origin, methods, and requests that are none."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import socket
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from conversation.testing import StandIn
from tests.testing.test_stand_in import asking, open_connection

KEY = {"Authorization": "Bearer any"}


def requested(
    server: StandIn, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Return status, headers and body of the answer to a request."""
    with closing(open_connection(server.url)) as connection:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {**KEY, **names})
        response = connection.getresponse()
        return response.status, response.headers, response.read()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (asking(), 200),
        (asking(n=0), 400),
        (asking(stream=True, audio={"voice": "alloy", "format": "pcm16"}), 200),
    ],
)
def test_answers_have_the_headers_of_the_api(server: StandIn, body: Any, status: int) -> None:
    """Answers, refusals and streams have a request id of their own, a time, and rate limits."""
    ids = set()
    for _ in range(2):
        found, headers, _ = requested(
            server, "POST", "/v1/chat/completions", json.dumps(body).encode()
        )
        assert found == status
        assert re.fullmatch("req_[0-9a-f]{32}", headers["x-request-id"])
        assert headers["openai-processing-ms"].isdigit()
        assert headers["openai-version"] == "2020-10-01"
        for kind in ("requests", "tokens"):
            limit = int(headers[f"x-ratelimit-limit-{kind}"])
            assert 0 < int(headers[f"x-ratelimit-remaining-{kind}"]) <= limit
            assert re.fullmatch("[0-9]+m?s", headers[f"x-ratelimit-reset-{kind}"])
        ids.add(headers["x-request-id"])
    assert len(ids) == 2


def test_the_official_client_tells_the_request_id(server: StandIn) -> None:
    """Completions and errors of the official client carry the id of their request."""
    create: Any = server.client().chat.completions.create
    assert create(**asking())._request_id.startswith("req_")
    with pytest.raises(openai.BadRequestError) as caught:
        create(**asking(n=0))
    assert str(caught.value.request_id).startswith("req_")


def test_a_browser_may_ask_from_any_page(server: StandIn) -> None:
    """A preflight, which has no key, allows method and headers; the answer can be read."""
    with closing(open_connection(server.url)) as connection:
        asked = "authorization,content-type,x-stainless-os"
        preflight = {
            "Origin": "https://example.com",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": asked,
        }
        connection.request("OPTIONS", "/v1/chat/completions", headers=preflight)
        response = connection.getresponse()
        assert (response.status, response.read()) == (204, b"")
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
        assert response.headers["Access-Control-Allow-Headers"] == asked
    _, headers, _ = requested(server, "GET", "/v1/models", Origin="https://example.com")
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Access-Control-Expose-Headers"] == "*"
    assert server.requests == [{}]


@pytest.mark.parametrize("body", [b"", b"GET / HTTP/1.1\r\n\r\n", [b"a", b"bc"]])
def test_a_body_of_a_preflight_is_not_the_next_request(server: StandIn, body: Any) -> None:
    """The connection can be used again after OPTIONS with a body, chunked or not."""
    with closing(open_connection(server.url)) as connection:
        connection.request("OPTIONS", "/v1/models", body, KEY)
        response = connection.getresponse()
        assert (response.status, response.read()) == (204, b"")
        connection.request("GET", "/v1/models", headers=KEY)
        assert connection.getresponse().status == 200


def test_a_preflight_of_a_wrong_size_is_refused(server: StandIn) -> None:
    """A body of which nobody knows the end ends the connection, as with other methods."""
    status, headers, data = requested(server, "OPTIONS", "/v1/models", Content_Length="many")
    assert (status, headers["Content-Type"]) == (400, "application/json")
    assert "is not a number" in json.loads(data)["error"]["message"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "BREW"])
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/models", "/v1/models/gpt-5", "/nowhere", "/"]
)
def test_all_methods_and_paths_are_answered_in_json(
    server: StandIn, method: str, path: str
) -> None:
    """An unknown path is a 404 in JSON, a method that a path has not a 405; both are named."""
    status, headers, data = requested(server, method, path)
    is_known = path.startswith("/v1/")
    assert (status, headers["Content-Type"]) == (405 if is_known else 404, "application/json")
    told = f"Not allowed to {method} on {path}." if is_known else f"Invalid URL ({method} {path})"
    assert json.loads(data)["error"]["message"].startswith(told)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("text/plain;charset=UTF-8", "Unsupported content type: 'text/plain;charset=UTF-8'. This"),
        ("multipart/form-data", "Unsupported content type: 'multipart/form-data'. This API"),
        ("application/x-www-form-urlencoded", "you must provide a model parameter"),
        ("application/json; charset=utf-8", None),
        ("Application/JSON", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("path", ["chat/completions", "audio/speech"])
def test_other_content_types_than_json_are_refused(
    server: StandIn, path: str, kind: str, message: str | None
) -> None:
    """A program that forgets the header learns it from the stand-in, as from the API."""
    body = asking() if path.startswith("chat") else {"model": "tts-1", "voice": "ash", "input": "a"}
    data = json.dumps(body).encode()
    status, _, answer = requested(server, "POST", f"/v1/{path}", data, Content_Type=kind)
    assert status == (400 if message else 200)
    assert not message or json.loads(answer)["error"]["message"].startswith(message)


def test_a_compressed_body_is_refused_by_its_encoding(server: StandIn) -> None:
    """The error names the encoding; one that changes nothing is accepted."""
    for coding, found in (("gzip", 400), ("identity", 200)):
        data = json.dumps(asking()).encode()
        body = gzip.compress(data) if coding == "gzip" else data
        status, _, answer = requested(
            server, "POST", "/v1/chat/completions", body, Content_Encoding=coding
        )
        assert status == found
        assert status == 200 or "encoding 'gzip'" in json.loads(answer)["error"]["message"]


def test_the_answer_to_head_has_no_body(server: StandIn) -> None:
    """The connection can be used again after HEAD."""
    with closing(open_connection(server.url)) as connection:
        for method, length in (("HEAD", 0), ("GET", None)):
            connection.request(method, "/v1/models", headers=KEY)
            data = connection.getresponse().read()
            assert (len(data) == 0) == (length == 0)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"NONSENSE\r\n\r\n", 400),
        (b"GET /v1/models HTTP/x\r\n\r\n", 400),
        (b"GET /v1/models HTTP/3.0\r\n\r\n", 505),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
    ],
    ids=["no request", "no version", "another version", "a long path", "many headers"],
)
def test_a_request_that_is_no_http_is_answered_in_json(
    server: StandIn, line: bytes, status: int
) -> None:
    """Broken requests get an error in JSON, and the connection is closed."""
    parts = urlsplit(server.url)
    with socket.create_connection((str(parts.hostname), parts.port or 0), timeout=300) as raw:
        raw.sendall(line)
        response = http.client.HTTPResponse(raw)
        response.begin()
        data = response.read()
    assert (response.status, response.headers["Content-Type"]) == (status, "application/json")
    assert json.loads(data)["error"]["type"] == "invalid_request_error"

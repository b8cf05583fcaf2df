"""Clients that hang or flood: neither the server nor a training is disturbed."""

from __future__ import annotations

import contextlib
import json
import socket
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

pytest.importorskip("uvicorn")
from gradscope.view import patience
from gradscope.view.server import serve_in_background
from gradscope.view.watch import MAX_STREAMS
from tests.view.conftest import Training


@pytest.fixture
def served(tmp_path):
    """A live training and the page over it."""
    training = Training(tmp_path / "live.h5", last=10_000)
    page = serve_in_background([tmp_path])
    training.start()
    yield page.url, training
    training.end()
    page.close()


def rows(url):
    with urllib.request.urlopen(f"{url}api/runs", timeout=20) as answer:
        return json.load(answer)["rows"]


def wait_for(condition, seconds=20):
    until = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if found := condition():
                return found
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


@contextlib.contextmanager
def clients(url, n, words):
    """Open many connections that send some bytes and never read."""
    place = urllib.parse.urlsplit(url)
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(n):
            client = stack.enter_context(socket.create_connection((place.hostname, place.port), 20))
            client.sendall(words)
            opened.append(client)
        yield opened


def still_works(url, training):
    before, seen = training.at, wait_for(lambda: rows(url))[0]["step"]
    wait_for(lambda: rows(url)[0]["step"] > seen)
    assert training.at > before and training.is_alive()


@pytest.mark.parametrize(
    "words", [b"", b"GET /api/runs HTTP/1.1\r\nHost: 127", b"GET / HTTP/1.1\r\nX: " + b"y" * 9000]
)
def test_four_hundred_clients_with_half_a_request(served, words):
    url, training = served
    wait_for(lambda: rows(url))
    with clients(url, 400, words) as opened:
        still_works(url, training)
        closed = sum(is_closed(client) for client in opened)
        assert closed >= 400 - patience.MAX_SILENT - 1


def is_closed(client):
    client.settimeout(0.01)
    try:
        return client.recv(100) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def received(client):
    """Return what came until now."""
    client.settimeout(0.05)
    found = b""
    with contextlib.suppress(OSError):  # nothing more, or closed by the server
        while part := client.recv(4096):
            found += part
    return found


def test_a_request_that_never_ends_is_closed(served, monkeypatch):
    monkeypatch.setattr(patience, "REQUEST_SECONDS", 0.3)
    url, _ = served
    with clients(url, 1, b"GET / HTTP/1.1\r\n") as (client,):
        wait_for(lambda: is_closed(client))


def test_two_hundred_listeners_that_never_read(served):
    url, training = served
    wait_for(lambda: rows(url))
    words = b"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with clients(url, 200, words) as opened:
        still_works(url, training)
        answers = [received(client) for client in opened]
        assert sum(b"\r\ndata: " in answer for answer in answers) == MAX_STREAMS
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"{url}api/events", timeout=5)
    wait_for(lambda: urllib.request.urlopen(f"{url}api/events", timeout=5))


@pytest.mark.parametrize(
    "words",
    [
        b"\x00\xff\xfe garbage\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
        b"GET /%00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /static/..%2f..%2fserver.py HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /api/map?runs=../../x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"POST /api/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET /api/runs HTTP/1.1\r\n\r\n",
    ],
)
def test_odd_requests_are_refused(served, words):
    url, _ = served
    wait_for(lambda: rows(url))
    with clients(url, 1, words) as (client,):
        line = client.recv(12)
    assert line[9:10] == b"4", line
    assert rows(url)

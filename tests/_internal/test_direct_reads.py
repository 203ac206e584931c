"""Ranges by plain HTTP: whole and exact, or less; never an error, and nothing wrong."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from largeds_native._internal import direct_reads
from largeds_native._internal.direct_reads import MOST_FAILURES, DirectReads

DATA = bytes(i * 31 % 251 for i in range(300_000))


@contextmanager
def served(answer: str = "", protocol: str = "HTTP/1.1") -> Iterator[tuple[str, list[Any]]]:
    """The URL of DATA, on a server that answers as told, and its connections: the ranges that each was asked for."""
    connections: list[list[str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = protocol

        def log_message(self, *_: object) -> None:
            pass

        def setup(self) -> None:
            super().setup()
            self.ranges: list[str] = []
            connections.append(self.ranges)

        def do_GET(self) -> None:
            wanted = self.headers["Range"] or ""
            self.ranges.append(wanted)
            start, stop = (int(number) for number in re.findall(r"\d+", wanted) or (0, len(DATA) - 1))
            stop += 1
            body, length = DATA[start:stop], stop - start
            status = {"whole": 200, "refused": 403, "moved": 302, "missing": 404}.get(answer, 206 if wanted else 200)
            if answer == "cut":
                body = body[: len(body) // 2]
            if answer == "short":
                length, body = length - 1, body[:-1]
            place = f"bytes {start + (answer == 'elsewhere')}-{stop - 1}/{len(DATA)}"
            self.send_response(status)
            if status == 206 and answer != "unnamed":
                self.send_header("Content-Range", place)
            if answer == "gzip":
                self.send_header("Content-Encoding", "gzip")
            if answer == "chunked":
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
                return
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)
            if answer in ("cut", "ends"):
                self.close_connection = True

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/data?key=a%2Fb", connections
    finally:
        server.shutdown()
        server.server_close()


def read(reads: DirectReads, url: str, start: int = 0, stop: int = len(DATA)) -> bytes:
    return b"".join(bytes(piece) for piece in reads.pieces(url, start, stop))


@pytest.mark.parametrize("protocol", ["HTTP/1.0", "HTTP/1.1"])
@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_any_range(monkeypatch: pytest.MonkeyPatch, protocol: str, size: int) -> None:
    monkeypatch.setattr(direct_reads, "BUFFER_BYTES", size)
    ranges = [(0, len(DATA)), (7, 8), (1, 1000), (5, 2006), (299_999, 300_000), (1234, 56_789)]
    with served(protocol=protocol) as (url, connections):
        reads = DirectReads(str)
        for start, stop in ranges:
            assert read(reads, url, start, stop) == DATA[start:stop]
        assert len(connections) == (1 if protocol == "HTTP/1.1" else len(ranges))
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda cut: read(reads, url, *cut), ranges * 4))
    assert found == [DATA[start:stop] for start, stop in ranges * 4]


@pytest.mark.parametrize("protocol", ["HTTP/1.0", "HTTP/1.1"])
def test_whole_objects(protocol: str) -> None:
    with served(protocol=protocol) as (url, connections):
        reads = DirectReads(str)
        assert [reads.whole(url) for _ in range(3)] == [DATA] * 3
        assert len(connections) == (1 if protocol == "HTTP/1.1" else 3)


@pytest.mark.parametrize("answer", ["refused", "moved", "cut", "chunked", "gzip"])
def test_no_whole_object(answer: str) -> None:
    with served(answer) as (url, connections):
        reads = DirectReads(str)
        assert [reads.whole(url) for _ in range(MOST_FAILURES + 2)] == [None] * (MOST_FAILURES + 2)
        assert len(connections) == MOST_FAILURES


def test_missing_objects_are_no_failures() -> None:
    with served("missing") as (missing, connections), served() as (url, _):
        reads = DirectReads(str)
        assert [reads.whole(missing) for _ in range(MOST_FAILURES + 2)] == [None] * (MOST_FAILURES + 2)
        assert len(connections) == MOST_FAILURES + 2
        assert reads.whole(url) == DATA


@pytest.mark.parametrize(
    "answer", ["whole", "refused", "moved", "cut", "short", "elsewhere", "unnamed", "chunked", "gzip"]
)
def test_any_other_answer_is_none(answer: str) -> None:
    with served(answer) as (url, connections):
        reads = DirectReads(str)
        for _ in range(MOST_FAILURES + 2):
            found = read(reads, url, 100, 200_000)
            assert len(found) < 199_900
            assert found == DATA[100 : 100 + len(found)]
        assert len(connections) == MOST_FAILURES  # and then it leaves the server alone


def test_a_connection_that_ended_is_opened_again() -> None:
    with served("ends") as (url, connections):
        reads = DirectReads(str)
        assert [read(reads, url, 0, 5000) for _ in range(3)] == [DATA[:5000]] * 3
        assert len(connections) == 3


def test_after_a_while_it_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with served("refused") as (refused, connections), served() as (url, _):
        reads = DirectReads(str)
        for _ in range(MOST_FAILURES):
            reads.whole(refused)
        assert reads.whole(url) is None
        monkeypatch.setattr(direct_reads.time, "monotonic", lambda: reads._rests_until)
        assert reads.whole(url) == DATA
        assert len(connections) == MOST_FAILURES


def test_a_connection_that_was_idle_for_long_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with served() as (url, connections):
        reads = DirectReads(str)
        assert reads.whole(url) == DATA
        monkeypatch.setattr(direct_reads, "IDLE_SECONDS", 0.0)
        assert reads.whole(url) == DATA
        assert len(connections) == 2


def test_a_success_forgets_failures() -> None:
    with served("refused") as (refused, _), served() as (url, _):
        reads = DirectReads(str)
        for _ in range(MOST_FAILURES):
            assert read(reads, refused) == b""
            if reads._failures < MOST_FAILURES:
                assert read(reads, url) == DATA


def test_no_server_a_proxy_and_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: str) -> str:
        raise RuntimeError("no credentials")

    assert read(DirectReads(fails), "x") == b""
    assert DirectReads(fails).whole("x") is None
    for url in ("", "ftp://host/x", "http://127.0.0.1:1/x", "http://us:er@127.0.0.1/x", "http://[broken/x"):
        assert read(DirectReads(str), url) == b""
    with served() as (url, connections):
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        monkeypatch.delenv("no_proxy", raising=False)
        assert read(DirectReads(str), url) == b""
        assert not connections
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert read(DirectReads(str), url) == DATA


def test_a_reader_that_stops_leaves_no_connection_with_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_reads, "BUFFER_BYTES", 1000)
    with served() as (url, connections):
        reads = DirectReads(str)
        pieces = reads.pieces(url, 0, len(DATA))
        next(pieces)
        pieces.close()
        assert read(reads, url, 10, 20) == DATA[10:20]
        assert len(connections) == 2

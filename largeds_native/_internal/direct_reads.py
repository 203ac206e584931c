"""Objects, and ranges of large ones, by plain HTTP.

fsspec's file systems of HTTP answer all threads from one event loop, and join the pieces of an answer: a fifth of what
a server on the same machine gives. A signed URL, which a file system makes without a request, is read here by threads,
which hold no lock of the interpreter meanwhile. It is a shortcut only: what it doesn't bring, for whatever reason, is
read by fsspec, whose errors are the ones that are told.
"""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

BUFFER_BYTES = 1 << 20
TIMEOUT_SECONDS = 15.0
MOST_FAILURES = 3  # in a row, after which all is left to fsspec for a while
REST_SECONDS = 30.0
IDLE_CONNECTIONS = 64
IDLE_SECONDS = 10.0  # after which a connection may have been cut without a word

Connection = http.client.HTTPConnection


class DirectReads:
    """sign: gives the URL from which an object can be read for some minutes, without headers of its own; "" for none.
    For any number of threads of one process."""

    def __init__(self, sign: Callable[[str], str]) -> None:
        self._sign = sign
        self._idle: list[tuple[tuple[str, str], Connection, float]] = []  # since when
        self._failures, self._rests_until = 0, 0.0
        self._buffers = threading.local()

    def __del__(self) -> None:
        for _, connection, _ in self._idle:
            connection.close()

    def whole(self, path: str) -> bytes | None:
        """All bytes of an object; None where something fails."""
        found, is_there = None, True
        if (url := self._url(path)) is None:
            return None
        with suppress(Exception):
            connection, answer = self._answer(url, None)
            try:
                is_there = answer.status != 404
                if answer.status == 200 and answer.length is not None and _is_plain(answer):
                    found = answer.read()  # IncompleteRead if the transfer is cut off
            finally:
                self._keep(url, connection, found is not None and not answer.will_close)
        if is_there:
            self._count(found is not None)
        return found

    def pieces(self, path: str, start: int, stop: int) -> Iterator[memoryview]:
        """The bytes [start, stop) of an object in pieces, each valid until the next one is asked for. Where something
        fails, there are fewer; nothing is raised."""
        place = start
        if (url := self._url(path)) is None:
            return
        with suppress(Exception):
            connection, answer = self._answer(url, f"bytes={start}-{stop - 1}")
            try:
                if _is_range(answer, start, stop):
                    for piece in self._received(answer, stop - start):
                        place += len(piece)
                        yield piece
            finally:
                self._keep(url, connection, place == stop and not answer.will_close)
        self._count(place == stop)

    def _url(self, path: str) -> SplitResult | None:
        """None while all is left to fsspec."""
        if self._failures >= MOST_FAILURES:
            if time.monotonic() < self._rests_until:
                return None
            self._failures = 0
        try:
            signed = self._sign(path)
            return urlsplit(signed) if signed else None
        except Exception:
            self._count(False)
            return None

    def _count(self, succeeded: bool) -> None:
        self._failures = 0 if succeeded else self._failures + 1
        if self._failures >= MOST_FAILURES:
            self._rests_until = time.monotonic() + REST_SECONDS

    def _answer(self, url: SplitResult, range: str | None) -> tuple[Connection, http.client.HTTPResponse]:
        found = next((entry for entry in reversed(self._idle) if entry[0] == (url.scheme, url.netloc)), None)
        if found is not None:
            with suppress(ValueError, OSError, http.client.HTTPException):  # taken by another thread; ended meanwhile
                self._idle.remove(found)
                if time.monotonic() - found[2] < IDLE_SECONDS:
                    return found[1], _ask(found[1], url, range)
                found[1].close()
        connection = _connection(url)
        return connection, _ask(connection, url, range)

    def _keep(self, url: SplitResult, connection: Connection, whole: bool) -> None:
        if whole and len(self._idle) < IDLE_CONNECTIONS:
            self._idle.append(((url.scheme, url.netloc), connection, time.monotonic()))
        else:
            connection.close()

    def _received(self, answer: http.client.HTTPResponse, length: int) -> Iterator[memoryview]:
        if not hasattr(self._buffers, "bytes"):
            self._buffers.bytes = memoryview(bytearray(BUFFER_BYTES))
        buffer: memoryview = self._buffers.bytes
        while length and (came := answer.readinto(buffer[:length])):
            length -= came
            yield buffer[:came]


def _connection(url: SplitResult) -> Connection:
    """To the host itself: fsspec knows how to use a proxy, and who the user is."""
    proxies = getproxies()
    if "@" in url.netloc or ((url.scheme in proxies or "all" in proxies) and not proxy_bypass(url.hostname or "")):
        raise http.client.HTTPException("not to be asked directly")
    if url.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(url.netloc, timeout=TIMEOUT_SECONDS, context=context)
    return Connection(url.netloc, timeout=TIMEOUT_SECONDS)


def _ask(connection: Connection, url: SplitResult, range: str | None) -> http.client.HTTPResponse:
    target = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
    try:
        connection.request("GET", target, headers={"Range": range} if range else {})
        return connection.getresponse()
    except BaseException:
        connection.close()
        raise


def _is_range(answer: http.client.HTTPResponse, start: int, stop: int) -> bool:
    place = answer.headers["Content-Range"] or ""
    is_place = place.startswith(f"bytes {start}-{stop - 1}/")
    return answer.status == 206 and is_place and answer.length == stop - start and _is_plain(answer)


def _is_plain(answer: http.client.HTTPResponse) -> bool:
    """Whether the bytes are the object's, and not compressed for the way."""
    return (answer.headers["Content-Encoding"] or "identity").lower() == "identity"

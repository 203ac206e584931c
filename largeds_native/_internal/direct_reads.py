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
from collections.abc import Callable, Iterator
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

BUFFER_BYTES = 1 << 20
TIMEOUT_SECONDS = 15.0
MOST_FAILURES = 3  # in a row, after which a process leaves all to fsspec
IDLE_CONNECTIONS = 64

Connection = http.client.HTTPConnection


class DirectReads:
    """sign: gives the URL from which an object can be read for some minutes, without headers of its own. For any number
    of threads of one process."""

    def __init__(self, sign: Callable[[str], str]) -> None:
        self._sign = sign
        self._idle: list[tuple[tuple[str, str], Connection]] = []
        self._failures = 0
        self._buffers = threading.local()

    def __del__(self) -> None:
        for _, connection in self._idle:
            connection.close()

    def whole(self, path: str) -> bytes | None:
        """All bytes of an object; None where something fails."""
        if self._failures >= MOST_FAILURES:
            return None
        found, is_there = None, True
        with suppress(Exception):
            url = urlsplit(self._sign(path))
            connection, answer = self._answer(url, None)
            try:
                is_there = answer.status != 404
                if answer.status == 200 and answer.length is not None:
                    found = answer.read()  # IncompleteRead if the transfer is cut off
            finally:
                self._keep(url, connection, found is not None and not answer.will_close)
        if is_there:
            self._failures = 0 if found is not None else self._failures + 1
        return found

    def pieces(self, path: str, start: int, stop: int) -> Iterator[memoryview]:
        """The bytes [start, stop) of an object in pieces, each valid until the next one is asked for. Where something
        fails, there are fewer; nothing is raised."""
        if self._failures >= MOST_FAILURES:
            return
        place = start
        with suppress(Exception):
            url = urlsplit(self._sign(path))
            connection, answer = self._answer(url, f"bytes={start}-{stop - 1}")
            try:
                if _is_range(answer, start, stop):
                    for piece in self._received(answer, stop - start):
                        place += len(piece)
                        yield piece
            finally:
                self._keep(url, connection, place == stop and not answer.will_close)
        self._failures = 0 if place == stop else self._failures + 1

    def _answer(self, url: SplitResult, range: str | None) -> tuple[Connection, http.client.HTTPResponse]:
        found = next((entry for entry in reversed(self._idle) if entry[0] == (url.scheme, url.netloc)), None)
        if found is not None:
            with suppress(ValueError, OSError, http.client.HTTPException):  # taken by another thread; ended meanwhile
                self._idle.remove(found)
                return found[1], _ask(found[1], url, range)
        connection = _connection(url)
        return connection, _ask(connection, url, range)

    def _keep(self, url: SplitResult, connection: Connection, whole: bool) -> None:
        if whole and len(self._idle) < IDLE_CONNECTIONS:
            self._idle.append(((url.scheme, url.netloc), connection))
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
    return answer.status == 206 and place.startswith(f"bytes {start}-{stop - 1}/") and answer.length == stop - start

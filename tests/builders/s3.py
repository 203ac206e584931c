"""An S3 server on this machine, by moto, and a proxy before it that fails as told."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def s3_server() -> Iterator[str]:
    """The URL of a server, which ends with the block."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert server.poll() is None, "moto's server ended"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@dataclass
class Faults:
    """What the proxy does to requests whose path has `match` in it, and what it has seen.

    fail: answer this many requests with `status`. cut: of this many answers, send only `cut_after` bytes of the body.
    delay: seconds before each answer. before: called with (method, path) before a request goes on.
    """

    match: str = ""
    fail: int = 0
    status: int = 503
    cut: int = 0
    cut_after: int = 1000
    delay: float = 0.0
    before: Callable[[str, str], None] | None = None
    requests: list[tuple[str, str]] = field(default_factory=list)
    received: Counter[str] = field(default_factory=Counter)  # bytes of bodies that were sent on, by path
    lock: Any = field(default_factory=threading.Lock)

    def forget(self) -> None:
        with self.lock:
            self.requests.clear()
            self.received.clear()

    def paths(self, method: str = "GET", match: str = "") -> list[str]:
        with self.lock:
            return [path for verb, path in self.requests if verb == method and match in path]

    def take(self, path: str) -> str:
        with self.lock:
            if self.match not in path:
                return ""
            if self.fail > 0:
                self.fail -= 1
                return "fail"
            if self.cut > 0:
                self.cut -= 1
                return "cut"
            return ""


@contextmanager
def fault_proxy(upstream: str) -> Iterator[tuple[str, Faults]]:
    """The URL of a proxy before the server `upstream`, and its faults."""
    faults, target = Faults(), urlsplit(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with faults.lock:
                faults.requests.append((self.command, self.path))
            if faults.before is not None:
                faults.before(self.command, self.path)
            if faults.delay and faults.match in self.path:
                time.sleep(faults.delay)
            fault = faults.take(self.path)
            if fault == "fail":
                code = {403: b"AccessDenied", 503: b"SlowDown"}.get(faults.status, b"InternalError")
                self.answer(faults.status, [], b"<Error><Code>%s</Code><Message>as told</Message></Error>" % code)
                return
            upstream = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
            try:
                upstream.request(self.command, self.path, body, dict(self.headers))
                found = upstream.getresponse()
                data, headers = found.read(), found.getheaders()
            finally:
                upstream.close()
            self.answer(found.status, headers, data, faults.cut_after if fault == "cut" else None)

        def answer(self, status: int, headers: list[tuple[str, str]], data: bytes, cut: int | None = None) -> None:
            kept = {name.lower(): value for name, value in headers}
            length = kept.pop("content-length", str(len(data))) if self.command == "HEAD" else str(len(data))
            for name in ("connection", "transfer-encoding", "content-length", "date", "server"):
                kept.pop(name, None)
            self.send_response(status)
            for name, value in kept.items():
                self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command == "HEAD":
                return
            sent = data if cut is None else data[:cut]
            with faults.lock:
                faults.received[self.path] += len(sent)
            self.wfile.write(sent)
            if len(sent) < len(data):
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = relay

        def handle(self) -> None:
            with suppress(OSError):
                super().handle()

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", faults
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True)
class Bucket:
    """A bucket of its own for a test, behind a proxy with faults."""

    url: str  # s3://bucket
    endpoint: str
    faults: Faults

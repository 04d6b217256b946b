"""A web server on this machine that also breaks off, leads astray and tells what it was asked."""

from __future__ import annotations

from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Server(ThreadingHTTPServer):
    """Serves ``files`` by path, leads on by ``leads_to``, breaks off after ``breaks_after``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.leads_to: dict[str, str] = {}
        self.breaks_after: int | None = None
        self.ranges = True
        self.asked: list[tuple[str, str | None]] = []

    def url(self, path: str) -> str:
        """Return the address of a path."""
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        served, wanted = self.server, self.headers.get("Range")
        served.asked.append((self.path, wanted))
        if self.path in served.leads_to:
            self.send_response(302)
            self.send_header("Location", served.leads_to[self.path])
            self.end_headers()
            return
        content = served.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        begin = int(wanted[6:-1]) if wanted and served.ranges else 0
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        self.wfile.write(content[begin : served.breaks_after])

    def do_CONNECT(self) -> None:
        self.send_error(407)  # a proxy that wants a password

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server in a thread."""
    server = Server()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def nobody() -> Iterator[str]:
    """Yield an address at which no one answers; its port is taken, so no other test gets it."""
    with socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"

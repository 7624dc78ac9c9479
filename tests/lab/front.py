"""A reverse proxy in front of the API: below a path of its own, and with a limit of request bodies."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

PIECE_BYTES = 256 * 1024
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}
TOO_LARGE = b"<html><head><title>413 Request Entity Too Large</title></head></html>\r\n"


class Front(ThreadingHTTPServer):
    """Passes requests below `prefix` on to a port on loopback, without the prefix.

    In answers it adds the prefix to the page's base and to locations, unless the server knows it (ROOT_PATH).
    A body over `max_body_bytes` is answered with 413 once it was read, or breaks the connection.
    """

    daemon_threads = True

    def __init__(
        self,
        to_port: int,
        *,
        prefix: str = "",
        max_body_bytes: int | None = None,
        refuses_with: Literal["413", "reset"] = "413",
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.to_port = to_port
        self.prefix = prefix
        self.max_body_bytes = max_body_bytes
        self.refuses_with = refuses_with
        self.refused = 0
        self.port: int = self.server_address[1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Front

    def _pass_on(self) -> None:
        front = self.server
        length = int(self.headers.get("content-length", "0"))
        if front.max_body_bytes is not None and length > front.max_body_bytes:
            self._refuse(length)
            return
        body = self.rfile.read(length)
        if not self.path.startswith(f"{front.prefix}/"):
            self._answer(404, [("content-type", "text/html")], b"not below the prefix")
            return
        upstream = HTTPConnection("127.0.0.1", front.to_port, timeout=60)
        try:
            sent = {name: value for name, value in self.headers.items() if name.lower() != "accept-encoding"}
            upstream.request(self.command, self.path.removeprefix(front.prefix), body or None, sent)
            answer = upstream.getresponse()
            headers = [
                (name, self._below(value) if name.lower() == "location" else value)
                for name, value in answer.getheaders()
                if name.lower() not in HOP_BY_HOP
            ]
            page = answer.read().replace(b'<base href="/">', f'<base href="{front.prefix}/">'.encode())
            length = answer.getheader("content-length") if self.command == "HEAD" else None
            self._answer(answer.status, headers, page, length)
        finally:
            upstream.close()

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._pass_on
        raise AttributeError(name)

    def _below(self, location: str) -> str:
        prefix = self.server.prefix
        return (
            f"{prefix}{location}"
            if location.startswith("/") and not location.startswith(f"{prefix}/")
            else location
        )

    def _refuse(self, length: int) -> None:
        self.server.refused += 1
        self.close_connection = True
        if self.server.refuses_with == "reset":
            self.rfile.read(min(length, PIECE_BYTES))
            return
        while length > 0 and (piece := self.rfile.read(min(length, PIECE_BYTES))):
            length -= len(piece)
        self._answer(413, [("content-type", "text/html"), ("connection", "close")], TOO_LARGE)

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, length: str | None = None
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if status not in {204, 304}:
            self.send_header("content-length", length or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def front(front: Front) -> Iterator[Front]:
    """Serve while the block lasts."""
    thread = threading.Thread(target=front.serve_forever, name="front", daemon=True)
    thread.start()
    try:
        yield front
    finally:
        front.shutdown()
        front.server_close()
        thread.join()

"""Serves the files of a folder, as a server elsewhere that has videos to fetch."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ENDLESS = "/endless.mp4"
"""A file without a length that arrives slowly and never ends."""
HEAD = b"\x00\x00\x00\x18ftypisom"
PIECE = bytes(64 * 1024)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Yield the folder's address."""
    over = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, over, directory=str(folder))) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            over.set()
            server.shutdown()
            serving.join()


class _Files(SimpleHTTPRequestHandler):
    def __init__(self, over: threading.Event, *arguments: object, **named: object) -> None:
        self._over = over
        super().__init__(*arguments, **named)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if self.path != ENDLESS:
            super().do_GET()
            return
        self.send_response(200)
        self.end_headers()
        with suppress(ConnectionError):
            self.wfile.write(HEAD)
            while not self._over.wait(0.1):
                self.wfile.write(PIECE)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Say nothing."""

"""pyftpdlib, which serves a directory on loopback to everyone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def ftp_server(directory: Path, *, bytes_per_second: int = 0) -> Iterator[str]:
    """Yield its address. 0: as fast as it can."""
    from pyftpdlib.authorizers import DummyAuthorizer  # its import warns, on Python 3.11
    from pyftpdlib.handlers import FTPHandler, ThrottledDTPHandler
    from pyftpdlib.servers import FTPServer

    users = DummyAuthorizer()
    users.add_anonymous(str(directory))
    data = type("Data", (ThrottledDTPHandler,), {"write_limit": bytes_per_second})
    handler = type("Handler", (FTPHandler,), {"authorizer": users, "dtp_handler": data})
    server = FTPServer(("127.0.0.1", 0), handler)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            server.serve_forever(timeout=0.05, blocking=False, handle_exit=False)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"ftp://127.0.0.1:{server.address[1]}"
    finally:
        stop.set()
        thread.join()
        server.close_all()

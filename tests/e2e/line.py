"""The line between a browser and the product: it can be slow, and it can break."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

CHUNK_BYTES = 64 * 1024


class Line:
    """Forwards TCP connections to a port on loopback."""

    def __init__(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        # Little is on the way, so that what the browser has sent is about what has arrived.
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK_BYTES)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._broken = False
        self.bytes_per_second: float | None = None
        """Of each connection towards the product; None is as fast as it goes."""

    @property
    def port(self) -> int:
        port: int = self._listening.getsockname()[1]
        return port

    def cut(self) -> None:
        """Break all connections; new ones break at once."""
        with self._lock:
            self._broken = True
            for end in self._open:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._broken = False

    def serve(self) -> None:
        """Accept connections until the line is closed."""
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._forward, args=(near,), daemon=True).start()

    def close(self) -> None:
        self.cut()
        # Closing a socket does not wake the thread that waits on it; shutting it down does.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _forward(self, near: socket.socket) -> None:
        with closing(near), suppress(OSError), closing(socket.create_connection(self._target)) as far:
            with self._lock:
                if self._broken:
                    return
                self._open |= {near, far}
            back = threading.Thread(target=self._copy, args=(far, near, False), daemon=True)
            back.start()
            self._copy(near, far, True)
            back.join()
            with self._lock:
                self._open -= {near, far}

    def _copy(self, source: socket.socket, sink: socket.socket, upwards: bool) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                if upwards and self.bytes_per_second is not None:
                    time.sleep(len(data) / self.bytes_per_second)
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def line_to(port: int) -> Iterator[Line]:
    line = Line(port)
    serving = threading.Thread(target=line.serve, daemon=True)
    serving.start()
    try:
        yield line
    finally:
        line.close()
        serving.join()

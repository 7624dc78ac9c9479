"""moto: fast and in memory. It does not check signatures, so it serves any caller."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.server import StoreServer, free_port, running


@contextmanager
def moto(directory: Path) -> Iterator[StoreServer]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(argv, url=f"{url}/moto-api/", log=directory / "moto.log"):
        yield StoreServer("moto", url, "test", "test")

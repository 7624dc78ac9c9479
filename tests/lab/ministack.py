"""MiniStack: the embedded store of `make run`, which keeps its objects on disk.

It pins its own botocore, so it lives in a virtual environment of its own: `.venv-ministack`, or wherever
`VODBUCKET_MINISTACK` says that its executable is.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.server import ServerMissing, StoreServer, free_port, running

ROOT = Path(__file__).parents[2]


@contextmanager
def ministack(directory: Path) -> Iterator[StoreServer]:
    """Raises: ServerMissing: it is not installed."""
    executable = Path(os.environ.get("VODBUCKET_MINISTACK", ROOT / ".venv-ministack" / "bin" / "ministack"))
    if not executable.exists():
        raise ServerMissing(f"no MiniStack at {executable}")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(directory / "objects"),
        "PERSIST_STATE": "1",
        "STATE_DIR": str(directory / "state"),
    }
    with running([executable], url=url, log=directory / "ministack.log", environment=environment):
        yield StoreServer("ministack", url, "test", "test")

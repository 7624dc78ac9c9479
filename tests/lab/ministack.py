"""The embedded store of `make run`, exactly as it is started there: MiniStack in its own environment."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.local.data import DataDirectory
from infra.local.errors import CannotRun
from infra.local.store import ACCESS_KEY, choose_store, store_command
from tests.lab.server import ServerMissing, StoreServer, running

CHECKOUT = Path(__file__).parents[2]


@contextmanager
def ministack(directory: Path) -> Iterator[StoreServer]:
    """Raises: ServerMissing: it is not installed."""
    data = DataDirectory(directory / "data")
    with data.lock():
        store = choose_store(data)
        try:
            command = store_command(store, data, CHECKOUT, os.environ["PATH"])
        except CannotRun as error:
            raise ServerMissing(str(error)) from None
        log = directory / "ministack.log"
        with running(
            command.argv, url=store.url, log=log, environment=command.env, directory=command.directory
        ):
            yield StoreServer("ministack", store.url, ACCESS_KEY, store.secret)

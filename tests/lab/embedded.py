"""The embedded store, started exactly as `make run` starts it."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.local.data import DataDirectory
from infra.local.errors import CannotRun
from infra.local.store import ACCESS_KEY, answers, choose_store, remove_sockets, store_command
from tests.lab.server import START_SECONDS, ServerMissing, StoreServer, running
from worker.sandbox import tether


@contextmanager
def embedded(directory: Path) -> Iterator[StoreServer]:
    """Run a store that keeps its data under `directory`.

    Raises: ServerMissing: it is not installed.
    """
    data = DataDirectory(directory / "data")
    with data.lock():
        store = choose_store(data)
        try:
            command = store_command(store, data)
        except CannotRun as error:
            raise ServerMissing(str(error)) from None
        with running(
            (sys.executable, tether.__file__, str(os.getpid()), "--", *command.argv),
            url=store.url,
            log=directory / "store.log",
            environment=command.env,
            directory=command.directory,
            stop_seconds=command.stop_seconds,
        ):
            deadline = time.monotonic() + START_SECONDS
            while not all(answers(url) for url in store.health_urls):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            try:
                yield StoreServer("embedded", store.url, ACCESS_KEY, store.secret)
            finally:
                remove_sockets(store.ports)

"""Whether this worker may share the store with others. Checked once, before it looks for jobs."""

import asyncio

import structlog

from backend.core.backoff import Backoff
from backend.core.concurrency import run_unless_set, sleep_unless_set
from backend.core.errors import STORE_AWAY
from backend.core.store.interface import Buckets
from backend.core.store.probes import START_WRITERS, require_creates

log = structlog.get_logger(__name__)

MAX_PAUSE_SECONDS = 30.0


async def admit(buckets: Buckets, stop: asyncio.Event, *, pause_seconds: float) -> None:
    """Return once the store has proved that it honours create-only writes, or `stop` is set.

    A store that cannot be reached is tried again: the buckets may be created or the credentials fixed.

    Raises:
        ConfigurationError: it does not.
    """
    backoff = Backoff(pause_seconds, max(MAX_PAUSE_SECONDS, pause_seconds))
    failures = 0
    while not stop.is_set():
        try:
            # a store may hang for minutes
            await run_unless_set(stop, require_creates(buckets, writers=START_WRITERS))
            return
        except STORE_AWAY as error:
            failures += 1
            pause = backoff.pause_seconds(failures)
            log.warning("store_not_probed", error=error.message, pause_seconds=round(pause, 1))
            await sleep_unless_set(stop, pause)

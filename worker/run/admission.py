"""Whether this worker may share the store with others. Checked once, before it looks for jobs."""

import asyncio

import structlog

from backend.core import keys
from backend.core.backoff import Backoff
from backend.core.concurrency import run_unless_set, sleep_unless_set
from backend.core.errors import STORE_AWAY, ConfigurationError
from backend.core.store.interface import Buckets
from backend.core.store.probes import Verdict, check_creates

log = structlog.get_logger(__name__)

MAX_PAUSE_SECONDS = 30.0


async def admit(
    buckets: Buckets, stop: asyncio.Event, *, only_worker: bool, concurrency: int, pause_seconds: float
) -> None:
    """Return once the store has proved that it honours create-only writes, or `stop` is set.

    A store that cannot be reached is tried again: the buckets may be created or the credentials fixed.

    Raises:
        ConfigurationError: it ignores them, and this is not the only worker.
    """
    backoff = Backoff(pause_seconds, max(MAX_PAUSE_SECONDS, pause_seconds))
    failures = 0
    while not stop.is_set():
        try:
            # a store may hang for minutes
            failure = await run_unless_set(stop, _create_only_failure(buckets))
        except STORE_AWAY as error:
            failures += 1
            pause = backoff.pause_seconds(failures)
            log.warning("store_not_probed", error=error.message, pause_seconds=round(pause, 1))
            await sleep_unless_set(stop, pause)
            continue
        if failure is None:
            return
        if not only_worker or concurrency > 1:
            raise ConfigurationError(
                f"this store does not honour create-only writes ({failure}), so two workers would take the "
                "same job. Use another store, or set ONLY_WORKER=true and WORKER_CONCURRENCY=1 and never "
                "start a second worker. `vodbucket doctor` has details"
            )
        log.warning("store_without_create_only_writes", measured=failure)
        return


async def _create_only_failure(buckets: Buckets) -> str | None:
    """Check both buckets: claims are decided in one, publication in the other."""
    for store in (buckets.raw, buckets.video):
        # fails faster than a create when the store is away: a create retries to learn what became of it
        await store.list_page(keys.DOCTOR, limit=1)
        check = await check_creates(store)
        if check.verdict is not Verdict.OK:
            return check.measured
    return None

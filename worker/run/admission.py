"""Whether this worker may be one of many on this store: asked once, before it looks for jobs."""

import asyncio
from collections.abc import Coroutine

import structlog

from backend.core import keys
from backend.core.backoff import Backoff
from backend.core.concurrency import sleep_unless_set
from backend.core.errors import BucketMissing, ConfigurationError, StoreDenied, StoreUnavailable
from backend.core.store.interface import Buckets
from backend.core.store.probes import Verdict, check_creates

log = structlog.get_logger(__name__)

LONGEST_PAUSE_SECONDS = 30.0


async def admit(
    buckets: Buckets, stop: asyncio.Event, *, only_worker: bool, concurrency: int, pause_seconds: float
) -> None:
    """Return once the store has shown that it honours create-only writes, or `stop` is set.

    While the store cannot be asked, that is no verdict: it is asked again, as the buckets may be made later
    and credentials be mended.

    Raises:
        ConfigurationError: it does not, and this is not the only worker.
    """
    backoff = Backoff(pause_seconds, max(LONGEST_PAUSE_SECONDS, pause_seconds))
    failures = 0
    while not stop.is_set():
        try:
            broken = await _unless_stopped(_broken_creates(buckets), stop)
        except (StoreUnavailable, StoreDenied, BucketMissing) as error:
            failures += 1
            pause = backoff.pause_seconds(failures)
            log.warning("store_not_probed", error=error.message, pause_seconds=round(pause, 1))
            await sleep_unless_set(stop, pause)
            continue
        if broken is None:
            return
        if not only_worker or concurrency > 1:
            raise ConfigurationError(
                f"this store does not honour create-only writes ({broken}), so that two workers would take "
                "the same job: use another store, or set ONLY_WORKER=true and WORKER_CONCURRENCY=1 and never "
                "start a second worker; `vodbucket doctor` tells more"
            )
        log.warning("store_without_create_only_writes", measured=broken)
        return


async def _unless_stopped(question: Coroutine[None, None, str | None], stop: asyncio.Event) -> str | None:
    """Await the answer, but not once `stop` is set: a store may hang for minutes."""
    asking = asyncio.ensure_future(question)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({asking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return asking.result() if asking.done() else None
    finally:
        asking.cancel()
        stopping.cancel()
        await asyncio.gather(asking, stopping, return_exceptions=True)


async def _broken_creates(buckets: Buckets) -> str | None:
    """Try both buckets: claims are decided in one, publication in the other."""
    for store in (buckets.raw, buckets.video):
        # A store that is away says so sooner to this: a create asks at length what became of it.
        await store.list_page(keys.DOCTOR, limit=1)
        check = await check_creates(store)
        if check.verdict is not Verdict.OK:
            return check.measured
    return None

"""The worker's loop: slots that claim jobs and pass them to a handler. It knows nothing about media."""

import asyncio
from collections.abc import Awaitable, Callable

from backend.core.concurrency import run_unless_set
from backend.core.jobs.leases import Claim
from worker.run.poller import Poller

Handler = Callable[[Claim, asyncio.Event], Awaitable[None]]
"""Runs one job to its end, or releases it when the event is set. Must not raise."""

CLAIM_GRACE_SECONDS = 5.0
"""On shutdown, a claim in progress may take this long; its job is then released."""


async def work(poller: Poller, handle: Handler, stop: asyncio.Event, *, concurrency: int = 1) -> None:
    """Run `concurrency` jobs at a time until `stop` is set or the poller finds no more."""
    async with asyncio.TaskGroup() as slots:
        for _ in range(concurrency):
            slots.create_task(_slot(poller, handle, stop))


async def _slot(poller: Poller, handle: Handler, stop: asyncio.Event) -> None:
    while not stop.is_set() and (
        claim := await run_unless_set(stop, poller.next_claim(), grace_seconds=CLAIM_GRACE_SECONDS)
    ):
        await handle(claim, stop)

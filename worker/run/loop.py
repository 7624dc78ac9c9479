"""The worker's loop: slots that claim jobs and hand them to a handler. It knows nothing of media."""

import asyncio
from collections.abc import Awaitable, Callable

from backend.core.jobs.leases import Claim
from worker.run.poller import Poller

Handler = Callable[[Claim, asyncio.Event], Awaitable[None]]
"""Runs one job to its end, whatever that is; the event asks it to let go. It must not raise."""

LAST_CLAIM_SECONDS = 5.0
"""How long a claim that is under way when the worker is stopped may take, so that its job is handed back."""


async def work(lookout: Poller, handle: Handler, stop: asyncio.Event, *, concurrency: int = 1) -> None:
    """Run jobs, `concurrency` at a time, until `stop` or until the lookout finds no more."""
    async with asyncio.TaskGroup() as slots:
        for _ in range(concurrency):
            slots.create_task(_slot(lookout, handle, stop))


async def _slot(lookout: Poller, handle: Handler, stop: asyncio.Event) -> None:
    while not stop.is_set() and (claim := await _next_claim(lookout, stop)) is not None:
        await handle(claim, stop)


async def _next_claim(lookout: Poller, stop: asyncio.Event) -> Claim | None:
    """Wait for a claim; once the worker is to stop, only as long as one that is under way may take."""
    claiming, stopped = asyncio.create_task(lookout.next_claim()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({claiming, stopped}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({claiming}, timeout=LAST_CLAIM_SECONDS)
        return claiming.result() if claiming.done() else None
    finally:
        claiming.cancel()
        stopped.cancel()
        await asyncio.gather(claiming, stopped, return_exceptions=True)

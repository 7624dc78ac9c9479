"""The polling loop: looks at the queue, claims, hands jobs to a handler. It knows nothing of media."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from backend.core.errors import StoreError
from backend.core.jobs import JobQueue
from backend.core.leases import Claim

log = structlog.get_logger(__name__)

Handler = Callable[[Claim, asyncio.Event], Awaitable[None]]
"""Runs one job to its end, whatever that is; the event asks it to let go. It must not raise."""

STORE_BACKOFF_SECONDS = 30.0
"""The longest pause while the store does not answer."""


async def work(
    queue: JobQueue,
    handle: Handler,
    stop: asyncio.Event,
    *,
    poll_seconds: float,
    concurrency: int = 1,
    drain: bool = False,
) -> None:
    """Run jobs, `concurrency` at a time, until `stop`; with `drain` until none waits or runs anywhere."""
    async with asyncio.TaskGroup() as slots:
        for _ in range(concurrency):
            slots.create_task(_slot(queue, handle, stop, poll_seconds, drain))


async def _slot(
    queue: JobQueue, handle: Handler, stop: asyncio.Event, poll_seconds: float, drain: bool
) -> None:
    pause = poll_seconds
    while not stop.is_set():
        try:
            view = await queue.look()
            claim = await queue.claim(view)
        except StoreError as error:
            pause = min(pause * 2, max(STORE_BACKOFF_SECONDS, poll_seconds))
            log.warning("queue_unreachable", error=error.message, pause_seconds=pause)
            await _rest(stop, pause)
            continue
        pause = poll_seconds
        if claim is not None:
            await handle(claim, stop)
        elif drain and view.is_empty:
            return
        else:
            await _rest(stop, pause)


async def _rest(stop: asyncio.Event, seconds: float) -> None:
    """Wait, but not once `stop` is set; spread by a tenth so that workers do not poll in step."""
    try:
        await asyncio.wait_for(stop.wait(), seconds * random.uniform(0.9, 1.1))  # noqa: S311  # load only
    except TimeoutError:
        return

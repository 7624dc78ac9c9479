"""A slot of a worker: it finds one piece of work after another and hands it on."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from backend.core.concurrency import run_unless_set
from worker.run.poller import Find, Poller

T = TypeVar("T")

CLAIM_GRACE_SECONDS = 5.0
"""On shutdown, a claim in progress may take this long; what it claimed is then released."""


async def serve(
    poller: Poller, find: Find[T], handle: Callable[[T, asyncio.Event], Awaitable[None]], stop: asyncio.Event
) -> None:
    """Run until `stop` is set or the poller finds no more.

    `handle` does what was claimed to its end, or releases it when the event is set. It must not raise.
    """
    while not stop.is_set() and (
        claim := await run_unless_set(stop, poller.next(find), grace_seconds=CLAIM_GRACE_SECONDS)
    ):
        await handle(claim, stop)

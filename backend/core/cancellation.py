"""Clean-up that a cancelled task still owes."""

import asyncio
from collections.abc import Awaitable


async def finish_even_if_cancelled(work: Awaitable[None]) -> None:
    """Run `work` to its end, however often this task is cancelled meanwhile.

    Raises:
        CancelledError: it was cancelled meanwhile; `work` has ended all the same.
    """
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError

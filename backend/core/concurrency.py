"""Waiting for several tasks, sleeping until told to stop, and clean-up that survives cancellation."""

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, TypeVar, cast

T = TypeVar("T")
U = TypeVar("U")


async def gather_or_cancel(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the results of all coroutines, in order.

    If one fails, or the caller is cancelled, the others are cancelled and awaited before the error is
    raised. `asyncio.gather` would leave them running; a `TaskGroup` would wrap the error in a group.
    """
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def gather_pair(first: Coroutine[Any, Any, T], second: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """Run `gather_or_cancel` on two coroutines of different types."""
    one, other = await gather_or_cancel([first, second])
    return cast(T, one), cast(U, other)


async def run_shielded(work: Awaitable[None]) -> None:
    """Run `work` to completion even if this task is cancelled, any number of times, while it runs.

    Raises:
        CancelledError: this task was cancelled meanwhile; `work` has still completed.
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


async def sleep_unless_set(stop: asyncio.Event, seconds: float) -> None:
    """Sleep for `seconds`, or until `stop` is set."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)

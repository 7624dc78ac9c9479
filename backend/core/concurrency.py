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
        await _cancel_all(*tasks)


async def gather_pair(first: Coroutine[Any, Any, T], second: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """Run `gather_or_cancel` on two coroutines of different types."""
    one, other = await gather_or_cancel([first, second])
    return cast(T, one), cast(U, other)


async def run_shielded(work: Awaitable[None]) -> None:
    """Run `work` to completion even if this task is cancelled, any number of times, while it runs.

    Raises:
        CancelledError: this task was cancelled meanwhile; `work` has still completed, or failed: its error is
            the cause. A cancellation must not be lost, or what waits for this task's end waits forever.
    """
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError from None if task.cancelled() else task.exception()
    task.result()


async def sleep_unless_set(stop: asyncio.Event, seconds: float) -> None:
    """Sleep for `seconds`, or until `stop` is set."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def run_unless_set(
    stop: asyncio.Event, work: Coroutine[Any, Any, T], *, grace_seconds: float = 0
) -> T | None:
    """Return the result of `work`, or None if `stop` is set and `work` takes `grace_seconds` longer.

    In that case, or if the caller is cancelled, `work` is cancelled and awaited.
    """
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({working}, timeout=grace_seconds)
        return working.result() if working.done() else None
    finally:
        await _cancel_all(working, stopping)


async def run_guarded(work: Coroutine[Any, Any, T], *guards: Coroutine[Any, Any, None]) -> T:
    """Return the result of `work`, unless a guard raises first: that error is raised instead.

    A guard never returns. On leaving, `work` and the guards are cancelled and awaited.
    """
    working, watching = asyncio.create_task(work), [asyncio.create_task(guard) for guard in guards]
    try:
        ended, _ = await asyncio.wait({working, *watching}, return_when=asyncio.FIRST_COMPLETED)
        if working not in ended:
            next(iter(ended)).result()  # raises
        return await working
    finally:
        await _cancel_all(working, *watching)


async def _cancel_all(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

"""Awaiting several things at once."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar, cast

T = TypeVar("T")
U = TypeVar("U")


async def all_of(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return what all of them return, in their order.

    When one fails, or the caller is cancelled, the others are cancelled and have ended before the error is
    raised. `asyncio.gather` would leave them running behind its caller's back; a `TaskGroup` would wrap the
    error in a group.
    """
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def both(first: Coroutine[Any, Any, T], second: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """`all_of` for two of different types."""
    one, other = await all_of([first, second])
    return cast(T, one), cast(U, other)

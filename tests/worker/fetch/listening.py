"""TCP servers whose connections have all ended when their block has."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from typing import Any


@asynccontextmanager
async def listening(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], **where: Any
) -> AsyncIterator[int]:
    """Yield the port. `where` is as for `asyncio.start_server`."""
    handlers = set()

    async def tracked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.current_task())
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            with closing(writer):
                await handle(reader, writer)
            await writer.wait_closed()

    async with await asyncio.start_server(tracked, **where) as server:
        yield server.sockets[0].getsockname()[1]
    await asyncio.gather(*(task for task in handlers if task))

"""Hears the API's bell: any datagram at DOORBELL makes the worker poll at once. What it says is not read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from backend.core.setting_values import HostPort

log = structlog.get_logger(__name__)


class _Bell(asyncio.DatagramProtocol):
    def __init__(self, rung: asyncio.Event) -> None:
        self._rung = rung

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        self._rung.set()


@asynccontextmanager
async def listening(address: HostPort | None, rung: asyncio.Event) -> AsyncIterator[None]:
    """Set `rung` for each datagram during the block. Without a bell, polling still finds jobs."""
    transport = None
    if address is not None:
        try:
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Bell(rung), local_addr=address
            )
        except OSError as error:
            log.warning("doorbell_not_heard", address="{}:{}".format(*address), error=str(error))
    try:
        yield
    finally:
        if transport is not None:
            transport.close()

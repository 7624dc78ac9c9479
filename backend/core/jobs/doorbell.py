"""Tells workers that there is a job, so that they need not find it by their next poll."""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress

from backend.core.setting_values import HostPort


class Doorbell:
    """Rings at `addresses`. A name stands for all workers that it resolves to.

    A lost datagram costs no more than the time until the next poll, so nothing waits for one or fails.
    """

    def __init__(self, addresses: Sequence[HostPort] = ()) -> None:
        self._addresses = addresses
        self._ringing: dict[HostPort, asyncio.Task[None]] = {}

    def ring(self) -> None:
        """Send a datagram to every worker, in the background."""
        for address in self._addresses:
            before = self._ringing.get(address)
            if before is None or before.done():  # else its datagrams are still to come
                self._ringing[address] = asyncio.create_task(_send(address))


async def _send(address: HostPort) -> None:
    found = []
    with suppress(OSError):
        found = await asyncio.get_running_loop().getaddrinfo(*address, type=socket.SOCK_DGRAM)
    for family, kind, protocol, _, one in found:
        with suppress(OSError), socket.socket(family, kind, protocol) as bell:
            bell.setblocking(False)
            bell.sendto(b".", one)

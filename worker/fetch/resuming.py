"""What HTTP and FTP share: trying again where a transfer broke, stalls, and sentences for what went wrong."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

import structlog
from aiohttp import ClientError
from aiohttp.client_exceptions import (
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientHttpProxyError,
)

from backend.core.backoff import Backoff
from backend.core.errors import AddressRefused, AttemptFailed, BadRequest, SourceRejected
from worker.fetch.interface import Fetched, FetchSink

log = structlog.get_logger(__name__)

STALL_SECONDS = 60.0
NOTABLE_BYTES = 64 * 1024
"""A server that takes STALL_SECONDS to send this has stalled."""
TRIES = 5
"""How often in a row a connection may break without getting further than those before it."""
PAUSES = Backoff(1, longest_seconds=30)


async def resume(transfer: Callable[[], Awaitable[Fetched]], sink: FetchSink, pauses: Backoff) -> Fetched:
    """Call `transfer`, which fetches what is missing over one connection, until nothing is missing.

    Raises: SourceRejected, also for addresses that it refuses; AttemptFailed, after TRIES.
    """
    failures, furthest = 0, sink.position
    while True:
        try:
            return await transfer()
        except BadRequest as error:
            raise SourceRejected(error.message, code=error.code) from None
        except AttemptFailed as error:
            failures = 1 if sink.position > furthest else failures + 1
            furthest = max(furthest, sink.position)
            if failures == TRIES:
                raise
            log.warning("fetch_interrupted", error=error.message, received_bytes=sink.position)
        await asyncio.sleep(pauses.pause_seconds(failures))


async def pieces(read: Callable[[], Awaitable[bytes]], stall_seconds: float) -> AsyncIterator[bytes]:
    """Yield what is read until that is empty. Stalls are measured without the time that the caller takes.

    Raises: AttemptFailed.
    """
    waited_seconds, taken_bytes = 0.0, 0
    while True:
        started = time.monotonic()
        with as_failures():
            async with asyncio.timeout(stall_seconds - waited_seconds):
                piece = await read()
        if not piece:
            return
        waited_seconds += time.monotonic() - started
        taken_bytes += len(piece)
        if taken_bytes >= NOTABLE_BYTES:
            waited_seconds, taken_bytes = 0.0, 0
        yield piece


@contextmanager
def as_failures() -> Iterator[None]:
    """Say in a sentence what went wrong on the network. Raises: AttemptFailed, AddressRefused."""
    try:
        yield
    except (ClientConnectorDNSError, socket.gaierror):
        raise AttemptFailed("There is no server of this name.", code="fetch_unreachable") from None
    except ClientHttpProxyError as error:  # of `worker.fetch.proxy`
        if error.status == HTTPStatus.FORBIDDEN:
            raise AddressRefused from None
        raise AttemptFailed("The server cannot be reached.", code="fetch_unreachable") from None
    except ClientConnectorCertificateError:
        raise AttemptFailed("The server's certificate is not valid.", code="fetch_unreachable") from None
    except TimeoutError:
        raise AttemptFailed("The server did not respond in time.", code="fetch_timeout") from None
    except (ClientConnectorError, ConnectionRefusedError):
        raise AttemptFailed("The server cannot be reached.", code="fetch_unreachable") from None
    except (ClientError, OSError, asyncio.IncompleteReadError) as error:
        log.info("connection_broke", error=type(error).__name__)
        raise AttemptFailed("The connection broke.", code="fetch_broken") from None

"""Fetches a file over http and https, straight into the sink.

A connection that breaks is resumed with `Range` and `If-Range` (RFC 9110, sections 13.1.5 and 14.2), if the
server names the version of its file with a strong validator and serves ranges. Otherwise the file is fetched
from its beginning: bytes of two versions are never joined.
"""

import asyncio
import re
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import PurePosixPath

import structlog
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, TCPConnector
from aiohttp.client_exceptions import (
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
)
from yarl import URL

from backend.core.addresses import follow, parse_address
from backend.core.backoff import Backoff
from backend.core.errors import AttemptFailed, BadRequest, InvalidAddress, SourceRejected
from backend.core.records import FetchSpec
from worker.fetch.guard import Guard
from worker.fetch.interface import Fetched, FetchSink

log = structlog.get_logger(__name__)

STALL_SECONDS = 60.0
NOTABLE_BYTES = 64 * 1024
"""A server that takes STALL_SECONDS to send this has stalled."""
MAX_REDIRECTS = 10
TRIES = 5
"""How often in a row a connection may break without getting further than those before it."""
PAUSES = Backoff(1, longest_seconds=30)

_HEADERS = {"User-Agent": "vodbucket", "Accept": "*/*", "Accept-Encoding": "identity"}
_NO_TIMEOUT = ClientTimeout(total=None, sock_connect=None)
"""Stalls are measured here."""
_REDIRECTS = {301, 302, 303, 307, 308}
_MAY_PASS = {408, 425, 429}
_DENIED = {401, 402, 403, 407, 451}
_GONE = {404, 410}
_PAGES = {"text/html", "application/xhtml+xml"}
_PAGE_START = re.compile(rb"\s*<(!doctype html|html)\b", re.IGNORECASE)
_PAGE_SENTENCE = "That address is a web page, not a video."
_SPAN = re.compile(r"bytes (?:(\d{1,18})-\d{1,18}|\*)/(\d{1,18})")


class HttpFetcher:
    """Follows redirects, resumes, and tells apart what may pass from what will not."""

    def __init__(
        self, guard: Guard, *, stall_seconds: float = STALL_SECONDS, pauses: Backoff = PAUSES
    ) -> None:
        self._guard = guard
        self._stall_seconds = stall_seconds
        self._pauses = pauses

    async def fetch(self, spec: FetchSpec, sink: FetchSink) -> Fetched:
        """As `Fetcher.fetch`."""
        failures, furthest = 0, sink.position
        connector = TCPConnector(resolver=self._guard, socket_factory=self._guard.socket)
        async with ClientSession(connector=connector, timeout=_NO_TIMEOUT, headers=_HEADERS) as session:
            while True:
                try:
                    address = parse_address(spec.address, allow_private=self._guard.allow_private)
                    return await self._continue(session, address, sink)
                except BadRequest as error:
                    raise SourceRejected(error.message, code=error.code) from None
                except AttemptFailed as error:
                    failures = 1 if sink.position > furthest else failures + 1
                    furthest = max(furthest, sink.position)
                    if failures == TRIES:
                        raise
                    log.warning("fetch_interrupted", error=error.message, received_bytes=sink.position)
                await asyncio.sleep(self._pauses.pause_seconds(failures))

    async def _continue(self, session: ClientSession, address: str, sink: FetchSink) -> Fetched:
        """Fetch what is missing over one connection."""
        start, version = sink.position, sink.version
        resumed = {"Range": f"bytes={start}-", "If-Range": _of(version)[1]} if start and version else {}
        async with self._answer(session, address, resumed) as answer:
            if version and resumed and answer.status != HTTPStatus.OK:
                total = _total_if_same(answer, start, version)
                if total is None:
                    await sink.begin(None, None)
                    raise AttemptFailed("The file was replaced while it was fetched.", code="fetch_changed")
            else:
                encoded = answer.headers.get("Content-Encoding", "identity") != "identity"
                total = None if encoded else answer.content_length
                await sink.begin(None if encoded else _version(answer, total), total)
            if sink.position != total:
                async for piece in self._pieces(answer):
                    if not sink.position and _PAGE_START.match(piece):
                        raise SourceRejected(_PAGE_SENTENCE, code="fetch_web_page")
                    await sink.write(piece)
            if total is not None and sink.position != total:
                raise AttemptFailed("The connection ended before the file did.", code="fetch_broken")
            if not sink.position:
                raise SourceRejected("The file at this address is empty.", code="empty_upload")
            return Fetched(filename=_filename(answer), content_type=answer.content_type)

    @asynccontextmanager
    async def _answer(
        self, session: ClientSession, address: str, resumed: dict[str, str]
    ) -> AsyncIterator[ClientResponse]:
        """Yield the answer after redirects: the file or, if resumed, its rest, which may be empty (416)."""
        for _ in range(MAX_REDIRECTS + 1):
            with _as_failures():
                async with asyncio.timeout(self._stall_seconds):
                    answer = await session.get(
                        URL(address, encoded=True), headers=resumed, allow_redirects=False
                    )
            async with answer:
                if answer.status not in _REDIRECTS:
                    _check(answer, resumed=bool(resumed))
                    yield answer
                    return
                location = answer.headers.get("Location", "")
                address = follow(address, location, allow_private=self._guard.allow_private)
            if not address.startswith("http"):
                raise InvalidAddress
        raise SourceRejected("This address redirects too often.", code="fetch_refused")

    async def _pieces(self, answer: ClientResponse) -> AsyncIterator[bytes]:
        """Yield the body. Stalls are measured without the time that the caller takes."""
        waited_seconds, taken_bytes = 0.0, 0
        while True:
            started = time.monotonic()
            with _as_failures():
                async with asyncio.timeout(self._stall_seconds - waited_seconds):
                    piece = await answer.content.readany()
            if not piece:
                return
            waited_seconds += time.monotonic() - started
            taken_bytes += len(piece)
            if taken_bytes >= NOTABLE_BYTES:
                waited_seconds, taken_bytes = 0.0, 0
            yield piece


@contextmanager
def _as_failures() -> Iterator[None]:
    """Say in a sentence what went wrong on the network."""
    try:
        yield
    except ClientConnectorDNSError:
        raise AttemptFailed("There is no server of this name.", code="fetch_unreachable") from None
    except ClientConnectorCertificateError:
        raise AttemptFailed("The server's certificate is not valid.", code="fetch_unreachable") from None
    except TimeoutError:
        raise AttemptFailed("The server did not respond in time.", code="fetch_timeout") from None
    except ClientConnectorError:
        raise AttemptFailed("The server cannot be reached.", code="fetch_unreachable") from None
    except (ClientError, OSError) as error:
        log.info("connection_broke", error=type(error).__name__)
        raise AttemptFailed("The connection broke.", code="fetch_broken") from None


def _check(answer: ClientResponse, *, resumed: bool) -> None:
    """Raises: SourceRejected, AttemptFailed: it is neither a file nor the rest of one."""
    status = answer.status
    if status == HTTPStatus.OK or (resumed and status in {206, 416}):
        if answer.content_type in _PAGES:
            raise SourceRejected(_PAGE_SENTENCE, code="fetch_web_page")
        return
    if status in _GONE:
        raise SourceRejected(f"There is nothing at this address ({status}).", code="fetch_not_found")
    if status in _DENIED:
        raise SourceRejected(f"The server denies access to this file ({status}).", code="fetch_denied")
    sentence = f"The server answered with status {status}."
    if status in _MAY_PASS or status >= 500:
        raise AttemptFailed(sentence, code="fetch_failed")
    raise SourceRejected(sentence, code="fetch_refused")


def _total_if_same(answer: ClientResponse, start: int, version: str) -> int | None:
    """Return the size of the file, or None if the answer is not the rest, from `start`, of this version."""
    span = _SPAN.fullmatch(answer.headers.get("Content-Range", ""))
    size, validator = _of(version)
    header = "ETag" if validator.startswith('"') else "Last-Modified"
    if span is None or answer.headers.get(header, validator) != validator or size not in {"", span[2]}:
        return None
    total = int(span[2])
    if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return total if total == start else None
    return total if span[1] == str(start) and start < total else None


def _of(version: str) -> tuple[str, str]:
    """Return the size, empty if it is unknown, and the validator."""
    size, _, validator = version.partition(" ")
    return size, validator


def _version(answer: ClientResponse, total: int | None) -> str | None:
    """Return what tells this version of the file from all others: size and strong validator."""
    validator = _validator(answer)
    return validator and f"{'' if total is None else total} {validator}"


def _validator(answer: ClientResponse) -> str | None:
    """Return what If-Range accepts (RFC 9110, sections 8.8 and 13.1.5)."""
    tag = answer.headers.get("ETag", "")
    if re.fullmatch(r'"[!#-~]*"', tag):
        return tag
    changed, sent = answer.headers.get("Last-Modified", ""), answer.headers.get("Date", "")
    try:
        # a file that was changed in this second may be changed once more
        return changed if parsedate_to_datetime(changed) < parsedate_to_datetime(sent) else None
    except (ValueError, TypeError):  # TypeError: one of them has no time zone
        return None


def _filename(answer: ClientResponse) -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a header that is nonsense is the server's affair
        disposition = answer.content_disposition
    return (disposition and disposition.filename) or PurePosixPath(answer.url.path).name or None

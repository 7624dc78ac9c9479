"""Fetches a file over http and https, straight into the sink.

A connection that breaks is resumed with `Range` and `If-Range` (RFC 9110, sections 13.1.5 and 14.2), if the
server names the version of its file with a strong validator and serves ranges. Otherwise the file is fetched
from its beginning: bytes of two versions are never joined.
"""

import asyncio
import re
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from pathlib import PurePosixPath

from aiohttp import ClientResponse, ClientSession, ClientTimeout, TCPConnector
from yarl import URL

from backend.core.addresses import follow, parse_address
from backend.core.backoff import Backoff
from backend.core.errors import AttemptFailed, InvalidAddress, SourceRejected
from backend.core.records import FetchSpec
from worker.fetch.guard import Guard
from worker.fetch.interface import Fetched, FetchSink
from worker.fetch.proxy import GuardedProxy
from worker.fetch.resuming import PAUSES, STALL_SECONDS, as_failures, pieces, resume

MAX_REDIRECTS = 10

_HEADERS = {"User-Agent": "vodbucket", "Accept": "*/*", "Accept-Encoding": "identity"}
_NO_TIMEOUT = ClientTimeout(total=None, sock_connect=None)
"""Stalls are measured here."""
_REDIRECTS = {301, 302, 303, 307, 308}
_MAY_PASS = {408, 425, 429}
_DENIED = {401, 402, 403, 407, 451}
_GONE = {404, 410}
_PAGES = {"text/html", "application/xhtml+xml"}
_PAGE_START = re.compile(rb"\s*<(!doctype html|html)\b", re.IGNORECASE)
_PAGE_SENTENCE = "That address is a web page, not a video. A retry looks for a video on it, with yt-dlp."
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
        async with self._session() as session:
            return await resume(partial(self._transfer, session, spec.address, sink), sink, self._pauses)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[ClientSession]:
        """Yield a client that reaches what the guard lets it reach."""
        if self._guard.upstream is None:
            connector = TCPConnector(resolver=self._guard, socket_factory=self._guard.socket)
            async with ClientSession(connector=connector, timeout=_NO_TIMEOUT, headers=_HEADERS) as session:
                yield session
            return
        async with (
            GuardedProxy(self._guard).listening() as proxy,
            ClientSession(proxy=proxy.address, timeout=_NO_TIMEOUT, headers=_HEADERS) as session,
        ):
            with proxy.blamed():
                yield session

    async def _transfer(self, session: ClientSession, address: str, sink: FetchSink) -> Fetched:
        """Fetch what is missing over one connection."""
        address = parse_address(address, allow_private=self._guard.allow_private)
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
                async for piece in pieces(answer.content.readany, self._stall_seconds):
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
            with as_failures():
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

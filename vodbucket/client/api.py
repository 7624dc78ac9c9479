"""The HTTP client for a vodbucket server: the routes that the command line needs.

Owns the connection and the token, and maps every failure to one of `vodbucket.client.errors`.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urljoin

import aiohttp
from pydantic import BaseModel, ValidationError

from backend.core.access.people import Role
from backend.core.ids import parse_id
from backend.core.records import Download, Status
from backend.core.settings import ClientSettings
from vodbucket.client.errors import (
    BodyTooLarge,
    NotFound,
    NotPushed,
    RequestRejected,
    ServerUnavailable,
    TokenRejected,
)
from vodbucket.client.file_body import FileBody
from vodbucket.client.responses import (
    Added,
    AddedPerson,
    Downloads,
    ErrorBody,
    Events,
    IssuedToken,
    People,
    Person,
    Pushed,
    Resumption,
    VideoPage,
    VideoWithStatus,
    WebhookTest,
    WebhookTests,
)

CONNECT_SECONDS = 10.0
STALLED_SECONDS = 60.0
"""A connection that sends and receives nothing for this long is considered lost."""
SILENT_SECONDS = 40.0
"""The server breaks silence after 15 s."""
FIRST_EVENT_SECONDS = 5.0
MAX_EVENT_BYTES = 1024 * 1024
PAGE = 200
NO_LIMIT = 2**63
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
_RETRYABLE_STATUSES = {408, 423, 425, 429, 500, 502, 503, 504}
_RETRYABLE_CODES = {"offset_mismatch"}
"""Solved by asking for the offset again: this client stalled, or another one sent something."""

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Response:
    """A successful response. Header names are case-insensitive."""

    headers: Mapping[str, str]
    body: bytes


class Api:
    """One vodbucket server."""

    def __init__(self, url: str, session: aiohttp.ClientSession, max_body_bytes: int | None) -> None:
        self._session = session
        self.url = url
        self.max_body_bytes = max_body_bytes or NO_LIMIT
        """The largest request body to send. Lowered when a proxy rejects one (413)."""

    async def video(self, video_id: str) -> VideoWithStatus:
        return await self._read(VideoWithStatus, f"/api/videos/{parse_id(video_id)}")

    async def status(self, video_id: str) -> Status:
        return await self._read(Status, f"/api/videos/{parse_id(video_id)}/status")

    async def pushed(self, video_id: str) -> AsyncGenerator[Status]:
        """Yield the status of a video now and after each change, as the server pushes it.

        Ends when the stream does, for whatever reason: the caller asks then. Raises: NotPushed: nothing came.
        """
        is_first = True
        with suppress(aiohttp.ClientError, OSError, ValueError):
            async with self._session.get(
                f"{self.url}/api/videos/{parse_id(video_id)}/events",
                timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS),
                allow_redirects=False,
                read_bufsize=MAX_EVENT_BYTES,
            ) as response:
                while response.content_type == "text/event-stream":
                    # a proxy may hold events back: the first one is sent at once
                    async with asyncio.timeout(FIRST_EVENT_SECONDS if is_first else None):
                        line = await response.content.readline()
                    if not line:
                        break
                    if line.startswith(b"data: ") and line != b"data: {}\r\n":
                        yield Pushed.model_validate_json(line.removeprefix(b"data: ")).status
                        is_first = False
        if is_first:
            raise NotPushed

    async def videos(self, limit: int) -> list[VideoWithStatus]:
        """Return the newest videos, `limit` at most."""
        found: list[VideoWithStatus] = []
        cursor: str | None = ""
        while cursor is not None and len(found) < limit:
            query = f"?limit={min(PAGE, limit - len(found))}" + (f"&cursor={cursor}" if cursor else "")
            page = await self._read(VideoPage, f"/api/videos{query}")
            found += page.videos
            cursor = page.next_cursor
        return found

    async def events(self, after: int | None, wait_seconds: int = 0) -> Events:
        """Return events after number `after`, by default the latest. Wait for one if there is none."""
        start = "" if after is None else f"&after={after}"
        return await self._read(Events, f"/api/events?wait={wait_seconds}{start}")

    async def test_webhooks(self) -> list[WebhookTest]:
        """Have a test event sent to all endpoints."""
        return (await self._read(WebhookTests, "/api/webhooks/test", "POST")).tests

    async def add_remote(self, url: str, title: str | None) -> str:
        """Have the server fetch a file, and return the id of its video. Not to be repeated blindly."""
        body = {"url": url} | ({} if title is None else {"title": title})
        return (await self._read(Added, "/upload/remote", "POST", json=body)).id

    async def download(self, video_id: str, kind: Download, output: Path) -> None:
        """Save the WebM or MP4. On any error there is no file, or the one that was there before.

        Raises: as `request`; NotFound: there is no such file (yet). OSError: it cannot be written.
        """
        links = await self._read(Downloads, f"/api/videos/{parse_id(video_id)}/playback")
        path = links.mp4 if kind == "mp4" else links.webm
        if path is None:
            raise NotFound(f"This video has no {kind} file (yet).", "object_not_found")
        unfinished = output.with_name(f"{output.name}.part")
        # the link is enough, and the store must not get the token
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as anyone:
            try:
                async with anyone.get(urljoin(self.url, path)) as response:
                    if response.status != 200:
                        raise self._error(response, await response.content.read())
                    with unfinished.open("wb") as file:
                        async for piece in response.content.iter_any():
                            file.write(piece)
                unfinished.replace(output)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise ServerUnavailable(f"The download broke off: {_reason(error)}") from error
            finally:
                unfinished.unlink(missing_ok=True)

    async def rename(self, video_id: str, title: str) -> None:
        await self.request("PATCH", f"/api/videos/{parse_id(video_id)}", json={"title": title})

    async def delete(self, video_id: str) -> None:
        await self.request("DELETE", f"/api/videos/{parse_id(video_id)}")

    async def people(self) -> list[Person]:
        return (await self._read(People, "/api/people")).people

    async def add_person(self, name: str, role: Role) -> AddedPerson:
        """Add a person, and return them with their token. Not to be repeated blindly."""
        return await self._read(AddedPerson, "/api/people", "POST", json={"name": name, "role": role})

    async def revoke_person(self, person_id: str) -> None:
        await self.request("DELETE", f"/api/people/{parse_id(person_id)}")

    async def issue_token(self, person_id: str) -> str:
        """Return a new token for this person, which replaces their others."""
        return (await self._read(IssuedToken, f"/api/people/{parse_id(person_id)}/token", "POST")).token

    async def resumption(self, fingerprint: str) -> Resumption | None:
        """Return where the upload of a file is, or None if there is no record."""
        try:
            return await self._read(Resumption, f"/api/resumptions/{fingerprint}")
        except NotFound as error:
            if error.server_code != "resumption_not_found":
                raise
            return None

    async def save_resumption(self, fingerprint: str, resumption: Resumption) -> None:
        await self.request("PUT", f"/api/resumptions/{fingerprint}", json=resumption.model_dump())

    async def delete_resumption(self, fingerprint: str) -> None:
        await self.request("DELETE", f"/api/resumptions/{fingerprint}")

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        body: FileBody | None = None,
    ) -> Response:
        """Make a request. If the server responds early, the rest of `body` is not sent.

        Raises:
            ServerUnavailable, RequestRejected, NotFound, TokenRejected
            FileRejected: the body's file can no longer be read.
        """
        try:
            async with asyncio.timeout(None) as stall:

                def restart_timeout() -> None:
                    stall.reschedule(asyncio.get_running_loop().time() + STALLED_SECONDS)

                restart_timeout()
                async with self._session.request(
                    method,
                    self.url + path,
                    headers=dict(headers or {}),
                    json=json,
                    data=None if body is None else body.chunks(restart_timeout),
                    allow_redirects=False,
                ) as response:
                    # Not response.read(): it waits until the whole body is sent, even after a rejection.
                    content = await response.content.read()
        except TimeoutError:
            raise ServerUnavailable(f"{self.url} does not respond.") from None
        except (aiohttp.ClientError, OSError) as error:
            if body is not None and body.failure is not None:
                raise body.failure from None
            raise ServerUnavailable(f"Connection to {self.url} failed: {_reason(error)}") from error
        if response.status >= 300:
            raise self._error(response, content)
        return Response(response.headers, content)

    async def _read(self, kind: type[T], path: str, method: str = "GET", *, json: object = None) -> T:
        response = await self.request(method, path, json=json)
        try:
            return kind.model_validate_json(response.body)
        except ValidationError:
            raise RequestRejected(
                f"The server at {self.url} is not vodbucket, or not a compatible version."
            ) from None

    def _error(self, response: aiohttp.ClientResponse, content: bytes) -> Exception:
        status = response.status
        try:
            body = ErrorBody.model_validate_json(content)
        except ValidationError:
            body = ErrorBody(error=f"{self.url} responded {status} {response.reason}.", code="")
        if status == 401:
            return TokenRejected()
        if status in _RETRYABLE_STATUSES or body.code in _RETRYABLE_CODES:
            return ServerUnavailable(body.error)
        if status == 413 and not body.code:
            return BodyTooLarge(f"A proxy in front of {self.url} rejects request bodies of this size (413).")
        if status in (404, 410):
            return NotFound(body.error, body.code)
        if not body.code and status >= 400:
            return RequestRejected(f"{body.error} Is VODBUCKET_URL the address of vodbucket?")
        if status < 400:
            location = response.headers.get("location", "another address")
            return RequestRejected(
                f"{self.url} redirects to {location}. Set VODBUCKET_URL to the server's own address."
            )
        return RequestRejected(body.error, body.code)


@asynccontextmanager
async def open_api(settings: ClientSettings) -> AsyncIterator[Api]:
    token = settings.admin_token.get_secret_value()
    async with aiohttp.ClientSession(
        headers={"authorization": f"Bearer {token}"},
        timeout=_TIMEOUT,
    ) as session:
        yield Api(str(settings.vodbucket_url).rstrip("/"), session, settings.upload_request_bytes)


def _reason(error: BaseException) -> str:
    """Return the system's message for a system error: aiohttp's own messages contain class names."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "Its certificate is not trusted."
    if isinstance(error, aiohttp.ClientSSLError):  # its errno is not a system error
        return "It does not speak TLS. Does VODBUCKET_URL need http:// instead of https://?"
    if isinstance(error, aiohttp.ClientResponseError):
        return "It does not speak HTTP. Does VODBUCKET_URL need https://?"
    if isinstance(error, OSError) and error.errno is not None:
        # Errors of name resolution are below 0.
        reason = f"{os.strerror(error.errno) if error.errno > 0 else error.strerror}."
        if isinstance(error, aiohttp.ClientConnectorError):
            return f"{reason} Is it running there? VODBUCKET_URL selects another server."
        return reason
    return f"{error or type(error).__name__}."

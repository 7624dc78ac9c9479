"""A vodbucket server's API over HTTP, as far as the command line needs it.

Owns the connection, the token, and what answers mean: each ends as one of `vodbucket.errors`, or well.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError

from backend.core.ids import parse_id
from backend.core.records import Status
from backend.core.settings import ClientSettings
from vodbucket.answers import ListedVideo, Note, Problem, VideoPage
from vodbucket.body import FileBody
from vodbucket.errors import NotThere, Refused, ServerAway, TokenRefused

CONNECT_SECONDS = 10.0
SILENT_SECONDS = 60.0
"""A connection on which nothing moves for so long is lost: neither does the body, nor is there an answer."""
PAGE = 200
_LATER = {408, 423, 425, 500, 502, 503, 504}
_LATER_PROBLEMS = {"offset_mismatch"}
"""Over once the client has looked again: it was silent for too long, or another sent something."""

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Answer:
    """A good one. Header names are looked up whatever their case."""

    headers: Mapping[str, str]
    body: bytes


class Api:
    """One server."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._session = session
        self.url = url

    async def video(self, video_id: str) -> ListedVideo:
        return await self._read(ListedVideo, f"/api/videos/{parse_id(video_id)}")

    async def status(self, video_id: str) -> Status:
        return await self._read(Status, f"/api/videos/{parse_id(video_id)}/status")

    async def videos(self, limit: int) -> list[ListedVideo]:
        """Return the newest videos."""
        found: list[ListedVideo] = []
        cursor: str | None = ""
        while cursor is not None and len(found) < limit:
            query = f"?limit={min(PAGE, limit - len(found))}" + (f"&cursor={cursor}" if cursor else "")
            page = await self._read(VideoPage, f"/api/videos{query}")
            found += page.videos
            cursor = page.next_cursor
        return found

    async def rename(self, video_id: str, title: str) -> None:
        await self.request("PATCH", f"/api/videos/{parse_id(video_id)}", json={"title": title})

    async def delete(self, video_id: str) -> None:
        await self.request("DELETE", f"/api/videos/{parse_id(video_id)}")

    async def note(self, fingerprint: str) -> Note | None:
        """Return how to go on with a file, None where nobody has noted it."""
        try:
            return await self._read(Note, f"/api/resumptions/{fingerprint}")
        except NotThere as error:
            if error.problem != "resumption_not_found":
                raise
            return None

    async def write_note(self, fingerprint: str, note: Note) -> None:
        await self.request("PUT", f"/api/resumptions/{fingerprint}", json=note.model_dump())

    async def forget_note(self, fingerprint: str) -> None:
        await self.request("DELETE", f"/api/resumptions/{fingerprint}")

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        body: FileBody | None = None,
    ) -> Answer:
        """Make a request; a `body` is sent as far as the server takes it.

        Raises:
            ServerAway, Refused, NotThere, TokenRefused
            FileRejected: the body's file cannot be read any more.
        """
        try:
            async with asyncio.timeout(None) as patience:

                def moved() -> None:
                    patience.reschedule(asyncio.get_running_loop().time() + SILENT_SECONDS)

                moved()
                async with self._session.request(
                    method,
                    self.url + path,
                    headers=dict(headers or {}),
                    json=json,
                    data=None if body is None else body.chunks(moved),
                    allow_redirects=False,
                ) as answer:
                    # Not answer.read(), which waits until the rest of the body was sent, after a refusal too.
                    content = await answer.content.read()
        except TimeoutError:
            raise ServerAway(f"{self.url} does not answer.") from None
        except (aiohttp.ClientError, OSError) as error:
            if body is not None and body.failure is not None:
                raise body.failure from None
            raise ServerAway(f"{self.url} cannot be reached ({_reason(error)}).") from error
        if answer.status >= 300:
            raise self._failure(answer, content)
        return Answer(answer.headers, content)

    async def _read(self, kind: type[T], path: str) -> T:
        answer = await self.request("GET", path)
        try:
            return kind.model_validate_json(answer.body)
        except ValidationError:
            raise Refused(f"What answers at {self.url} is no vodbucket that this version knows.") from None

    def _failure(self, answer: aiohttp.ClientResponse, content: bytes) -> Exception:
        status = answer.status
        try:
            said = Problem.model_validate_json(content)
        except ValidationError:
            said = Problem(error=f"{self.url} answered {status} {answer.reason}.", code="")
        if status == 401:
            return TokenRefused()
        if status in _LATER or said.code in _LATER_PROBLEMS:
            return ServerAway(said.error)
        if status in (404, 410):
            return NotThere(said.error, said.code)
        if status < 400:
            where = answer.headers.get("location", "another address")
            return Refused(f"{self.url} sends us to {where}: set VODBUCKET_URL to where the server is.")
        return Refused(said.error, said.code)


@asynccontextmanager
async def open_api(settings: ClientSettings) -> AsyncIterator[Api]:
    token = settings.admin_token.get_secret_value()
    async with aiohttp.ClientSession(
        headers={"authorization": f"Bearer {token}"},
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
    ) as session:
        yield Api(str(settings.vodbucket_url).rstrip("/"), session)


def _reason(error: BaseException) -> str:
    """Say it as the system does, where it was the system: aiohttp's own sentences name classes."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno) if error.errno > 0 else str(error.strerror)  # below 0: of names
    return str(error) or type(error).__name__

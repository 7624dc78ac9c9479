"""Upload links: with one, a guest may upload for its owner, and do nothing else.

A link is a record that is created once and deleted to withdraw the link. Its address contains 128 random bits
and is stored as a hash. How often it was used is counted in `backend.core.uploads.places`.
"""

import hashlib
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import structlog
from pydantic import AwareDatetime, Field

from backend.core import keys
from backend.core.access.rights import HOLDER_DIGITS
from backend.core.concurrency import gather_or_cancel
from backend.core.errors import ObjectNotFound
from backend.core.records import Record, RecordUnreadable, Title, new_nonce
from backend.core.store.interface import Store

log = structlog.get_logger(__name__)

MAX_UPLOADS = 100
"""What holds the places of a link is one record, read and written again with each upload."""
FINISH_SECONDS = 86_400
"""How long a guest may take for one upload, even if the link expires meanwhile."""
TOKEN_LENGTH = 22
_TOKEN = re.compile(rf"[A-Za-z0-9_-]{{{TOKEN_LENGTH}}}")
_ID = re.compile(rf"[0-9a-f]{{{HOLDER_DIGITS}}}")

Uploads = Annotated[int, Field(ge=1, le=MAX_UPLOADS)]


class UploadLink(Record):
    """`upload-links/<id>/link`, create-only."""

    owner: str | None = Field(description="whose the videos will be; null: an admin's")
    title: Title
    description: str = Field(default="", description="shown to guests")
    expires_at: AwareDatetime = Field(description="no upload begins later")
    max_uploads: Uploads
    max_bytes: int = Field(ge=1, description="of each upload")
    created_at: AwareDatetime
    nonce: str = Field(default_factory=new_nonce)


class UploadLinks:
    """Make, find and withdraw upload links. `clock` returns Unix seconds. Nothing is cached here."""

    def __init__(self, video: Store, clock: Callable[[], float]) -> None:
        self._video = video
        self._clock = clock

    async def make(self, link: UploadLink) -> str:
        """Store the link and return its token, which is not stored."""
        token = secrets.token_urlsafe(16)
        await self._video.create(keys.upload_link(link_id_of(token)), link.to_json())
        return token

    async def find(self, link_id: str) -> UploadLink | None:
        """Return the link, even if it has expired, or None if there is none."""
        try:
            return UploadLink.from_json((await self._video.get(keys.upload_link(link_id))).body)
        except ObjectNotFound:
            return None
        except RecordUnreadable as error:
            log.warning("record_unreadable", key=keys.upload_link(link_id), error=error.message)
            return None

    async def all(self) -> dict[str, UploadLink]:
        """Return all links, by id, until they are removed some time after their end."""
        found = [info.key async for info in self._video.list_all(keys.UPLOAD_LINKS)]
        ids = list(dict.fromkeys(keys.ours(keys.link_of_object, found)))
        links = await gather_or_cancel(self.find(link_id) for link_id in ids)
        return {link_id: link for link_id, link in zip(ids, links, strict=True) if link is not None}

    async def withdraw(self, link_id: str) -> None:
        await self._video.delete(keys.upload_link(link_id))

    def is_open(self, link: UploadLink) -> bool:
        """Return whether an upload may begin."""
        return self._clock() < link.expires_at.timestamp()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def is_link_token(text: str) -> bool:
    """Return whether this may be the token of a link, so that it is worth asking the store."""
    return _TOKEN.fullmatch(text) is not None


def is_link_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def link_id_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()[:HOLDER_DIGITS]

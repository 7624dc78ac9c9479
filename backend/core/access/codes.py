"""Access codes: who has one may watch certain media, without a sign-in.

A code is stored as a hash. Those that we make up are too long to be guessed; those that people choose are
hashed slowly, and with a secret. A record is never rewritten, and a code that was withdrawn is never given
out again: it would bring back what was granted under the withdrawn one.
"""

import hashlib
import hmac
import re
import secrets
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import structlog
from pydantic import AwareDatetime, Field

from backend.core import keys
from backend.core.access.rights import HOLDER_DIGITS
from backend.core.access.slow_hashes import SlowHashes
from backend.core.concurrency import gather_or_cancel
from backend.core.errors import AccessCodeNotFound, AccessCodeTaken, ObjectNotFound
from backend.core.records import Record, RecordUnreadable, Value, new_nonce
from backend.core.store.interface import Store, exists

log = structlog.get_logger(__name__)

MADE_UP = "vc_"
"""What made-up codes begin with, and chosen ones must not: they are hashed and guessed differently."""
_ID = re.compile(rf"[0-9a-f]{{{HOLDER_DIGITS}}}")
_MADE_UP = re.compile(rf"{MADE_UP}[A-Za-z0-9_-]{{22}}")


class MediaType(StrEnum):
    VIDEO = "video"
    IMAGE = "image"


class CodeItem(Value):
    """One of the media that a code opens."""

    media_type: MediaType
    media_slug: str = Field(description="slug or id, as the client named it")
    id: str


class Passphrase(Value):
    """The hash of what has to be sent together with a code."""

    salt: str
    digest: str = Field(repr=False)


class AccessCode(Record):
    """`access-codes/<id>/code`, create-only. Deleting it withdraws the code."""

    owner: str | None = Field(description="id of the person who made it; null: the holder of the admin token")
    description: str
    expires_at: AwareDatetime | None
    passphrase: Passphrase | None
    media_items: tuple[CodeItem, ...]
    frame_ancestors: tuple[str, ...] | None = Field(
        default=None, description="origins whose pages may embed these media; null: as EMBED_ORIGINS says"
    )
    created_at: AwareDatetime
    nonce: str = Field(default_factory=new_nonce)


class CodeSalt(Record):
    """`keys/codes`, create-only: without it, the stored hashes do not help to guess codes."""

    secret: str = Field(default_factory=lambda: secrets.token_hex(32), repr=False)


@dataclass(frozen=True, slots=True)
class ListedCode:
    id: str
    record: AccessCode
    used_at: datetime | None
    """To the day."""


class AccessCodes:
    """Make, find, list and withdraw codes. `clock` returns Unix seconds. Only hashes are cached here."""

    def __init__(self, video: Store, clock: Callable[[], float]) -> None:
        self._video = video
        self._clock = clock
        self._hashes = SlowHashes()
        self._salt: str | None = None

    async def make(
        self,
        code: str,
        *,
        owner: str | None,
        media_items: tuple[CodeItem, ...],
        description: str = "",
        expires_at: datetime | None = None,
        passphrase: str | None = None,
        frame_ancestors: tuple[str, ...] | None = None,
    ) -> ListedCode:
        """Store a code, which comes from `made_up` or a person. Raises: AccessCodeTaken."""
        code_id = await self.id_of(code)
        record = AccessCode(
            owner=owner,
            description=description,
            expires_at=expires_at,
            passphrase=None if passphrase is None else await self._hashed(passphrase),
            media_items=media_items,
            frame_ancestors=frame_ancestors,
            created_at=datetime.fromtimestamp(self._clock(), UTC),
        )
        withdrawn = keys.withdrawn_access_code(code_id)
        if await exists(self._video, withdrawn):
            raise AccessCodeTaken
        if not await self._video.create(keys.access_code(code_id), record.to_json()):
            raise AccessCodeTaken
        if await exists(self._video, withdrawn):  # since the look above
            await self._video.delete(keys.access_code(code_id))
            raise AccessCodeTaken
        return ListedCode(code_id, record, None)

    async def id_of(self, code: str) -> str:
        """Return the id that this code has, whether or not there is such a code."""
        if is_made_up(code):
            return hashlib.sha256(code.encode()).hexdigest()[:HOLDER_DIGITS]
        return await self._hashes.hash(normalized(code), await self._secret_salt())

    async def find(self, code_id: str) -> AccessCode | None:
        """Return the code, or None if there is none. Expired ones are returned too."""
        if not _ID.fullmatch(code_id):
            return None
        try:
            return AccessCode.from_json((await self._video.get(keys.access_code(code_id))).body)
        except ObjectNotFound:
            return None
        except RecordUnreadable as error:
            log.warning("record_unreadable", key=keys.access_code(code_id), error=error.message)
            return None

    async def all(self) -> list[ListedCode]:
        """Return all codes, the expired too, newest first."""
        times = {info.key: info.modified async for info in self._video.list_all(keys.ACCESS_CODES)}
        ids = list(keys.ours(keys.parse_access_code, times))
        found = await gather_or_cancel(self.find(code_id) for code_id in ids)
        listed = [
            ListedCode(code_id, record, times.get(keys.used_access_code(code_id)))
            for code_id, record in zip(ids, found, strict=True)
            if record is not None
        ]
        return sorted(listed, key=lambda one: one.record.created_at, reverse=True)

    async def withdraw(self, code_id: str) -> None:
        """Raises: AccessCodeNotFound."""
        if not await exists(self._video, keys.access_code(code_id)):
            raise AccessCodeNotFound
        await self._video.put(keys.withdrawn_access_code(code_id), b"")
        await self._video.delete(keys.access_code(code_id))
        await self._video.delete(keys.used_access_code(code_id))

    async def is_passphrase(self, candidate: str, passphrase: Passphrase) -> bool:
        digest = await self._hashes.hash(normalized(candidate), passphrase.salt)
        return hmac.compare_digest(digest, passphrase.digest)

    async def _hashed(self, passphrase: str) -> Passphrase:
        salt = secrets.token_hex(16)
        return Passphrase(salt=salt, digest=await self._hashes.hash(normalized(passphrase), salt))

    async def _secret_salt(self) -> str:
        if self._salt is None:
            await self._video.create(keys.CODE_SALT, CodeSalt().to_json())
            stored = await self._video.get(keys.CODE_SALT)
            self._salt = CodeSalt.from_json(stored.body).secret
        return self._salt


def made_up() -> str:
    """Return a new code of 128 random bits."""
    return MADE_UP + secrets.token_urlsafe(16)


def is_made_up(code: str) -> bool:
    return _MADE_UP.fullmatch(code) is not None


def normalized(text: str) -> str:
    """Return what counts of a code or passphrase that people type: keyboards spell letters differently."""
    return unicodedata.normalize("NFKC", text).strip()

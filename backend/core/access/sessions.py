"""Sessions: records of signed-in browsers in the video bucket. A session lasts as long as its record.

A record is never rewritten, so a request that uses a session cannot bring it back while another ends it.
"""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from pydantic import AwareDatetime, Field

from backend.core import keys
from backend.core.access.rights import HOLDER_DIGITS
from backend.core.access.signing_keys import SigningKeys
from backend.core.access.tokens import TokenSigner
from backend.core.concurrency import gather_or_cancel
from backend.core.errors import ObjectNotFound
from backend.core.records import Record, RecordUnreadable
from backend.core.store.interface import Store
from backend.core.store.prefixes import keys_below

log = structlog.get_logger(__name__)

MAX_CLIENT_LENGTH = 100
_RANDOM_BYTES = 32


class Session(Record):
    """`sessions/<id>`, create-only."""

    created_at: AwareDatetime
    expires_at: AwareDatetime
    made_with: str = Field(
        description="fingerprint of the admin token, or id of a person's token; empty: a sign-in service"
    )
    person: str | None = Field(default=None, description="who signed in; null: the holder of the admin token")
    client: str = Field(default="", max_length=MAX_CLIENT_LENGTH, description="browser and system")


@dataclass(frozen=True, slots=True)
class ListedSession:
    id: str
    record: Session
    seen_at: datetime | None
    """When it was last used, to the day. None: not yet."""


class Sessions:
    """Begin, read and end sessions. `clock` returns Unix seconds. Nothing is cached here.

    A cookie is a signed random value, so the store is not asked about forged ones. The session's id is a hash
    of that value: listing the bucket opens no session.
    """

    def __init__(
        self, video: Store, signing_keys: SigningKeys, ttl_seconds: int, clock: Callable[[], float]
    ) -> None:
        self._video = video
        self._signer = TokenSigner(signing_keys, "session", _RANDOM_BYTES)
        self.ttl_seconds = ttl_seconds
        self._clock = clock

    async def begin(self, made_with: str, person: str | None = None, client: str = "") -> str:
        """Store a session and return its cookie. The arguments are as in `Session`."""
        value = secrets.token_bytes(_RANDOM_BYTES)
        now = datetime.fromtimestamp(self._clock(), UTC)
        session = Session(
            created_at=now,
            expires_at=now + timedelta(seconds=self.ttl_seconds),
            made_with=made_with,
            person=person,
            client=client[:MAX_CLIENT_LENGTH],
        )
        await self._video.create(keys.session(_id_of(value)), session.to_json())
        return self._signer.sign(value)

    def id_of(self, cookie: str) -> str | None:
        """Return the session's id, or None if we did not issue this cookie."""
        value = self._signer.verify(cookie)
        return None if value is None else _id_of(value)

    async def find(self, session_id: str) -> Session | None:
        """Return the session, or None if it has ended. Its person may have lost their access since."""
        session = await read_session(self._video, keys.session(session_id))
        expired = session is not None and session.expires_at.timestamp() <= self._clock()
        return None if expired else session

    async def all_of(self, person: str | None) -> list[ListedSession]:
        """Return the sessions of a person (None: the holder of the admin token) that have not expired."""
        used = {info.key: info.modified async for info in self._video.list_all(keys.SEEN)}
        ids = [key.removeprefix(keys.SESSIONS) for key in await keys_below(self._video, keys.SESSIONS)]
        found = await gather_or_cancel(self.find(session_id) for session_id in ids)
        return [
            ListedSession(session_id, session, used.get(keys.seen(session_id)))
            for session_id, session in zip(ids, found, strict=True)
            if session is not None and session.person == person
        ]

    async def end(self, session_id: str) -> None:
        await self._video.delete(keys.session(session_id))
        await self._video.delete(keys.seen(session_id))

    async def end_others(self, kept: str | None, person: str | None) -> None:
        """End all sessions of a person (None: the holder of the admin token), but the one to keep."""
        for session in await self.all_of(person):
            if session.id != kept:
                await self.end(session.id)


async def read_session(video: Store, key: str) -> Session | None:
    try:
        return Session.from_json((await video.get(key)).body)
    except ObjectNotFound:
        return None
    except RecordUnreadable as error:
        log.warning("record_unreadable", key=key, error=error.message)
        return None


def _id_of(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()[:HOLDER_DIGITS]

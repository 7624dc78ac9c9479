"""Sessions: records of signed-in browsers in the video bucket. A session lasts as long as its record.

A record is never rewritten, so a request that uses a session cannot bring it back while another ends it.
"""

import hashlib
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog
from pydantic import AwareDatetime, Field

from backend.core import keys
from backend.core.access.admin_token import AdminToken
from backend.core.access.rights import HOLDER_DIGITS
from backend.core.access.signing_keys import SigningKeys
from backend.core.access.tokens import TokenSigner
from backend.core.errors import ObjectNotFound
from backend.core.recent_reads import RecentReads
from backend.core.records import Record, RecordUnreadable
from backend.core.store.interface import Store
from backend.core.store.prefixes import keys_below

log = structlog.get_logger(__name__)

CACHED_SECONDS = 10.0
"""How long a session that another process ended still counts in this one."""
CACHED_SESSIONS = 4096
_RANDOM_BYTES = 32


class Session(Record):
    """`sessions/<id>`, create-only."""

    created_at: AwareDatetime
    expires_at: AwareDatetime
    made_with: str = Field(description="fingerprint of the admin token")


class Sessions:
    """Begin, check and end sessions. `clock` returns Unix seconds.

    A cookie is a signed random value, so the store is not asked about forged ones. The session's id is a hash
    of that value: listing the bucket opens no session.
    """

    def __init__(
        self,
        video: Store,
        signing_keys: SigningKeys,
        admin: AdminToken,
        ttl_seconds: int,
        clock: Callable[[], float],
    ) -> None:
        self._video = video
        self._signer = TokenSigner(signing_keys, "session", _RANDOM_BYTES)
        self._admin = admin
        self.ttl_seconds = ttl_seconds
        self._clock = clock
        self._recent = RecentReads(self._read, seconds=CACHED_SECONDS, capacity=CACHED_SESSIONS, clock=clock)

    async def begin(self) -> str:
        """Store a session made with the admin token, and return its cookie."""
        value = secrets.token_bytes(_RANDOM_BYTES)
        now = datetime.fromtimestamp(self._clock(), UTC)
        session = Session(
            created_at=now,
            expires_at=now + timedelta(seconds=self.ttl_seconds),
            made_with=self._admin.fingerprint(),
        )
        await self._video.create(keys.session(_id_of(value)), session.to_json())
        return self._signer.sign(value)

    def id_of(self, cookie: str) -> str | None:
        """Return the session's id, or None if we did not issue this cookie."""
        value = self._signer.verify(cookie)
        return None if value is None else _id_of(value)

    def surely_stands(self, session_id: str) -> bool:
        """Return whether a recent read found the session, without waiting."""
        return self._counts(self._recent.peek(session_id))

    async def stands(self, session_id: str) -> bool:
        return self._counts(await self._recent.get(session_id))

    async def end(self, session_id: str) -> None:
        await self._video.delete(keys.session(session_id))
        self._recent.forget(session_id)

    async def end_others(self, session_id: str | None) -> None:
        """End all sessions but this one."""
        kept = session_id and keys.session(session_id)
        found = await keys_below(self._video, keys.SESSIONS)
        await self._video.delete_many([key for key in found if key != kept])
        self._recent.forget_all()

    async def _read(self, session_id: str) -> Session | None:
        return await read_session(self._video, keys.session(session_id))

    def _counts(self, session: Session | None) -> bool:
        return (
            session is not None
            and session.expires_at.timestamp() > self._clock()
            and self._admin.made(session.made_with)
        )


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

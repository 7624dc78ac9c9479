"""The random keys that sign grants and session cookies, kept in the video bucket.

They are numbered, create-only objects: processes that start at the same time agree on one. The highest number
signs; older keys verify until somebody deletes them. A new key signs only once every process has loaded it.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import structlog
from pydantic import Field

from backend.core import keys
from backend.core.errors import BadRequest, ObjectNotFound, StoreError, StoreUnavailable
from backend.core.records import Record, RecordUnreadable
from backend.core.store.interface import Store

log = structlog.get_logger(__name__)

REFRESH_SECONDS = 60.0
"""How often a running process looks for new and deleted keys."""
RETRY_SECONDS = 2.0
"""How often it looks if it could not load any yet."""
ACTIVE_AFTER_SECONDS = 2.5 * REFRESH_SECONDS
"""A key this old, by the store's clock, is known to every process."""


class SigningKey(Record):
    """`keys/signing.<number>`, create-only. The secret makes its body unique."""

    secret: str = Field(default_factory=lambda: secrets.token_hex(32), pattern="^[0-9a-f]{64}$", repr=False)


class SigningKeys:
    """The keys as this process last loaded them."""

    def __init__(self, video: Store) -> None:
        self._video = video
        self._secrets: dict[int, bytes] = {}
        self._signs = 0

    @classmethod
    @asynccontextmanager
    async def kept_fresh(cls, video: Store) -> AsyncIterator["SigningKeys"]:
        """Load the keys, and reload them while the block runs."""
        loaded = cls(video)
        await loaded._try_to_reload()
        refreshing = asyncio.create_task(loaded._refresh())
        try:
            yield loaded
        finally:
            refreshing.cancel()
            await asyncio.gather(refreshing, return_exceptions=True)

    @property
    def current(self) -> tuple[int, bytes]:
        """The key that signs, with its number. Raises: StoreUnavailable: none was loaded yet."""
        return self._signs, self.all[self._signs]

    @property
    def all(self) -> Mapping[int, bytes]:
        """The keys that verify, by number. Raises: StoreUnavailable: none was loaded yet."""
        if not self._secrets:
            raise StoreUnavailable
        return self._secrets

    async def reload(self) -> None:
        """Load all keys, and make the first one if there is none. Raises: StoreError: nothing changes."""
        if not await _numbers(self._video):
            await self._video.create(keys.signing_key(1), SigningKey().to_json())
        listed = await self._video.list_page(keys.SIGNING_KEYS)
        found: dict[int, bytes] = {}
        active = []
        for info in listed.objects:
            with suppress(BadRequest, ObjectNotFound):
                number = keys.parse_signing_key(info.key)
                try:
                    key = SigningKey.from_json((await self._video.get(info.key)).body)
                except RecordUnreadable as error:
                    log.warning("record_unreadable", key=info.key, error=error.message)
                    continue
                found[number] = bytes.fromhex(key.secret)
                if (listed.store_now - info.modified).total_seconds() >= ACTIVE_AFTER_SECONDS:
                    active.append(number)
        if not found:
            raise StoreError("The bucket has no signing key that this version can read.")
        self._secrets, self._signs = found, max(active, default=min(found))

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS if self._secrets else RETRY_SECONDS)
            await self._try_to_reload()

    async def _try_to_reload(self) -> None:
        try:
            await self.reload()
        except StoreError as error:
            log.warning("signing_keys_not_loaded", error=error.message)


async def add_signing_key(video: Store) -> int:
    """Store a new key, which signs from `ACTIVE_AFTER_SECONDS` on, and return its number."""
    number = max(await _numbers(video), default=0) + 1
    await video.create(keys.signing_key(number), SigningKey().to_json())  # or another call has just made it
    return number


async def retire_signing_keys(video: Store) -> int:
    """Delete all keys but the newest: what they signed becomes invalid. Return how many there were."""
    older = sorted(await _numbers(video))[:-1]
    await video.delete_many([keys.signing_key(number) for number in older])
    return len(older)


async def _numbers(video: Store) -> list[int]:
    numbers = []
    async for info in video.list_all(keys.SIGNING_KEYS):
        with suppress(BadRequest):
            numbers.append(keys.parse_signing_key(info.key))
    return numbers

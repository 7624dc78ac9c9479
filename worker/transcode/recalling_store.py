"""The store of outputs, as an attempt uses it: what it wrote itself need not be read back to be checked."""

from hashlib import md5

from backend.core.store.interface import (
    LIST_PAGE,
    PLAIN,
    Body,
    Listing,
    ObjectHeaders,
    ObjectInfo,
    Store,
    StoredObject,
)
from worker.sandbox.activity import ActivityClock
from worker.transcode.watched_store import WatchedStore

RECALLED_BYTES = 4 * 1024**2
"""Kept of each attempt: all that is made of a short clip, and the beginning of a long video."""


class RecallingStore(WatchedStore):
    """Answers `get` from memory where a LIST has shown that the store holds just these bytes: by their MD5.

    That is the ETag of what was written in one piece, unless the store encrypts it with a key (Amazon S3 API
    reference, Object). Anything else is read from the store.
    """

    def __init__(self, store: Store, clock: ActivityClock) -> None:
        super().__init__(store, clock)
        self._free = RECALLED_BYTES
        self._written: dict[str, bytes] = {}
        self._listed: dict[str, ObjectInfo] = {}

    async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
        self._free += len(self._written.pop(key, b""))
        await super().put(key, body, headers)
        if len(body) <= self._free:
            self._free -= len(body)
            self._written[key] = bytes(body)

    async def get(self, key: str) -> StoredObject:
        body, info = self._written.get(key), self._listed.get(key)
        if body is not None and info and info.etag == md5(body, usedforsecurity=False).hexdigest():
            return StoredObject(body, info)
        return await super().get(key)

    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = LIST_PAGE) -> Listing:
        page = await super().list_page(prefix, start_after=start_after, limit=limit)
        self._listed.update((info.key, info) for info in page.objects)
        return page

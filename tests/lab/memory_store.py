"""An in-memory bucket for tests. It passes the S3 contract tests, and every verb yields to the event loop."""

import asyncio
import hashlib
import itertools
from bisect import bisect_left, bisect_right, insort
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime

from backend.core.errors import ObjectNotFound, SourceChanged, StoreError, UploadVanished
from backend.core.store.interface import (
    LIST_PAGE,
    PLAIN,
    Body,
    Listing,
    ObjectHeaders,
    ObjectInfo,
    OpenUpload,
    PresignedGet,
    StoredObject,
    UploadedPart,
    list_all,
)

READ_CHUNK_BYTES = 256 * 1024


def _utc_now() -> datetime:
    return datetime.now(UTC)


class MemoryStore:
    """One bucket. `clock` is the store's clock; it dates objects and responses."""

    def __init__(self, clock: Callable[[], datetime] = _utc_now) -> None:
        self._clock = clock
        self.neighbours: dict[str, MemoryStore] = {}
        """Other buckets of the same store."""
        self._objects: dict[str, StoredObject] = {}
        self._keys: list[str] = []  # sorted, as LIST returns them
        self._uploads: dict[tuple[str, str], dict[int, bytes]] = {}
        self._started: dict[tuple[str, str], datetime] = {}
        self._upload_ids = (f"upload-{number}" for number in itertools.count(1))

    async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
        await asyncio.sleep(0)
        self._store(key, body)

    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        await asyncio.sleep(0)
        if key in self._objects:
            return self._objects[key].body == body
        self._store(key, body)
        return True

    async def get(self, key: str) -> StoredObject:
        await asyncio.sleep(0)
        return self._find(key)

    async def head(self, key: str) -> ObjectInfo:
        await asyncio.sleep(0)
        return self._find(key).info

    async def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        await asyncio.sleep(0)
        stored = self._find(key)
        if etag is not None and etag != stored.info.etag:
            raise SourceChanged
        for start in range(offset, len(stored.body), READ_CHUNK_BYTES):
            yield stored.body[start : start + READ_CHUNK_BYTES]
            await asyncio.sleep(0)

    async def delete(self, key: str) -> None:
        await asyncio.sleep(0)
        self._drop(key)

    async def delete_many(self, keys: Sequence[str]) -> None:
        await asyncio.sleep(0)
        for key in keys:
            self._drop(key)

    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = LIST_PAGE) -> Listing:
        await asyncio.sleep(0)
        start = max(bisect_left(self._keys, prefix), bisect_right(self._keys, start_after))
        shown = itertools.takewhile(lambda key: key.startswith(prefix), self._keys[start : start + limit + 1])
        infos = [self._objects[key].info for key in shown]
        return Listing(tuple(infos[:limit]), truncated=len(infos) > limit, store_now=self._clock())

    def list_all(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        return list_all(self, prefix)

    async def open_upload(self, key: str, headers: ObjectHeaders = PLAIN) -> str:
        await asyncio.sleep(0)
        upload_id = next(self._upload_ids)
        self._uploads[key, upload_id] = {}
        self._started[key, upload_id] = self._clock()
        return upload_id

    async def put_part(self, key: str, upload_id: str, number: int, body: Body) -> UploadedPart:
        await asyncio.sleep(0)
        self._parts(key, upload_id)[number] = bytes(body)
        return UploadedPart(number, _etag(body), len(body))

    async def copy_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        source: str,
        offset: int,
        size_bytes: int,
        *,
        bucket: str | None = None,
    ) -> UploadedPart:
        await asyncio.sleep(0)
        store = self.neighbours[bucket] if bucket else self
        body = store._find(source).body[offset : offset + size_bytes]
        self._parts(key, upload_id)[number] = body
        return UploadedPart(number, _etag(body), len(body))

    async def is_open(self, key: str, upload_id: str) -> bool:
        await asyncio.sleep(0)
        return (key, upload_id) in self._uploads

    async def list_parts(self, key: str, upload_id: str) -> list[UploadedPart]:
        await asyncio.sleep(0)
        parts = sorted(self._parts(key, upload_id).items())
        return [UploadedPart(number, _etag(body), len(body)) for number, body in parts]

    async def complete_upload(self, key: str, upload_id: str, parts: Sequence[UploadedPart]) -> None:
        await asyncio.sleep(0)
        size_bytes = sum(part.size_bytes for part in parts)
        if (key, upload_id) not in self._uploads:
            stored = self._objects.get(key)
            if stored is None or stored.info.size_bytes != size_bytes:
                raise UploadVanished
            return
        received = self._parts(key, upload_id)
        if any(_etag(received.get(part.number, b"")) != part.etag for part in parts):
            raise StoreError(f"completing the upload {key}: a part is missing or another")
        self._store(key, b"".join(received[part.number] for part in parts))
        del self._uploads[key, upload_id]

    async def abort_upload(self, key: str, upload_id: str) -> None:
        await asyncio.sleep(0)
        self._uploads.pop((key, upload_id), None)

    async def list_uploads(self, prefix: str) -> AsyncIterator[OpenUpload]:
        await asyncio.sleep(0)
        for key, upload_id in sorted(self._uploads):
            if key.startswith(prefix):
                yield OpenUpload(key, upload_id, self._started[key, upload_id])

    def presign_get(self, key: str, how: PresignedGet) -> str:
        return f"memory://bucket/{key}?expires={how.expires_seconds}"

    def _store(self, key: str, body: Body) -> None:
        info = ObjectInfo(key, len(body), self._clock(), _etag(body))
        if key not in self._objects:
            insort(self._keys, key)
        self._objects[key] = StoredObject(bytes(body), info)

    def _drop(self, key: str) -> None:
        if self._objects.pop(key, None) is not None:
            del self._keys[bisect_left(self._keys, key)]

    def _find(self, key: str) -> StoredObject:
        try:
            return self._objects[key]
        except KeyError:
            raise ObjectNotFound(f"no such object: {key}") from None

    def _parts(self, key: str, upload_id: str) -> dict[int, bytes]:
        try:
            return self._uploads[key, upload_id]
        except KeyError:
            raise UploadVanished from None


def _etag(body: Body) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()

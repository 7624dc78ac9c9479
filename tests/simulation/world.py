"""The two buckets of a simulated world, and the store as processes see it: each operation is a `Call`."""

from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from datetime import datetime
from typing import Any

from backend.core.errors import ObjectNotFound, StoreUnavailable
from backend.core.store.interface import (
    LIST_PAGE,
    PLAIN,
    Body,
    Buckets,
    Listing,
    ObjectHeaders,
    ObjectInfo,
    OpenUpload,
    PresignedGet,
    StoredObject,
    UploadedPart,
    list_all,
)
from tests.lab.memory_store import MemoryStore
from tests.simulation.scheduler import Call


class Bucket(MemoryStore):
    """A bucket whose contents can be inspected without a call."""

    def holds(self, key: str) -> bool:
        return key in self._objects

    def body(self, key: str) -> bytes:
        return self._objects[key].body

    def find(self, key: str) -> StoredObject | None:
        return self._objects.get(key)

    def now(self) -> datetime:
        return self._clock()

    def size(self, key: str) -> int | None:
        stored = self._objects.get(key)
        return None if stored is None else stored.info.size_bytes

    def holds_any(self, prefix: str) -> bool:
        return next(self.keys(prefix), None) is not None

    def keys(self, prefix: str = "") -> Iterator[str]:
        for key in self._keys[bisect_left(self._keys, prefix) :]:
            if not key.startswith(prefix):
                return
            yield key

    def open_uploads(self) -> list[str]:
        return [key for key, _ in self._uploads]


class World:
    """Everything that survives the death of all processes."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.raw = Bucket(clock)
        self.video = Bucket(clock)
        self.buckets = Buckets(self.raw, self.video)

    def perform(self, call: Call) -> Any:
        """Execute the call now. Raises the error that the store would return."""
        bucket = self.raw if call.bucket == "raw" else self.video
        if call.verb == "create":
            # As with a real store: 412 says that an object exists, not whose it is.
            return not bucket.holds(call.arguments[0]) and _at_once(bucket.create(*call.arguments))
        if call.verb == "list_uploads":
            return _at_once(_gathered(bucket.list_uploads(*call.arguments)))
        if call.verb == "list_page":
            prefix, start_after, limit = call.arguments
            return _at_once(bucket.list_page(prefix, start_after=start_after, limit=limit))
        return _at_once(getattr(bucket, call.verb)(*call.arguments))


class RemoteStore:
    """A bucket as a process sees it. `create` resolves doubts as `backend.core.store.s3` does."""

    def __init__(self, bucket: str, create_attempts: int = 1) -> None:
        """With few attempts, outcomes often stay in doubt, which the contract allows."""
        self._bucket = bucket
        self._create_attempts = create_attempts

    async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
        await Call(self._bucket, "put", (key, bytes(body)))

    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        for _ in range(self._create_attempts):
            try:
                if await Call(self._bucket, "create", (key, body)):
                    return True
            except StoreUnavailable:
                pass
            try:
                return (await self.get(key)).body == body
            except (ObjectNotFound, StoreUnavailable):
                continue
        raise StoreUnavailable("the outcome stayed in doubt")

    async def get(self, key: str) -> StoredObject:
        stored: StoredObject = await Call(self._bucket, "get", (key,))
        return stored

    async def head(self, key: str) -> ObjectInfo:
        info: ObjectInfo = await Call(self._bucket, "head", (key,))
        return info

    async def delete(self, key: str) -> None:
        await Call(self._bucket, "delete", (key,))

    async def delete_many(self, keys: Sequence[str]) -> None:
        if keys:
            await Call(self._bucket, "delete_many", (tuple(keys),))

    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = LIST_PAGE) -> Listing:
        page: Listing = await Call(self._bucket, "list_page", (prefix, start_after, limit))
        return page

    def list_all(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        return list_all(self, prefix)

    async def open_upload(self, key: str, headers: ObjectHeaders = PLAIN) -> str:
        upload_id: str = await Call(self._bucket, "open_upload", (key,))
        return upload_id

    async def put_part(self, key: str, upload_id: str, number: int, body: Body) -> UploadedPart:
        part: UploadedPart = await Call(self._bucket, "put_part", (key, upload_id, number, bytes(body)))
        return part

    async def list_parts(self, key: str, upload_id: str) -> list[UploadedPart]:
        parts: list[UploadedPart] = await Call(self._bucket, "list_parts", (key, upload_id))
        return parts

    async def complete_upload(self, key: str, upload_id: str, parts: Sequence[UploadedPart]) -> None:
        await Call(self._bucket, "complete_upload", (key, upload_id, parts))

    async def abort_upload(self, key: str, upload_id: str) -> None:
        await Call(self._bucket, "abort_upload", (key, upload_id))

    async def list_uploads(self, prefix: str) -> AsyncIterator[OpenUpload]:
        for upload in await Call(self._bucket, "list_uploads", (prefix,)):
            yield upload

    def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        raise NotImplementedError("the simulation does not stream")

    def presign_get(self, key: str, how: PresignedGet) -> str:
        raise NotImplementedError("the simulation does not presign")


def remote_buckets(store_class: type[RemoteStore], create_attempts: int) -> Buckets:
    """Return the buckets as a process sees them."""
    return Buckets(store_class("raw", create_attempts), store_class("video", create_attempts))


def _at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine without an event loop. It may yield, but must not wait."""
    while True:
        try:
            work.send(None)
        except StopIteration as done:
            return done.value


async def _gathered(uploads: AsyncIterator[OpenUpload]) -> list[OpenUpload]:
    return [upload async for upload in uploads]

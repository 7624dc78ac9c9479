"""A store that survives outages: operations that fail because the store is unavailable are retried.

It is for work that a failure would lose: running uploads, and everything that a worker does. Other API
requests should fail fast, so they use the plain store.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay

from backend.core.backoff import Backoff
from backend.core.errors import StoreUnavailable
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
    Store,
    StoredObject,
    UploadedPart,
    list_all,
)

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 2.0
"""Short, so that heartbeats resume as soon as the store is back, before leases count as silent."""

log = structlog.get_logger(__name__)
T = TypeVar("T")


def with_retries(buckets: Buckets, seconds: float) -> Buckets:
    """Return the same buckets with operations that are retried for `seconds`."""
    imports = {name: RetryingStore(store, seconds) for name, store in buckets.imports.items()}
    return Buckets(RetryingStore(buckets.raw, seconds), RetryingStore(buckets.video, seconds), imports)


class RetryingStore:
    """Retries operations that raise `StoreUnavailable`, with growing pauses, for up to `seconds`.

    Every operation of `Store` may be repeated. `read` is not retried: `read_span` resumes it where it broke.
    """

    def __init__(self, store: Store, seconds: float) -> None:
        self._store = store
        self._seconds = seconds

    async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
        await self._try(key, lambda: self._store.put(key, body, headers))

    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        return await self._try(key, lambda: self._store.create(key, body, headers))

    async def get(self, key: str) -> StoredObject:
        return await self._try(key, lambda: self._store.get(key))

    async def head(self, key: str) -> ObjectInfo:
        return await self._try(key, lambda: self._store.head(key))

    def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        return self._store.read(key, offset, etag=etag)

    async def delete(self, key: str) -> None:
        await self._try(key, lambda: self._store.delete(key))

    async def delete_many(self, keys: Sequence[str]) -> None:
        await self._try("many", lambda: self._store.delete_many(keys))

    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = LIST_PAGE) -> Listing:
        return await self._try(
            prefix, lambda: self._store.list_page(prefix, start_after=start_after, limit=limit)
        )

    def list_all(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        return list_all(self, prefix)

    async def open_upload(self, key: str, headers: ObjectHeaders = PLAIN) -> str:
        return await self._try(key, lambda: self._store.open_upload(key, headers))

    async def put_part(self, key: str, upload_id: str, number: int, body: Body) -> UploadedPart:
        return await self._try(key, lambda: self._store.put_part(key, upload_id, number, body))

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
        return await self._try(
            key,
            lambda: self._store.copy_part(key, upload_id, number, source, offset, size_bytes, bucket=bucket),
        )

    async def is_open(self, key: str, upload_id: str) -> bool:
        return await self._try(key, lambda: self._store.is_open(key, upload_id))

    async def list_parts(self, key: str, upload_id: str) -> list[UploadedPart]:
        return await self._try(key, lambda: self._store.list_parts(key, upload_id))

    async def complete_upload(self, key: str, upload_id: str, parts: Sequence[UploadedPart]) -> None:
        await self._try(key, lambda: self._store.complete_upload(key, upload_id, parts))

    async def abort_upload(self, key: str, upload_id: str) -> None:
        await self._try(key, lambda: self._store.abort_upload(key, upload_id))

    async def list_uploads(self, prefix: str) -> AsyncIterator[OpenUpload]:
        async def listed() -> list[OpenUpload]:
            return [upload async for upload in self._store.list_uploads(prefix)]

        for upload in await self._try(prefix, listed):
            yield upload

    def presign_get(self, key: str, how: PresignedGet) -> str:
        return self._store.presign_get(key, how)

    async def _try(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        async def attempt() -> T:  # tenacity awaits only functions that it recognises as coroutine functions
            return await call()

        backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(StoreUnavailable),
            stop=stop_after_delay(self._seconds),
            wait=lambda state: backoff.pause_seconds(state.attempt_number),
            before_sleep=lambda state: _log_pause(what, state),
            reraise=True,
        )
        return await attempts(attempt)


def _log_pause(what: str, state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("store_away", what=what, error=str(error), attempt=state.attempt_number)

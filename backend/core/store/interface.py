"""The store interface: one bucket, the dozen verbs that vodbucket needs, and what each obliges.

Implementations: `backend.core.store.s3` (any S3-compatible store) and, for tests, `tests.lab.memory_store`.
Both pass tests/contract. Every verb may raise `StoreUnavailable` and `StoreDenied` besides what it names.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from backend.core.errors import ObjectNotFound

MIN_PART_BYTES = 5 * 1024 * 1024
"""The smallest part that S3 takes, but for the last one."""
MAX_PARTS = 10_000
LIST_PAGE = 1000

Body = bytes | bytearray | memoryview
"""What is sent is sent from where it lies: it must not change before the verb returns."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What HEAD tells. `etag` is as the store gives it, unquoted; it may be empty."""

    key: str
    size_bytes: int
    modified: datetime
    etag: str = ""


@dataclass(frozen=True, slots=True)
class StoredObject:
    body: bytes
    info: ObjectInfo


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a LIST, in ascending key order (UTF-8 bytes)."""

    objects: tuple[ObjectInfo, ...]
    truncated: bool
    store_now: datetime
    """The store's own clock when it answered (the Date header); whole seconds on most stores."""


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """A multipart upload that was neither completed nor aborted."""

    key: str
    upload_id: str
    initiated: datetime


@dataclass(frozen=True, slots=True)
class UploadedPart:
    number: int
    etag: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ObjectHeaders:
    """Headers that are stored with an object and come back with every GET."""

    content_type: str = "application/octet-stream"
    cache_control: str | None = None
    content_disposition: str | None = None


PLAIN = ObjectHeaders()


@dataclass(frozen=True, slots=True)
class PresignedGet:
    """How a presigned GET is to answer; None leaves the stored header as it is."""

    expires_seconds: int
    content_disposition: str | None = None
    signed_at: datetime | None = None
    """The instant to sign for, by default now. A rounded instant makes equal requests give equal URLs."""


class Store(Protocol):
    """One bucket. Reads see every finished write (strong consistency), LIST included."""

    async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
        """Write an object, replacing any. Atomic: readers see the old or the new body, whole."""
        ...

    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        """Write an object only if the key is free (`If-None-Match: *`); say whether this body is there now.

        Of any number of concurrent calls with different bodies exactly one answers True. The body must
        hold a fresh nonce: after a doubtful answer the object is read back and compared, so that a lost
        answer is never taken for a rival's success, nor a conflict (409) for "taken".

        Raises:
            StoreUnavailable: it stayed doubtful. The object may or may not be there.
        """
        ...

    async def get(self, key: str) -> StoredObject:
        """Read a small object whole. Raises: ObjectNotFound."""
        ...

    async def head(self, key: str) -> ObjectInfo:
        """Raises: ObjectNotFound."""
        ...

    def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        """Stream the object's bytes from `offset` to its end, in chunks of the store's choosing.

        One attempt: a broken connection raises after any number of chunks, it never ends the iteration
        early. With `etag`, refuse an object that was replaced.

        Raises:
            ObjectNotFound: there is no such object.
            SourceChanged: its ETag is not `etag`.
        """
        ...

    async def delete(self, key: str) -> None:
        """Delete an object; a missing one is no error."""
        ...

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Delete any number of objects, in no order. Raises: StoreError: some could not be deleted."""
        ...

    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = LIST_PAGE) -> Listing:
        """List up to `limit` (1 to 1000) objects under `prefix` whose keys sort after `start_after`."""
        ...

    def list_all(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """List every object under `prefix`, page by page."""
        ...

    async def open_upload(self, key: str, headers: ObjectHeaders = PLAIN) -> str:
        """Begin a multipart upload and return its upload id."""
        ...

    async def put_part(self, key: str, upload_id: str, number: int, body: Body) -> UploadedPart:
        """Send part `number` (1 to 10,000), replacing a part of that number. Raises: UploadVanished."""
        ...

    async def copy_part(
        self, key: str, upload_id: str, number: int, source: str, offset: int, size_bytes: int
    ) -> UploadedPart:
        """Make part `number` from `size_bytes` of the object `source`, within the store.

        Raises:
            UploadVanished
            ObjectNotFound: there is no such source.
        """
        ...

    async def is_open(self, key: str, upload_id: str) -> bool:
        """Say whether the multipart upload is there: neither completed nor dropped."""
        ...

    async def list_parts(self, key: str, upload_id: str) -> list[UploadedPart]:
        """Return the parts that an open upload has, ascending. Raises: UploadVanished."""
        ...

    async def complete_upload(self, key: str, upload_id: str, parts: Sequence[UploadedPart]) -> None:
        """Turn the parts, ascending, into the object.

        A doubtful answer (lost, 5xx, 200 with an error body, `NoSuchUpload` on a repetition) is settled by
        HEAD: success means that the object is there with the parts' total size.

        Raises:
            UploadVanished: the upload is gone and so is the object.
        """
        ...

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop a multipart upload and its parts; one that is already gone is no error."""
        ...

    def list_uploads(self, prefix: str) -> AsyncIterator[OpenUpload]:
        """List the open multipart uploads under `prefix`."""
        ...

    def presign_get(self, key: str, how: PresignedGet) -> str:
        """Return a URL that reads this object without credentials until it expires; no I/O.

        It names the endpoint that browsers use (`S3_PUBLIC_ENDPOINT_URL`), if there is one.
        """
        ...


async def exists(store: Store, key: str) -> bool:
    try:
        await store.head(key)
    except ObjectNotFound:
        return False
    return True


async def list_all(store: Store, prefix: str) -> AsyncIterator[ObjectInfo]:
    """List every object under `prefix`, page by page: `Store.list_all` for those that have pages."""
    start_after, truncated = "", True
    while truncated:
        page = await store.list_page(prefix, start_after=start_after)
        for info in page.objects:
            start_after = info.key
            yield info
        truncated = page.truncated


@dataclass(frozen=True, slots=True)
class Buckets:
    """The two buckets of the product."""

    raw: Store
    video: Store

"""The store interface: the operations on a bucket that vodbucket needs, and what each must guarantee.

Implementations: `backend.core.store.s3` (any S3-compatible store), `backend.core.store.file_store` (a folder)
and, for tests, `tests.lab.memory_store`.
All pass tests/contract. Besides the errors it names, every operation may raise `StoreUnavailable` and
`StoreDenied`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from backend.core.errors import ObjectNotFound

MIN_PART_BYTES = 5 * 1024 * 1024
"""The smallest part that S3 accepts, except for the last one."""
LIST_PAGE = 1000
CLOCK_TOLERANCE_SECONDS = 30
"""How far this machine's clock may differ from the store's before requests are signed by the store's."""

Body = bytes | bytearray | memoryview
"""Bodies are sent without being copied, so they must not change before the operation returns."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What HEAD returns. `etag` is the store's, without quotes; it may be empty."""

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
    """The time of the response by the store's clock (the Date header), on most stores in whole seconds."""


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """A multipart upload that is neither completed nor aborted."""

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
    """Headers that are stored with an object and returned by every GET."""

    content_type: str = "application/octet-stream"
    cache_control: str | None = None
    content_disposition: str | None = None


PLAIN = ObjectHeaders()


@dataclass(frozen=True, slots=True)
class PresignedGet:
    """How a presigned GET responds. None leaves the stored header as it is."""

    expires_seconds: int
    content_disposition: str | None = None
    signed_at: datetime | None = None
    """The time to sign for, by default now. With a rounded time, equal requests get equal URLs."""


class Store(Protocol):
    """One bucket. Reads and LISTs see every finished write (strong consistency)."""

    async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
        """Write or replace an object. Atomic: readers see either the whole old body or the whole new one."""
        ...

    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        """Write an object only if the key is free (`If-None-Match: *`). Returns whether this body was stored.

        Of any number of concurrent calls with different bodies, exactly one returns True. The body must
        contain a fresh nonce: if the outcome is in doubt, the object is read back and compared. A lost
        response is therefore never taken for a rival's success, and a conflict (409) never for "taken".

        Raises:
            StoreUnavailable: the outcome stayed in doubt. The object may or may not exist.
            StoreRejected: the store does not support create-only writes.
        """
        ...

    async def get(self, key: str) -> StoredObject:
        """Read a whole small object. Raises: ObjectNotFound."""
        ...

    async def head(self, key: str) -> ObjectInfo:
        """Raises: ObjectNotFound."""
        ...

    def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        """Stream the object's bytes from `offset` to its end, in chunks of any size.

        This is a single attempt: a broken connection raises after any number of chunks, and never ends the
        iteration early.

        Raises:
            ObjectNotFound
            SourceChanged: `etag` was given, and the object has another ETag.
        """
        ...

    async def delete(self, key: str) -> None:
        """Delete an object. It is not an error if there is none."""
        ...

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Delete any number of objects, in any order. Raises: StoreError: some could not be deleted."""
        ...

    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = LIST_PAGE) -> Listing:
        """List up to `limit` (1 to 1000) objects below `prefix` whose keys sort after `start_after`."""
        ...

    def list_all(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """List all objects below `prefix`, page by page."""
        ...

    async def open_upload(self, key: str, headers: ObjectHeaders = PLAIN) -> str:
        """Start a multipart upload and return its upload id."""
        ...

    async def put_part(self, key: str, upload_id: str, number: int, body: Body) -> UploadedPart:
        """Upload part `number` (1 to 10,000), replacing an earlier one. Raises: UploadVanished."""
        ...

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
        """Copy `size_bytes` of the object `source` into part `number`, within the store.

        The source is in this bucket, or in the one with the name `bucket`.

        Raises:
            UploadVanished
            ObjectNotFound: there is no such source.
            StoreRejected: the store cannot copy ranges. Read the range and send it instead.
        """
        ...

    async def is_open(self, key: str, upload_id: str) -> bool:
        """Return whether the multipart upload exists: it is neither completed nor aborted."""
        ...

    async def list_parts(self, key: str, upload_id: str) -> list[UploadedPart]:
        """Return the parts of an open upload in ascending order.

        Raises:
            UploadVanished: the upload does not exist, or the store does not tell a part from its replacement.
        """
        ...

    async def complete_upload(self, key: str, upload_id: str, parts: Sequence[UploadedPart]) -> None:
        """Assemble the parts, in ascending order, into the object.

        If the outcome is in doubt (lost response, 5xx, 200 with an error body, `NoSuchUpload` on a retry), a
        HEAD decides: the upload succeeded if the object exists and has the parts' total size.

        Raises:
            UploadVanished: neither the upload nor the object exists.
        """
        ...

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Abort a multipart upload and delete its parts. It is not an error if there is none."""
        ...

    def list_uploads(self, prefix: str) -> AsyncIterator[OpenUpload]:
        """List the open multipart uploads below `prefix`."""
        ...

    def presign_get(self, key: str, how: PresignedGet) -> str:
        """Return a URL that reads this object without credentials until it expires. No I/O.

        It uses the endpoint for browsers (`S3_PUBLIC_ENDPOINT_URL`), if there is one.
        """
        ...


async def exists(store: Store, key: str) -> bool:
    try:
        await store.head(key)
    except ObjectNotFound:
        return False
    return True


async def list_all(store: Store, prefix: str) -> AsyncIterator[ObjectInfo]:
    """List all objects below `prefix`. Stores implement `Store.list_all` with it."""
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
    imports: Mapping[str, Store] = field(default_factory=dict)
    """Those of other programs on the same store, by name. They are only read."""

"""Store a body of any size that arrives as one stream: a source, or the output of an encoder.

Owns size limits and the clean-up after an interrupted upload. The caller decides where the bytes come from:
a raw body, a form, an encoder. Uploads that span several requests are in `backend.core.uploads.resumable`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

from backend.core.concurrency import run_shielded
from backend.core.errors import EmptyUpload, IncompleteUpload, StoreError, UploadTooLarge
from backend.core.store.interface import PLAIN, ObjectHeaders, Store
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.part_writer import BYTES_IN_FLIGHT, PLANNED_PARTS, PartWriter, UploadPlan

log = structlog.get_logger(__name__)

CLEAN_UP_SECONDS = 10.0
"""The uploader is waiting for the answer, so the sweeper removes whatever takes longer than this."""


async def store_source(
    store: Store,
    key: str,
    body: AsyncIterator[bytes],
    *,
    declared_bytes: int | None,
    max_bytes: int,
    buffers: PartBuffers | None = None,
    tail_key: str | None = None,
) -> int:
    """Store `body` under `key` and return its size in bytes. On any error nothing is left behind.

    A body smaller than one part is one PUT. `buffers` is the memory shared with other uploads; when it is
    short, a slow client's bytes are stored under `tail_key` meanwhile.

    Raises:
        EmptyUpload: the body had no bytes.
        IncompleteUpload: fewer or more bytes than `declared_bytes`.
        UploadTooLarge: more than `max_bytes`, declared or received.
    """
    if declared_bytes is not None and declared_bytes > max_bytes:
        raise UploadTooLarge
    plan = UploadPlan.for_size(max_bytes if declared_bytes is None else declared_bytes)
    name_tail = None if tail_key is None else lambda: tail_key
    writer = PartWriter(store, key, plan, buffers or PartBuffers(BYTES_IN_FLIGHT), tail_key=name_tail)
    try:
        async for chunk in _checked(body, declared_bytes, max_bytes):
            await writer.write(chunk)
        return await writer.complete()
    except BaseException:  # including the cancellation when a client disconnects
        await run_shielded(_abort(store, key, writer))
        raise
    finally:
        if tail_key is not None and writer.stored_a_tail:
            await run_shielded(clean_up(store.delete(tail_key), "tail_not_removed", key=tail_key))


async def store_first_part_last(
    store: Store,
    key: str,
    body: AsyncIterator[bytes],
    *,
    finish_first: Callable[[bytes], bytes],
    max_bytes: int,
    first_bytes: int = 0,
    buffers: PartBuffers | None = None,
    headers: ObjectHeaders = PLAIN,
) -> int:
    """Store a `body` whose first bytes are only known at its end, and return its size in bytes.

    The first part is held back in memory. When the body has ended, `finish_first` turns it into the bytes to
    send: of the same size, or of any size if the body has only this part. It has at least
    `first_bytes`, or all. Otherwise this works like `store_source`, with the same errors.
    """
    plan = UploadPlan.for_size(max(max_bytes, first_bytes * PLANNED_PARTS))
    first = bytearray()
    chunks = _checked(body, None, max_bytes)
    rest = b""
    async for chunk in chunks:
        missing = plan.part_size_bytes - len(first)
        first += chunk[:missing]
        rest = chunk[missing:]
        if len(first) == plan.part_size_bytes:
            break
    else:
        whole = finish_first(bytes(first))
        await store.put(key, whole, headers)
        return len(whole)
    writer = PartWriter(store, key, plan, buffers or PartBuffers(BYTES_IN_FLIGHT), headers=headers)
    try:
        await writer.skip_first_part()
        await writer.write(rest)
        async for chunk in chunks:
            await writer.write(chunk)
        await writer.put_first_part(finish_first(bytes(first)))
        return await writer.complete()
    except BaseException:  # the worker cancels it when the encoder fails
        await run_shielded(_abort(store, key, writer))
        raise


async def _checked(
    body: AsyncIterator[bytes], declared_bytes: int | None, max_bytes: int
) -> AsyncIterator[bytes]:
    """Yield the body as long as its size is within the limits. Raises: as `store_source`."""
    received = 0
    async for chunk in body:
        received += len(chunk)
        if received > max_bytes:
            raise UploadTooLarge
        yield chunk
    if declared_bytes is not None and received != declared_bytes:
        raise IncompleteUpload
    if received == 0:
        raise EmptyUpload


async def _abort(store: Store, key: str, writer: PartWriter) -> None:
    """Stop sending, then abort the upload: a part that arrives later would keep it alive."""
    await writer.stop()
    if writer.upload_id is not None:
        abort = store.abort_upload(key, writer.upload_id)
        await clean_up(abort, "upload_abort_failed", key=key, upload_id=writer.upload_id)


async def clean_up(work: Awaitable[None], failed: str, **fields: str) -> None:
    """Await `work` for a limited time; log the event `failed` if it does not succeed."""
    try:
        async with asyncio.timeout(CLEAN_UP_SECONDS):
            await work
    except (StoreError, TimeoutError) as error:
        log.warning(failed, **fields, error=str(error))

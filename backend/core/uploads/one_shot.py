"""Store a body of any size that comes in one go: a source, or a file that is being made.

Owns size limits and the clean-up after an interrupted upload. The caller decides where the bytes come from:
a raw body, a form, an encoder. Uploads that span several requests are in `backend.core.uploads.resumable`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

import structlog

from backend.core.concurrency import run_shielded
from backend.core.errors import EmptyUpload, IncompleteUpload, StoreError, UploadTooLarge
from backend.core.store.interface import PLAIN, ObjectHeaders, Store
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.part_writer import BYTES_IN_FLIGHT, PartWriter, UploadPlan

log = structlog.get_logger(__name__)

ABORT_SECONDS = 10.0


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
    """Store `body` under `key` and return its size in bytes; on any error nothing is left behind.

    A body below one part is one PUT. `buffers` is the memory that it shares with other uploads; when that is
    short, what a slow client has sent is put aside under `tail_key`.

    Raises:
        EmptyUpload: there was no byte.
        IncompleteUpload: fewer or more bytes than `declared_bytes`.
        UploadTooLarge: more than `max_bytes`, declared or received.
    """
    if declared_bytes is not None and declared_bytes > max_bytes:
        raise UploadTooLarge
    plan = UploadPlan.for_size(max_bytes if declared_bytes is None else declared_bytes)
    name_tail = None if tail_key is None else lambda: tail_key
    writer = PartWriter(store, key, plan, buffers or _own(), tail_key=name_tail)
    try:
        async for chunk in checked(body, declared_bytes, max_bytes):
            await writer.write(chunk)
        return await writer.complete()
    except BaseException:  # a client that has gone cancels this, too
        await run_shielded(_abort(store, key, writer))
        raise
    finally:
        if tail_key is not None and writer.has_put_aside:
            await run_shielded(_remove(store, tail_key))


async def store_first_part_last(
    store: Store,
    key: str,
    body: AsyncIterator[bytes],
    *,
    finish_first: Callable[[bytes], bytes],
    max_bytes: int,
    buffers: PartBuffers | None = None,
    headers: ObjectHeaders = PLAIN,
) -> int:
    """Store a `body` whose beginning is known only at its end, and return its size in bytes.

    The first part is held back in memory. When the body has ended, what `finish_first` makes of it is sent:
    of the same size, or of any size when it is all of the body. Otherwise as `store_source`, and with its
    errors.
    """
    plan = UploadPlan.for_size(max_bytes)
    first = bytearray()
    chunks = checked(body, None, max_bytes)
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
    writer = PartWriter(store, key, plan, buffers or _own(), headers=headers)
    try:
        await writer.begin_behind_first()
        await writer.write(rest)
        async for chunk in chunks:
            await writer.write(chunk)
        await writer.put_first_part(finish_first(bytes(first)))
        return await writer.complete()
    except BaseException:  # the worker cancels it when the encoder fails
        await run_shielded(_abort(store, key, writer))
        raise


async def checked(
    body: AsyncIterator[bytes], declared_bytes: int | None, max_bytes: int
) -> AsyncIterator[bytes]:
    """Pass the body on while it is what was declared. Raises: as `store_source`."""
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


def _own() -> PartBuffers:
    return PartBuffers(BYTES_IN_FLIGHT)


async def _abort(store: Store, key: str, writer: PartWriter) -> None:
    """Stop what is being sent, then drop the upload; a part that lands later would keep it alive."""
    await writer.stop()
    if writer.upload_id is None:
        return
    try:
        async with asyncio.timeout(ABORT_SECONDS):
            await store.abort_upload(key, writer.upload_id)
    except (StoreError, TimeoutError) as error:
        log.warning("upload_abort_failed", key=key, upload_id=writer.upload_id, error=str(error))


async def _remove(store: Store, key: str) -> None:
    try:
        async with asyncio.timeout(ABORT_SECONDS):
            await store.delete(key)
    except (StoreError, TimeoutError) as error:
        log.warning("tail_not_removed", key=key, error=str(error))

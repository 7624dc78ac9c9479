"""Stream a body of any size into a bucket with bounded memory: a source, or a file that is being made.

Owns part sizes, parts in flight, limits and the clean-up after a broken upload. Where the bytes come from
(a raw body, a form, an encoder) is the caller's business.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import structlog

from backend.core.cancellation import finish_even_if_cancelled
from backend.core.errors import EmptyUpload, IncompleteUpload, StoreError, UploadTooLarge
from backend.core.store import PLAIN, ObjectHeaders, Store, UploadedPart

log = structlog.get_logger(__name__)

MIB = 1024 * 1024
SMALLEST_PART_BYTES = 8 * MIB
PLANNED_PARTS = 9000
"""Parts that a size is planned for: below the 10,000 that S3 allows."""
PARTS_IN_FLIGHT = 4
ABORT_SECONDS = 10.0
BYTES_IN_FLIGHT = 40 * MIB
"""Very large uploads have large parts; fewer of them are sent at a time, but never fewer than one."""


@dataclass(frozen=True, slots=True)
class UploadPlan:
    """How an upload is cut: every part has `part_size_bytes` but the last (R2 wants them equal)."""

    part_size_bytes: int
    parts_in_flight: int

    @classmethod
    def for_size(cls, size_bytes: int) -> "UploadPlan":
        """Plan for up to `size_bytes`, at least 8 MiB a part, in whole MiB."""
        needed = -(-size_bytes // PLANNED_PARTS)
        part_size = max(SMALLEST_PART_BYTES, -(-needed // MIB) * MIB)
        return cls(part_size, max(1, min(PARTS_IN_FLIGHT, BYTES_IN_FLIGHT // part_size)))


async def store_source(
    store: Store,
    key: str,
    body: AsyncIterator[bytes],
    *,
    declared_bytes: int | None,
    max_bytes: int,
    headers: ObjectHeaders = PLAIN,
) -> int:
    """Store `body` under `key` and return its size in bytes; on any error nothing is left behind.

    A body below one part is one PUT. Memory is bounded by the parts in flight and the one being filled,
    each of the plan's part size: reading waits for a free place.

    Raises:
        EmptyUpload: there was no byte.
        IncompleteUpload: fewer or more bytes than `declared_bytes`.
        UploadTooLarge: more than `max_bytes`, declared or received.
    """
    if declared_bytes is not None and declared_bytes > max_bytes:
        raise UploadTooLarge
    plan = UploadPlan.for_size(max_bytes if declared_bytes is None else declared_bytes)
    parts = _cut(_checked(body, declared_bytes, max_bytes), plan.part_size_bytes)
    first = await anext(parts, b"")
    if len(first) < plan.part_size_bytes:
        await store.put(key, first, headers)
        return len(first)
    return await _send_parts(store, key, _in_order(first, parts), plan, headers)


async def store_first_part_last(
    store: Store,
    key: str,
    body: AsyncIterator[bytes],
    *,
    finish_first: Callable[[bytes], bytes],
    max_bytes: int,
    headers: ObjectHeaders = PLAIN,
) -> int:
    """Store a `body` whose beginning is known only at its end, and return its size in bytes.

    The first part is held back in memory. When the body has ended, what `finish_first` makes of it is sent:
    of the same size, or of any size when it is all of the body. Otherwise as `store_source`, and with its
    errors.
    """
    plan = UploadPlan.for_size(max_bytes)
    parts = _cut(_checked(body, None, max_bytes), plan.part_size_bytes)
    first = await anext(parts)
    if len(first) < plan.part_size_bytes:
        whole = finish_first(first)
        await store.put(key, whole, headers)
        return len(whole)
    return await _send_parts(store, key, _first_one_last(first, parts, finish_first), plan, headers)


async def _checked(
    body: AsyncIterator[bytes], declared_bytes: int | None, max_bytes: int
) -> AsyncIterator[bytes]:
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


async def _cut(chunks: AsyncIterator[bytes], part_size: int) -> AsyncIterator[bytes]:
    """Gather chunks into parts of exactly `part_size`, the last one shorter; each byte is copied once."""
    held: list[bytes | memoryview] = []
    missing = part_size
    async for chunk in chunks:
        rest: bytes | memoryview = chunk
        while len(rest) >= missing:
            view = memoryview(rest)
            held.append(view[:missing])
            rest = view[missing:]
            part = b"".join(held)
            held, missing = [], part_size
            yield part
            del part
        if rest:
            held.append(rest)
            missing -= len(rest)
    if held:
        yield b"".join(held)


async def _in_order(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    yield 1, first
    del first
    number = 2
    async for part in rest:
        yield number, part
        number += 1


async def _first_one_last(
    first: bytes, rest: AsyncIterator[bytes], finish: Callable[[bytes], bytes]
) -> AsyncIterator[tuple[int, bytes]]:
    number = 2
    async for part in rest:
        yield number, part
        number += 1
    yield 1, finish(first)


async def _send_parts(
    store: Store,
    key: str,
    numbered: AsyncIterator[tuple[int, bytes]],
    plan: UploadPlan,
    headers: ObjectHeaders,
) -> int:
    upload_id = await store.open_upload(key, headers)
    sending: list[asyncio.Task[UploadedPart]] = []
    free = asyncio.Semaphore(plan.parts_in_flight)
    failed = asyncio.Event()

    def finished(task: asyncio.Task[UploadedPart]) -> None:
        free.release()
        if task.cancelled() or task.exception() is not None:
            failed.set()

    async def send(number: int, part: bytes) -> None:
        await free.acquire()
        if failed.is_set():
            return
        task = asyncio.create_task(store.put_part(key, upload_id, number, part))
        task.add_done_callback(finished)
        sending.append(task)

    try:
        async for number, part in numbered:
            await send(number, part)
            del part
            if failed.is_set():
                break
        parts = sorted(await asyncio.gather(*sending), key=lambda part: part.number)
        await store.complete_upload(key, upload_id, parts)
    except BaseException:  # a client that has gone cancels this: it leaves no open upload either
        await finish_even_if_cancelled(_abort(store, key, upload_id, sending))
        raise
    return sum(part.size_bytes for part in parts)


async def _abort(store: Store, key: str, upload_id: str, sending: list[asyncio.Task[UploadedPart]]) -> None:
    """Stop what is being sent, then drop the upload; a part that lands later would keep it alive."""
    for task in sending:
        task.cancel()
    await asyncio.gather(*sending, return_exceptions=True)
    try:
        async with asyncio.timeout(ABORT_SECONDS):
            await store.abort_upload(key, upload_id)
    except (StoreError, TimeoutError) as error:
        log.warning("upload_abort_failed", key=key, upload_id=upload_id, error=str(error))

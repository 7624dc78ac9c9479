"""Putting an upload together from partial ones, within the store: only what lies across a seam comes here.

The final upload's id follows from its pieces, so that whoever repeats the request gets the same upload.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from backend.core import keys
from backend.core.concurrency import gather_or_cancel, run_shielded
from backend.core.errors import (
    BadRequest,
    EmptyUpload,
    ObjectNotFound,
    StoreError,
    UploadNotFound,
    UploadTooLarge,
)
from backend.core.ids import new_id, unix_ms_of
from backend.core.records import AS_THE_WORKER_CHOOSES, TranscodeOptions
from backend.core.store.interface import Store, UploadedPart, exists
from backend.core.store.prefixes import abort_uploads_below
from backend.core.store.ranged_read import read_span
from backend.core.uploads.buffers import MIB, PartBuffers
from backend.core.uploads.ingest import Description
from backend.core.uploads.part_writer import UploadPlan
from backend.core.uploads.records import Role, UploadInfo
from backend.core.uploads.resumable.desk import UploadDesk, UploadState, state_of
from backend.core.uploads.sniff import SNIFF_BYTES, MediaCheck

log = structlog.get_logger(__name__)

COPY_PART_BYTES = 32 * MIB
"""Copies within the store cost a request each, whatever their size."""
COPIES_IN_FLIGHT = 8


class PartialUnfinished(BadRequest):
    """An upload can only be put together from partial uploads that are complete."""

    code = "partial_unfinished"


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a stored object."""

    key: str
    offset: int
    size_bytes: int


async def concatenate(
    desk: UploadDesk,
    partial_ids: Sequence[str],
    said: Description,
    *,
    header: str,
    metadata: str | None = None,
    options: TranscodeOptions = AS_THE_WORKER_CHOOSES,
) -> UploadState:
    """Make one upload, and a video, of complete partial uploads, in their order.

    Raises:
        PartialUnfinished, EmptyUpload, UploadTooLarge, UnsupportedType
        UploadNotFound: a partial upload is not there.
        UploadLocked: another request is about to do the same.
    """
    final_id = id_of(partial_ids)
    standing = await _finished(desk, final_id)
    if standing is None:
        standing = await _put_together(
            desk, final_id, partial_ids, said, header=header, metadata=metadata, options=options
        )
    # Their records stay: whoever asks about a piece again, as an answer was lost, finds it complete.
    try:
        await desk.buckets.raw.delete_many([keys.upload(partial_id) for partial_id in partial_ids])
    except StoreError as error:
        log.warning("partial_uploads_left", upload=final_id, error=error.message)
    return standing


async def _put_together(
    desk: UploadDesk,
    final_id: str,
    partial_ids: Sequence[str],
    said: Description,
    *,
    header: str,
    metadata: str | None,
    options: TranscodeOptions,
) -> UploadState:
    entered = False
    lock = await desk.locks.take(final_id)
    try:
        if (done := await _finished(desk, final_id)) is not None:
            await lock.discard()
            return done
        pieces = await gather_or_cancel(_piece(desk, partial_id) for partial_id in partial_ids)
        await _check_there(desk, pieces)
        length = sum(piece.length or 0 for piece in pieces)
        if length == 0:
            raise EmptyUpload
        if length > desk.rules.max_bytes:
            raise UploadTooLarge
        info = desk.announced(
            Role.FINAL,
            length,
            said,
            upload_id=final_id,
            concat=header,
            metadata=metadata,
            options=options,
        )
        spans = [Span(keys.upload(piece.id), 0, piece.length) for piece in pieces if piece.length]
        await _sniff(desk.retrying.raw, spans[0])
        entered = True
        await desk.retrying.raw.put(keys.upload_info(final_id), info.to_json())
        async with lock.beating():
            if not await exists(desk.retrying.video, keys.video_record(final_id)):
                await compose(desk.retrying.raw, keys.upload(final_id), spans, desk.buffers)
            await desk.finish(info, lock.progress, length)
        return await desk.conclude(info, length)
    except BaseException:  # the next request may begin at once
        await run_shielded(lock.release(lock.progress) if entered else lock.discard())
        raise
    finally:
        lock.deregister()


def id_of(partial_ids: Sequence[str]) -> str:
    """Return the final upload's id."""
    digest = hashlib.sha256(" ".join(partial_ids).encode()).digest()
    return new_id(unix_ms_of(partial_ids[0]), int.from_bytes(digest, "big") >> (len(digest) * 8 - 74))


async def _finished(desk: UploadDesk, final_id: str) -> UploadState | None:
    try:
        info = await desk.info(final_id)
    except UploadNotFound:
        return None
    return state_of(info) if info.finished else None


async def _piece(desk: UploadDesk, partial_id: str) -> UploadInfo:
    info = await desk.info(partial_id)
    if info.role is not Role.PARTIAL:
        raise PartialUnfinished(f"{partial_id} is no partial upload.")
    if not info.finished:
        raise PartialUnfinished
    return info


async def _check_there(desk: UploadDesk, pieces: Sequence[UploadInfo]) -> None:
    """Raises: UploadNotFound: pieces went into a video that was deleted since; they have to be sent anew."""
    there = await gather_or_cancel(exists(desk.buckets.raw, keys.upload(piece.id)) for piece in pieces)
    gone = [piece for piece, is_there in zip(pieces, there, strict=True) if piece.length and not is_there]
    for piece in gone:
        await desk.remove(piece)
    if gone:
        raise UploadNotFound


async def _sniff(store: Store, first: Span) -> None:
    check = MediaCheck()
    async for chunk in read_span(store, first.key, 0, min(SNIFF_BYTES, first.size_bytes)):
        check.feed(chunk)
    check.end()


async def compose(store: Store, key: str, spans: Sequence[Span], buffers: PartBuffers) -> None:
    """Make an object of the spans, one behind the other.

    All parts but the last are of one size, as R2 wants it; those that lie across a seam are read and sent.
    """
    length = sum(span.size_bytes for span in spans)
    part_size = max(COPY_PART_BYTES, UploadPlan.for_size(length).part_size_bytes)
    await abort_uploads_below(store, key)
    upload_id = await store.open_upload(key)
    places = asyncio.Semaphore(COPIES_IN_FLIGHT)

    async def make(number: int, sources: list[Span]) -> UploadedPart:
        async with places:
            if len(sources) == 1:
                one = sources[0]
                return await store.copy_part(key, upload_id, number, one.key, one.offset, one.size_bytes)
            buffer = await buffers.lend(part_size)
            try:
                for source in sources:
                    end = source.offset + source.size_bytes
                    async for chunk in read_span(store, source.key, source.offset, end):
                        buffer.fill(memoryview(chunk))
                return await store.put_part(key, upload_id, number, buffer.content)
            finally:
                buffer.release()

    try:
        parts = await gather_or_cancel(
            make(n, sources) for n, sources in enumerate(cut(spans, part_size), start=1)
        )
        await store.complete_upload(key, upload_id, parts)
    except BaseException as error:  # a server that stops cancels this, too
        await run_shielded(store.abort_upload(key, upload_id))
        if isinstance(error, ObjectNotFound):
            raise UploadNotFound from None  # a piece was dropped meanwhile
        raise


def cut(spans: Sequence[Span], part_size: int) -> list[list[Span]]:
    """Return what each part of `part_size` bytes consists of; the last one may be shorter."""
    parts: list[list[Span]] = []
    missing = 0
    for span in spans:
        offset = span.offset
        end = span.offset + span.size_bytes
        while offset < end:
            if missing == 0:
                parts.append([])
                missing = part_size
            taken = min(missing, end - offset)
            parts[-1].append(Span(span.key, offset, taken))
            offset += taken
            missing -= taken
    return parts

"""Concatenation of partial uploads within the store: only parts that span two pieces pass through here.

The final upload's id is derived from its pieces, so that a repeated request gets the same upload.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from backend.core.concurrency import gather_or_cancel, run_shielded
from backend.core.errors import BadRequest, ObjectNotFound, StoreRejected, UploadNotFound
from backend.core.ids import new_id, unix_ms_of
from backend.core.store.interface import PLAIN, ObjectHeaders, Store, UploadedPart
from backend.core.store.prefixes import abort_uploads_below
from backend.core.store.ranged_read import read_span
from backend.core.uploads.buffers import MIB, PartBuffers
from backend.core.uploads.part_writer import UploadPlan
from backend.core.uploads.sniff import SNIFF_BYTES, MediaCheck

COPY_PART_BYTES = 32 * MIB
"""A copy within the store costs one request, whatever its size."""
COPIES_IN_FLIGHT = 8


class PartialUnfinished(BadRequest):
    """Only complete partial uploads can be concatenated."""

    code = "partial_unfinished"


@dataclass(frozen=True, slots=True)
class Span:
    """A range of bytes of a stored object."""

    key: str
    offset: int
    size_bytes: int


def id_of(partial_ids: Sequence[str]) -> str:
    """Return the final upload's id."""
    digest = hashlib.sha256(" ".join(partial_ids).encode()).digest()
    return new_id(unix_ms_of(partial_ids[0]), int.from_bytes(digest, "big") >> (len(digest) * 8 - 74))


async def check_media_type(store: Store, first: Span) -> None:
    """Raises: UnsupportedType: the first bytes are surely not those of a video or audio file."""
    check = MediaCheck()
    async for chunk in read_span(store, first.key, 0, min(SNIFF_BYTES, first.size_bytes)):
        check.feed(chunk)
    check.end()


async def compose(
    store: Store, key: str, spans: Sequence[Span], buffers: PartBuffers, headers: ObjectHeaders = PLAIN
) -> None:
    """Make one object of the spans, in their order.

    All parts but the last have the same size, as R2 requires. Parts within one span are copied by the store,
    if it can; the others are read and sent.

    Raises:
        UploadNotFound: a piece was removed meanwhile.
    """
    length = sum(span.size_bytes for span in spans)
    part_size = max(COPY_PART_BYTES, UploadPlan.for_size(length).part_size_bytes)
    await abort_uploads_below(store, key)
    upload_id = await store.open_upload(key, headers)
    slots = asyncio.Semaphore(COPIES_IN_FLIGHT)

    async def make(number: int, sources: list[Span]) -> UploadedPart:
        async with slots:
            if len(sources) == 1:
                one = sources[0]
                with suppress(StoreRejected):  # not every store copies ranges
                    return await store.copy_part(key, upload_id, number, one.key, one.offset, one.size_bytes)
            buffer = await buffers.acquire(part_size)
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
    except BaseException as error:  # including the cancellation when a server stops
        await run_shielded(store.abort_upload(key, upload_id))
        if isinstance(error, ObjectNotFound):
            raise UploadNotFound from None
        raise


def cut(spans: Sequence[Span], part_size: int) -> list[list[Span]]:
    """Return what each part of `part_size` bytes consists of. The last part may be shorter."""
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

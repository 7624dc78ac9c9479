"""Concatenation: how parts are cut, what happens to the pieces, and what is refused."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.core import keys
from backend.core.errors import (
    EmptyUpload,
    StoreUnavailable,
    UnsupportedType,
    UploadNotFound,
    UploadTooLarge,
)
from backend.core.library.videos import delete_video
from backend.core.store.interface import Buckets
from backend.core.uploads import part_writer as parts
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.quota import UploadRules
from backend.core.uploads.resumable import concatenation
from backend.core.uploads.resumable.concatenation import PartialUnfinished, Span, compose, cut, id_of
from backend.core.uploads.resumable.service import ResumableUploads
from tests.core.uploads.upload_lab import FILM, HEAD, chunks
from tests.lab.memory_store import MemoryStore

DATA = HEAD + bytes(range(150))
HEADER = "final;"


@pytest.fixture
def buckets() -> Buckets:
    return Buckets(MemoryStore(), MemoryStore())


@pytest.fixture
def uploads(buckets: Buckets) -> ResumableUploads:
    rules = UploadRules(1000, timedelta(days=1))
    return ResumableUploads(buckets, buckets, PartBuffers(10**8), rules)


async def _piece(uploads: ResumableUploads, data: bytes) -> str:
    info = await uploads.create(len(data), FILM, partial=True)
    await uploads.append(info.id, 0, chunks(data))
    return info.id


sizes = st.lists(st.integers(1, 100), min_size=1, max_size=8)


@given(sizes=sizes, part_size=st.integers(1, 120))
def test_all_parts_but_the_last_have_one_size_and_no_byte_is_lost(sizes: list[int], part_size: int) -> None:
    spans = [Span(str(index), 0, size) for index, size in enumerate(sizes)]
    found = cut(spans, part_size)
    lengths = [sum(piece.size_bytes for piece in part) for part in found]
    assert set(lengths[:-1]) <= {part_size}
    assert 0 < lengths[-1] <= part_size
    expected = [(str(index), byte) for index, size in enumerate(sizes) for byte in range(size)]
    pieces = [piece for part in found for piece in part]
    assert [(one.key, one.offset + n) for one in pieces for n in range(one.size_bytes)] == expected


@given(sizes=sizes, copy_bytes=st.integers(1, 150))
@settings(deadline=None)
async def test_the_composed_object_is_the_pieces_in_order(sizes: list[int], copy_bytes: int) -> None:
    store = MemoryStore()
    bodies = [bytes((index * 31 + byte) % 256 for byte in range(size)) for index, size in enumerate(sizes)]
    for index, body in enumerate(bodies):
        await store.put(f"piece/{index}", body)
    spans = [Span(f"piece/{index}", 0, size) for index, size in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(concatenation, "COPY_PART_BYTES", copy_bytes)
        patch.setattr(parts, "SMALLEST_PART_BYTES", 1)
        patch.setattr(parts, "MIB", 1)
        await compose(store, "whole", spans, PartBuffers(1000))
    assert (await store.get("whole")).body == b"".join(bodies)
    assert [one async for one in store.list_uploads("")] == []


async def test_a_failed_composition_leaves_no_parts() -> None:
    store = MemoryStore()
    await store.put("piece", b"x")
    with pytest.raises(UploadNotFound):
        await compose(store, "whole", [Span("piece", 0, 1), Span("gone", 0, 5)], PartBuffers(10**9))
    assert [one async for one in store.list_uploads("")] == []


async def test_reading_across_a_seam_resumes_where_the_connection_broke() -> None:
    class Breaking(MemoryStore):
        async def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
            async for chunk in super().read(key, offset, etag=etag):
                yield chunk[:40]
                raise StoreUnavailable

    store = Breaking()
    await store.put("one", DATA[:70])
    await store.put("two", DATA[70:])
    await compose(store, "whole", [Span("one", 0, 70), Span("two", 0, len(DATA) - 70)], PartBuffers(10**9))
    assert (await store.get("whole")).body == DATA


async def test_the_same_pieces_in_another_order_make_another_video(uploads: ResumableUploads) -> None:
    one, other = await _piece(uploads, DATA), await _piece(uploads, DATA)
    assert id_of([one, other]) == id_of([one, other])
    assert len({id_of([one, other]), id_of([other, one]), id_of([one]), id_of([one, one])}) == 4


async def test_empty_pieces_add_nothing(uploads: ResumableUploads, buckets: Buckets) -> None:
    pieces = [await _piece(uploads, data) for data in (b"", DATA[:80], b"", DATA[80:])]
    done = await uploads.concatenate(pieces, FILM, header=HEADER)
    assert (await buckets.raw.get(keys.upload(done.info.id))).body == DATA
    with pytest.raises(EmptyUpload):
        await uploads.concatenate(pieces[:1], FILM, header=HEADER)


async def test_the_pieces_bytes_are_deleted_and_their_records_stay(
    uploads: ResumableUploads, buckets: Buckets
) -> None:
    pieces = [await _piece(uploads, DATA[:80]), await _piece(uploads, DATA[80:])]
    done = await uploads.concatenate(pieces, FILM, header=HEADER)
    assert (await uploads.concatenate(pieces, FILM, header=HEADER)).video_id == done.video_id
    assert [(await uploads.head(piece)).offset for piece in pieces] == [80, len(DATA) - 80]
    assert {info.key async for info in buckets.raw.list_all(keys.UPLOADS)} == {
        keys.upload(done.info.id),
        *(keys.upload_done(one) for one in (*pieces, done.info.id)),
    }


async def test_pieces_of_a_deleted_video_do_not_restore_it(
    uploads: ResumableUploads, buckets: Buckets
) -> None:
    pieces = [await _piece(uploads, DATA[:80]), await _piece(uploads, DATA[80:])]
    done = await uploads.concatenate(pieces, FILM, header=HEADER)
    await delete_video(buckets, done.info.id)
    with pytest.raises(UploadNotFound):
        await uploads.concatenate(pieces, FILM, header=HEADER)
    for piece in pieces:  # so that their client sends them again
        with pytest.raises(UploadNotFound):
            await uploads.head(piece)
    assert [info.key async for info in buckets.raw.list_all("")] == []


async def test_pieces_whose_sum_is_too_large_are_refused(uploads: ResumableUploads, buckets: Buckets) -> None:
    pieces = [await _piece(uploads, HEAD + bytes(600)), await _piece(uploads, bytes(600))]
    before = [info.key async for info in buckets.raw.list_all("")]
    with pytest.raises(UploadTooLarge):
        await uploads.concatenate(pieces, FILM, header=HEADER)
    assert [info.key async for info in buckets.raw.list_all("")] == before


async def test_a_document_in_pieces_is_refused_on_concatenation(
    uploads: ResumableUploads,
) -> None:
    pieces = [await _piece(uploads, b"%PDF-1.7\n"), await _piece(uploads, DATA)]
    with pytest.raises(UnsupportedType):
        await uploads.concatenate(pieces, FILM, header=HEADER)


async def test_a_refused_request_succeeds_once_the_pieces_are_complete(
    uploads: ResumableUploads, buckets: Buckets
) -> None:
    first = await _piece(uploads, DATA[:80])
    second = (await uploads.create(len(DATA) - 80, FILM, partial=True)).id
    with pytest.raises(PartialUnfinished):
        await uploads.concatenate([first, second], FILM, header=HEADER)
    await uploads.append(second, 0, chunks(DATA[80:]))
    done = await uploads.concatenate([first, second], FILM, header=HEADER)
    assert (await buckets.raw.get(keys.upload(done.info.id))).body == DATA

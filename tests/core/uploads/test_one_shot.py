"""Streaming a source into the bucket: part sizes, limits, and clean-up."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.errors import EmptyUpload, IncompleteUpload, StoreUnavailable, UploadTooLarge
from backend.core.store.interface import MIN_PART_BYTES, UploadedPart
from backend.core.uploads.buffers import MIB
from backend.core.uploads.one_shot import store_source
from backend.core.uploads.part_writer import BYTES_IN_FLIGHT, UploadPlan
from tests.lab.memory_store import MemoryStore

PART = UploadPlan.for_size(1).part_size_bytes


@given(st.integers(0, 5 * 1024**4))
def test_any_size_up_to_5_tebibytes_fits_into_the_allowed_parts(size: int) -> None:
    plan = UploadPlan.for_size(size)
    assert -(-size // plan.part_size_bytes) < 10_000  # the most that S3 accepts
    assert MIN_PART_BYTES <= plan.part_size_bytes <= 5 * 1024**3
    assert plan.part_size_bytes % MIB == 0
    assert plan.parts_in_flight == 1 or plan.parts_in_flight * plan.part_size_bytes <= BYTES_IN_FLIGHT


async def _pieces(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class Recording(MemoryStore):
    """Records the sizes of parts and how many were in flight at once."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.puts = self.in_flight = self.most_in_flight = 0

    async def put_part(self, key: str, upload_id: str, number: int, body: bytes) -> UploadedPart:
        self.sizes[number] = len(body)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(0.001)
            return await super().put_part(key, upload_id, number, body)
        finally:
            self.in_flight -= 1


@pytest.mark.parametrize("size", [1, PART - 1, PART, PART + 1, 5 * PART + 5])
@pytest.mark.parametrize("piece", [PART // 3 + 1, 3 * PART])
async def test_the_stored_object_is_the_body(size: int, piece: int) -> None:
    store, body = Recording(), bytes(range(251)) * (size // 251 + 1)
    body = body[:size]
    pieces = [body[at : at + piece] for at in range(0, size, piece)]
    stored = await store_source(store, "k", _pieces(pieces), declared_bytes=size, max_bytes=10**9)
    assert stored == size
    assert (await store.get("k")).body == body
    sizes = [store.sizes[number] for number in sorted(store.sizes)]
    assert all(part == PART for part in sizes[:-1])
    assert sum(sizes) == (size if size >= PART else 0)
    assert store.most_in_flight <= 4


async def test_several_parts_are_in_flight_at_once() -> None:
    store = Recording()
    await store_source(store, "k", _pieces([b"x" * PART] * 6), declared_bytes=None, max_bytes=10**9)
    assert store.most_in_flight == 4


async def _left(store: MemoryStore) -> list[str]:
    return [info.key async for info in store.list_all("")] + [
        upload.upload_id async for upload in store.list_uploads("")
    ]


@pytest.mark.parametrize(
    ("pieces", "declared", "limit", "error"),
    [
        ([], None, 10, EmptyUpload),
        ([], 0, 10, EmptyUpload),
        ([b"12345"], 6, 10, IncompleteUpload),
        ([b"12345"], 4, 10, IncompleteUpload),
        ([b"12345"], 11, 10, UploadTooLarge),
        ([b"123456", b"12345"], None, 10, UploadTooLarge),
        ([b"x" * PART] * 3, 4 * PART, 10**9, IncompleteUpload),
        ([b"x" * PART] * 3, None, 3 * PART - 1, UploadTooLarge),
    ],
)
async def test_a_refused_upload_leaves_nothing_behind(
    pieces: Sequence[bytes], declared: int | None, limit: int, error: type[Exception]
) -> None:
    store = MemoryStore()
    with pytest.raises(error):
        await store_source(store, "k", _pieces(pieces), declared_bytes=declared, max_bytes=limit)
    assert await _left(store) == []


async def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    async def body() -> AsyncIterator[bytes]:
        pytest.fail("it was read")
        yield b""

    with pytest.raises(UploadTooLarge):
        await store_source(MemoryStore(), "k", body(), declared_bytes=11, max_bytes=10)


async def test_a_failed_part_ends_the_upload_and_stops_reading() -> None:
    class Failing(MemoryStore):
        async def put_part(self, key: str, upload_id: str, number: int, body: bytes) -> UploadedPart:
            if number == 2:
                raise StoreUnavailable
            return await super().put_part(key, upload_id, number, body)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * PART

    store = Failing()
    with pytest.raises(StoreUnavailable):
        await store_source(store, "k", endless(), declared_bytes=None, max_bytes=10**12)
    assert await _left(store) == []


async def test_a_cancelled_upload_is_aborted_even_when_cancelled_again() -> None:
    store, waiting = MemoryStore(), asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        yield b"x" * PART
        yield b"x" * PART
        waiting.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(store_source(store, "k", stalling(), declared_bytes=None, max_bytes=10**9))
    await waiting.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _left(store) == []

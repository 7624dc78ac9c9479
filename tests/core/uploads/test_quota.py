"""Limits on all uploads together."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from backend.core import keys
from backend.core.errors import IncompleteUpload, StorageFull, TooManyUploads, UploadExpired
from backend.core.store.interface import Buckets, ObjectInfo
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.ingest import Description, ingest
from backend.core.uploads.quota import Quota, UploadRules
from backend.core.uploads.resumable.service import ResumableUploads
from tests.core.uploads.upload_lab import FILM, HEAD, chunks
from tests.lab.memory_store import MemoryStore

DATA = HEAD + bytes(88)


@pytest.fixture
def buckets() -> Buckets:
    return Buckets(MemoryStore(), MemoryStore())


def _uploads(buckets: Buckets, quota: Quota, lifetime: timedelta = timedelta(days=1)) -> ResumableUploads:
    rules = UploadRules(10_000, lifetime, quota)
    return ResumableUploads(buckets, buckets, PartBuffers(10**8), rules)


async def _one_shot(buckets: Buckets, quota: Quota, data: bytes, *, declares: bool = True) -> None:
    await ingest(
        buckets,
        chunks(data),
        Description,
        declared_bytes=len(data) if declares else None,
        max_bytes=10_000,
        quota=quota,
    )


async def test_the_number_of_open_uploads_is_limited(buckets: Buckets) -> None:
    uploads = _uploads(buckets, Quota(max_open_uploads=2))
    first, second = await uploads.create(100, FILM), await uploads.create(None, FILM)
    for partial in (False, True):
        with pytest.raises(TooManyUploads):
            await uploads.create(100, FILM, partial=partial)
    await uploads.terminate(second.id)
    await uploads.create(100, FILM)
    with pytest.raises(TooManyUploads):
        await uploads.create(100, FILM)
    await uploads.append(first.id, 0, chunks(DATA))
    await uploads.create(100, FILM)


async def test_an_open_upload_can_continue_at_the_limit(buckets: Buckets) -> None:
    uploads = _uploads(buckets, Quota(max_open_uploads=1, max_raw_bytes=100))
    upload = await uploads.create(100, FILM)
    with pytest.raises(IncompleteUpload):
        await uploads.append(upload.id, 0, chunks(DATA[:40], breaks=True))
    assert (await uploads.append(upload.id, 40, chunks(DATA[40:]))).video_id == upload.id


async def test_announced_uploads_count_with_their_length(buckets: Buckets) -> None:
    uploads = _uploads(buckets, Quota(max_raw_bytes=250))
    first = await uploads.create(100, FILM)
    await uploads.create(100, FILM)
    with pytest.raises(StorageFull):
        await uploads.create(51, FILM)
    last = await uploads.create(50, FILM)
    await uploads.terminate(last.id)
    await uploads.append(first.id, 0, chunks(DATA))
    with pytest.raises(StorageFull):
        await uploads.create(51, FILM)
    await buckets.raw.delete(keys.upload(first.id))
    await uploads.create(150, FILM)


async def test_one_shot_uploads_obey_the_same_limits(buckets: Buckets) -> None:
    quota = Quota(max_open_uploads=1, max_raw_bytes=250)
    await _one_shot(buckets, quota, DATA)
    upload = await _uploads(buckets, quota).create(100, FILM)
    with pytest.raises(TooManyUploads):
        await _one_shot(buckets, quota, DATA[:10])
    await _uploads(buckets, quota).terminate(upload.id)
    with pytest.raises(StorageFull):
        await _one_shot(buckets, quota, DATA + DATA)
    await _one_shot(buckets, quota, DATA, declares=False)


async def test_a_deferred_length_counts_once_it_is_announced(buckets: Buckets) -> None:
    uploads = _uploads(buckets, Quota(max_raw_bytes=150))
    first, second = await uploads.create(None, FILM), await uploads.create(None, FILM)
    with pytest.raises(StorageFull):
        await uploads.append(first.id, 0, chunks(DATA), length=151)
    await uploads.append(first.id, 0, chunks(DATA[:40]), length=100)
    with pytest.raises(StorageFull):
        await uploads.create(51, FILM)
    with pytest.raises(StorageFull):
        await uploads.append(second.id, 0, chunks(DATA[:51]), length=51)
    assert (await uploads.append(first.id, 40, chunks(DATA[40:]))).video_id == first.id


async def test_what_is_stored_of_a_deferred_length_counts(buckets: Buckets) -> None:
    uploads = _uploads(buckets, Quota(max_raw_bytes=150))
    first, second = await uploads.create(None, FILM), await uploads.create(None, FILM)
    await uploads.append(first.id, 0, chunks(DATA))
    with pytest.raises(StorageFull):
        await uploads.append(second.id, 0, chunks(DATA))
    await uploads.terminate(second.id)
    with pytest.raises(StorageFull):
        await uploads.create(51, FILM)
    await uploads.append(first.id, 100, chunks(DATA[:50]))
    assert (await uploads.append(first.id, 150, chunks(b""), length=150)).video_id == first.id


async def test_pieces_listed_several_times_count_each_time(buckets: Buckets) -> None:
    uploads = _uploads(buckets, Quota(max_raw_bytes=350))
    piece = await uploads.create(100, FILM, partial=True)
    await uploads.append(piece.id, 0, chunks(DATA))
    with pytest.raises(StorageFull):
        await uploads.concatenate([piece.id] * 4, FILM, header="final;")
    joined = await uploads.concatenate([piece.id] * 3, FILM, header="final;")
    assert (await buckets.raw.head(keys.upload(joined.info.id))).size_bytes == 300


async def test_pieces_can_be_joined_when_they_fill_the_quota(buckets: Buckets) -> None:
    uploads = _uploads(buckets, Quota(max_raw_bytes=200))
    pieces = [await uploads.create(100, FILM, partial=True) for _ in range(2)]
    for piece in pieces:
        await uploads.append(piece.id, 0, chunks(DATA))
    joined = await uploads.concatenate([piece.id for piece in pieces], FILM, header="final;")
    assert (await buckets.raw.head(keys.upload(joined.info.id))).size_bytes == 200


async def test_bodies_of_unknown_length_cannot_exceed_the_quota(buckets: Buckets) -> None:
    quota = Quota(max_raw_bytes=150)
    await _one_shot(buckets, quota, DATA, declares=False)
    with pytest.raises(StorageFull):
        await _one_shot(buckets, quota, DATA, declares=False)
    uploads = _uploads(buckets, quota)
    deferred = await uploads.create(None, FILM)
    await uploads.append(deferred.id, 0, chunks(DATA[:50]))
    with pytest.raises(StorageFull):
        await uploads.append(deferred.id, 50, chunks(DATA[50:51]))


async def test_without_limits_the_bucket_is_not_listed() -> None:
    class Unreadable(MemoryStore):
        def list_all(self, prefix: str) -> AsyncIterator[ObjectInfo]:
            raise AssertionError(prefix)

    await Quota().admit(Unreadable(), 10**12)


async def test_expired_uploads_count_until_they_are_swept(buckets: Buckets) -> None:
    uploads = _uploads(buckets, Quota(max_open_uploads=1), lifetime=timedelta(0))
    upload = await uploads.create(100, FILM)
    with pytest.raises(UploadExpired):
        await uploads.head(upload.id)
    with pytest.raises(TooManyUploads):
        await uploads.create(100, FILM)
    await uploads.terminate(upload.id)
    await uploads.create(100, FILM)

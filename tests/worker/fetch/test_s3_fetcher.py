"""Importing objects of the same store: copied within the store, whole, and never two versions mixed."""

from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import count

import pytest

from backend.core import keys
from backend.core.errors import ObjectNotFound, StoreDenied, StoreRejected
from backend.core.library.videos import list_videos
from backend.core.records import FetchKind, Stage
from backend.core.store.interface import Buckets, UploadedPart
from backend.core.uploads.imports import importable
from backend.core.uploads.ingest import Description
from backend.core.uploads.part_writer import UploadPlan
from backend.core.uploads.remote import add_remote
from tests.core.jobs.queue_lab import Fault, WorkerCrashed, crash
from tests.lab.memory_store import MemoryStore
from tests.worker.fetch.import_lab import FILE, PART_BYTES, ImportLab

ADDRESS = "s3://films/a film.mp4"


class Bucket(MemoryStore):
    """Counts what is read from it, and may refuse to copy."""

    copies = True
    copied_bytes = 0

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
        if not self.copies:
            raise StoreRejected
        self.copied_bytes += size_bytes
        return await super().copy_part(key, upload_id, number, source, offset, size_bytes, bucket=bucket)


class Films(MemoryStore):
    """A bucket that changes, or denies access, once somebody reads from it."""

    then: object = None

    async def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        async for chunk in super().read(key, offset, etag=etag):
            then, self.then = self.then, None
            if isinstance(then, bytes):
                await self.put(key, then)
            elif isinstance(then, Exception):
                raise then
            yield chunk


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UploadPlan, "for_size", lambda _: UploadPlan.of_parts(PART_BYTES))


@pytest.fixture
async def lab() -> ImportLab:
    return await _lab()


async def _lab(file: bytes = FILE) -> ImportLab:
    lab = ImportLab()
    lab.raw = Bucket(lab.clock)
    lab.films = Films(lab.clock)
    lab.raw.neighbours["films"] = lab.films
    lab.buckets = Buckets(lab.raw, lab.video, {"films": lab.films})
    await lab.films.put("a film.mp4", file)
    return lab


async def _add(lab: ImportLab) -> str:
    address, _ = await importable(lab.buckets, ADDRESS, 10**9)
    video = await add_remote(
        lab.buckets, FetchKind.S3, address, Description(), max_bytes=10**9, now=lab.clock
    )
    return video.id


async def _code(lab: ImportLab) -> str:
    (item,) = (await list_videos(lab.buckets, limit=10)).items
    return item.status.error.code if item.status.error else ""


@pytest.mark.parametrize("size", [1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 20 * PART_BYTES])
async def test_an_object_is_copied_within_the_store(size: int) -> None:
    file = (FILE * 10)[:size]
    lab = await _lab(file)
    video_id = await _add(lab)
    await lab.fetch(Fault(0, crash, after_the_call=False))

    assert (await lab.raw.get(keys.upload(video_id))).body == file
    assert isinstance(lab.raw, Bucket)
    assert lab.raw.copied_bytes == size // PART_BYTES * PART_BYTES
    assert (await lab.films.get("a film.mp4")).body == file


async def test_a_store_that_cannot_copy_sends_it_through_the_worker(lab: ImportLab) -> None:
    assert isinstance(lab.raw, Bucket)
    lab.raw.copies = False
    video_id = await _add(lab)
    await lab.fetch(Fault(0, crash, after_the_call=False))
    assert (await lab.raw.get(keys.upload(video_id))).body == FILE


async def test_a_successor_copies_only_what_is_missing() -> None:
    done = 0
    for at_call in count(1):
        lab = await _lab(FILE * 8)  # 20 parts; 8 are copied at a time
        video_id = await _add(lab)
        with suppress(WorkerCrashed):
            await lab.fetch(Fault(at_call, crash, after_the_call=True))
        async for upload in lab.raw.list_uploads(""):
            done = len(await lab.raw.list_parts(upload.key, upload.upload_id))
        if done > 8:
            break
    assert isinstance(lab.raw, Bucket)
    lab.raw.copied_bytes = 0
    lab.clock.advance(61)
    await lab.fetch(Fault(0, crash, after_the_call=False))

    assert done < 20
    assert lab.raw.copied_bytes == (20 - done) * PART_BYTES
    assert (await lab.raw.get(keys.upload(video_id))).body == FILE * 8


async def test_an_object_that_changes_meanwhile_is_copied_again(lab: ImportLab) -> None:
    video_id = await _add(lab)
    assert isinstance(lab.films, Films)
    lab.films.then = FILE[::-1]
    await lab.work()
    assert not [key for key in await lab.raw_keys() if key.startswith(keys.UPLOADS)]
    lab.clock.advance(60)
    await lab.fetch(Fault(0, crash, after_the_call=False))
    assert (await lab.raw.get(keys.upload(video_id))).body == FILE[::-1]


@pytest.mark.parametrize(
    ("then", "code"), [(ObjectNotFound(), "fetch_not_found"), (StoreDenied(), "fetch_denied")]
)
async def test_what_cannot_be_read_any_more_fails_at_once(lab: ImportLab, then: Exception, code: str) -> None:
    await _add(lab)
    assert isinstance(lab.films, Films)
    lab.films.then = then
    await lab.work()

    assert await lab.titles(Stage.FAILED) == ["a film"]
    assert await _code(lab) == code


async def test_a_worker_that_may_not_import_leaves_the_job_to_others(lab: ImportLab) -> None:
    await _add(lab)
    allowed, lab.buckets = lab.buckets, Buckets(lab.raw, lab.video)
    assert await lab.work() == 1
    lab.buckets = allowed
    lab.clock.advance(3600)
    await lab.work("two")
    assert await lab.titles() == ["a film"]

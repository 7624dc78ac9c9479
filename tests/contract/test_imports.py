"""Importing, and the inbox, on each real store: copies between buckets, odd keys, multipart files."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import cast

import pytest

from backend.core import keys
from backend.core.ids import new_id
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.snapshot import Needs
from backend.core.library.videos import list_videos
from backend.core.records import FetchKind, FetchState, Job
from backend.core.store.interface import Store
from backend.core.store.s3 import S3Buckets, S3Store, ensure_buckets, open_buckets
from backend.core.uploads.imports import importable
from backend.core.uploads.inbox import Inbox, withdraw
from backend.core.uploads.ingest import Description
from backend.core.uploads.part_writer import SMALLEST_PART_BYTES
from backend.core.uploads.remote import add_remote
from tests.lab.buckets import store_settings
from tests.lab.server import StoreServer
from worker.fetch.s3_fetcher import S3Fetcher
from worker.fetch.source import SourceFetching

FILE = bytes(range(256)) * (SMALLEST_PART_BYTES // 256) * 2 + b"the rest"
NAMES = ("a b+c%20&d=1?#.mp4", "2026/08/ä 🎥.mp4", "'\"<>\\|*~.mp4")
SETTLED = -1
"""Stores date objects in fractions of seconds, but answers in whole ones."""
FILMS = f"films-{uuid.uuid4().hex}"


@pytest.fixture
async def served(server: StoreServer) -> AsyncIterator[S3Buckets]:
    settings = store_settings(server).model_copy(update={"import_buckets": (FILMS,)})
    async with open_buckets(settings) as buckets:
        await ensure_buckets(buckets)
        await cast(S3Store, buckets.imports[FILMS]).ensure_exists()
        yield buckets


async def _upload(store: Store, key: str) -> None:
    """Put the file in parts, as tools do."""
    upload_id = await store.open_upload(key)
    half = SMALLEST_PART_BYTES
    parts = [
        await store.put_part(key, upload_id, 1, FILE[:half]),
        await store.put_part(key, upload_id, 2, FILE[half:]),
    ]
    await store.complete_upload(key, upload_id, parts)


async def _fetch_all(buckets: S3Buckets) -> list[Job]:
    """Fetch the sources of all jobs, as a worker does."""
    queue, jobs = JobQueue(buckets, owner="one", lease_seconds=60), list[Job]()
    fetching = SourceFetching(buckets, {FetchKind.S3: S3Fetcher(buckets)}, 60)

    async def note(_: FetchState | None) -> None:
        return

    while (claim := await queue.claim(await queue.poll(), needs=Needs.FETCHING)) is not None:
        await fetching.run(claim.lease, note, lambda *_: None)
        jobs.append(claim.lease.job)
    return jobs


async def test_an_object_of_another_bucket_is_copied(served: S3Buckets) -> None:
    await _upload(served.imports[FILMS], NAMES[0])
    address, size_bytes = await importable(served, f"s3://{FILMS}/{NAMES[0]}", 10**9)
    await add_remote(served, FetchKind.S3, address, Description(), max_bytes=10**9)
    (job,) = await _fetch_all(served)

    assert size_bytes == len(FILE)
    assert (await served.raw.get(job.source)).body == FILE


async def test_files_in_the_inbox_become_videos(served: S3Buckets) -> None:
    inbox = Inbox(served, 10**9, settle_seconds=SETTLED)
    for name in NAMES:
        await served.raw.put(keys.INBOX + name, FILE[-100:])
    await _upload(served.raw, f"{keys.INBOX}large.mp4")
    await served.raw.put(f"{keys.INBOX}large.mp4.json", b'{"title": "Large"}')
    await served.raw.put(f"{keys.INBOX}folder/", b"")
    looks = [await inbox.look(), await Inbox(served, 10**9, settle_seconds=SETTLED).look()]
    jobs = await _fetch_all(served)
    looks.append(await inbox.look())

    assert [(look.added, look.removed) for look in looks] == [(4, 0), (0, 0), (0, 4)]
    items = (await list_videos(served, limit=10)).items
    assert "Large" in {item.video.title for item in items}
    sizes = sorted([len((await served.raw.get(job.source)).body) for job in jobs])
    assert sizes == [100, 100, 100, len(FILE)]
    left = [info.key async for info in served.raw.list_all(keys.INBOX)]
    assert left == [f"{keys.INBOX}folder/"]


async def test_the_file_of_a_deleted_video_leaves_the_inbox(served: S3Buckets) -> None:
    key = keys.INBOX + NAMES[1]
    await _upload(served.raw, key)
    await Inbox(served, 10**9, settle_seconds=SETTLED).look()
    (item,) = (await list_videos(served, limit=10)).items
    await withdraw(served, new_id())
    assert [info.key async for info in served.raw.list_all(keys.INBOX)] == [key]

    await withdraw(served, item.video.id)
    assert [info.key async for info in served.raw.list_all(keys.INBOX)] == []
    assert item.video.created_at <= datetime.now(UTC)

"""When status.json is written, and what viewers of a look find in it."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

from backend.core import keys
from backend.core.errors import ObjectNotFound
from backend.core.ids import new_id
from backend.core.jobs.leases import Claim
from backend.core.records import CaptionTrack, Chapter, Job, Lease, Rendition, Stage, Status
from tests.core.jobs.queue_lab import Clock
from tests.lab.memory_store import MemoryStore
from worker.run.status import StatusWriter
from worker.transcode.progress import Look, Progress

VIDEO = new_id()
JOB = Job(
    id=VIDEO, request=VIDEO, source=keys.upload(VIDEO), source_size_bytes=1, created_at=datetime.now(UTC)
)
CLAIM = Claim(generation=0, lease=Lease(job=JOB, owner="worker", run="r0-0-aa", attempt=1))
PROBED = Progress(
    stage=Stage.TRANSCODING,
    stage_progress=0.0,
    playable=False,
    duration_seconds=60,
    qualities=("1080p",),
    renditions=(),
    encoder="software",
    chapters=(Chapter(start_seconds=0, end_seconds=60, title="One"),),
)
LOOK = Look(
    "l0-aa",
    ("360p",),
    (Rendition(name="h264-360p", kind="video", codec="h264"),),
    (CaptionTrack(path="captions/1-en.vtt", language="en"),),
)


async def test_what_makes_a_video_playable_is_written_at_once() -> None:
    """Anything else waits for its turn, here an hour."""
    store = MemoryStore()
    status = StatusWriter(store, CLAIM, write_every_seconds=3600)
    writing = asyncio.create_task(status.keep_writing())

    async def written(stage_progress: float) -> Status:
        while True:
            await asyncio.sleep(0)
            try:
                found = Status.from_json((await store.get(keys.status(VIDEO))).body)
            except ObjectNotFound:
                continue
            if found.stage_progress == stage_progress:
                return found

    status.report(PROBED)
    probed = await written(0.0)
    status.report(replace(PROBED, stage_progress=0.25, playable=True, look=LOOK))
    playable = await written(0.25)
    writing.cancel()

    assert not probed.playable
    assert probed.qualities == ("1080p",)
    assert [one.title for one in probed.chapters] == ["One"]
    assert playable.playable
    assert playable.outputs == keys.run_prefix(VIDEO, "l0-aa")
    assert playable.qualities == LOOK.qualities
    assert playable.renditions == LOOK.renditions
    assert playable.captions == LOOK.captions


async def test_the_rest_of_a_fetch_is_estimated_from_the_pace_of_this_attempt() -> None:
    store, clock = MemoryStore(), Clock()
    status = StatusWriter(store, CLAIM, now=clock)

    async def remaining(after_seconds: float, received: int, total: int | None) -> float | None:
        clock.advance(after_seconds)
        status.report_fetch(received, total)
        await status.write()
        written = Status.from_json((await store.get(keys.status(VIDEO))).body)
        return written.estimated_remaining_seconds

    assert await remaining(0, 500, 1000) is None  # of an earlier attempt
    assert await remaining(10, 600, 1000) == 40
    assert await remaining(10, 900, None) is None
    assert await remaining(10, 0, 100) is None  # starts over
    assert await remaining(10, 50, 100) == 10
    assert await remaining(10, 200, 100) == 0  # more than announced


async def test_progress_is_1_only_once_the_result_is_published() -> None:
    store = MemoryStore()
    status = StatusWriter(store, CLAIM)

    status.report(replace(PROBED, stage=Stage.FINALIZING, stage_progress=1.0))
    await status.write()

    written = Status.from_json((await store.get(keys.status(VIDEO))).body)
    assert 0.95 < written.progress < 1

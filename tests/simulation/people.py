"""Users who upload, delete and retry, and the sweeper. Each function is the whole life of a process."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from backend.core import keys
from backend.core.errors import StoreError, VodbucketError
from backend.core.ids import new_id
from backend.core.jobs.retry import retry_video
from backend.core.library.videos import delete_video
from backend.core.records import FetchKind, FetchSpec, Job, Status, Video, rank_of
from backend.core.sweep.sweeper import SweepRules, sweep
from backend.core.unit_records import Wanted
from backend.core.uploads.one_shot import CLEAN_UP_SECONDS
from tests.simulation.scheduler import Process, Race, Rest, time_out
from tests.simulation.stage import LARGEST_SKEW_SECONDS, Stage
from tests.simulation.units import LOOK_SEGMENTS

POLL_SECONDS = 5.0
SOURCE = b"source"


async def upload(stage: Stage, process: Process) -> None:
    """Upload a video as `backend.core.uploads.ingest` does. It is acknowledged when this returns."""
    rng, raw = stage.rng, stage.buckets.raw
    created_at = process.now()
    video_id = new_id(int(created_at.timestamp() * 1000), rng.getrandbits(74))
    source = keys.upload(video_id)
    stage.ledger.begun.append(video_id)
    fetch = None
    if rng.random() < stage.plan.fetch_rate:
        fetch = FetchSpec(kind=FetchKind.HTTP, address="http://example.org/film.mp4", max_bytes=100)
        stage.ledger.fetched.add(video_id)
    size_bytes = None if fetch else len(SOURCE)
    try:
        if fetch is not None:
            pass
        elif rng.random() < 0.25:
            upload_id = await raw.open_upload(source)
            part = await raw.put_part(source, upload_id, 1, SOURCE)
            await raw.complete_upload(source, upload_id, [part])
        else:
            await raw.put(source, SOURCE)
        original = stage.plan.original
        video = Video(
            id=video_id,
            title="A title",
            filename="film.mp4",
            size_bytes=size_bytes,
            fetched_from=fetch.shown if fetch else None,
            original=original,
            created_at=created_at,
        )
        job = Job(
            id=video_id,
            request=keys.request_name(video_id),
            source=source,
            source_size_bytes=size_bytes,
            fetch=fetch,
            rank=rank_of(size_bytes),
            original=original,
            created_at=created_at,
        )
        await stage.add_video(stage.buckets, video, job)
    except StoreError:
        stage.ledger.give_up(video_id)
        with suppress(StoreError, TimeoutError):
            await Race((delete_video(stage.buckets, video_id), time_out(CLEAN_UP_SECONDS)))
        return
    stage.ledger.acknowledge(video_id)


async def delete(stage: Stage, process: Process) -> None:
    """Delete a video of the library, and finish deletions that others started.

    A deletion that crashed before its first step has not happened, so it must be repeated.
    """

    def unfinished() -> list[str]:
        return sorted(stage.ledger.doomed - stage.deleted)

    video_id = await _one_of(stage, lambda: unfinished() or sorted(stage.ledger.acknowledged))
    while video_id is not None:
        stage.ledger.doom(video_id)
        try:
            await delete_video(stage.buckets, video_id)
        except StoreError:
            await Rest(POLL_SECONDS)
            continue
        stage.deleted.add(video_id)
        video_id = stage.rng.choice(unfinished()) if unfinished() else None


async def cancel(stage: Stage, process: Process) -> None:
    """Cancel jobs that wait or run."""
    while (video_id := await _one_of(stage, lambda: sorted(stage.ledger.acknowledged))) is not None:
        await Rest(stage.rng.choice((0, 10, 60, 300)))
        with suppress(VodbucketError):
            stage.ledger.cancelled(await stage.cancel(stage.buckets, video_id))
        if stage.scheduler.faults.over:
            return


async def retry(stage: Stage, process: Process) -> None:
    """Retry a failed video."""
    video_id = await _one_of(stage, stage.ledger.failed)
    if video_id is not None:
        with suppress(VodbucketError):
            await retry_video(stage.buckets, video_id, now=process.now)


async def watch(stage: Stage, process: Process) -> None:
    """Watch looks while videos are being encoded, and jump about in them."""
    while (video_id := await _one_of(stage, lambda: sorted(stage.ledger.acknowledged))) is not None:
        with suppress(StoreError):
            stored = await stage.buckets.video.get(keys.status(video_id))
            status = Status.from_json(stored.body)
            if status.outputs and status.request and keys.is_look(status.outputs.split("/")[2]):
                wanted = Wanted(segment=stage.rng.randint(1, LOOK_SEGMENTS), at_unix_ms=0)
                await stage.buckets.raw.put(keys.wanted(status.request), wanted.to_json())
        await Rest(stage.rng.choice((1, 20, 120)))
        if stage.scheduler.faults.over:
            return


async def sweep_often(stage: Stage, process: Process) -> None:
    """Sweep repeatedly while there are faults."""
    queue, rules = stage.queue(process), _rules(stage)
    while not stage.scheduler.faults.over:
        await Rest(stage.rng.choice((5, 60, 300)))
        with suppress(StoreError):
            await sweep(stage.buckets, queue, rules)


async def sweep_once(stage: Stage, process: Process) -> None:
    """Sweep once after all other processes have come to rest."""
    rules = _rules(stage)
    # An id contains the start time of its upload by the clock of its process.
    kept_for = stage.plan.original.delete_after_seconds if stage.plan.original else 0
    grace = max(rules.grace, rules.uploads_after, timedelta(seconds=kept_for))
    await Rest(grace.total_seconds() + LARGEST_SKEW_SECONDS + 2)
    await sweep(stage.buckets, stage.queue(process), rules)


def _rules(stage: Stage) -> SweepRules:
    return SweepRules(
        grace=timedelta(seconds=stage.plan.grace_seconds),
        uploads_after=timedelta(seconds=stage.plan.uploads_after_seconds),
    )


async def _one_of(stage: Stage, candidates: Callable[[], list[str]]) -> str | None:
    """Wait for a video to act on. Returns None if the schedule ends first."""
    while not (found := candidates()):
        if stage.scheduler.faults.over:
            return None
        await Rest(POLL_SECONDS)
    return stage.rng.choice(found)

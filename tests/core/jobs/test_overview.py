"""The overview of the queue for operators."""

from collections.abc import Callable
from datetime import datetime

import pytest

from backend.core import keys
from backend.core.ids import new_id
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import Claim
from backend.core.jobs.overview import JobEntry, JobState, list_jobs
from backend.core.library.videos import add_video, delete_video
from backend.core.records import Job, Stage, Status, StatusError, Video
from backend.core.store.interface import Buckets
from backend.core.unit_records import UnitPlan
from tests.core.jobs.queue_lab import Clock
from tests.lab.memory_store import MemoryStore

START = Clock.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def buckets(clock: Clock) -> Buckets:
    return Buckets(raw=MemoryStore(clock), video=MemoryStore(clock))


@pytest.fixture
def queue(buckets: Buckets, clock: Clock) -> JobQueue:
    return JobQueue(buckets, owner="host-7", lease_seconds=60, now=clock)


async def _add(buckets: Buckets, clock: Callable[[], datetime], title: str = "A film") -> str:
    now = clock()
    video_id = new_id(int(now.timestamp() * 1000))
    video = Video(id=video_id, title=title, filename="a.mp4", size_bytes=3, created_at=now)
    await buckets.raw.put(keys.upload(video_id), b"abc")
    job = Job(
        id=video_id,
        request=video_id,
        source=keys.upload(video_id),
        source_size_bytes=3,
        created_at=now,
    )
    await add_video(buckets, video, job)
    return video_id


async def _claim(queue: JobQueue) -> Claim:
    claim = await queue.claim(await queue.poll())
    assert claim is not None
    return claim


async def _only_job(buckets: Buckets) -> JobEntry:
    (entry,) = (await list_jobs(buckets)).jobs
    return entry


async def test_a_queued_job_shows_how_long_it_has_been_waiting(buckets: Buckets, clock: Clock) -> None:
    video = await _add(buckets, clock)
    clock.advance(90)

    entry = await _only_job(buckets)

    assert (entry.state, entry.video_id, entry.title) == (JobState.QUEUED, video, "A film")
    assert (entry.queued_at, entry.age_seconds) == (START, 90)
    assert (entry.changed_at, entry.unchanged_seconds) == (START, 90)


async def test_a_running_job_shows_its_worker_heartbeat_and_progress(
    buckets: Buckets, clock: Clock, queue: JobQueue
) -> None:
    video = await _add(buckets, clock)
    claim = await _claim(queue)
    status = Status.queued(video, clock()).at_stage(Stage.TRANSCODING, clock(), progress=0.25)
    await buckets.video.put(keys.status(video), status.to_json())
    clock.advance(50)
    await queue.renew(claim)
    clock.advance(7)

    entry = await _only_job(buckets)

    assert (entry.state, entry.owner, entry.attempt, entry.generation) == (JobState.RUNNING, "host-7", 1, 0)
    assert (entry.stage, entry.progress) == (Stage.TRANSCODING, 0.25)
    assert (entry.age_seconds, entry.unchanged_seconds) == (57, 7)


async def test_the_status_of_another_request_is_not_shown(
    buckets: Buckets, clock: Clock, queue: JobQueue
) -> None:
    video = await _add(buckets, clock)
    await _claim(queue)
    other = Status.queued(video, clock(), f"{video}.1").at_stage(Stage.FAILED, clock())
    await buckets.video.put(keys.status(video), other.to_json())

    entry = await _only_job(buckets)

    assert (entry.state, entry.stage, entry.progress) == (JobState.RUNNING, None, None)


async def test_a_waiting_job_shows_when_it_is_due_and_its_last_error(
    buckets: Buckets, clock: Clock, queue: JobQueue
) -> None:
    await _add(buckets, clock)
    await queue.release(await _claim(queue), retry_after_seconds=30, error="The encoder crashed.")
    clock.advance(10)
    soon = await _only_job(buckets)
    clock.advance(100)
    overdue = await _only_job(buckets)

    assert (soon.state, soon.attempt, soon.owner, soon.due_in_seconds) == (JobState.WAITING, 2, None, 20)
    assert soon.error is not None
    assert soon.error.message == "The encoder crashed."
    assert overdue.due_in_seconds == 0


async def test_a_failed_job_shows_its_error_and_when_it_failed(
    buckets: Buckets, clock: Clock, queue: JobQueue
) -> None:
    await _add(buckets, clock)
    clock.advance(40)
    error = StatusError(code="unsupported_media", message="This is not a video.")
    await queue.bury(await _claim(queue), error)
    clock.advance(3600)

    entry = await _only_job(buckets)

    assert (entry.state, entry.error, entry.attempt) == (JobState.FAILED, error, 1)
    assert (entry.age_seconds, entry.unchanged_seconds) == (3640, 3600)


async def test_a_job_is_listed_once_while_it_is_claimed(
    buckets: Buckets, clock: Clock, queue: JobQueue
) -> None:
    video = await _add(buckets, clock)
    marker = (await buckets.raw.get(keys.marker(video))).body
    await _claim(queue)
    await buckets.raw.put(keys.marker(video), marker)

    assert (await _only_job(buckets)).state is JobState.RUNNING


async def test_a_job_is_listed_once_while_it_fails(buckets: Buckets, clock: Clock, queue: JobQueue) -> None:
    await _add(buckets, clock)
    claim = await _claim(queue)
    lease = (await buckets.raw.get(claim.key)).body
    await queue.bury(claim, StatusError(code="c", message="m"))
    await buckets.raw.put(claim.key, lease)

    assert (await _only_job(buckets)).state is JobState.FAILED


async def test_unreadable_records_are_shown_and_do_not_hide_others(buckets: Buckets, clock: Clock) -> None:
    marker, lease, letter = (new_id() for _ in range(3))
    await buckets.raw.put(keys.marker(marker), b"{}")
    await buckets.raw.put(keys.lease(lease, 3), b"not JSON")
    await buckets.raw.put(keys.dead_letter(letter), b'{"schema_version": 2}')
    await buckets.raw.put(keys.marker("stray"), b"")
    video = await _add(buckets, clock)

    overview = await list_jobs(buckets)

    assert overview.counts[JobState.UNREADABLE] == 3
    assert [entry.video_id for entry in overview.jobs if entry.state is JobState.QUEUED] == [video]
    unreadable = {entry.video_id: entry for entry in overview.jobs if entry.state is JobState.UNREADABLE}
    assert set(unreadable) == {marker, lease, letter}
    error = unreadable[lease].error
    assert error is not None
    assert error.code == "record_unreadable"
    assert error.message.startswith(f"{keys.lease(lease, 3)}: not a readable Lease")


async def test_a_job_whose_video_was_deleted_has_no_title(
    buckets: Buckets, clock: Clock, queue: JobQueue
) -> None:
    video = await _add(buckets, clock)
    await _claim(queue)
    await delete_video(buckets, video)

    entry = await _only_job(buckets)

    assert (entry.video_id, entry.title, entry.progress) == (video, None, None)


async def test_queued_jobs_are_sorted_oldest_first_and_failed_ones_latest_first(
    buckets: Buckets, clock: Clock, queue: JobQueue
) -> None:
    for title in ("first", "second"):
        await _add(buckets, clock, title)
        await queue.bury(await _claim(queue), StatusError(code="c", message="m"))
        clock.advance(1)
    for title in ("third", "fourth"):
        await _add(buckets, clock, title)
        clock.advance(1)

    overview = await list_jobs(buckets)

    assert [entry.title for entry in overview.jobs] == ["third", "fourth", "second", "first"]


async def test_the_limit_applies_to_each_state_and_counts_cover_all_jobs(
    buckets: Buckets, clock: Clock
) -> None:
    for _ in range(5):
        await _add(buckets, clock)
        clock.advance(1)

    overview = await list_jobs(buckets, limit=2)
    none = await list_jobs(buckets, states={JobState.FAILED})

    assert (len(overview.jobs), overview.counts[JobState.QUEUED]) == (2, 5)
    assert (none.jobs, none.counts[JobState.QUEUED]) == ((), 5)


async def test_a_divided_job_runs_on_any_worker_and_shows_how_many_units_are_done(
    buckets: Buckets, clock: Clock, queue: JobQueue
) -> None:
    video = await _add(buckets, clock)
    plan = UnitPlan(
        request=video, number=0, chunks=2, look="l0-a", work="r0-0-a", encoder="software", details="{}"
    )
    await queue.park(await _claim(queue), plan)
    await buckets.raw.put(keys.unit_end(video, 0, keys.LOOK), b"{}")
    await buckets.raw.put(keys.unit_end(video, 1, keys.SIDES), b"{}")
    await buckets.raw.put(keys.unit_lease(video, 0, keys.SIDES, 0), b"{}")
    clock.advance(1)

    entry = await _only_job(buckets)

    assert (entry.state, entry.owner, entry.units, entry.units_done) == (JobState.RUNNING, None, 4, 1)
    (planned,) = (await queue.poll()).planned
    claim = await queue.take_parked(planned)
    assert claim is not None
    entry = await _only_job(buckets)
    assert (entry.state, entry.owner, entry.units_done) == (JobState.RUNNING, "host-7", 1)

    await queue.release(claim, retry_after_seconds=30, error="It broke.")
    entry = await _only_job(buckets)
    assert (entry.state, entry.due_in_seconds, entry.attempt) == (JobState.WAITING, 30, 2)

"""What each outcome of a job does to the queue, the status and the outputs."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest

from backend.core import keys
from backend.core.errors import (
    AttemptFailed,
    BucketMissing,
    MachineFault,
    SourceRejected,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import Claim
from backend.core.library.videos import delete_video
from backend.core.records import Job, Lease, LeaseState, OutputObject, Stage
from backend.core.store.interface import PLAIN, Body, Buckets, ObjectHeaders
from tests.core.jobs.queue_lab import LEASE_SECONDS, Clock, Lab
from tests.lab.memory_store import MemoryStore
from worker.encode.video_encoders import SOFTWARE
from worker.run import heartbeat
from worker.run.heartbeat import Heartbeat
from worker.run.job import JobRunner
from worker.run.loop import serve
from worker.run.outcomes import MAX_OUTAGES, Attempts, trust_the_machine
from worker.run.poller import Poller
from worker.transcode.fallback import Fallback
from worker.transcode.progress import Progress
from worker.transcode.transcoder import Transcoded

TRANSCODED = Transcoded(
    duration_seconds=1,
    qualities=("360p",),
    renditions=(),
    objects=(OutputObject(path="hls/master.m3u8", size_bytes=1),),
    encoder="software",
)
HALF = Progress(
    stage=Stage.TRANSCODING,
    stage_progress=0.5,
    playable=True,
    duration_seconds=1,
    qualities=("360p",),
    renditions=(),
    encoder="software",
)


@dataclass
class Pipeline:
    """A fake pipeline: writes one object, then does what the test says."""

    lab: Lab
    ends: Callable[[], Transcoded] | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    runs: list[str] = field(default_factory=list)
    cancelled: bool = False

    async def run(self, job: Job, run: str, report: Callable[[Progress], None]) -> Transcoded:
        self.runs.append(run)
        await self.lab.video.put(keys.run_prefix(job.id, run) + "hls/master.m3u8", b"x")
        report(HALF)
        self.started.set()
        try:
            if self.ends is None:
                await asyncio.Event().wait()
                raise AssertionError
            return self.ends()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


def _raise(error: Exception) -> Callable[[], Transcoded]:
    def end() -> Transcoded:
        raise error

    return end


def runner(
    lab: Lab,
    queue: JobQueue,
    pipeline: Pipeline,
    *,
    lease_seconds: float = 60,
    patience_seconds: float = 0,
    examine: Callable[[Exception], Awaitable[None]] = trust_the_machine,
) -> JobRunner:
    return JobRunner(
        queue=queue,
        pipeline=pipeline,
        video=lab.video,
        attempts=Attempts(Heartbeat(lease_seconds, patience_seconds), 3, examine),
        status_every_seconds=0,
    )


@pytest.fixture
def lab() -> Lab:
    return Lab()


async def _claimed(lab: Lab, queue: JobQueue) -> tuple[Job, Claim]:
    job = await lab.add_job()
    claim = await lab.claimed(queue)
    return job, claim


async def test_publishes_a_successful_job(lab: Lab) -> None:
    queue = lab.worker("one")
    job, claim = await _claimed(lab, queue)
    await runner(lab, queue, Pipeline(lab, lambda: TRANSCODED))(claim, asyncio.Event())
    await lab.assert_published_and_clean(job)


FALLBACK = Fallback(SOFTWARE, "", "nvenc: ffmpeg exited with 1.")


@dataclass
class BeginsAnew(Pipeline):
    """Also writes to a second run, as after a hardware failure."""

    async def run(self, job: Job, run: str, report: Callable[[Progress], None]) -> Transcoded:
        fallback = replace(FALLBACK, run=keys.fallback_run(run))
        await self.lab.video.put(keys.run_prefix(job.id, fallback.run) + "hls/master.m3u8", b"y")
        transcoded = await super().run(job, run, lambda one: report(replace(one, fallback=fallback)))
        return replace(transcoded, fallback=fallback)


async def test_publishes_the_fallback_run_and_deletes_the_first_run(
    lab: Lab,
) -> None:
    queue = lab.worker("one")
    job, claim = await _claimed(lab, queue)

    await runner(lab, queue, BeginsAnew(lab, lambda: TRANSCODED))(claim, asyncio.Event())

    status = await lab.status(job)
    prefix = keys.run_prefix(job.id, keys.fallback_run(claim.lease.run))
    assert (status.outputs, status.encoder_fallback) == (prefix, "nvenc: ffmpeg exited with 1.")
    assert [key for key in await lab.video_keys() if claim.lease.run in key] == [prefix + "hls/master.m3u8"]
    await lab.assert_published_and_clean(job)


async def test_status_points_viewers_to_the_fallback_run(lab: Lab) -> None:
    queue = lab.worker("one")
    job, claim = await _claimed(lab, queue)
    task = asyncio.create_task(runner(lab, queue, BeginsAnew(lab))(claim, stop := asyncio.Event()))
    async with asyncio.timeout(5):
        while (await lab.status(job)).encoder_fallback is None:  # noqa: ASYNC110  # as a client does
            await asyncio.sleep(0)

    status = await lab.status(job)
    stop.set()
    await task

    assert status.outputs == keys.run_prefix(job.id, keys.fallback_run(claim.lease.run))
    assert not any(claim.lease.run in key for key in await lab.video_keys())


async def test_progress_reaches_status_json_while_the_job_runs(lab: Lab) -> None:
    queue = lab.worker("one")
    job, claim = await _claimed(lab, queue)
    pipeline = Pipeline(lab)
    task = asyncio.create_task(runner(lab, queue, pipeline)(claim, stop := asyncio.Event()))
    async with asyncio.timeout(5):
        while (await lab.status(job)).stage_progress != 0.5:  # noqa: ASYNC110  # as a client does
            await asyncio.sleep(0)

    status = await lab.status(job)
    stop.set()
    await task

    assert (status.stage, status.status, status.playable) == (Stage.TRANSCODING, "processing", True)
    assert status.outputs == keys.run_prefix(job.id, claim.lease.run)
    assert status.progress == pytest.approx(0.475)


async def test_bad_input_fails_at_once_with_its_reason_and_keeps_the_source(lab: Lab) -> None:
    queue = lab.worker("one")
    job, claim = await _claimed(lab, queue)
    rejected = Pipeline(lab, _raise(SourceRejected("This is a text file.", code="not_media")))

    await runner(lab, queue, rejected)(claim, asyncio.Event())

    status = await lab.status(job)
    assert status.error is not None
    assert (status.status, status.error.code, status.error.message) == (
        "error",
        "not_media",
        "This is a text file.",
    )
    assert await lab.raw_keys() == [keys.dead_letter(job.request), keys.upload(job.id)]


@pytest.mark.parametrize("error", [AttemptFailed("The encoder crashed."), KeyError("x")])
async def test_retries_other_failures_with_growing_pauses_then_fails(lab: Lab, error: Exception) -> None:
    job = await lab.add_job()
    queue = lab.worker("one")
    pipeline = Pipeline(lab, _raise(error))
    for pause in (5, 10):
        claim = await lab.claimed(queue)
        await runner(lab, queue, pipeline)(claim, asyncio.Event())
        assert (await lab.status(job)).status == "queued"
        assert not any(claim.lease.run in key for key in await lab.video_keys())
        lab.clock.advance(pause - 1)
        assert await lab.claim(queue) is None
        lab.clock.advance(1)
    claim = await lab.claimed(queue)

    await runner(lab, queue, pipeline)(claim, asyncio.Event())

    assert (await lab.status(job)).status == "error"
    assert len(set(pipeline.runs)) == 3
    assert await lab.raw_keys() == [keys.dead_letter(job.request), keys.upload(job.id)]


async def test_store_outages_do_not_count_as_attempts_but_are_limited(lab: Lab) -> None:
    job = await lab.add_job()
    queue = lab.worker("one")
    pipeline = Pipeline(lab, _raise(StoreUnavailable("The store was away.")))
    for outages in range(MAX_OUTAGES):
        claim = await lab.claimed(queue)
        assert (claim.lease.attempt, claim.lease.outages) == (1, outages)
        await runner(lab, queue, pipeline)(claim, asyncio.Event())
        assert (await lab.status(job)).status == "queued"
        lab.clock.advance(600)
    claim = await lab.claimed(queue)

    await runner(lab, queue, pipeline)(claim, asyncio.Event())

    status = await lab.status(job)
    assert status.error is not None
    assert status.error.code == "store_unavailable"


async def test_keeps_its_lease_during_a_store_outage(lab: Lab) -> None:
    away = asyncio.Event()

    class Away(MemoryStore):
        async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
            if away.is_set() and key.startswith(keys.LEASES):
                raise StoreUnavailable
            await super().put(key, body, headers)

    lab.raw = Away(lab.clock)
    lab.buckets = Buckets(lab.raw, lab.video)
    queue = lab.worker("one")
    job, claim = await _claimed(lab, queue)
    ending = asyncio.Event()

    class Slow(Pipeline):
        async def run(self, job: Job, run: str, report: Callable[[Progress], None]) -> Transcoded:
            await super().run(job, run, report)
            await ending.wait()
            return TRANSCODED

    pipeline = Slow(lab, lambda: TRANSCODED)
    running = runner(lab, queue, pipeline, lease_seconds=0.3, patience_seconds=60)
    task = asyncio.create_task(running(claim, asyncio.Event()))
    await pipeline.started.wait()
    away.set()
    done, _ = await asyncio.wait({task}, timeout=1)  # more than three leases
    assert not done

    away.clear()
    ending.set()
    await task

    await lab.assert_published_and_clean(job)


async def test_releases_the_job_once_the_store_is_back(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "RELEASE_RETRY_SECONDS", 0.01)
    fails = 5

    class Away(MemoryStore):
        async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
            nonlocal fails
            if key.endswith("status.json") and fails:
                fails -= 1
                raise StoreUnavailable
            await super().put(key, body, headers)

    queue = lab.worker("one")
    _, claim = await _claimed(lab, queue)
    lab.video = Away(lab.clock)
    pipeline = Pipeline(lab, _raise(StoreUnavailable("The store was away.")))

    async with asyncio.timeout(5):
        await runner(lab, queue, pipeline)(claim, asyncio.Event())

    lease = Lease.from_json((await lab.raw.get(claim.key)).body)
    assert (fails, lease.state, lease.attempt, lease.outages) == (0, LeaseState.RELEASED, 1, 1)


@pytest.mark.parametrize(
    "failure", [SourceRejected("Not a video."), AttemptFailed("ffmpeg exited with 1."), OSError(28, "full")]
)
async def test_failure_of_the_machine_is_not_blamed_on_the_file(lab: Lab, failure: Exception) -> None:
    async def examine(error: Exception) -> None:
        assert error is failure
        raise MachineFault("WORK_DIR: it is full.") from error

    job = await lab.add_job()
    queue = lab.worker("broken")
    for outages in range(5):  # more than attempts
        claim = await lab.claimed(queue)
        assert (claim.lease.attempt, claim.lease.outages) == (1, outages)
        running = runner(lab, queue, Pipeline(lab, _raise(failure)), examine=examine)
        await running(claim, asyncio.Event())
        assert (await lab.status(job)).status == "queued"
        lab.clock.advance(600)

    lease = Lease.from_json((await lab.raw.get(claim.key)).body)
    assert lease.last_error == "WORK_DIR: it is full."
    claim = await lab.claimed(other := lab.worker("sound"))
    await runner(lab, other, Pipeline(lab, lambda: TRANSCODED))(claim, asyncio.Event())
    await lab.assert_published_and_clean(job)
    assert (await lab.result(job)).attempt == 1


async def test_program_killed_from_outside_counts_no_attempt(lab: Lab) -> None:
    queue = lab.worker("one")
    _, claim = await _claimed(lab, queue)
    killed = Pipeline(lab, _raise(MachineFault("ffmpeg was killed by signal 9.")))

    await runner(lab, queue, killed)(claim, asyncio.Event())

    lease = Lease.from_json((await lab.raw.get(claim.key)).body)
    assert (lease.state, lease.attempt, lease.outages) == (LeaseState.RELEASED, 1, 1)


class _Outage(MemoryStore):
    """Fails writes below some prefixes while `away` is set."""

    away = False
    prefixes: tuple[str, ...] = ("",)
    error: type[StoreError] = StoreUnavailable

    async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
        self._check(key)
        await super().put(key, body, headers)

    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        self._check(key)
        return await super().create(key, body, headers)

    def _check(self, key: str) -> None:
        if self.away and key.startswith(self.prefixes):
            raise self.error


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr(heartbeat, "RELEASE_RETRY_SECONDS", 0.001)
    clock = Clock()
    return Lab(clock, raw=_Outage(clock), video=_Outage(clock))


async def _end_during_outage(lab: Lab, ends: Exception, error: type[StoreError]) -> tuple[Job, Claim]:
    """Let a run end with `ends` while neither bucket can be written, and end the outage somewhat later."""
    queue = lab.worker("one")
    job, claim = await _claimed(lab, queue)
    stores = [store for store in (lab.raw, lab.video) if isinstance(store, _Outage)]

    def fail() -> Transcoded:
        for store in stores:
            store.away, store.error = True, error
        raise ends

    running = asyncio.create_task(
        runner(lab, queue, Pipeline(lab, fail), lease_seconds=0.03)(claim, asyncio.Event())
    )
    done, _ = await asyncio.wait({running}, timeout=0.15)  # several leases
    assert not done
    for store in stores:
        store.away = False
    async with asyncio.timeout(5):
        await running
    return job, claim


@pytest.mark.parametrize("error", [StoreUnavailable, StoreDenied, BucketMissing])
@pytest.mark.parametrize("ends", [StoreUnavailable(), MachineFault()])
async def test_outage_beyond_all_patience_counts_no_attempt(
    outage: Lab, error: type[StoreError], ends: Exception
) -> None:
    _, claim = await _end_during_outage(outage, ends, error)

    lease = Lease.from_json((await outage.raw.get(claim.key)).body)
    assert (lease.state, lease.attempt, lease.outages) == (LeaseState.RELEASED, 1, 1)


async def test_failed_attempt_is_handed_back_after_the_outage(outage: Lab) -> None:
    _, claim = await _end_during_outage(outage, AttemptFailed("It crashed."), StoreDenied)

    lease = Lease.from_json((await outage.raw.get(claim.key)).body)
    assert (lease.state, lease.attempt, lease.last_error) == (LeaseState.RELEASED, 2, "It crashed.")


async def test_rejected_file_keeps_its_reason_after_the_outage(outage: Lab) -> None:
    job, _ = await _end_during_outage(outage, SourceRejected("A text file.", code="not_media"), StoreDenied)

    status = await outage.status(job)
    assert status.error is not None
    assert status.error.code == "not_media"


@pytest.mark.parametrize("ends", [None, StoreUnavailable()], ids=["at work", "handing back"])
async def test_worker_stopped_in_an_outage_counts_no_attempt(
    outage: Lab, monkeypatch: pytest.MonkeyPatch, ends: Exception | None
) -> None:
    monkeypatch.setattr(heartbeat, "RELEASE_TIMEOUT_SECONDS", 0)
    queue, stop = outage.worker("one"), asyncio.Event()
    _, claim = await _claimed(outage, queue)
    pipeline = Pipeline(outage, _raise(ends) if ends else None)
    patient = runner(outage, queue, pipeline, patience_seconds=60)
    running = asyncio.create_task(patient(claim, stop))
    await pipeline.started.wait()
    assert isinstance(outage.raw, _Outage)
    outage.raw.away = True
    stop.set()
    done, _ = await asyncio.wait({running}, timeout=0.05)
    assert not done
    outage.raw.away = False
    async with asyncio.timeout(5):
        await running

    lease = Lease.from_json((await outage.raw.get(claim.key)).body)
    assert (lease.state, lease.attempt) == (LeaseState.RELEASED, 1)


async def test_lease_is_kept_while_only_the_other_bucket_is_away(outage: Lab) -> None:
    queue = outage.worker("one")
    _, claim = await _claimed(outage, queue)
    assert isinstance(outage.video, _Outage)
    outage.video.away = True
    stop = asyncio.Event()
    running = asyncio.create_task(
        runner(outage, queue, Pipeline(outage, _raise(StoreUnavailable())), lease_seconds=0.03)(claim, stop)
    )
    for _ in range(3):
        outage.clock.advance(LEASE_SECONDS - 1)
        before = (await outage.raw.head(claim.key)).modified
        async with asyncio.timeout(5):
            while (await outage.raw.head(claim.key)).modified == before:  # noqa: ASYNC110  # as others see it
                await asyncio.sleep(0)
        assert await outage.claim(outage.worker("rival")) is None

    outage.video.away = False
    stop.set()
    await running


async def test_silent_heartbeats_end_the_run_without_counting_it(outage: Lab) -> None:
    queue = outage.worker("one")
    _, claim = await _claimed(outage, queue)
    pipeline = Pipeline(outage)
    running = asyncio.create_task(runner(outage, queue, pipeline, lease_seconds=0.03)(claim, asyncio.Event()))
    await pipeline.started.wait()
    assert isinstance(outage.raw, _Outage)
    outage.raw.away = True
    async with asyncio.timeout(5):
        while not pipeline.cancelled:  # noqa: ASYNC110  # the heartbeat has its own clock
            await asyncio.sleep(0.001)
    outage.raw.away = False
    async with asyncio.timeout(5):
        await running

    lease = Lease.from_json((await outage.raw.get(claim.key)).body)
    assert (lease.state, lease.attempt, lease.outages) == (LeaseState.RELEASED, 1, 1)


async def test_job_whose_workers_keep_dying_fails_without_another_attempt(lab: Lab) -> None:
    job = await lab.add_job()
    for name in ("one", "two", "three"):
        assert await lab.claim(lab.worker(name))
        lab.clock.advance(LEASE_SECONDS + 1)
    queue = lab.worker("four")
    claim = await lab.claimed(queue)
    pipeline = Pipeline(lab, lambda: TRANSCODED)

    await runner(lab, queue, pipeline)(claim, asyncio.Event())

    status = await lab.status(job)
    assert pipeline.runs == []
    assert status.error is not None
    assert status.error.code == "worker_crashed"


async def test_stopping_worker_cancels_the_pipeline_and_releases_the_job(lab: Lab) -> None:
    queue = lab.worker("one")
    job, claim = await _claimed(lab, queue)
    pipeline, stop = Pipeline(lab), asyncio.Event()
    task = asyncio.create_task(runner(lab, queue, pipeline)(claim, stop))
    await pipeline.started.wait()

    stop.set()
    await task

    assert pipeline.cancelled
    assert (await lab.status(job)).status == "queued"
    lab.clock.advance(1)
    again = await lab.claimed(lab.worker("two"))
    assert (again.lease.attempt, again.lease.state) == (1, LeaseState.RUNNING)
    assert not any(claim.lease.run in key for key in await lab.video_keys())


async def test_worker_that_lost_its_lease_before_it_gives_a_job_back_cleans_up(lab: Lab) -> None:
    class Dividing:
        async def run(
            self, claim: Claim, report: Callable[[Progress], None]
        ) -> Callable[[], Awaitable[None]]:
            await lab.write_outputs(claim, lab.video)
            lab.clock.advance(LEASE_SECONDS + 1)
            await lab.claimed(lab.worker("two"))
            return lambda: queue.release(claim, retry_after_seconds=0)

    queue = lab.worker("one")
    job, claim = await _claimed(lab, queue)

    await replace(runner(lab, queue, Pipeline(lab)), division=Dividing())(claim, asyncio.Event())

    prefix = keys.run_prefix(job.id, claim.lease.run)
    assert [info.key async for info in lab.video.list_all(prefix)] == []


async def test_worker_that_lost_its_lease_cancels_the_pipeline_and_writes_nothing(lab: Lab) -> None:
    queue, rival = lab.worker("one"), lab.worker("rival")
    job, claim = await _claimed(lab, queue)
    lab.clock.advance(LEASE_SECONDS + 1)
    taken = await lab.claimed(rival)
    pipeline = Pipeline(lab)

    async with asyncio.timeout(5):
        await runner(lab, queue, pipeline, lease_seconds=0.03)(claim, asyncio.Event())

    assert pipeline.cancelled
    assert await lab.raw_keys() == [taken.key, keys.upload(job.id)]
    assert not any(claim.lease.run in key for key in await lab.video_keys())


async def test_deleting_the_video_ends_its_job_within_a_heartbeat(lab: Lab) -> None:
    queue = lab.worker("one")
    job, claim = await _claimed(lab, queue)
    pipeline = Pipeline(lab)
    task = asyncio.create_task(runner(lab, queue, pipeline, lease_seconds=0.03)(claim, asyncio.Event()))
    await pipeline.started.wait()

    await delete_video(lab.buckets, job.id)
    async with asyncio.timeout(5):
        await task

    assert pipeline.cancelled
    assert await lab.raw_keys() == []
    assert await lab.video_keys() == []


async def test_drain_empties_the_queue_and_ends(lab: Lab) -> None:
    jobs = [await lab.add_job() for _ in range(5)]
    queue = lab.worker("one")
    pipeline = Pipeline(lab, lambda: TRANSCODED)

    async with asyncio.timeout(5):
        stop = asyncio.Event()
        poller = Poller(queue, stop, poll_seconds=0.01, lease_seconds=LEASE_SECONDS, drain=True)
        handle = runner(lab, queue, pipeline)
        await asyncio.gather(*(serve(poller, queue.claim, handle, stop) for _ in range(2)))

    assert len(pipeline.runs) == len(jobs)
    assert await lab.raw_keys() == []
    assert {(await lab.status(job)).status for job in jobs} == {"done"}


async def test_stopped_loop_claims_nothing(lab: Lab) -> None:
    await lab.add_job()
    queue = lab.worker("one")
    pipeline = Pipeline(lab, lambda: TRANSCODED)
    stop = asyncio.Event()
    stop.set()
    poller = Poller(queue, stop, poll_seconds=0.01, lease_seconds=LEASE_SECONDS)
    await serve(poller, queue.claim, runner(lab, queue, pipeline), stop)
    assert pipeline.runs == []

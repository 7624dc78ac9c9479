"""The units of a video as simulated workers make them: look, sides and chunks, and the join.

All that decides who may do what is the product's `UnitQueue`. What stands here is what `worker.units` does
around it: write objects, renew the lease meanwhile, then end the unit or give it back.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from backend.core import keys
from backend.core.errors import (
    STORE_AWAY,
    AttemptFailed,
    JobFailure,
    LeaseLost,
    MachineFault,
    ObjectNotFound,
    SourceRejected,
    StoreError,
    StoreUnavailable,
)
from backend.core.jobs.unit_view import UnitClaim
from backend.core.jobs.units import UnitQueue
from backend.core.jobs.wants import Wants
from backend.core.records import (
    Stage as VideoStage,
    Status,
    StatusError,
    UnitKind,
    UnitObject,
    UnitOutputs,
)
from tests.simulation.scheduler import Process, Race, Rest, Stopped, time_out
from tests.simulation.stage import Stage
from tests.simulation.unit_invariants import unit_body
from worker.run.job import (
    HEARTBEAT_RETRY_SECONDS,
    HEARTBEATS_PER_LEASE,
    MAX_OUTAGES,
    RELEASE_RETRY_SECONDS,
    RETRIES,
    StopRequested,
)

CALLS_RIDDEN_OUT = 3
LOOK_SEGMENTS = 3


@dataclass(frozen=True, slots=True)
class UnitRunner:
    """Brings one claimed unit to its end, or gives it back. The counterpart of `worker.run.job.JobRunner`."""

    stage: Stage
    process: Process
    units: UnitQueue
    encoder: str
    """What this worker encodes with: chunks of unlike encoders must not be joined."""

    async def run(self, claim: UnitClaim) -> None:
        plan, lease = self.stage.plan, claim.lease
        if lease.attempt > plan.max_attempts:
            await self._fail(claim, JobFailure(lease.last_error, code="worker_crashed"))
            return
        try:
            outputs = await Race((self._make(claim), self._keep_lease(claim), until_stopped()))
            await self._insist(claim, lambda: self._finish(claim, outputs))
        except LeaseLost:
            await self.units.discard(claim)
        except StopRequested:
            await self._release(claim, retry_after_seconds=0)
        except SourceRejected as error:
            await self._fail(claim, error)
        except AttemptFailed as error:
            if lease.attempt >= plan.max_attempts:
                await self._fail(claim, error)
            else:
                pause = RETRIES.pause_seconds(lease.attempt)
                await self._release(claim, retry_after_seconds=pause, error=error.message)
        except (MachineFault, StoreError) as error:
            if lease.outages >= MAX_OUTAGES:
                await self._fail(claim, JobFailure(error.message, code=error.code))
            else:
                pause = RETRIES.pause_seconds(lease.outages + 1)
                await self._release(claim, retry_after_seconds=pause, error=error.message, outage=True)

    async def _finish(self, claim: UnitClaim, outputs: UnitOutputs) -> None:
        if not await self.units.finish(claim, outputs):
            raise LeaseLost

    async def _fail(self, claim: UnitClaim, error: JobFailure) -> None:
        failure = StatusError(code=error.failure_code, message=error.message)

        async def fail() -> None:
            if not await self.units.fail(claim, failure):
                raise LeaseLost

        with suppress(LeaseLost):
            if not await self._insist(claim, fail):
                return
        await self.units.discard(claim)

    async def _release(self, claim: UnitClaim, **how: object) -> None:
        with suppress(LeaseLost):
            if not await self._insist(claim, lambda: self.units.release(claim, **how)):
                return
        await self.units.discard(claim)

    async def _keep_lease(self, claim: UnitClaim) -> None:
        await keep_lease(self.stage, lambda: self.units.renew(claim))

    async def _insist(self, claim: UnitClaim, end: Callable[[], Awaitable[None]]) -> bool:
        """Repeat `end` until the store accepts it. False: the worker had to stop before that."""
        interval = self.stage.plan.lease_seconds / HEARTBEATS_PER_LEASE
        while True:
            with suppress(*STORE_AWAY, TimeoutError):
                await Race((end(), time_out(interval)))
                return True
            if self.process.stopping:
                return False
            with suppress(*STORE_AWAY, TimeoutError, LeaseLost):
                await Race((self.units.renew(claim), time_out(interval)))
            await Rest(RELEASE_RETRY_SECONDS)

    # What the programs of a worker do

    async def _make(self, claim: UnitClaim) -> UnitOutputs:
        await find_source(self.stage, claim.job.source)
        if claim.kind is UnitKind.LOOK:
            await self._make_look(claim)
            return UnitOutputs(unit=claim.unit, token=claim.lease.token)
        if claim.kind is UnitKind.SIDES:
            poster = keys.run_prefix(claim.job.id, claim.plan.look) + keys.POSTER
            await self._write(poster, b"poster")
        config = self.encoder if claim.kind is UnitKind.CHUNK else ""
        body = unit_body(claim.unit, claim.lease.token, config)
        await self._write(claim.outputs + "stream.mp4", body)
        stored = UnitObject(name="stream.mp4", size_bytes=len(body), config=config)
        return UnitOutputs(unit=claim.unit, token=claim.lease.token, objects=(stored,))

    async def _make_look(self, claim: UnitClaim) -> None:
        """Write what is missing of the look, from where viewers wait for it. Every attempt writes the same."""
        video, prefix = self.stage.buckets.video, keys.run_prefix(claim.job.id, claim.plan.look)
        wants = Wants(self.stage.buckets.raw)
        there = {info.key async for info in video.list_all(prefix)}
        missing = [n for n in range(1, LOOK_SEGMENTS + 1) if f"{prefix}{n}.m4s" not in there]
        while missing:
            wanted = await ride_out(lambda: wants.newest(claim.job.request))
            segment = wanted if wanted in missing else missing[0]
            await self._write(f"{prefix}{segment}.m4s", f"segment {segment}".encode())
            missing.remove(segment)
            if keys.MASTER_PLAYLIST not in there:
                there.add(keys.MASTER_PLAYLIST)
                await self._write(prefix + keys.MASTER_PLAYLIST, b"playlist")
                await self._show(claim)
            if self.stage.rng.random() < 0.05:
                raise StopRequested  # it yields to a video that has no look yet

    async def _show(self, claim: UnitClaim) -> None:
        """Say in the status that the look can be played. This may come late: the video may have ended."""
        job = claim.job
        queued = Status.queued(job.id, job.created_at, job.request)
        status = queued.at_stage(
            VideoStage.TRANSCODING,
            self.process.now(),
            playable=True,
            outputs=keys.run_prefix(job.id, claim.plan.look),
        )
        with suppress(StoreError):
            await self.stage.buckets.video.put(keys.status(job.id), status.to_json())

    async def _write(self, key: str, body: bytes) -> None:
        await work_a_while(self.stage)
        await ride_out(partial(self.stage.buckets.video.put, key, body))


async def keep_lease(stage: Stage, renew: Callable[[], Awaitable[None]]) -> None:
    """Renew a lease until cancelled, as `JobRunner` does. Raises: StoreUnavailable: an outage is too long."""
    interval = stage.plan.lease_seconds / HEARTBEATS_PER_LEASE
    renewed, pause = stage.scheduler.now, interval
    while True:
        await Rest(pause)
        sent, pause = stage.scheduler.now, interval
        try:
            await Race((renew(), time_out(interval)))
            renewed = sent
        except (StoreError, TimeoutError) as error:
            pause = HEARTBEAT_RETRY_SECONDS
            if stage.scheduler.now - renewed >= stage.plan.lease_seconds + stage.plan.patience_seconds:
                raise StoreUnavailable from error


async def work_a_while(stage: Stage) -> None:
    """Take some time, and fail as often as the schedule says."""
    await Rest(stage.rng.choice((0, 3, 30)))
    if stage.rng.random() < stage.plan.failure_rate:
        failures = (SourceRejected, MachineFault, AttemptFailed, AttemptFailed, AttemptFailed)
        raise stage.rng.choice(failures)


async def find_source(stage: Stage, source: str) -> None:
    try:
        await ride_out(lambda: stage.buckets.raw.head(source))
    except ObjectNotFound:
        raise AttemptFailed("The source is gone.") from None


async def ride_out(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call that failed, as all that a worker runs does."""
    for _ in range(CALLS_RIDDEN_OUT):
        with suppress(StoreUnavailable):
            return await call()
        await Rest(HEARTBEAT_RETRY_SECONDS)
    return await call()


async def until_stopped() -> None:
    await Stopped()
    raise StopRequested

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
    AttemptFailed,
    JobFailure,
    LeaseLost,
    MachineFault,
    SourceRejected,
    StoreError,
)
from backend.core.jobs.unit_view import UnitClaim
from backend.core.jobs.units import UnitQueue
from backend.core.jobs.wants import Wants
from backend.core.records import Stage as VideoStage
from backend.core.records import Status, StatusError, UnitKind, UnitObject, UnitOutputs
from tests.simulation.attempts import find_source, insist, keep_lease, ride_out, until_stopped, work_a_while
from tests.simulation.scheduler import Process, Race
from tests.simulation.stage import Stage
from tests.simulation.unit_invariants import unit_body
from worker.run.job import MAX_OUTAGES, RETRIES, StopRequested

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
            outputs = await Race(
                (self._make(claim), keep_lease(self.stage, lambda: self.units.renew(claim)), until_stopped())
            )
            await self._finish(claim, outputs)
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
        won = False

        async def finish() -> None:
            nonlocal won
            won = await self.units.finish(claim, outputs)

        await self._insist(claim, finish)
        if not won:
            await self.units.discard(claim)

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

    async def _insist(self, claim: UnitClaim, end: Callable[[], Awaitable[object]]) -> bool:
        return await insist(self.stage, self.process, end, lambda: self.units.renew(claim))

    # What the programs of a worker do

    async def _make(self, claim: UnitClaim) -> UnitOutputs:
        await find_source(self.stage, claim.job.source)
        if claim.kind is UnitKind.LOOK:
            await self._make_look(claim)
            return UnitOutputs(unit=claim.unit, token=claim.lease.token)
        if claim.kind is UnitKind.SIDES:
            poster = keys.run_prefix(claim.job.id, claim.plan.look) + keys.POSTER
            await self._write(poster, b"poster")
        config = self._config() if claim.kind is UnitKind.CHUNK else ""
        body = unit_body(claim.unit, claim.lease.token, config)
        await self._write(claim.outputs + "stream.mp4", body)
        stored = UnitObject(name="stream.mp4", size_bytes=len(body), config=config)
        return UnitOutputs(unit=claim.unit, token=claim.lease.token, objects=(stored,))

    def _config(self) -> str:
        """Return what must be alike in all chunks. It nearly always is if their encoders are."""
        return self.encoder + "?" * (self.stage.rng.random() < 0.03)

    async def _make_look(self, claim: UnitClaim) -> None:
        """Write what is missing of the look, from where viewers wait for it. All attempts write the same."""
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

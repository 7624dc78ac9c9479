"""How simulated workers divide a video, make its units and join them: they write who made what."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from backend.core import keys
from backend.core.errors import AttemptFailed, ObjectNotFound, StoreError
from backend.core.jobs.unit_view import UnitClaim
from backend.core.jobs.wants import Wants
from backend.core.library.outbox import announce_playable
from backend.core.records import Job, Status
from backend.core.records import Stage as VideoStage
from backend.core.unit_records import UnitEnd, UnitKind, UnitObject, UnitOutputs, UnitPlan
from tests.simulation.attempts import find_source, ride_out, work_a_while
from tests.simulation.pipeline import Pipeline
from tests.simulation.scheduler import Process, Rest
from tests.simulation.stage import Stage
from tests.simulation.unit_invariants import SEAM, unit_body
from worker.run.heartbeat import StopRequested
from worker.transcode.progress import ReportProgress
from worker.transcode.transcoder import Transcoded
from worker.units.join import LOOK_SECONDS, UNLIKE_CHUNKS, UNLIKE_COPY, Ends
from worker.units.planner import Whole

LOOK_SEGMENTS = 3


@dataclass(frozen=True, slots=True)
class Planner:
    """Replaces `worker.units.planner.Planner`."""

    stage: Stage
    encoder: str

    async def run(self, job: Job, number: int, look: str, token: str) -> UnitPlan | Whole:
        await find_source(self.stage, job.source)
        await work_a_while(self.stage)
        chunks = self.stage.chunks_of(job.id)
        if not chunks:
            return Whole(self.stage.rng.choice((True, False)), cast(Any, None))
        return UnitPlan(
            request=job.request,
            number=number,
            chunks=chunks,
            look=keys.look_name(job.request, self.stage.token()) if number == 0 else look,
            has_look=self.stage.rng.random() < 0.8,
            work=keys.run_name(job.request, 0, self.stage.token()),
            encoder=self.encoder,
            details="{}",
        )


@dataclass(frozen=True, slots=True)
class Maker:
    """Replaces `worker.units.making.UnitMaker`. Chunks of unlike `encoder`s must not be joined."""

    stage: Stage
    process: Process
    encoder: str

    async def run(self, claim: UnitClaim) -> UnitOutputs:
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
        return self.encoder + "?" * (self.stage.rng.random() < self.stage.plan.unlike_rate)

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
                with suppress(StoreError):
                    await UnitStatus(self.stage, self.process).write(claim.job, claim.plan)
            if self.stage.rng.random() < 0.05:
                raise StopRequested  # it yields to a video that has no look yet

    async def _write(self, key: str, body: bytes) -> None:
        await work_a_while(self.stage)
        await ride_out(partial(self.stage.buckets.video.put, key, body))


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """Replaces `worker.run.unit_status.UnitStatus`: says that the look can be played, perhaps too late."""

    stage: Stage
    process: Process

    async def write(self, job: Job, plan: UnitPlan) -> None:
        queued = Status.queued(job.id, job.created_at, job.request)
        look = keys.run_prefix(job.id, plan.look)
        status = queued.at_stage(VideoStage.TRANSCODING, self.process.now(), playable=True, outputs=look)
        await announce_playable(self.stage.buckets.video, status, self.process.now())
        await self.stage.buckets.video.put(keys.status(job.id), status.to_json())


@dataclass(frozen=True, slots=True)
class Joiner:
    """Replaces `worker.units.join.Joiner`. Mutants override its steps."""

    stage: Stage
    pipeline: Pipeline

    async def run(self, job: Job, plan: UnitPlan, run: str, ends: Ends, report: ReportProgress) -> Transcoded:
        if self.stage.plan.encoders == "a":  # else it may be taken as nobody is left who encodes as it says
            self.stage.ledger.units.joining(plan)
        while not self.is_complete(plan, ended := await ride_out(ends)):
            await Rest(LOOK_SECONDS)
        parts, configs = [b""], set()
        for unit in plan.units:
            if unit != keys.LOOK and isinstance(end := ended.get(unit), UnitOutputs):
                parts += await self._stored(job, plan, end)
                configs |= {stored.config for stored in end.objects if unit != keys.SIDES}
        if not self.are_alike(configs):
            code = self.stage.rng.choice((UNLIKE_CHUNKS, UNLIKE_COPY))
            raise AttemptFailed("What the units made cannot be joined.", code=code)
        return await self.pipeline.write(job, run, SEAM.join(parts))

    async def _stored(self, job: Job, plan: UnitPlan, end: UnitOutputs) -> list[bytes]:
        prefix, get = await self.outputs_of(job, plan, end), self.stage.buckets.video.get
        try:
            return [(await ride_out(partial(get, prefix + one.name))).body for one in end.objects]
        except ObjectNotFound:
            raise AttemptFailed("What a unit stored is gone.") from None

    def are_alike(self, configs: set[str]) -> bool:
        return len(configs) <= 1

    def is_complete(self, plan: UnitPlan, ended: Mapping[str, UnitEnd]) -> bool:
        """Return whether all units have ended that the join needs. It does not need the look."""
        return ended.keys() >= set(plan.units) - {keys.LOOK}

    async def outputs_of(self, job: Job, plan: UnitPlan, end: UnitOutputs) -> str:
        """Return the prefix of what this end names."""
        return keys.unit_outputs(job.id, plan.work, end.unit, end.token)

"""Writes status.json of a divided job each time one of its units has ended."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from backend.core import keys
from backend.core.jobs.interface import UnitJobs
from backend.core.library.outbox import announce_playable
from backend.core.records import Job, Stage, Status
from backend.core.store.interface import Store, exists
from backend.core.unit_records import UnitFailure, UnitOutputs, UnitPlan
from worker.run.status import remaining_seconds, share_of_job, share_of_work
from worker.source.description import chapters_of
from worker.transcode.early_look import renditions_of
from worker.units.details import PlanDetails


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """Several workers write the status of one job; each write says all that its writer could see.

    `encoder` describes the encoders of the chunks.
    """

    video: Store
    units: UnitJobs
    encoder: str
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def write(self, job: Job, plan: UnitPlan) -> None:
        """Raises: StoreError."""
        view = await self.units.view(job)
        if view is None or view.plan.number != plan.number:
            return
        ends, details, written = await self.units.ends(view), PlanDetails.of(plan), None
        attempts = [end.attempt for end in ends.values() if isinstance(end, UnitOutputs)]
        attempts += [seen.lease.attempt for seen in view.units.values() if seen.lease]
        stage_progress = details.share_of(ends)
        if stage_progress == 1:
            return  # from here on the join says how far it is
        done = share_of_work(Stage.TRANSCODING, stage_progress)
        has_look = not isinstance(ends.get(keys.LOOK), UnitFailure)
        # the look may become playable between the check and the write: its own write must not be undone
        while written is not (playable := has_look and await self._is_playable(job, plan)):
            written = playable
            look = details.look if playable else None
            now = self.now()
            status = Status.of_job(job).at_stage(
                Stage.TRANSCODING,
                now,
                attempt=max(attempts, default=1),
                progress=share_of_job(job, done),
                stage_progress=stage_progress,
                estimated_remaining_seconds=remaining_seconds(now - (plan.planned_at or now), done),
                qualities=(look.rung.label,) if look else details.encoding.qualities,
                renditions=renditions_of(look) if look else details.encoding.renditions,
                # players read the list once, so it names them all; requests wait for the files
                captions=tuple(stream.track for stream in details.encoding.captions) if look else (),
                duration_seconds=details.media.duration_seconds,
                chapters=chapters_of(details.media, details.seconds),
                playable=playable,
                encoder=self.encoder,
                outputs=keys.run_prefix(job.id, plan.look),
            )
            if playable:
                await announce_playable(self.video, status, now)
            await self.video.put(keys.status(job.id), status.to_json())

    async def _is_playable(self, job: Job, plan: UnitPlan) -> bool:
        master = keys.run_prefix(job.id, plan.look) + keys.MASTER_PLAYLIST
        return plan.has_look and await exists(self.video, master)

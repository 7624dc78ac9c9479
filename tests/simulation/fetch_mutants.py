"""As `tests.simulation.mutants`, of fetching and of cancelling."""

from backend.core import keys
from backend.core.jobs.cancel import _unfinished, cancel_video
from backend.core.jobs.job_queue import JobQueue
from backend.core.records import FetchState, Job, Retention
from backend.core.store.interface import Buckets, ObjectHeaders
from tests.simulation.faults import Fate
from tests.simulation.fetching import SimulatedSink
from tests.simulation.mutants import Mutant
from tests.simulation.schedule import Protocol
from tests.simulation.workers import Kind
from tests.simulation.world import RemoteStore


class SparesUploads(SimulatedSink):
    """Does not abort what earlier holders of the job may still complete."""

    async def resume(self, state: FetchState | None) -> None:
        await self._check_absent()


class LeavesSources(JobQueue):
    """Does not delete the source of what it has published."""

    def _deletes_source(self, original: Retention | None) -> bool:
        return False


class AbortsNothing(RemoteStore):
    """Leaves multipart uploads open."""

    async def abort_upload(self, key: str, upload_id: str) -> None:
        pass


async def cancel_without_an_end(buckets: Buckets, video_id: str) -> Job:
    """Cancel a job by deleting it."""
    job, _ = await _unfinished(buckets, video_id)
    for prefix in (job.marker, keys.leases_of(job.request)):
        await buckets.raw.delete_many([info.key async for info in buckets.raw.list_all(prefix)])
    return job


async def cancel_what_has_ended(buckets: Buckets, video_id: str) -> Job:
    """Cancel a job although it has been published meanwhile."""
    return await cancel_video(Buckets(buckets.raw, _OverwritingResults("video")), video_id)


class _OverwritingResults(RemoteStore):
    async def create(self, key: str, body: bytes, headers: ObjectHeaders | None = None) -> bool:
        await self.put(key, body)
        return True


_LATE = frozenset({Fate.FREEZE_BEFORE, Fate.LATE})
_LATE_END = (Fate.FREEZE_BEFORE, "complete_upload")

FETCH_MUTANTS = (
    Mutant(
        "uploads of others spared",
        Protocol(worker=Kind(sink=SparesUploads), aimed=_LATE_END, fetches=True),
        "was fetched twice",
    ),
    Mutant("fetched sources left", Protocol(LeavesSources, fetches=True), "left at rest"),
    Mutant(
        "uploads left open",
        Protocol(store_class=AbortsNothing, fetches=True),
        "open uploads are left",
    ),
    Mutant("cancelled without an end", Protocol(cancel=cancel_without_an_end), "the job is lost"),
    Mutant(
        "cancelled after the end",
        Protocol(cancel=cancel_what_has_ended, often=_LATE),
        "the outcome .* was replaced",
    ),
)

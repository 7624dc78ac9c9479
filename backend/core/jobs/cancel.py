"""Cancelling: the request of a video that waits or runs ends as a failure with the code `cancelled`.

That is the same create-only write as every other end (docs/queue.md): the worker on the request learns of
it at the next heartbeat and stops, and it can be retried.
"""

import structlog

from backend.core import keys
from backend.core.errors import NothingToCancel, ObjectNotFound
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import highest_generations
from backend.core.library.videos import read_video
from backend.core.records import Job, Lease, StatusError
from backend.core.store.interface import Buckets
from backend.core.store.prefixes import keys_below

log = structlog.get_logger(__name__)

CANCELLED = StatusError(code="cancelled", message="Somebody cancelled this.")


async def cancel_video(buckets: Buckets, video_id: str) -> Job:
    """Cancel what the video's job does or waits for, and return the job. What is published stays.

    Raises:
        VideoNotFound
        NothingToCancel: no job of this video waits or runs.
    """
    await read_video(buckets, video_id)
    job, attempts = await _unfinished(buckets, video_id)
    queue = JobQueue(buckets, owner="cancel", lease_seconds=0, keep_originals=None)
    if not await queue.fail(job, CANCELLED, attempts):
        raise NothingToCancel
    await buckets.raw.delete(job.marker)  # else a worker claims it, only to find that it has ended
    log.info("job_cancelled", request=job.request)
    return job


async def _unfinished(buckets: Buckets, video_id: str) -> tuple[Job, int]:
    """Return the video's job that waits or runs, and its current attempt. Raises: NothingToCancel.

    A job moves from its marker to a lease, and from one to the next, so what is gone is looked for again.
    """
    raw = buckets.raw
    while True:
        markers = [key for rank in keys.markers_of_video(video_id) for key in await keys_below(raw, rank)]
        leases = [info async for info in raw.list_all(keys.leases_of_video(video_id))]
        found = [keys.lease(seen.request, seen.generation) for seen in highest_generations(leases)]
        markers = [key for key in markers if any(keys.ours(keys.parse_marker, [key]))]
        if not markers and not found:
            raise NothingToCancel
        try:
            if found:
                lease = Lease.from_json((await raw.get(found[-1])).body)
                return lease.job, lease.attempt
            return Job.from_json((await raw.get(markers[-1])).body), 0
        except ObjectNotFound:
            continue

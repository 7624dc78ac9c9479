"""Takes in the source of a job: is it what was uploaded, and what does it contain?"""

from dataclasses import dataclass

from backend.core.errors import AttemptFailed, ObjectNotFound, SourceRejected
from backend.core.records import Job
from backend.core.store.interface import Buckets, ObjectInfo, Store
from worker.sandbox.tools import Tools
from worker.sandbox.watchdog import STALLED, Watchdog
from worker.source.duration_limits import check_claimed_duration
from worker.source.feeder import SourceFeeder
from worker.source.media import MediaInfo
from worker.source.probe import probe
from worker.source.selection import NOT_A_VIDEO
from worker.source.stated_size import check_stated_size

MAX_PROBE_BYTES = 256 * 1024**2
"""If ffprobe cannot tell what a file is after this many, it is not a video: some dozen MiB are enough."""


@dataclass(frozen=True, slots=True)
class Intake:
    """A source that has passed."""

    info: ObjectInfo
    media: MediaInfo


def source_store(buckets: Buckets, job: Job) -> Store:
    """Return the bucket that holds the job's source."""
    return buckets.video if job.is_from_download else buckets.raw


async def uploaded_source(store: Store, job: Job) -> ObjectInfo:
    """Return the source as it is stored.

    Raises:
        SourceRejected: it is empty.
        AttemptFailed: it is not what was uploaded.
        StoreError.
    """
    try:
        info = await store.head(job.source)
    except ObjectNotFound:  # not an outage: waiting would not bring it back
        raise AttemptFailed("The source no longer exists.", code="source_missing") from None
    if info.size_bytes != job.stored_bytes:
        raise AttemptFailed(
            f"The source has {info.size_bytes} bytes, but {job.stored_bytes} were uploaded.",
            code="source_incomplete",
        )
    if info.size_bytes == 0:
        raise SourceRejected(NOT_A_VIDEO, code="not_a_video")
    return info


async def probe_source(
    tools: Tools, url: str, feeder: SourceFeeder, job: Job, watchdog: Watchdog
) -> MediaInfo:
    """Return what the source contains, once it has passed. `feeder` serves it at `url`.

    Raises:
        SourceRejected: it cannot be processed.
        AttemptFailed, StoreError.
    """
    try:
        media = await watchdog.guarded(probe(tools, url))
    except AttemptFailed as error:
        if error.failure_code == STALLED and feeder.fed_bytes >= MAX_PROBE_BYTES:
            raise SourceRejected(NOT_A_VIDEO, code="not_a_video") from error
        raise
    check_stated_size(feeder.head, job.stored_bytes)
    check_claimed_duration(media, job.stored_bytes)
    return media

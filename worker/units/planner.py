"""Decides how a job is done: divided into units, or as a whole."""

from dataclasses import dataclass

import structlog

from backend.core.records import Job
from backend.core.unit_records import UnitPlan
from worker.encode.copying import with_copy
from worker.encode.filter_graph import EXACT_CONTAINERS
from worker.encode.ladder import is_small, plan_encoding
from worker.encode.look_plan import plan_look
from worker.sandbox.activity import ActivityClock
from worker.sandbox.background_errors import BackgroundErrors
from worker.sandbox.resources import cores
from worker.sandbox.watchdog import Watchdog
from worker.source.feeder import SourceFeeder
from worker.source.index.read import read_index
from worker.source.index.source_index import IndexUnusable, SourceIndex
from worker.source.media import MediaInfo
from worker.transcode.early_look import is_published
from worker.transcode.intake import Intake, probe_source, uploaded_source
from worker.transcode.watched_store import watched
from worker.units.attempt import Workshop
from worker.units.details import PlanDetails

log = structlog.get_logger(__name__)

MAX_KEYFRAME_GAP_SECONDS = 20.0
"""Each chunk is decoded from the keyframe before it."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A job that is not divided."""

    is_small: bool
    source: Intake


class Planner:
    """Plans jobs, any number at the same time.

    `encoder` is the fingerprint of this worker's encoders, and `chunk_seconds` the longest chunk; 0: no job
    is divided.
    """

    def __init__(self, workshop: Workshop, encoder: str, chunk_seconds: float) -> None:
        self._workshop = workshop
        self._encoder = encoder
        self._chunk_seconds = chunk_seconds

    async def run(self, job: Job, number: int, look: str, token: str) -> UnitPlan | Whole:
        """Return plan `number` for the job; only plan 0 may copy a rung.

        `look` and `token` are as in `PlanDetails.to_plan`.

        Raises:
            SourceRejected, AttemptFailed, MachineFault, StoreError: as `Transcoder.run`.
        """
        profile, errors, activity = self._workshop.profile, BackgroundErrors(), ActivityClock()
        raw = watched(self._workshop.buckets, activity).raw
        info = await uploaded_source(raw, job)
        watchdog = Watchdog(errors, activity, profile.stall_seconds)
        feeder = SourceFeeder(raw, info, errors, profile.patience_seconds, activity)
        async with feeder.serving() as source:
            media = await probe_source(self._workshop.tools, source, feeder, job, watchdog)
            if job.options.convert or is_small(media):
                return Whole(is_small(media), Intake(info, media))
            divides = self._chunk_seconds and not profile.encoders.use_hardware
            if not divides or not _may_be_divisible(media):
                return Whole(False, Intake(info, media))
            try:
                index = await read_index(feeder.read, media)
            except IndexUnusable as error:
                log.info("job_indivisible", reason=str(error))
                return Whole(False, Intake(info, media))
        encoding = plan_encoding(media, profile.codecs, job.options, profile.rungs)
        segment, look_plan = profile.segment_seconds, None
        if profile.copies_source and number == 0:
            encoding = with_copy(encoding, media, index, info.size_bytes, segment)
        if job.options.early_look and not await is_published(self._workshop.buckets, job):
            look_plan = plan_look(media, index, encoding, info.size_bytes, segment, cores())
        details = PlanDetails.divide(
            info.etag, media, encoding, index, segment, self._chunk_seconds, look_plan
        )
        if not _is_divisible(details, index):
            return Whole(False, Intake(info, media))
        log.info("job_divided", duration_seconds=media.duration_seconds, chunks=len(details.chunks))
        return details.to_plan(job, number, look, token, self._encoder)


def _may_be_divisible(media: MediaInfo) -> bool:
    """Return whether the file says exactly where its streams end, and has a picture that begins early."""
    return (
        media.video is not None
        and media.container in EXACT_CONTAINERS
        and media.duration_is_reliable
        and media.all_ends_known
    )


def _is_divisible(details: PlanDetails, index: SourceIndex) -> bool:
    """Return whether each chunk has a keyframe not far before it, and the first one a picture at all."""
    video, fps = details.media.video, details.encoding.fps
    if video is None or video.end_seconds is None or fps is None:
        return False
    gap = index.max_gap_seconds(video.end_seconds)
    return video.start_seconds < details.chunks[0].frames / fps and gap <= MAX_KEYFRAME_GAP_SECONDS

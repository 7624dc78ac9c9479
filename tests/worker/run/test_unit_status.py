"""The status of a divided job: how far all of its workers are together."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest

from backend.core import keys
from backend.core.records import Job, Stage, Status, TranscodeOptions
from backend.core.unit_records import UnitKind
from tests.core.jobs.unit_lab import Hand, UnitLab
from worker.encode.ladder import plan_encoding
from worker.run.unit_status import UnitStatus
from worker.source.index.source_index import SourceIndex
from worker.source.media import MediaInfo, VideoInfo
from worker.units.details import PlanDetails

FPS = Fraction(24)
VIDEO = VideoInfo(0, 1920, 1080, "h264", "yuv420p", FPS, FPS, end_seconds=60.0)
MEDIA = MediaInfo("mov", 60.0, video=VIDEO)
PLANNED = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def lab() -> UnitLab:
    return UnitLab()


async def parked(lab: UnitLab, hand: Hand) -> tuple[Job, PlanDetails]:
    encoding = plan_encoding(MEDIA, ("av1", "h264"), TranscodeOptions())
    index = SourceIndex(24, tuple(range(0, 60 * 24, 24)))
    details = PlanDetails.divide("etag", MEDIA, encoding, index, 4, 20)
    job = await lab.add_job()
    plan = lab.plan(job, has_look=False).replace(
        chunks=len(details.chunks), details=details.model_dump_json(), planned_at=PLANNED
    )
    await hand.jobs.park(await lab.claimed_by(hand), plan)
    lab.clock.advance(1)
    return job, details


async def status_of(lab: UnitLab, hand: Hand, job: Job, seconds: float) -> Status:
    """Return the status as written this long after the job was planned."""
    now = PLANNED + timedelta(seconds=seconds)
    plan = (await lab.view(hand, job)).plan
    await UnitStatus(lab.video, hand.units, "software", lambda: now).write(job, plan)
    return Status.from_json((await lab.video.get(keys.status(job.id))).body)


async def test_progress_counts_frames_and_the_rest_takes_as_long_as_they_did(lab: UnitLab) -> None:
    hand = lab.hand("one")
    job, details = await parked(lab, hand)

    begun = await status_of(lab, hand, job, 1)
    claim = await lab.claim_unit(hand, job, {UnitKind.CHUNK})
    await lab.do_unit(hand, claim)
    after = await status_of(lab, hand, job, 10)

    assert (begun.stage, begun.stage_progress, begun.estimated_remaining_seconds) == (
        Stage.TRANSCODING,
        0,
        None,
    )
    assert after.stage_progress == details.chunk_of(claim.unit).frames / details.frames
    assert after.estimated_remaining_seconds == 10 * (1 - after.progress) / after.progress


async def test_attempt_is_the_highest_of_any_unit(lab: UnitLab) -> None:
    hand = lab.hand("one")
    job, _ = await parked(lab, hand)
    claim = await lab.claim_unit(hand, job, {UnitKind.CHUNK})
    await hand.units.release(claim, retry_after_seconds=0, error="no")
    lab.clock.advance(2)

    waiting = await status_of(lab, hand, job, 1)
    view, others = await lab.view(hand, job), 0
    while again := await hand.units.claim(view, {UnitKind.CHUNK}):
        others += again.unit != claim.unit
        # one of the others stays: from the last end on, the join writes the status
        if again.unit == claim.unit or others != 1:
            await lab.do_unit(hand, again)
    ended = await status_of(lab, hand, job, 2)

    assert (waiting.attempt, ended.attempt) == (2, 2)

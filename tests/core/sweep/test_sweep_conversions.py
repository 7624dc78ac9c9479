"""The sweeper deletes conversions that nobody fetched, and keeps those that are still wanted."""

from datetime import timedelta

import pytest

from backend.core import keys
from backend.core.jobs.retry import retry_video
from backend.core.library.videos import add_video
from backend.core.records import (
    Conversion,
    Job,
    Outputs,
    Retention,
    StatusError,
    TranscodeOptions,
    Video,
)
from backend.core.sweep.inventory import list_raw
from backend.core.sweep.sweeper import Kind, SweepReport, SweepRules, _Sweeper, sweep
from tests.core.jobs.queue_lab import Lab

KEPT_SECONDS = 3600.0
RULES = SweepRules(grace=timedelta(days=1), conversions_after=timedelta(seconds=KEPT_SECONDS))


@pytest.fixture
def lab() -> Lab:
    return Lab()


async def _sweep(lab: Lab) -> SweepReport:
    return await sweep(lab.buckets, lab.worker("sweeper"), RULES)


async def _conversion(lab: Lab, *, keep: bool = False) -> Job:
    """Add what an acknowledged conversion leaves in the buckets."""
    plain = await lab.add_job()
    await lab.raw.delete(keys.marker(plain.request))
    for key in (keys.catalog_entry(plain.id), keys.video_record(plain.id), keys.status(plain.id)):
        await lab.video.delete(key)
    convert = Conversion(format="webm", max_seconds=60, keep=keep)
    job = plain.replace(options=TranscodeOptions(convert=convert), original=Retention())
    video = Video(id=job.id, title="t", filename="f", size_bytes=3, created_at=lab.clock())
    await add_video(lab.buckets, video, job)
    return job


async def test_a_converted_file_that_nobody_fetched_is_deleted_in_time(lab: Lab) -> None:
    job = await _conversion(lab)
    await lab.turn(lab.worker("one"))
    assert isinstance(await lab.result(job), Outputs)

    lab.clock.advance(KEPT_SECONDS)
    assert (await _sweep(lab)).findings == ()
    lab.clock.advance(1)
    report = await _sweep(lab)

    assert [(one.kind, one.key) for one in report.findings] == [(Kind.CONVERSION, job.id)]
    assert [*await lab.raw_keys(), *await lab.video_keys()] == []


async def test_one_that_is_kept_stays_and_never_enters_the_library(lab: Lab) -> None:
    await _conversion(lab, keep=True)
    await lab.turn(lab.worker("one"))
    before = await lab.video_keys()

    lab.clock.advance(30 * 86_400)
    report = await _sweep(lab)

    assert report.findings == ()
    assert await lab.video_keys() == before
    assert not any(key.startswith(keys.CATALOG) for key in before)


async def test_one_that_waits_is_left_to_the_workers(lab: Lab) -> None:
    job = await _conversion(lab)

    lab.clock.advance(30 * 86_400)
    report = await _sweep(lab)

    assert report.findings == ()
    assert await lab.claimed(lab.worker("one")) is not None
    assert (await lab.raw.head(job.source)).size_bytes == 3


@pytest.mark.parametrize("seen", [True, False])
async def test_one_that_is_tried_again_is_left_to_the_workers(lab: Lab, seen: bool) -> None:
    job, one = await _conversion(lab), lab.worker("one")
    await one.bury(await lab.claimed(one), StatusError(code="not_a_video", message="No."))
    lab.clock.advance(30 * 86_400)
    if seen:
        await retry_video(lab.buckets, job.id, now=lab.clock)
    listed = await list_raw(lab.raw)
    if not seen:
        await retry_video(lab.buckets, job.id, now=lab.clock)

    sweeper = _Sweeper(lab.buckets, one, RULES, lab.clock(), dry_run=False)
    await sweeper.videos(listed)

    assert sweeper.findings == []
    assert await lab.turn(one) is not None


async def test_one_that_is_claimed_while_the_sweeper_lists_is_left_to_the_worker(lab: Lab) -> None:
    job = await _conversion(lab)
    lab.clock.advance(2 * 86_400)
    listed = await list_raw(lab.raw)
    listed.queued.clear()  # the lease came after its LIST, the marker went before its own
    await lab.claimed(lab.worker("one"))

    sweeper = _Sweeper(lab.buckets, lab.worker("sweeper"), RULES, lab.clock(), dry_run=False)
    await sweeper.videos(listed)

    assert sweeper.findings == []
    assert keys.video_record(job.id) in await lab.video_keys()


@pytest.mark.parametrize("keep", [True, False])
async def test_one_whose_request_died_before_it_was_queued_is_deleted(lab: Lab, keep: bool) -> None:
    job = await _conversion(lab, keep=keep)
    await lab.raw.delete(keys.marker(job.request))

    lab.clock.advance(2 * 86_400)
    report = await _sweep(lab)

    assert [one.kind for one in report.findings] == [Kind.CONVERSION]
    assert [*await lab.raw_keys(), *await lab.video_keys()] == []

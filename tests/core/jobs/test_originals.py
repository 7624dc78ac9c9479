"""How long the uploaded file is kept: its job says so. What may be meant to be kept is never deleted."""

from datetime import timedelta

import pytest

from backend.core import keys
from backend.core.jobs.retry import retry_video
from backend.core.records import Job, Retention, StatusError
from backend.core.store.interface import exists
from backend.core.sweep.sweeper import Kind, SweepRules, sweep
from tests.core.jobs.queue_lab import Lab

HOUR = 3600.0
AT_ONCE, KEPT, LATER = Retention(), Retention(keep=True), Retention(delete_after_seconds=10 * HOUR)
RULES = SweepRules(timedelta(hours=1), timedelta(days=2))


@pytest.fixture
def lab() -> Lab:
    return Lab()


async def _has_source(lab: Lab, job: Job) -> bool:
    return await exists(lab.raw, keys.upload(job.id))


async def _sweep(lab: Lab, keep_originals: bool | None = None) -> list[Kind]:
    report = await sweep(lab.buckets, lab.worker("sweeper", keep_originals=keep_originals), RULES)
    return [finding.kind for finding in report.findings]


@pytest.mark.parametrize(
    ("job_says", "finisher_keeps", "kept"),
    [
        (None, False, False),
        (None, True, True),
        (None, None, True),
        (AT_ONCE, False, False),
        (AT_ONCE, True, True),
        (AT_ONCE, None, False),
        (KEPT, False, True),
        (KEPT, None, True),
        (LATER, False, True),
        (LATER, None, True),
    ],
)
async def test_publication_deletes_the_original_only_if_all_agree(
    lab: Lab, job_says: Retention | None, finisher_keeps: bool | None, kept: bool
) -> None:
    job = await lab.add_job(job_says)

    await lab.turn(lab.worker("one", keep_originals=finisher_keeps))

    assert await _has_source(lab, job) == kept


async def test_sweep_from_another_shell_keeps_what_the_job_keeps(lab: Lab) -> None:
    jobs = [await lab.add_job(KEPT), await lab.add_job()]
    worker = lab.worker("one", keep_originals=True)
    for _ in jobs:
        claim = await lab.claimed(worker)
        outputs = await lab.write_outputs(claim)
        # the worker dies right after it has published
        await lab.video.create(keys.result(outputs.id, outputs.request), outputs.to_json())
    lab.clock.advance(2 * HOUR)

    assert await _sweep(lab) == [Kind.LEASE]

    assert [await _has_source(lab, job) for job in jobs] == [True, True]


async def test_job_that_says_nothing_is_finished_by_who_knows_the_setting(lab: Lab) -> None:
    job = await lab.add_job()
    claim = await lab.claimed(lab.worker("one"))
    outputs = await lab.write_outputs(claim)
    await lab.video.create(keys.result(outputs.id, outputs.request), outputs.to_json())
    lab.clock.advance(2 * HOUR)
    assert (await _sweep(lab), await _has_source(lab, job)) == ([], True)

    assert await _sweep(lab, keep_originals=False) == [Kind.LEASE]

    await lab.assert_published_and_clean(job)
    assert not await _has_source(lab, job)


async def test_sweep_deletes_the_original_once_its_time_is_over(lab: Lab) -> None:
    job = await lab.add_job(LATER)
    await lab.turn(lab.worker("one"))
    lab.clock.advance(9 * HOUR)
    assert (await _sweep(lab), await _has_source(lab, job)) == ([], True)
    lab.clock.advance(2 * HOUR)
    assert (await _sweep(lab, keep_originals=True), await _has_source(lab, job)) == ([], True)

    assert await _sweep(lab) == [Kind.ORIGINAL]

    await lab.assert_published_and_clean(job)
    assert await _sweep(lab) == []


@pytest.mark.parametrize("job_says", [None, KEPT, AT_ONCE])
async def test_sweep_keeps_every_other_original(lab: Lab, job_says: Retention | None) -> None:
    job = await lab.add_job(job_says)
    await lab.turn(lab.worker("one", keep_originals=True))
    lab.clock.advance(20 * 86_400)

    assert (await _sweep(lab), await _has_source(lab, job)) == ([], True)


async def test_failed_video_keeps_its_original(lab: Lab) -> None:
    job = await lab.add_job(LATER)
    queue = lab.worker("one")
    await queue.bury(await lab.claimed(queue), StatusError(code="c", message="m"))
    lab.clock.advance(10**6)

    assert (await _sweep(lab), await _has_source(lab, job)) == ([], True)


async def test_encoding_again_keeps_the_original_and_starts_its_time_over(lab: Lab) -> None:
    job = await lab.add_job(LATER)
    await lab.turn(lab.worker("one"))
    lab.clock.advance(11 * HOUR)
    again = await retry_video(lab.buckets, job.id, now=lab.clock)
    assert again.original == LATER
    assert (await _sweep(lab), await _has_source(lab, job)) == ([], True)
    claim = await lab.claimed(queue := lab.worker("two"))
    assert (await _sweep(lab), await _has_source(lab, job)) == ([], True)
    await queue.publish(claim, await lab.write_outputs(claim))
    lab.clock.advance(9 * HOUR)
    assert Kind.ORIGINAL not in await _sweep(lab)

    lab.clock.advance(2 * HOUR)

    assert (await _sweep(lab), await _has_source(lab, job)) == ([Kind.ORIGINAL], False)


async def test_failure_of_a_later_request_keeps_the_original(lab: Lab) -> None:
    job = await lab.add_job(LATER)
    await lab.turn(lab.worker("one"))
    await retry_video(lab.buckets, job.id, now=lab.clock)
    queue = lab.worker("two")
    await queue.bury(await lab.claimed(queue), StatusError(code="c", message="m"))
    await lab.raw.delete(keys.dead_letter(keys.request_name(job.id, 1)))
    lab.clock.advance(10**6)

    assert (await _sweep(lab), await _has_source(lab, job)) == ([], True)


async def test_job_queued_by_the_sweeper_says_what_the_video_says(lab: Lab) -> None:
    job = await lab.add_job(KEPT)
    await lab.raw.delete(keys.marker(job.request))
    lab.clock.advance(10**6)

    assert await _sweep(lab) == [Kind.JOB]

    assert Job.from_json((await lab.raw.get(keys.marker(job.request))).body).original == KEPT

"""Cancelling a job at every stage."""

import pytest

from backend.core import keys
from backend.core.errors import LeaseLost, NothingToCancel, VideoNotFound
from backend.core.ids import new_id
from backend.core.jobs.cancel import cancel_video
from backend.core.jobs.retry import retry_video
from backend.core.library.videos import read_item
from backend.core.records import DeadLetter, Job
from backend.core.unit_records import UnitKind
from tests.core.jobs.queue_lab import Fault, Lab, WorkerCrashed, crash
from tests.core.jobs.unit_lab import UnitLab


@pytest.fixture
def lab() -> Lab:
    return Lab()


async def _assert_cancelled(lab: Lab, job: Job) -> None:
    letter = DeadLetter.from_json((await lab.video.get(keys.result(job.id, job.request))).body)
    status = (await read_item(lab.buckets, job.id)).status
    assert letter.error.code == "cancelled"
    assert status.error == letter.error
    assert await lab.raw_keys() == [keys.dead_letter(job.request), keys.upload(job.id)]
    kept = [keys.catalog_entry(job.id), keys.result(job.id, job.request)]
    assert await lab.video_keys() == [*kept, keys.status(job.id), keys.video_record(job.id)]


async def test_a_waiting_job_is_cancelled_and_can_be_retried(lab: Lab) -> None:
    job, queue = await lab.add_job(), lab.worker("one")

    await cancel_video(lab.buckets, job.id)

    await _assert_cancelled(lab, job)
    assert await lab.claim(queue) is None
    again = await retry_video(lab.buckets, job.id, now=lab.clock)
    assert await lab.turn(queue)
    assert again.request == f"{job.id}.1"


async def test_the_worker_of_a_cancelled_job_learns_of_it_and_leaves_nothing(lab: Lab) -> None:
    job, queue = await lab.add_job(), lab.worker("one")
    claim = await lab.claimed(queue)
    await lab.write_outputs(claim)

    await cancel_video(lab.buckets, job.id)
    late = await lab.write_outputs(claim)
    with pytest.raises(LeaseLost):
        await queue.renew(claim)
    await queue.clean_up_lost(claim)

    await _assert_cancelled(lab, job)
    assert not await queue.publish(claim, late)


async def test_units_of_a_cancelled_job_stop() -> None:
    lab = UnitLab()
    one, two = lab.hand("one"), lab.hand("two")
    job = await lab.parked(one)
    claim = await lab.claim_unit(two, job, {UnitKind.CHUNK})
    await lab.video.put(claim.outputs + "1.m4s", b"x")

    await cancel_video(lab.buckets, job.id)
    with pytest.raises(LeaseLost):
        await two.units.renew(claim)
    await two.units.discard(claim)

    await _assert_cancelled(lab, job)


async def test_nothing_is_cancelled_that_has_ended_or_never_was(lab: Lab) -> None:
    job = await lab.add_job()
    await lab.turn(lab.worker("one"))

    with pytest.raises(NothingToCancel):
        await cancel_video(lab.buckets, job.id)
    with pytest.raises(VideoNotFound):
        await cancel_video(lab.buckets, new_id())
    await lab.assert_published_and_clean(job)


async def test_a_cancellation_that_comes_too_late_leaves_the_original_to_the_worker(lab: Lab) -> None:
    job, queue = await lab.add_job(), lab.worker("one", keep_originals=True)
    claim = await lab.claimed(queue)
    outputs = await lab.write_outputs(claim)
    await lab.video.create(keys.result(job.id, job.request), outputs.to_json())

    with pytest.raises(NothingToCancel):
        await cancel_video(lab.buckets, job.id)
    await queue.publish(claim, outputs)

    assert await lab.raw_keys() == [job.source]


async def test_a_cancellation_that_crashes_is_finished_by_a_worker() -> None:
    for at_call in range(1, 60):
        lab, fault = Lab(), Fault(at_call, crash, False)
        job = await lab.add_job()
        try:
            await cancel_video(lab.faulty(fault), job.id)
            break
        except WorkerCrashed:
            pass
        ended = keys.result(job.id, job.request) in await lab.video_keys()
        assert (await lab.claim(lab.worker("one")) is None) is ended
        if ended:
            await _assert_cancelled(lab, job)
    assert at_call > 10

"""Queueing a video again."""

import pytest

from backend.core import keys
from backend.core.errors import AlreadyQueued, SourceGone, VideoNotFound
from backend.core.ids import new_id
from backend.core.jobs.retry import retry_video
from backend.core.library.videos import read_item
from backend.core.records import FetchKind, Job, StatusError, TranscodeOptions
from backend.core.uploads.ingest import Description
from backend.core.uploads.remote import add_remote
from tests.core.jobs.queue_lab import LEASE_SECONDS, Lab

REASON = StatusError(code="encoder_failed", message="The encoder crashed.")


@pytest.fixture
def lab() -> Lab:
    return Lab()


async def _failed(lab: Lab) -> Job:
    job = await lab.add_job()
    queue = lab.worker("one")
    claim = await lab.claimed(queue)
    await queue.bury(claim, REASON)
    return job


async def test_failed_video_is_queued_under_a_new_request_and_can_succeed(lab: Lab) -> None:
    first = await _failed(lab)

    again = await retry_video(lab.buckets, first.id, options=TranscodeOptions(crf=30), now=lab.clock)

    assert (again.request, again.options.crf) == (f"{first.id}.1", 30)
    assert await lab.raw_keys() == [keys.marker(again.request), keys.upload(first.id)]
    assert (await read_item(lab.buckets, first.id)).status.status == "queued"
    await lab.turn(lab.worker("two"))
    status = (await read_item(lab.buckets, first.id)).status
    assert (status.status, status.request) == ("done", again.request)
    assert await lab.raw_keys() == []


async def test_an_old_failure_does_not_hide_the_new_attempt(lab: Lab) -> None:
    job = await _failed(lab)
    assert (await read_item(lab.buckets, job.id)).status.error == REASON
    await retry_video(lab.buckets, job.id, now=lab.clock)

    queue = lab.worker("two")
    claim = await lab.claimed(queue)
    await queue.bury(claim, StatusError(code="again", message="Once more."))

    status = (await read_item(lab.buckets, job.id)).status
    assert status.error is not None
    assert (status.status, status.error.code) == ("error", "again")
    assert await lab.raw_keys() == [keys.dead_letter(claim.request), keys.upload(job.id)]
    third = await retry_video(lab.buckets, job.id, now=lab.clock)
    assert third.request == f"{job.id}.2"


async def test_queued_running_and_waiting_jobs_are_not_queued_twice(lab: Lab) -> None:
    job = await lab.add_job()
    queue = lab.worker("one")
    with pytest.raises(AlreadyQueued):
        await retry_video(lab.buckets, job.id)
    claim = await lab.claimed(queue)
    with pytest.raises(AlreadyQueued):
        await retry_video(lab.buckets, job.id)
    await queue.release(claim, retry_after_seconds=LEASE_SECONDS, error="It broke.")

    with pytest.raises(AlreadyQueued):
        await retry_video(lab.buckets, job.id)


@pytest.mark.parametrize(
    ("code", "kind"), [("fetch_web_page", FetchKind.YTDLP), ("fetch_not_found", FetchKind.HTTP)]
)
async def test_what_was_a_web_page_is_fetched_with_ytdlp(lab: Lab, code: str, kind: FetchKind) -> None:
    address = "https://films.example/watch?v=1"
    video = await add_remote(lab.buckets, FetchKind.HTTP, address, Description(), max_bytes=10)
    queue = lab.worker("one")
    await queue.bury(await lab.claimed(queue), StatusError(code=code, message="No."))

    again = await retry_video(lab.buckets, video.id, now=lab.clock)

    assert again.fetch is not None
    assert (again.fetch.kind, again.fetch.address) == (kind, address)


async def test_encoding_again_needs_the_source(lab: Lab) -> None:
    job = await lab.add_job()
    await lab.turn(lab.worker("one"))

    with pytest.raises(SourceGone):
        await retry_video(lab.buckets, job.id)


async def test_a_video_with_its_original_can_be_encoded_again_and_plays_meanwhile(lab: Lab) -> None:
    job = await lab.add_job()
    await lab.turn(lab.worker("one", keep_originals=True))
    first = (await read_item(lab.buckets, job.id)).status

    await retry_video(lab.buckets, job.id, now=lab.clock)

    assert (await read_item(lab.buckets, job.id)).status.outputs == first.outputs
    claim = await lab.turn(lab.worker("two", keep_originals=True))
    assert claim is not None
    second = (await read_item(lab.buckets, job.id)).status
    assert second.outputs == keys.run_prefix(job.id, claim.lease.run) != first.outputs


async def test_a_video_that_does_not_exist_is_not_queued(lab: Lab) -> None:
    with pytest.raises(VideoNotFound):
        await retry_video(lab.buckets, new_id())

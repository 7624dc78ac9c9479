"""Objects that vodbucket never wrote stop nothing: each part still does its work among them."""

import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest

from backend.core import keys
from backend.core.errors import AlreadyQueued
from backend.core.ids import new_id
from backend.core.jobs.overview import JobState, list_jobs
from backend.core.jobs.retry import retry_video
from backend.core.library.captions import list_captions
from backend.core.library.videos import delete_video, list_videos, read_item
from backend.core.records import Captions, Job, Lease
from backend.core.sweep.sweeper import SweepRules, sweep
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.quota import Quota, UploadRules
from backend.core.uploads.resumable.service import ResumableUploads
from tests.core.jobs.queue_lab import Lab
from tests.core.uploads.upload_lab import FILM, HEAD, chunks

PREFIXES = (
    *("", keys.UPLOADS, keys.QUEUE, keys.LEASES, keys.FAILED, keys.DOCTOR, keys.RESUMPTIONS),
    *(keys.LAST_SWEEP, keys.CATALOG, keys.VIDEOS, "lost+found/", "movies/"),
)
OTHER = new_id(1, 5)
OLD_ID = str(uuid.uuid4())
IDS = (
    *("", "x", "..", "%00", "\x7f", "ünï/☃\U0001f3ac", "١٢٣", "a/" * 100 + "b", "0" * 900, OTHER),
    *(OLD_ID, str(uuid.UUID(int=0)), OTHER.upper(), f"{{{OTHER}}}", OTHER[:-1]),
    "ffffffff-ffff-7fff-bfff-ffffffffffff",
)
ENDINGS = (
    *("", "/", ".0", ".x", ".1", ".01", ".²", ".1000000000", ".orig", ".1.orig", ".info", ".done"),
    *("/0", "/1", "/999999999", "/1000000000", "/x", "/tail.0.0", "/tail.x"),
    *("/video.json", "/status.json", "/results/", "/results/x", "/results/x.y", "/captions/x/y.json"),
    *(f"/results/{OTHER}", f"/results/{OTHER}.1", f"/results/{OTHER}.x", "/r1-0-a/x", "/r-1-0-a/x"),
)
BODIES = (
    *(b"", b"x", b"{}", b"[]", b"null", b"\xff\xfe\x00", b'{"schema_version": 1}', b'"' + b"x" * 200 + b'"'),
    *(b'{"a":' * 20_000, b'{"schema_version": 2, "id": "' + b"x" * 200 + b'"}', b"x" * (1024**2 + 1)),
    b'{"schema_version": 1, "id": 7, "job": [], "attempt": NaN, "retry_after_seconds": 1e400}',
)
AT_ONCE = SweepRules(timedelta(0), timedelta(0))


def _foreign(video_id: str) -> Iterator[tuple[str, bytes]]:
    """Yield keys and bodies at every prefix, and around the objects of a video that exists."""
    names = [*IDS, *(one + ending for one in (OTHER, OLD_ID) for ending in ENDINGS)]
    found = [prefix + name for prefix in PREFIXES for name in names]
    around = (keys.UPLOADS, keys.QUEUE, keys.LEASES, keys.FAILED, keys.VIDEOS)
    found += [f"{prefix}{video_id}{ending}" for prefix in around for ending in (".x", ".²", "x/0", "/x")]
    found += [f"{keys.results_of(video_id)}{name}" for name in ("x", "x.y", OTHER, f"{video_id}.x", "a/b")]
    found += [f"{keys.captions_of(video_id)}{name}.json" for name in ("en", "..", "a/b")]
    for number, key in enumerate(key for key in dict.fromkeys(found) if 0 < len(key.encode()) <= 1024):
        yield key, BODIES[number % len(BODIES)]


@pytest.fixture
def lab() -> Lab:
    return Lab()


async def _strew(lab: Lab, job: Job) -> None:
    for key, body in _foreign(job.id):
        for store in (lab.raw, lab.video):
            await store.create(key, body)
    lab.clock.advance(1)


async def test_worker_finds_and_publishes_its_job(lab: Lab) -> None:
    job = await lab.add_job()
    await _strew(lab, job)
    worker = lab.worker("one")
    for _ in range(30):  # foreign markers with an id of ours take turns with it
        if (claim := await lab.claim(worker)) is not None:
            break

    assert claim is not None
    assert claim.request == job.request
    await worker.renew(claim)
    assert await worker.publish(claim, await lab.write_outputs(claim))
    assert (await read_item(lab.buckets, job.id)).status.status == "done"


async def test_dead_workers_job_is_taken_over(lab: Lab) -> None:
    job = await lab.add_job()
    assert await lab.claim(lab.worker("dead"))
    await _strew(lab, job)
    lab.clock.advance(3600)
    rival = lab.worker("rival")

    claims = [claim for _ in range(30) if (claim := await lab.claim(rival))]

    assert [(claim.request, claim.generation) for claim in claims] == [(job.request, 1)]


async def test_sweep_goes_through_and_leaves_the_video(lab: Lab) -> None:
    job = await lab.add_job()
    await lab.turn(lab.worker("one"))
    await lab.raw.put(keys.probe("x", "y"), b"left by a test")
    await _strew(lab, job)
    lab.clock.advance(10**6)

    report = await sweep(lab.buckets, lab.worker("sweeper"), AT_ONCE)

    assert keys.probe("x", "y") in {finding.key for finding in report.findings}
    assert (await read_item(lab.buckets, job.id)).status.status == "done"


async def test_sweep_queues_a_video_that_foreign_keys_surround(lab: Lab) -> None:
    job = await lab.add_job()
    await lab.raw.delete(keys.marker(job.request))
    await _strew(lab, job)
    lab.clock.advance(10**6)

    await sweep(lab.buckets, lab.worker("sweeper"), AT_ONCE)

    assert Job.from_json((await lab.raw.get(keys.marker(job.request))).body).request == job.request


async def test_job_list_shows_the_jobs(lab: Lab) -> None:
    job = await lab.add_job()
    await _strew(lab, job)

    overview = await list_jobs(lab.buckets)

    queued = [entry.request for entry in overview.jobs if entry.state is JobState.QUEUED]
    assert queued == [job.request]


async def test_library_lists_the_video(lab: Lab) -> None:
    job = await lab.add_job()
    await lab.turn(lab.worker("one"))
    await _strew(lab, job)

    page = await list_videos(lab.buckets, limit=200)

    assert [(item.video.id, item.status.status) for item in page.items] == [(job.id, "done")]
    assert await list_captions(lab.buckets, job.id) == ()


async def test_captions_of_another_language_are_not_shown(lab: Lab) -> None:
    job = await lab.add_job()
    foreign = Captions(language="../x", size_bytes=1, uploaded_at=lab.clock())
    await lab.video.put(keys.captions_record(job.id, "en"), foreign.to_json())

    assert await list_captions(lab.buckets, job.id) == ()


async def test_video_can_be_encoded_again(lab: Lab) -> None:
    job = await lab.add_job()
    await lab.turn(lab.worker("one", keep_originals=True))
    await _strew(lab, job)

    again = await retry_video(lab.buckets, job.id)

    assert again.request == keys.request_name(job.id, 1)
    with pytest.raises(AlreadyQueued):
        await retry_video(lab.buckets, job.id)


async def test_video_can_be_deleted(lab: Lab) -> None:
    job = await lab.add_job()
    await lab.turn(lab.worker("one"))
    await _strew(lab, job)

    await delete_video(lab.buckets, job.id)

    assert not [key for key in await lab.video_keys() if key.startswith(keys.video_prefix(job.id))]


async def test_upload_is_admitted_and_resumes(lab: Lab) -> None:
    job = await lab.add_job()
    await _strew(lab, job)
    rules = UploadRules(10_000, timedelta(days=2), Quota(max_open_uploads=10_000, max_raw_bytes=10**9))
    uploads = ResumableUploads(lab.buckets, lab.buckets, PartBuffers(10**8), rules, lab.clock)
    data = HEAD + bytes(100)
    info = await uploads.create(len(data), FILM)
    await lab.raw.put(keys.upload_state(info.id) + "x", b"foreign")
    await uploads.append(info.id, 0, chunks(data[:50]))

    state = await uploads.append(info.id, 50, chunks(data[50:]))

    assert state.video_id == info.id


@pytest.mark.parametrize("prefix", ["leases0/", "movies/", "queue/!", "queue/-"])
async def test_thousands_of_foreign_keys_do_not_hide_a_job(lab: Lab, prefix: str) -> None:
    for number in range(2500):
        await lab.raw.put(f"{prefix}{number:05}", b"")
    job = await lab.add_job()

    claim = await lab.claimed(lab.worker("one"))

    assert claim.request == job.request


async def test_hundreds_of_unreadable_markers_do_not_hide_a_job(lab: Lab) -> None:
    for number in range(300):
        await lab.raw.put(keys.marker(new_id(number, 1)), b"foreign")
    job = await lab.add_job()
    worker = lab.worker("one")

    claims = [claim for _ in range(3) if (claim := await lab.claim(worker))]

    assert [claim.request for claim in claims] == [job.request]


async def test_marker_of_another_video_is_not_run(lab: Lab) -> None:
    job = await lab.add_job()
    await lab.raw.put(keys.marker(OTHER), job.to_json())
    worker = lab.worker("one")

    claims = [claim for _ in range(3) if (claim := await lab.claim(worker))]

    assert [claim.key for claim in claims] == [keys.lease(job.request, 0)]


async def test_lease_of_another_request_is_not_taken_over(lab: Lab) -> None:
    job = await lab.add_job()
    foreign = Lease(job=job, owner="x", run="r0-0-x", attempt=1)
    await lab.raw.put(keys.lease(OTHER, 0), foreign.to_json())
    lab.clock.advance(3600)

    claim = await lab.claimed(lab.worker("one"))

    assert (claim.key, await lab.claim(lab.worker("two"))) == (keys.lease(job.request, 0), None)


async def test_unreadable_results_do_not_stop_other_jobs(lab: Lab) -> None:
    bad = await lab.add_job()
    assert await lab.claim(lab.worker("dead"))
    await lab.video.put(keys.result(bad.id, bad.request), b"foreign")
    lab.clock.advance(3600)
    good = await lab.add_job()

    claim = await lab.claimed(lab.worker("one"))

    assert claim.request == good.request

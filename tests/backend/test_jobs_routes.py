"""The routes for jobs."""

import httpx

from backend.core import keys
from backend.core.jobs.job_queue import JobQueue
from backend.core.records import Job, StatusError
from backend.core.store.interface import Buckets
from tests.backend.conftest import upload


def _queue(buckets: Buckets) -> JobQueue:
    return JobQueue(buckets, owner="worker-1", lease_seconds=60)


async def _fail(buckets: Buckets, video: str) -> None:
    """Fail the waiting job, as a worker does."""
    queue = _queue(buckets)
    claim = await queue.claim(await queue.poll())
    assert claim is not None
    assert claim.lease.job.id == video
    await queue.bury(claim, StatusError(code="unsupported_media", message="This is not a video."))


async def test_jobs_are_listed_by_state(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    failed = await upload(admin, title="Broken")
    await _fail(buckets, failed)
    queued = await upload(admin, title="Patient")

    overview = (await admin.get("/api/jobs")).json()

    assert overview["counts"] == {"running": 0, "waiting": 0, "queued": 1, "failed": 1, "unreadable": 0}
    assert [(job["state"], job["video_id"], job["title"]) for job in overview["jobs"]] == [
        ("queued", queued, "Patient"),
        ("failed", failed, "Broken"),
    ]
    assert overview["jobs"][1]["error"] == {"code": "unsupported_media", "message": "This is not a video."}


async def test_jobs_can_be_filtered_and_limited(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    await _fail(buckets, await upload(admin))
    queued = [await upload(admin) for _ in range(3)]

    first = (await admin.get("/api/jobs", params={"state": "queued", "limit": 2})).json()
    both = (await admin.get("/api/jobs", params={"state": ["queued", "failed"]})).json()
    unknown = await admin.get("/api/jobs", params={"state": "dancing"})

    assert [job["video_id"] for job in first["jobs"]] == sorted(queued)[:2]
    assert first["counts"]["queued"] == 3
    assert [job["state"] for job in both["jobs"]] == ["queued"] * 3 + ["failed"]
    assert (unknown.status_code, unknown.json()["code"]) == (400, "invalid_request")


async def test_jobs_require_authentication(anyone: httpx.AsyncClient) -> None:
    listed = await anyone.get("/api/jobs")
    retried = await anyone.post("/api/videos/01890000-0000-7000-8000-000000000000/transcodes")

    assert (listed.status_code, retried.status_code) == (401, 401)


async def test_a_failed_video_can_be_queued_again(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    video = await upload(admin)
    await _fail(buckets, video)

    answer = await admin.post(f"/api/videos/{video}/transcodes")

    assert answer.status_code == 202
    assert (answer.json()["stage"], answer.json()["error"]) == ("queued", None)
    (entry,) = (await admin.get("/api/jobs")).json()["jobs"]
    assert (entry["state"], entry["request"]) == ("queued", f"{video}.1")


async def test_transcode_options_are_validated(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    video = await upload(admin)
    await _fail(buckets, video)
    path = f"/api/videos/{video}/transcodes"

    refused = [
        await admin.post(path, json={"crf": 64}),
        await admin.post(path, json={"quality": "best"}),
        await admin.post(path, json=[1]),
    ]
    accepted = await admin.post(path, json={"crf": 20, "cpu_used": 3})

    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [
        (400, "invalid_request")
    ] * 3
    assert accepted.status_code == 202
    job = Job.from_json((await buckets.raw.get(keys.marker(f"{video}.1"))).body)
    assert (job.options.crf, job.options.cpu_used) == (20, 3)


async def test_queued_or_running_video_is_not_queued_again(
    admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    video = await upload(admin)
    path = f"/api/videos/{video}/transcodes"
    waiting = await admin.post(path)
    queue = _queue(buckets)
    assert await queue.claim(await queue.poll()) is not None
    running = await admin.post(path)

    assert [(answer.status_code, answer.json()["code"]) for answer in (waiting, running)] == [
        (409, "already_queued")
    ] * 2


async def test_encoding_again_needs_the_source(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    video = await upload(admin)
    await _fail(buckets, video)
    await buckets.raw.delete(keys.upload(video))

    answer = await admin.post(f"/api/videos/{video}/transcodes")

    assert (answer.status_code, answer.json()["code"]) == (409, "source_gone")


async def test_encoding_an_unknown_video_is_404(admin: httpx.AsyncClient) -> None:
    answers = [
        await admin.post("/api/videos/01890000-0000-7000-8000-000000000000/transcodes"),
        await admin.post("/api/videos/nonsense/transcodes"),
    ]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
        (404, "video_not_found"),
        (400, "invalid_id"),
    ]

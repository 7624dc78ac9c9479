"""Uploads of files that are elsewhere, following and cancelling their jobs, and options of jobs."""

import httpx
import pytest

from backend.core import keys
from backend.core.records import DeadLetter, FetchKind, Job
from backend.core.store.interface import Buckets
from tests.backend.conftest import upload

ADDRESS = "https://93.184.215.14/film.mp4?signature=secret"


async def test_a_file_elsewhere_becomes_a_video_at_once(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    wish = {"crf": 30, "cpu_used": 7, "codecs": ["h264"], "rungs": [720, 360], "keep_original": True}
    answer = await admin.post("/upload/remote", json={"url": ADDRESS, "title": "Film", "transcode": wish})

    assert answer.status_code == 202
    video = answer.json()["id"]
    assert answer.headers["location"] == f"/api/videos/{video}"
    job = Job.from_json((await buckets.raw.get(keys.marker(video, keys.FETCHED))).body)
    assert (job.options.crf, job.options.codecs, job.options.rungs) == (30, ("h264",), (360, 720))
    assert job.original is not None
    assert job.original.keep
    assert job.fetch is not None
    assert (job.fetch.kind, job.fetch.address, job.fetch.titled) == (FetchKind.HTTP, ADDRESS, True)
    shown = (await admin.get(f"/api/videos/{video}")).json()
    assert (shown["title"], shown["size_bytes"]) == ("Film", None)
    assert shown["fetched_from"] == "https://93.184.215.14/film.mp4"


async def test_the_video_of_a_page_becomes_a_video_at_once(
    admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    address = "https://video.example/watch?v=1"
    answer = await admin.post("/download/yt-dlp", json={"url": address, "transcode": {"crf": 30}})

    assert answer.status_code == 202
    video = answer.json()["id"]
    job = Job.from_json((await buckets.raw.get(keys.marker(video, keys.FETCHED))).body)
    assert job.fetch is not None
    assert (job.fetch.kind, job.fetch.address, job.fetch.titled) == (FetchKind.YTDLP, address, False)
    assert job.options.crf == 30


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("file:///etc/passwd", "invalid_address"),
        ("ytsearch:film", "invalid_address"),
        ("ftp://video.example/a.mp4", "invalid_address"),
        ("http://127.0.0.1/watch", "address_refused"),
    ],
)
async def test_only_pages_of_the_internet_are_downloaded_from(
    admin: httpx.AsyncClient, buckets: Buckets, url: str, code: str
) -> None:
    answer = await admin.post("/download/yt-dlp", json={"url": url})

    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert [info async for info in buckets.raw.list_all(keys.QUEUE)] == []


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("ftp://93.184.215.14/film.mp4", FetchKind.FTP),
        ("magnet:?xt=urn:btih:" + "a" * 40, FetchKind.ARIA2),
        ("https://93.184.215.14/film.torrent", FetchKind.ARIA2),
    ],
)
async def test_an_address_says_how_it_is_fetched(
    admin: httpx.AsyncClient, buckets: Buckets, address: str, kind: FetchKind
) -> None:
    video = (await admin.post("/upload/remote", json={"url": address})).json()["id"]

    job = Job.from_json((await buckets.raw.get(keys.marker(video, keys.FETCHED))).body)
    assert job.fetch is not None
    assert job.fetch.kind is kind


async def test_no_answer_shows_the_secrets_of_an_address(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    video = (await admin.post("/upload/remote", json={"url": ADDRESS})).json()["id"]
    await admin.delete(f"/jobs/{video}")

    for path in ("/api/videos", f"/api/videos/{video}", f"/jobs/{video}", "/api/jobs"):
        assert "secret" not in (await admin.get(path)).text
    letter = DeadLetter.from_json((await buckets.video.get(keys.result(video, video))).body)
    assert "secret" not in repr(letter)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_request"),
        ({"url": "file:///etc/passwd"}, "invalid_address"),
        ({"url": "http://user:password@example.org/a.mp4"}, "invalid_address"),
        ({"url": "sftp://example.org/a.mp4"}, "invalid_address"),
        ({"url": "ftp://127.0.0.1/a.mp4"}, "address_refused"),
        ({"url": "http://127.0.0.1/a.mp4"}, "address_refused"),
        ({"url": ADDRESS, "transcode": {"crf": 64}}, "invalid_request"),
        ({"url": ADDRESS, "transcode": {"codecs": []}}, "invalid_request"),
        ({"url": f"http://video.example/{'é' * 2000}"}, "invalid_address"),
        ({"url": ADDRESS, "transcode": {"rungs": [361]}}, "invalid_request"),
        ({"url": ADDRESS, "cookies": "a=b"}, "invalid_request"),
    ],
)
async def test_odd_requests_are_refused(
    admin: httpx.AsyncClient, buckets: Buckets, body: dict[str, object], code: str
) -> None:
    answer = await admin.post("/upload/remote", json=body)

    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert [info async for info in buckets.raw.list_all(keys.QUEUE)] == []


async def test_fetching_and_cancelling_require_authentication(anyone: httpx.AsyncClient) -> None:
    video = "01890000-0000-7000-8000-000000000000"
    answers = [
        await anyone.post("/upload/remote", json={"url": ADDRESS}),
        await anyone.post("/download/yt-dlp", json={"url": ADDRESS}),
        await anyone.delete(f"/jobs/{video}"),
        await anyone.get("/jobs"),
    ]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 401]


async def test_a_job_is_followed_and_cancelled_once(admin: httpx.AsyncClient) -> None:
    video = await upload(admin)
    followed = (await admin.get(f"/jobs/{video}")).json()
    listed = (await admin.get("/jobs", params={"state": "queued"})).json()

    cancelled = await admin.delete(f"/jobs/{video}")
    again = await admin.delete(f"/jobs/{video}")
    unknown = await admin.delete("/jobs/01890000-0000-7000-8000-000000000000")
    after = (await admin.get(f"/jobs/{video}")).json()

    assert set(followed) == {
        *("id", "stage", "progress", "stage_progress", "current_stage_index", "total_stages"),
        *("elapsed_seconds", "estimated_remaining_seconds", "error"),
        *("started_at_unix_ms", "last_update_unix_ms"),
    }
    assert [job["video_id"] for job in listed["jobs"]] == [video]
    assert cancelled.status_code == 204
    assert (again.status_code, again.json()["code"]) == (409, "nothing_to_cancel")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "video_not_found")
    assert (after["stage"], after["error"]) == ("failed", "Somebody cancelled this.")
    assert (await admin.post(f"/api/videos/{video}/transcodes")).status_code == 202


async def test_uploads_choose_codecs_and_rungs(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    answer = await admin.post(
        "/api/videos", content=b"\x1aE\xdf\xa3abc", params={"codecs": "h264", "rungs": "720, 360"}
    )
    refused = await admin.post("/api/videos", content=b"\x1aE\xdf\xa3abc", params={"codecs": "vp9"})

    job = Job.from_json((await buckets.raw.get(keys.marker(answer.json()["id"]))).body)
    assert (job.options.codecs, job.options.rungs) == (("h264",), (360, 720))
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")

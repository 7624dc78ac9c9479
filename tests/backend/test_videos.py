"""Uploads, videos and status over HTTP."""

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest

from backend.core import keys
from backend.core.library.videos import delete_video
from backend.core.records import Chapter, Job, SourceAudio, SourceFile, SourceVideo, Stage, Status
from backend.core.store.interface import Buckets
from tests.backend.conftest import add_published, begin_run, publish, stored_keys, upload

BODY = bytes(range(256)) * 100


async def test_raw_upload_is_stored_and_queued(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    answer = await admin.post("/api/videos", params={"filename": "my film.mp4"}, content=BODY)
    links = answer.json()
    video = links["id"]
    assert links == {
        "id": video,
        "status_url": f"/api/videos/{video}/status",
        "watch_url": f"/watch/{video}",
        "playback_url": f"/api/videos/{video}/playback",
        "download_url": f"/videos/{video}/download",
        "hls_master_url": f"/videos/{video}/hls/master.m3u8",
        "dash_manifest_url": f"/videos/{video}/dash/manifest.mpd",
    }
    job = Job.from_json((await buckets.raw.get(keys.marker(video))).body)
    assert (await buckets.raw.get(job.source)).body == BODY
    assert job.source_size_bytes == len(BODY)
    record = (await admin.get(f"/api/videos/{video}")).json()
    assert (record["title"], record["filename"], record["content_type"]) == (
        "my film",
        "my film.mp4",
        "video/mp4",
    )
    assert record["status"]["status"] == "queued"


@pytest.mark.parametrize("path", ["/api/videos", "/api/upload"])
async def test_upload_options_are_validated(admin: httpx.AsyncClient, buckets: Buckets, path: str) -> None:
    how = {"content": BODY} if path == "/api/videos" else {"files": {"file": BODY}}

    chosen = await admin.post(path, params={"crf": 63, "cpu_used": 0}, **how)
    refused = await admin.post(path, params={"crf": 64}, **how)

    job = Job.from_json((await buckets.raw.get(keys.marker(chosen.json()["id"]))).body)
    assert (job.options.crf, job.options.cpu_used) == (63, 0)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("path", ["/api/upload", "/upload/multipart"])
@pytest.mark.parametrize("title_first", [True, False])
async def test_form_upload_accepts_fields_in_any_order(
    admin: httpx.AsyncClient, buckets: Buckets, path: str, title_first: bool
) -> None:
    title, file = ("title", (None, b"A title")), ("file", ("dir/clip.webm", BODY, "video/webm"))
    answer = await admin.post(path, files=[title, file] if title_first else [file, title])
    assert answer.status_code == 201
    video = answer.json()["id"]
    assert (await buckets.raw.get(keys.upload(video))).body == BODY
    record = (await admin.get(f"/api/videos/{video}")).json()
    assert (record["title"], record["filename"]) == ("A title", "clip.webm")


async def test_form_chunked_anywhere_is_complete_or_rejected(
    admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    body = b"--b\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n" + BODY + b"\r\n--b--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=b"}
    rng = random.Random(1)
    for length in (len(body), 10, 70, 5000, len(body) - 7):
        cuts = sorted(rng.randrange(length + 1) for _ in range(20))
        pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, length], strict=True)]

        async def sent(pieces: list[bytes] = pieces) -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        answer = await admin.post("/api/upload", content=sent(), headers=headers)
        if length == len(body):
            assert (await buckets.raw.get(keys.upload(answer.json()["id"]))).body == BODY
            await delete_video(buckets, answer.json()["id"])
        else:
            assert answer.status_code == 400
        assert await stored_keys(buckets) == []


async def test_rejects_long_text_fields_and_second_files(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    long = await admin.post("/api/upload", files=[("file", b"x"), ("title", (None, b"x" * 5000))])
    two = await admin.post("/api/upload", files=[("file", b"x"), ("file", b"y")])
    many = await admin.post("/api/upload", files=[("t", (None, b"x"))] * 30)
    assert [long.status_code, two.status_code, many.status_code] == [413, 400, 400]
    assert await stored_keys(buckets) == []


async def test_lists_videos_newest_first_in_pages(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    ids = [await upload(admin, title=str(number)) for number in range(5)]
    await buckets.video.delete(keys.video_record(ids[2]))
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(5):
        params = {"limit": "2"} if cursor is None else {"limit": "2", "cursor": cursor}
        page = (await admin.get("/api/videos", params=params)).json()
        seen += [video["id"] for video in page["videos"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert cursor is None
    assert seen == sorted(set(ids) - {ids[2]}, reverse=True)


async def test_page_of_deleted_videos_does_not_end_the_list(
    admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    ids = sorted([await upload(admin) for _ in range(4)])
    for video in ids[1:]:
        await buckets.video.delete(keys.video_record(video))
    page = (await admin.get("/api/videos", params={"limit": 1})).json()
    assert [video["id"] for video in page["videos"]] == ids[:1]


async def test_title_and_visibility_can_be_changed(admin: httpx.AsyncClient) -> None:
    video = await upload(admin)
    answer = await admin.patch(f"/api/videos/{video}", json={"title": "New", "visibility": "public"})
    assert (answer.json()["title"], answer.json()["visibility"]) == ("New", "public")
    assert (await admin.get(f"/api/videos/{video}")).json() == answer.json()


async def test_source_facts_are_known_once_encoded(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    video = await upload(admin)
    before = (await admin.get(f"/api/videos/{video}")).json()
    source = SourceFile(
        container="mov",
        size_bytes=7,
        duration_seconds=30,
        video=SourceVideo(codec="hevc", width=3840, height=2160, fps=29.97, bit_depth=10, hdr="hlg"),
        audio=(SourceAudio(codec="aac", channels=2),),
        recorded_at=datetime(2024, 5, 6, 7, 8, tzinfo=UTC),
    )
    chapter = Chapter(start_seconds=0, end_seconds=12.5, title="Arrival")
    await publish(buckets, video, chapters=[chapter], source=source)

    after = (await admin.get(f"/api/videos/{video}")).json()

    assert (before["source"], before["chapters"]) == (None, [])
    assert after["source"] == source.model_dump(mode="json")
    assert after["chapters"] == [chapter.model_dump(mode="json")]


async def test_delete_leaves_nothing_and_then_responds_404(
    admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    video = await add_published(admin, buckets)
    assert (await admin.delete(f"/api/videos/{video}")).status_code == 204
    assert await stored_keys(buckets) == []
    assert (await admin.delete(f"/api/videos/{video}")).status_code == 404


async def test_interrupted_deletion_can_be_repeated(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    video = await upload(admin)
    await buckets.video.delete(keys.video_record(video))
    assert (await admin.get(f"/api/videos/{video}")).status_code == 404
    assert (await admin.delete(f"/api/videos/{video}")).status_code == 204
    assert await stored_keys(buckets) == []


async def test_published_result_overrides_the_status(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    video = await upload(admin)
    await begin_run(buckets, video, run="r0-0-loser")
    prefix = await publish(buckets, video, run="r0-1-winner")
    status = (await admin.get(f"/api/videos/{video}/status")).json()
    assert (status["status"], status["stage"], status["outputs"]) == ("done", "complete", prefix)


async def test_job_snapshot_has_a_plain_error_message(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    video = await upload(admin)
    queued = Status.from_json((await buckets.video.get(keys.status(video))).body)
    error = {"code": "unsupported_media", "message": "Not a video."}
    failed = queued.replace(stage=Stage.FAILED, status="error", error=error)
    await buckets.video.put(keys.status(video), failed.to_json())
    status = (await admin.get(f"/api/videos/{video}/status")).json()
    job = (await admin.get(f"/jobs/{video}")).json()
    assert status["error"] == error
    assert job == {**{name: status[name] for name in job}, "error": "Not a video."}


async def test_unreadable_record_does_not_hide_other_videos(
    admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    readable, newer = await upload(admin), await upload(admin)
    await buckets.video.put(keys.video_record(newer), b'{"schema_version": 2}')

    videos = (await admin.get("/api/videos")).json()["videos"]

    assert [video["id"] for video in videos] == [readable]


@pytest.mark.parametrize(("title", "kept"), [(" a\nb\u202e ", "ab"), ("\n", None)])
async def test_new_title_is_cleaned(admin: httpx.AsyncClient, title: str, kept: str | None) -> None:
    video = await upload(admin)
    answer = await admin.patch(f"/api/videos/{video}", json={"title": title})
    assert (answer.json().get("title"), answer.status_code) == (kept, 200 if kept else 400)


async def test_webm_is_not_ready_before_publication(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    video = await upload(admin)
    await begin_run(buckets, video)
    answer = await admin.get(f"/videos/{video}/download")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_ready")

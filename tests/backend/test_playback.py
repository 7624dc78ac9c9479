"""Playback links open the granted video's current run, and nothing else."""

from datetime import UTC, datetime
from unittest.mock import AsyncMock
from urllib.parse import unquote, urlsplit

import httpx
import pytest
from litestar import Litestar
from structlog.testing import capture_logs

from backend.core import keys
from backend.core.errors import StoreUnavailable
from backend.core.library.videos import delete_video
from backend.core.records import Chapter, SourceFile
from backend.core.store.interface import Buckets, PresignedGet
from backend.playback.index import IN_PROGRESS_SECONDS, PUBLISHED_SECONDS, PlaybackIndex
from backend.web.access_log import AccessLog
from backend.web.attempts import BY_ADDRESS
from tests.backend.conftest import Clock, begin_run, links_of, publish, upload


async def published(admin: httpx.AsyncClient, buckets: Buckets, **query: str) -> tuple[str, str, str]:
    """Return the video, its run's prefix and its playback root."""
    video = await upload(admin, **query)
    prefix = await publish(buckets, video)
    links = await links_of(admin, video)
    return video, prefix, links["hls"].removesuffix("/hls/master.m3u8")


def run_of(prefix: str) -> str:
    return prefix.split("/")[-2]


async def test_published_video_has_all_links(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    video, prefix, root = await published(admin, buckets)
    links = await links_of(admin, video)
    assert links.pop("expires_at").startswith("2027-")
    assert links == {
        "title": "video",
        "presentation": "complete",
        "hls": f"{root}/hls/master.m3u8",
        "dash": f"{root}/dash/manifest.mpd",
        "webm": f"{root}/{run_of(prefix)}/download.webm",
        "mp4": None,
        "poster": f"{root}/{run_of(prefix)}/poster.jpg",
        "storyboard": None,
        "captions": [],
        "chapters": [],
    }


async def test_video_in_progress_has_links_only_to_existing_files(
    admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    video = await upload(admin)
    await begin_run(buckets, video)
    links = await links_of(admin, video)
    assert (links["presentation"], links["webm"], links["poster"]) == ("growing", None, None)
    manifest = await admin.get(links["hls"], follow_redirects=True)
    assert b"in progress" in manifest.content
    assert manifest.headers["cache-control"] == "private, no-cache"


async def test_first_look_is_named_so(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    video = await upload(admin)
    await begin_run(buckets, video, keys.look_name(video, "abc"))
    assert (await links_of(admin, video))["presentation"] == "first_look"


async def test_public_video_needs_no_authentication(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    video, _, _ = await published(admin, buckets)
    await admin.patch(f"/api/videos/{video}", json={"visibility": "public"})
    assert (await anyone.get(f"/api/videos/{video}/playback")).status_code == 200
    assert (await anyone.get(f"/videos/{video}/hls/master.m3u8")).status_code == 307


async def test_guests_get_chapters_but_no_source_facts(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    video = await upload(admin, filename="the uploader's own name.mov")
    recorded = datetime(2024, 5, 6, 7, 8, tzinfo=UTC)
    source = SourceFile(container="mov", size_bytes=7, recorded_at=recorded)
    chapter = Chapter(start_seconds=0, end_seconds=12.5, title="Arrival")
    await publish(buckets, video, chapters=[chapter], source=source)
    await admin.patch(f"/api/videos/{video}", json={"visibility": "public"})

    answer = await anyone.get(f"/api/videos/{video}/playback")

    assert answer.json()["chapters"] == [{"start_seconds": 0.0, "end_seconds": 12.5, "title": "Arrival"}]
    assert "mov" not in answer.text
    assert "2024" not in answer.text
    assert (await anyone.get(f"/api/videos/{video}")).status_code == 401


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("hls/master.m3u8", b"#EXTM3U\n", "application/vnd.apple.mpegurl"),
        ("dash/manifest.mpd", b"<MPD/>", "application/dash+xml"),
    ],
)
async def test_manifests_are_served_with_etags(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets, path: str, body: bytes, kind: str
) -> None:
    _, prefix, grant = await published(admin, buckets)
    root = f"{grant}/{run_of(prefix)}"
    answer = await anyone.get(f"{root}/{path}")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, body, kind)
    assert answer.headers["access-control-allow-origin"] == "*"
    etag = answer.headers["etag"]
    for spelling in (etag, f"W/{etag}", f'"other", {etag}'):
        again = await anyone.get(f"{root}/{path}", headers={"if-none-match": spelling})
        assert (again.status_code, again.content) == (304, b"")
    assert (await anyone.get(f"{root}/{path}", headers={"if-none-match": '"other"'})).status_code == 200
    head = await anyone.head(f"{root}/{path}")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(body)), b"")


async def test_redirect_is_cached_for_less_than_the_url_is_valid(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    _, prefix, root = await published(admin, buckets)
    answer = await anyone.get(f"{root}/hls/av1/00001.m4s")
    assert answer.status_code == 307
    assert urlsplit(answer.headers["location"]).path.endswith(f"{prefix}hls/av1/00001.m4s")
    max_age = int(answer.headers["cache-control"].removeprefix("private, max-age="))
    assert 0 < max_age < 900
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_head_of_media_is_not_redirected(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    _, _, root = await published(admin, buckets)
    answer = await anyone.head(f"{root}/download.webm")
    assert answer.status_code == 200
    assert answer.headers["content-length"] == "4"
    assert answer.headers["content-type"] == "video/webm"
    assert answer.headers["accept-ranges"] == "bytes"
    assert (await anyone.head(f"{root}/missing.webm")).status_code == 404


async def test_stable_paths_redirect_to_the_playback_path(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    video, prefix, grant = await published(admin, buckets)
    root = f"{grant}/{run_of(prefix)}"
    wanted = {
        "": f"{root}/download.webm",
        "/download": f"{root}/download.webm?download=1",
        "/hls/av1/00001.m4s": f"{root}/hls/av1/00001.m4s",
        "/dash/manifest.mpd": f"{root}/dash/manifest.mpd",
        "/media/av1/00001.m4s": f"{root}/media/av1/00001.m4s",
    }
    for path, location in wanted.items():
        answer = await admin.get(f"/videos/{video}{path}")
        assert (answer.status_code, answer.headers["location"]) == (307, location)


async def test_an_mp4_is_offered_if_there_is_one(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    plain, _, _ = await published(admin, buckets)
    video = await upload(admin)
    run = run_of(await publish(buckets, video, also={keys.DOWNLOAD_MP4: b"mp4"}))

    links = await links_of(admin, video)
    answer = await admin.get(f"/videos/{video}/download", params={"format": "mp4"})

    assert links["mp4"].endswith(f"/{run}/download.mp4")
    assert (answer.status_code, answer.headers["location"]) == (307, f"{links['mp4']}?download=1")
    assert (await admin.head(links["mp4"])).headers["content-type"] == "video/mp4"
    assert (await links_of(admin, plain))["mp4"] is None
    missing = await admin.get(f"/videos/{plain}/download", params={"format": "mp4"})
    assert (missing.status_code, missing.json()["code"]) == (404, "object_not_found")
    unknown = await admin.get(f"/videos/{plain}/download", params={"format": "avi"})
    assert (unknown.status_code, unknown.json()["code"]) == (400, "invalid_request")


async def test_expired_grant_is_rejected(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets, clock: Clock
) -> None:
    _, _, root = await published(admin, buckets)
    clock.unix += 43_200
    answer = await anyone.get(f"{root}/hls/master.m3u8")
    assert (answer.status_code, answer.json()["code"]) == (403, "grant_rejected")


async def test_altered_grant_is_rejected(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    _, _, root = await published(admin, buckets)
    for position in (6, 20, len(root) - 1):
        other = "A" if root[position] != "A" else "B"
        changed = root[:position] + other + root[position + 1 :]
        assert (await anyone.get(f"{changed}/hls/master.m3u8")).status_code == 403


async def test_download_is_named_after_the_title(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispositions: list[str | None] = []
    presign = buckets.video.presign_get

    def recording(key: str, how: PresignedGet) -> str:
        dispositions.append(how.content_disposition)
        return presign(key, how)

    _, _, root = await published(admin, buckets, title='Größe "1"/2\r\nX: y')
    monkeypatch.setattr(buckets.video, "presign_get", recording)
    await anyone.get(f"{root}/download.webm")
    await anyone.get(f"{root}/download.webm?download=1")
    assert dispositions[0] is None
    disposition = dispositions[1] or ""
    assert disposition.isascii()
    assert disposition.isprintable()
    assert disposition.startswith('attachment; filename="Gr__e _1__2X_ y.webm"; ')
    assert unquote(disposition.partition("filename*=UTF-8''")[2]) == "Größe _1__2X_ y.webm"


async def test_deleted_video_stops_playing(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    video, _, root = await published(admin, buckets)
    assert (await anyone.get(f"{root}/hls/av1/00001.m4s")).status_code == 307
    await admin.delete(f"/api/videos/{video}")
    assert (await anyone.get(f"{root}/hls/av1/00001.m4s")).status_code == 404


async def test_library_links_posters_without_a_redirect(
    admin: httpx.AsyncClient, buckets: Buckets, clock: Clock
) -> None:
    queued = await upload(admin)
    video, prefix, _ = await published(admin, buckets)

    listed = {one["id"]: one["poster"] for one in (await admin.get("/api/videos")).json()["videos"]}

    assert listed[queued] is None
    assert urlsplit(listed[video]).path.endswith(f"{prefix}poster.jpg")
    assert (await admin.get(f"/api/videos/{video}")).json()["poster"] == listed[video]
    clock.unix += 299  # within a third of the URLs' life, the browser has the picture already
    assert (await admin.get(f"/api/videos/{video}")).json()["poster"] == listed[video]


async def test_only_failures_of_players_are_logged(
    app: Litestar, admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    _, _, root = await published(admin, buckets)
    transport = httpx.ASGITransport(AccessLog(app))

    async with httpx.AsyncClient(transport=transport, base_url="http://vod.example") as client:
        with capture_logs() as lines:
            for path in ("hls/master.m3u8", "download.webm", "hls/missing.m3u8"):
                await client.get(f"{root}/{path}", follow_redirects=path.endswith("m3u8"))
            await client.get("/play/forged/hls/master.m3u8")
            await client.get("/api/session")

    assert [(line["path"], line["status"]) for line in lines if line["event"] == "request"] == [
        ("/play/…/r0-0-abc/hls/missing.m3u8", 404),
        ("/play/…/hls/master.m3u8", 403),
        ("/api/session", 401),
    ]


async def test_requests_with_a_query_get_the_same_answers(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    _, prefix, grant = await published(admin, buckets)
    root = f"{grant}/{run_of(prefix)}"

    for path in (
        f"{root}/hls/master.m3u8",
        f"{grant}/hls/master.m3u8",
        f"{root}/hls/av1/00001.m4s",
        f"{root}/hls/missing.m3u8",
        f"{root}/../status.json",
        "/play/forged/hls/master.m3u8",
    ):
        for method in ("GET", "HEAD"):
            plain = await anyone.request(method, path)
            other = await anyone.request(method, f"{path}?x=1")
            assert (other.status_code, other.content) == (plain.status_code, plain.content)
            assert dict(other.headers) == dict(plain.headers)


async def test_pages_of_allowed_origins_may_send_credentials(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    _, prefix, grant = await published(admin, buckets)

    answer = await anyone.get(
        f"{grant}/{run_of(prefix)}/hls/master.m3u8", headers={"origin": "https://friend.example"}
    )

    assert answer.headers["access-control-allow-origin"] == "https://friend.example"
    assert answer.headers["access-control-allow-credentials"] == "true"


@pytest.mark.parametrize("method", ["get", "head"])
async def test_openapi_describes_every_answer_of_players_requests(
    app: Litestar,
    admin: httpx.AsyncClient,
    anyone: httpx.AsyncClient,
    buckets: Buckets,
    method: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    responses = app.openapi_schema.to_schema()["paths"]["/play/{grant}/{path}"][method]["responses"]
    _, prefix, grant = await published(admin, buckets)
    root = f"{grant}/{run_of(prefix)}"
    etag = (await anyone.get(f"{root}/hls/master.m3u8")).headers["etag"]
    paths = (
        f"{root}/hls/master.m3u8",
        f"{root}/dash/manifest.mpd",
        f"{root}/hls/missing.m3u8",
        f"{root}/download.webm",
        f"{grant}/hls/master.m3u8",
        f"{root}/download.webm?download=perhaps",
        "/play/forged/hls/master.m3u8",
    )
    answers = [await anyone.request(method, path) for path in paths]
    answers.append(await anyone.request(method, f"{root}/hls/master.m3u8", headers={"if-none-match": etag}))
    if method == "get":
        webm = f"{root}/download.webm"
        answers += [await admin.get(webm, headers={"range": asked}) for asked in ("bytes=1-", "bytes=999-")]
        wrong = {"authorization": "Bearer wrong"}
        answers += [await anyone.get(webm, headers=wrong) for _ in range(BY_ADDRESS.burst + 1)]
    monkeypatch.setattr(buckets.video, "get", AsyncMock(side_effect=StoreUnavailable))
    answers.append(await anyone.request(method, f"{root}/hls/unread.m3u8"))

    of_get = set() if method == "get" else {206, 416, 429}
    assert {one.status_code for one in answers} == {int(status) for status in responses} - of_get
    for answer in answers:
        described = responses[str(answer.status_code)].get("content", {None: {}})
        kind = answer.headers.get("content-type")
        assert (kind and kind.partition(";")[0]) in described, (str(answer.url), described)
        if answer.status_code >= 400:
            assert described["application/json"]["schema"]["$ref"].endswith("/ErrorBody")
            if method == "get":
                assert set(answer.json()) == {"error", "code"}


class _Ticks:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_other_processes_notice_a_deletion_within_seconds(
    admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    ticks = _Ticks()
    index = PlaybackIndex(buckets, ticks)
    video, prefix, _ = await published(admin, buckets)
    assert (await index.resolve(video)).run == run_of(prefix)
    await delete_video(buckets, video)
    ticks.now = PUBLISHED_SECONDS - 0.1
    assert (await index.resolve(video)).run == run_of(prefix)
    ticks.now = PUBLISHED_SECONDS
    with pytest.raises(Exception, match="no such video"):
        await index.resolve(video)


async def test_playback_switches_to_the_result_within_seconds(
    admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    ticks = _Ticks()
    index = PlaybackIndex(buckets, ticks)
    video = await upload(admin)
    first = await begin_run(buckets, video, run="r0-0-first")
    assert (await index.resolve(video)).run == run_of(first)
    second = await publish(buckets, video, run="r0-1-second")
    ticks.now = IN_PROGRESS_SECONDS
    assert await index.resolve(video) == await index.resolve(video)
    assert (await index.resolve(video)).run == run_of(second)


async def test_status_with_another_videos_prefix_is_not_trusted(
    admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    video, other = await upload(admin), await upload(admin)
    prefix = await begin_run(buckets, other)
    status = await buckets.video.get(keys.status(other))
    forged = status.body.replace(f'"id":"{other}"'.encode(), f'"id":"{video}"'.encode())
    await buckets.video.put(keys.status(video), forged)
    assert prefix.encode() in forged
    answer = await admin.get(f"/videos/{video}/hls/master.m3u8")
    assert answer.status_code == 409

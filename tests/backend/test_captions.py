"""Captions: upload, list and delete them, and get them in players."""

from collections.abc import AsyncIterator

import httpx
import pytest

from backend.core import keys
from backend.core.ids import new_id
from backend.core.library.captions import list_captions
from backend.core.records import CaptionTrack
from backend.core.store.interface import Buckets
from backend.web.caption_conversion import MAX_CAPTIONS_BYTES
from tests.backend.conftest import add_published, begin_run, links_of, publish, stored_keys, upload

SRT = b"1\n00:00:01,000 --> 00:00:02,500\nHello\n"
VTT = b"WEBVTT\n\n00:00:01.000 --> 00:00:02.500\nHello\n"
MASTER = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nav1-360p.m3u8\n"
MPD = b'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period/></MPD>'
MANIFESTS = {keys.MASTER_PLAYLIST: MASTER, keys.DASH_MANIFEST: MPD}
SIGNS = CaptionTrack(path="captions/0-de.vtt", language="de", label="Schilder", forced=True)


async def root_of(admin: httpx.AsyncClient, video: str) -> str:
    links = await links_of(admin, video)
    return str(links["hls"]).removesuffix(f"/{keys.MASTER_PLAYLIST}")


async def _text(buckets: Buckets, video: str) -> bytes:
    """Return the text of the video's only uploaded captions."""
    [captions] = await list_captions(buckets, video)
    key = keys.captions(video, captions.language, captions.token)
    return (await buckets.video.get(key)).body


async def get(client: httpx.AsyncClient, url: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """Get a manifest as players do: by way of the current run."""
    return await client.get(url, headers=headers, follow_redirects=True)


async def test_srt_is_stored_as_webvtt(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    video = await upload(admin)
    answer = await admin.post(
        f"/api/videos/{video}/captions/EN_us", content=SRT, params={"label": "For all "}
    )

    assert answer.status_code == 201, answer.text
    entry = {"language": "en-US", "label": "For all", "forced": False, "source": "upload"}
    assert answer.json() == entry
    assert (await admin.get(f"/api/videos/{video}/captions")).json() == {"captions": [entry]}
    assert await _text(buckets, video) == VTT


async def test_form_upload_can_set_the_label(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    video = await upload(admin)
    answer = await admin.post(
        f"/api/videos/{video}/captions/de", files={"file": ("a.srt", SRT)}, data={"label": "Für alle"}
    )

    assert (answer.status_code, answer.json()["label"]) == (201, "Für alle")
    assert await _text(buckets, video) == VTT


async def test_default_label_is_the_language(admin: httpx.AsyncClient) -> None:
    video = await upload(admin)
    answer = await admin.post(f"/api/videos/{video}/captions/de", content=VTT)

    assert answer.json()["label"] == "Deutsch"


@pytest.mark.parametrize(
    ("language", "body", "status", "code"),
    [
        ("english", VTT, 400, "invalid_language"),
        ("xx", VTT, 400, "invalid_language"),
        ("..", VTT, 405, "method_not_allowed"),
        ("..%2Fen", VTT, 404, "not_found"),
        ("en", b"hello", 400, "invalid_captions"),
        ("en", b"", 400, "empty_upload"),
        ("en", VTT + b"x" * MAX_CAPTIONS_BYTES, 413, "upload_too_large"),
    ],
)
async def test_rejects_invalid_captions(
    admin: httpx.AsyncClient, buckets: Buckets, language: str, body: bytes, status: int, code: str
) -> None:
    video = await upload(admin)
    before = await stored_keys(buckets)
    answer = await admin.post(f"/api/videos/{video}/captions/{language}", content=body)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["error"]
    assert await stored_keys(buckets) == before


async def test_rejects_oversized_captions_without_content_length(admin: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    video = await upload(admin)
    answer = await admin.post(f"/api/videos/{video}/captions/en", content=endless())
    assert (answer.status_code, answer.json()["code"]) == (413, "upload_too_large")


async def test_rejects_a_form_without_a_file(admin: httpx.AsyncClient) -> None:
    video = await upload(admin)
    answer = await admin.post(f"/api/videos/{video}/captions/en", files={"other": ("a.srt", SRT)})
    assert (answer.status_code, answer.json()["code"]) == (400, "missing_file")


async def test_captions_of_an_unknown_video_are_404(admin: httpx.AsyncClient) -> None:
    at = f"/api/videos/{new_id(1, 1)}/captions"
    answers = [await admin.get(at), await admin.post(f"{at}/en", content=VTT)]
    assert [(one.status_code, one.json()["code"]) for one in answers] == [(404, "video_not_found")] * 2


async def test_captions_routes_require_authentication(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    video = await add_published(admin, buckets)
    await admin.patch(f"/api/videos/{video}", json={"visibility": "public"})
    at = f"/api/videos/{video}/captions"
    answers = [
        await anyone.get(at),
        await anyone.post(f"{at}/en", content=VTT),
        await anyone.delete(f"{at}/en"),
    ]
    assert [one.status_code for one in answers] == [401] * 3


async def test_deletes_captions(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    video = await upload(admin)
    await admin.post(f"/api/videos/{video}/captions/en", content=VTT)

    assert (await admin.delete(f"/api/videos/{video}/captions/EN")).status_code == 204
    assert (await admin.get(f"/api/videos/{video}/captions")).json() == {"captions": []}
    assert not [key for key in await stored_keys(buckets) if key.startswith(keys.captions_of(video))]
    again = await admin.delete(f"/api/videos/{video}/captions/en")
    assert (again.status_code, again.json()["code"]) == (404, "captions_not_found")


async def test_playback_lists_uploaded_and_source_captions(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    video = await add_published(admin, buckets, captions=[SIGNS], also={**MANIFESTS, SIGNS.path: VTT})
    await admin.post(f"/api/videos/{video}/captions/en", content=SRT)

    links = (await links_of(admin, video))["captions"]
    assert [{name: one[name] for name in one if name != "url"} for one in links] == [
        {"language": "en", "label": "English", "forced": False, "source": "upload"},
        {"language": "de", "label": "Schilder", "forced": True, "source": "video"},
    ]
    for link in links:
        answer = await get(anyone, link["url"])
        assert (answer.status_code, answer.content) == (200, VTT)
        assert answer.headers["content-type"].startswith("text/vtt")
        assert answer.headers["access-control-allow-origin"] == "*"


async def test_manifests_link_to_captions(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    video = await add_published(admin, buckets, captions=[SIGNS], also={**MANIFESTS, SIGNS.path: VTT})
    await admin.post(f"/api/videos/{video}/captions/en", content=SRT)
    root = await root_of(admin, video)

    master = (await get(anyone, f"{root}/hls/master.m3u8")).text
    mpd = (await get(anyone, f"{root}/dash/manifest.mpd")).text
    [uploaded] = await list_captions(buckets, video)
    for name in (f"en.{uploaded.token}", "0-de"):
        assert f'URI="../captions/{name}.m3u8"' in master
        assert f"<BaseURL>../captions/{name}.vtt</BaseURL>" in mpd
        playlist = await get(anyone, f"{root}/captions/{name}.m3u8")
        assert playlist.headers["content-type"] == "application/vnd.apple.mpegurl"
        assert playlist.text.splitlines()[-3:] == ["#EXTINF:30.000,", f"{name}.vtt", "#EXT-X-ENDLIST"]


async def test_caption_changes_are_visible_at_once(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    video = await add_published(admin, buckets, also=MANIFESTS)
    root = await root_of(admin, video)
    seen = await get(anyone, f"{root}/hls/master.m3u8")
    assert (seen.content, seen.headers["cache-control"]) == (MASTER, "private, no-cache")

    await admin.post(f"/api/videos/{video}/captions/en", content=SRT)
    condition = {"if-none-match": seen.headers["etag"]}
    changed = await get(anyone, f"{root}/hls/master.m3u8", condition)
    assert (changed.status_code, "captions/en." in changed.text) == (200, True)
    condition = {"if-none-match": changed.headers["etag"]}
    assert (await get(anyone, f"{root}/hls/master.m3u8", condition)).status_code == 304
    head = await anyone.head(f"{root}/hls/master.m3u8", follow_redirects=True)
    assert head.headers["content-length"] == str(len(changed.content))

    await admin.delete(f"/api/videos/{video}/captions/en")
    again = await get(anyone, f"{root}/hls/master.m3u8", condition)
    assert (again.status_code, again.content) == (200, MASTER)


async def test_playlists_of_a_growing_video_are_unchanged(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    video = await upload(admin)
    prefix = await begin_run(buckets, video)
    await buckets.video.put(f"{prefix}{keys.MASTER_PLAYLIST}", MASTER)
    await admin.post(f"/api/videos/{video}/captions/en", content=SRT)
    links = await links_of(admin, video)

    assert (await get(anyone, links["hls"])).content == MASTER
    assert (await anyone.get(links["captions"][0]["url"])).content == VTT


async def test_encoding_again_keeps_uploaded_captions(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    video = await upload(admin)
    await admin.post(f"/api/videos/{video}/captions/en", content=SRT)
    await publish(buckets, video, run="r0-1-second", also=MANIFESTS)
    root = await root_of(admin, video)

    assert "captions/en." in (await get(anyone, f"{root}/hls/master.m3u8")).text


@pytest.mark.parametrize(
    "path", ["captions/en.json", "captions/de.vtt", "captions/de.m3u8", "captions/.m3u8"]
)
async def test_grant_opens_only_captions_of_its_video(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets, path: str
) -> None:
    video, other = await upload(admin), await upload(admin)
    for one in (video, other):
        await publish(buckets, one, also=MANIFESTS)
    await admin.post(f"/api/videos/{video}/captions/en", content=SRT)
    await admin.post(f"/api/videos/{other}/captions/de", content=SRT)

    answer = await anyone.head(f"{await root_of(admin, video)}/{path}", follow_redirects=True)
    assert answer.status_code == 404


async def test_playback_links_the_storyboard_once_it_exists(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    video = await upload(admin)
    cues = b"WEBVTT\n\n00:00.000 --> 00:02.000\n001.jpg#xywh=0,0,160,90\n"
    await publish(buckets, video, also={keys.STORYBOARD: cues, "storyboard/001.jpg": b"jpeg"})

    storyboard = (await links_of(admin, video))["storyboard"]
    assert (await get(anyone, storyboard)).content == cues
    sheet = await anyone.get(storyboard.replace("storyboard.vtt", "001.jpg"))
    assert (
        sheet.status_code,
        sheet.headers["location"].partition("?")[0].endswith("/storyboard/001.jpg"),
    ) == (
        307,
        True,
    )

"""Slugs over HTTP: they stand for the video's id, and unknown ones get the answers of unknown ids."""

import httpx
import pytest

from backend.core.ids import new_id
from backend.core.store.interface import Buckets
from tests.backend.conftest import Clock, add_published, links_of, upload


async def test_a_slug_stands_for_the_id(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    video = await add_published(admin, buckets)

    changed = await admin.patch(f"/api/videos/{video}", json={"slug": "spring-2027"})

    assert (changed.status_code, changed.json()["slug"]) == (200, "spring-2027")
    for path in ("", "/status", "/playback"):
        by_id, by_slug = [await admin.get(f"/api/videos/{name}{path}") for name in (video, "spring-2027")]
        assert (by_slug.status_code, by_slug.content) == (200, by_id.content)
    for path in ("", "/download", "/poster.jpg", "/hls/master.m3u8", "/dash/manifest.mpd"):
        by_id, by_slug = [await admin.get(f"/videos/{name}{path}") for name in (video, "spring-2027")]
        assert by_slug.status_code == 307
        assert by_slug.headers["location"] == by_id.headers["location"]
    known = await admin.get("/hls/spring-2027/index.m3u8")
    assert known.headers["location"].endswith("/r0-0-abc/hls/master.m3u8")
    assert (await admin.get(known.headers["location"])).text.startswith("#EXTM3U")


async def test_a_former_slug_is_unknown_at_once_and_free(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    one, two = await add_published(admin, buckets), await upload(admin)
    await admin.patch(f"/api/videos/{one}", json={"slug": "spring"})
    taken = await admin.patch(f"/api/videos/{two}", json={"slug": "spring", "title": "other"})
    assert (taken.status_code, taken.json()["code"]) == (409, "slug_taken")
    assert (await admin.get(f"/api/videos/{two}")).json()["title"] == "video"
    assert (await admin.get("/api/videos/spring")).json()["id"] == one

    assert (await admin.patch(f"/api/videos/{one}", json={"slug": ""})).json()["slug"] is None
    assert (await admin.get("/api/videos/spring")).status_code == 404
    await admin.patch(f"/api/videos/{two}", json={"slug": "spring"})
    assert (await admin.get("/api/videos/spring")).json()["id"] == two


async def test_guests_learn_nothing_from_slugs(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets, clock: Clock
) -> None:
    video = await add_published(admin, buckets)
    await admin.patch(f"/api/videos/{video}", json={"slug": "secret"})

    names = (new_id(), "unknown", video, "secret")
    answers = {(await anyone.get(f"/api/videos/{name}/playback")).content for name in names}
    assert len(answers) == 1

    await admin.patch(f"/api/videos/{video}", json={"visibility": "public"})
    links = await links_of(anyone, "secret")
    assert (await anyone.get(links["hls"], follow_redirects=True)).status_code == 200
    assert (await anyone.get("/videos/secret/poster.jpg")).status_code == 307
    assert (await anyone.get("/hls/secret/index.m3u8")).status_code == 307


@pytest.mark.parametrize("slug", ["Spring", "a b", "-a", "a/b", "x" * 101, new_id(1_800_000_000_000, 1)])
async def test_what_cannot_be_a_slug_is_refused(admin: httpx.AsyncClient, slug: str) -> None:
    video = await upload(admin)

    refused = await admin.patch(f"/api/videos/{video}", json={"slug": slug})

    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")
    assert "slug" in refused.json()["error"]


async def test_a_name_that_is_neither_id_nor_slug_is_invalid(admin: httpx.AsyncClient) -> None:
    for path in ("/api/videos/No/playback", "/api/videos/a.b", "/videos/A", "/hls/A/index.m3u8"):
        answer = await admin.get(path)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_id")

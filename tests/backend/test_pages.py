"""Pages about a video: who gets them, who may embed them, and what they tell other sites."""

import html
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from backend.core import keys
from backend.core.errors import StoreUnavailable
from backend.core.ids import new_id
from backend.core.records import Outputs, Rendition
from backend.core.settings import ApiSettings
from backend.core.store.interface import Buckets
from tests.backend.conftest import Clock, add_published, api_process
from tests.lab.asgi import client_of
from tests.lab.memory_store import MemoryStore

TITLE = """<b>"Tom & 'Jerry'"</b>"""
PICTURE = Rendition(name="av1-1080p", kind="video", codec="av1", width=1920, height=1080)


@pytest.fixture(autouse=True)
def built(site_dir: Path) -> None:
    site_dir.mkdir(parents=True)
    for name in ("index", "embed"):
        (site_dir / f"{name}.html").write_text(f"<!doctype html><head><title>{name}</title></head><body>")


async def _add(admin: httpx.AsyncClient, buckets: Buckets, **edit: str) -> str:
    video = await add_published(admin, buckets)
    key = keys.result(video, video)
    outputs = Outputs.from_json((await buckets.video.get(key)).body).replace(renditions=(PICTURE,))
    await buckets.video.put(key, outputs.to_json())
    if edit:
        (await admin.patch(f"/api/videos/{video}", json=edit)).raise_for_status()
    return video


async def _code(admin: httpx.AsyncClient, video: str, **fields: Any) -> str:
    made = await admin.post("/api/access-codes", json={"media_items": [{"media_slug": video}], **fields})
    assert made.status_code == 201, made.text
    return str(made.json()["code"])


def _tags(page: str) -> dict[str, str]:
    found = re.findall(r'<meta (?:name|property)="([^"]+)" content="([^"]*)">', page)
    return {name: html.unescape(content) for name, content in found}


def _ancestors(answer: httpx.Response) -> str:
    return answer.headers["content-security-policy"].partition("frame-ancestors ")[2]


async def test_unknown_and_private_videos_look_the_same_to_guests(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    private = await _add(admin, buckets, slug="secret", title="Secret")
    names = (private, "secret", new_id(), "unknown", "Not%20a%20name")

    for page in ("watch", "embed"):
        answers = [await anyone.get(f"/{page}/{name}") for name in names]
        assert {answer.status_code for answer in answers} == {404}
        assert len({answer.content for answer in answers}) == 1
        assert "Secret" not in answers[0].text
        assert (await admin.get(f"/{page}/secret")).status_code == 200
        assert (await admin.get(f"/{page}/unknown")).status_code == 404
    embeds = [
        await anyone.get("/oembed", params={"url": f"http://vod.example/watch/{name}"}) for name in names[:4]
    ]
    assert {(answer.status_code, answer.content) for answer in embeds} == {(404, embeds[0].content)}


async def test_pages_of_public_videos_have_tags_for_link_previews(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    await _add(admin, buckets, visibility="public", slug="spring", title=TITLE)

    answer = await anyone.get("/watch/spring")

    assert answer.status_code == 200
    assert "<b>" not in answer.text
    tags = _tags(answer.text)
    assert tags["og:title"] == tags["twitter:title"] == TITLE
    assert tags["og:url"] == "http://vod.example/watch/spring"
    assert tags["twitter:player"] == tags["og:video:url"] == "http://vod.example/embed/spring"
    assert (tags["og:video:width"], tags["og:video:height"]) == ("640", "360")
    assert (await anyone.get(tags["og:image"])).status_code == 307
    link = re.search(r'type="application/json\+oembed" href="([^"]+)"', answer.text)
    assert link is not None
    assert (await anyone.get(html.unescape(link[1]))).json()["title"] == TITLE
    assert (
        await anyone.get("/watch/spring", headers={"if-none-match": answer.headers["etag"]})
    ).status_code == 304
    assert (await anyone.head("/watch/spring")).status_code == 200


async def test_oembed_gives_a_player_that_fits(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    video = await _add(admin, buckets, visibility="public", title=TITLE)

    async def embed(**query: str) -> dict[str, Any]:
        answer = await anyone.get("/oembed", params={"url": f"http://vod.example/watch/{video}?t=3", **query})
        assert answer.status_code == 200, answer.text
        assert answer.headers["access-control-allow-origin"] == "*"
        found: dict[str, Any] = answer.json()
        return found

    whole = await embed()
    assert (whole["version"], whole["type"], whole["title"]) == ("1.0", "video", TITLE)
    assert (whole["thumbnail_width"], whole["thumbnail_height"]) == (1280, 720)
    assert (await anyone.get(whole["thumbnail_url"])).status_code == 307
    frame = re.fullmatch(
        r'<iframe src="([^"]+)" width="640" height="360" title="([^"]+)" .*></iframe>', whole["html"]
    )
    assert frame is not None
    assert (frame[1], html.unescape(frame[2])) == (f"http://vod.example/embed/{video}", TITLE)
    assert (await anyone.get(frame[1])).status_code == 200
    for query, size in (
        ({"maxwidth": "320"}, (320, 180)),
        ({"maxheight": "90"}, (160, 90)),
        ({"maxwidth": "1", "maxheight": "1"}, (1, 1)),
    ):
        small = await embed(**query)
        assert (small["width"], small["height"]) == size


@pytest.mark.parametrize(
    "url",
    [
        "http://other.example/watch/{}",
        "http://vod.example.evil/watch/{}",
        "ftp://vod.example/watch/{}",
        "http://vod.example/api/videos/{}",
        "http://vod.example/watch/{}/x",
        "http://[vod.example/watch/{}",
        "/watch/{}",
        "",
    ],
)
async def test_oembed_is_for_pages_of_videos_here(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets, url: str
) -> None:
    video = await _add(admin, buckets, visibility="public")
    answer = await anyone.get("/oembed", params={"url": url.format(video)})
    assert (answer.status_code, answer.json()["code"]) == (404, "video_not_found")


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("format=xml", 501, "format_not_offered"),
        ("maxwidth=0", 400, "invalid_request"),
        ("maxwidth=1&maxwidth=2", 400, "invalid_request"),
        ("maxheight=x", 400, "invalid_request"),
    ],
)
async def test_what_oembed_cannot_answer_is_an_error(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets, query: str, status: int, code: str
) -> None:
    video = await _add(admin, buckets, visibility="public")
    answer = await anyone.get(f"/oembed?url=http://vod.example/watch/{video}&{query}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_an_access_code_opens_the_player_where_it_says(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    video, other = await _add(admin, buckets, title="Secret"), await _add(admin, buckets)
    here = await _code(admin, video, frame_ancestors=["https://friend.example"])
    anywhere = await _code(admin, video)
    guarded = await _code(admin, video, passphrase="open sesame", frame_ancestors=[])

    def page(name: str, code: str) -> str:
        return f"/{name}/{video}?access_code={code}"

    answers = {code: await anyone.get(page("embed", code)) for code in (here, anywhere, guarded)}
    assert [answer.status_code for answer in answers.values()] == [200, 200, 200]
    assert [_ancestors(answer) for answer in answers.values()] == ["https://friend.example", "*", "'none'"]
    assert _tags((await anyone.get(page("watch", here))).text) == {}
    assert (await anyone.get(f"/embed/{other}?access_code={here}")).status_code == 404
    assert (await anyone.get(page("embed", "wrong-code"))).status_code == 404

    link = f"http://vod.example{page('watch', anywhere)}"
    embed = (await anyone.get(f"/oembed?url={quote(link, safe='')}")).json()
    assert f'src="http://vod.example{page("embed", anywhere)}"' in embed["html"]
    assert (await anyone.get(embed["thumbnail_url"])).status_code == 307
    for code, expected in ((guarded, "passphrase_required"), ("wrong-code", "access_code_rejected")):
        refused = await anyone.get("/oembed", params={"url": f"http://vod.example{page('watch', code)}"})
        assert (refused.status_code, refused.json()["code"]) == (403, expected)


async def test_only_the_player_may_be_embedded_and_only_by_listed_origins(
    settings: ApiSettings, buckets: Buckets, clock: Clock
) -> None:
    for origins, allowed in (
        (("*",), "*"),
        ((), "'none'"),
        (("https://a.example", "http://b.example:8080"), "https://a.example http://b.example:8080"),
    ):
        chosen = settings.model_copy(update={"embed_origins": origins})
        async with api_process(chosen, buckets, clock) as app, client_of(app, "http://vod.example") as client:
            assert _ancestors(await client.get("/embed/unknown")) == allowed
            for path in ("/", "/watch/unknown", "/login", "/embed.html", "/watch", "/watch/a/b"):
                assert _ancestors(await client.get(path)) == "'none'"


async def test_addresses_are_those_that_a_proxy_offers(
    settings: ApiSettings, buckets: Buckets, clock: Clock, admin: httpx.AsyncClient
) -> None:
    video = await _add(admin, buckets, visibility="public")
    below = settings.model_copy(update={"root_path": "/vod"})
    async with api_process(below, buckets, clock) as app, client_of(app, "https://vod.example") as client:
        for root in ("", "/vod"):  # a proxy may remove the path
            page = await client.get(f"{root}/watch/{video}")
            assert '<base href="/vod/">' in page.text
            tags = _tags(page.text)
            assert tags["og:url"] == f"https://vod.example/vod/watch/{video}"
            assert tags["og:video:secure_url"] == f"https://vod.example/vod/embed/{video}"
            assert '<base href="/vod/">' in (await client.get(f"{root}/embed/{video}")).text
            embed = await client.get(f"{root}/oembed", params={"url": tags["og:url"]})
            assert f'src="https://vod.example/vod/embed/{video}"' in embed.json()["html"]
            assert (await client.get(tags["og:image"])).headers["location"].startswith("/vod/play/")


async def test_pages_are_served_while_the_store_is_away(
    settings: ApiSettings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away(MemoryStore):
        is_away = False

        async def get(self, key: str) -> Any:
            if self.is_away:
                raise StoreUnavailable
            return await super().get(key)

    video = Away()
    async with (
        api_process(settings, Buckets(raw=MemoryStore(), video=video), clock) as app,
        client_of(app, "http://vod.example") as client,
    ):
        video.is_away = True
        for page in ("watch", "embed"):
            answer = await client.get(f"/{page}/{new_id()}")
            assert answer.status_code == 200
            assert f"<title>{'index' if page == 'watch' else 'embed'}" in answer.text

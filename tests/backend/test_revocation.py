"""Access ends with the right it was given under, in every API process.

The buckets' presigned URLs are not part of this: they live for `PRESIGN_TTL_SECONDS`.
"""

from collections.abc import AsyncIterator

import httpx
import pytest
from litestar import Litestar
from pydantic import SecretStr

from backend.core.access.signing_keys import add_signing_key, retire_signing_keys
from backend.core.settings import ApiSettings
from backend.core.store.interface import Buckets
from backend.playback.rights import CACHED_SECONDS
from backend.web.auth import COOKIE
from tests.backend.conftest import BEARER, TOKEN, Clock, add_published, api_process, links_of
from tests.lab.asgi import client_of

URL = "http://vod.example"


@pytest.fixture
async def elsewhere(
    settings: ApiSettings, buckets: Buckets, clock: Clock
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of another API process, without credentials."""
    async with api_process(settings, buckets, clock) as app, client_of(app, URL) as client:
        yield client


async def _published(admin: httpx.AsyncClient, buckets: Buckets, visibility: str = "private") -> str:
    video = await add_published(admin, buckets)
    await admin.patch(f"/api/videos/{video}", json={"visibility": visibility})
    return video


async def _links(client: httpx.AsyncClient, video: str, headers: dict[str, str] | None = None) -> list[str]:
    """Return the paths of a manifest and a media file."""
    links = await links_of(client, video, headers)
    return [links["hls"], links["webm"]]


async def _plays(client: httpx.AsyncClient, links: list[str]) -> set[str]:
    """Return how a player fares: "plays", or error codes."""
    answers = [await client.get(link) for link in links]
    return {"plays" if one.status_code in (200, 307) else one.json()["code"] for one in answers}


async def _signed_in(client: httpx.AsyncClient) -> dict[str, str]:
    answer = await client.post("/api/session", json={"token": TOKEN})
    assert answer.status_code == 204, answer.text
    client.cookies.clear()
    return {"cookie": f"{COOKIE}={answer.cookies[COOKIE]}"}


async def test_a_guests_links_end_when_the_video_becomes_private(
    admin: httpx.AsyncClient,
    anyone: httpx.AsyncClient,
    elsewhere: httpx.AsyncClient,
    buckets: Buckets,
    clock: Clock,
) -> None:
    video = await _published(admin, buckets, "public")
    links, others = await _links(anyone, video), await _links(admin, video)
    assert await _plays(anyone, links) == await _plays(elsewhere, links) == {"plays"}

    await admin.patch(f"/api/videos/{video}", json={"visibility": "private"})

    assert await _plays(anyone, links) == {"grant_rejected"}
    clock.unix += CACHED_SECONDS
    assert await _plays(elsewhere, links) == {"grant_rejected"}
    assert await _plays(elsewhere, others) == {"plays"}  # the admin may still watch
    await admin.patch(f"/api/videos/{video}", json={"visibility": "public"})
    assert await _plays(anyone, links) == {"plays"}


async def test_links_end_when_the_video_is_deleted(
    admin: httpx.AsyncClient, elsewhere: httpx.AsyncClient, buckets: Buckets, clock: Clock
) -> None:
    video = await _published(admin, buckets)
    links = await _links(admin, video)
    assert await _plays(admin, links) == await _plays(elsewhere, links) == {"plays"}

    await admin.delete(f"/api/videos/{video}")

    assert await _plays(admin, links) == {"object_not_found"}
    clock.unix += CACHED_SECONDS
    assert await _plays(elsewhere, links) == {"object_not_found"}


async def test_signing_out_ends_the_session_and_the_links_given_to_it(
    admin: httpx.AsyncClient,
    anyone: httpx.AsyncClient,
    elsewhere: httpx.AsyncClient,
    buckets: Buckets,
    clock: Clock,
) -> None:
    video = await _published(admin, buckets)
    mine, other = await _signed_in(anyone), await _signed_in(anyone)
    links, others = await _links(anyone, video, mine), await _links(anyone, video, other)
    assert await _plays(anyone, links) == await _plays(elsewhere, links) == {"plays"}
    assert (await elsewhere.get("/api/session", headers=mine)).status_code == 200

    answer = await anyone.delete("/api/session", headers=mine)

    assert answer.status_code == 204
    assert (await anyone.get("/api/session", headers=mine)).status_code == 401
    assert await _plays(anyone, links) == {"grant_rejected"}
    clock.unix += CACHED_SECONDS
    assert (await elsewhere.get("/api/session", headers=mine)).status_code == 401
    assert await _plays(elsewhere, links) == {"grant_rejected"}
    assert (await elsewhere.get("/api/session", headers=other)).status_code == 200
    assert await _plays(elsewhere, others) == {"plays"}


async def test_every_other_browser_can_be_signed_out(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    video = await _published(admin, buckets)
    mine, other = await _signed_in(anyone), await _signed_in(anyone)
    links, others = await _links(anyone, video, mine), await _links(anyone, video, other)

    assert (await anyone.delete("/api/sessions", headers=mine)).status_code == 204

    assert (await anyone.get("/api/session", headers=mine)).status_code == 200
    assert (await anyone.get("/api/session", headers=other)).status_code == 401
    assert await _plays(anyone, links) == {"plays"}
    assert await _plays(anyone, others) == {"grant_rejected"}
    assert (await admin.delete("/api/sessions")).status_code == 204
    assert (await anyone.get("/api/session", headers=mine)).status_code == 401


async def test_a_page_of_another_origin_cannot_sign_anybody_out(anyone: httpx.AsyncClient) -> None:
    mine = await _signed_in(anyone)
    for path in ("/api/session", "/api/sessions"):
        answer = await anyone.delete(path, headers={**mine, "origin": "https://evil.example"})
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    assert (await anyone.get("/api/session", headers=mine)).status_code == 200


async def test_a_session_that_expires_ends_the_links_given_to_it(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets, clock: Clock
) -> None:
    video = await _published(admin, buckets)
    mine = await _signed_in(anyone)
    clock.unix += 2_592_000 - 100
    links = await _links(anyone, video, mine)
    assert await _plays(anyone, links) == {"plays"}

    clock.unix += 100

    assert await _plays(anyone, links) == {"grant_rejected"}


async def test_a_changed_admin_token_ends_sessions_and_links(
    admin: httpx.AsyncClient,
    anyone: httpx.AsyncClient,
    settings: ApiSettings,
    buckets: Buckets,
    clock: Clock,
) -> None:
    video, public = await _published(admin, buckets), await _published(admin, buckets, "public")
    mine = await _signed_in(anyone)
    by_token, by_session = await _links(admin, video), await _links(anyone, video, mine)
    for_guests = await _links(anyone, public)

    changed = settings.model_copy(update={"admin_token": SecretStr("another-token-0123456789")})
    async with api_process(changed, buckets, clock) as app, client_of(app, URL) as client:
        assert (await client.get("/api/session", headers=mine)).status_code == 401
        assert (await client.get("/api/session", headers=BEARER)).status_code == 401
        assert await _plays(client, by_token) == {"grant_rejected"}
        assert await _plays(client, by_session) == {"grant_rejected"}
        assert await _plays(client, for_guests) == {"plays"}


async def test_links_and_sessions_outlive_their_process_but_not_their_signing_key(
    admin: httpx.AsyncClient,
    anyone: httpx.AsyncClient,
    settings: ApiSettings,
    buckets: Buckets,
    clock: Clock,
) -> None:
    video = await _published(admin, buckets)
    mine, links = await _signed_in(anyone), await _links(admin, video)
    await add_signing_key(buckets.video)
    async with api_process(settings, buckets, clock) as app, client_of(app, URL) as client:
        assert await _plays(client, links) == {"plays"}
        assert (await client.get("/api/session", headers=mine)).status_code == 200

    await retire_signing_keys(buckets.video)

    async with api_process(settings, buckets, clock) as app, client_of(app, URL) as client:
        assert await _plays(client, links) == {"grant_rejected"}
        assert (await client.get("/api/session", headers=mine)).status_code == 401


async def test_links_of_guests_and_sessions_differ_and_name_no_secret(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, app: Litestar, buckets: Buckets
) -> None:
    video = await _published(admin, buckets, "public")
    mine, other = await _signed_in(anyone), await _signed_in(anyone)

    links = [
        await _links(anyone, video),
        await _links(admin, video),
        await _links(anyone, video, mine),
        await _links(anyone, video, other),
    ]

    assert len({hls for hls, _ in links}) == 4
    assert await _links(anyone, video) == links[0]  # so that what one guest loads can be cached for others

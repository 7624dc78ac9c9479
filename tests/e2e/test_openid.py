"""A person signs in through a real OpenID Connect provider, uploads, and is out once they are revoked."""

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from backend.core.access.people import People
from backend.core.settings import StoreSettings
from backend.core.store.s3 import open_buckets
from tests.e2e.browser import Visit
from tests.e2e.uploader import MIB, Uploader, film_like, sha256, stored_sha256
from tests.lab.openid import lab_provider
from tests.lab.product import Product, stop
from tests.lab.server import free_port

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("film_upload")]
"""It shares the process, and so the product, of the tests that play the film."""


@pytest.fixture
def server(product: Product, tmp_path: Path) -> Iterator[Product]:
    """An API with the provider, on the buckets of the others."""
    port = free_port()
    provider = lab_provider(tmp_path, f"http://127.0.0.1:{port}")
    with provider.running():
        api = product.start_api(port, **provider.settings, OIDC_ROLE="uploader")
        yield replace(product, port=port)
        stop(api)


def _revoke(product: Product) -> None:
    """Withdraw everybody's access. While a browser runs, no event loop can in this thread."""

    async def revoke() -> None:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in product.environment.items():
                if name not in os.environ:
                    patch.setenv(name, value)
            settings = StoreSettings()
        async with open_buckets(settings) as buckets:
            people = People(buckets.video, lambda: 0.0)
            for person in await people.all():
                await people.revoke(person.id)

    with ThreadPoolExecutor() as thread:
        thread.submit(asyncio.run, revoke()).result()


def test_a_person_of_the_provider_uploads_and_is_out_when_revoked(
    server: Product, context: BrowserContext, tmp_path: Path
) -> None:
    film = film_like(tmp_path / "of Anna.mp4", MIB)
    visit = Visit(context.new_page(), server)
    page = visit.page
    visit.open("/watch/nothing")
    page.get_by_role("link", name="Sign in with Example").click()
    page.get_by_placeholder("Enter any login").fill("anna")
    page.get_by_placeholder("and password").fill("x")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Sign out").wait_for()
    assert page.url == f"{server.url}/watch/nothing", "back where she was"

    visit.open("/")
    uploader = Uploader(visit)
    uploader.choose(film)
    uploader.start()
    video_id = uploader.watch_link()
    assert stored_sha256(server, video_id) == sha256(film)

    _revoke(server)
    visit.until(lambda: page.request.get(f"{server.url}/api/session").status == 401)
    visit.open("/watch/nothing")
    page.get_by_role("link", name="Sign in with Example").click()
    page.get_by_text("Your account has no access here. Ask your administrator.").wait_for()
    assert page.get_by_role("button", name="Sign out").count() == 0
    with server.client() as client:
        client.delete(f"/api/videos/{video_id}").raise_for_status()
    assert visit.script_errors == []

"""The pages show what the server pushes, without asking."""

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, WebSocket

from tests.e2e.browser import Visit
from tests.worker.media_lab import H264, ffmpeg, picture, tone

pytestmark = pytest.mark.heavy


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    ffmpeg(*picture(seconds=20), *tone(20), *H264, "-c:a", "aac", str(path))
    return path


def test_pages_show_progress_that_they_did_not_ask_for(
    visit: Visit, context: BrowserContext, film: Path
) -> None:
    """Requests for the status, and all for the list but the one that shows the new video, fail."""
    told: list[dict[str, Any]] = []
    page = visit.page
    page.on("websocket", lambda socket: _note(socket, told))
    context.route("**/api/videos/*/status", lambda route: route.abort())
    visit.sign_in()
    visit.until(lambda: page.get_by_text("No videos yet").count() or page.locator(".grid a").count())
    video = visit.product.upload(film, title="Pushed")
    card = page.locator(".grid a").filter(has_text="Pushed")
    card.wait_for()
    watching = Visit(context.new_page(), visit.product)
    watching.open(f"/watch/{video}")
    watching.until_playing(120)
    assert watching.page.get_by_text("retrying", exact=False).count() == 0

    watching.page.get_by_role("link", name="Download WebM").wait_for(timeout=120_000)

    page.bring_to_front()
    card.wait_for()
    visit.until(lambda: card.locator(".badge:not(.length)").count() == 0)
    mine = [
        message["status"] for message in told if message.get("id") == video and message["type"] == "video"
    ]
    assert len({status["progress"] for status in mine}) > 1
    context.unroute("**/api/videos/*/status")  # it tells why the events have ended
    with visit.product.client() as client:
        client.delete(f"/api/videos/{video}").raise_for_status()
    watching.page.get_by_role("heading", name="This video was deleted").wait_for()
    assert watching.page.locator("video").count() == 0
    card.wait_for(state="detached")


def _note(socket: WebSocket, told: list[dict[str, Any]]) -> None:
    socket.on("framereceived", lambda data: told.append(json.loads(data)))

"""Captions: uploaded on the watch page, shown by the site's player and by other players."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from tests.e2e.browser import RESULTS, Visit
from tests.e2e.viewer import Viewer
from tests.lab.product import Product

pytestmark = pytest.mark.heavy

WHOLE_FILM = "00:00:00,000 --> 00:00:30,000"
SHOW = {
    "shaka": "label => player.selectTextTrack(player.getTextTracks().find((one) => one.label === label))",
    "hlsjs": "label => { hls.subtitleTrack = hls.subtitleTracks.findIndex((one) => one.name === label) }",
    "dashjs": """label => {
        player.enableText(true);
        player.setCurrentTrack(
            player.getTracksFor('text').find((one) => one.labels.some(({ text }) => text === label)));
    }""",
}
PREVIEWS = "() => document.querySelector('video').ui.getControls().getPlayer().getImageTracks().length"
SHOWN = """() => [...video.textTracks]
    .filter((track) => track.mode === 'showing')
    .flatMap((track) => [...(track.activeCues ?? [])].map((cue) => cue.getCueAsHTML().textContent))"""


@pytest.fixture
def captioned(product: Product, video: str) -> Iterator[str]:
    """The film with French captions during one test."""
    srt = f"1\n{WHOLE_FILM}\nUn lapin & des oiseaux\n"
    with product.client() as client:
        at = f"/api/videos/{video}/captions/fr"
        assert client.post(at, content=srt.encode(), params={"label": "En français"}).status_code == 201
        yield video
        client.delete(at)


def test_captions_can_be_uploaded_shown_and_deleted_on_the_page(
    visit: Visit, video: str, tmp_path: Path
) -> None:
    srt = tmp_path / "film.de.srt"
    srt.write_text(f"1\n{WHOLE_FILM}\nEin Hase & <i>Vögel</i>\n")
    no_captions = tmp_path / "notes.srt"
    no_captions.write_text("These are only notes.")
    visit.sign_in()
    page = visit.page
    visit.open(f"/watch/{video}")
    visit.until_playing()

    page.get_by_label("Captions file (SRT or WebVTT)").set_input_files(no_captions)
    page.get_by_role("button", name="Upload", exact=True).click()
    page.get_by_role("alert").filter(has_text="These are not valid captions").wait_for()
    page.get_by_label("Captions file (SRT or WebVTT)").set_input_files(srt)
    page.get_by_role("button", name="Upload", exact=True).click()
    page.get_by_text("Added German captions.").wait_for()

    page.mouse.move(600, 300)
    page.locator(".shaka-controls-button-panel .shaka-caption-button").click()
    page.locator(".shaka-text-languages").get_by_role("radio", name="Deutsch").click()
    shown = page.locator(".shaka-text-container").get_by_text("Ein Hase & Vögel")
    shown.wait_for()
    RESULTS.mkdir(exist_ok=True)
    page.screenshot(path=RESULTS / "captions.png")

    page.get_by_role("button", name="Delete captions: Deutsch").click()
    page.get_by_text("Deleted “Deutsch”.").wait_for()
    shown.wait_for(state="detached")
    visit.until(lambda: page.locator(".shaka-caption-button:visible").count() == 0)


@pytest.mark.parametrize(
    ("player", "manifest"), [("shaka", "hls"), ("shaka", "dash"), ("hlsjs", "hls"), ("dashjs", "dash")]
)
def test_other_players_find_captions_in_the_manifest(
    product: Product, site: str, captioned: str, context: BrowserContext, player: str, manifest: str
) -> None:
    with product.client() as client:
        playback = client.get(f"/api/videos/{captioned}/playback").json()
    viewer = Viewer(context, site, player)
    viewer.open(product.url + playback[manifest])
    viewer.page.evaluate(SHOW[player], "En français")

    viewer.until(lambda: viewer.page.evaluate(SHOWN) == ["Un lapin & des oiseaux"])
    viewer.until_it_advances(0.5)
    assert viewer.problems() == []


def test_the_storyboard_is_shown_while_seeking(visit: Visit, video: str) -> None:
    visit.sign_in()
    page = visit.page
    visit.open(f"/watch/{video}")
    visit.until_playing()
    # The preview appears when the pointer moves, so the previews must be loaded before it does.
    visit.until(lambda: page.evaluate(PREVIEWS))

    bar = page.locator(".shaka-seek-bar-container").bounding_box()
    assert bar is not None
    with page.expect_response(lambda response: "/storyboard/" in response.url and ".jpg" in response.url):
        page.mouse.move(bar["x"] + bar["width"] / 2, bar["y"] + bar["height"] / 2)
    preview = page.locator(".shaka-player-ui-thumbnail-image")
    preview.wait_for()
    visit.until(lambda: preview.evaluate("image => image.complete && image.naturalWidth") > 0)
    RESULTS.mkdir(exist_ok=True)
    page.screenshot(path=RESULTS / "preview.png")

"""Chapters, forced captions and the details of the original on the watch page."""

from pathlib import Path

import pytest

from tests.e2e.browser import RESULTS, Visit
from tests.worker.media_lab import H264, ffmpeg, picture, tone

pytestmark = pytest.mark.heavy

CHAPTERS = """;FFMETADATA1
[CHAPTER]
TIMEBASE=1/1
START=0
END=6
title=Arrival & departure
[CHAPTER]
TIMEBASE=1/1
START=6
END=10
title=The <harbour>
"""


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Ten seconds with two chapters, and forced captions in the audio language."""
    chapters, signs, film = tmp_path / "chapters.txt", tmp_path / "signs.srt", tmp_path / "film.mkv"
    chapters.write_text(CHAPTERS)
    signs.write_text("1\n00:00:00,000 --> 00:00:10,000\nTo the ships\n")
    ffmpeg(
        *picture(seconds=10),
        *tone(10),
        *("-i", str(signs), "-i", str(chapters)),
        *("-map", "0:v", "-map", "1:a", "-map", "2:s", "-map_chapters", "3"),
        *("-metadata:s:a:0", "language=eng", "-metadata:s:s:0", "language=eng"),
        *("-disposition:s:0", "forced", *H264, "-c:a", "aac", "-c:s", "srt", str(film)),
    )
    return film


def test_chapters_seek_forced_captions_show_and_the_original_is_described(visit: Visit, film: Path) -> None:
    video = visit.product.upload(film, title="Harbour")
    visit.sign_in()
    page = visit.page
    # Opened during encoding. Everything appears without reloading the page.
    visit.open(f"/watch/{video}")

    page.get_by_role("button", name="The <harbour>").click(timeout=120_000)
    visit.until(lambda: 6 <= visit.position() < 9.5)
    page.locator(".shaka-text-container").get_by_text("To the ships").wait_for()
    original = page.get_by_role("region", name="Original")
    assert "H.264, 320 × 180, 24 fps" in original.inner_text()
    page.mouse.move(600, 300)
    page.locator(".shaka-overflow-menu-button").click()
    page.locator(".shaka-overflow-menu .shaka-chapter-button").click()
    page.locator(".shaka-chapters").get_by_text("Arrival & departure").wait_for()

    RESULTS.mkdir(exist_ok=True)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for name, width in {"desktop": 1280, "phone": 390}.items():
            page.set_viewport_size({"width": width, "height": 900})
            page.screenshot(path=RESULTS / f"watch-{scheme}-{name}.png", full_page=True)
            assert page.evaluate("() => document.documentElement.scrollWidth") == width

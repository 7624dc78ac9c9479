"""What a viewer waits for, noted by the page itself: `moments.js` in every page of a browser context."""

from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import BrowserContext, Page

SCRIPT = Path(__file__).with_name("moments.js")


@dataclass(frozen=True, slots=True)
class Moments:
    """Times are in seconds by the page's clock. None: not yet."""

    uploaded: float | None
    first_frame: float | None
    duration_then: float | None
    """The length of the video that the player knew at its first frame."""
    sought: float | None
    seeked: float | None
    """When the latest seek began, and when its first frame was shown."""
    stalls: list[float]
    """The positions at which playback stopped for want of data, other than after a seek or load."""
    loads: int
    """How often media was loaded into the video element."""


def note_moments(context: BrowserContext) -> None:
    """Before pages open."""
    context.add_init_script(path=SCRIPT)


def moments(page: Page) -> Moments:
    found = page.evaluate("() => window.moments")

    def seconds(name: str) -> float | None:
        return None if found[name] is None else found[name] / 1000

    return Moments(
        uploaded=seconds("uploaded"),
        first_frame=seconds("firstFrame"),
        duration_then=found["durationThen"],
        sought=seconds("sought"),
        seeked=seconds("seeked"),
        stalls=found["stalls"],
        loads=found["loads"],
    )

"""What the end-to-end tests do and observe in a browser."""

import shutil
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from playwright.sync_api import ConsoleMessage, Page, Request

from tests.lab.missing import missing
from tests.lab.product import ADMIN_TOKEN, REPOSITORY, Product

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A fake camera and screen, available without a permission prompt.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    # Another host name for the product, under which its pages are not a secure context.
    "--host-resolver-rules=MAP vodbucket.test 127.0.0.1",
)
PATIENCE_SECONDS = 30.0
RESULTS = REPOSITORY / "test-results"


def chromium() -> str:
    """Return the path of the browser. Without one, tests are skipped, or fail in CI."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        missing("no Chromium on the PATH")
    return executable


class Visit:
    """One page of the site. Collects script errors and requests to other hosts."""

    def __init__(self, page: Page, product: Product) -> None:
        self.page = page
        self.product = product
        self.script_errors: list[str] = []
        self.foreign_requests: list[str] = []
        self._own = {urlsplit(product.url).netloc, urlsplit(product.environment["S3_ENDPOINT_URL"]).netloc}
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        page.on("pageerror", lambda error: self.script_errors.append(str(error)))
        page.on("console", self._note_message)
        page.on("request", self._note_request)

    def open(self, path: str) -> None:
        self.page.goto(self.product.url + path)

    def sign_in(self) -> None:
        """Open the link that `make run` prints."""
        self.open(f"/#token={ADMIN_TOKEN}")
        self.page.get_by_role("button", name="Sign out").wait_for()

    def until(self, holds: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
        """Poll until `holds`. The page's content security policy forbids `wait_for_function`'s eval."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, self.page.inner_text("body")
            self.page.wait_for_timeout(50)

    def position(self) -> float:
        """The player's position in seconds, or -1 if there is no player."""
        seconds: float = self.page.evaluate("() => document.querySelector('video')?.currentTime ?? -1")
        return seconds

    def decoded_frames(self) -> int:
        frames: int = self.page.evaluate(
            "() => document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames"
        )
        return frames

    def height(self) -> int:
        pixels: int = self.page.evaluate("() => document.querySelector('video').videoHeight")
        return pixels

    def ready_share(self) -> float:
        """The share of the seek bar that is ready to be watched, once the controls were shown."""
        controls = self.page.locator(".shaka-controls-container")
        return float(controls.evaluate("controls => controls.style.getPropertyValue('--ready')"))

    def seek(self, seconds: float) -> None:
        self.page.evaluate("seconds => { document.querySelector('video').currentTime = seconds }", seconds)

    def until_playing(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait for the first frames, then until the position has advanced by a second."""
        self.until(lambda: self.position() > 0 and self.decoded_frames() > 0, seconds)
        begin = self.position()
        self.until(lambda: self.position() > begin + 1, seconds)

    def _note_message(self, message: ConsoleMessage) -> None:
        # Chromium logs every 4xx. Those are API responses, which the tests check themselves. It also logs
        # each WebSocket that cannot be opened: the page asks for changes then.
        if message.type == "error" and not message.text.startswith(
            ("Failed to load resource", "WebSocket connection to")
        ):
            self.script_errors.append(message.text)

    def _note_request(self, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme in {"http", "https", "ws", "wss"} and url.netloc not in self._own:
            self.foreign_requests.append(request.url)

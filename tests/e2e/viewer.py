"""A viewer on a third-party site: unmodified Shaka Player, hls.js or dash.js on another origin."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import BrowserContext

from tests.e2e.browser import PATIENCE_SECONDS
from tests.lab.product import REPOSITORY
from tests.worker.units.numbered import BITS

PLAYERS = {
    # the package that the site bundles
    "shaka": REPOSITORY / "frontend/node_modules/shaka-player/dist/shaka-player.compiled.js",
    "hlsjs": REPOSITORY / "tests/media/node_modules/hls.js/dist/hls.min.js",
    "dashjs": REPOSITORY / "tests/media/node_modules/dashjs/dist/modern/umd/dash.all.min.js",
}
CODEC_NAMES = {"av1": "av01", "h264": "avc1"}
"""The prefixes of RFC 6381 codec strings."""

VERBS = Path(__file__).parent / "players"

_PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<video muted autoplay width="640" height="360"></video>
<script>
  const video = document.querySelector('video');
  const problems = [];
  const failed = (what) => problems.push(what);
</script>
<script src="player.js"></script><script src="verbs.js"></script>"""


_FRAME_NEAR = """([seconds, tolerance, patience, bits]) => new Promise((found) => {
  video.pause();
  setTimeout(found, patience, [-1, -1]);
  const row = new OffscreenCanvas(video.videoWidth, 1).getContext('2d');
  const number = () => {
    row.drawImage(video, 0, -video.videoHeight / 2);
    const { data } = row.getImageData(0, 0, video.videoWidth, 1);
    const level = (bit) => data[4 * Math.floor(((bit + 0.5) * video.videoWidth) / bits)];
    return [...Array(bits).keys()].reduce((sum, bit) => sum + (level(bit) > 127) * 2 ** bit, 0);
  };
  const shown = (_, { mediaTime }) =>
    Math.abs(mediaTime - seconds) < tolerance
      ? found([mediaTime, number()])
      : video.requestVideoFrameCallback(shown);
  video.requestVideoFrameCallback(shown);
  video.currentTime = seconds;
})"""


class _ForeignSite(BaseHTTPRequestHandler):
    """Serves `/<player>/` and its two scripts."""

    def do_GET(self) -> None:
        player, _, name = self.path.lstrip("/").partition("/")
        kind = "text/javascript" if name else "text/html"
        self.send_response(200)
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write(page_file(player, name))

    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass


def page_file(player: str, name: str) -> bytes:
    """Return what the page `/<player>/<name>` consists of: the page itself, `player.js` or `verbs.js`."""
    if name == "player.js":
        return PLAYERS[player].read_bytes()
    return (VERBS / f"{player}.js").read_bytes() if name else _PAGE.encode()


@contextmanager
def foreign_site() -> Iterator[str]:
    """Yield the URL of a loopback site with one page per player."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _ForeignSite) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class Viewer:
    """One page with one player. Records the renditions it loads, as `av1-720p`, `aac` and so on."""

    def __init__(self, context: BrowserContext, site: str, player: str) -> None:
        self.page = context.new_page()
        self.loaded: list[str] = []
        self.script_errors: list[str] = []
        self.page.set_default_timeout(PATIENCE_SECONDS * 1000)
        self.page.on("pageerror", lambda error: self.script_errors.append(str(error)))
        self.page.on("request", lambda request: self._note(request.url))
        self.page.goto(f"{site}/{player}/")

    def open(self, url: str, codec: str = "") -> None:
        """Start playing, with `codec` only in that codec."""
        prefix = CODEC_NAMES.get(codec, "")
        self.page.evaluate("([url, codec]) => viewer.open(url, codec)", [url, prefix])

    def heights(self, codec: str) -> list[int]:
        """The heights that the player offers in this codec."""
        found: list[int] = self.page.evaluate("codec => viewer.heights(codec)", CODEC_NAMES[codec])
        return found

    def choose(self, codec: str, height: int) -> None:
        self.page.evaluate("([codec, height]) => viewer.choose(codec, height)", [CODEC_NAMES[codec], height])

    def size(self) -> tuple[int, int]:
        width, height = self.page.evaluate("() => [video.videoWidth, video.videoHeight]")
        return width, height

    def position(self) -> float:
        seconds: float = self.page.evaluate("() => video.currentTime")
        return seconds

    def jump(self, seconds: float) -> None:
        """Seek, and wait until it plays from there."""
        self.page.evaluate("seconds => { video.currentTime = seconds }", seconds)
        self.until(lambda: self.position() > seconds)

    def frame_near(self, seconds: float, tolerance: float) -> tuple[float, int]:
        """Pause there, and return the time in the film of the frame that is shown, and its number.

        -1: none is so near. The film is one of `tests.worker.units.numbered`.
        """
        at, number = self.page.evaluate(_FRAME_NEAR, [seconds, tolerance, PATIENCE_SECONDS * 1000, BITS])
        return at, number

    def decoded_frames(self) -> int:
        frames: int = self.page.evaluate("() => video.getVideoPlaybackQuality().totalVideoFrames")
        return frames

    def decoded_sound_bytes(self) -> int:
        found: int = self.page.evaluate("() => video.webkitAudioDecodedByteCount")
        return found

    def ended(self) -> bool:
        found: bool = self.page.evaluate("() => video.ended")
        return found

    def played(self) -> list[list[float]]:
        """The ranges played, each with start and end in seconds. A jump starts a new range."""
        found: list[list[float]] = self.page.evaluate(
            "() => Array.from({ length: video.played.length },"
            " (_, i) => [video.played.start(i), video.played.end(i)])"
        )
        return found

    def problems(self) -> list[str]:
        """Fatal player errors and script errors."""
        found: list[str] = self.page.evaluate("() => problems")
        return [*found, *self.script_errors]

    def until(self, holds: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, (self.position(), self.size(), self.loaded, self.problems())
            self.page.wait_for_timeout(50)

    def until_it_advances(self, seconds: float) -> None:
        """Wait until it has played this long from the current position."""
        begin, frames = self.position(), self.decoded_frames()
        self.until(lambda: self.position() >= begin + seconds and self.decoded_frames() > frames)

    def _note(self, url: str) -> None:
        _, found, path = url.partition("/media/")
        if found and "/play/" in url:
            self.loaded.append(path.partition("/")[0])

"""Watching at once: what a person waits for who uploads a film and watches it, in Chromium.

Times are the page's own, from the last byte that it sent. Store, API, worker and browser share the machine.
The longest film is not encoded to its end: its viewer jumps to 90 % of it. The others are watched to theirs.
"""

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from backend.core.settings import WorkerSettings
from bench.table import print_table
from tests.e2e.browser import FLAGS, Visit, chromium
from tests.e2e.moments import Moments, moments, note_moments
from tests.e2e.uploader import Uploader
from tests.lab.clips import big_buck_bunny
from tests.lab.product import SITE, Product, product_on
from tests.lab.rgw import rgw
from tests.lab.server import free_port
from worker.sandbox.tools import find_tools

CLIP_SECONDS = 30
LENGTHS_SECONDS = (30, 300, 3600)
JUMPED_FROM_SECONDS = 1800
"""Longer films are not watched to the end."""
WATCHED_SECONDS = 20
"""Of a longer film, before and after the jump."""
JUMP_TO = 0.9
TIMES_ITS_LENGTH = 20
"""The slowest encoding that is waited for."""
FILMS = {
    # as phones record: a keyframe a second, stereo, index at the end
    "H.264": ("libx264", "-preset", "veryfast", "-crf", "23", "-g", "30"),
    "HEVC": ("libx265", "-preset", "superfast", "-crf", "26", "-g", "30", "-tag:v", "hvc1"),
}


@dataclass(frozen=True, slots=True)
class _Watched:
    first_frame: float
    knows_length: bool
    jump: float | None
    stalls: int
    loads: int
    done: float | None
    """None: not waited for."""


def bench_watch(films: Sequence[str] = tuple(FILMS), lengths: Sequence[int] = LENGTHS_SECONDS) -> None:
    """Print a row for each film and length."""
    rows = []
    with (
        tempfile.TemporaryDirectory() as directory,
        rgw(Path(directory)) as gateway,
        sync_playwright() as playwright,
    ):
        server, logs = gateway.server, Path(directory)
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        bell = f"127.0.0.1:{free_port()}"
        settings = {"SITE_DIR": str(SITE), "DOORBELLS": bell, "DOORBELL": bell, "WORKER_POLL_SECONDS": "5"}
        with product_on(
            server.endpoint_url, server.access_key, server.secret_key, logs, **settings
        ) as product:
            product.start_api()
            product.start_worker()
            for kind in films:
                clip = _clip(logs / "clip.mp4", FILMS[kind])
                for seconds in lengths:
                    film = _loop(clip, seconds, logs / "film.mp4")
                    row = _row(_watch(browser, product, film, seconds))
                    rows.append([kind, f"{seconds} s", f"{film.stat().st_size / 1e6:.0f} MB", *row])
                    print(" | ".join(rows[-1]), flush=True)
        browser.close()
    header = ["film", "length", "size", "first frame", "length known then", "jump to 90 %", "stalls", "loads"]
    print_table("Upload and watch on one page, from the last byte sent", [*header, "done"], rows)


def _watch(browser: Browser, product: Product, film: Path, seconds: int) -> _Watched:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    note_moments(context)
    visit = Visit(context.new_page(), product)
    page = visit.page
    visit.sign_in()
    uploader = Uploader(visit)
    uploader.choose(film)
    uploader.start()
    page.get_by_role("link", name="Watch", exact=True).click(timeout=600_000)
    visit.until(lambda: moments(page).first_frame is not None, 600)
    seen = moments(page)
    jump = done = None
    if seconds >= JUMPED_FROM_SECONDS:
        visit.until(lambda: visit.position() > WATCHED_SECONDS, 10 * WATCHED_SECONDS)
        visit.seek(seconds * JUMP_TO)
        visit.until(lambda: moments(page).seeked is not None, 600)
        sought = moments(page)
        jump = _between(sought.sought, sought.seeked)
        place = seconds * JUMP_TO + WATCHED_SECONDS
        visit.until(lambda: visit.position() > place, 10 * WATCHED_SECONDS)
    else:
        visit.until(lambda: page.evaluate("() => document.querySelector('video').ended"), 10 * seconds)
    watched = moments(page)
    with product.client() as client:
        address = f"/api/videos/{page.url.rpartition('/')[2]}"
        if jump is None:
            limit = TIMES_ITS_LENGTH * seconds
            visit.until(lambda: client.get(f"{address}/status").json()["status"] == "done", limit)
            done = _between(seen.uploaded, page.evaluate("() => performance.now() / 1000"))
        client.delete(address).raise_for_status()
    context.close()
    return _Watched(
        first_frame=_between(seen.uploaded, seen.first_frame),
        knows_length=_knows(seen, seconds),
        jump=jump,
        stalls=len(watched.stalls),
        loads=watched.loads,
        done=done,
    )


def _row(watched: _Watched) -> list[str]:
    return [
        f"{watched.first_frame:.1f} s",
        "yes" if watched.knows_length else "no",
        "-" if watched.jump is None else f"{watched.jump:.1f} s",
        str(watched.stalls),
        str(watched.loads),
        "-" if watched.done is None else f"{watched.done:.0f} s",
    ]


def _knows(seen: Moments, seconds: int) -> bool:
    # Each repetition is a little longer than its clip: sound comes in whole frames.
    return seen.duration_then is not None and abs(seen.duration_then / seconds - 1) < 0.01


def _between(begin: float | None, end: float | None) -> float:
    assert begin is not None
    assert end is not None
    return end - begin


def _clip(path: Path, encoder: Sequence[str]) -> Path:
    _ffmpeg(
        *("-i", str(big_buck_bunny()), "-vf", "fps=30", "-c:v", *encoder),
        *("-pix_fmt", "yuv420p", "-c:a", "aac", "-ac", "2", "-t", str(CLIP_SECONDS), str(path)),
    )
    return path


def _loop(clip: Path, seconds: int, path: Path) -> Path:
    times = str(seconds // CLIP_SECONDS - 1)
    _ffmpeg("-stream_loop", times, "-i", str(clip), "-c", "copy", str(path))
    return path


def _ffmpeg(*arguments: str) -> None:
    ffmpeg = find_tools(WorkerSettings()).ffmpeg
    subprocess.run([ffmpeg, "-nostdin", "-v", "error", "-y", *arguments], check=True, timeout=1200)

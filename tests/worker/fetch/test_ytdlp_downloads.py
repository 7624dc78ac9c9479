"""Real downloads with yt-dlp from a server on loopback: one that the guard takes for public, and a canary."""

import asyncio
import json
import os
import select
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from backend.core.errors import JobFailure, SourceRejected
from backend.core.records import FetchKind
from backend.core.settings import WorkerSettings
from tests.worker.fetch.file_server import KeptSink, spec
from tests.worker.fetch.listening import listening
from tests.worker.fetch.outside import PUBLIC, guarded, outside
from tests.worker.media_lab import ffmpeg, picture, tone
from worker.fetch.interface import Fetched
from worker.fetch.ytdlp_fetcher import YtdlpFetcher
from worker.sandbox.process import run
from worker.sandbox.tools import find_tools
from worker.sandbox.workspace import sweep_workspaces

pytestmark = pytest.mark.heavy

TOOLS = find_tools(WorkerSettings())
ENCODED = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "24", "-c:a", "aac", "-shortest")

CHAPTERS = ((0, "One; and = more"), (1, "Two"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a film, HLS with sound apart, and pages about them."""
    site = tmp_path_factory.mktemp("site")
    ffmpeg(*picture(), *tone(), *ENCODED, "-movflags", "+faststart", str(site / "film.mp4"))
    hls = ("-f", "hls", "-hls_time", "1", "-hls_playlist_type", "vod", "-master_pl_name", "master.m3u8")
    groups = ("-var_stream_map", "v:0,agroup:sound a:0,agroup:sound,default:yes")
    ffmpeg(*picture(), *tone(), *ENCODED, *hls, *groups, str(site / "%v.m3u8"))
    live = (site / "0.m3u8").read_text()
    (site / "live.m3u8").write_text(
        live.replace("#EXT-X-ENDLIST\n", "").replace("#EXT-X-PLAYLIST-TYPE:VOD\n", "")
    )
    hole = live.replace("01.ts", "missing.ts")
    assert hole != live
    (site / "hole.m3u8").write_text(hole)
    (site / "local.m3u8").write_text(live.replace("01.ts", "file:///etc/hostname"))
    page = "<!doctype html><html><head><title>A film of ours</title></head><body>{}</body></html>"
    (site / "page.html").write_text(page.format("<video src='film.mp4'></video>"))
    (site / "two.html").write_text(page.format("<video src='film.mp4'></video><video src='b.mp4'></video>"))
    clips = [{"@type": "Clip", "name": name, "startOffset": at, "endOffset": at + 1} for at, name in CHAPTERS]
    described = {"@context": "https://schema.org", "@type": "VideoObject", "name": "In parts"}
    described |= {
        "contentUrl": "http://public.example:PORT/film.mp4",
        "description": "Two clips",
        "hasPart": clips,
    }
    (site / "parts.html").write_text(
        page.format(f'<script type="application/ld+json">{json.dumps(described)}</script>')
    )
    (site / "text.html").write_text(page.format("<p>No film</p>"))
    return site


@asynccontextmanager
async def serving(site: Path, *, hangs: bool = False) -> AsyncIterator[int]:
    """Serve the directory. With `hangs`, half of each film is sent, and then nothing more."""
    types = {".html": "text/html", ".mp4": "video/mp4", ".m3u8": "application/vnd.apple.mpegurl"}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, path = head.split()[:2]
        file = site / path.partition("?")[0].lstrip("/")
        body, status = (file.read_bytes(), "200 OK") if file.is_file() else (b"", "404 Not Found")
        if file.suffix == ".html":
            body = body.replace(b"PORT", str(writer.get_extra_info("sockname")[1]).encode())
        kind = types.get(file.suffix, "application/octet-stream")
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        if method == "HEAD":
            return
        if hangs and file.suffix == ".mp4":
            writer.write(body[: len(body) // 2])
            await writer.drain()
            await reader.read()
            return
        writer.write(body)
        await writer.drain()

    async with listening(answer, host=PUBLIC, port=0) as port:
        yield port


async def fetch(work_dir: Path, address: str, sink: KeptSink) -> Fetched:
    fetcher = YtdlpFetcher(guarded(), work_dir, TOOLS.ffmpeg)
    try:
        return await fetcher.fetch(spec(address, FetchKind.YTDLP), sink)
    finally:
        assert list(work_dir.iterdir()) == []


async def probed(directory: Path, sink: KeptSink) -> dict[str, Any]:
    (directory / "got.mkv").write_bytes(sink.stored)
    shown = ("-v", "error", "-of", "json", "-show_streams", "-show_format", "-show_chapters")
    described: dict[str, Any] = json.loads((await run([TOOLS.ffprobe, *shown, directory / "got.mkv"])).stdout)
    return described


async def test_film_of_a_page_arrives_with_its_title(site: Path, tmp_path: Path) -> None:
    sink = KeptSink()

    async with serving(site) as port:
        fetched = await fetch(tmp_path, f"http://public.example:{port}/page.html", sink)

    assert sink.stored == (site / "film.mp4").read_bytes()
    assert fetched.title == "A film of ours"
    assert sink.progressed[-1][0] == len(sink.stored)


async def test_picture_and_sound_of_hls_become_one_file(site: Path, tmp_path: Path) -> None:
    sink = KeptSink()

    async with serving(site) as port:
        await fetch(tmp_path, f"http://public.example:{port}/master.m3u8", sink)

    described = await probed(tmp_path, sink)
    assert [stream["codec_name"] for stream in described["streams"]] == ["h264", "aac"]
    assert float(described["format"]["duration"]) == pytest.approx(2, abs=0.2)


async def test_cookies_are_sent_to_their_site_and_never_written(tmp_path: Path) -> None:
    cookies, work_dir = tmp_path / "cookies.txt", tmp_path / "work"
    work_dir.mkdir()
    lines = [f"{host}\tFALSE\t/\tFALSE\t0\tsession\t{host}" for host in ("public.example", "other.example")]
    cookies.write_text("\n".join(("# Netscape HTTP Cookie File", *lines, "")))
    before = cookies.read_bytes()
    settings = WorkerSettings(ytdlp_cookies_file=cookies)

    async with outside() as net:
        fetcher = YtdlpFetcher(guarded(), work_dir, TOOLS.ffmpeg, cookies=settings.ytdlp_cookies_file)
        wanted = spec(f"http://public.example:{net.port}/nothing.html", FetchKind.YTDLP)
        with pytest.raises(SourceRejected):
            await fetcher.fetch(wanted, KeptSink())

    sent = [
        line for head in net.at_public for line in head.lower().split(b"\r\n") if line.startswith(b"cookie:")
    ]
    assert set(sent) == {b"cookie: session=public.example"}
    assert cookies.read_bytes() == before


async def test_chapters_and_description_are_kept(site: Path, tmp_path: Path) -> None:
    sink = KeptSink()

    async with serving(site) as port:
        fetched = await fetch(tmp_path, f"http://public.example:{port}/parts.html", sink)

    described = await probed(tmp_path, sink)
    chapters = [(float(one["start_time"]), one["tags"]["title"]) for one in described["chapters"]]
    assert chapters == list(CHAPTERS)
    assert [stream["codec_name"] for stream in described["streams"]] == ["h264", "aac"]
    assert (fetched.title, fetched.description) == ("In parts", "Two clips")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("live.m3u8", "ytdlp_live"),
        ("two.html", "ytdlp_playlist"),
        ("text.html", "ytdlp_unsupported"),
        ("nothing.html", "ytdlp_unavailable"),
    ],
)
async def test_what_is_no_single_whole_video_is_refused(
    site: Path, tmp_path: Path, path: str, code: str
) -> None:
    async with serving(site) as port:
        with pytest.raises(SourceRejected) as raised:
            await fetch(tmp_path, f"http://public.example:{port}/{path}", KeptSink())

    assert raised.value.failure_code == code


@pytest.mark.parametrize("path", ["hole.m3u8", "local.m3u8"])
async def test_streams_with_a_hole_are_never_taken(site: Path, tmp_path: Path, path: str) -> None:
    sink = KeptSink()

    async with serving(site) as port:
        with pytest.raises(JobFailure):
            await fetch(tmp_path, f"http://public.example:{port}/{path}", sink)

    assert not sink.begun


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_page_that_leads_to_a_private_address_is_refused(tmp_path: Path, scheme: str) -> None:
    """By a redirect; https goes through CONNECT."""
    async with outside() as net:
        with pytest.raises(SourceRejected) as raised:
            await fetch(tmp_path, net.redirecting(f"{scheme}://127.0.0.1:{net.port}/a.mp4"), KeptSink())

    assert raised.value.failure_code == "address_refused"
    assert len(net.at_public) > 0
    assert net.at_canary == []


@pytest.mark.parametrize("name", ["a.mp4", "a.m3u8"])
async def test_video_at_a_private_address_is_refused(site: Path, tmp_path: Path, name: str) -> None:
    async with outside() as net, serving(tmp_path) as port:
        page = f"<title>A film</title><video src='http://private.example:{net.port}/{name}'></video>"
        (tmp_path / "page.html").write_text(page)
        (tmp_path / "work").mkdir()
        with pytest.raises(SourceRejected) as raised:
            await fetch(tmp_path / "work", f"http://public.example:{port}/page.html", KeptSink())

    assert raised.value.failure_code == "address_refused"
    assert net.at_canary == []


async def test_cancelled_download_leaves_nothing(site: Path, tmp_path: Path) -> None:
    class Waiting(KeptSink):
        arrived = asyncio.Event()

        def progress(self, received_bytes: int, total_bytes: int | None) -> None:
            self.arrived.set()

    sink = Waiting()
    others = set(_children(os.getpid()))  # servers that tests share

    async with serving(site, hangs=True) as port:
        task = asyncio.create_task(fetch(tmp_path, f"http://public.example:{port}/page.html", sink))
        await sink.arrived.wait()
        (child,) = set(_children(os.getpid())) - others
        task.cancel()
        with pytest.raises(asyncio.CancelledError):  # `fetch` has looked into the directory
            await task

    assert not Path(f"/proc/{child}").exists()


async def test_killed_worker_leaves_no_process_and_no_file(site: Path, tmp_path: Path) -> None:
    script = f"""
import asyncio
from pathlib import Path
from backend.core.records import FetchKind
from tests.worker.fetch.file_server import KeptSink, spec
from tests.worker.fetch.test_ytdlp_downloads import fetch

class Shown(KeptSink):
    def progress(self, received, total):
        print("arrived", flush=True)

asyncio.run(fetch(Path({str(tmp_path)!r}), "http://public.example:PORT/page.html", Shown()))
"""
    async with serving(site, hangs=True) as port:
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", script.replace("PORT", str(port))),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
        assert worker.stdout is not None
        assert await worker.stdout.readline() == b"arrived\n"
        (child,) = _children(worker.pid)
        ended = os.pidfd_open(child)
        os.kill(worker.pid, signal.SIGKILL)
        await worker.wait()
        await asyncio.to_thread(select.select, [ended], [], [])
        os.close(ended)

    assert sweep_workspaces(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def _children(parent: int) -> list[int]:
    tasks = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(word) for task in tasks for word in task.read_text().split()]

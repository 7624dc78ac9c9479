"""Fetches the video of a web page: yt-dlp stores it in WORK_DIR, from where it goes into the sink.

Picture and sound that come separately are joined into one file by our ffmpeg, and so are chapters.
"""

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from itertools import zip_longest
from pathlib import Path

import structlog
from pydantic import BaseModel

from backend.core.addresses import parse_address
from backend.core.errors import (
    AttemptFailed,
    BadRequest,
    MachineFault,
    SourceRejected,
    VodbucketError,
    YtdlpMissing,
)
from backend.core.records import FetchSpec
from worker.fetch.guard import Guard
from worker.fetch.interface import Fetched, FetchSink
from worker.fetch.proxy import GuardedProxy
from worker.fetch.ytdlp_child import FOUND
from worker.sandbox.guards import GUARDS, MAX_DURATION_SECONDS
from worker.sandbox.limits import fetching_limits
from worker.sandbox.machine import MIN_FREE_BYTES
from worker.sandbox.process import RunningProcess, running
from worker.sandbox.watchdog import wait_for_success
from worker.sandbox.workspace import workspace

log = structlog.get_logger(__name__)

STALL_SECONDS = 300.0
"""Pages are read, and what is missing is retried, without a word."""
READ_BYTES = 1024**2
CHILD = (sys.executable, "-I", Path(__file__).with_name("ytdlp_child.py"))
ENVIRONMENT = {"YTDLP_NO_PLUGINS": "1"}
"""As in yt-dlp's README, "Plugins"."""

_REJECTED = {
    "playlist": "That address is a playlist; give one video's address.",
    "unsupported": "No video was found at that address.",
    "unavailable": "The site does not give this video to the worker: it may be private, removed, or only for "
    "visitors who are signed in. For these, YTDLP_COOKIES_FILE can help.",
    "live": "Live streams cannot be fetched; wait until it has ended.",
}
_FAILED = {
    "network": ("fetch_broken", "The connection to the site broke."),
    "broken": ("ytdlp_failed", "yt-dlp could not download this video. A newer yt-dlp may."),
}


class Chapter(BaseModel):
    """`start` and `end` in seconds."""

    start: float | None
    end: float | None
    title: str | None


class Found(BaseModel):
    """What yt-dlp knows before it downloads."""

    title: str | None
    description: str | None
    total_bytes: int | None
    chapters: tuple[Chapter, ...]


class Line(BaseModel):
    """What the child prints."""

    received: int | None = None
    total: int | None = None
    found: bool = False
    files: tuple[str, ...] = ()
    failed: str | None = None
    said: str = ""


class YtdlpFetcher:
    """Takes addresses of web pages with one video."""

    def __init__(
        self,
        guard: Guard,
        work_dir: Path,
        ffmpeg: Path,
        *,
        cookies: Path | None = None,
        child: Sequence[str | Path] = CHILD,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._guard = guard
        self._work_dir = work_dir
        self._ffmpeg = ffmpeg
        self._cookies = cookies
        self._child = child
        self._stall_seconds = stall_seconds

    async def fetch(self, spec: FetchSpec, sink: FetchSink) -> Fetched:
        """As `Fetcher.fetch`. An interrupted download starts over."""
        try:
            address = parse_address(spec.address, allow_private=self._guard.allow_private)
        except BadRequest as error:
            raise SourceRejected(error.message, code=error.code) from None
        with workspace(self._work_dir) as directory:
            async with GuardedProxy(self._guard).listening() as proxy:
                with proxy.blamed():
                    files, found = await self._download(address, proxy, directory, spec.max_bytes, sink)
            file = files[0]
            if len(files) > 1 or found.chapters:
                file = await self._joined(files, found.chapters, directory)
            await _pass_on(file, sink)
            name = found.title and f"{found.title}{file.suffix}"
            return Fetched(title=found.title, filename=name, description=found.description)

    async def _download(
        self, address: str, proxy: GuardedProxy, directory: Path, max_bytes: int, sink: FetchSink
    ) -> tuple[list[Path], Found]:
        """Return the files, one or several to be joined, and what they are."""
        request = directory / "request.json"
        request.touch(mode=0o600)
        request.write_text(
            json.dumps(
                {
                    "address": address,
                    "proxy": proxy.address,
                    "proxy_port": proxy.port,
                    "cookies": self._cookies and str(self._cookies.absolute()),
                }
            )
        )
        limits = fetching_limits(max_bytes + READ_BYTES)
        found: Found | None = None
        child = running([*self._child, request], cwd=directory, environment=ENVIRONMENT, limits=limits)
        async with child as process:
            async for line in _lines(process, self._stall_seconds):
                if line.failed is not None:
                    # queries may be secret
                    log.warning("ytdlp_failed", code=line.failed, said=re.sub(r"\?\S+", "?…", line.said))
                    raise _failure(line)
                if line.found:
                    found = Found.model_validate_json((directory / FOUND).read_bytes())
                    _check_room(directory, found, max_bytes)
                if line.received is not None:
                    _check_progress(directory, line.received, max_bytes)
                    sink.progress(line.received, (found and found.total_bytes) or line.total)
                if line.files:
                    # names as such: nothing outside of the directory
                    files = [directory / Path(name).name for name in line.files]
                    if found is None or not all(file.is_file() for file in files):
                        break
                    _check_progress(directory, sum(file.stat().st_size for file in files), max_bytes)
                    return files, found
            await wait_for_success(process, "ytdlp_failed")
        raise AttemptFailed("yt-dlp stored nothing.", code="ytdlp_failed")

    async def _joined(self, files: list[Path], chapters: tuple[Chapter, ...], directory: Path) -> Path:
        """Put the streams of these files, and the chapters, into one file (Matroska takes nearly all)."""
        size = sum(file.stat().st_size for file in files)
        _check_free(directory, size)
        joined, described = directory / "joined.mkv", directory / "chapters.txt"
        described.write_text(_as_metadata(chapters))
        inputs = [
            word for file in files for word in (*GUARDS, "-protocol_whitelist", "file", "-i", f"file:{file}")
        ]
        streams = [
            word for index in range(len(files)) for kind in "Va" for word in ("-map", f"{index}:{kind}?")
        ]
        added = ("-f", "ffmetadata", "-i", f"file:{described}") if chapters else ()
        chosen = ("-map_chapters", str(len(files))) if chapters else ()
        command = (self._ffmpeg, "-nostdin", "-v", "error", *inputs, *added, *streams, *chosen, "-c", "copy")
        limits = fetching_limits(size + READ_BYTES + size // 8)
        async with running((*command, joined), discard_stdout=True, limits=limits) as process:
            await wait_for_success(process, "ytdlp_failed")
        return joined


async def _lines(process: RunningProcess, stall_seconds: float) -> AsyncIterator[Line]:
    """Yield what the child says. Raises: AttemptFailed: nothing for too long, or nonsense."""
    lines = process.lines()
    while True:
        try:
            async with asyncio.timeout(stall_seconds):
                text = await anext(lines, None)
            if text is None:
                return
            line = Line.model_validate_json(text)
        except TimeoutError:
            raise AttemptFailed("The site did not respond in time.", code="fetch_timeout") from None
        except ValueError:  # of pydantic, or a line without end
            raise AttemptFailed("yt-dlp is not understood.", code="ytdlp_failed") from None
        yield line


def _failure(line: Line) -> VodbucketError:
    """Return what to raise."""
    if line.failed == "missing":
        return YtdlpMissing()
    if line.failed in _REJECTED:
        return SourceRejected(_REJECTED[line.failed], code=f"ytdlp_{line.failed}")
    code, sentence = _FAILED.get(line.failed or "", _FAILED["broken"])
    return AttemptFailed(sentence, code=code)


def _check_room(directory: Path, found: Found, max_bytes: int) -> None:
    """Check, before anything is stored, what is known to come."""
    size = found.total_bytes or 0
    if size > max_bytes:
        raise _too_large(max_bytes)
    _check_free(directory, size * 2)  # joined files are stored twice


def _check_progress(directory: Path, size_bytes: int, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        raise _too_large(max_bytes)
    _check_free(directory, 0)


def _check_free(directory: Path, size_bytes: int) -> None:
    """Raises: MachineFault: so many bytes have no room. Another worker may have it."""
    if shutil.disk_usage(directory).free < size_bytes + MIN_FREE_BYTES:
        raise MachineFault(f"WORK_DIR has no room for a video of {size_bytes / 1e6:.0f} MB.")


def _too_large(max_bytes: int) -> SourceRejected:
    return SourceRejected(f"The video is larger than {max_bytes} bytes.", code="fetch_too_large")


def _as_metadata(chapters: Sequence[Chapter]) -> str:
    """Write chapters as ffmpeg reads them (https://ffmpeg.org/ffmpeg-formats.html#Metadata-2)."""
    lines = [";FFMETADATA1"]
    for chapter, following in zip_longest(chapters, chapters[1:]):
        end = chapter.end if chapter.end is not None or following is None else following.start
        if chapter.start is None or end is None or not 0 <= chapter.start < end < MAX_DURATION_SECONDS:
            continue
        title = re.sub(r"([=;#\\\n\r\0])", r"\\\1", chapter.title or "")
        times = (f"START={chapter.start * 1000:.0f}", f"END={end * 1000:.0f}")
        lines += ["[CHAPTER]", "TIMEBASE=1/1000", *times, f"title={title}"]
    return "\n".join((*lines, ""))


async def _pass_on(path: Path, sink: FetchSink) -> None:
    """Write the file into the sink."""
    with path.open("rb") as file:
        await sink.begin(None, os.fstat(file.fileno()).st_size)
        while piece := await asyncio.to_thread(file.read, READ_BYTES):
            await sink.write(piece)

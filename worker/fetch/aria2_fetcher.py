"""Fetches what torrents hold: aria2c stores the file in WORK_DIR, from where it goes into the sink."""

import asyncio
import os
import shutil
import time
from pathlib import Path

from aiohttp import ClientError

from backend.core.addresses import parse_address
from backend.core.errors import AttemptFailed, BadRequest, InvalidAddress, MachineFault, SourceRejected
from backend.core.records import FetchSpec
from worker.fetch.aria2 import Aria2, Aria2Refused, File, Status, running_aria2
from worker.fetch.guard import Guard
from worker.fetch.http_fetcher import HttpFetcher
from worker.fetch.interface import Fetched, FetchSink
from worker.fetch.proxy import GuardedProxy
from worker.sandbox.machine import MIN_FREE_BYTES
from worker.sandbox.workspace import workspace

STALL_SECONDS = 300.0
"""Finding peers can take minutes."""
POLL_SECONDS = 1.0
READ_BYTES = 1024**2
MAX_TORRENT_BYTES = 16 * 1024**2
SLACK_BYTES = 64 * 1024**2
"""A piece of a torrent is written whole, and may reach into the next file."""
FILMS = frozenset(
    (
        *(".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov"),
        *(".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".rm", ".rmvb", ".ts", ".vob", ".webm"),
        *(".wmv", ".wtv"),
    )
)
"""How the names of a torrent's films end."""

_REFUSED = {
    25: ("This is not a torrent.", "fetch_refused"),
    26: ("This is not a torrent.", "fetch_refused"),
    27: ("This is not a magnet link.", "fetch_refused"),
}
_NO_SPACE = {9, 15, 16, 17, 18}
"""EXIT STATUS in aria2c(1)."""


class Aria2Fetcher:
    """Takes magnet links and http addresses of .torrent files. Of several files, the largest video counts."""

    def __init__(
        self,
        guard: Guard,
        work_dir: Path,
        *,
        program: Path | None = None,
        stall_seconds: float = STALL_SECONDS,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        """`program` is found in PATH by default."""
        self._guard = guard
        self._work_dir = work_dir
        self._program = program
        self._stall_seconds = stall_seconds
        self._poll_seconds = poll_seconds

    async def fetch(self, spec: FetchSpec, sink: FetchSink) -> Fetched:
        """As `Fetcher.fetch`. An interrupted download starts over."""
        program = find_aria2c() if self._program is None else self._program
        if program is None:
            raise MachineFault("Torrents need aria2c, which this worker lacks (package aria2).")
        try:
            address = parse_address(spec.address, allow_private=self._guard.allow_private)
        except BadRequest as error:
            raise SourceRejected(error.message, code=error.code) from None
        if address.startswith("ftp"):
            raise SourceRejected(InvalidAddress().message, code=InvalidAddress.code)
        torrent = await self._torrent(spec) if address.startswith("http") else None
        with workspace(self._work_dir) as directory:
            async with GuardedProxy(self._guard).listening() as proxy:
                most = spec.max_bytes + SLACK_BYTES
                async with running_aria2(program, directory, proxy, most) as aria2:
                    try:
                        file = await self._download(aria2, torrent or address, spec.max_bytes, sink)
                    except ClientError as error:
                        raise MachineFault(f"aria2c ended by itself: {error!r}") from None
            if not file.path.resolve().is_relative_to(directory.resolve()):
                raise SourceRejected("This download names a file elsewhere.", code="fetch_refused")
            await _pass_on(file.path, sink)
            return Fetched(filename=file.path.name)

    async def _torrent(self, spec: FetchSpec) -> bytes:
        kept = _Memory()
        await HttpFetcher(self._guard).fetch(spec, kept)
        return bytes(kept.content)

    async def _download(self, aria2: Aria2, source: str | bytes, max_bytes: int, sink: FetchSink) -> File:
        """Return the chosen file once it is complete."""
        try:
            download = await (aria2.add(source) if isinstance(source, str) else aria2.add_torrent(source))
        except Aria2Refused:
            raise SourceRejected("This is not a torrent.", code="fetch_refused") from None
        stalls = _Stalls(self._stall_seconds)
        chosen: File | None = None
        while True:
            status = await aria2.status(download)
            stalls.check(status.completed_length)
            if status.status == "error":
                raise _failure(status)
            if status.followed_by:
                download = status.followed_by[0]
            elif status.status == "paused" and chosen is None:
                chosen = _largest_film(status.files)
                self._check_size(chosen.length, chosen.length, max_bytes)
                await aria2.start(download, chosen)
            elif chosen and status.status == "complete":
                return next(one for one in status.files if one.index == chosen.index)
            elif chosen:  # aria2c counts whole pieces, which may reach into other files
                received = min(status.completed_length, chosen.length)
                self._check_size(chosen.length, chosen.length - received, max_bytes)
                sink.progress(received, chosen.length)
            await asyncio.sleep(self._poll_seconds)

    def _check_size(self, size_bytes: int, missing_bytes: int, max_bytes: int) -> None:
        if size_bytes > max_bytes:
            raise SourceRejected("The file is larger than this server accepts.", code="fetch_too_large")
        if missing_bytes + MIN_FREE_BYTES > shutil.disk_usage(self._work_dir).free:
            raise MachineFault(f"WORK_DIR has no space for a download of {size_bytes / 1e6:.0f} MB.")


class _Stalls:
    """Raises once nothing has arrived for too long."""

    def __init__(self, stall_seconds: float) -> None:
        self._stall_seconds = stall_seconds
        self._received_bytes, self._since = -1, 0.0

    def check(self, received_bytes: int) -> None:
        now = time.monotonic()
        if received_bytes != self._received_bytes:
            self._received_bytes, self._since = received_bytes, now
        elif now - self._since > self._stall_seconds:
            raise AttemptFailed(f"Nothing arrived for {self._stall_seconds:g} s.", code="fetch_timeout")


class _Memory:
    """A sink for a .torrent file."""

    version: str | None = None

    def __init__(self) -> None:
        self.content = bytearray()

    @property
    def position(self) -> int:
        return len(self.content)

    async def begin(self, version: str | None, total_bytes: int | None) -> None:
        self.content.clear()
        self.version = version

    async def write(self, chunk: bytes) -> None:
        self.content += chunk
        if len(self.content) > MAX_TORRENT_BYTES:
            raise SourceRejected("This torrent file is too large.", code="fetch_too_large")

    def progress(self, received_bytes: int, total_bytes: int | None) -> None:
        """It is small."""


async def _pass_on(path: Path, sink: FetchSink) -> None:
    """Give the file to the sink."""
    with path.open("rb") as file:
        await sink.begin(None, file.seek(0, os.SEEK_END))
        file.seek(0)
        while piece := await asyncio.to_thread(file.read, READ_BYTES):
            await sink.write(piece)
    if not sink.position:
        raise SourceRejected("The file at this address is empty.", code="empty_upload")


def find_aria2c() -> Path | None:
    """Return the program, if it is installed."""
    found = shutil.which("aria2c")
    return Path(found) if found else None


def _largest_film(files: tuple[File, ...]) -> File:
    films = [one for one in files if one.path.suffix.lower() in FILMS]
    if not films:
        raise SourceRejected("This torrent has no video.", code="torrent_no_video")
    return max(films, key=lambda film: film.length)


def _failure(status: Status) -> Exception:
    if status.error_code in _REFUSED:
        sentence, code = _REFUSED[status.error_code]
        return SourceRejected(sentence, code=code)
    if status.error_code in _NO_SPACE:
        return MachineFault(f"aria2c cannot store the file (its error {status.error_code}).")
    # its own sentence may hold the address of a tracker, and with it somebody's passkey
    return AttemptFailed(f"The download failed (aria2c's error {status.error_code}).", code="fetch_failed")

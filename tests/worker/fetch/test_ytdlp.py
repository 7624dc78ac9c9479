"""Videos of web pages: what the fetcher makes of what its child says. The child here only says it."""

import io
import json
import sys
from pathlib import Path

import pytest
import yt_dlp  # type: ignore[import-untyped]  # the wheel carries no types
from yt_dlp.networking.common import Response  # type: ignore[import-untyped]
from yt_dlp.networking.exceptions import HTTPError, TransportError  # type: ignore[import-untyped]
from yt_dlp.utils import (  # type: ignore[import-untyped]
    DownloadError,
    ExtractorError,
    GeoRestrictedError,
    UnsupportedError,
    UserNotLive,
)

from backend.core.errors import AttemptFailed, MachineFault, SourceRejected, YtdlpMissing
from backend.core.records import FetchKind, FetchSpec
from tests.worker.fetch.file_server import MAX_BYTES, KeptSink, spec
from worker.fetch.guard import Guard
from worker.fetch.interface import Fetched
from worker.fetch.ytdlp_child import code_of
from worker.fetch.ytdlp_fetcher import CHILD, Chapter, YtdlpFetcher, _as_metadata
from worker.sandbox.process import run

ADDRESS = "https://93.184.215.14/watch?v=1"
FOUND = {"title": "A film", "description": "Two\nlines", "total_bytes": None, "chapters": []}
FILM = b"film" * 1000


def child(
    tmp_path: Path, *lines: dict[str, object], found: dict[str, object] = FOUND, then: str = ""
) -> Path:
    """Write a program that stores a file and says this."""
    said = "".join(f"print({json.dumps(json.dumps(line))}, flush=True)\n" for line in lines)
    program = tmp_path / "child.py"
    program.write_text(
        f"open('found.json', 'w').write({json.dumps(json.dumps(found))})\n"
        f"open('media.mp4', 'wb').write({FILM!r})\n{said}{then}\n"
    )
    return program


async def fetch(
    program: Path, sink: KeptSink, *, stall_seconds: float = 30, max_bytes: int = MAX_BYTES
) -> Fetched:
    """Fetch, and see that nothing is left in WORK_DIR."""
    work_dir = program.parent / "work"
    work_dir.mkdir()
    fetcher = YtdlpFetcher(
        Guard(allow_private=False),
        work_dir,
        Path("/nonexistent/ffmpeg"),
        child=(sys.executable, "-I", program),
        stall_seconds=stall_seconds,
    )
    wanted = FetchSpec(kind=FetchKind.YTDLP, address=ADDRESS, max_bytes=max_bytes)
    try:
        return await fetcher.fetch(wanted, sink)
    finally:
        assert list(work_dir.iterdir()) == []


async def test_file_title_and_description_arrive(tmp_path: Path) -> None:
    sink = KeptSink()

    fetched = await fetch(
        child(
            tmp_path,
            {"found": True},
            {"received": 1000, "total": None},
            {"received": 4000, "total": 4000},
            {"files": ["media.mp4"]},
        ),
        sink,
    )

    assert sink.stored == FILM
    assert sink.progressed == [(1000, None), (4000, 4000)]
    assert fetched == Fetched(title="A film", filename="A film.mp4", description="Two\nlines")


@pytest.mark.parametrize(
    ("failed", "kind", "code"),
    [
        ("playlist", SourceRejected, "ytdlp_playlist"),
        ("unsupported", SourceRejected, "ytdlp_unsupported"),
        ("unavailable", SourceRejected, "ytdlp_unavailable"),
        ("live", SourceRejected, "ytdlp_live"),
        ("network", AttemptFailed, "fetch_broken"),
        ("broken", AttemptFailed, "ytdlp_failed"),
        ("something new", AttemptFailed, "ytdlp_failed"),
    ],
)
async def test_failures_have_codes(
    tmp_path: Path, failed: str, kind: type[SourceRejected | AttemptFailed], code: str
) -> None:
    with pytest.raises(kind) as raised:
        await fetch(child(tmp_path, {"failed": failed, "said": "secret"}), KeptSink())

    assert raised.value.failure_code == code
    assert "secret" not in raised.value.message


async def test_worker_without_ytdlp_leaves_the_job_to_another(tmp_path: Path) -> None:
    with pytest.raises(YtdlpMissing):
        await fetch(child(tmp_path, {"failed": "missing", "said": ""}), KeptSink())


@pytest.mark.parametrize(
    "line", [{"found": True, "received": len(FILM)}, {"found": True, "files": ["media.mp4"]}]
)
async def test_what_is_too_large_is_refused_while_it_arrives(tmp_path: Path, line: dict[str, object]) -> None:
    program = child(tmp_path, line, then="import time; time.sleep(600)")

    with pytest.raises(SourceRejected) as raised:
        await fetch(program, KeptSink(), max_bytes=len(FILM) - 1)

    assert raised.value.failure_code == "fetch_too_large"


async def test_what_is_announced_too_large_is_refused_before_it_arrives(tmp_path: Path) -> None:
    program = child(tmp_path, {"found": True}, found=FOUND | {"total_bytes": MAX_BYTES + 1})

    with pytest.raises(SourceRejected) as raised:
        await fetch(program, KeptSink())

    assert raised.value.failure_code == "fetch_too_large"


async def test_room_is_checked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.fetch.ytdlp_fetcher.MIN_FREE_BYTES", 1 << 60)

    with pytest.raises(MachineFault, match="no room"):
        await fetch(child(tmp_path, {"found": True}), KeptSink())


@pytest.mark.parametrize(
    "files", [["../../etc/passwd"], ["/etc/passwd"], ["nothing.mp4"], [".."]], ids=lambda names: names[0]
)
async def test_names_lead_nowhere_else(tmp_path: Path, files: list[str]) -> None:
    with pytest.raises(AttemptFailed) as raised:
        await fetch(child(tmp_path, {"found": True}, {"files": files}), KeptSink())

    assert raised.value.failure_code == "ytdlp_failed"


@pytest.mark.parametrize("then", ["print('nonsense')", "print('[' * 200000)", "import sys; sys.exit(3)", ""])
async def test_a_child_that_breaks_is_an_attempt_that_failed(tmp_path: Path, then: str) -> None:
    with pytest.raises(AttemptFailed) as raised:
        await fetch(child(tmp_path, {"found": True}, then=then), KeptSink())

    assert raised.value.failure_code == "ytdlp_failed"


async def test_silence_ends(tmp_path: Path) -> None:
    with pytest.raises(AttemptFailed) as raised:
        await fetch(child(tmp_path, then="import time; time.sleep(600)"), KeptSink(), stall_seconds=0.3)

    assert raised.value.failure_code == "fetch_timeout"


async def test_private_addresses_are_refused_before_anything_starts(tmp_path: Path) -> None:
    fetcher = YtdlpFetcher(Guard(allow_private=False), tmp_path, Path(), child=("/nonexistent",))

    with pytest.raises(SourceRejected) as raised:
        await fetcher.fetch(spec("http://127.0.0.1/watch", FetchKind.YTDLP), KeptSink())

    assert raised.value.failure_code == "address_refused"


def test_chapters_are_written_for_ffmpeg() -> None:
    chapters = [
        Chapter(start=0, end=None, title="One; a=b\n[CHAPTER]\r\0"),
        Chapter(start=1.5, end=3, title=None),
        Chapter(start=9, end=3, title="backwards"),
    ]

    assert _as_metadata(chapters) == (
        ";FFMETADATA1\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1500\ntitle=One\\; a\\=b\\\n[CHAPTER]\\\r\\\0\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=1500\nEND=3000\ntitle=\n"
    )


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.create_connection(('127.0.0.1', 9))",
        "socket.create_connection(('93.184.215.14', 80))",
        "socket.getaddrinfo('public.example', 80)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('93.184.215.14', 53))",
        "subprocess.run(['true'])",
        "os.system('true')",
        "os.posix_spawn('/bin/true', ['true'], {})",
    ],
)
async def test_child_is_confined(attempt: str) -> None:
    setup = f"import os, runpy, socket, subprocess; runpy.run_path({str(CHILD[-1])!r})['_confine'](1)"

    done = await run([sys.executable, "-c", f"{setup}\n{attempt}"])

    assert done.stderr.endswith("is not allowed here")


def _http_error(status: int) -> ExtractorError:
    error = HTTPError(Response(io.BytesIO(), "http://public.example/", {}, status))
    return ExtractorError("not fetched", cause=error)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnsupportedError("http://public.example/"), "unsupported"),
        (ExtractorError("No video formats found!", expected=True), "unsupported"),
        (ExtractorError("Private video. Sign in", expected=True), "unavailable"),
        (GeoRestrictedError("not in your country"), "unavailable"),
        (_http_error(403), "unavailable"),
        (_http_error(429), "network"),
        (_http_error(503), "network"),
        (ExtractorError("not fetched", cause=TransportError("reset")), "network"),
        (UserNotLive(), "live"),
        (ExtractorError("Unable to extract player"), "broken"),
        (KeyError("player"), "broken"),
    ],
)
def test_errors_are_told_apart(error: Exception, code: str) -> None:
    """As yt-dlp wraps them."""
    wrapped = DownloadError("ERROR", (type(error), error, None))

    assert [code_of(yt_dlp, error), code_of(yt_dlp, wrapped)] == [code, code]

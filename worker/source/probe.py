"""What a source is, by ffprobe, and whether it is taken at all. An upload is hostile until it passed here."""

import re
from collections import defaultdict

from backend.core.errors import AttemptFailed, SourceRejected
from worker.sandbox.guards import GUARDS
from worker.sandbox.process import CompletedProcess, ProcessTimedOut, run
from worker.sandbox.tools import Tools
from worker.source.duration_limits import StreamEnd
from worker.source.ffprobe_parser import NOT_A_VIDEO, ProbeReport, parse_report, unsupported_codec
from worker.source.media import MediaInfo

__all__ = ["NOT_A_VIDEO", "parse_probe", "probe"]

PROBE_TIMEOUT_SECONDS = 120
TAIL_SECONDS = 3.0
"""How much of a file's end is read to see where its streams end."""

_UNLISTED_CODEC = re.compile(r"Codec \((\w+)\) not on whitelist")
_UNREADABLE = re.compile(
    r"HTTP error|Server returned|Connection (refused|reset|timed out)|Input/output error|"
    r"Cannot allocate memory|Resource temporarily unavailable"
)
"""BackgroundErrors between us and the file, which say nothing about the file."""
_INDEX_MISSING = "moov atom not found"


async def probe(tools: Tools, url: str) -> MediaInfo:
    """Look at the source.

    Raises:
        SourceRejected: it is no video or audio file, a broken one, or one beyond the limits.
        AttemptFailed: ffprobe itself failed or hung.
    """
    shown = ("-show_format", "-show_streams", "-show_chapters", "-of", "json")
    done = await _ffprobe(tools, *shown, url)
    if done.exit_code != 0:
        raise _refusal(done.stderr)
    report = parse_report(done.stdout)
    return report.with_ends(await _ends(tools, url, report)) if report.needs_tail else report.media


def parse_probe(json: bytes) -> MediaInfo:
    """Read ffprobe's JSON. Raises: SourceRejected."""
    return parse_report(json).media


async def _ffprobe(tools: Tools, *arguments: str) -> CompletedProcess:
    try:
        done = await run(
            [tools.ffprobe, "-v", "error", *GUARDS, *arguments], timeout_seconds=PROBE_TIMEOUT_SECONDS
        )
    except ProcessTimedOut as error:
        raise AttemptFailed(str(error), code="probe_timed_out") from error
    if done.exit_code < 0:
        raise AttemptFailed(f"ffprobe was ended by signal {-done.exit_code}", code="probe_crashed")
    return done


def _refusal(stderr: str) -> SourceRejected | AttemptFailed:
    """Tell a broken or foreign file from a fault that another attempt may not meet."""
    if unlisted := _UNLISTED_CODEC.search(stderr):
        return unsupported_codec(unlisted[1])
    if _UNREADABLE.search(stderr):
        return AttemptFailed("The source could not be read.", code="probe_failed")
    if _INDEX_MISSING in stderr:
        return SourceRejected(
            "This file is incomplete: its index is missing. Was it cut off while it was recorded or copied?",
            code="file_incomplete",
        )
    return SourceRejected(NOT_A_VIDEO, code="not_a_video")


async def _ends(tools: Tools, url: str, report: ProbeReport) -> dict[int, float]:
    """Return where the streams end that have packets near the file's end, by the file's own clock."""
    at = max(0.0, report.last_second - TAIL_SECONDS)
    shown = ("-show_entries", "packet=stream_index,pts_time,duration_time", "-of", "csv=p=0")
    done = await _ffprobe(tools, "-read_intervals", f"{at:.3f}%", *shown, url)
    ends: defaultdict[int, StreamEnd] = defaultdict(lambda: StreamEnd(report.last_second))
    for line in done.stdout.decode(errors="replace").splitlines():
        index, _, times = line.partition(",")
        pts, _, duration = times.partition(",")
        try:
            stream, end = int(index), float(pts) + (float(duration) if duration not in {"", "N/A"} else 0.0)
        except ValueError:  # a packet without a time
            continue
        ends[stream].add(end)
    return {stream: end.seconds for stream, end in ends.items() if end.seconds is not None}

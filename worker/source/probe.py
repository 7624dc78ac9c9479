"""Probes a source with ffprobe and decides whether to accept it. An upload is hostile until it passes."""

import re
from collections import defaultdict

from backend.core.errors import AttemptFailed, SourceRejected
from worker.sandbox.guards import GUARDS
from worker.sandbox.process import CompletedProcess, run
from worker.sandbox.tools import Tools
from worker.source.completeness import several_recordings
from worker.source.duration_limits import StreamEnd
from worker.source.ffprobe_parser import NOT_A_VIDEO, ProbeReport, parse_report, unsupported_codec
from worker.source.ffprobe_schema import Report
from worker.source.media import MediaInfo
from worker.source.programmes import changes_midway

TAIL_BYTES = 4 * 1024 * 1024
TAIL_SECONDS = 3.0
"""How much of the file's end is read to find where its streams end."""

_SHOWN = ("-show_format", "-show_streams", "-show_chapters", "-show_programs", "-of", "json")
_UNLISTED_CODEC = re.compile(r"Codec \((\w+)\) not on whitelist")
_UNREADABLE = re.compile(
    r"HTTP error|Server returned|Connection (refused|reset|timed out)|Input/output error|"
    r"Cannot allocate memory|Resource temporarily unavailable"
)
"""Errors on the way to the file, which say nothing about the file."""
_INDEX_MISSING = "moov atom not found"


async def probe(tools: Tools, url: str) -> MediaInfo:
    """Return what the source contains.

    Raises:
        SourceRejected: it is not a video or audio file, is broken, or exceeds the limits.
        AttemptFailed: ffprobe itself failed or hung.
    """
    done = await _ffprobe(tools, *_SHOWN, url)
    if done.exit_code != 0:
        raise _failure(done.stderr)
    report = parse_report(done.stdout)
    if report.media.container == "mpegts":
        await _check_end(tools, url, Report.model_validate_json(done.stdout))
    return report.with_ends(await _ends(tools, url, report)) if report.needs_tail else report.media


async def _check_end(tools: Tools, url: str, beginning: Report) -> None:
    """Raises: SourceRejected: an MPEG-TS ends with other streams than it begins with."""
    size = beginning.format.size
    done = await _ffprobe(tools, *_SHOWN, f"{url}-{max(size * 3 // 4, size - TAIL_BYTES)}")
    if done.exit_code == 0 and changes_midway(beginning, Report.model_validate_json(done.stdout)):
        raise several_recordings()


async def _ffprobe(tools: Tools, *arguments: str) -> CompletedProcess:
    done = await run([tools.ffprobe, "-v", "error", *GUARDS, *arguments])
    if done.exit_code < 0:
        raise AttemptFailed(f"ffprobe was killed by signal {-done.exit_code}.", code="probe_crashed")
    return done


def _failure(stderr: str) -> SourceRejected | AttemptFailed:
    """Tell a broken or unsupported file from an error that another attempt may avoid."""
    if unlisted := _UNLISTED_CODEC.search(stderr):
        return unsupported_codec(unlisted[1])
    if _UNREADABLE.search(stderr):
        return AttemptFailed("The source could not be read.", code="probe_failed")
    if _INDEX_MISSING in stderr:
        return SourceRejected(
            "This file is incomplete: its index is missing. Was the recording or copy interrupted?",
            code="file_incomplete",
        )
    return SourceRejected(NOT_A_VIDEO, code="not_a_video")


async def _ends(tools: Tools, url: str, report: ProbeReport) -> dict[int, float]:
    """Return, in the file's own timestamps, where the streams with packets near its end finish."""
    at = max(0.0, report.tail_seconds - TAIL_SECONDS)
    shown = ("-show_entries", "packet=stream_index,pts_time,duration_time", "-of", "csv=p=0")
    done = await _ffprobe(tools, "-read_intervals", f"{at:.3f}%", *shown, url)
    ends: defaultdict[int, StreamEnd] = defaultdict(lambda: StreamEnd(report.tail_seconds))
    for line in done.stdout.decode(errors="replace").splitlines():
        index, _, times = line.partition(",")
        pts, _, duration = times.partition(",")
        try:
            stream, end = int(index), float(pts) + (float(duration) if duration not in {"", "N/A"} else 0.0)
        except ValueError:  # a packet without a timestamp
            continue
        ends[stream].add(end)
    return {stream: end.seconds for stream, end in ends.items() if end.seconds is not None}

"""Probes a source with ffprobe and decides whether to accept it. An upload is hostile until it passes."""

import re
from collections import defaultdict
from collections.abc import Sequence

import structlog
from pydantic import ValidationError

from backend.core.errors import AttemptFailed, SourceRejected
from worker.sandbox.guards import DECODERS, GUARDS
from worker.sandbox.process import CompletedProcess, run
from worker.sandbox.tools import Tools
from worker.source.completeness import several_recordings
from worker.source.duration_limits import StreamEnd
from worker.source.ffprobe_parser import ProbeReport, parse_report
from worker.source.ffprobe_schema import Report
from worker.source.media import MediaInfo
from worker.source.programmes import changes_midway
from worker.source.protection import check_protection
from worker.source.selection import NOT_A_VIDEO, unseen_streams, unsupported_codec

log = structlog.get_logger(__name__)

TAIL_BYTES = 4 * 1024 * 1024
TAIL_SECONDS = 3.0
"""How much of the file's end is read to find where its streams end."""
MAX_UNLISTED = 16
"""Codecs of streams that are not used."""

_SHOWN = ("-show_format", "-show_streams", "-show_chapters", "-show_programs", "-of", "json")
_DEEP = (
    # until every stream has been found, which may be at the end of the file
    *("-probesize", str(2**63 - 1), "-analyzeduration", str(2**63 - 1)),
    # keeping no packet in memory
    *("-fflags", "nobuffer"),
)
_UNLISTED_CODEC = re.compile(r"Codec \((\w[\w-]*)\) not on whitelist")
_UNLISTED_FORMAT = re.compile(r"\[(\w[\w,]*) @ \w+\] Format not on whitelist")
_UNREADABLE = re.compile(
    r"HTTP error|Server returned|Connection (refused|reset|timed out)|Input/output error|"
    r"Cannot allocate memory|Resource temporarily unavailable"
)
"""Errors on the way to the file, which say nothing about the file."""
_INDEX_MISSING = "moov atom not found"


async def probe(tools: Tools, url: str) -> MediaInfo:
    """Return what the source contains.

    Raises:
        SourceRejected: it is not a video or audio file, is broken or protected, or exceeds the limits.
        AttemptFailed: ffprobe itself failed or hung.
    """
    report, options = await _report(tools, url)
    await check_protection(report, url)
    unseen = unseen_streams(report)
    empty = {index for index in unseen if not await _has_packet(tools, url, index, options)}
    if empty:
        log.info("streams_without_content", indexes=sorted(empty))
    if len(empty) < len(unseen):
        report = _parsed(await _ffprobe(tools, *options, *_DEEP, *_SHOWN, url))
    found = parse_report(report.without(empty))
    if found.media.container == "mpegts":
        await _check_end(tools, url, report, options)
    return found.with_ends(await _ends(tools, url, found, options)) if found.needs_tail else found.media


async def _check_end(tools: Tools, url: str, beginning: Report, options: Sequence[str]) -> None:
    """Raises: SourceRejected: an MPEG-TS ends with other streams than it begins with."""
    size = beginning.format.size
    done = await _ffprobe(tools, *options, *_SHOWN, f"{url}-{max(size * 3 // 4, size - TAIL_BYTES)}")
    if done.exit_code == 0 and changes_midway(beginning, _parsed(done)):
        raise several_recordings()


async def _report(tools: Tools, url: str) -> tuple[Report, Sequence[str]]:
    """Return ffprobe's report, and the options that it took.

    ffprobe opens a decoder for every stream and fails if one is not allowed. So those may be opened, but not
    used: the list that counts when packets are decoded is the container's, which stays as it is.
    """
    opened: set[str] = set()
    while True:
        allowed = ",".join((DECODERS, *sorted(opened)))
        options = [word for kind in "vas" for word in (f"-codec_whitelist:{kind}", allowed)] if opened else []
        done = await _ffprobe(tools, *options, *_SHOWN, url)
        if done.exit_code == 0:
            return _parsed(done), options
        unlisted = set(_UNLISTED_CODEC.findall(done.stderr)) - opened
        if not unlisted or len(opened) >= MAX_UNLISTED:
            raise _failure(done.stderr)
        opened |= unlisted


def _parsed(done: CompletedProcess) -> Report:
    if done.exit_code != 0:
        raise _failure(done.stderr)
    try:
        return Report.model_validate_json(done.stdout)
    except ValidationError as error:
        raise AttemptFailed("The output of ffprobe is not readable.", code="probe_unreadable") from error


async def _has_packet(tools: Tools, url: str, index: int, options: Sequence[str]) -> bool:
    """Read up to the stream's first packet."""
    first = ("-select_streams", str(index), "-read_intervals", "%+#1")
    shown = ("-show_entries", "packet=size", "-of", "csv=p=0")
    done = await _ffprobe(tools, *options, *first, *shown, url)
    if done.exit_code != 0:
        raise _failure(done.stderr)
    return bool(done.stdout.strip())


async def _ffprobe(tools: Tools, *arguments: str) -> CompletedProcess:
    done = await run([tools.ffprobe, "-v", "error", *GUARDS, *arguments])
    if done.exit_code < 0:
        raise AttemptFailed(f"ffprobe was killed by signal {-done.exit_code}.", code="probe_crashed")
    return done


def _failure(stderr: str) -> SourceRejected | AttemptFailed:
    """Tell a broken or unsupported file from an error that another attempt may avoid."""
    if unlisted := _UNLISTED_CODEC.search(stderr):
        return unsupported_codec("a stream", unlisted[1])
    if _UNREADABLE.search(stderr):
        return AttemptFailed("The source could not be read.", code="probe_failed")
    if _INDEX_MISSING in stderr:
        return SourceRejected(
            "This file is incomplete: its index is missing. Was the recording or copy interrupted?",
            code="file_incomplete",
        )
    if unlisted := _UNLISTED_FORMAT.search(stderr):
        return SourceRejected(
            f"This kind of file ({unlisted[1]}) is not supported. If it is a video, convert it to MP4, "
            "for example with HandBrake, and upload that.",
            code="not_a_video",
        )
    return SourceRejected(NOT_A_VIDEO, code="not_a_video")


async def _ends(tools: Tools, url: str, report: ProbeReport, options: Sequence[str]) -> dict[int, float]:
    """Return, in the file's own timestamps, where the streams with packets near its end finish."""
    at = max(0.0, report.tail_seconds - TAIL_SECONDS)
    shown = ("-show_entries", "packet=stream_index,pts_time,duration_time", "-of", "csv=p=0")
    done = await _ffprobe(tools, *options, "-read_intervals", f"{at:.3f}%", *shown, url)
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

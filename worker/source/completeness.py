"""Notices that outputs would lack part of the file. Then nothing is published, and the file is kept.

ffmpeg's exit code says nothing about that. It ends at the first recording of two, drops frames whose clock
went back, and ignores streams that begin after it has set up its encoders.
"""

import re

from pydantic import ValidationError

from backend.core.errors import SourceRejected
from worker.sandbox.guards import GUARDS
from worker.sandbox.limits import READ_ONLY
from worker.sandbox.process import run, running
from worker.sandbox.tools import Tools
from worker.source.feeder import SourceFeeder
from worker.source.ffprobe_schema import Report

SEVERAL_RECORDINGS = "several_recordings"
LATE_STREAM = "late_stream"
DAMAGED = "source_damaged"
MAX_DECODE_ERROR_RATE = 0.1
"""The largest share of a stream's frames that may be damaged."""
MAX_DECODE_ERRORS = ("-max_error_rate", f"{MAX_DECODE_ERROR_RATE}")
"""Beyond it, ffmpeg fails at the end; its own default is two thirds."""
MIN_RECORDING_SECONDS = 1.0
"""What is shorter is a preview that a camera appended, or the like."""

_STEPPED_BACK = re.compile(r"\[Eval @ \w+\] (-?[\d.]+)")
"""Printed by the filters that drop stray frames (`worker.encode.filter_graph`)."""
_NEW_STREAM = re.compile(r"New (audio|video) stream with index")
_UNREADABLE = re.compile(
    r"Error during demuxing: (Invalid data|Not yet implemented)|\[(?:in#0|ogg)\b[^]]*\] CRC mismatch"
)
"""The demuxer stops, or leaves out a page of an Ogg file."""
_SPOILED = "C"
"""Marks a packet whose data may be anything, and as long as the rest of the file."""


def several_recordings() -> SourceRejected:
    return SourceRejected(
        "This file holds several recordings, one after the other, and only the first would be played. "
        "Upload them one by one, or join them in a video editor.",
        code=SEVERAL_RECORDINGS,
    )


def loss_in(line: str) -> SourceRejected | None:
    """Return what a line of ffmpeg's log says about the loss of content, if it does."""
    if _STEPPED_BACK.match(line):
        return several_recordings()
    if new := _NEW_STREAM.search(line):
        return SourceRejected(
            f"In this file, another {new[1]} stream begins midway without having been announced. Convert the "
            "file to MP4 or MKV and upload that.",
            code=LATE_STREAM,
        )
    if _UNREADABLE.search(line):
        return SourceRejected(
            "Part of this file cannot be read: it is damaged, or was joined from recordings of different "
            "kinds. Repair or convert it, and upload that.",
            code=DAMAGED,
        )
    return None


async def check_all_read(tools: Tools, url: str, feeder: SourceFeeder) -> None:
    """Look for another recording after the last packet that the demuxer finds.

    Raises:
        SourceRejected: there is one.
        StoreError.
    """
    beginnings = await feeder.further_beginnings()
    end = await _last_packet_end(tools, url) if beginnings else 0
    for beginning in sorted(beginnings):
        if 0 < end <= beginning and await _is_recording(tools, f"{url}-{beginning}"):
            raise several_recordings()


async def _last_packet_end(tools: Tools, url: str) -> int:
    """Return the offset after the last byte of any stream; 0 if the container does not tell."""
    shown = ("-show_entries", "packet=pos,size,flags", "-of", "csv=p=0", url)
    last = 0
    async with running([tools.ffprobe, "-v", "error", *GUARDS, *shown], limits=READ_ONLY) as process:
        async for line in process.lines():
            size, position, flags = (*line.split(","), "", "")[:3]
            if size.isdigit() and position.isdigit() and _SPOILED not in flags:
                last = max(last, int(size) + int(position))
        await process.wait()
    return last


async def _is_recording(tools: Tools, url: str) -> bool:
    shown = ("-show_entries", "format=duration:stream=index,codec_type", "-of", "json", url)
    done = await run([tools.ffprobe, "-v", "error", *GUARDS, *shown])
    try:
        report = Report.model_validate_json(done.stdout)
    except ValidationError:
        return False
    seconds = report.format.duration
    lasts = seconds is None or seconds >= MIN_RECORDING_SECONDS
    return lasts and any(stream.codec_type in {"audio", "video"} for stream in report.streams)

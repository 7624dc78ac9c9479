"""Finds out whether a broken source made an attempt fail, by decoding it once more without output.

Another attempt at a broken file would take as long and fail in the same way.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.core.errors import AttemptFailed, SourceRejected
from worker.sandbox.exit_codes import OUT_OF_MEMORY, REFUSED
from worker.sandbox.guards import GUARDS
from worker.sandbox.limits import READ_ONLY
from worker.sandbox.process import running
from worker.sandbox.tools import Tools
from worker.source.completeness import DAMAGED, MAX_DECODE_ERRORS
from worker.source.media import MediaInfo
from worker.source.selection import unsupported_codec
from worker.transcode.fallback import ENCODE_FAILURE_CODES

DURATION_MISMATCH = "duration_mismatch"

_FRAME = re.compile(r"(\d+) (-?\d[\d.e+-]*)$")
"""The place of a stream among the decoded ones, and the time of one of its frames."""
_UNDECODABLE = re.compile(r"ist#0:(\d+)/.*Decode error rate")
"""What ffmpeg says of a stream that is too damaged."""


@dataclass(frozen=True, slots=True)
class DecodedStream:
    """A stream of the source that is decoded, and the duration it claims."""

    index: int
    name: str
    """For messages: the picture, the audio."""
    codec: str
    claimed_seconds: float | None
    is_picture: bool = False


def decoded_streams(media: MediaInfo) -> Iterator[DecodedStream]:
    """Yield the streams that are decoded. Audio of a video may end early: it is padded with silence."""
    claimed = media.duration_seconds if media.duration_is_reliable else None
    if media.video is not None:
        ends = None if claimed is None else media.video.end_seconds
        yield DecodedStream(media.video.index, "the picture", media.video.codec, ends, is_picture=True)
    for track in media.audio:
        for index in track.indexes:
            yield DecodedStream(index, "the audio", track.codec, None if media.video else claimed)


async def diagnose_failure(
    tools: Tools,
    url: str,
    media: MediaInfo,
    error: AttemptFailed,
    segment_seconds: float,
    touch: Callable[[], None],
) -> None:
    """Find out whether the file is broken, and not just the attempt that failed with `error`.

    Raises:
        SourceRejected: it is.
    """
    if error.failure_code in ENCODE_FAILURE_CODES:
        await diagnose_source(tools, url, media, segment_seconds / 2, touch, for_code=error.failure_code)


async def diagnose_source(
    tools: Tools,
    url: str,
    media: MediaInfo,
    tolerance_seconds: float,
    touch: Callable[[], None],
    *,
    for_code: str,
) -> None:
    """Decode every stream in use, after an attempt that failed with `for_code`.

    `touch` is called as decoding advances.

    Raises:
        SourceRejected: a stream cannot be decoded, or does not end where it should.
    """
    streams = tuple(decoded_streams(media))
    ends = await check_streams(tools, url, streams, tolerance_seconds, touch)
    # outputs are padded to an estimated duration too
    claim_counts = media.duration_is_reliable or for_code == DURATION_MISMATCH
    claimed = media.duration_seconds if claim_counts else None
    if claimed is not None and max(ends) < claimed - tolerance_seconds:
        raise _wrong_end(claimed, "its last stream", max(ends))
    if for_code == DURATION_MISMATCH and max(ends) - min(ends) > tolerance_seconds:
        # the file does not say where its streams end, and one lost its end
        first = streams[ends.index(min(ends))]
        raise SourceRejected(
            f"This file is damaged or incomplete: {first.name} ends after {min(ends):.1f} s, "
            f"but the rest after {max(ends):.1f} s.",
            code=DURATION_MISMATCH,
        )
    # each stream can be decoded on its own, but together they cannot be encoded
    if for_code == OUT_OF_MEMORY:
        raise SourceRejected(
            "This file is damaged: decoding it takes more memory than any intact video.", code=DAMAGED
        )
    if for_code == REFUSED:
        raise SourceRejected("This file is damaged: it cannot be converted.", code=DAMAGED)


async def check_streams(
    tools: Tools,
    url: str,
    streams: Sequence[DecodedStream],
    tolerance_seconds: float,
    touch: Callable[[], None],
) -> list[float]:
    """Decode whole streams and return their ends. Reads the source once.

    Raises:
        MachineFault: the process was killed from outside.
        SourceRejected: one cannot be decoded, or does not end where it claims.
    """
    ends: dict[int, float] = {}
    begun = {number for number, stream in enumerate(streams) if not stream.is_picture}
    failed: set[int] = set()

    def notice_failure(line: str) -> None:
        failed.update(int(index) for index in _UNDECODABLE.findall(line))

    command = tuple(decoder_arguments(tools.ffmpeg, url, streams))
    async with running(command, on_stderr=notice_failure, limits=READ_ONLY) as process:
        async for line in process.lines():
            if frame := _FRAME.match(line):
                number = int(frame[1])
                if number not in begun:  # tpad adds a frame even to a picture that has none
                    begun.add(number)
                    continue
                index, seconds = streams[number].index, max(0.0, float(frame[2]))
                if seconds > ends.get(index, -1.0):
                    ends[index] = seconds
                    touch()
        exit_code = await process.wait()
    if exit_code != 0 and not failed:
        if len(streams) > 1:  # which one made ffmpeg give up?
            alone = [await check_streams(tools, url, (one,), tolerance_seconds, touch) for one in streams]
            return [end for (end,) in alone]
        failed.add(streams[0].index)
    broken = failed or {stream.index for stream in streams} - ends.keys()
    for stream in (one for one in streams if one.index in broken):
        if stream.index not in ends:
            raise unsupported_codec(stream.name, stream.codec)
        raise SourceRejected(
            f"This file is damaged: {stream.name} cannot be decoded, or only in part.", code=DAMAGED
        )
    for stream in streams:
        seconds, claimed = ends[stream.index], stream.claimed_seconds
        if claimed is not None and abs(seconds - claimed) > tolerance_seconds:
            raise _wrong_end(claimed, stream.name, seconds)
    return [ends[stream.index] for stream in streams]


def _wrong_end(claimed_seconds: float, what: str, seconds: float) -> SourceRejected:
    return SourceRejected(
        f"This file is damaged or incomplete: it claims to last {claimed_seconds:.1f} s, "
        f"but {what} ends after {seconds:.1f} s.",
        code=DURATION_MISMATCH,
    )


def decoder_arguments(ffmpeg: Path, url: str, streams: Sequence[DecodedStream]) -> Iterator[str]:
    """Each stream has an output of its own: in a shared one, frames would pile up until all have begun."""
    yield from (str(ffmpeg), "-hide_banner", "-nostdin", "-nostats", "-v", "error")
    yield from (*MAX_DECODE_ERRORS, *GUARDS, "-i", url)
    for number, stream in enumerate(streams):
        yield from ("-map", f"0:{stream.index}")
        if stream.is_picture:  # one more frame, where the last one ends
            yield from ("-vf", "tpad=stop=1")
        # outputs that name stdout alike share a buffer, without a lock
        yield from ("-stats_enc_pre", f"pipe:{'0' * number}1", "-stats_enc_pre_fmt", "{fidx} {t}")
        yield from ("-f", "null", "-")

"""Whether the source is to check_stream for an attempt that failed: it is decoded once more, to nothing.

Another attempt at a file that is broken would end like the one before, after as long.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from backend.core.errors import SourceRejected
from worker.sandbox.exit_codes import KILLED_EXTERNALLY, OUT_OF_MEMORY, REFUSED
from worker.sandbox.guards import GUARDS
from worker.sandbox.limits import READ_ONLY
from worker.sandbox.process import running
from worker.sandbox.tools import Tools
from worker.source.ffprobe_parser import unsupported_codec
from worker.source.media import MediaInfo
from worker.transcode.progress import encoded_seconds

DURATION_MISMATCH = "duration_mismatch"
DAMAGED = "source_damaged"
ENCODE_FAILURE_CODES = frozenset(
    {
        "encoder_failed",
        REFUSED,
        OUT_OF_MEMORY,
        "packager_failed",
        "outputs_incomplete",
        "outputs_broken",
        DURATION_MISMATCH,
    }
)
"""Codes of failed attempts that a broken file may be the cause of."""


@dataclass(frozen=True, slots=True)
class DecodedStream:
    """A stream of the source, and how long it says that it lasts."""

    index: int
    name: str
    """For people: the picture, the sound."""
    codec: str
    claimed_seconds: float | None


def decoded_streams(media: MediaInfo) -> Iterator[DecodedStream]:
    """Yield what is decoded of a source. Sound beside a picture may end when it likes: silence follows."""
    claimed = media.duration_seconds if media.duration_is_reliable else None
    if media.video is not None:
        ends = None if claimed is None else media.video.end_seconds
        yield DecodedStream(media.video.index, "the picture", media.video.codec, ends)
    for track in media.audio:
        yield DecodedStream(track.index, "the sound", track.codec, None if media.video else claimed)


async def diagnose_source(
    tools: Tools,
    url: str,
    media: MediaInfo,
    tolerance_seconds: float,
    touch: Callable[[], None],
    *,
    for_code: str,
) -> None:
    """Decode all that is used of the source after an attempt that failed with this code.

    `touch` is called as that goes on.

    Raises:
        SourceRejected: something cannot be decoded, or ends elsewhere than it should.
    """
    streams = tuple(decoded_streams(media))
    found = [await check_stream(tools, url, stream, tolerance_seconds, touch) for stream in streams]
    ends = [end for end in found if end is not None]
    if len(ends) < len(found):
        return
    # what is only a guess has been padded to, too
    believed = media.duration_is_reliable or for_code == DURATION_MISMATCH
    claimed = media.duration_seconds if believed else None
    if claimed is not None and max(ends) < claimed - tolerance_seconds:
        raise _ends_elsewhere(claimed, "all that is in it", max(ends))
    if for_code == DURATION_MISMATCH and max(ends) - min(ends) > tolerance_seconds:
        # a file that does not say where its streams end, and lost a part of one
        first = streams[ends.index(min(ends))]
        raise SourceRejected(
            f"This file is damaged or incomplete: {first.name} ends after {min(ends):.1f} s, "
            f"and the rest only after {max(ends):.1f} s.",
            code=DURATION_MISMATCH,
        )
    # each stream alone can be decoded, but not all together be encoded
    if for_code == OUT_OF_MEMORY:
        raise SourceRejected("This file is damaged: it takes more memory than any video.", code=DAMAGED)
    if for_code == REFUSED:
        raise SourceRejected("This file is damaged: it cannot be converted.", code=DAMAGED)


async def check_stream(
    tools: Tools, url: str, stream: DecodedStream, tolerance_seconds: float, touch: Callable[[], None]
) -> float | None:
    """Decode a whole stream and return its end; None: that was ended by the machine.

    Raises:
        SourceRejected: it cannot be decoded, or ends elsewhere than it says.
    """
    seconds: float | None = None
    async with running(decoder_arguments(tools.ffmpeg, url, stream.index), limits=READ_ONLY) as process:
        async for line in process.lines():
            reached = encoded_seconds(line)
            if reached is not None and (seconds is None or reached > seconds):
                seconds = reached
                touch()
        exit_code = await process.wait()
    if exit_code in KILLED_EXTERNALLY:
        return None
    if seconds is None:
        raise unsupported_codec(stream.codec)
    if exit_code != 0:
        raise SourceRejected(f"This file is damaged: {stream.name} cannot be decoded.", code=DAMAGED)
    claimed = stream.claimed_seconds
    if claimed is not None and abs(seconds - claimed) > tolerance_seconds:
        raise _ends_elsewhere(claimed, stream.name, seconds)
    return seconds


def _ends_elsewhere(claimed_seconds: float, what: str, seconds: float) -> SourceRejected:
    return SourceRejected(
        f"This file is damaged or incomplete: it says that it lasts {claimed_seconds:.1f} s, "
        f"but {what} ends after {seconds:.1f} s.",
        code=DURATION_MISMATCH,
    )


def decoder_arguments(ffmpeg: Path, url: str, stream: int) -> tuple[str, ...]:
    return (
        *(str(ffmpeg), "-hide_banner", "-nostdin", "-v", "error"),
        *("-progress", "pipe:1", "-stats_period", "0.5", "-nostats"),
        *(*GUARDS, "-i", url, "-map", f"0:{stream}", "-f", "null", "-"),
    )

"""Finds out whether a broken source made an attempt fail, by decoding the source once more without output.

Another attempt at a broken file would take as long and fail in the same way.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from backend.core.errors import SourceRejected
from worker.sandbox.exit_codes import OUT_OF_MEMORY, REFUSED
from worker.sandbox.guards import GUARDS
from worker.sandbox.limits import READ_ONLY
from worker.sandbox.process import running
from worker.sandbox.tools import Tools
from worker.source.media import MediaInfo
from worker.source.selection import unsupported_codec
from worker.transcode.progress import encoded_seconds

DURATION_MISMATCH = "duration_mismatch"
DAMAGED = "source_damaged"


@dataclass(frozen=True, slots=True)
class DecodedStream:
    """A stream of the source that is decoded, and the duration it claims."""

    index: int
    name: str
    """For messages: the picture, the audio."""
    codec: str
    claimed_seconds: float | None


def decoded_streams(media: MediaInfo) -> Iterator[DecodedStream]:
    """Yield the streams that are decoded. Audio of a video may end early: it is padded with silence."""
    claimed = media.duration_seconds if media.duration_is_reliable else None
    if media.video is not None:
        ends = None if claimed is None else media.video.end_seconds
        yield DecodedStream(media.video.index, "the picture", media.video.codec, ends)
    for track in media.audio:
        for index in track.indexes:
            yield DecodedStream(index, "the audio", track.codec, None if media.video else claimed)


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
    ends = [await check_stream(tools, url, stream, tolerance_seconds, touch) for stream in streams]
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


async def check_stream(
    tools: Tools, url: str, stream: DecodedStream, tolerance_seconds: float, touch: Callable[[], None]
) -> float:
    """Decode a whole stream and return its end.

    Raises:
        MachineFault: the process was killed from outside.
        SourceRejected: it cannot be decoded, or does not end where it claims.
    """
    seconds: float | None = None
    async with running(decoder_arguments(tools.ffmpeg, url, stream.index), limits=READ_ONLY) as process:
        async for line in process.lines():
            reached = encoded_seconds(line)
            if reached is not None and (seconds is None or reached > seconds):
                seconds = reached
                touch()
        exit_code = await process.wait()
    if seconds is None:
        raise unsupported_codec(stream.name, stream.codec)
    if exit_code != 0:
        raise SourceRejected(f"This file is damaged: {stream.name} cannot be decoded.", code=DAMAGED)
    claimed = stream.claimed_seconds
    if claimed is not None and abs(seconds - claimed) > tolerance_seconds:
        raise _wrong_end(claimed, stream.name, seconds)
    return seconds


def _wrong_end(claimed_seconds: float, what: str, seconds: float) -> SourceRejected:
    return SourceRejected(
        f"This file is damaged or incomplete: it claims to last {claimed_seconds:.1f} s, "
        f"but {what} ends after {seconds:.1f} s.",
        code=DURATION_MISMATCH,
    )


def decoder_arguments(ffmpeg: Path, url: str, stream: int) -> tuple[str, ...]:
    return (
        *(str(ffmpeg), "-hide_banner", "-nostdin", "-v", "error"),
        *("-progress", "pipe:1", "-stats_period", "0.5", "-nostats"),
        *(*GUARDS, "-i", url, "-map", f"0:{stream}", "-f", "null", "-"),
    )

"""Stores the source's own picture as a rung of the ladder (`worker.encode.copying`)."""

import asyncio
import os
from pathlib import Path

import structlog

from backend.core.concurrency import gather_pair
from backend.core.errors import AttemptFailed
from backend.core.records import UnitObject
from worker.encode.chunk_arguments import copy_arguments
from worker.encode.ffmpeg_arguments import pipe_name
from worker.output.avc import can_begin_at
from worker.output.download_plan import max_bytes_of
from worker.output.fragments import Config, Fragment
from worker.sandbox.limits import READ_ONLY
from worker.sandbox.process import running
from worker.sandbox.watchdog import wait_for_success
from worker.source.index.source_index import SourceIndex
from worker.units.attempt import StreamStore, UnitAttempt

log = structlog.get_logger(__name__)


async def store_copy(
    attempt: UnitAttempt, ffmpeg: Path, source: str, directory: Path
) -> tuple[UnitObject, ...]:
    """Store the copied rung below the attempt's prefix.

    Returns nothing if the plan has none, or if the picture is not what the file's index says: then the join
    finds none, and the video is planned again.

    Raises: StoreError.
    """
    details, keyframes = attempt.details, list[int]()
    rung, media = details.encoding.copied_video, details.media
    if rung is None or media.video is None:
        return ()
    os.mkfifo(directory / pipe_name(rung.name), 0o600)

    timescale = 1

    def check(fragment: Fragment, config: Config) -> None:
        nonlocal timescale
        if not can_begin_at(fragment, config):
            raise AttemptFailed(f"The keyframe at {fragment.first_pts} needs other frames.")
        timescale = config.timescale
        keyframes.append(fragment.first_pts)

    limit = max_bytes_of(rung.max_bps, details.seconds)
    argv = copy_arguments(ffmpeg, media, media.video, rung.name, source)
    streams = StreamStore(attempt, directory, 1)
    try:
        async with running(argv, cwd=directory, discard_stdout=True, limits=READ_ONLY) as copying:
            copied = asyncio.ensure_future(wait_for_success(copying, "encoder_failed"))
            stored, _ = await gather_pair(
                streams.fragments(rung.name, limit, copied, on_fragment=check),
                asyncio.wait_for(copied, None),  # it may fail before it opens the pipe
            )
        index = SourceIndex(timescale, tuple(keyframes))
        if stored.frames != rung.copied_frames or not details.has_segments_of(index):
            raise AttemptFailed("The frames are not those of the index.")
    except AttemptFailed as error:
        log.warning("picture_not_copied", error=error.message)
        return ()
    return (stored,)

"""Stores the WebM for download while it is being made: from ffmpeg's pipe into a multipart upload.

The first part is kept in memory until the index is known, at the end. A slow store makes ffmpeg wait; memory
is bounded by the size of the parts.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from io import FileIO
from math import ceil
from pathlib import Path

from backend.core import keys
from backend.core.errors import AttemptFailed, UploadTooLarge
from backend.core.uploads.one_shot import store_first_part_last
from worker.encode.ffmpeg_arguments import CLUSTER_SECONDS
from worker.encode.ladder import OPUS_BPS
from worker.output.download_plan import UNKNOWN_DURATION_SECONDS, DownloadPlan, max_bytes_of
from worker.output.sink import headers_of
from worker.output.webm import WebmReader, head, room_for
from worker.sandbox.guards import MAX_DURATION_SECONDS
from worker.sandbox.process import read_pipe
from worker.source.description import chapters_of
from worker.source.ebml import EbmlError
from worker.source.media import MediaInfo

READ_BYTES = 256 * 1024
SPARE_CUES = 16


class WebmSink:
    """Stores one WebM of the top AV1 rung and all sound."""

    def __init__(self, plan: DownloadPlan) -> None:
        video, audio = plan.encoding.webm_video, plan.encoding.audio
        self._plan = plan
        self._max_bytes = max_bytes_of(
            (video.max_bps if video else 0) + OPUS_BPS * len(audio), plan.max_seconds
        )
        self._max_cues = expected_cues(plan.media, plan.segment_seconds)
        self._reader = WebmReader()
        self._room = 0

    async def store(self, pipe: Path, encoded: Awaitable[None]) -> int:
        """Read `pipe` to its end and return the object's size. On any error nothing stays stored.

        `encoded` raises if the encoder failed, so that a truncated WebM is not taken for a complete one.

        Raises:
            AttemptFailed: the WebM is incomplete or too large.
            StoreError.
        """
        try:
            file = FileIO(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
            async with read_pipe(file, READ_BYTES) as pieces:
                return await store_first_part_last(
                    self._plan.store,
                    self._plan.prefix + keys.DOWNLOAD,
                    self._body(pieces, encoded),
                    finish_first=self._finish_first,
                    max_bytes=self._max_bytes,
                    headers=headers_of(keys.DOWNLOAD),
                )
        except EbmlError as error:
            raise AttemptFailed(f"The WebM is incomplete: {error}.", code="outputs_incomplete") from error
        except UploadTooLarge:
            raise AttemptFailed("The WebM exceeds its size limit.", code="encoder_failed") from None

    async def _body(self, pieces: asyncio.StreamReader, encoded: Awaitable[None]) -> AsyncIterator[bytes]:
        """Yield space for the head, then the clusters."""
        while piece := await pieces.read(READ_BYTES):
            self._plan.on_data()
            clusters = self._reader.feed(piece)
            if clusters and not self._room:
                contents, chapters = (
                    self._reader.contents(),
                    chapters_of(self._plan.media, MAX_DURATION_SECONDS),
                )
                self._room = room_for(contents, chapters, self._max_cues)
                yield bytes(self._room)
            if clusters:
                yield clusters
        await encoded
        self._reader.contents()  # raises if nothing arrived

    def _finish_first(self, part: bytes) -> bytes:
        """Write the head into the space reserved for it. If this part is the whole file, trim that space."""
        contents = self._reader.contents()
        chapters = chapters_of(self._plan.media, contents.duration_ms / 1000)
        is_all = len(part) == self._room + contents.clusters_bytes
        return head(contents, chapters, None if is_all else self._room) + part[self._room :]


def expected_cues(media: MediaInfo, segment_seconds: float) -> int:
    """Return how many keyframes to expect or, for audio only, clusters."""
    seconds = min(media.duration_seconds or UNKNOWN_DURATION_SECONDS, MAX_DURATION_SECONDS)
    return ceil(seconds / (segment_seconds if media.video else CLUSTER_SECONDS)) + SPARE_CUES

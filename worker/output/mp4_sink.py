"""Stores the MP4 for download while it is being made: from the packager's segments into a multipart upload.

The first part is kept in memory until the index is known, at the end, as with the WebM. If the index does not
fit in front after all, it goes to the end.
"""

import asyncio
from collections.abc import AsyncIterator
from math import ceil
from pathlib import PurePosixPath

from backend.core import keys
from backend.core.errors import AttemptFailed, UploadTooLarge
from backend.core.records import Chapter
from backend.core.uploads.one_shot import store_first_part_last
from worker.encode.ladder import AAC_BPS
from worker.output.download_plan import UNKNOWN_DURATION_SECONDS, DownloadPlan, max_bytes_of
from worker.output.fragments import FragmentError
from worker.output.mp4 import (
    CHUNK_BYTES,
    PICTURE_BYTES,
    SOUND_BYTES,
    Mp4Track,
    head,
    head_without_index,
    movie,
    room_for,
)
from worker.output.sink import headers_of
from worker.sandbox.guards import MAX_DURATION_SECONDS
from worker.source.description import chapters_of

MAX_WAITING = 4
"""Segments. When the store is slow, the packager waits."""
AAC_FRAMES_PER_SECOND = 48_000 / 1024
_INIT = "init.mp4"


class Mp4Sink:
    """Stores one MP4 of the top H.264 rung and all sound."""

    def __init__(self, plan: DownloadPlan) -> None:
        self._plan = plan
        video, audio, media = plan.encoding.mp4_video, plan.encoding.audio, plan.media
        self._tracks = {
            **({video.name: Mp4Track()} if video else {}),
            **{
                stream.name: Mp4Track(
                    language=stream.source.language,
                    label=stream.label if stream.source.title else "",
                    default=stream is audio[0],
                )
                for stream in audio
            },
        }
        self._max_bytes = max_bytes_of(
            (video.max_bps if video else 0) + AAC_BPS * len(audio), plan.max_seconds
        )
        known = media.duration_seconds is not None and media.duration_is_reliable
        seconds = plan.max_seconds if known else min(plan.max_seconds, UNKNOWN_DURATION_SECONDS)
        tables = (PICTURE_BYTES * float(plan.encoding.fps or 0) if video else 0) + (
            SOUND_BYTES * AAC_FRAMES_PER_SECOND * len(audio)
        )
        tables += CHUNK_BYTES * len(self._tracks) / plan.segment_seconds
        self._room = room_for(len(self._tracks), self._chapters(MAX_DURATION_SECONDS), ceil(seconds * tables))
        self._waiting: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue(MAX_WAITING)
        self._media_bytes = 0
        self._index_is_last = False

    async def feed(self, path: str, body: bytes) -> None:
        """Take a file of the packager, in the order in which it wrote them."""
        if PurePosixPath(path).parent.name in self._tracks:
            await self._waiting.put((path, body))

    async def end(self) -> None:
        """There are no more segments. Without this, nothing is stored."""
        await self._waiting.put(None)

    async def store(self) -> int:
        """Return the object's size. On any error nothing stays stored.

        Raises:
            AttemptFailed: the MP4 is incomplete or too large.
            StoreError.
        """
        try:
            return await store_first_part_last(
                self._plan.store,
                self._plan.prefix + keys.DOWNLOAD_MP4,
                self._body(),
                finish_first=self._finish_first,
                max_bytes=self._max_bytes + self._room,
                first_bytes=self._room,
                headers=headers_of(keys.DOWNLOAD_MP4),
            )
        except FragmentError as error:
            raise AttemptFailed(f"The MP4 is incomplete: {error}.", code="outputs_incomplete") from error
        except UploadTooLarge:
            raise AttemptFailed("The MP4 exceeds its size limit.", code="encoder_failed") from None

    async def _body(self) -> AsyncIterator[bytes]:
        """Yield room for the head, then the chunks and, if that was too little, the index."""
        yield bytes(self._room)
        segments = dict.fromkeys(self._tracks, 0)
        while (taken := await self._waiting.get()) is not None:
            self._plan.on_data()
            path, body = PurePosixPath(taken[0]), taken[1]
            name = path.parent.name
            if path.name != _INIT:
                segments[name] += 1
                if int(path.stem) != segments[name]:
                    raise FragmentError(f"segment {segments[name]} of {name} is missing")
                chunk = self._tracks[name].add(body, self._media_bytes)
                self._media_bytes += len(chunk)
                yield chunk
            elif not segments[name]:  # the packager writes it again at the end
                self._tracks[name].begin(body)
        tracks, chapters = [*self._tracks.values()], self._chapters(self._seconds)
        if head(tracks, chapters, self._media_bytes, self._room) is None:
            self._index_is_last = True
            yield movie(tracks, chapters, self._room)

    def _finish_first(self, part: bytes) -> bytes:
        """Write the head into the room for it. If this part is the whole file, there is no spare room."""
        if self._index_is_last:
            return head_without_index(self._media_bytes, self._room) + part[self._room :]
        is_all = len(part) == self._room + self._media_bytes
        room = None if is_all else self._room
        front = head([*self._tracks.values()], self._chapters(self._seconds), self._media_bytes, room)
        return (front or b"") + part[self._room :]

    @property
    def _seconds(self) -> float:
        return float(max(track.seconds for track in self._tracks.values()))

    def _chapters(self, seconds: float) -> tuple[Chapter, ...]:
        return chapters_of(self._plan.media, seconds)

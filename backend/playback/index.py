"""Where a granted path leads: the run that a video plays from now, and how its objects are handed out."""

import asyncio
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

from backend.core import keys
from backend.core.concurrency import gather_pair
from backend.core.errors import NotReady, ObjectNotFound
from backend.core.library.captions import list_captions
from backend.core.library.videos import read_item
from backend.core.records import CaptionTrack, Stage
from backend.core.store.interface import Buckets, PresignedGet
from backend.playback.manifests import add_to_master, add_to_mpd, captions_playlist
from backend.playback.tracks import Track, tracks_of

IN_PROGRESS_SECONDS = 2.0
PUBLISHED_SECONDS = 10.0
"""How long this process believes what it read; a deleted video is gone everywhere after that."""
REMEMBERED_VIDEOS = 4096

CONTENT_TYPES = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".mpd": "application/dash+xml",
    ".vtt": "text/vtt",
    ".webm": "video/webm",
    ".mp4": "video/mp4",
    ".m4s": "video/iso.segment",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}
MANIFESTS = frozenset({".m3u8", ".mpd", ".vtt"})
"""Served by the API itself: a redirect would move the base of their relative URIs."""


def content_type_of(path: str) -> str:
    return CONTENT_TYPES.get(PurePosixPath(path).suffix, "application/octet-stream")


def is_manifest(path: str) -> bool:
    return PurePosixPath(path).suffix in MANIFESTS


@dataclass(frozen=True, slots=True)
class Playable:
    """What a video plays from now."""

    video_id: str
    prefix: str
    is_published: bool
    title: str
    duration_seconds: float
    captions: tuple[CaptionTrack, ...]
    """Those of the source."""

    def key_of(self, path: str) -> str:
        """Raises: BadRequest: the path leads out of the video."""
        return keys.playable_object(self.video_id, self.prefix, path)


@dataclass(slots=True, eq=False)
class _Remembered:
    reading: "asyncio.Task[Playable]"
    until: float = math.inf


class PlaybackIndex:
    """Resolves video ids for thousands of segment requests with a few reads of the store.

    Concurrent requests for one video share one read; failures are not remembered. `monotonic` tells seconds.
    """

    def __init__(self, buckets: Buckets, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._buckets = buckets
        self._monotonic = monotonic
        self._remembered: dict[str, _Remembered] = {}

    async def resolve(self, video_id: str) -> Playable:
        """Raises: VideoNotFound. NotReady: no run has begun to write."""
        known = self._remembered.get(video_id)
        if known is None or known.until <= self._monotonic():
            known = self._begin_reading(video_id)
        return await asyncio.shield(known.reading)

    def forget(self, video_id: str) -> None:
        self._remembered.pop(video_id, None)

    def _begin_reading(self, video_id: str) -> _Remembered:
        begun = self._monotonic()
        entry = _Remembered(asyncio.create_task(self._read(video_id)))
        self._remembered.pop(video_id, None)
        self._remembered[video_id] = entry
        if len(self._remembered) > REMEMBERED_VIDEOS:
            del self._remembered[next(iter(self._remembered))]

        def finished(reading: "asyncio.Task[Playable]") -> None:
            if reading.cancelled() or reading.exception() is not None:
                entry.until = begun
            else:
                lasting = PUBLISHED_SECONDS if reading.result().is_published else IN_PROGRESS_SECONDS
                entry.until = begun + lasting

        entry.reading.add_done_callback(finished)
        return entry

    async def _read(self, video_id: str) -> Playable:
        item = await read_item(self._buckets, video_id)
        prefix = item.status.outputs
        if prefix is None or not prefix.startswith(keys.video_prefix(video_id)):
            raise NotReady
        return Playable(
            video_id,
            prefix,
            is_published=item.status.stage is Stage.COMPLETE,
            title=item.video.title,
            duration_seconds=item.status.duration_seconds or 0,
            captions=item.status.captions,
        )


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as it is served."""

    body: bytes
    etag: str


async def read_manifest(buckets: Buckets, playable: Playable, path: str) -> Manifest:
    """Return the playlist, MPD or WebVTT at `path`; of a finished video with its captions.

    While a video grows its playlists are left as they are: players take one that does not grow for its end.

    Raises:
        BadRequest: the path leads out of the video.
        ObjectNotFound: there is no such manifest.
    """
    key = playable.key_of(path)
    if not playable.is_published or not changes_with_captions(path) or path.endswith(".vtt"):
        stored = await buckets.video.get(key)
        return Manifest(stored.body, stored.info.etag)
    if path.startswith(keys.CAPTIONS):
        return _captions_playlist(path, await captions_of(buckets, playable), playable.duration_seconds)
    stored, tracks = await gather_pair(buckets.video.get(key), captions_of(buckets, playable))
    if not tracks:
        return Manifest(stored.body, stored.info.etag)
    if path == keys.DASH_MANIFEST:
        return _composed(add_to_mpd(stored.body, tracks))
    return _composed(add_to_master(stored.body.decode(), tracks).encode())


async def captions_of(buckets: Buckets, playable: Playable) -> tuple[Track, ...]:
    return tracks_of(await list_captions(buckets, playable.video_id), playable.captions)


def changes_with_captions(path: str) -> bool:
    """Say whether a manifest of a finished video may change although nothing is encoded."""
    return path.startswith(keys.CAPTIONS) or path in (keys.MASTER_PLAYLIST, keys.DASH_MANIFEST)


def _captions_playlist(path: str, tracks: tuple[Track, ...], duration_seconds: float) -> Manifest:
    for track in tracks:
        if keys.captions_playlist_path(track.path) == path:
            return _composed(captions_playlist(track, duration_seconds).encode())
    raise ObjectNotFound


def _composed(body: bytes) -> Manifest:
    return Manifest(body, hashlib.sha256(body).hexdigest()[:32])


@dataclass(frozen=True, slots=True)
class SigningWindow:
    """The rounded instant to sign for, and how long the answer may be cached."""

    signed_at: datetime
    max_age_seconds: int

    @classmethod
    def at(cls, unix_seconds: float, ttl_seconds: int) -> "SigningWindow":
        """Round down to a third of the TTL: URLs live two thirds of it or more.

        A cached redirect is followed while at least a quarter of the TTL is left.
        """
        window = ttl_seconds // 3
        signed_at = int(unix_seconds) // window * window
        left = signed_at + ttl_seconds - int(unix_seconds)
        return cls(datetime.fromtimestamp(signed_at, UTC), left - ttl_seconds // 4)

    def get(self, ttl_seconds: int, content_disposition: str | None = None) -> PresignedGet:
        return PresignedGet(ttl_seconds, content_disposition, self.signed_at)

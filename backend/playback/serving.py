"""How a video's files are served: manifests with captions, content types, and presigned URLs."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

from backend.core import keys
from backend.core.concurrency import gather_pair
from backend.core.errors import ObjectNotFound
from backend.core.library.captions import list_captions
from backend.core.store.interface import Buckets, PresignedGet
from backend.playback.index import Playable
from backend.playback.manifests import add_to_master, add_to_mpd, captions_playlist
from backend.playback.tracks import Track, tracks_of

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
"""Served by the API itself: a redirect would change the base of their relative URIs."""


def content_type_of(path: str) -> str:
    return CONTENT_TYPES.get(PurePosixPath(path).suffix, "application/octet-stream")


def is_manifest(path: str) -> bool:
    return PurePosixPath(path).suffix in MANIFESTS


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as it is served."""

    body: bytes
    etag: str


async def read_manifest(buckets: Buckets, playable: Playable, path: str) -> Manifest:
    """Return the playlist, MPD or WebVTT at `path`. Manifests of a published video include its captions.

    Playlists of a growing video are not changed: a captions playlist that does not grow would make players
    think that the video has ended.

    Raises:
        BadRequest: the path leads outside the video.
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
        return _with_hash(add_to_mpd(stored.body, tracks))
    return _with_hash(add_to_master(stored.body.decode(), tracks).encode())


async def captions_of(buckets: Buckets, playable: Playable) -> tuple[Track, ...]:
    return tracks_of(await list_captions(buckets, playable.video_id), playable.captions)


def changes_with_captions(path: str) -> bool:
    """Return whether a manifest of a published video changes when its captions do."""
    return path.startswith(keys.CAPTIONS) or path in (keys.MASTER_PLAYLIST, keys.DASH_MANIFEST)


def _captions_playlist(path: str, tracks: tuple[Track, ...], duration_seconds: float) -> Manifest:
    for track in tracks:
        if keys.captions_playlist_path(track.path) == path:
            return _with_hash(captions_playlist(track, duration_seconds).encode())
    raise ObjectNotFound


def _with_hash(body: bytes) -> Manifest:
    return Manifest(body, hashlib.sha256(body).hexdigest()[:32])


@dataclass(frozen=True, slots=True)
class SigningWindow:
    """The rounded time to sign for, and how long the redirect may be cached."""

    signed_at: datetime
    max_age_seconds: int

    @classmethod
    def at(cls, unix_seconds: float, ttl_seconds: int) -> "SigningWindow":
        """Round down to a multiple of a third of the TTL, so URLs are valid for at least two thirds of it.

        A cached redirect is only used while at least a quarter of the TTL is left.
        """
        window = ttl_seconds // 3
        signed_at = int(unix_seconds) // window * window
        seconds_left = signed_at + ttl_seconds - int(unix_seconds)
        return cls(datetime.fromtimestamp(signed_at, UTC), seconds_left - ttl_seconds // 4)

    def get(self, ttl_seconds: int, content_disposition: str | None = None) -> PresignedGet:
        return PresignedGet(ttl_seconds, content_disposition, self.signed_at)

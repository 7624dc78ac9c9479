"""Reads manifests for players: from memory if they cannot change, with captions if they do not grow."""

import hashlib
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from backend.core import keys
from backend.core.errors import ObjectNotFound
from backend.core.library.captions import list_captions
from backend.core.library.manifests import add_to_master, add_to_mpd, captions_playlist
from backend.core.library.tracks import Track, tracks_of
from backend.core.recent_reads import RecentReads
from backend.core.records import Captions, CaptionTrack
from backend.core.store.interface import Buckets
from backend.playback.index import IN_PROGRESS_SECONDS, PUBLISHED_SECONDS, Playable

CACHED_BYTES = 64 * 1024 * 1024
"""Memory for manifests. Those that were used longest ago are dropped."""
ENTRY_BYTES = 2048
"""About what a cached manifest takes besides its body."""
CACHED_CAPTIONS = 20_000
"""Videos, and uploaded captions of videos, whose records are cached."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A playlist, MPD or WebVTT as it is served."""

    body: bytes
    etag: str
    grows: bool = False
    """Its run was still being encoded when it was read."""
    is_final: bool = False
    """It never changes, except for captions."""


@dataclass(frozen=True, slots=True)
class _Added:
    """The captions to add to a manifest. Equal ones have equal names, which are quick to compare."""

    tracks: tuple[Track, ...] = field(compare=False)
    name: str


class _Uploaded:
    """The uploaded captions of a video, and what they make together with those of its source."""

    def __init__(self, captions: tuple[Captions, ...]) -> None:
        self.captions = captions
        self._of_source: tuple[CaptionTrack, ...] | None = None
        self._together = _Added((), "")

    def and_those_of(self, source: tuple[CaptionTrack, ...]) -> _Added:
        if self._of_source is not source:
            tracks = tracks_of(self.captions, source)
            self._of_source, self._together = source, _Added(tracks, repr(tracks) if tracks else "")
        return self._together


class _Wanted(NamedTuple):
    key: str
    is_complete: bool
    """No worker will rewrite it."""
    added: _Added = _Added((), "")


class ManifestReads:
    """Reads manifests of any run of a video. `monotonic` returns seconds.

    A growing playlist is read once in `IN_PROGRESS_SECONDS`, however many viewers follow it.
    """

    def __init__(self, buckets: Buckets, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._buckets = buckets
        self._recent = RecentReads(
            self._read,
            seconds=lambda manifest: math.inf if manifest.is_final else IN_PROGRESS_SECONDS,
            capacity=CACHED_BYTES,
            clock=monotonic,
            weight=lambda manifest: len(manifest.body) + ENTRY_BYTES,
        )
        self._captions = RecentReads(
            self._list_captions,
            seconds=PUBLISHED_SECONDS,
            capacity=CACHED_CAPTIONS,
            clock=monotonic,
            weight=lambda uploaded: 1 + len(uploaded.captions),
        )

    async def read(self, playable: Playable, run: str, path: str) -> Manifest:
        """Return the manifest at `path`. Those of looks and of a published video include its captions.

        Playlists of a growing run are not changed: a captions playlist that does not grow would make players
        think that the video has ended.

        Raises:
            BadRequest: the path leads outside the video.
            ObjectNotFound: there is no such manifest, or it belongs to a run that was given up and will
                never end.
        """
        key = keys.playable_object(playable.video_id, keys.run_prefix(playable.video_id, run), path)
        if keys.is_uploaded_captions(path):
            return await self._stored(_Wanted(key, is_complete=False))
        is_look = keys.is_look(run)
        wanted = _Wanted(key, is_look or (playable.is_published and run == playable.run))
        if not (playable.is_published or is_look) or not changes_with_captions(path):
            return _unless_given_up(await self._get(wanted), playable, run)
        if path not in (keys.MASTER_PLAYLIST, keys.DASH_MANIFEST):
            added = await self._added(playable)
            return _captions_playlist(path, added.tracks, playable.duration_seconds)
        with_captions = _Wanted(key, wanted.is_complete, await self._added(playable))
        return _unless_given_up(await self._get(with_captions), playable, run)

    def forget_captions(self, video_id: str) -> None:
        """Read them again at the next request: this process has changed them."""
        self._captions.forget(video_id)

    async def _get(self, wanted: _Wanted) -> Manifest:
        return self._recent.peek(wanted) or await self._recent.get(wanted)

    async def _read(self, wanted: _Wanted) -> Manifest:
        tracks = wanted.added.tracks
        if not tracks:
            return await self._stored(wanted)
        plain = await self._get(_Wanted(wanted.key, wanted.is_complete))
        if wanted.key.endswith(keys.DASH_MANIFEST):
            body = add_to_mpd(plain.body, tracks)
        else:
            body = add_to_master(plain.body.decode(), tracks).encode()
        return _with_hash(body, grows=plain.grows, is_final=plain.is_final)

    async def _stored(self, wanted: _Wanted) -> Manifest:
        stored = await self._buckets.video.get(wanted.key)
        grows = _grows(wanted.key, stored.body)
        return Manifest(
            stored.body,
            stored.info.etag,
            grows=bool(grows),
            is_final=wanted.is_complete or grows is False,
        )

    async def _added(self, playable: Playable) -> _Added:
        uploaded = self._captions.peek(playable.video_id) or await self._captions.get(playable.video_id)
        return uploaded.and_those_of(playable.captions)

    async def _list_captions(self, video_id: str) -> _Uploaded:
        return _Uploaded(await list_captions(self._buckets, video_id))


def changes_with_captions(path: str) -> bool:
    """Return whether a manifest of a look or a published video changes when its captions do."""
    return (
        path in (keys.MASTER_PLAYLIST, keys.DASH_MANIFEST)
        or keys.is_uploaded_captions(path)
        or (path.startswith(keys.CAPTIONS) and path.endswith(".m3u8"))
    )


def _grows(key: str, body: bytes) -> bool | None:
    """Return whether more segments will follow. None: the manifest lists no segments."""
    if key.endswith(".mpd"):
        kind = _MPD_TYPE.search(body)
        return None if kind is None else kind[1] == b"dynamic"
    if not key.endswith(".m3u8") or b"\n#EXT-X-TARGETDURATION:" not in body:
        return None
    return not body.rstrip().endswith(b"\n#EXT-X-ENDLIST")


_MPD_TYPE = re.compile(rb'<MPD\b[^>]*\stype="(static|dynamic)"')


def _unless_given_up(manifest: Manifest, playable: Playable, run: str) -> Manifest:
    """Return a manifest that ends, or that of the run which is being encoded.

    A playlist of any other run would keep its viewers waiting forever. Instead, they load the video again.
    """
    if manifest.grows and run != playable.run:
        raise ObjectNotFound
    return manifest


def _captions_playlist(path: str, tracks: tuple[Track, ...], duration_seconds: float) -> Manifest:
    for track in tracks:
        if keys.captions_playlist_path(track.path) == path:
            return _with_hash(captions_playlist(track, duration_seconds).encode())
    raise ObjectNotFound


def _with_hash(body: bytes, *, grows: bool = False, is_final: bool = False) -> Manifest:
    return Manifest(body, hashlib.sha256(body).hexdigest()[:32], grows=grows, is_final=is_final)

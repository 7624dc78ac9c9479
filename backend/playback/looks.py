"""Waits for files of a look that its playlists name and that no worker has stored yet.

The playlists of a look are complete long before its segments (docs/media.md). A request for a missing file is
held until the file appears, and the worker is told which segment viewers wait for.
"""

import asyncio
import math
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field

from backend.core import keys
from backend.core.errors import STORE_AWAY, NotMadeYet, ObjectNotFound
from backend.core.jobs.wants import Wants
from backend.core.recent_reads import RecentReads
from backend.core.store.interface import Buckets, exists
from backend.playback.index import Playable
from backend.playback.manifest_reads import ManifestReads

HOLD_SECONDS = 9.0
"""Shaka Player and hls.js give up on a request that is not answered within 10 s."""
LOOK_SECONDS = 0.4
LOOKS_PER_SECOND = 250
"""All waits together ask the store no more often than this."""
MAX_WAITING = 1000
"""Requests held at a time. Each keeps a connection that cannot be closed to make room for others."""
KNOWN_FILES = 20_000


@dataclass(frozen=True, slots=True)
class _File:
    """A file of a look. `path` is relative to the look."""

    key: str
    playable: Playable = field(compare=False)
    path: str = field(compare=False)


class AwaitedFiles:
    """All requests for a file share one loop that looks for it."""

    def __init__(self, buckets: Buckets, manifests: ManifestReads, wants: Wants) -> None:
        self._buckets = buckets
        self._manifests = manifests
        self._wants = wants
        self._stored = RecentReads(self._appear, seconds=math.inf, capacity=KNOWN_FILES, clock=time.monotonic)
        self._waiting = 0
        self._loops: set[asyncio.Task[object] | None] = set()

    async def wait(self, playable: Playable, path: str) -> None:
        """Return once the current look's file is stored, or if it is none that is waited for.

        Raises:
            ObjectNotFound: the look will never have this file.
            NotMadeYet: it is not there in time, or too many requests wait.
        """
        if not path.startswith(_MEDIA) and all(track.path != path for track in playable.captions):
            return
        file = _File(keys.run_prefix(playable.video_id, playable.run) + path, playable, path)
        if self._stored.peek(file):
            return
        if self._waiting >= MAX_WAITING:
            if not await exists(self._buckets.video, file.key):
                raise NotMadeYet
            return
        self._waiting += 1
        try:
            await self._stored.get(file)
        finally:
            self._waiting -= 1

    def end(self) -> None:
        """Answer all requests that wait: the server stops."""
        for loop in self._loops:
            if loop is not None:
                loop.cancel()

    async def _appear(self, file: _File) -> bool:
        segment = await self._segment(file)
        asking: asyncio.Task[None] | None = None
        loop = asyncio.current_task()
        self._loops.add(loop)
        try:
            async with asyncio.timeout(HOLD_SECONDS):
                while not await self._is_stored(file.key):
                    if segment is not None and asking is None:
                        asking = asyncio.create_task(self._ask(file.playable, segment))
                    await asyncio.sleep(max(LOOK_SECONDS, len(self._loops) / LOOKS_PER_SECOND))
            return True
        except (TimeoutError, asyncio.CancelledError):
            raise NotMadeYet from None
        finally:
            self._loops.discard(loop)
            if asking is not None:
                asking.cancel()

    async def _is_stored(self, key: str) -> bool:
        with suppress(*STORE_AWAY):  # the request is held through short outages too
            return await exists(self._buckets.video, key)
        return False

    async def _ask(self, playable: Playable, segment: int) -> None:
        """Ask once: viewers who still want the segment request it again, those who jumped away do not."""
        with suppress(*STORE_AWAY):
            await self._wants.ask(keys.request_of_run(playable.video_id, playable.run), segment)

    async def _segment(self, file: _File) -> int | None:
        """Return the number of the segment, which is the same part of the film in all renditions of a look.

        None: the file is no segment. Raises: ObjectNotFound: no playlist names the file.
        """
        media = _MEDIA_FILE.fullmatch(file.path)
        if media is None:
            if file.path.startswith(_MEDIA):
                raise ObjectNotFound
            return None
        path = f"hls/{media['rendition']}.m3u8"
        playlist = await self._manifests.read(file.playable, file.playable.run, path)
        named = f"../{file.path}".encode()
        if b"\n%b\n" % named not in playlist.body and b'URI="%b"' % named not in playlist.body:
            raise ObjectNotFound
        return int(media["number"]) if media["number"] else None


_MEDIA = "media/"
_MEDIA_FILE = re.compile(r"media/(?P<rendition>[^/]+)/(?:(?P<number>[0-9]{1,9})\.m4s|init\.mp4)")

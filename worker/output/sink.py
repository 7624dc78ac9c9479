"""Takes the packager's PUTs on loopback and stores them: segments at once, playlists in a safe order.

A playlist is written only after every object it names, and the master only after all media playlists, so no
player ever requests an object that does not exist. The packager rewrites playlists about once per segment
and stream; they are stored at most every two seconds, and the last version always is. URIs are made
relative here: the packager only knows its loopback address.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import starmap

import structlog
from aiohttp import web

from backend.core.concurrency import gather_or_cancel, sleep_unless_set
from backend.core.errors import AttemptFailed, BadRequest, VodbucketError
from backend.core.keys import DASH_MANIFEST, MASTER_PLAYLIST, parse_asset_path
from backend.core.store.interface import ObjectHeaders, Store
from worker.output.corrections import corrected_manifest, corrected_master
from worker.output.growing_playlist import GrowingPlaylist
from worker.output.playlists import is_playlist
from worker.sandbox.background_errors import BackgroundErrors
from worker.sandbox.loopback import serve

log = structlog.get_logger(__name__)

MAX_UPLOADS_IN_FLIGHT = 8
"""When the store is slow, the packager waits, and then ffmpeg: memory stays bounded."""
PLAYLIST_EVERY_SECONDS = 2.0
PUBLISH_CHECK_SECONDS = 0.2
INIT_SEGMENT = "/init.mp4"
DEFAULT_AUDIO_PLAYLIST = "hls/aac.m3u8"
"""The playlist of the default track, as `worker.encode.ladder` names it."""

IMMUTABLE = "private, max-age=31536000, immutable"
_CONTENT_TYPES = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".mpd": "application/dash+xml",
    ".webm": "video/webm",
    ".jpg": "image/jpeg",
    ".vtt": "text/vtt; charset=utf-8",
}


def headers_of(path: str) -> ObjectHeaders:
    """Return the headers to store an output with. Playlists grow; everything else never changes."""
    suffix = path[path.rfind(".") :]
    if is_playlist(path):
        return ObjectHeaders(_CONTENT_TYPES[suffix], cache_control="no-cache")
    if suffix in _CONTENT_TYPES:
        return ObjectHeaders(_CONTENT_TYPES[suffix], cache_control=IMMUTABLE)
    kind = "audio" if path.startswith("media/aac") else "video"
    return ObjectHeaders(f"{kind}/mp4", cache_control=IMMUTABLE)


class PackagerSink:
    """Stores the packager's files below `prefix`. `sizes` maps stored paths to sizes."""

    def __init__(
        self,
        store: Store,
        prefix: str,
        media_playlists: frozenset[str],
        errors: BackgroundErrors,
        on_stored: Callable[[], None],
        on_media: Callable[[str, bytes], Awaitable[None]] | None = None,
        *,
        growing: bool = True,
        stores: bool = True,
    ) -> None:
        """Unless `growing`, neither playlists nor init segments are stored before `finish`.

        Unless `stores`, nothing is: all that the packager makes is for `on_media`.

        `on_media` gets all other files, those of a rendition in the packager's order.
        """
        self._store = store
        self._prefix = prefix
        self._media_playlists = media_playlists
        self._errors = errors
        self._on_stored = on_stored
        self._on_media = on_media
        self._growing = growing
        self._stores = stores
        self._base = ""
        self._uploads: dict[str, asyncio.Task[None]] = {}  # in flight
        self._inits: dict[str, bytes] = {}
        self._free = asyncio.Semaphore(MAX_UPLOADS_IN_FLIGHT)
        self._playlists: dict[str, GrowingPlaylist] = {}
        self._published_at: dict[str, float] = {}
        self._finishing = asyncio.Event()
        self._publisher: asyncio.Task[None] | None = None
        self.sizes: dict[str, int] = {}
        self.segments = 0

    @property
    def playable(self) -> bool:
        """Whether it can be watched while it grows: the master and each stream's first segment are stored."""
        return self._growing and MASTER_PLAYLIST in self.sizes

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Yield the URL to write below. At the end of the block no upload is in flight."""
        async with serve(self._handle) as base:
            self._base = base
            if self._growing:
                self._publisher = asyncio.create_task(self._keep_publishing())
            try:
                yield base
            finally:
                tasks = (*((self._publisher,) if self._publisher else ()), *self._uploads.values())
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def finish(self) -> None:
        """Wait for uploads in flight and write the final playlists. Raises: AttemptFailed, StoreError."""
        await asyncio.gather(*self._uploads.values())
        # a growing playlist in flight must reach the store before its final version
        self._finishing.set()
        if self._publisher is not None:
            await self._publisher
        self._errors.check()
        await gather_or_cancel(starmap(self.put, self._inits.items()))
        await self._publish(last=True)
        if waiting := sorted(path for path, playlist in self._playlists.items() if playlist.waits):
            raise AttemptFailed(
                f"Playlists name segments that were never written: {waiting}.",
                code="outputs_incomplete",
            )

    async def put(self, path: str, body: bytes) -> None:
        """Store one output. Raises: StoreError."""
        await self._store.put(self._prefix + path, body, headers_of(path))
        self.sizes[path] = len(body)
        self.segments += path.endswith(".m4s")
        self._on_stored()

    async def _handle(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        if request.method != "PUT":
            return web.Response(status=405)
        if self._errors.any:
            return web.Response(status=500)
        try:
            parse_asset_path(path)
        except BadRequest as error:
            self._errors.report(
                AttemptFailed(f"The packager wrote to an invalid path: {path}.", code="packager_failed")
            )
            return web.Response(status=400, text=error.message)
        body = bytearray()
        async for chunk in request.content.iter_any():
            body += chunk
        if is_playlist(path):
            if not self._stores:
                return web.Response()
            if path not in self._playlists:
                # players read the master once: it must name every stream from the start
                required = self._media_playlists if path == MASTER_PLAYLIST else frozenset()
                self._playlists[path] = GrowingPlaylist(path, required, self._for_players)
            self._playlists[path].add(bytes(body))
        else:
            whole = bytes(body)
            if self._on_media is not None:
                await self._on_media(path, whole)
            if not self._stores:
                return web.Response()
            if not self._growing and path.endswith(INIT_SEGMENT):  # the packager will write it once more
                self._inits[path] = whole
                return web.Response()
            await self._free.acquire()
            self._uploads[path] = asyncio.create_task(self._upload(path, whole, self._uploads.get(path)))
        return web.Response()

    async def _upload(self, path: str, body: bytes, earlier: asyncio.Task[None] | None) -> None:
        try:
            if earlier is not None:  # the packager rewrites init segments at the end: the last one must win
                await earlier
            await self.put(path, body)
        except Exception as error:  # noqa: BLE001  # nobody awaits this task in time: it must not fail silently
            self._report(error)
        finally:
            self._free.release()
            if self._uploads.get(path) is asyncio.current_task():
                del self._uploads[path]

    async def _keep_publishing(self) -> None:
        """Publish until `finish` takes over; they never publish at the same time."""
        try:
            while True:
                await sleep_unless_set(self._finishing, PUBLISH_CHECK_SECONDS)
                if self._finishing.is_set():
                    return
                await self._publish()
        except Exception as error:  # noqa: BLE001  # as above
            self._report(error)

    async def _publish(self, *, last: bool = False) -> None:
        """Store what is ready and due: media playlists, then the manifest, then the master."""
        media = [path for path in self._playlists if path not in {MASTER_PLAYLIST, DASH_MANIFEST}]
        results = await asyncio.gather(
            *(self._publish_one(path, last) for path in media), return_exceptions=True
        )
        for error in results:  # raised only now, when nothing is in flight
            if error is not None:
                raise error
        for path in (DASH_MANIFEST, MASTER_PLAYLIST):
            if path in self._playlists:
                await self._publish_one(path, last)

    async def _publish_one(self, path: str, last: bool) -> None:
        now, playlist = time.monotonic(), self._playlists[path]
        is_due = now - self._published_at.get(path, -PLAYLIST_EVERY_SECONDS) >= PLAYLIST_EVERY_SECONDS
        if playlist.waits and (last or is_due):
            body = await (playlist.take_last(self.sizes) if last else playlist.take(self.sizes))
            if body is not None:
                await self.put(path, body)
                self._published_at[path] = now

    def _report(self, error: Exception) -> None:
        if not isinstance(error, VodbucketError):
            log.error("output_lost", exc_info=error)
        self._errors.report(error, meaning="An output could not be stored", code="output_lost")

    def _for_players(self, path: str, body: bytes) -> bytes:
        """Make URIs relative; playlists are one level down. The packager turns `http://` into `http:/`."""
        base = self._base.encode()
        relative = body.replace(base, b"../").replace(base.replace(b"://", b":/"), b"../")
        if path == MASTER_PLAYLIST:
            return corrected_master(relative, DEFAULT_AUDIO_PLAYLIST)
        return corrected_manifest(relative) if path == DASH_MANIFEST else relative

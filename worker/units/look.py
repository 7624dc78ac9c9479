"""Makes a look: its segments from a cursor on, by one ffmpeg at a time, wherever viewers want them first.

The playlists name all segments from the start; the API lets players wait for those that are not there yet.
Each segment has fixed frames, so it does not matter which run of ffmpeg makes it.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path

import structlog

from backend.core.concurrency import run_unless_set
from backend.core.errors import AttemptFailed, StoreError
from backend.core.keys import DASH_MANIFEST, MASTER_PLAYLIST
from worker.encode.ffmpeg_arguments import pipe_name
from worker.encode.grid import SAMPLES_PER_AAC_FRAME
from worker.encode.look_arguments import LookSource, look_arguments
from worker.encode.look_plan import LookPlan, LookRendition
from worker.encode.packager_arguments import media_playlist
from worker.output import vod_playlists
from worker.output.fragments import (
    Config,
    Fragment,
    FragmentError,
    FragmentReader,
    PictureCutter,
    Segment,
    SoundCutter,
    moved,
)
from worker.sandbox.limits import encoding_limits
from worker.sandbox.process import read_pipe, running
from worker.sandbox.watchdog import wait_for_success
from worker.transcode.early_look import Put

READ_BYTES = 256 * 1024
MAX_UPLOADS_IN_FLIGHT = 4
"""When the store is slow, ffmpeg waits: memory stays bounded."""
WORTH_MOVING_SECONDS = 3.0
"""What is reached sooner is not worth a new ffmpeg."""
SEGMENTS_BEFORE_MOVING = 2
"""Each run of ffmpeg makes so many, or viewers of two places could keep it from getting anywhere."""
WANTS_EVERY_SECONDS = 0.5

log = structlog.get_logger(__name__)


class LookMaker:
    """Makes any number of looks at the same time."""

    def __init__(self, ffmpeg: Path, *, wants_every_seconds: float = WANTS_EVERY_SECONDS) -> None:
        self._ffmpeg = ffmpeg
        self._wants_every_seconds = wants_every_seconds

    async def run(
        self,
        look: LookPlan,
        source: LookSource,
        directory: Path,
        put: Put,
        playable: Callable[[], None],
        wanted: Callable[[], Awaitable[int | None]],
        *,
        stored: Iterable[str] = (),
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        """Return when all segments are stored.

        `playable` is called once playlists and first segments are stored, `progress` for all data. `wanted`
        returns the number in the name of the segment that viewers waited for last. `stored` are
        paths that exist already.

        Raises:
            AttemptFailed: ffmpeg failed, or wrote something else than was planned.
            StoreError.
        """
        look_in_making = _Look(look, source, directory, put, playable, progress, self._ffmpeg, set(stored))
        watching = asyncio.create_task(look_in_making.follow(wanted, self._wants_every_seconds))
        try:
            await look_in_making.run()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


@dataclass
class _Look:
    """The state of one look. Segments are counted from 0."""

    _plan: LookPlan
    _source: LookSource
    _directory: Path
    _put: Put
    _playable: Callable[[], None]
    _progress: Callable[[], None]
    _ffmpeg: Path
    _stored: set[str]
    _wanted: int | None = None
    _begin: int = 0
    """Where the running ffmpeg began."""
    _begun_at: float = 0.0
    _end: int = 0
    """The first segment after that which had been made before, or how many there are."""
    _runs: int = 0
    _configs: dict[str, Config] = field(default_factory=dict)
    _turn: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the running ffmpeg should end: there is more urgent work elsewhere, or none where it is."""

    def __post_init__(self) -> None:
        names = {one.name for one in self._plan.renditions}
        self._missing = [
            {name for name in names if vod_playlists.segment_path(name, number) not in self._stored}
            for number in range(self._plan.segments)
        ]
        if MASTER_PLAYLIST not in self._stored:  # its contents are known once a first segment is made
            self._missing[0] = names
        self._free = asyncio.Semaphore(MAX_UPLOADS_IN_FLIGHT)

    async def run(self) -> None:
        if MASTER_PLAYLIST in self._stored:
            self._playable()
        while (segment := self._next()) is not None:
            self._begin, self._begun_at, self._runs = segment, time.monotonic(), self._runs + 1
            self._turn.clear()
            made = (number for number in range(segment, self._plan.segments) if not self._missing[number])
            self._end = next(made, self._plan.segments)
            await run_unless_set(self._turn, self._make_from(segment))
            if self._missing[segment] and not self._turn.is_set():
                raise AttemptFailed(f"The look has no segment {segment + 1}.", code="look_failed")

    def _next(self) -> int | None:
        """Return the segment to begin with: the one that is wanted, or else the first that is missing."""
        if self._wanted is not None and self._missing[self._wanted]:
            return self._wanted
        return self._first_missing(0)

    def _first_missing(self, start: int) -> int | None:
        return next((number for number in range(start, self._plan.segments) if self._missing[number]), None)

    async def follow(self, wanted: Callable[[], Awaitable[int | None]], every_seconds: float) -> None:
        """Ask again and again what viewers want, until cancelled."""
        while True:
            await asyncio.sleep(every_seconds)
            with suppress(StoreError):  # it is only a wish
                segment = await wanted()
                if segment is not None and 1 <= segment <= self._plan.segments:
                    self._wanted = segment - 1
                    self._move_if_worth_it(self._wanted)

    def _move_if_worth_it(self, wanted: int) -> None:
        position = self._first_missing(self._begin)
        made = (self._plan.segments if position is None else position) - self._begin
        if not self._missing[wanted] or position is None or made < SEGMENTS_BEFORE_MOVING:
            return
        pace_seconds = (time.monotonic() - self._begun_at) / made
        if wanted < position or (wanted - position) * pace_seconds > WORTH_MOVING_SECONDS:
            log.info("look_moves", segment=wanted + 1, from_segment=position + 1)
            self._turn.set()

    async def _make_from(self, segment: int) -> None:
        pipes = self._directory / f"look-{self._runs}"
        pipes.mkdir()
        for one in self._plan.renditions:
            os.mkfifo(pipes / pipe_name(one.name), 0o600)
        source = self._source
        argv = look_arguments(self._ffmpeg, self._plan, source, segment)
        limits = encoding_limits(source.media.duration_seconds, niceness=0)
        async with (
            running(argv, cwd=pipes, discard_stdout=True, limits=limits) as encoding,
            asyncio.TaskGroup() as group,
        ):
            encoded = group.create_task(wait_for_success(encoding, "look_failed"))
            for one in self._plan.renditions:
                group.create_task(self._take(one, pipes / pipe_name(one.name), segment, encoded, group))

    async def _take(
        self,
        one: LookRendition,
        pipe: Path,
        segment: int,
        encoded: Awaitable[None],
        group: asyncio.TaskGroup,
    ) -> None:
        """Store the segments of one rendition. Raises: AttemptFailed, StoreError."""
        reader, shift = FragmentReader(), 0
        cutter = _cutter(one, segment)
        file = FileIO(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
        try:
            async with read_pipe(file, READ_BYTES) as pieces:
                while piece := await pieces.read(READ_BYTES):
                    self._progress()
                    for fragment in reader.feed(piece):
                        if fragment.kind == "init":
                            shift = await self._store_init(one, fragment.body, reader.config)
                        else:
                            await self._store_all(one, cutter.feed(_shifted(fragment, shift)), group)
            await encoded  # a film that was cut off must not be taken for one that ended
            reader.finish()
            await self._store_all(one, cutter.finish(), group)
        except FragmentError as error:
            raise AttemptFailed(f"The look's {one.name}: {error}.", code="look_failed") from error

    async def _store_init(self, one: LookRendition, body: bytes, config: Config | None) -> int:
        """Return what to add to the times of fragments that players read with the stored init segment."""
        if config is None:
            raise FragmentError("no configuration")
        known = self._configs.setdefault(one.name, config)
        if replace(config, shift=known.shift, digest=known.digest) != known:
            raise FragmentError("another configuration than before")
        if (path := vod_playlists.init_path(one.name)) not in self._stored:
            await self._put(path, body)
            self._stored.add(path)
        return config.shift - known.shift

    async def _store_all(
        self, one: LookRendition, segments: Iterable[Segment], group: asyncio.TaskGroup
    ) -> None:
        for segment in segments:
            if one.name in self._missing[segment.number]:
                await self._free.acquire()
                group.create_task(self._store(one, segment))

    async def _store(self, one: LookRendition, segment: Segment) -> None:
        try:
            await self._put(vod_playlists.segment_path(one.name, segment.number), segment.body)
        finally:
            self._free.release()
        self._missing[segment.number].discard(one.name)
        if self._missing[segment.number]:
            return
        if MASTER_PLAYLIST not in self._stored:
            self._stored.add(MASTER_PLAYLIST)
            await self._publish()
        if self._end < self._plan.segments and not any(self._missing[self._begin : self._end]):
            self._turn.set()

    async def _publish(self) -> None:
        """Store playlists and manifest: they name everything, and never change."""
        codecs = {name: config.codec_string for name, config in self._configs.items()}
        files = {
            **{
                media_playlist(one.name): vod_playlists.media_playlist(one).encode()
                for one in self._plan.renditions
            },
            DASH_MANIFEST: vod_playlists.static_mpd(self._plan, codecs),
        }
        async with asyncio.TaskGroup() as group:
            for path, body in files.items():
                group.create_task(self._put(path, body))
        await self._put(MASTER_PLAYLIST, vod_playlists.master_playlist(self._plan, codecs).encode())
        self._playable()


def _shifted(fragment: Fragment, ticks: int) -> Fragment:
    """Return the fragment for another edit list, at its place in the film."""
    return replace(fragment, body=moved(fragment, fragment.first_pts + ticks)) if ticks else fragment


def _cutter(one: LookRendition, segment: int) -> PictureCutter | SoundCutter:
    if one.codec == "h264":
        return PictureCutter(one.starts, segment, constant_rate=not one.copied)
    return SoundCutter([start // SAMPLES_PER_AAC_FRAME for start in one.starts], segment)

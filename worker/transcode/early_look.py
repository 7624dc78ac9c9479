"""Makes a look beside the attempt that encodes the ladder. If it fails, the attempt goes on without it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import structlog

from backend.core import keys
from backend.core.errors import AttemptFailed, StoreError, VodbucketError
from backend.core.jobs.wants import Wants
from backend.core.library.videos import read_item
from backend.core.records import CaptionTrack, Job, Rendition, Stage
from backend.core.store.interface import Buckets, ObjectInfo
from worker.encode.ffmpeg_arguments import caption_arguments, early_poster_arguments
from worker.encode.ladder import EncodingPlan, is_small
from worker.encode.look_arguments import LookSource
from worker.encode.look_plan import LookPlan, plan_look
from worker.output.side_files import store_side_files
from worker.output.sink import headers_of
from worker.sandbox.activity import ActivityClock
from worker.sandbox.background_errors import BackgroundErrors
from worker.sandbox.limits import encoding_limits
from worker.sandbox.process import running
from worker.sandbox.resources import cores
from worker.sandbox.watchdog import Watchdog, wait_for_success
from worker.source.feeder import SourceFeeder
from worker.source.index.read import Read, read_index
from worker.source.index.source_index import IndexUnusable
from worker.source.media import MediaInfo
from worker.transcode.progress import Look
from worker.transcode.watched_store import watched

log = structlog.get_logger(__name__)

MAX_BEGIN_SECONDS = 5.0
NO_CAPTIONS = b"WEBVTT\n"

Put = Callable[[str, bytes], Coroutine[Any, Any, None]]
"""Stores one object of the look. Takes its path. Raises: StoreError."""


class MakeLook(Protocol):
    """`worker.units.look.LookMaker.run`, or a test double."""

    async def __call__(
        self,
        look: LookPlan,
        source: LookSource,
        directory: Path,
        put: Put,
        playable: Callable[[], None],
        wanted: Callable[[], Awaitable[int | None]],
        *,
        progress: Callable[[], None],
    ) -> None: ...


@dataclass
class EarlyLook:
    """The look of one attempt. `changed` is called when there is something new to report."""

    _make: MakeLook | None
    _buckets: Buckets
    _ffmpeg: Path
    _job: Job
    _info: ObjectInfo
    _run: str
    _stall_seconds: float
    _patience_seconds: float
    _segment_seconds: float
    _directory: Path
    changed: Callable[[], None] = lambda: None
    shown: Look | None = None
    """Set once it can be played, and no longer if it failed."""
    _task: "asyncio.Task[None] | None" = None
    _playable: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_coming(self) -> bool:
        """Whether viewers should wait for the look, or play it, rather than the growing ladder."""
        return self.shown is not None or (self._task is not None and not self._task.done())

    @asynccontextmanager
    async def beside(self, read: Read, media: MediaInfo, plan: EncodingPlan) -> AsyncIterator[None]:
        """Make the look, if the source allows one, during the block. `read` reads the source."""
        if self._make is not None and media.video is not None:
            look = await self._plan(read, media, plan)
            if look is not None:
                source = LookSource("", media, media.video, plan.audio)
                work = self._make_all(self._make, look, source, plan)
                self._task = asyncio.create_task(self._survive(work))
        try:
            yield
        finally:
            if self._task is not None:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)

    async def begun(self) -> None:
        """Wait until viewers can begin, if that is soon: until then, the look gets all of the machine."""
        if self._task is not None:
            playable = asyncio.ensure_future(self._playable.wait())
            await asyncio.wait(
                {self._task, playable}, timeout=MAX_BEGIN_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            playable.cancel()

    async def finish(self) -> None:
        """Wait until no viewer of the look will have to wait."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _plan(self, read: Read, media: MediaInfo, plan: EncodingPlan) -> LookPlan | None:
        if is_small(media) or plan.only or not self._job.options.early_look:
            return None
        try:
            if await is_published(self._buckets, self._job):
                return None
            index = await read_index(read, media)
        except (IndexUnusable, StoreError) as error:
            log.info("no_look", reason=str(error))
            return None
        return plan_look(media, index, plan, self._info.size_bytes, self._segment_seconds, cores())

    async def _survive(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception as error:  # of whatever kind: there is still the ladder
            log.warning(
                "look_failed", error=str(error), exc_info=not isinstance(error, AttemptFailed | StoreError)
            )
            self.shown = None
        self.changed()

    async def _make_all(self, make: MakeLook, look: LookPlan, source: LookSource, plan: EncodingPlan) -> None:
        """Store the look and, as soon as it can be played, what belongs to it."""
        errors, activity = BackgroundErrors(), ActivityClock()
        buckets = watched(self._buckets, activity)
        prefix = keys.run_prefix(self._job.id, self._run)
        wants = Wants(self._buckets.raw)

        async def put(path: str, body: bytes) -> None:
            await buckets.video.put(prefix + path, body, headers_of(path))

        def playable() -> None:
            # players read the list of captions once, so it names them all; requests wait for the files
            captions = tuple(stream.track for stream in plan.captions)
            self.shown = Look(self._run, (look.rung.label,), renditions_of(look), captions)
            log.info("look_playable", kind=look.kind, segments=look.segments)
            self.changed()
            self._playable.set()

        async def sides(source: LookSource) -> None:
            await self._playable.wait()
            await self._store_sides(put, source, plan)

        feeder = SourceFeeder(buckets.raw, self._info, errors, self._patience_seconds, activity)
        watchdog = Watchdog(errors, activity, self._stall_seconds)
        async with feeder.serving() as url:
            source = replace(source, url=url)
            beside = asyncio.create_task(sides(source))
            try:
                making = make(
                    look,
                    source,
                    self._directory,
                    put,
                    playable,
                    lambda: wants.newest(self._job.request),
                    progress=activity.touch,
                )
                await watchdog.guarded(making, "The look", "look_stalled")
                log.info("look_complete")
                with suppress(VodbucketError):  # the look is whole without its extras
                    await watchdog.guarded(_ended(beside), "The look", "look_stalled")
            finally:
                beside.cancel()
                await asyncio.gather(beside, return_exceptions=True)

    async def _store_sides(self, put: Put, source: LookSource, plan: EncodingPlan) -> None:
        """Store poster and captions. They are extras: without them the look plays on."""
        directory = self._directory / "look-sides"
        directory.mkdir()
        media, url = source.media, source.url

        async def store(argv: Sequence[str], plan: EncodingPlan) -> tuple[CaptionTrack, ...]:
            limits = encoding_limits(media.duration_seconds, niceness=0)
            async with running(argv, cwd=directory, discard_stdout=True, limits=limits) as process:
                await wait_for_success(process, "look_failed")
            return await store_side_files(put, directory, plan, None, media.duration_seconds or 0)

        try:
            poster = early_poster_arguments(self._ffmpeg, media, source.video, url)
            await store(poster, replace(plan, captions=()))
            if plan.captions:  # which takes reading the whole source
                found = await store(caption_arguments(self._ffmpeg, plan, media, url), plan)
                for track in (stream.track for stream in plan.captions):
                    if track not in found:
                        await put(track.path, NO_CAPTIONS)
        except VodbucketError as error:
            log.info("look_without_extras", error=error.message)
            if self.shown is not None:
                self.shown = replace(self.shown, captions=())
                self.changed()


async def is_published(buckets: Buckets, job: Job) -> bool:
    """Return whether viewers have the outputs of an earlier request."""
    if not keys.request_number(job.request):
        return False
    return (await read_item(buckets, job.id)).status.stage is Stage.COMPLETE


async def _ended(task: "asyncio.Task[None]") -> None:
    await task


def renditions_of(look: LookPlan) -> tuple[Rendition, ...]:
    """Return how viewers are told of the look's streams."""
    return tuple(
        Rendition(
            name=one.name,
            kind="audio" if one.codec == "aac" else "video",
            codec=one.codec,
            quality=None if one.codec == "aac" else look.rung.label,
            width=one.width or None,
            height=one.height or None,
            bitrate_bps=one.bps if one.codec == "aac" else None,
            language=one.language,
            label=one.label or None,
        )
        for one in look.renditions
    )

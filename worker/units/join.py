"""Joins the units of a video to its outputs: the streams of all chunks in order, through packager and WebM.

Reads only what the ends of the units name. It can start while the last chunks are being encoded.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import structlog
from aiohttp import web

from backend.core import keys
from backend.core.errors import AttemptFailed, SourceRejected
from backend.core.records import Job, Stage
from backend.core.store.ranged_read import read_span
from backend.core.unit_records import UnitEnd, UnitFailure, UnitObject, UnitOutputs, UnitPlan
from worker.encode.ffmpeg_arguments import SOUND_PIPE, WEBM_PIPE, pipe_name, webm_arguments
from worker.encode.grid import Chunk
from worker.encode.packager_arguments import packager_arguments, playlists_of
from worker.output.decode_check import check_decoding
from worker.output.download_plan import DownloadPlan
from worker.output.fragments import Config, Fragment, FragmentError, FragmentReader
from worker.output.mp4_sink import Mp4Sink
from worker.output.sink import PackagerSink
from worker.output.verify import verify_mp4, verify_outputs, verify_webm
from worker.output.webm_sink import WebmSink
from worker.sandbox.activity import ActivityClock
from worker.sandbox.background_errors import BackgroundErrors
from worker.sandbox.exit_codes import FFMPEG_EXIT_CODES
from worker.sandbox.loopback import serve
from worker.sandbox.process import running
from worker.sandbox.watchdog import Watchdog, wait_for_success
from worker.sandbox.workspace import workspace
from worker.source.completeness import DAMAGED, MAX_DECODE_ERROR_RATE
from worker.source.description import chapters_of, describe_source
from worker.source.duration_limits import max_encoded_seconds
from worker.source.feeder import SourceFeeder
from worker.transcode.diagnosis import diagnose_failure
from worker.transcode.early_look import renditions_of
from worker.transcode.intake import source_store, uploaded_source
from worker.transcode.progress import Look, Progress, ReportProgress
from worker.transcode.transcoder import Transcoded, packaged
from worker.transcode.watched_store import watched
from worker.units.attempt import Workshop
from worker.units.details import PlanDetails
from worker.units.sides import SOUND_NAME

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
"""Between two looks at which units have ended."""
UNLIKE_CHUNKS = "unlike_chunks"
"""The code of chunks that cannot be joined: their encoders differed."""
UNLIKE_COPY = "unlike_copy"
"""The code of a picture that was to be copied, but must be encoded."""
UNREADABLE = "unit_unreadable"

Ends = Callable[[], Awaitable[Mapping[str, UnitEnd]]]
"""Returns the ends of the units so far. Raises when there is no point in waiting for others."""


class Joiner:
    """Joins videos, any number at the same time."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop

    async def run(self, job: Job, plan: UnitPlan, run: str, ends: Ends, report: ReportProgress) -> Transcoded:
        """Write the outputs below `keys.run_prefix(job.id, run)`.

        Raises:
            SourceRejected, AttemptFailed, MachineFault, StoreError: as `Transcoder.run`.
        """
        with workspace(self._workshop.work_dir) as directory:
            return await _Join(self._workshop, job, plan, run, ends, report, directory).run()


@dataclass
class _Join:
    """The state of one join."""

    _workshop: Workshop
    _job: Job
    _plan: UnitPlan
    _run: str
    _ends: Ends
    _report_to: ReportProgress
    _directory: Path
    _known: dict[str, UnitOutputs] = field(default_factory=dict)
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _look: Look | None = None

    def __post_init__(self) -> None:
        self._details = PlanDetails.of(self._plan)
        self._prefix = keys.run_prefix(self._job.id, self._run)
        self._errors = BackgroundErrors()
        self._activity = ActivityClock()
        self._video = watched(self._workshop.buckets, self._activity).video
        self._watchdog = Watchdog(self._errors, self._activity, self._workshop.profile.stall_seconds)
        details = self._details
        download = DownloadPlan(
            *(self._video, self._prefix, details.encoding, details.media, details.segment_seconds),
            *(max_encoded_seconds(details.media, self._job.stored_bytes), self._activity.touch),
        )
        self._webm = WebmSink(download)
        has_mp4 = "mp4" in self._workshop.profile.downloads and details.encoding.fits_mp4
        self._mp4 = Mp4Sink(download) if has_mp4 else None
        self._sink = PackagerSink(
            self._video,
            self._prefix,
            playlists_of(self._details.encoding),
            self._errors,
            self._stored,
            self._mp4.feed if self._mp4 else None,
            growing=False,
        )

    async def run(self) -> Transcoded:
        if self._details.look and not isinstance((await self._ends()).get(keys.LOOK), UnitFailure):
            self._look = Look(
                self._plan.look,
                (self._details.look.rung.label,),
                renditions_of(self._details.look),
                tuple(stream.track for stream in self._details.encoding.captions),
            )
        try:
            async with serve(self._answer) as inputs, self._sink.serving() as url:
                downloads = await self._watchdog.guarded(self._package(inputs, url), "The packager")
                return await self._watchdog.guarded(
                    self._finalize(downloads), "The check of the outputs", "check_stalled"
                )
        except AttemptFailed as error:
            await self._reject_broken_source(error)
            raise

    async def _reject_broken_source(self, error: AttemptFailed) -> None:
        """Find out whether the file is broken, and not just this attempt. Raises: SourceRejected."""
        profile = self._workshop.profile
        store = source_store(watched(self._workshop.buckets, self._activity), self._job)
        info = await uploaded_source(store, self._job)
        feeder = SourceFeeder(store, info, self._errors, profile.patience_seconds, self._activity)
        async with feeder.serving() as source:
            work = diagnose_failure(
                *(self._workshop.tools, source, self._details.media, error),
                *(self._details.segment_seconds, self._activity.touch),
            )
            await self._watchdog.guarded(work)

    async def _package(self, inputs: str, url: str) -> dict[str, int]:
        """Return the sizes of the files for download."""
        details, tools = self._details, self._workshop.tools
        plan, segment = details.encoding, details.segment_seconds
        webm_pipe = self._directory / WEBM_PIPE
        os.mkfifo(webm_pipe, 0o600)
        picture = inputs + pipe_name(plan.webm_video.name if plan.webm_video else "")
        packager = packager_arguments(tools.packager, plan, inputs, url, segment, growing=False)
        muxer = webm_arguments(tools.ffmpeg, plan, picture, inputs + SOUND_PIPE)
        async with (
            running(packager, cwd=self._directory, discard_stdout=True) as packaging,
            running(muxer, cwd=self._directory, discard_stdout=True) as muxing,
            asyncio.TaskGroup() as group,
        ):
            muxed = group.create_task(wait_for_success(muxing, "packager_failed", FFMPEG_EXIT_CODES))
            group.create_task(packaged(packaging, self._mp4))
            stored = {keys.DOWNLOAD: group.create_task(self._webm.store(webm_pipe, muxed))}
            if self._mp4 is not None:
                stored[keys.DOWNLOAD_MP4] = group.create_task(self._mp4.store())
        return {path: task.result() for path, task in stored.items()}

    async def _answer(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """Send one rendition, or the sound of the WebM, as far as it is there."""
        answer = web.StreamResponse()
        await answer.prepare(request)
        try:
            async for piece in self._stream(path):
                try:
                    await answer.write(piece)
                except ConnectionError:
                    return answer  # the reader has failed, which is noticed elsewhere
            with suppress(ConnectionError):
                await answer.write_eof()
        except Exception as error:  # noqa: BLE001  # aiohttp would only log it, and the reader see an end
            log.warning("join_failed", stream=path, error=repr(error))
            self._errors.report(error, meaning="A unit could not be read", code=UNREADABLE)
            if request.transport is not None:
                request.transport.abort()
        return answer

    async def _stream(self, path: str) -> AsyncIterator[bytes]:
        encoding = self._details.encoding
        if any(path == pipe_name(stream.name) for stream in encoding.encoded.video):
            first: UnitObject | None = None
            for chunk in self._details.chunks:
                found = await self._object(keys.chunk(chunk.number), path.replace(".pipe", ".mp4"))
                first = first or found
                if found.config != first.config:
                    raise AttemptFailed(f"Chunk {chunk.number} was encoded differently.", code=UNLIKE_CHUNKS)
                async for piece in self._fragments(chunk, found):
                    yield piece
        else:
            name = SOUND_NAME if path == SOUND_PIPE else path.replace(".pipe", ".mp4")
            async for piece in self._read(keys.SIDES, await self._object(keys.SIDES, name)):
                yield piece

    async def _fragments(self, chunk: Chunk, found: UnitObject) -> AsyncIterator[bytes]:
        """Yield the stream of one chunk, whose frames have the times of the whole video.

        Only the first one keeps its init segment: the others are alike.
        """
        reader, frames = FragmentReader(), 0
        try:
            async for piece in self._read(keys.chunk(chunk.number), found):
                for fragment in reader.feed(piece):
                    if fragment.kind == "media" and not frames:
                        self._check_start(chunk, fragment, reader.config)
                    frames += fragment.samples
                    if fragment.kind == "media" or chunk.number == 0:
                        yield fragment.body
            reader.finish()
        except FragmentError as error:
            raise _unreadable(f"chunk {chunk.number} is broken ({error})") from error
        if frames != found.frames:
            raise _unreadable(f"chunk {chunk.number} has {frames} frames, not {found.frames}")

    def _check_start(self, chunk: Chunk, fragment: Fragment, config: Config | None) -> None:
        ticks = Fraction(config.timescale if config else 0) / (self._details.encoding.fps or 1)
        if fragment.first_pts != round(chunk.first_frame * ticks):
            raise _unreadable(f"chunk {chunk.number} begins at {fragment.first_pts}")

    async def _read(self, unit: str, found: UnitObject) -> AsyncIterator[bytes]:
        outputs = keys.unit_outputs(self._job.id, self._plan.work, unit, self._known[unit].token)
        pieces = read_span(
            self._video,
            outputs + found.name,
            0,
            found.size_bytes,
            patience_seconds=self._workshop.profile.patience_seconds,
        )
        while True:
            with self._activity.waiting():
                piece = await anext(pieces, b"")
            if not piece:
                return
            yield piece

    async def _object(self, unit: str, name: str) -> UnitObject:
        for found in (await self._end_of(unit)).objects:
            if found.name == name:
                return found
        copied = self._details.encoding.copied_video
        if copied and name == f"{copied.name}.mp4":
            raise AttemptFailed("The picture was not what its index says.", code=UNLIKE_COPY)
        raise _unreadable(f"{unit} did not make {name}")

    async def _end_of(self, unit: str) -> UnitOutputs:
        """Wait until the unit has ended."""
        with self._activity.waiting():
            while unit not in self._known:
                async with self._looking:
                    if unit in self._known:
                        break
                    ends = await self._ends()
                    self._known |= {name: end for name, end in ends.items() if isinstance(end, UnitOutputs)}
                    self._report()
                    if unit not in self._known:
                        await asyncio.sleep(LOOK_SECONDS)
        return self._known[unit]

    async def _finalize(self, downloads: dict[str, int]) -> Transcoded:
        details, profile = self._details, self._workshop.profile
        plan, media, tools = details.encoding, details.media, self._workshop.tools
        self._check_decode_errors()
        stored = (tools, self._video, self._prefix, plan, profile.patience_seconds, self._activity)
        webm_seconds = await verify_webm(*stored)
        mp4_seconds = await verify_mp4(*stored) if self._mp4 else None
        await self._sink.finish()
        sides = await self._end_of(keys.SIDES)
        await self._copy_files(sides)
        sizes = self._sink.sizes | downloads
        segment = details.segment_seconds
        verified = await verify_outputs(
            self._video, self._prefix, plan, media, sizes, webm_seconds, segment, mp4_seconds
        )
        touch, largest = self._activity.touch, plan.largest_pixels
        await check_decoding(tools, self._video, self._prefix, verified.edges, touch, largest)
        self._report()
        return Transcoded(
            media.duration_seconds or verified.duration_seconds,
            plan.qualities,
            plan.renditions,
            verified.objects,
            profile.encoders.description,
            captions=sides.captions,
            chapters=chapters_of(media, webm_seconds),
            source=describe_source(media, self._job.stored_bytes),
            attempt=self._attempt,
        )

    def _check_decode_errors(self) -> None:
        """Raises: SourceRejected: too much of the picture is damaged. AttemptFailed: too much to copy it."""
        ends = self._known.values()
        allowed = MAX_DECODE_ERROR_RATE * sum(end.decoded for end in ends)
        if sum(end.decode_errors for end in ends) > allowed:
            raise SourceRejected(
                "This file is damaged: the picture cannot be decoded, or only in part.", code=DAMAGED
            )
        # what ffmpeg conceals, a browser may stop at
        if self._details.encoding.copied_video and any(end.decode_errors or end.corrupt for end in ends):
            raise AttemptFailed("The copied picture is damaged.", code=UNLIKE_COPY)

    async def _copy_files(self, sides: UnitOutputs) -> None:
        """Copy what viewers of the look have been using: poster, storyboard, captions."""
        look = keys.run_prefix(self._job.id, self._plan.look)
        streams = {SOUND_NAME, *(f"{name}.mp4" for name in self._details.encoding.names)}
        for found in sides.objects:
            if found.name not in streams:
                await self._sink.put(found.name, (await self._video.get(look + found.name)).body)

    def _stored(self) -> None:
        self._activity.touch()
        self._report()

    def _report(self) -> None:
        """Report the progress of the chunks as long as one is missing, then that of the join."""
        details = self._details
        plan, encoded = details.encoding, details.share_of(self._known)
        stored = self._sink.segments / (len(plan.names) * details.seconds / details.segment_seconds)
        self._report_to(
            Progress(
                stage=Stage.FINALIZING if encoded == 1 else Stage.TRANSCODING,
                stage_progress=min(1.0, stored) if encoded == 1 else encoded,
                playable=self._look is not None,
                duration_seconds=details.media.duration_seconds,
                qualities=plan.qualities,
                renditions=plan.renditions,
                encoder=self._workshop.profile.encoders.description,
                chapters=chapters_of(details.media, details.seconds),
                look=self._look,
                began=self._plan.planned_at,
                attempt=self._attempt,
            )
        )

    @property
    def _attempt(self) -> int:
        return max((end.attempt for end in self._known.values()), default=1)


def _unreadable(what: str) -> AttemptFailed:
    return AttemptFailed(f"The units cannot be joined: {what}.", code=UNREADABLE)

"""One attempt at one job: probe the source, encode and package it, store and verify every output.

Owns the attempt's directory, processes and servers; none is left when `run` returns, raises or is
cancelled. It does not decide about retries or publication.
"""

import asyncio
import os
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import structlog

from backend.core import keys
from backend.core.errors import AttemptFailed, SourceRejected
from backend.core.records import (
    CaptionTrack,
    Chapter,
    Codec,
    Download,
    Job,
    OutputObject,
    Rendition,
    SourceFile,
    Stage,
)
from backend.core.settings import RUNGS, WorkerSettings
from backend.core.store.interface import Buckets, ObjectInfo
from backend.core.store.ranged_read import PATIENCE_SECONDS
from worker.encode.ffmpeg_arguments import WEBM_PIPE, encoder_arguments, pipe_name
from worker.encode.ladder import EncodingPlan, plan_conversion, plan_encoding
from worker.encode.packager_arguments import packager_arguments, playlists_of
from worker.encode.storyboard import storyboard_of
from worker.encode.video_encoders import SOFTWARE, Encoders
from worker.output.decode_check import check_decoding
from worker.output.download_plan import DownloadPlan
from worker.output.mp4_sink import Mp4Sink
from worker.output.side_files import store_side_files
from worker.output.sink import PackagerSink
from worker.output.verify import Verified, verify_mp4, verify_only, verify_outputs, verify_webm
from worker.output.webm_sink import WebmSink
from worker.sandbox.activity import ActivityClock
from worker.sandbox.background_errors import BackgroundErrors
from worker.sandbox.exit_codes import FFMPEG_EXIT_CODES
from worker.sandbox.guards import MAX_DURATION_SECONDS
from worker.sandbox.limits import encoding_limits
from worker.sandbox.process import RunningProcess, running
from worker.sandbox.tools import Tools
from worker.sandbox.watchdog import Watchdog, wait_for_success
from worker.sandbox.workspace import workspace
from worker.source.completeness import check_all_read, loss_in
from worker.source.description import chapters_of, describe_source
from worker.source.duration_limits import check_convertible, check_encoded_duration, max_encoded_seconds
from worker.source.feeder import SourceFeeder
from worker.source.media import MediaInfo
from worker.transcode.diagnosis import diagnose_failure
from worker.transcode.early_look import EarlyLook, MakeLook
from worker.transcode.fallback import Fallback
from worker.transcode.intake import Intake, probe_source, uploaded_source
from worker.transcode.progress import Progress, ReportProgress, encoded_seconds
from worker.transcode.recalling_store import RecallingStore
from worker.transcode.watched_store import watched

log = structlog.get_logger(__name__)

GROWING_SEGMENTS = 2
"""A video of so many segments or fewer is not offered before it is done: its playlists would take longer."""


@dataclass(frozen=True, slots=True)
class EncodingProfile:
    """The operator's settings for every job."""

    codecs: tuple[Codec, ...] = ("av1", "h264")
    segment_seconds: float = 4.0
    stall_seconds: float = 120.0
    patience_seconds: float = PATIENCE_SECONDS
    encoders: Encoders = SOFTWARE
    rungs: tuple[int, ...] = RUNGS
    downloads: tuple[Download, ...] = ("webm",)
    copies_source: bool = True
    """Only of jobs that are divided."""

    @classmethod
    def of(cls, settings: WorkerSettings, encoders: Encoders = SOFTWARE) -> Self:
        """Take `encoders` from `worker.encode.encoder_trials.choose_encoders`."""
        return cls(
            settings.rendition_codecs,
            settings.segment_seconds,
            settings.stall_seconds,
            settings.store_patience_seconds,
            encoders,
            settings.rungs,
            settings.downloads,
            settings.copy_source == "auto",
        )


@dataclass(frozen=True, slots=True)
class Transcoded:
    """What a successful attempt stored below its run's prefix; paths in `objects` are relative to it."""

    duration_seconds: float
    qualities: tuple[str, ...]
    renditions: tuple[Rendition, ...]
    objects: tuple[OutputObject, ...]
    encoder: str
    captions: tuple[CaptionTrack, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    source: SourceFile | None = None
    fallback: Fallback | None = None
    """Set if the attempt was restarted in software: the outputs are below the prefix of its run."""
    attempt: int = 1
    """As in Progress."""


class Transcoder:
    """Runs attempts, any number at the same time."""

    def __init__(
        self,
        buckets: Buckets,
        tools: Tools,
        profile: EncodingProfile,
        work_dir: Path,
        make_look: MakeLook | None = None,
    ) -> None:
        """Without `make_look`, videos can only be watched as far as their outputs are encoded."""
        self._make_look = make_look
        self._buckets = buckets
        self._tools = tools
        self._profile = profile
        self._work_dir = work_dir

    async def run(
        self, job: Job, run: str, report: ReportProgress, source: Intake | None = None
    ) -> Transcoded:
        """Transcode the job's source, which may have been taken in, into `keys.run_prefix(job.id, run)`.

        Raises:
            SourceRejected: the file cannot be processed; another attempt would not help.
            AttemptFailed, StoreError: another attempt may succeed.
        """
        try:
            return await self._attempt(source, self._profile, job, run, report)
        except AttemptFailed as error:
            fallback = Fallback.after(error, self._profile.encoders, run)
            if fallback is None:
                raise
        log.warning("encoder_fallback", reason=fallback.reason, run=fallback.run)
        profile = replace(self._profile, encoders=fallback.encoders)
        transcoded = await self._attempt(
            source, profile, job, fallback.run, lambda progress: report(replace(progress, fallback=fallback))
        )
        return replace(transcoded, fallback=fallback)

    async def _attempt(
        self, source: Intake | None, profile: EncodingProfile, job: Job, run: str, report: ReportProgress
    ) -> Transcoded:
        info = source.info if source else await uploaded_source(self._buckets.raw, job)
        with workspace(self._work_dir) as directory:
            look = EarlyLook(
                self._make_look,
                self._buckets,
                self._tools.ffmpeg,
                job,
                info,
                keys.look_of_run(run),
                profile.stall_seconds,
                profile.patience_seconds,
                profile.segment_seconds,
                directory,
            )
            attempt = _Attempt(self._buckets, self._tools, profile, directory, job, info, run, report, look)
            return await attempt.run(source.media if source else None)


@dataclass
class _Attempt:
    """The state of one attempt."""

    _buckets: Buckets
    _tools: Tools
    _profile: EncodingProfile
    _directory: Path
    _job: Job
    _info: ObjectInfo
    _run: str
    _report_to: ReportProgress
    _look: EarlyLook
    _stage: Stage = Stage.TRANSCODING
    _fraction: float = 0.0
    _encoded_seconds: float = 0.0

    def __post_init__(self) -> None:
        self._prefix = keys.run_prefix(self._job.id, self._run)
        self._errors = BackgroundErrors()
        self._activity = ActivityClock()
        self._watchdog = Watchdog(self._errors, self._activity, self._profile.stall_seconds)
        raw = watched(self._buckets, self._activity).raw
        self._buckets = Buckets(raw, RecallingStore(self._buckets.video, self._activity))
        patience = self._profile.patience_seconds
        self._feeder = SourceFeeder(self._buckets.raw, self._info, self._errors, patience, self._activity)

    async def run(self, media: MediaInfo | None) -> Transcoded:
        """`media` is what the source contains; None: it is not known yet."""
        async with self._feeder.serving() as source:
            if media is None:
                media = await probe_source(self._tools, source, self._feeder, self._job, self._watchdog)
            plan = self._plan(media)
            log.info("source_probed", duration_seconds=media.duration_seconds, renditions=plan.names)
            downloads = (plan.only,) if plan.only else self._profile.downloads
            mp4 = Mp4Sink(self._download(media, plan)) if "mp4" in downloads and plan.fits_mp4 else None
            sink = PackagerSink(
                self._buckets.video,
                self._prefix,
                playlists_of(plan),
                self._errors,
                lambda: self._stored(media, plan, sink),
                mp4.feed if mp4 else None,
                growing=self._grows(media, plan),
                stores=plan.only is None,
            )
            self._look.changed = lambda: self._report(self._stage, media, plan, sink)
            async with sink.serving() as url, self._look.beside(self._feeder.read, media, plan):
                self._report(Stage.TRANSCODING, media, plan, sink)
                await self._look.begun()
                try:
                    encode = self._encode(source, url, media, plan, sink, mp4)
                    stored = await self._watchdog.guarded(encode)
                    self._stage, self._fraction = Stage.FINALIZING, 0.0
                    self._report(Stage.FINALIZING, media, plan, sink)
                    work = self._finalize(source, media, plan, sink, stored)
                    # not the encoder's fault: software would not help
                    done = await self._watchdog.guarded(work, "The check of the outputs", "check_stalled")
                    await self._look.finish()
                    return done
                except AttemptFailed as error:
                    await self._reject_broken_source(source, media, error)
                    raise

    async def _encode(
        self,
        source: str,
        url: str,
        media: MediaInfo,
        plan: EncodingPlan,
        sink: PackagerSink,
        mp4: Mp4Sink | None,
    ) -> dict[str, int]:
        """Return the sizes of the files for download."""
        webm_pipe = self._directory / WEBM_PIPE
        webm = None if plan.only == "mp4" else WebmSink(self._download(media, plan))
        for pipe in (
            *([webm_pipe] if webm else []),
            *(self._directory / pipe_name(name) for name in plan.names),
        ):
            os.mkfifo(pipe, 0o600)
        segment = self._profile.segment_seconds
        encoder = encoder_arguments(self._tools.ffmpeg, plan, media, source, segment, self._profile.encoders)
        packager = packager_arguments(
            *(self._tools.packager, plan, f"{self._directory}/", url, segment),
            growing=self._grows(media, plan),
        )
        stored = {}
        async with (
            running(packager, cwd=self._directory, discard_stdout=True)
            if plan.names
            else nullcontext() as packaging,
            running(
                encoder,
                cwd=self._directory,
                environment={"SVT_LOG": "1"},
                on_stderr=self._notice_loss,
                limits=encoding_limits(media.duration_seconds, plan.largest_pixels),
            ) as encoding,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._follow(encoding, media, plan, sink))
            encoded = group.create_task(wait_for_success(encoding, "encoder_failed", FFMPEG_EXIT_CODES))
            if packaging is not None:
                group.create_task(packaged(packaging, mp4))
            if webm is not None:
                stored[keys.DOWNLOAD] = group.create_task(webm.store(webm_pipe, encoded))
            if mp4 is not None:
                stored[keys.DOWNLOAD_MP4] = group.create_task(mp4.store())
        return {path: task.result() for path, task in stored.items()}

    def _plan(self, media: MediaInfo) -> EncodingPlan:
        """Raises: SourceRejected: it is too long for a conversion, or this worker makes no such file."""
        options, profile = self._job.options, self._profile
        if options.convert is None:
            return plan_encoding(media, profile.codecs, options, profile.rungs)
        check_convertible(media.duration_seconds or 0.0, options.convert)
        if media.video and options.convert.format == "mp4" and "h264" not in profile.codecs:
            raise SourceRejected("This server makes no MP4: it has no H.264.", code="format_not_made")
        return plan_conversion(media, options.convert.format, options, profile.rungs)

    def _grows(self, media: MediaInfo, plan: EncodingPlan) -> bool:
        """Whether the video can be watched before it is done: a short one is done as soon."""
        if plan.only:
            return False
        seconds = media.duration_seconds if media.duration_is_reliable else None
        return seconds is None or seconds > GROWING_SEGMENTS * self._profile.segment_seconds

    def _download(self, media: MediaInfo, plan: EncodingPlan) -> DownloadPlan:
        longest = max_encoded_seconds(media, self._job.stored_bytes)
        segment, touch = self._profile.segment_seconds, self._activity.touch
        return DownloadPlan(self._buckets.video, self._prefix, plan, media, segment, longest, touch)

    def _notice_loss(self, line: str) -> None:
        if (loss := loss_in(line)) is not None:
            self._errors.report(loss)

    async def _reject_broken_source(self, source: str, media: MediaInfo, error: AttemptFailed) -> None:
        """Find out whether the file is broken, and not just this attempt. Raises: SourceRejected."""
        if self._profile.encoders.fallback is not None:
            return  # the software fallback will tell
        work = diagnose_failure(
            self._tools, source, media, error, self._profile.segment_seconds, self._activity.touch
        )
        await self._watchdog.guarded(work)

    def _stored(self, media: MediaInfo, plan: EncodingPlan, sink: PackagerSink) -> None:
        """Report progress by stored segments: ffmpeg reports none until a storyboard sheet is full."""
        self._activity.touch()
        if self._stage is Stage.FINALIZING:
            return
        if media.duration_seconds:
            share = self._stored_seconds(plan, sink) / media.duration_seconds
            self._fraction = max(self._fraction, min(1.0, share))
        self._report(Stage.TRANSCODING, media, plan, sink)

    def _stored_seconds(self, plan: EncodingPlan, sink: PackagerSink) -> float:
        return sink.segments / max(1, len(plan.names)) * self._profile.segment_seconds

    async def _follow(
        self, encoding: RunningProcess, media: MediaInfo, plan: EncodingPlan, sink: PackagerSink
    ) -> None:
        """Turn ffmpeg's progress into ours. Raises: SourceRejected: the source is too long."""
        longest = max_encoded_seconds(media, self._job.stored_bytes)
        async for line in encoding.lines():
            seconds = encoded_seconds(line)
            if seconds is not None:
                if seconds > self._encoded_seconds:
                    self._encoded_seconds = seconds
                    self._activity.touch()
                check_convertible(seconds, self._job.options.convert)
                # ffmpeg's own time may be that of subtitles, which may end much later
                reached = self._stored_seconds(plan, sink) if plan.captions else seconds
                check_encoded_duration(reached, longest)
                if media.duration_seconds:
                    fraction = min(1.0, self._encoded_seconds / media.duration_seconds)
                    self._fraction = max(self._fraction, fraction)
                else:  # ffmpeg reads a little ahead
                    self._fraction = max(self._fraction, self._feeder.share_fed)
                self._report(Stage.TRANSCODING, media, plan, sink)

    async def _finalize(
        self,
        source: str,
        media: MediaInfo,
        plan: EncodingPlan,
        sink: PackagerSink,
        downloads: dict[str, int],
    ) -> Transcoded:
        await check_all_read(self._tools, source, self._feeder)
        segment, video = self._profile.segment_seconds, self._buckets.video
        stored = (self._tools, video, self._prefix, plan, self._profile.patience_seconds, self._activity)
        if plan.only:
            seconds = await (verify_webm if plan.only == "webm" else verify_mp4)(*stored)
            verified = await verify_only(video, self._prefix, media, downloads, seconds, segment)
            return self._transcoded(media, verified, replace(plan, video=(), audio=()), seconds)
        webm_seconds = await verify_webm(*stored)
        mp4_seconds = await verify_mp4(*stored) if keys.DOWNLOAD_MP4 in downloads else None
        await sink.finish()
        captions = await store_side_files(
            sink.put, self._directory, plan, storyboard_of(plan, media), webm_seconds
        )
        verified = await verify_outputs(
            *(video, self._prefix, plan, media, sink.sizes | downloads, webm_seconds, segment, mp4_seconds)
        )
        touch = self._activity.touch
        await check_decoding(self._tools, video, self._prefix, verified.edges, touch, plan.largest_pixels)
        self._fraction = 1.0
        self._report(Stage.FINALIZING, media, plan, sink)
        return self._transcoded(media, verified, plan, webm_seconds, captions)

    def _transcoded(
        self,
        media: MediaInfo,
        verified: Verified,
        plan: EncodingPlan,
        webm_seconds: float,
        captions: tuple[CaptionTrack, ...] = (),
    ) -> Transcoded:
        claimed = media.duration_seconds if media.duration_is_reliable else None
        return Transcoded(
            claimed or verified.duration_seconds,
            plan.qualities,
            plan.renditions,
            verified.objects,
            self._profile.encoders.description,
            captions=captions,
            chapters=chapters_of(media, webm_seconds),
            source=describe_source(media, self._job.stored_bytes),
        )

    def _report(self, stage: Stage, media: MediaInfo, plan: EncodingPlan, sink: PackagerSink) -> None:
        self._report_to(
            Progress(
                stage=stage,
                stage_progress=self._fraction,
                # not both: who began to watch the ladder would have to change to the look
                playable=self._look.shown is not None if self._look.is_coming else sink.playable,
                duration_seconds=media.duration_seconds,
                qualities=plan.qualities,
                renditions=plan.renditions,
                encoder=self._profile.encoders.description,
                chapters=chapters_of(media, media.duration_seconds or MAX_DURATION_SECONDS),
                look=self._look.shown,
            )
        )


async def packaged(packaging: RunningProcess, mp4: Mp4Sink | None) -> None:
    """Wait for the packager, after which the MP4 is complete. Raises: AttemptFailed."""
    await wait_for_success(packaging, "packager_failed")
    if mp4 is not None:
        await mp4.end()

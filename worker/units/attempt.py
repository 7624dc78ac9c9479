"""What the attempts at all units have in common: they read the source, run ffmpeg and store its streams."""

import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TypeVar

from backend.core.errors import AttemptFailed, EmptyUpload, UploadTooLarge
from backend.core.jobs.unit_view import UnitClaim
from backend.core.store.interface import Buckets
from backend.core.unit_records import UnitObject
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.one_shot import store_source
from backend.core.uploads.part_writer import PARTS_IN_FLIGHT, SMALLEST_PART_BYTES
from worker.encode.ffmpeg_arguments import pipe_name
from worker.output.fragments import Config, Fragment, FragmentError, FragmentReader
from worker.sandbox.activity import ActivityClock
from worker.sandbox.background_errors import BackgroundErrors
from worker.sandbox.exit_codes import ERROR_RATE_EXCEEDED, FFMPEG_EXIT_CODES
from worker.sandbox.process import RunningProcess, read_pipe
from worker.sandbox.tools import Tools
from worker.sandbox.watchdog import Watchdog, wait_for_success
from worker.sandbox.workspace import workspace
from worker.source.completeness import loss_in
from worker.source.feeder import SourceFeeder
from worker.transcode.diagnosis import diagnose_failure
from worker.transcode.intake import source_store, uploaded_source
from worker.transcode.progress import encoded_seconds
from worker.transcode.transcoder import EncodingProfile
from worker.transcode.watched_store import watched
from worker.units.details import PlanDetails

READ_BYTES = 256 * 1024
T = TypeVar("T")

_DECODE_ERROR = re.compile(r"Error submitting \w+ to decoder|Decoding error")
_CORRUPT = "corrupt decoded frame"
_REPEATED = re.compile(r"Last message repeated (\d+) times")
_UNDECODABLE = re.compile(r"ist#0:(\d+)/.*Decode error rate")


@dataclass(frozen=True, slots=True)
class Workshop:
    """What a worker has for any unit."""

    buckets: Buckets
    tools: Tools
    profile: EncodingProfile
    work_dir: Path


class UnitAttempt:
    """One attempt at a unit that reads the source. When `run` ends, only what it stored is left."""

    def __init__(self, workshop: Workshop, claim: UnitClaim, details: PlanDetails) -> None:
        self._workshop = workshop
        self.claim, self.details = claim, details
        self.errors = BackgroundErrors()
        self.activity = ActivityClock()
        self.buckets = watched(workshop.buckets, self.activity)
        self.log = EncoderLog(self.errors)
        self._watchdog = Watchdog(self.errors, self.activity, workshop.profile.stall_seconds)

    async def run(self, work: Callable[[SourceFeeder, str, Path], Coroutine[None, None, T]]) -> T:
        """Call `work` with the source's feeder, its URL and an empty directory.

        Raises:
            SourceRejected, AttemptFailed, MachineFault, StoreError: as `Transcoder.run`.
        """
        job, profile = self.claim.job, self._workshop.profile
        store = source_store(self.buckets, job)
        info = await uploaded_source(store, job)
        if info.etag != self.details.source_etag:
            raise AttemptFailed("The source was replaced.", code="source_incomplete")
        feeder = SourceFeeder(store, info, self.errors, profile.patience_seconds, self.activity)
        with workspace(self._workshop.work_dir) as directory:
            async with feeder.serving() as source:
                try:
                    return await self._watchdog.guarded(work(feeder, source, directory))
                except AttemptFailed as error:
                    diagnosis = diagnose_failure(
                        self._workshop.tools,
                        source,
                        self.details.media,
                        error,
                        profile.segment_seconds,
                        self.activity.touch,
                    )
                    await self._watchdog.guarded(diagnosis)
                    raise

    async def follow(self, encoding: RunningProcess) -> None:
        """Touch the clock as long as ffmpeg gets further."""
        furthest = 0.0
        async for line in encoding.lines():
            seconds = encoded_seconds(line)
            if seconds is not None and seconds > furthest:
                furthest = seconds
                self.activity.touch()

    async def wait_for(self, encoding: RunningProcess) -> None:
        """Wait for ffmpeg. A picture with many errors is left to the join, which sees all of it.

        Raises:
            AttemptFailed: it failed.
        """
        video = self.details.media.video
        spoiled = {video.index} if video else set()
        if await encoding.wait() != ERROR_RATE_EXCEEDED or not self.log.undecodable <= spoiled:
            await wait_for_success(encoding, "encoder_failed", FFMPEG_EXIT_CODES)


class EncoderLog:
    """Reads ffmpeg's log: reports what is lost, and counts what could not be decoded, or only in part."""

    def __init__(self, errors: BackgroundErrors) -> None:
        self._errors = errors
        self._last_counted = False
        self.decode_errors = self.corrupt = 0
        self.undecodable: set[int] = set()
        """Indexes of streams with too many errors."""

    def read(self, line: str) -> None:
        if (loss := loss_in(line)) is not None:
            self._errors.report(loss)
        if repeated := _REPEATED.search(line):
            self.decode_errors += self._last_counted * int(repeated[1])
            return
        self.corrupt += _CORRUPT in line
        self._last_counted = _DECODE_ERROR.search(line) is not None
        self.decode_errors += self._last_counted
        self.undecodable.update(int(index) for index in _UNDECODABLE.findall(line))


class StreamStore:
    """Stores the streams that ffmpeg writes to named pipes in `directory`, below the attempt's prefix."""

    def __init__(self, attempt: UnitAttempt, directory: Path, streams: int) -> None:
        self._attempt = attempt
        self._directory = directory
        # each fills a part; then some more may be on their way
        self._buffers = PartBuffers((streams + PARTS_IN_FLIGHT) * SMALLEST_PART_BYTES)

    async def fragments(
        self,
        name: str,
        max_bytes: int,
        encoded: Awaitable[None],
        on_frames: Callable[[int], None] = lambda frames: None,
        on_fragment: Callable[[Fragment, Config], None] = lambda fragment, config: None,
    ) -> UnitObject:
        """Store a rendition as fragmented MP4. `on_frames` is told how many frames there are so far.

        `encoded` raises if ffmpeg failed, so that a truncated stream is not taken for a complete one.

        Raises:
            AttemptFailed: it is incomplete or too large.
            StoreError.
        """
        reader, frames = FragmentReader(), 0

        def count(piece: bytes) -> None:
            nonlocal frames
            for fragment in reader.feed(piece):
                frames += fragment.samples
                if fragment.frames and reader.config:
                    on_fragment(fragment, reader.config)
            on_frames(frames)

        async def finished() -> None:
            await encoded
            reader.finish()

        try:
            size = await self.whole(pipe_name(name), f"{name}.mp4", max_bytes, finished, count)
        except FragmentError as error:
            raise AttemptFailed(f"{name} is incomplete: {error}.", code="outputs_incomplete") from error
        config = reader.config.digest if reader.config else ""
        return UnitObject(name=f"{name}.mp4", size_bytes=size, frames=frames, config=config)

    async def whole(
        self,
        pipe: str,
        name: str,
        max_bytes: int,
        ended: Callable[[], Awaitable[None]],
        on_data: Callable[[bytes], None] = lambda piece: None,
    ) -> int:
        """Store what comes out of a pipe, and return its size once `ended` returns. As `fragments`."""

        async def body() -> AsyncIterator[bytes]:
            file = FileIO(os.open(self._directory / pipe, os.O_RDONLY | os.O_NONBLOCK))
            async with read_pipe(file, READ_BYTES) as pieces:
                while piece := await pieces.read(READ_BYTES):
                    self._attempt.activity.touch()
                    on_data(piece)
                    yield piece
            await ended()

        try:
            return await store_source(
                self._attempt.buckets.video,
                self._attempt.claim.outputs + name,
                body(),
                declared_bytes=None,
                max_bytes=max_bytes,
                buffers=self._buffers,
            )
        except EmptyUpload:
            raise AttemptFailed(f"{name} is empty.", code="outputs_incomplete") from None
        except UploadTooLarge:
            raise AttemptFailed(f"{name} exceeds its size limit.", code="encoder_failed") from None

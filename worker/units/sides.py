"""Makes all of a video that is not encoded in chunks: sound, captions, stills, and a rung that is copied."""

import asyncio
import os
from pathlib import Path

from backend.core import keys
from backend.core.jobs.unit_view import UnitClaim
from backend.core.unit_records import UnitObject, UnitOutputs
from worker.encode.ffmpeg_arguments import SOUND_PIPE, pipe_name, sides_arguments
from worker.encode.ladder import AAC_BPS, OPUS_BPS
from worker.encode.storyboard import storyboard_of
from worker.output.download_plan import max_bytes_of
from worker.output.side_files import store_side_files
from worker.output.sink import headers_of
from worker.sandbox.limits import encoding_limits
from worker.sandbox.process import running
from worker.source.completeness import check_all_read
from worker.source.duration_limits import max_encoded_seconds
from worker.source.feeder import SourceFeeder
from worker.transcode.early_look import NO_CAPTIONS
from worker.units.attempt import StreamStore, UnitAttempt, Workshop
from worker.units.copied_rung import store_copy
from worker.units.details import PlanDetails

SOUND_NAME = "sound.webm"
"""All audio tracks as Opus, for the download."""


class SidesMaker:
    """Does units that are the sides of a video, any number at the same time."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop

    async def run(self, claim: UnitClaim, details: PlanDetails) -> UnitOutputs:
        """Store all streams below `claim.outputs`, and the rest, which viewers need at once, in the look.

        Raises:
            SourceRejected, AttemptFailed, MachineFault, StoreError: as `Transcoder.run`.
        """
        attempt = UnitAttempt(self._workshop, claim, details)

        async def make(feeder: SourceFeeder, source: str, directory: Path) -> UnitOutputs:
            sound = await self._encode(attempt, source, directory)
            await check_all_read(self._workshop.tools, source, feeder)
            outputs = await self._store_files(attempt, directory, sound)
            copied = await store_copy(attempt, self._workshop.tools.ffmpeg, source, directory)
            return outputs.replace(objects=(*outputs.objects, *copied))

        return await attempt.run(make)

    async def _encode(self, attempt: UnitAttempt, source: str, directory: Path) -> tuple[UnitObject, ...]:
        plan, media = attempt.details.encoding, attempt.details.media
        pipes = [pipe_name(stream.name) for stream in plan.audio] + ([SOUND_PIPE] if plan.audio else [])
        for pipe in pipes:
            os.mkfifo(directory / pipe, 0o600)
        argv = sides_arguments(self._workshop.tools.ffmpeg, plan, media, source)
        longest = max_encoded_seconds(media, attempt.claim.job.stored_bytes)
        streams = StreamStore(attempt, directory, len(pipes))
        async with (
            running(
                argv, cwd=directory, on_stderr=attempt.log.read, limits=encoding_limits(longest)
            ) as encoding,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(attempt.follow(encoding))
            encoded = group.create_task(attempt.wait_for(encoding))
            tracks = [
                group.create_task(streams.fragments(stream.name, max_bytes_of(AAC_BPS, longest), encoded))
                for stream in plan.audio
            ]
            limit = max_bytes_of(OPUS_BPS * len(plan.audio), longest)
            sound = [
                group.create_task(streams.whole(SOUND_PIPE, SOUND_NAME, limit, lambda: encoded))
                for _ in plan.audio[:1]
            ]
        return (
            *(task.result() for task in tracks),
            *(UnitObject(name=SOUND_NAME, size_bytes=task.result()) for task in sound),
        )

    async def _store_files(
        self, attempt: UnitAttempt, directory: Path, sound: tuple[UnitObject, ...]
    ) -> UnitOutputs:
        details, claim = attempt.details, attempt.claim
        files: list[UnitObject] = []

        async def put(path: str, body: bytes) -> None:
            key = keys.run_prefix(claim.job.id, claim.plan.look) + path
            await attempt.buckets.video.put(key, body, headers_of(path))
            files.append(UnitObject(name=path, size_bytes=len(body)))

        storyboard = storyboard_of(details.encoding, details.media)
        captions = await store_side_files(put, directory, details.encoding, storyboard, details.seconds)
        for stream in details.encoding.captions:
            if stream.track not in captions:  # viewers of the look have been told of it
                key = keys.run_prefix(claim.job.id, claim.plan.look) + stream.track.path
                await attempt.buckets.video.put(key, NO_CAPTIONS, headers_of(stream.track.path))
        return UnitOutputs(
            unit=claim.unit, token=claim.lease.token, objects=(*sound, *files), captions=captions
        )

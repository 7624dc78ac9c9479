"""Encodes the picture of one chunk of a video in every rendition, and stores the streams for the join."""

import asyncio
import os
from pathlib import Path

from backend.core.errors import AttemptFailed
from backend.core.jobs.unit_view import UnitClaim
from backend.core.unit_records import UnitObject, UnitOutputs
from worker.encode.chunk_arguments import chunk_arguments
from worker.encode.ffmpeg_arguments import pipe_name
from worker.encode.grid import Chunk
from worker.output.download_plan import max_bytes_of
from worker.sandbox.limits import encoding_limits
from worker.sandbox.process import running
from worker.source.duration_limits import check_encoded_duration, max_encoded_seconds
from worker.source.feeder import SourceFeeder
from worker.units.attempt import StreamStore, UnitAttempt, Workshop
from worker.units.details import PlanDetails


class ChunkEncoder:
    """Does units that are chunks, any number at the same time."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop

    async def run(self, claim: UnitClaim, details: PlanDetails) -> UnitOutputs:
        """Store a fragmented MP4 for each rendition below `claim.outputs`, and say what they contain.

        Raises:
            SourceRejected, AttemptFailed, MachineFault, StoreError: as `Transcoder.run`.
        """
        attempt = UnitAttempt(self._workshop, claim, details)
        chunk = details.chunk_of(claim.unit)

        async def encode(_: SourceFeeder, source: str, directory: Path) -> UnitOutputs:
            return await self._encode(attempt, chunk, source, directory)

        return await attempt.run(encode)

    async def _encode(self, attempt: UnitAttempt, chunk: Chunk, source: str, directory: Path) -> UnitOutputs:
        details, tools, encoders = attempt.details, self._workshop.tools, self._workshop.profile.encoders
        plan, media = details.encoding.encoded, details.media
        for stream in plan.video:
            os.mkfifo(directory / pipe_name(stream.name), 0o600)
        seconds = float(chunk.frames / (plan.fps or 1))
        longest = max_encoded_seconds(media, attempt.claim.job.stored_bytes)
        # only the last chunk can be longer than planned
        limit = max(seconds, longest - float(chunk.first_frame / (plan.fps or 1)))

        def check(frames: int) -> None:
            check_encoded_duration(float((chunk.first_frame + frames) / (plan.fps or 1)), longest)

        argv = chunk_arguments(tools.ffmpeg, plan, media, source, chunk, encoders)
        streams = StreamStore(attempt, directory, len(plan.video))
        async with (
            running(
                argv,
                cwd=directory,
                environment={"SVT_LOG": "1"},
                on_stderr=attempt.log.read,
                limits=encoding_limits(limit, plan.largest_pixels),
            ) as encoding,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(attempt.follow(encoding))
            encoded = group.create_task(attempt.wait_for(encoding))
            stored = [
                group.create_task(
                    streams.fragments(stream.name, max_bytes_of(stream.max_bps, limit), encoded, check)
                )
                for stream in plan.video
            ]
        objects = tuple(task.result() for task in stored)
        _check_frames(chunk, objects)
        return UnitOutputs(
            unit=attempt.claim.unit,
            token=attempt.claim.lease.token,
            objects=objects,
            decoded=objects[0].frames + chunk.first_frame - int(chunk.seek_seconds * (plan.fps or 1)),
            decode_errors=attempt.log.decode_errors,
            corrupt=attempt.log.corrupt,
        )


def _check_frames(chunk: Chunk, objects: tuple[UnitObject, ...]) -> None:
    """Raises: AttemptFailed: frames are missing. How many the last chunk has is known only now."""
    expected = objects[0].frames if chunk.is_last else chunk.frames
    for one in objects:
        if one.frames != expected:
            raise AttemptFailed(
                f"{one.name} of chunk {chunk.number} has {one.frames} frames, not {expected}.",
                code="outputs_incomplete",
            )

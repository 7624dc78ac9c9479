"""What a worker needs to know about a job to do one of its units: the part of `UnitPlan` that is its own."""

from collections.abc import Container
from datetime import UTC, datetime
from typing import Self

from pydantic import BaseModel, ConfigDict

from backend.core import keys
from backend.core.records import Job, UnitPlan
from worker.encode.grid import (
    Chunk,
    chunk_seconds,
    chunks_of,
    copied_segment_starts,
    held_frames,
    total_frames,
)
from worker.encode.ladder import EncodingPlan
from worker.encode.look_plan import LookPlan
from worker.encode.video_encoders import Encoders
from worker.source.index.source_index import SourceIndex
from worker.source.media import MediaInfo

PLAN_VERSION = 2
"""Grows when the same plan would make a worker encode chunks that do not fit those of older workers."""


class PlanDetails(BaseModel):
    """Enough that nobody probes the source again."""

    model_config = ConfigDict(frozen=True)

    source_etag: str
    media: MediaInfo
    encoding: EncodingPlan
    frames: int
    segment_seconds: float
    chunks: tuple[Chunk, ...]
    look: LookPlan | None = None

    @classmethod
    def divide(
        cls,
        etag: str,
        media: MediaInfo,
        encoding: EncodingPlan,
        index: SourceIndex,
        segment_seconds: float,
        longest_chunk_seconds: float,
        look: LookPlan | None = None,
    ) -> Self:
        """Raises: ValueError: there is no picture, or the file does not say how long it is."""
        fps = encoding.fps
        if fps is None:
            raise ValueError("there is no picture")
        frames = total_frames(media, fps)
        seconds = chunk_seconds(float(frames / fps), longest_chunk_seconds)
        return cls(
            source_etag=etag,
            media=media,
            encoding=encoding,
            frames=frames,
            segment_seconds=segment_seconds,
            chunks=chunks_of(
                *(fps, frames, segment_seconds, seconds, held_frames(media, fps), index),
                as_copied=encoding.copied_video is not None,
            ),
            look=look,
        )

    @classmethod
    def of(cls, plan: UnitPlan) -> Self:
        return cls.model_validate_json(plan.details)

    def to_plan(self, job: Job, number: int, look: str, token: str, encoder: str) -> UnitPlan:
        """`token` makes the name of the prefix for chunks unguessable (`keys.run_name`)."""
        return UnitPlan(
            request=job.request,
            number=number,
            chunks=len(self.chunks),
            look=look,
            has_look=self.look is not None,
            work=keys.run_name(job.request, 0, token),
            planned_at=datetime.now(UTC),
            encoder=encoder,
            details=self.model_dump_json(),
        )

    def chunk_of(self, unit: str) -> Chunk:
        return {keys.chunk(chunk.number): chunk for chunk in self.chunks}[unit]

    def has_segments_of(self, copied: SourceIndex) -> bool:
        """Return whether encoded renditions have their segments where a picture with this index has."""
        starts = tuple(chunk.first_frame + place for chunk in self.chunks for place in chunk.keyframes)
        fps = self.encoding.fps
        return fps is not None and copied_segment_starts(fps, copied, self.segment_seconds) == starts

    def share_of(self, ended: Container[str]) -> float:
        """Return how much of the picture is encoded, from 0 to 1, once these units have ended."""
        frames = sum(chunk.frames for chunk in self.chunks if keys.chunk(chunk.number) in ended)
        return frames / sum(chunk.frames for chunk in self.chunks)

    @property
    def seconds(self) -> float:
        return float(self.frames / self.encoding.fps) if self.encoding.fps else 0.0


def fingerprint(encoders: Encoders, ffmpeg_version: str) -> str:
    """Return what must be equal for chunks of two workers to be joined."""
    return " ".join((str(PLAN_VERSION), *(one.name for one in encoders.chosen), ffmpeg_version))

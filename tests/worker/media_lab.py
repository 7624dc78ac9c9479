"""Shared by the media tests: generated clips, a job on two in-memory stores, and its outputs."""

import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from backend.core import keys
from backend.core.ids import new_id
from backend.core.records import Job, TranscodeOptions
from backend.core.settings import WorkerSettings
from backend.core.store.interface import Buckets, ObjectInfo, Store
from tests.lab.memory_store import MemoryStore
from worker.sandbox.tools import find_tools
from worker.transcode.progress import Progress
from worker.transcode.transcoder import EncodingProfile, Transcoded, Transcoder

RUN = "r0-0-test"
TOOLS = find_tools(WorkerSettings())


def ffmpeg(*arguments: str) -> None:
    subprocess.run([TOOLS.ffmpeg, "-nostdin", "-v", "error", "-y", *arguments], check=True, timeout=120)


def picture(size: str = "320x180", rate: str = "24", seconds: float = 2) -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds}")


def tone(seconds: float = 2) -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=48000:duration={seconds}")


H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")

SHORT_SEGMENTS = EncodingProfile(segment_seconds=1.0, stall_seconds=60)


@dataclass
class MediaLab:
    """One job for a file's bytes. Pass `raw` to replace the raw store with a faulty one."""

    work_dir: Path
    profile: EncodingProfile = SHORT_SEGMENTS
    video: MemoryStore = field(default_factory=MemoryStore)
    memory: MemoryStore = field(default_factory=MemoryStore)
    reports: list[Progress] = field(default_factory=list)
    video_id: str = field(default_factory=new_id)

    async def job(self, body: bytes, options: TranscodeOptions | None = None) -> Job:
        await self.memory.put(keys.upload(self.video_id), body)
        return Job(
            id=self.video_id,
            request=self.video_id,
            source=keys.upload(self.video_id),
            source_size_bytes=len(body),
            options=options or TranscodeOptions(),
            created_at=datetime.now(UTC),
        )

    def transcoder(self, raw: Store | None = None) -> Transcoder:
        return Transcoder(Buckets(raw or self.memory, self.video), TOOLS, self.profile, self.work_dir)

    async def transcode(self, source: Path, raw: Store | None = None) -> Transcoded:
        job = await self.job(source.read_bytes())
        return await self.transcoder(raw).run(job, RUN, self.reports.append)

    async def output(self, path: str) -> bytes:
        return (await self.video.get(keys.run_prefix(self.video_id, RUN) + path)).body

    async def paths(self) -> list[str]:
        prefix = keys.run_prefix(self.video_id, RUN)
        return [info.key.removeprefix(prefix) async for info in self.video.list_all(prefix)]

    def left_in_work_dir(self) -> list[Path]:
        return list(self.work_dir.iterdir())


@dataclass
class CutStore(MemoryStore):
    """Wraps a store. The first `cuts` reads break off after `bytes_per_read`; later ones are complete."""

    inner: MemoryStore
    bytes_per_read: int
    cuts: int
    error: Exception | None
    reads: int = 0

    async def head(self, key: str) -> ObjectInfo:
        return await self.inner.head(key)

    async def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        self.reads += 1
        left = self.bytes_per_read if self.reads <= self.cuts else None
        async for chunk in self.inner.read(key, offset, etag=etag):
            if left is not None and len(chunk) >= left:
                if left:
                    yield chunk[:left]
                if self.error is not None:
                    raise self.error
                return
            left = None if left is None else left - len(chunk)
            yield chunk

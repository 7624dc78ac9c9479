"""A job without media: the product's own feeder, sink and multipart upload copy the source's bytes.

For rows whose fault is in the store: they run seconds faster without an encoder.
"""

import asyncio
from collections.abc import AsyncIterator

import aiohttp

from backend.core import keys
from backend.core.errors import AttemptFailed
from backend.core.records import Job, OutputObject, Stage
from backend.core.store.interface import Buckets
from backend.core.uploads.one_shot import store_first_part_last
from worker.output.sink import PackagerSink, headers_of
from worker.sandbox.background_errors import BackgroundErrors
from worker.source.feeder import SourceFeeder
from worker.transcode.progress import Progress, ReportProgress
from worker.transcode.transcoder import Transcoded

SEGMENT_BYTES = 1024 * 1024


class LightPipeline:
    """Copies the source into segments and, as the download, into one object."""

    def __init__(self, buckets: Buckets, *, seconds_per_segment: float = 0) -> None:
        self._buckets = buckets
        self._pause = seconds_per_segment
        self.runs: list[str] = []
        """One for each attempt."""

    async def run(self, job: Job, run: str, report: ReportProgress) -> Transcoded:
        self.runs.append(run)
        info = await self._buckets.raw.head(job.source)
        if info.size_bytes != job.source_size_bytes:
            raise AttemptFailed(code="source_incomplete")
        errors = BackgroundErrors()
        prefix = keys.run_prefix(job.id, run)
        sink = PackagerSink(self._buckets.video, prefix, frozenset(), errors, lambda: None)
        source = bytearray()
        async with SourceFeeder(self._buckets.raw, info, errors).serving() as url, sink.serving():
            try:
                async with aiohttp.ClientSession() as session, session.get(url) as answer:
                    while segment := await _read(answer.content, SEGMENT_BYTES):
                        source += segment
                        await sink.put(f"media/1/{len(source)}.m4s", segment)
                        report(_progress(len(source) / info.size_bytes))
                        await asyncio.sleep(self._pause)
            except aiohttp.ClientError:
                errors.check()
                raise
            errors.check()
            await sink.put(keys.MASTER_PLAYLIST, b"#EXTM3U\n")
        await store_first_part_last(
            self._buckets.video,
            prefix + keys.DOWNLOAD,
            _chunks(bytes(source)),
            finish_first=bytes,
            max_bytes=info.size_bytes,
            headers=headers_of(keys.DOWNLOAD),
        )
        sizes = {**sink.sizes, keys.DOWNLOAD: len(source)}
        stored = {
            one.key.removeprefix(prefix): one.size_bytes async for one in self._buckets.video.list_all(prefix)
        }
        if stored != sizes:
            raise AttemptFailed(code="outputs_incomplete")
        objects = tuple(OutputObject(path=path, size_bytes=size) for path, size in sorted(sizes.items()))
        return Transcoded(1.0, ("360p",), (), objects, "software")


async def _read(stream: aiohttp.StreamReader, size: int) -> bytes:
    try:
        return await stream.readexactly(size)
    except asyncio.IncompleteReadError as end:
        return end.partial


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), SEGMENT_BYTES):
        yield body[start : start + SEGMENT_BYTES]


def _progress(done: float) -> Progress:
    return Progress(
        stage=Stage.TRANSCODING,
        stage_progress=done,
        playable=False,
        duration_seconds=1.0,
        qualities=("360p",),
        renditions=(),
        encoder="software",
    )

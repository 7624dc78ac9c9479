"""The pipeline on an S3 server, at full size."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backend.core import keys
from backend.core.ids import new_id
from backend.core.records import Job
from backend.core.store.s3 import S3Buckets
from tests.worker.media_lab import H264, RUN, TOOLS, ffmpeg, picture, tone
from worker.transcode.transcoder import EncodingProfile, Transcoder


@pytest.mark.heavy
async def test_full_hd_clip_gets_every_rung(buckets: S3Buckets, tmp_path: Path) -> None:
    source, video_id = tmp_path / "source.mp4", new_id()
    ffmpeg(*picture("1920x1080", seconds=5), *tone(5), *H264, "-c:a", "aac", str(source))
    body = source.read_bytes()
    await buckets.raw.put(keys.upload(video_id), body)
    job = Job(
        id=video_id,
        request=video_id,
        source=keys.upload(video_id),
        source_size_bytes=len(body),
        created_at=datetime.now(UTC),
    )
    with tempfile.TemporaryDirectory(dir=tmp_path) as work_dir:
        transcoder = Transcoder(buckets, TOOLS, EncodingProfile(), Path(work_dir))

        result = await transcoder.run(job, RUN, lambda progress: None)

    assert result.qualities == ("360p", "720p", "1080p")
    assert len(result.renditions) == 7
    prefix = keys.run_prefix(video_id, RUN)
    stored = {info.key.removeprefix(prefix): info.size_bytes async for info in buckets.video.list_all(prefix)}
    assert {item.path: item.size_bytes for item in result.objects} == stored
    assert [upload async for upload in buckets.video.list_uploads(prefix)] == []

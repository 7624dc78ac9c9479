"""What a run that was made from the file for download keeps of the run before."""

from datetime import UTC, datetime

import pytest

from backend.core import keys
from backend.core.errors import AttemptFailed
from backend.core.ids import new_id
from backend.core.records import CaptionTrack, Chapter, Job, OutputObject, Outputs, Retention
from tests.lab.memory_store import MemoryStore
from worker.transcode.first_generation import with_first_generation
from worker.transcode.transcoder import Transcoded

EARLIER, RUN = "r0-0-abc", "r1-0-def"
CAPTIONS = CaptionTrack(path="captions/1-en.vtt", language="en")
CHAPTER = Chapter(start_seconds=0, end_seconds=1, title="One")
BODIES = {keys.DOWNLOAD: b"first generation", keys.DOWNLOAD_MP4: b"mp4", CAPTIONS.path: b"WEBVTT"}


async def test_the_download_captions_and_chapters_stay_as_they_were() -> None:
    store, job = await _stored()
    await store.put(keys.run_prefix(job.id, RUN) + keys.DOWNLOAD, b"second")

    made = await with_first_generation(store, job, RUN, _made(second=6))

    for path, body in BODIES.items():
        assert (await store.get(keys.run_prefix(job.id, RUN) + path)).body == body
    sizes = {output.path: output.size_bytes for output in made.objects}
    assert sizes == {"hls/master.m3u8": 1, **{path: len(body) for path, body in BODIES.items()}}
    assert (made.captions, made.chapters) == ((CAPTIONS,), (CHAPTER,))


@pytest.mark.parametrize("gone", ["download", "result"])
async def test_an_attempt_fails_whose_source_is_gone(gone: str) -> None:
    store, job = await _stored()
    await store.delete(job.source if gone == "download" else keys.result(job.id, job.id))

    with pytest.raises(AttemptFailed) as failed:
        await with_first_generation(store, job, RUN, _made(second=6))

    assert failed.value.failure_code == "source_missing"


async def _stored() -> tuple[MemoryStore, Job]:
    store, video_id, now = MemoryStore(), new_id(), datetime(2026, 1, 1, tzinfo=UTC)
    prefix = keys.run_prefix(video_id, EARLIER)
    for path, body in BODIES.items():
        await store.put(prefix + path, body)
    outputs = Outputs(
        id=video_id,
        request=video_id,
        run=EARLIER,
        requested_at=now,
        published_at=now,
        duration_seconds=1,
        qualities=(),
        renditions=(),
        objects=tuple(OutputObject(path=path, size_bytes=len(body)) for path, body in BODIES.items()),
        captions=(CAPTIONS,),
        chapters=(CHAPTER,),
        encoder="software",
    )
    await store.create(keys.result(video_id, video_id), outputs.to_json())
    job = Job(
        id=video_id,
        request=f"{video_id}.1",
        source=prefix + keys.DOWNLOAD,
        source_size_bytes=len(BODIES[keys.DOWNLOAD]),
        original=Retention(keep=True),
        created_at=now,
    )
    return store, job


def _made(second: int) -> Transcoded:
    objects = (
        OutputObject(path="hls/master.m3u8", size_bytes=1),
        OutputObject(path=keys.DOWNLOAD, size_bytes=second),
    )
    return Transcoded(1.0, (), (), objects, "software")

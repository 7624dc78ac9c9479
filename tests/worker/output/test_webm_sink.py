"""The WebM from the encoder's pipe to the store: complete and in bounded memory, or not at all."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.core import keys
from backend.core.errors import AttemptFailed, StoreUnavailable
from backend.core.records import Chapter
from backend.core.store.interface import Body, Store, UploadedPart
from backend.core.store.s3 import S3Buckets
from backend.core.uploads.buffers import MIB
from backend.core.uploads.part_writer import UploadPlan
from tests.lab.memory_store import MemoryStore
from tests.worker.media_lab import TOOLS, picture, tone
from tests.worker.output.webm_file import SOUND, Frame, beginning, cluster, index_of
from worker.encode.ladder import EncodingPlan, audio_streams
from worker.output.download_plan import MIN_SIZE_LIMIT_BYTES, DownloadPlan
from worker.output.webm_sink import WebmSink
from worker.sandbox.background_errors import BackgroundErrors
from worker.source.feeder import SourceFeeder
from worker.source.media import AudioInfo, MediaInfo

PREFIX = "videos/v/r0-0-a/"
KEY = PREFIX + keys.DOWNLOAD
TRACKS = (AudioInfo(0, "aac", 2, 48_000),)
SOUND_ALONE = EncodingPlan(video=(), fps=None, audio=audio_streams(TRACKS))
CHAPTER = Chapter(start_seconds=0, end_seconds=20, title="Anfang")
TEN_SECONDS = MediaInfo("mov", 10.0, audio=TRACKS, chapters=(CHAPTER,))
PART = UploadPlan.for_size(MIN_SIZE_LIMIT_BYTES).part_size_bytes


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "webm.pipe")
    return tmp_path / "webm.pipe"


def _clusters(count: int, payload: bytes) -> Iterator[bytes]:
    yield beginning(SOUND)
    for number in range(count):
        yield cluster(number, Frame(SOUND, payload=payload))


def _write(pipe: Path, pieces: Iterator[bytes]) -> None:
    try:
        with pipe.open("wb", buffering=0) as file:
            for piece in pieces:
                file.write(piece)
    except BrokenPipeError:
        pass  # the reader gave up, as some tests expect


async def _stored(store: Store, pipe: Path, pieces: Iterator[bytes], media: MediaInfo = TEN_SECONDS) -> int:
    """Write `pieces` as an encoder does, and return the size of the WebM."""
    writing = asyncio.create_task(asyncio.to_thread(_write, pipe, pieces))
    sink = WebmSink(DownloadPlan(store, PREFIX, SOUND_ALONE, media, 1.0, 10.0, lambda: None))
    try:
        return await sink.store(pipe, writing)
    finally:
        await writing


async def _left(store: Store) -> list[str]:
    return [info.key async for info in store.list_all("")] + [
        upload.upload_id async for upload in store.list_uploads("")
    ]


@pytest.mark.parametrize("megabytes", [1, 20])
async def test_every_cue_points_to_its_cluster_in_one_part_or_several(pipe: Path, megabytes: int) -> None:
    store = Recording()

    size = await _stored(store, pipe, _clusters(megabytes * 4, bytes(MIB // 4)))

    body = (await store.get(KEY)).body
    assert len(body) == size
    assert await _left(store) == [KEY]
    assert set(store.parts[:-1]) <= {PART}
    assert bool(store.parts) is (megabytes > 8)
    index = index_of(body)
    positions = list(index.clusters)
    assert [(time, positions.index(position)) for time, position in index.cues] == [
        (number, number) for number in range(0, megabytes * 4, 1 if megabytes == 1 else 8)
    ]


@pytest.mark.heavy
async def test_stores_a_multipart_webm_on_an_s3_server(pipe: Path, buckets: S3Buckets) -> None:
    size = await _stored(buckets.video, pipe, _clusters(80, bytes(MIB // 4)))

    body = (await buckets.video.get(KEY)).body
    assert len(body) == size
    index = index_of(body)
    assert {position for _, position in index.cues} <= set(index.clusters)
    assert await _left(buckets.video) == [KEY]


class Recording(MemoryStore):
    """Records the sizes of parts, by number."""

    def __init__(self) -> None:
        super().__init__()
        self._sizes: dict[int, int] = {}

    @property
    def parts(self) -> list[int]:
        return [self._sizes[number] for number in sorted(self._sizes)]

    async def put_part(self, key: str, upload_id: str, number: int, body: Body) -> UploadedPart:
        self._sizes[number] = len(body)
        return await super().put_part(key, upload_id, number, body)


async def test_store_failure_stops_reading_and_leaves_no_upload(pipe: Path) -> None:
    class Failing(MemoryStore):
        async def put_part(self, key: str, upload_id: str, number: int, body: Body) -> UploadedPart:
            raise StoreUnavailable

    store = Failing()
    endless = _clusters(10**9, bytes(MIB // 4))

    with pytest.raises(StoreUnavailable):
        await _stored(store, pipe, endless)

    assert await _left(store) == []


async def test_stalled_store_makes_the_encoder_wait(pipe: Path) -> None:
    moving = asyncio.Event()
    written = 0

    class UploadState(MemoryStore):
        async def put_part(self, key: str, upload_id: str, number: int, body: Body) -> UploadedPart:
            await moving.wait()
            return await super().put_part(key, upload_id, number, body)

    def counted() -> Iterator[bytes]:
        nonlocal written
        for piece in _clusters(60 * 4, bytes(MIB // 4)):
            written += len(piece)
            yield piece

    storing = asyncio.create_task(_stored(UploadState(), pipe, counted()))
    before = -1
    while written != before or written < 5 * PART:
        before = written
        await asyncio.sleep(0.1)

    assert written < 7 * PART  # one held back, four in flight, one waiting; less than one in pipes
    moving.set()
    assert await storing > 60 * MIB


async def test_failed_encoder_leaves_no_webm(pipe: Path) -> None:
    async def failed() -> None:
        raise AttemptFailed("ffmpeg exited with 1.", code="encoder_failed")

    store = MemoryStore()
    writing = asyncio.create_task(asyncio.to_thread(_write, pipe, _clusters(40, bytes(MIB // 4))))
    sink = WebmSink(DownloadPlan(store, PREFIX, SOUND_ALONE, TEN_SECONDS, 1.0, 10.0, lambda: None))

    with pytest.raises(AttemptFailed, match="exited with 1"):
        await sink.store(pipe, failed())

    await writing
    assert await _left(store) == []


@pytest.mark.parametrize(
    ("pieces", "code"),
    [
        (iter([]), "outputs_incomplete"),
        (iter([beginning(SOUND)]), "outputs_incomplete"),
        (iter([b"no webm"]), "outputs_incomplete"),
        (_clusters(10**9, bytes(MIB)), "encoder_failed"),
    ],
    ids=["nothing", "no-cluster", "letters", "endless"],
)
async def test_incomplete_webm_fails_the_attempt(pipe: Path, pieces: Iterator[bytes], code: str) -> None:
    store = MemoryStore()

    with pytest.raises(AttemptFailed) as failed:
        await _stored(store, pipe, pieces)

    assert failed.value.failure_code == code
    assert await _left(store) == []


@pytest.fixture
def streamed() -> bytes:
    """24 MB as ffmpeg streams them: large frames, all keyframes."""
    raw = ("-c:v", "rawvideo", "-c:a", "libopus", "-f", "matroska")
    limits = ("-cluster_time_limit", "5000", "-cluster_size_limit", str(5 * MIB))
    command = (TOOLS.ffmpeg, "-nostdin", "-v", "error", *picture(seconds=12), *tone(12), *raw, *limits)
    return subprocess.run([*command, "pipe:1"], check=True, capture_output=True, timeout=60).stdout


async def test_seeking_reads_only_the_target(pipe: Path, tmp_path: Path, streamed: bytes) -> None:
    made, store = tmp_path / "made.mkv", MemoryStore()
    made.write_bytes(streamed)

    await _stored(store, pipe, iter([streamed]))

    info = await store.head(KEY)
    assert info.size_bytes > 2 * PART
    feeder = SourceFeeder(store, info, BackgroundErrors())
    async with feeder.serving() as url:
        asked = ("-show_chapters", "-show_entries", "format=duration:chapter_tags=title")
        told = await _output_of(TOOLS.ffprobe, "-v", "error", *asked, "-of", "csv=p=0", url)
        assert told.splitlines()[0].endswith(b"Anfang")
        assert float(told.splitlines()[1]) == pytest.approx(12, abs=0.03)
        assert await _frames(url, "0") == await _frames(str(made), "0")
        before = feeder.fed_bytes
        late = await _frames(url, "0:v", "-ss", "11")
        assert [line.rpartition(b" ")[2] for line in late] == [
            line.rpartition(b" ")[2] for line in await _frames(str(made), "0:v", "-ss", "11")
        ]
        assert len(late) == 24
        assert feeder.fed_bytes - before < info.size_bytes / 2


async def _frames(source: str, streams: str, *options: str) -> list[bytes]:
    """Return a line per decoded frame, ending with its hash; fail on decoding errors."""
    before = (TOOLS.ffmpeg, "-nostdin", "-v", "error", "-xerror", *options)
    output = await _output_of(*before, "-i", source, "-map", streams, "-f", "framemd5", "-")
    return [line for line in output.splitlines() if not line.startswith(b"#")]


async def _output_of(*command: str | Path) -> bytes:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output

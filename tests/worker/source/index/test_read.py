"""Indexes of real files, read through the feeder: the keyframes that ffprobe finds by reading everything."""

from pathlib import Path

import pytest

from tests.lab.memory_store import MemoryStore
from tests.worker.media_lab import H264, TOOLS, ffmpeg, picture
from worker.sandbox.background_errors import BackgroundErrors
from worker.sandbox.process import run
from worker.source.feeder import SourceFeeder
from worker.source.index.read import read_index
from worker.source.index.source_index import IndexUnusable, SourceIndex
from worker.source.probe import probe

KEYFRAMES = ("-g", "20", "-bf", "2", "-x264-params", "scenecut=0")
FILES = {
    "film.mp4": (),
    "front.mp4": ("-movflags", "+faststart"),
    "late.mov": ("-output_ts_offset", "100"),
    "film.mkv": (),
    "late.mkv": ("-output_ts_offset", "100"),
    "pipe.mkv": ("-live", "1"),
    "fragmented.mp4": ("-movflags", "+frag_keyframe+empty_moov"),
    "film.ts": (),
}


async def index_of(path: Path) -> SourceIndex:
    store = MemoryStore()
    await store.put("film", path.read_bytes())
    feeder = SourceFeeder(store, await store.head("film"), BackgroundErrors())
    async with feeder.serving() as url:
        return await read_index(feeder.read, await probe(TOOLS, url))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    outputs = (
        word
        for name, options in FILES.items()
        for word in ("-map", "0", *H264, *KEYFRAMES, *options, str(folder / name))
    )
    ffmpeg(*picture("64x36", seconds=4), *outputs)
    return folder


@pytest.mark.parametrize("name", ["film.mp4", "front.mp4", "late.mov", "film.mkv", "late.mkv"])
async def test_keyframes_are_those_of_ffprobe(films: Path, name: str) -> None:
    path = films / name
    shown = ("-select_streams", "v", "-show_entries", "packet=pts_time,flags", "-of", "csv=p=0")
    done = await run([TOOLS.ffprobe, "-v", "error", *shown, path])
    packets = [line.split(",") for line in done.stdout.decode().split()]
    times = [float(time) for time, flags, *_ in packets if flags.startswith("K")]
    first = min(float(time) for time, *_ in packets)

    index = await index_of(path)

    found = [time / index.timescale for time in index.keyframes]
    assert found == pytest.approx([time - first for time in times], abs=0.001)
    assert len(found) == 5
    assert index.is_plain


@pytest.mark.parametrize("name", ["pipe.mkv", "fragmented.mp4", "film.ts"])
async def test_file_without_an_index_is_refused(films: Path, name: str) -> None:
    with pytest.raises(IndexUnusable):
        await index_of(films / name)

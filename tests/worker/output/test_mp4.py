"""The MP4 for download, made of segments as the packager writes them."""

import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

from backend.core import keys
from backend.core.errors import AttemptFailed
from backend.core.records import TranscodeOptions
from backend.core.uploads import part_writer
from backend.core.uploads.buffers import MIB
from tests.lab.memory_store import MemoryStore
from tests.worker.media_lab import TOOLS, ffmpeg
from worker.encode.ladder import plan_encoding
from worker.output import download_plan, mp4_sink
from worker.output.download_plan import DownloadPlan
from worker.output.mp4_sink import Mp4Sink
from worker.source.media import MediaInfo, VideoInfo

MEDIA = MediaInfo("mov", 3.0, video=VideoInfo(0, 320, 180, "h264", "yuv420p", Fraction(25), Fraction(25)))
NAME = "h264-180p"


@pytest.fixture(scope="module")
def segments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Three seconds of a picture that compresses badly, with B-frames."""
    directory = tmp_path_factory.mktemp("segments")
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25:duration=3,noise=alls=60:allf=t"),
        *(
            "-pix_fmt",
            "yuv420p",
            "-c:v",
            "libx264",
            "-preset",
            "superfast",
            "-bf",
            "2",
            "-qp",
            "8",
            "-g",
            "25",
        ),
        *("-f", "hls", "-hls_time", "1", "-hls_segment_type", "fmp4", "-hls_list_size", "0"),
        *("-start_number", "1", "-hls_fmp4_init_filename", "init.mp4"),
        *("-hls_segment_filename", str(directory / "%05d.m4s"), str(directory / "playlist.m3u8")),
    )
    return {path.name: path.read_bytes() for path in sorted(directory.glob("*.m*4*"), reverse=True)}


async def _stored(segments: dict[str, bytes], store: MemoryStore) -> bytes:
    """Feed the segments, the init segment first and last, and return what is stored."""
    plan = plan_encoding(MEDIA, ("h264",), TranscodeOptions())
    sink = Mp4Sink(DownloadPlan(store, "p/", plan, MEDIA, 1.0, 10.0, lambda: None))
    for name in sorted(segments, reverse=True)[:1] + sorted(segments):  # the packager ends with it, too
        await sink.feed(f"media/av1-180p/{name}", b"of another rendition")
        await sink.feed(f"media/{NAME}/{name}", segments[name])
    await sink.end()
    assert await sink.store() == (await store.head("p/" + keys.DOWNLOAD_MP4)).size_bytes
    return (await store.get("p/" + keys.DOWNLOAD_MP4)).body


def _frames(*parts: bytes) -> list[tuple[int, str]]:
    """Return when each frame is shown, from the first one on, and what it shows."""
    shown = ("-copyts", "-i", "-", "-map", "0:v", "-f", "framemd5", "-")
    said = subprocess.run(
        [TOOLS.ffmpeg, "-v", "error", *shown], input=b"".join(parts), capture_output=True, check=True
    )
    rows = [line.split(",") for line in said.stdout.decode().splitlines() if not line.startswith("#")]
    return [(int(row[2]) - int(rows[0][2]), row[-1]) for row in rows]


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_writer, "SMALLEST_PART_BYTES", MIB)
    monkeypatch.setattr(mp4_sink, "MAX_WAITING", 100)
    monkeypatch.setattr(download_plan, "MIN_SIZE_LIMIT_BYTES", 64 * MIB)


@pytest.mark.parametrize("count", [1, 3], ids=["in one part", "in several parts"])
async def test_has_the_frames_of_the_segments_behind_its_index(
    segments: dict[str, bytes], count: int
) -> None:
    names = ["init.mp4", "00001.m4s", "00002.m4s", "00003.m4s"][: count + 1]

    mp4 = await _stored({name: segments[name] for name in names}, MemoryStore())

    assert _frames(mp4) == _frames(*(segments[name] for name in names))
    assert mp4.index(b"moov") < mp4.index(b"mdat")
    assert (b"free" in mp4[:100_000]) is (count == 3)


async def test_an_index_that_is_larger_than_expected_goes_to_the_end(
    segments: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mp4_sink, "room_for", lambda *_: 100)

    mp4 = await _stored(segments, MemoryStore())

    assert mp4.rindex(b"moov") > mp4.index(b"mdat")
    (tmp_path / "a.mp4").write_bytes(mp4)  # such an index cannot be found in a pipe
    ffmpeg("-xerror", "-i", str(tmp_path / "a.mp4"), "-frames:v", "75", "-f", "null", "-")


@pytest.mark.parametrize("missing", ["init.mp4", "00001.m4s", "00002.m4s"])
async def test_a_missing_segment_is_noticed_and_nothing_stays_stored(
    segments: dict[str, bytes], missing: str
) -> None:
    store = MemoryStore()
    left = {name: body for name, body in segments.items() if name != missing}

    with pytest.raises(AttemptFailed, match=r"The MP4 is incomplete: (segment \d of|there is no init)"):
        await _stored(left, store)

    assert not [info async for info in store.list_all("")]
    assert not [upload async for upload in store.list_uploads("")]

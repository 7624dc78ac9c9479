"""What the outputs would lack is noticed: a second recording in the file, and streams that begin midway."""

from collections.abc import Callable
from pathlib import Path

import pytest

from backend.core.errors import SourceRejected
from tests.worker.media_lab import H264, TOOLS, MediaLab, ffmpeg, picture, tone
from tests.worker.source.test_probe import served
from worker.source.beginnings import Beginnings
from worker.source.completeness import loss_in
from worker.source.ffprobe_schema import Program, Report, Stream
from worker.source.probe import probe
from worker.source.programmes import changes_midway
from worker.transcode.transcoder import EncodingProfile

FILM = (*picture(seconds=2), *tone(2))
LONG = (*picture(seconds=4), *tone(4))
AAC = ("-c:a", "aac")
FRAGMENTED = ("-movflags", "frag_keyframe+empty_moov")
VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus")
H264_ONLY = EncodingProfile(codecs=("h264",), segment_seconds=1, stall_seconds=60)


@pytest.fixture
def lab(tmp_path: Path) -> MediaLab:
    (tmp_path / "work").mkdir()
    return MediaLab(tmp_path / "work", H264_ONLY)


def joined(path: Path, *made: str, times: int = 2) -> Path:
    ffmpeg(*made, str(path))
    path.write_bytes(path.read_bytes() * times)
    return path


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("a.m4a", (*tone(2), *AAC)),
        ("a.wav", tone(2)),
        ("a.aiff", tone(2)),
        ("a.flac", tone(2)),
        ("a.caf", tone(2)),
        ("a.wma", (*tone(2), "-c:a", "wmav2")),
        ("a.mka", (*tone(2), *AAC)),
        pytest.param("a.mp4", (*FILM, *H264, *AAC), marks=pytest.mark.heavy),
        pytest.param("fast.mp4", (*FILM, *H264, *AAC, "-movflags", "+faststart"), marks=pytest.mark.heavy),
        pytest.param("fragmented.mp4", (*FILM, *H264, *AAC, *FRAGMENTED), marks=pytest.mark.heavy),
        pytest.param("a.mov", (*FILM, "-c:v", "mjpeg", "-c:a", "pcm_s16le"), marks=pytest.mark.heavy),
        pytest.param("a.mkv", (*FILM, *H264, *AAC), marks=pytest.mark.heavy),
        pytest.param("a.webm", (*FILM, *VP8), marks=pytest.mark.heavy),
        pytest.param("live.webm", (*FILM, *VP8, "-f", "webm", "-live", "1"), marks=pytest.mark.heavy),
        pytest.param("a.flv", (*FILM, *H264, *AAC), marks=pytest.mark.heavy),
        pytest.param("a.mxf", (*LONG, "-c:v", "mpeg2video", "-c:a", "pcm_s16le"), marks=pytest.mark.heavy),
        pytest.param(
            "a.ivf", (*picture(), "-c:v", "libvpx", "-deadline", "realtime"), marks=pytest.mark.heavy
        ),
        pytest.param("a.apng", picture(rate="5"), marks=pytest.mark.heavy),
        pytest.param("a.wtv", (*FILM, "-c:v", "mpeg2video", "-c:a", "mp2"), marks=pytest.mark.heavy),
        pytest.param("a.rm", (*FILM, "-c:v", "rv20", "-c:a", "ac3"), marks=pytest.mark.heavy),
    ],
)
async def test_rejects_two_recordings_in_one_file(
    lab: MediaLab, tmp_path: Path, name: str, made: tuple[str, ...]
) -> None:
    source = joined(tmp_path / name, *made)

    with pytest.raises(SourceRejected) as refused:
        await lab.transcode(source)

    assert refused.value.failure_code == "several_recordings"


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("a.mp3", tone(2)),
        ("a.aac", tone(2)),
        ("a.ogg", (*tone(2), "-c:a", "libvorbis")),
        ("a.opus", tone(2)),
        pytest.param("a.ts", (*FILM, *H264, *AAC), marks=pytest.mark.heavy),
    ],
)
async def test_plays_both_recordings_of_formats_that_can_be_joined(
    lab: MediaLab, tmp_path: Path, name: str, made: tuple[str, ...]
) -> None:
    result = await lab.transcode(joined(tmp_path / name, *made))

    assert result.duration_seconds == pytest.approx(4, abs=0.2)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "first", "second", "code"),
    [
        ("a.ogg", ("-c:a", "libvorbis"), ("-c:a", "libvorbis", "-ac", "2"), "source_damaged"),
        ("a.opus", (), ("-ac", "2"), "source_damaged"),
        ("a.wv", (), (), "source_damaged"),
        ("a.aac", (), ("-ar", "22050"), "several_recordings"),
    ],
)
async def test_rejects_recordings_that_do_not_fit(
    lab: MediaLab, tmp_path: Path, name: str, first: tuple[str, ...], second: tuple[str, ...], code: str
) -> None:
    """ffmpeg stops at the second, or cuts it."""
    source = tmp_path / name
    body = b""
    for options in (first, second):
        ffmpeg(*tone(2), *options, str(source))
        body += source.read_bytes()
    source.write_bytes(body)

    with pytest.raises(SourceRejected) as refused:
        await lab.transcode(source)

    assert refused.value.failure_code == code


@pytest.mark.parametrize("name", ["a.m4a", "a.ogg"])
async def test_rejects_a_file_with_a_large_hole(lab: MediaLab, tmp_path: Path, name: str) -> None:
    source = tmp_path / name
    ffmpeg(*tone(4), str(source))
    body = bytearray(source.read_bytes())
    hole = slice(len(body) * 4 // 10, len(body) * 7 // 10)
    body[hole] = bytes(len(body[hole]))
    source.write_bytes(body)

    with pytest.raises(SourceRejected) as refused:
        await lab.transcode(source)

    assert refused.value.failure_code == "source_damaged"


@pytest.mark.heavy
async def test_rejects_a_film_whose_sound_ends_before_it_should(lab: MediaLab, tmp_path: Path) -> None:
    """Its picture comes first in the file, and the end of the file is missing."""
    source = tmp_path / "a.mp4"
    ffmpeg(*picture(seconds=6), *tone(6), *H264, *AAC, str(source))
    body = bytearray(source.read_bytes())
    table = body.rindex(b"stco") + 8
    chunks = int.from_bytes(body[table : table + 4])
    for chunk in range(chunks // 3, chunks):
        body[table + 4 * chunk + 4 : table + 4 * chunk + 8] = (len(body) + 4096 * chunk).to_bytes(4)
    source.write_bytes(body)

    with pytest.raises(SourceRejected) as refused:
        await lab.transcode(source)

    assert refused.value.failure_code == "duration_mismatch"


def garbage(body: bytes) -> bytes:
    return body + bytes(range(256)) * 400


def a_few_bytes_of_another(body: bytes) -> bytes:
    return body + body[:2000]


@pytest.mark.parametrize("appended", [garbage, a_few_bytes_of_another, lambda body: body + b"\0"])
@pytest.mark.parametrize("name", ["a.m4a", "a.wav"])
async def test_ignores_what_is_appended_and_no_recording(
    lab: MediaLab, tmp_path: Path, name: str, appended: Callable[[bytes], bytes]
) -> None:
    source = tmp_path / name
    ffmpeg(*tone(2), str(source))
    source.write_bytes(appended(source.read_bytes()))

    assert (await lab.transcode(source)).duration_seconds == pytest.approx(2, abs=0.1)


@pytest.mark.heavy
async def test_accepts_recordings_that_hide_an_earlier_index(lab: MediaLab, tmp_path: Path) -> None:
    """As OBS does: fragments while recording, an index over all of them at the end."""
    source = tmp_path / "hybrid.mp4"
    ffmpeg(*FILM, *H264, *AAC, "-movflags", "hybrid_fragmented", str(source))

    assert (await lab.transcode(source)).duration_seconds == pytest.approx(2, abs=0.1)


def test_finds_beginnings_across_chunks_and_few_of_many() -> None:
    first = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2"
    found = Beginnings()
    found.scan(0, first + bytes(100))
    found.scan(1000, b"ftyp" + bytes(100) + first[:10])
    found.scan(1104, first)  # chunks overlap
    assert found.found == {1104}

    found.scan(10_000, first * 1000)
    assert len(found.found) == 64
    assert max(found.found) == 10_000 + 999 * len(first)


def test_looks_only_for_the_same_kind_of_file() -> None:
    found = Beginnings()
    found.scan(0, b"G@\0\x10" + bytes(100) + b"\0\0\0\x20ftypisom")
    assert not found.possible
    assert not found.found


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("[Eval @ 0x7ffe506ba12b] 2.960000", "several_recordings"),
        ("[in#0/mpegts @ 0x55] New audio stream with index 1 at pos:12453308 and DTS:1.4s", "late_stream"),
        ("[in#0/mpegts @ 0x55] New subtitle stream with index 1 at pos:12453308 and DTS:1.4s", None),
        ("[mp3float @ 0x55] Header missing", None),
        ("[in#0/ogg @ 0x55] Error during demuxing: Not yet implemented in FFmpeg", "source_damaged"),
        ("[in#0/wv @ 0x55] Error during demuxing: Invalid data found", "source_damaged"),
        ("[in#0/ogg @ 0x55] CRC mismatch!", "source_damaged"),
        ("[in#0/mov @ 0x55] Error during demuxing: Input/output error", None),
        # Editors of headers leave such bytes behind.
        ("[in#0/matroska,webm @ 0x55] 0x00 at pos 300 (0x12c) invalid as first byte of an EBML number", None),
    ],
)
def test_understands_what_ffmpeg_says_about_losses(line: str, code: str | None) -> None:
    loss = loss_in(line)

    assert (loss.failure_code if loss else None) == code


def transport_stream(path: Path, *options: str, sound: str = "440", seconds: float = 1) -> bytes:
    inputs = (*picture("160x90", seconds=seconds), "-f", "lavfi", "-i", f"sine={sound}:d={seconds}")
    ffmpeg(*inputs, *H264, *AAC, *options, str(path))
    return path.read_bytes()


OTHER_PIDS = ("-mpegts_start_pid", "0x200")
OTHER_PROGRAMME = (*OTHER_PIDS, "-mpegts_service_id", "7", "-mpegts_pmt_start_pid", "0x1010")
LATER = ("-output_ts_offset", "1")


@pytest.mark.parametrize(
    "second",
    [OTHER_PIDS, (*OTHER_PIDS, *LATER), OTHER_PROGRAMME, (*OTHER_PROGRAMME, *LATER)],
    ids=["other-pids", "other-pids-later", "other-programme", "other-programme-later"],
)
async def test_rejects_transport_streams_whose_streams_change_midway(
    tmp_path: Path, second: tuple[str, ...]
) -> None:
    source = tmp_path / "joined.ts"
    parts = (transport_stream(tmp_path / "1.ts"), transport_stream(tmp_path / "2.ts", *second))
    source.write_bytes(b"".join(parts))

    async with served(source) as url:
        with pytest.raises(SourceRejected) as refused:
            await probe(TOOLS, url)

    assert refused.value.failure_code == "several_recordings"


def test_stream_of_another_codec_is_another_stream() -> None:
    """A report says what the last of its packets say, so short files show no change."""
    picture, other = (
        Stream(index=0, id="0x100", codec_type="video", codec_name=name) for name in ("h264", "hevc")
    )
    sound, same = (
        Stream(index=1, id="0x101", codec_type="audio", codec_name=name) for name in ("mp2", "mp3")
    )

    def tables(*streams: Stream) -> Report:
        return Report(streams=streams, programs=(Program(streams=streams),))

    beginning = tables(picture, sound)
    assert not changes_midway(beginning, tables(picture, same))
    assert changes_midway(beginning, tables(other, sound))
    assert changes_midway(beginning, tables(picture))
    assert not changes_midway(beginning, Report())  # nothing is known about the end
    # without tables, codecs are guessed and silent streams unknown
    assert not changes_midway(beginning, Report(streams=(other,)))
    assert changes_midway(beginning, Report(streams=(picture, sound.model_copy(update={"id": "0x201"}))))


async def test_takes_transport_streams_whose_tables_come_only_once(tmp_path: Path) -> None:
    source = tmp_path / "segment.ts"
    transport_stream(source, "-pat_period", "100", "-sdt_period", "100", seconds=2)

    async with served(source) as url:
        media = await probe(TOOLS, url)

    assert media.video is not None
    assert [track.codec for track in media.audio] == ["aac"]


async def test_rejects_radio_whose_pid_changes(tmp_path: Path) -> None:
    source = tmp_path / "radio.ts"
    for number, pid in enumerate(("0x100", "0x200")):
        ffmpeg(*tone(1), "-c:a", "mp2", "-mpegts_start_pid", pid, str(tmp_path / f"{number}.ts"))
    source.write_bytes((tmp_path / "0.ts").read_bytes() + (tmp_path / "1.ts").read_bytes())

    async with served(source) as url:
        with pytest.raises(SourceRejected, match="several recordings"):
            await probe(TOOLS, url)


async def test_takes_the_tracks_of_one_programme(tmp_path: Path) -> None:
    source = tmp_path / "multiplex.ts"
    inputs = (*picture("160x90", seconds=1), *tone(1), *picture("320x180", seconds=1), *tone(1))
    programmes = ("-program", "program_num=1:st=0:st=1", "-program", "program_num=2:st=2:st=3")
    maps = ("-map", "0", "-map", "1", "-map", "2", "-map", "3")
    ffmpeg(*inputs, *maps, *H264, *AAC, *programmes, str(source))

    async with served(source) as url:
        media = await probe(TOOLS, url)

    assert media.video is not None
    assert (media.video.index, media.video.display_width) == (2, 320)
    assert [track.index for track in media.audio] == [3]


async def test_tracks_of_a_broadcast_may_come_and_go(tmp_path: Path) -> None:
    source = tmp_path / "film.ts"
    two = (
        *picture("160x90", seconds=1),
        *tone(1),
        *tone(1),
        "-map",
        "0",
        "-map",
        "1",
        "-map",
        "2",
        *H264,
        *AAC,
    )
    ffmpeg(*two, str(tmp_path / "2.ts"))
    one = transport_stream(tmp_path / "1.ts")
    source.write_bytes((tmp_path / "2.ts").read_bytes() + one)

    async with served(source) as url:
        media = await probe(TOOLS, url)

    assert len(media.audio) == 2


@pytest.mark.heavy
async def test_rejects_sound_that_begins_midway_unannounced(lab: MediaLab, tmp_path: Path) -> None:
    """Beyond what is probed at the beginning (5 MB) and at the end."""
    noise, silent = (
        ("-f", "lavfi", "-i", "nullsrc=s=320x180:d=3,geq=random(1)*255:128:128"),
        tmp_path / "0.ts",
    )
    ffmpeg(*noise, "-c:v", "libx264", "-preset", "ultrafast", "-qp", "4", "-g", "25", str(silent))
    source = tmp_path / "source.ts"
    source.write_bytes(silent.read_bytes() + transport_stream(tmp_path / "1.ts") + silent.read_bytes())

    with pytest.raises(SourceRejected) as refused:
        await lab.transcode(source)

    assert refused.value.failure_code == "late_stream"

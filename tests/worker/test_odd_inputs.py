"""Inputs that people upload and that are unlike most: each becomes what its owner expects."""

import struct
import subprocess
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import pi, sin
from pathlib import Path

import pytest

from backend.core import keys
from tests.formats.measuring import rendition_file, stream_of
from tests.worker.media_lab import H264, TOOLS, MediaLab, ffmpeg, picture, tone
from worker.transcode.transcoder import EncodingProfile, Transcoded

pytestmark = [pytest.mark.heavy, pytest.mark.spread]

Make = Callable[[Path], None]
SMALL = picture("64x36", "25")
RATE_HZ = 8000
PROFILE = EncodingProfile(codecs=("h264",), segment_seconds=2.0, stall_seconds=60)


@dataclass
class Job:
    """What the pipeline made of an input."""

    result: Transcoded
    lab: MediaLab
    directory: Path

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.result.renditions]

    async def file(self, name: str) -> Path:
        return await rendition_file(self.lab, name, self.directory)


async def transcoded(directory: Path, name: str, make: Make) -> Job:
    (directory / "work").mkdir()
    lab = MediaLab(directory / "work", PROFILE)
    make(directory / name)
    return Job(await lab.transcode(directory / name), lab, directory)


def made(*arguments: str, rename: tuple[tuple[bytes, bytes], ...] = ()) -> Make:
    def make(path: Path) -> None:
        ffmpeg(*arguments, str(path))
        body = path.read_bytes()
        for old, new in rename:
            assert old in body
            body = body.replace(old, new)
        path.write_bytes(body)

    return make


def decoded(path: Path, *arguments: str, option: tuple[str, ...] = ()) -> bytes:
    command: list[str | Path] = [TOOLS.ffmpeg, "-v", "error", *option, "-i", path, *arguments, "-"]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def hertz(path: Path, start: float = 0) -> list[int]:
    """Return the frequency left and right, by how often a second crosses zero; 0 for silence."""
    span = ("-ss", str(start), "-t", "1")
    both = array("h", decoded(path, *span, "-ac", "2", "-ar", str(RATE_HZ), "-f", "s16le"))
    return [sum(one < -500 <= two for one, two in pairwise(channel)) for channel in (both[::2], both[1::2])]


@pytest.mark.parametrize(
    ("name", "rate", "seconds"),
    [("a.mp4", "1", 6), ("a.gif", "1", 6), ("a.avi", "2", 6), ("a.webm", "1", 8), ("a.mkv", "1/4", 12)],
)
async def test_few_frames_a_second_keep_their_duration(
    tmp_path: Path, name: str, rate: str, seconds: int
) -> None:
    codec = {"a.gif": (), "a.webm": ("-c:v", "libvpx"), "a.avi": ("-c:v", "mpeg4")}.get(name, H264)

    job = await transcoded(tmp_path, name, made(*picture("64x36", rate, seconds), *codec))

    assert job.result.duration_seconds == pytest.approx(seconds, abs=0.1)
    assert float(stream_of(await job.file("h264-36p"))["duration"]) == pytest.approx(seconds, abs=0.1)
    assert [path for path in await job.lab.paths() if "storyboard/" in path] == [
        "storyboard/001.jpg",
        keys.STORYBOARD,
    ]


async def test_every_sheet_of_a_long_storyboard_is_stored_once(tmp_path: Path) -> None:
    job = await transcoded(tmp_path, "a.mp4", made(*picture("64x36", "2", 210), *H264))

    sheets = [path for path in await job.lab.paths() if path.endswith(".jpg") and "storyboard" in path]
    assert sheets == ["storyboard/001.jpg", "storyboard/002.jpg"]
    assert len({await job.lab.output(path) for path in sheets}) == 2


CUES = "1\n00:00:00,500 --> 00:00:01,000\n<i>1 < 2</i> & 3\n\n2\n00:00:01,500 --> 00:00:40,000\nwww\n"
SHOWN = "WEBVTT\n\n00:00.500 --> 00:01.000\n<i>1 &lt; 2</i> &amp; 3\n\n00:01.500 --> 00:02.0"


@pytest.mark.parametrize(
    ("name", "codec", "rename"),
    [
        ("a.mp4", "mov_text", ()),
        ("a.mkv", "subrip", ()),
        ("a.mkv", "subrip", ((b"DURATION", b"DURATIOX"),)),
        ("a.mkv", "ass", ()),
    ],
    ids=["mp4", "mkv", "mkv-without-tags", "mkv-ass"],
)
async def test_subtitles_do_not_prolong_the_film(
    tmp_path: Path, name: str, codec: str, rename: tuple[tuple[bytes, bytes], ...]
) -> None:
    subtitles = tmp_path / "s.srt"
    subtitles.write_text(CUES)
    source = (*SMALL, *tone(), "-i", str(subtitles), *H264, "-c:a", "pcm_s16le", "-c:s", codec)

    job = await transcoded(tmp_path, name, made(*source, rename=rename))

    assert job.result.duration_seconds == pytest.approx(2, abs=0.05)
    [track] = job.result.captions
    text = (await job.lab.output(track.path)).decode()
    assert text.startswith(SHOWN)
    assert text.count("-->") == 2


def clap(width: int, height: int) -> bytes:
    """Return a clean aperture in the middle (ISO/IEC 14496-12, 12.1.4)."""
    return struct.pack(">I4s8I", 40, b"clap", width, 1, height, 1, 0, 1, 0, 1)


def cropped_mov(path: Path) -> None:
    """Put a clean aperture at the end of the sample entry, and enlarge the boxes around it."""
    ffmpeg(*picture("320x180", "25", 1), *H264, str(path))
    body = bytearray(path.read_bytes())
    box = clap(320, 120)
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        at = body.rindex(kind) - 4
        size = int.from_bytes(body[at : at + 4])
        body[at : at + 4] = (size + len(box)).to_bytes(4)
    path.write_bytes(body[: at + size] + box + body[at + size :])


cropped_mkv = made(
    *(*picture("320x180", "25", 1), *H264, "-metadata:s:v", "stereo_mode=mono"),
    # an element of the same size becomes PixelCropBottom, of 30 pixels
    rename=((b"\x53\xb8\x81\x00", b"\x54\xaa\x81\x1e"),),
)


@pytest.mark.parametrize(
    ("name", "make", "shape"),
    [("a.mov", cropped_mov, (320, 120, 30)), ("a.mkv", cropped_mkv, (320, 150, 0))],
)
async def test_cropping_by_the_container_does_not_stretch(
    tmp_path: Path, name: str, make: Make, shape: tuple[int, int, int]
) -> None:
    width, height, top = shape

    job = await transcoded(tmp_path, name, make)

    [shown] = job.result.renditions
    assert (shown.width, shown.height) == (width, height)
    gray = ("-frames:v", "1", "-pix_fmt", "gray", "-f", "rawvideo")
    found = decoded(await job.file(shown.name), *gray)
    whole = decoded(tmp_path / name, *gray, option=("-apply_cropping", "codec"))
    wanted = whole[top * width : (top + height) * width]
    assert len(found) == len(wanted)
    assert sum(abs(one - two) for one, two in zip(found, wanted, strict=True)) / len(found) < 6


async def test_film_behind_a_preview_is_shown(tmp_path: Path) -> None:
    both = (*picture("32x18", "25", 1), *picture("64x36", "25", 1), "-map", "0", "-map", "1")

    codecs = ("-c:v:0", "mjpeg", "-c:v:1", *H264[1:], "-disposition:v:0", "0", "-disposition:v:1", "default")
    job = await transcoded(tmp_path, "a.mp4", made(*both, *codecs))

    assert job.names == ["h264-36p"]


async def test_audio_with_an_unusual_cover_is_played(tmp_path: Path) -> None:
    cover = ("-f", "lavfi", "-i", "testsrc2=s=64x64:d=0.04", "-map", "0", "-map", "1", "-c:v", "bmp")

    job = await transcoded(tmp_path, "a.mp3", made(*tone(1), *cover, "-disposition:v", "attached_pic"))

    assert job.names == ["aac"]


@pytest.mark.parametrize(
    ("name", "codecs"),
    [
        ("a.mp4", (*H264, "-c:a", "aac")),
        ("a.mkv", (*H264, "-c:a", "aac")),
        ("a.ts", (*H264, "-c:a", "aac")),
        ("a.webm", ("-c:v", "libvpx", "-c:a", "libopus")),
    ],
)
async def test_audio_beside_a_picture_without_frames_is_played(
    tmp_path: Path, name: str, codecs: tuple[str, ...]
) -> None:
    job = await transcoded(tmp_path, name, made(*SMALL, *tone(), *codecs, "-bsf:v", "noise=drop=1"))

    assert job.names == ["aac"]
    assert len(await job.lab.output(keys.POSTER)) > 1000


async def test_tracks_that_begin_late_begin_late(tmp_path: Path) -> None:
    """Neither picture nor the other track tells."""
    late = ("-itsoffset", "6", *tone(1), "-map", "0", "-map", "1", "-map", "2")

    job = await transcoded(
        tmp_path, "a.mkv", made(*picture("64x36", "25", 8), *tone(1), *late, *H264, "-c:a", "aac")
    )

    second = await job.file("aac-2")
    assert [hertz(second, at)[0] > 0 for at in (0, 5, 6, 7.1)] == [False, False, True, False]
    assert float(stream_of(second, "a")["duration"]) == pytest.approx(8, abs=0.1)


async def test_a_single_picture_is_shown_as_long_as_there_is_audio(tmp_path: Path) -> None:
    still = picture("64x36", "25", 0.04)

    job = await transcoded(tmp_path, "a.mkv", made(*still, *tone(4), *H264, "-c:a", "aac"))

    assert float(stream_of(await job.file("h264-36p"))["duration"]) == pytest.approx(4, abs=0.1)


def wave(*, mask: int, tones: tuple[int, ...]) -> Make:
    """Write a WAV whose channels have these labels, each with a tone of its own."""

    def make(path: Path) -> None:
        count, rate = len(tones), 48000
        body = array(
            "h",
            (
                int(9000 * sin(2 * pi * frequency * at / rate))
                for at in range(rate * 3 // 2)
                for frequency in tones
            ),
        ).tobytes()
        pcm = bytes.fromhex("0100000000001000800000aa00389b71")
        head = struct.pack("<HHIIHHHHI", 0xFFFE, count, rate, rate * 2 * count, 2 * count, 16, 22, 16, mask)
        chunks = struct.pack("<4sI", b"fmt ", len(head + pcm)) + head + pcm
        chunks += struct.pack("<4sI", b"data", len(body)) + body
        path.write_bytes(struct.pack("<4sI4s", b"RIFF", 4 + len(chunks), b"WAVE") + chunks)

    return make


@pytest.mark.parametrize(
    ("mask", "tones", "heard"),
    [
        (0b101, (300, 300), (300, 300)),
        (0b110000, (300, 500), (300, 500)),
        (0b1100, (300, 500), (300, 500)),
        (0b10, (300,), (300, 300)),
        (0, (300, 500), (300, 500)),
        (0b1_0011_0000, (300, 500, 0), (300, 500)),
    ],
    ids=["left-and-centre", "back-alone", "neither-side", "right-alone", "no-labels", "back-and-centre"],
)
async def test_odd_channel_layouts_are_heard(
    tmp_path: Path, mask: int, tones: tuple[int, ...], heard: tuple[int, ...]
) -> None:
    job = await transcoded(tmp_path, "a.wav", wave(mask=mask, tones=tones))

    assert hertz(await job.file("aac")) == pytest.approx(heard, abs=5)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mka", "a.mp3"])
async def test_audio_that_changes_midway_is_heard_throughout(tmp_path: Path, name: str) -> None:
    """As broadcasts do: their graphs restart, which must neither fill nor pad anything again."""
    codec, layouts = ("mp3", ("mono", "stereo")) if name == "a.mp3" else ("ac3", ("stereo", "5.1"))

    def make(path: Path) -> None:
        joined = path.with_suffix(f".{codec}")
        body = b""
        for frequency, layout in zip((300, 500), layouts, strict=True):
            sound = f"sine=f={frequency}:r=48000:d=2,pan={layout}|c0=c0"
            ffmpeg("-f", "lavfi", "-i", sound, "-c:a", codec, "-id3v2_version", "0", str(joined))
            body += joined.read_bytes()
        joined.write_bytes(body)
        if joined != path:
            seen = (*picture("64x36", "25", 4), *H264, "-map", "0", "-map", "1") if name != "a.mka" else ()
            source = ("-i", str(joined))
            ffmpeg(*seen[:4], *source, *seen[4:], "-c:a", "copy", str(path))

    job = await transcoded(tmp_path, name, make)

    sound = await job.file("aac")
    assert job.result.duration_seconds == pytest.approx(4, abs=0.15)
    assert [hertz(sound, at)[0] for at in (0.5, 2.5)] == pytest.approx([300, 500], abs=12)


@pytest.mark.parametrize(("name", "codec"), [("a.mxf", "mpeg2video"), ("a.mov", "prores_ks")])
async def test_channels_of_a_camera_are_left_and_right(tmp_path: Path, name: str, codec: str) -> None:
    channels = [f"sine=f={frequency}:r=48000:d=2" for frequency in (300, 500, 700, 900)]
    inputs = [word for channel in channels for word in ("-f", "lavfi", "-i", channel)]
    maps = [word for number in range(5) for word in ("-map", str(number))]

    job = await transcoded(
        tmp_path,
        name,
        made(*picture("320x180", "25"), *inputs, *maps, "-c:v", codec, "-c:a", "pcm_s24le"),
    )

    assert job.names == ["h264-180p", "aac", "aac-2"]
    assert hertz(await job.file("aac")) == pytest.approx((300, 500), abs=5)
    assert hertz(await job.file("aac-2")) == pytest.approx((700, 900), abs=5)


HALF = "color=red:s=64x36:r=25:d=1,format=rgba,geq=r=255:g=255:b=255:a='if(lt(X\\,32)\\,255\\,0)'"
"""White on the left; on the right, white that is transparent."""
HALF_GIF = ("-filter_complex", "split[a][b];[a]palettegen=reserve_transparent=1[p];[b][p]paletteuse")


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("vp9.webm", ("-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-deadline", "realtime")),
        ("vp8.webm", ("-c:v", "libvpx", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0")),
        ("prores.mov", ("-c:v", "prores_ks", "-pix_fmt", "yuva444p10le")),
        ("qtrle.mov", ("-c:v", "qtrle")),
        ("png.mov", ("-c:v", "png")),
        ("apng.png", ("-f", "apng")),
        ("a.gif", HALF_GIF),
        ("deep.mkv", ("-c:v", "ffv1", "-pix_fmt", "rgba64le")),
    ],
)
async def test_transparent_pictures_are_on_black(tmp_path: Path, name: str, codec: tuple[str, ...]) -> None:
    job = await transcoded(tmp_path, name, made("-f", "lavfi", "-i", HALF, *codec))

    frame = decoded(await job.file("h264-36p"), "-frames:v", "1", "-pix_fmt", "gray", "-f", "rawvideo")
    assert (frame[18 * 64 + 10] > 230, frame[18 * 64 + 54] < 20) == (True, True)


async def test_unused_fourth_byte_of_avi_is_not_transparency(tmp_path: Path) -> None:
    white = "color=white:s=64x36:r=25:d=1,format=rgba,geq=r=255:g=255:b=255:a=0"

    job = await transcoded(
        tmp_path, "a.avi", made("-f", "lavfi", "-i", white, "-c:v", "rawvideo", "-pix_fmt", "bgra")
    )

    frame = decoded(await job.file("h264-36p"), "-frames:v", "1", "-pix_fmt", "gray", "-f", "rawvideo")
    assert min(frame) > 230


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.h264", H264),
        ("a.hevc", ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none")),
    ],
)
async def test_raw_streams_play_at_their_own_rate(tmp_path: Path, name: str, codec: tuple[str, ...]) -> None:
    job = await transcoded(tmp_path, name, made(*picture("64x36", "30"), *codec, "-bf", "2"))

    assert job.result.duration_seconds == pytest.approx(2, abs=0.05)
    assert stream_of(await job.file("h264-36p"))["r_frame_rate"] == "30/1"


async def test_audio_that_nobody_can_decode_is_left_out(tmp_path: Path) -> None:
    both = (*SMALL, *tone(), *tone(), "-map", "0", "-map", "1", "-map", "2", *H264)

    job = await transcoded(
        tmp_path,
        "a.mkv",
        made(*both, "-c:a:0", "aac", "-c:a:1", "libopus", rename=((b"A_OPUS", b"A_NEWS"),)),
    )

    assert job.names == ["h264-36p", "aac"]


async def test_drawings_of_subtitles_are_not_text(tmp_path: Path) -> None:
    subtitles = tmp_path / "s.ass"
    subtitles.write_text(
        "[Script Info]\nScriptType: v4.00+\n\n[Events]\n"
        "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        "Dialogue: 0,0:00:00.20,0:00:01.50,Default,,0,0,0,,{\\an7\\p1}m 0 0 l 100 0 100 100{\\p0}\n"
        "Dialogue: 0,0:00:00.50,0:00:02.00,Default,,0,0,0,,{\\k20}Ka{\\k30}ra <3 & more\n"
    )

    job = await transcoded(
        tmp_path, "a.mkv", made(*SMALL, "-i", str(subtitles), "-map", "0", "-map", "1", *H264, "-c:s", "copy")
    )

    [track] = job.result.captions
    assert (await job.lab.output(track.path)).decode() == (
        "WEBVTT\n\n00:00.500 --> 00:02.000\nKara &lt;3 &amp; more\n"
    )

"""Which streams of a file are used. A stream that is not used decides nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from backend.core.errors import SourceRejected
from tests.worker.media_lab import H264, TOOLS, ffmpeg, tone
from tests.worker.media_lab import picture as filmed
from tests.worker.source.test_probe import SOUND, answer, parse_probe, picture, served
from worker.sandbox.guards import CODECS, DECODERS
from worker.sandbox.process import run
from worker.source.media import MediaInfo
from worker.source.probe import probe

UNKNOWN = {"codec_name": "", "codec_tag_string": "apac"}
DEFAULT = {"disposition": {"default": 1}}
PREVIEW = {"width": 160, "height": 90}


@pytest.mark.parametrize(
    ("streams", "chosen"),
    [
        ([picture(**PREVIEW), picture()], 1),
        ([picture(**PREVIEW), picture(**DEFAULT)], 1),
        ([picture(**PREVIEW, **DEFAULT), picture()], 0),
        ([picture(**PREVIEW, **DEFAULT), picture(**DEFAULT)], 1),
        ([picture(), picture()], 0),
        ([picture(width=4000, height=4000, nb_frames="1"), picture(nb_frames="75")], 1),
        ([picture(width=4000, height=4000, disposition={"attached_pic": 1}), picture()], 1),
        ([picture(width=4000, height=4000, disposition={"timed_thumbnails": 1}), picture()], 1),
        ([picture(codec_name="vvc", pix_fmt=""), picture()], 1),
        ([picture(codec_name="vvc", **DEFAULT), picture()], 1),
    ],
)
def test_picture_is_the_default_else_the_largest(streams: list[dict[str, object]], chosen: int) -> None:
    media = parse_probe(answer(*streams, SOUND))

    assert media.video is not None
    assert media.video.index == chosen


def test_audio_that_cannot_be_decoded_is_left_out() -> None:
    media = parse_probe(answer(picture(), SOUND, {**SOUND, **UNKNOWN, **DEFAULT}))

    assert [track.index for track in media.audio] == [1]


@pytest.mark.parametrize(
    ("streams", "named"),
    [
        (
            [picture(codec_name="zmbv", codec_long_name="Zip Motion Blocks Video"), SOUND],
            r"Blocks Video \(zmbv\)",
        ),
        ([picture(), {**SOUND, **UNKNOWN}], "audio .* apac"),
        ([picture(codec_name="vvc"), picture(**PREVIEW), SOUND], "picture .* vvc"),
        ([{**SOUND, **UNKNOWN}], "audio .* apac"),
    ],
)
def test_neither_picture_nor_audio_is_given_up_for_its_codec(
    streams: list[dict[str, object]], named: str
) -> None:
    with pytest.raises(SourceRejected, match=named) as refused:
        parse_probe(answer(*streams))

    assert refused.value.failure_code == "unsupported_codec"
    assert "Convert" in refused.value.message


CHANNEL = {"codec_type": "audio", "codec_name": "pcm_s24le", "channels": 1, "sample_rate": "48000"}


@pytest.mark.parametrize(
    ("tracks", "joined"),
    [
        ([CHANNEL, CHANNEL], [(1, 2)]),
        ([CHANNEL] * 4, [(1, 2), (3, 4)]),
        ([CHANNEL] * 3, [(1, 2), (3,)]),
        ([{**CHANNEL, **DEFAULT}, CHANNEL], [(1, 2)]),
        ([{**CHANNEL, "channels": 2}, CHANNEL, CHANNEL], [(1,), (2, 3)]),
        ([{**CHANNEL, "tags": {"language": name}} for name in ("eng", "ger")], [(1,), (2,)]),
        ([{**CHANNEL, "tags": {"title": name}} for name in ("Film", "Commentary")], [(1,), (2,)]),
        ([{**CHANNEL, "codec_name": "aac"}] * 2, [(1,), (2,)]),
    ],
)
def test_mono_tracks_of_cameras_are_left_and_right(
    tracks: list[dict[str, object]], joined: list[tuple[int, ...]]
) -> None:
    media = parse_probe(answer(picture(), *tracks, format_name="mxf"))

    assert [track.indexes for track in media.audio] == joined
    assert [track.channels for track in media.audio if len(track.indexes) == 2] == [2] * sum(
        len(indexes) == 2 for indexes in joined
    )


def test_mono_tracks_elsewhere_stay_apart() -> None:
    assert len(parse_probe(answer(picture(), CHANNEL, CHANNEL, format_name="matroska,webm")).audio) == 2


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"crop_top": 60, "crop_bottom": 60}, (1920, 960)),
        ({"crop_left": 500, "crop_right": 420}, (1000, 1080)),
    ],
)
def test_cropping_by_the_container_is_part_of_the_size(fields: dict[str, int], size: tuple[int, int]) -> None:
    crop, turned = {"side_data_type": "Frame Cropping", **fields}, {"rotation": 90}

    flat, upright = (
        parse_probe(answer(picture(side_data_list=data))).video for data in ([crop], [crop, turned])
    )

    assert flat is not None
    assert upright is not None
    assert (flat.display_width, flat.display_height) == size
    assert (upright.display_width, upright.display_height) == size[::-1]


def test_only_picture_and_audio_say_how_long_a_film_is() -> None:
    def lasting(seconds: str) -> dict[str, object]:
        return {"tags": {"DURATION": f"00:00:{seconds}.000000000"}}

    text = {"codec_type": "subtitle", "codec_name": "subrip", **lasting("40")}
    media = parse_probe(
        answer(
            picture(**lasting("03")), {**SOUND, **lasting("02")}, text, duration="40", format_name="matroska"
        )
    )

    assert media.duration_seconds == 3


def test_a_stream_alone_ends_with_its_file() -> None:
    media = parse_probe(answer(picture(), duration="7", format_name="asf"))

    assert media.video is not None
    assert (media.video.end_seconds, media.duration_is_reliable) == (7, True)


def test_raw_h264_counts_fields() -> None:
    rates = {"r_frame_rate": "60/1", "avg_frame_rate": "25/1"}

    assert [
        video and video.base_fps
        for kind in ("h264", "hevc")
        for video in [parse_probe(answer(picture(**rates), format_name=kind)).video]
    ] == [30, 60]


@pytest.mark.parametrize(
    ("container", "codec", "pixels", "alpha", "decoder"),
    [
        ("matroska,webm", "vp9", "yuv420p", True, "libvpx-vp9"),
        ("matroska,webm", "vp8", "yuv420p", True, "libvpx"),
        ("mov,mp4", "png", "", True, None),
        ("mov,mp4", "qtrle", "argb", True, None),
        ("mov,mp4", "prores", "yuva444p12le", True, None),
        ("gif", "gif", "bgra", True, None),
        ("avi", "rawvideo", "bgra", False, None),
        ("mov,mp4", "h264", "yuv420p", False, None),
    ],
)
def test_notices_transparency(
    container: str, codec: str, pixels: str, alpha: bool, decoder: str | None
) -> None:
    tags = {"alpha_mode": "1"} if codec.startswith("vp") else {}
    video = parse_probe(
        answer(picture(codec_name=codec, pix_fmt=pixels, tags=tags), format_name=container)
    ).video

    assert video is not None
    assert (video.has_alpha, video.decoder) == (alpha, decoder)


Make = Callable[[Path], None]
FILM = (*filmed("64x36", seconds=1), *tone(1))


def made(*arguments: str, rename: tuple[bytes, bytes] | None = None) -> Make:
    def make(path: Path) -> None:
        ffmpeg(*arguments, str(path))
        if rename is not None:
            path.write_bytes(path.read_bytes().replace(*rename))

    return make


async def probed(path: Path) -> MediaInfo:
    async with served(path) as url:
        return await probe(TOOLS, url)


COVER = (
    "-f",
    "lavfi",
    "-i",
    "testsrc2=s=64x64:d=0.04",
    "-map",
    "0",
    "-map",
    "1",
    "-disposition:v",
    "attached_pic",
)


@pytest.mark.parametrize(
    ("name", "make", "picture_index", "tracks"),
    [
        ("bmp.mp3", made(*tone(1), *COVER, "-c:v", "bmp"), None, 1),
        ("tiff.flac", made(*tone(1), *COVER, "-c:v", "tiff"), None, 1),
        ("webp.mp3", made(*tone(1), *COVER, "-c:v", "libwebp"), None, 1),
        ("jxl.flac", made(*tone(1), *COVER, "-c:v", "libjxl"), None, 1),
        ("tiff.mkv", made(*tone(1), *COVER[:-2], "-c:v", "tiff"), None, 1),
        (
            "unknown-audio.mkv",
            made(
                *(*FILM, *tone(1), "-map", "0", "-map", "1", "-map", "2", *H264),
                *("-c:a:0", "aac", "-c:a:1", "libopus"),
                rename=(b"A_OPUS", b"A_NEWS"),
            ),
            0,
            1,
        ),
        (
            "unlisted-picture.mkv",
            made(
                *(*filmed("64x36", seconds=1), *FILM, "-map", "0", "-map", "1", "-map", "2"),
                *("-c:v:0", "magicyuv", "-c:v:1", "libx264", "-preset", "ultrafast", "-c:a", "aac"),
            ),
            1,
            1,
        ),
        (
            "no-picture.mkv",
            made(*FILM, *H264, "-bsf:v", "noise=drop=1", "-c:a", "aac"),
            None,
            1,
        ),
        (
            "no-picture.mp4",
            made(*FILM, *H264, "-bsf:v", "noise=drop=1", "-c:a", "aac"),
            None,
            1,
        ),
        ("no-audio.ts", made(*FILM, *H264, "-c:a", "aac", "-bsf:a", "noise=drop=1"), 0, 0),
        ("raw.h264", made(*filmed("64x36", seconds=1), *H264), 0, 0),
        ("raw.amr", made(*tone(1), "-c:a", "libopencore_amrnb", "-ar", "8000", "-ac", "1"), None, 1),
    ],
)
async def test_takes_what_can_be_decoded(
    tmp_path: Path, name: str, make: Make, picture_index: int | None, tracks: int
) -> None:
    make(tmp_path / name)

    media = await probed(tmp_path / name)

    assert (media.video and media.video.index) == picture_index
    assert len(media.audio) == tracks


async def test_reads_on_for_a_stream_that_begins_late(tmp_path: Path) -> None:
    """Audio that an MPEG-TS announces, but that begins after what ffprobe reads."""
    source = tmp_path / "late.ts"
    noise = "nullsrc=s=320x180:r=25:d=4,geq=random(1)*255:128:128"
    ffmpeg(
        *("-f", "lavfi", "-i", noise, "-itsoffset", "3.6", *tone(0.4)),
        *("-c:v", "mpeg2video", "-q:v", "1", "-g", "1", "-c:a", "aac", str(source)),
    )

    media = await probed(source)

    assert source.stat().st_size > 5_000_000
    assert media.video is not None
    assert [track.start_seconds for track in media.audio] == [pytest.approx(3.6, abs=0.1)]


async def test_names_a_container_that_is_not_supported(tmp_path: Path) -> None:
    ffmpeg(*tone(1), "-c:a", "tta", str(tmp_path / "music.tta"))

    with pytest.raises(SourceRejected, match=r"\(tta\).* convert") as refused:
        await probed(tmp_path / "music.tta")

    assert refused.value.failure_code == "not_a_video"


async def test_knows_the_codec_of_every_decoder() -> None:
    listed = (await run([TOOLS.ffmpeg, "-hide_banner", "-decoders"], timeout_seconds=20)).stdout.decode()
    codecs = {}
    for line in listed.splitlines():
        if len(words := line.split()) > 1:
            codecs[words[1]] = words[-1][:-1] if words[-2] == "(codec" else words[1]

    assert {codecs[name] for name in DECODERS.split(",")} == CODECS

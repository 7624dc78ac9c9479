"""Reading ffprobe's answer: what is taken, how large the picture is shown, what is refused."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from backend.core.errors import AttemptFailed, SourceRejected
from tests.lab.memory_store import MemoryStore
from tests.worker.media_lab import H264, TOOLS, ffmpeg, tone
from tests.worker.media_lab import picture as filmed
from worker.sandbox.background_errors import BackgroundErrors
from worker.sandbox.guards import DECODERS, DEMUXERS
from worker.sandbox.process import run
from worker.source.feeder import SourceFeeder
from worker.source.probe import parse_probe, probe


def answer(*streams: dict[str, object], duration: str | None = "10.0", **of_the_file: object) -> bytes:
    numbered = [{"index": index, **stream} for index, stream in enumerate(streams)]
    if duration is not None:
        of_the_file["duration"] = duration
    return json.dumps({"streams": numbered, "format": of_the_file}).encode()


def picture(**fields: object) -> dict[str, object]:
    return {
        "codec_type": "video",
        "codec_name": "h264",
        "width": 1920,
        "height": 1080,
        "pix_fmt": "yuv420p",
        "r_frame_rate": "30000/1001",
        "avg_frame_rate": "30000/1001",
        **fields,
    }


SOUND = {"codec_type": "audio", "codec_name": "aac", "channels": 6, "sample_rate": "48000"}


def test_a_plain_video_is_described() -> None:
    media = parse_probe(answer(SOUND, picture()))

    assert media.video is not None
    assert (media.audio[0].index, media.video.index) == (0, 1)
    assert (media.video.display_width, media.video.display_height) == (1920, 1080)
    assert media.video.base_fps == Fraction(30000, 1001)
    assert media.audio[0].channels == 6
    assert media.duration_seconds == 10


def test_a_rotated_picture_is_measured_as_it_is_shown() -> None:
    media = parse_probe(answer(picture(side_data_list=[{"rotation": -90}])))

    assert media.video is not None
    assert (media.video.display_width, media.video.display_height) == (1080, 1920)


def test_pixels_that_are_not_square_are_stretched() -> None:
    media = parse_probe(answer(picture(width=1440, sample_aspect_ratio="4:3")))

    assert media.video is not None
    assert media.video.display_width == 1920


@pytest.mark.parametrize("aspect", ["0:1", "N/A", "1:0", "1000000:1", "5:1", "1:5"])
def test_a_nonsensical_aspect_is_taken_as_square(aspect: str) -> None:
    media = parse_probe(answer(picture(sample_aspect_ratio=aspect)))

    assert media.video is not None
    assert media.video.display_width == 1920


def test_a_cover_image_is_not_the_video() -> None:
    media = parse_probe(answer(SOUND, picture(disposition={"attached_pic": 1})))

    assert media.video is None
    assert media.audio


def track(language: str = "", **fields: object) -> dict[str, object]:
    return {**SOUND, "tags": {"language": language, "title": fields.pop("title", "")}, **fields}


def test_audio_tracks_have_languages_in_one_spelling_and_the_default_one_comes_first() -> None:
    media = parse_probe(
        answer(picture(), track("ger"), track("eng", disposition={"default": 1}), track("und"))
    )

    assert [(one.index, one.language) for one in media.audio] == [(2, "en"), (1, "de"), (3, None)]


def test_no_more_than_eight_tracks_are_taken() -> None:
    subtitles = [{"codec_type": "subtitle", "codec_name": "subrip"}] * 9

    media = parse_probe(answer(picture(), *([SOUND] * 9), *subtitles))

    assert (len(media.audio), len(media.subtitles)) == (8, 8)


def test_only_subtitles_that_are_text_are_taken() -> None:
    kinds = ("subrip", "hdmv_pgs_subtitle", "ass", "dvd_subtitle", "mov_text")

    media = parse_probe(
        answer(picture(), *({"codec_type": "subtitle", "codec_name": kind} for kind in kinds))
    )

    assert [one.codec for one in media.subtitles] == ["subrip", "ass", "mov_text"]


@pytest.mark.parametrize(
    ("fields", "hdr", "depth"),
    [
        ({"color_transfer": "smpte2084", "pix_fmt": "yuv420p10le"}, "hdr10", 10),
        ({"color_transfer": "arib-std-b67", "pix_fmt": "p010le"}, "hlg", 10),
        ({"color_transfer": "bt709", "pix_fmt": "yuv444p12le"}, None, 12),
        ({"pix_fmt": "yuvj420p"}, None, 8),
    ],
)
def test_colours_are_read(fields: dict[str, object], hdr: str | None, depth: int) -> None:
    video = parse_probe(answer(picture(**fields))).video

    assert video is not None
    assert (video.colour.hdr, video.bit_depth) == (hdr, depth)
    assert video.colour.full_range == (fields["pix_fmt"] == "yuvj420p")


def test_dolby_vision_without_another_picture_is_refused() -> None:
    with pytest.raises(SourceRejected) as refused:
        parse_probe(answer(picture(side_data_list=[{"dv_profile": 5}])))

    assert refused.value.failure_code == "unsupported_colours"
    assert parse_probe(answer(picture(side_data_list=[{"dv_profile": 8}]))).video is not None


def test_streams_lie_on_one_time_line_from_zero() -> None:
    streams = (picture(start_time="101.5", duration="5"), track(start_time="100", duration="10"))

    media = parse_probe(answer(*streams, duration="10", start_time="100", format_name="mov,mp4"))

    assert media.video is not None
    assert (media.video.start_seconds, media.video.end_seconds) == (1.5, 6.5)
    assert (media.audio[0].start_seconds, media.audio[0].end_seconds) == (0, 10)
    assert media.seconds_left_after(media.video) == 3.5
    assert media.duration_is_reliable


@pytest.mark.parametrize("container", ["mpegts", "mp3", "aac", "ogg"])
def test_the_duration_of_what_has_no_index_is_a_guess(container: str) -> None:
    assert not parse_probe(answer(SOUND, format_name=container)).duration_is_reliable


@pytest.mark.parametrize(
    ("tags", "instant"),
    [
        ({"creation_time": "2024-05-01T10:00:00.000000Z"}, "2024-05-01T10:00:00+00:00"),
        (
            {
                "com.apple.quicktime.creationdate": "2024-05-01T12:00:00+0200",
                "creation_time": "2024-05-02T00:00:00Z",
            },
            "2024-05-01T12:00:00+02:00",
        ),
        ({"creation_time": "1904-01-01T00:00:00.000000Z"}, None),
        ({"creation_time": "yesterday"}, None),
        ({}, None),
    ],
)
def test_the_camera_says_when_it_was_recorded(tags: dict[str, str], instant: str | None) -> None:
    recorded = parse_probe(answer(picture(), tags=tags)).recorded_at

    assert (recorded and recorded.isoformat()) == instant


async def test_where_streams_end_is_looked_up_when_matroska_does_not_say(tmp_path: Path) -> None:
    source = tmp_path / "film.mkv"
    ffmpeg(*filmed(seconds=4), *tone(6), *H264, "-c:a", "flac", "-g", "24", str(source))
    source.write_bytes(source.read_bytes().replace(b"DURATION", b"DURATIOX"))

    async with served(source) as url:
        media = await probe(TOOLS, url)

    assert media.video is not None
    assert media.duration_seconds == pytest.approx(6, abs=0.1)
    assert media.video.end_seconds == pytest.approx(4, abs=0.1)
    assert media.audio[0].end_seconds == pytest.approx(6, abs=0.1)


async def test_a_file_whose_index_is_missing_is_called_incomplete(tmp_path: Path) -> None:
    source = tmp_path / "film.mp4"
    ffmpeg(*filmed(seconds=1), *H264, str(source))
    source.write_bytes(source.read_bytes()[:-2000])

    async with served(source) as url:
        with pytest.raises(SourceRejected, match="incomplete") as refused:
            await probe(TOOLS, url)

    assert refused.value.failure_code == "file_incomplete"


async def test_a_source_that_cannot_be_read_is_worth_another_attempt() -> None:
    with pytest.raises(AttemptFailed) as failed:
        await probe(TOOLS, "http://127.0.0.1:9/gone")

    assert failed.value.failure_code == "probe_failed"


async def test_an_ffprobe_that_crashes_says_nothing_about_the_file(tmp_path: Path) -> None:
    crashing = tmp_path / "ffprobe"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crashing.chmod(0o755)

    with pytest.raises(AttemptFailed) as failed:
        await probe(replace(TOOLS, ffprobe=crashing), "http://127.0.0.1:9/")

    assert failed.value.failure_code == "probe_crashed"


def test_matroska_keeps_a_streams_duration_in_a_tag() -> None:
    media = parse_probe(answer(picture(tags={"DURATION": "00:01:02.500000000"}), duration=None))

    assert media.duration_seconds == pytest.approx(62.5)


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (answer(), "not_a_video"),
        (answer({"codec_type": "subtitle", "codec_name": "srt"}), "not_a_video"),
        (answer(picture(width=20000, height=20000)), "picture_too_large"),
        (answer(picture(width=8192, height=4320, sample_aspect_ratio="2:1")), "picture_too_large"),
        (answer(picture(width=8192, height=100, sample_aspect_ratio="4:1")), "picture_too_large"),
        (answer(picture(width=20000, height=16)), "picture_too_large"),
        (answer(picture(pix_fmt="")), "unsupported_codec"),
    ],
)
def test_what_cannot_be_processed_is_refused_for_good(report: bytes, code: str) -> None:
    with pytest.raises(SourceRejected) as refused:
        parse_probe(report)

    assert refused.value.failure_code == code


def test_an_unreadable_answer_is_worth_another_attempt() -> None:
    with pytest.raises(AttemptFailed):
        parse_probe(b"{")


SUBTITLE = "1\n00:00:00,000 --> 00:00:01,000\nGood morning.\n"


@asynccontextmanager
async def served(path: Path) -> AsyncIterator[str]:
    store = MemoryStore()
    await store.put("source", path.read_bytes())
    async with SourceFeeder(store, await store.head("source"), BackgroundErrors()).serving() as url:
        yield url


@pytest.mark.parametrize(
    ("name", "codec"),
    [("film.mkv", "subrip"), ("film.mkv", "ass"), ("film.mkv", "webvtt"), ("film.mp4", "mov_text")],
)
async def test_a_video_with_subtitles_is_a_video(tmp_path: Path, name: str, codec: str) -> None:
    source, subtitles = tmp_path / name, tmp_path / "subtitles.srt"
    subtitles.write_text(SUBTITLE)
    ffmpeg(*filmed(seconds=1), "-i", str(subtitles), *H264, "-c:s", codec, str(source))

    async with served(source) as url:
        media = await probe(TOOLS, url)

    assert media.video is not None
    assert media.video.codec == "h264"


async def test_uncommon_pcm_is_sound(tmp_path: Path) -> None:
    source = tmp_path / "sound.caf"
    ffmpeg(*tone(1), "-c:a", "pcm_f64be", str(source))

    async with served(source) as url:
        media = await probe(TOOLS, url)

    assert media.audio
    assert media.audio[0].codec == "pcm_f64be"


async def test_a_decoder_that_is_not_allowed_is_named_in_the_refusal(tmp_path: Path) -> None:
    source = tmp_path / "rare.mkv"
    ffmpeg(*filmed(seconds=1), "-c:v", "magicyuv", str(source))

    async with served(source) as url:
        with pytest.raises(SourceRejected, match="magicyuv") as refused:
            await probe(TOOLS, url)

    assert refused.value.failure_code == "unsupported_codec"


async def test_a_demuxer_that_is_not_allowed_is_no_video(tmp_path: Path) -> None:
    source = tmp_path / "subtitles.mp4"
    source.write_text(SUBTITLE)

    async with served(source) as url:
        with pytest.raises(SourceRejected) as refused:
            await probe(TOOLS, url)

    assert refused.value.failure_code == "not_a_video"


@pytest.mark.parametrize(("kind", "allowed"), [("-decoders", DECODERS), ("-demuxers", DEMUXERS)])
async def test_every_allowed_name_is_spelled_as_ffmpeg_spells_it(kind: str, allowed: str) -> None:
    listed = (await run([TOOLS.ffmpeg, "-hide_banner", kind], timeout_seconds=20)).stdout.decode()
    names = [words[1] for line in listed.splitlines() if len(words := line.split()) > 1]

    assert set(allowed.split(",")) <= {name for several in names for name in several.split(",")}


async def test_an_animated_picture_is_a_video(tmp_path: Path) -> None:
    source = tmp_path / "cat.gif"
    ffmpeg(*filmed(seconds=1), str(source))

    async with served(source) as url:
        media = await probe(TOOLS, url)

    assert media.video is not None
    assert media.video.codec == "gif"

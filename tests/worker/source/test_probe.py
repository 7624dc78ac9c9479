"""Reading ffprobe's output: what is accepted, the display size, what is rejected."""

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
from worker.source.ffprobe_parser import parse_report
from worker.source.ffprobe_schema import Report
from worker.source.media import MediaInfo
from worker.source.probe import probe


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


def parse_probe(json: bytes) -> MediaInfo:
    return parse_report(Report.model_validate_json(json)).media


def test_describes_a_plain_video() -> None:
    media = parse_probe(answer(SOUND, picture()))

    assert media.video is not None
    assert (media.audio[0].index, media.video.index) == (0, 1)
    assert (media.video.display_width, media.video.display_height) == (1920, 1080)
    assert media.video.base_fps == Fraction(30000, 1001)
    assert media.audio[0].channels == 6
    assert media.duration_seconds == 10


def test_rotated_video_is_measured_as_displayed() -> None:
    media = parse_probe(answer(picture(side_data_list=[{"rotation": -90}])))

    assert media.video is not None
    assert (media.video.display_width, media.video.display_height) == (1080, 1920)


def test_picture_that_is_mirrored_is_not_shown_as_it_is_coded() -> None:
    plain, mirrored = (
        parse_probe(answer(picture(side_data_list=data))).video
        for data in ([], [{"side_data_type": "Display Matrix", "rotation": 0}])
    )

    assert plain is not None
    assert mirrored is not None
    assert (plain.as_coded, mirrored.as_coded) == (True, False)


def test_non_square_pixels_are_stretched() -> None:
    media = parse_probe(answer(picture(width=1440, sample_aspect_ratio="4:3")))

    assert media.video is not None
    assert media.video.display_width == 1920


@pytest.mark.parametrize("aspect", ["0:1", "N/A", "1:0", "1000000:1", "5:1", "1:5"])
def test_treats_an_invalid_aspect_as_square(aspect: str) -> None:
    media = parse_probe(answer(picture(sample_aspect_ratio=aspect)))

    assert media.video is not None
    assert media.video.display_width == 1920


def test_cover_image_is_not_the_video() -> None:
    media = parse_probe(answer(SOUND, picture(disposition={"attached_pic": 1})))

    assert media.video is None
    assert media.audio


def track(language: str = "", **fields: object) -> dict[str, object]:
    return {**SOUND, "tags": {"language": language, "title": fields.pop("title", "")}, **fields}


def test_audio_languages_are_canonical_and_the_default_track_is_first() -> None:
    media = parse_probe(
        answer(picture(), track("ger"), track("eng", disposition={"default": 1}), track("und"))
    )

    assert [(one.index, one.language) for one in media.audio] == [(2, "en"), (1, "de"), (3, None)]


def test_uses_at_most_eight_tracks() -> None:
    subtitles = [{"codec_type": "subtitle", "codec_name": "subrip"}] * 9

    media = parse_probe(answer(picture(), *([SOUND] * 9), *subtitles))

    assert (len(media.audio), len(media.subtitles)) == (8, 8)


def test_uses_only_text_subtitles() -> None:
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
def test_reads_colours(fields: dict[str, object], hdr: str | None, depth: int) -> None:
    video = parse_probe(answer(picture(**fields))).video

    assert video is not None
    assert (video.colour.hdr, video.bit_depth) == (hdr, depth)
    assert video.colour.full_range == (fields["pix_fmt"] == "yuvj420p")


def test_rejects_dolby_vision_without_a_base_layer() -> None:
    with pytest.raises(SourceRejected) as refused:
        parse_probe(answer(picture(side_data_list=[{"dv_profile": 5}])))

    assert refused.value.failure_code == "unsupported_colours"
    assert parse_probe(answer(picture(side_data_list=[{"dv_profile": 8}]))).video is not None


def test_stream_times_start_at_zero() -> None:
    streams = (picture(start_time="101.5", duration="5"), track(start_time="100", duration="10"))

    media = parse_probe(answer(*streams, duration="10", start_time="100", format_name="mov,mp4"))

    assert media.video is not None
    assert (media.video.start_seconds, media.video.end_seconds) == (1.5, 6.5)
    assert (media.audio[0].start_seconds, media.audio[0].end_seconds) == (0, 10)
    assert media.seconds_left_after(media.video) == 3.5
    assert media.duration_is_reliable


@pytest.mark.parametrize("container", ["mpegts", "mp3", "aac", "ogg"])
def test_duration_without_an_index_is_an_estimate(container: str) -> None:
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
def test_reads_the_recording_date(tags: dict[str, str], instant: str | None) -> None:
    recorded = parse_probe(answer(picture(), tags=tags)).recorded_at

    assert (recorded and recorded.isoformat()) == instant


async def test_finds_stream_ends_that_matroska_does_not_give(tmp_path: Path) -> None:
    source = tmp_path / "film.mkv"
    ffmpeg(*filmed(seconds=4), *tone(6), *H264, "-c:a", "flac", "-g", "24", str(source))
    source.write_bytes(source.read_bytes().replace(b"DURATION", b"DURATIOX"))

    async with served(source) as url:
        media = await probe(TOOLS, url)

    assert media.video is not None
    assert media.duration_seconds == pytest.approx(6, abs=0.1)
    assert media.video.end_seconds == pytest.approx(4, abs=0.1)
    assert media.audio[0].end_seconds == pytest.approx(6, abs=0.1)


async def test_file_without_its_index_is_incomplete(tmp_path: Path) -> None:
    source = tmp_path / "film.mp4"
    ffmpeg(*filmed(seconds=1), *H264, str(source))
    source.write_bytes(source.read_bytes()[:-2000])

    async with served(source) as url:
        with pytest.raises(SourceRejected, match="incomplete") as refused:
            await probe(TOOLS, url)

    assert refused.value.failure_code == "file_incomplete"


async def test_unreadable_source_is_retried() -> None:
    with pytest.raises(AttemptFailed) as failed:
        await probe(TOOLS, "http://127.0.0.1:9/gone")

    assert failed.value.failure_code == "probe_failed"


async def test_ffprobe_crash_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    crashing = tmp_path / "ffprobe"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crashing.chmod(0o755)

    with pytest.raises(AttemptFailed) as failed:
        await probe(replace(TOOLS, ffprobe=crashing), "http://127.0.0.1:9/")

    assert failed.value.failure_code == "probe_crashed"


def test_reads_matroska_stream_duration_from_its_tag() -> None:
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
def test_rejects_unsupported_files_permanently(report: bytes, code: str) -> None:
    with pytest.raises(SourceRejected) as refused:
        parse_probe(report)

    assert refused.value.failure_code == code


async def test_unreadable_ffprobe_output_is_retried(tmp_path: Path) -> None:
    silent = tmp_path / "ffprobe"
    silent.write_text("#!/bin/sh\necho {\n")
    silent.chmod(0o755)

    with pytest.raises(AttemptFailed) as failed:
        await probe(replace(TOOLS, ffprobe=silent), "http://127.0.0.1:9/")

    assert failed.value.failure_code == "probe_unreadable"


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
async def test_accepts_video_with_subtitles(tmp_path: Path, name: str, codec: str) -> None:
    source, subtitles = tmp_path / name, tmp_path / "subtitles.srt"
    subtitles.write_text(SUBTITLE)
    ffmpeg(*filmed(seconds=1), "-i", str(subtitles), *H264, "-c:s", codec, str(source))

    async with served(source) as url:
        media = await probe(TOOLS, url)

    assert media.video is not None
    assert media.video.codec == "h264"


async def test_accepts_uncommon_pcm(tmp_path: Path) -> None:
    source = tmp_path / "sound.caf"
    ffmpeg(*tone(1), "-c:a", "pcm_f64be", str(source))

    async with served(source) as url:
        media = await probe(TOOLS, url)

    assert media.audio
    assert media.audio[0].codec == "pcm_f64be"


async def test_names_the_codec_that_is_not_allowed(tmp_path: Path) -> None:
    source = tmp_path / "rare.mkv"
    ffmpeg(*filmed(seconds=1), "-c:v", "magicyuv", str(source))

    async with served(source) as url:
        with pytest.raises(SourceRejected, match="magicyuv") as refused:
            await probe(TOOLS, url)

    assert refused.value.failure_code == "unsupported_codec"


async def test_rejects_a_container_that_is_not_allowed(tmp_path: Path) -> None:
    source = tmp_path / "subtitles.mp4"
    source.write_text(SUBTITLE)

    async with served(source) as url:
        with pytest.raises(SourceRejected) as refused:
            await probe(TOOLS, url)

    assert refused.value.failure_code == "not_a_video"


@pytest.mark.parametrize(("kind", "allowed"), [("-decoders", DECODERS), ("-demuxers", DEMUXERS)])
async def test_allow_lists_use_names_known_to_ffmpeg(kind: str, allowed: str) -> None:
    listed = (await run([TOOLS.ffmpeg, "-hide_banner", kind], timeout_seconds=20)).stdout.decode()
    names = [words[1] for line in listed.splitlines() if len(words := line.split()) > 1]

    assert set(allowed.split(",")) <= {name for several in names for name in several.split(",")}


async def test_accepts_an_animated_gif_as_video(tmp_path: Path) -> None:
    source = tmp_path / "cat.gif"
    ffmpeg(*filmed(seconds=1), str(source))

    async with served(source) as url:
        media = await probe(TOOLS, url)

    assert media.video is not None
    assert media.video.codec == "gif"

"""Playlists and manifest of a look, as parsers of others and the API read them."""

from fractions import Fraction

import m3u8
import pytest
from mpegdash.parser import MPEGDASHParser

from worker.encode.look_plan import LookPlan, LookRendition
from worker.output.playlists import parse_playlist
from worker.output.vod_playlists import master_playlist, media_playlist, static_mpd

PICTURE = LookRendition(
    "h264-360p",
    "h264",
    copied=False,
    timescale=30_000,
    starts=(0, 30_030, 150_150, 270_270),
    end=300_300,
    bps=1_000_000,
    width=640,
    height=360,
)
SOUND = LookRendition(
    "aac",
    "aac",
    copied=True,
    timescale=48_000,
    starts=(0, 49_152, 240_640, 432_128),
    end=480_256,
    bps=128_000,
    language="de",
    label='Say "hi"\n#EXT',
)
COMMENTARY = LookRendition(
    "aac-2", "aac", False, 48_000, (0, 49_152, 240_640, 432_128), 480_256, 128_000, label="B"
)
LOOK = LookPlan("quick", (PICTURE, SOUND, COMMENTARY), Fraction(30_000, 1001))
CODECS = {"h264-360p": "avc1.64001e", "aac": "mp4a.40.2", "aac-2": "mp4a.40.2"}


def test_media_playlist_is_complete() -> None:
    text = media_playlist(PICTURE)
    playlist = m3u8.loads(text)

    assert playlist.is_endlist
    assert playlist.playlist_type == "vod"
    assert playlist.target_duration == 5
    seconds = [float(segment.duration or 0) for segment in playlist.segments]
    assert seconds == pytest.approx([1.001, 4.004, 4.004, 1.001])
    read = parse_playlist("hls/h264-360p.m3u8", text.encode())
    assert read.finished
    assert read.names[0] == "media/h264-360p/init.mp4"
    assert read.segments == tuple(f"media/h264-360p/{number:05}.m4s" for number in range(1, 5))


def test_master_names_the_picture_with_its_sound() -> None:
    text = master_playlist(LOOK, CODECS)
    master = m3u8.loads(text)

    [variant] = master.playlists
    assert variant.uri == "h264-360p.m3u8"
    assert variant.stream_info.codecs == "avc1.64001e,mp4a.40.2"
    assert variant.stream_info.resolution == (640, 360)
    assert variant.stream_info.bandwidth == 1_128_000
    assert [(one.uri, one.default, one.language) for one in master.media] == [
        ("aac.m3u8", "YES", "de"),
        ("aac-2.m3u8", "NO", None),
    ]
    assert text.count("#EXT\n") == 0
    assert set(parse_playlist("hls/master.m3u8", text.encode()).names) == {
        "hls/h264-360p.m3u8",
        "hls/aac.m3u8",
        "hls/aac-2.m3u8",
    }


def test_manifest_is_static_and_names_the_same_segments() -> None:
    body = static_mpd(LOOK, CODECS)
    mpd = MPEGDASHParser.parse(body.decode())

    assert mpd.type == "static"
    [period] = mpd.periods
    assert [one.content_type for one in period.adaptation_sets] == ["video", "audio", "audio"]
    assert [one.lang for one in period.adaptation_sets] == [None, "de", None]
    timeline = period.adaptation_sets[0].representations[0].segment_templates[0].segment_timelines[0]
    assert [(one.t, one.d, one.r) for one in timeline.Ss] == [
        (0, 30_030, None),
        (30_030, 120_120, 1),
        (270_270, 30_030, None),
    ]
    read = parse_playlist("dash/manifest.mpd", body)
    assert read.finished
    assert set(read.names) == {
        name
        for one in LOOK.renditions
        for name in parse_playlist(f"hls/{one.name}.m3u8", media_playlist(one).encode()).names
    }
    assert read.duration_seconds == pytest.approx(10.01, abs=0.01)

"""Playlists and manifests: what they name and how long they last."""

import pytest

from worker.output.playlists import parse_playlist

MEDIA = b"""#EXTM3U
#EXT-X-PLAYLIST-TYPE:VOD
#EXT-X-MAP:URI="../media/aac/init.mp4"
#EXTINF:4.011,
../media/aac/00001.m4s
#EXTINF:2.003,
../media/aac/00002.m4s
#EXT-X-ENDLIST
"""
MPD = b"""<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet><Representation>
<SegmentTemplate timescale="10" initialization="../media/a/init.mp4" media="../media/a/$Number%05d$.m4s"
 startNumber="1"><SegmentTimeline><S t="0" d="40" r="1"/><S t="80" d="5"/></SegmentTimeline></SegmentTemplate>
</Representation></AdaptationSet></Period></MPD>"""


def test_media_playlist_names_its_init_and_segments() -> None:
    playlist = parse_playlist("hls/aac.m3u8", MEDIA)

    assert playlist.names == ("media/aac/init.mp4", "media/aac/00001.m4s", "media/aac/00002.m4s")
    assert playlist.segments == playlist.names[1:]
    assert playlist.duration_seconds == pytest.approx(6.014)
    assert playlist.finished


def test_growing_playlist_is_not_finished() -> None:
    assert not parse_playlist("hls/aac.m3u8", MEDIA.replace(b"#EXT-X-ENDLIST\n", b"")).finished


def test_master_names_playlists_in_lines_and_attributes() -> None:
    master = b'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,URI="aac.m3u8"\n#EXT-X-STREAM-INF:BANDWIDTH=1\nav1.m3u8\n'

    assert parse_playlist("hls/master.m3u8", master).names == ("hls/aac.m3u8", "hls/av1.m3u8")


def test_manifest_names_every_segment_of_its_timeline() -> None:
    manifest = parse_playlist("dash/manifest.mpd", MPD)

    assert manifest.names == ("media/a/init.mp4", *(f"media/a/{number:05}.m4s" for number in (1, 2, 3)))
    assert manifest.duration_seconds == pytest.approx(8.5)
    assert manifest.finished

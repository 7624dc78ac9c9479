"""The packager's mistakes never reach a player."""

import m3u8
import pytest

from worker.output.corrections import corrected_manifest, corrected_master

MASTER = b"""#EXTM3U
## Generated with a packager

#EXT-X-INDEPENDENT-SEGMENTS

#EXT-X-MEDIA:TYPE=AUDIO,URI="aac.m3u8",GROUP-ID="audio",LANGUAGE="en",NAME="English",DEFAULT=NO,AUTOSELECT=YES
#EXT-X-MEDIA:TYPE=AUDIO,URI="aac-2.m3u8",GROUP-ID="audio",LANGUAGE="en",NAME="Comments",DEFAULT=NO,AUTOSELECT=YES

#EXT-X-STREAM-INF:BANDWIDTH=413362,AVERAGE-BANDWIDTH=361135,CODECS="avc1.64001e",AUDIO="audio"
h264-360p.m3u8

#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=37332,AVERAGE-BANDWIDTH=51446,CODECS="avc1.64001e",URI="h264-360p-iframes.m3u8"
"""


def test_master_has_its_version_once() -> None:
    once = corrected_master(MASTER, "hls/aac.m3u8")
    assert m3u8.loads(once.decode()).version == 6
    assert corrected_master(once, "hls/aac.m3u8") == once


@pytest.mark.parametrize("first", ["aac", "aac-2"])
def test_one_track_of_a_language_is_the_default(first: str) -> None:
    media = m3u8.loads(corrected_master(MASTER, f"hls/{first}.m3u8").decode()).media
    assert [track.uri for track in media if track.default == "YES"] == [f"{first}.m3u8"]


def test_no_peak_is_below_its_average() -> None:
    master = m3u8.loads(corrected_master(MASTER, "hls/aac.m3u8").decode())
    (variant,), (keyframes,) = master.playlists, master.iframe_playlists
    assert (variant.stream_info.bandwidth, variant.stream_info.average_bandwidth) == (413362, 361135)
    assert keyframes.iframe_stream_info.bandwidth == 51446


def test_manifest_follows_its_declared_profile() -> None:
    claimed = b'<MPD profiles="profile:isoff-on-demand:2011"><AdaptationSet subsegmentAlignment="1"/>'
    assert corrected_manifest(claimed) == (
        b'<MPD profiles="profile:isoff-live:2011"><AdaptationSet segmentAlignment="1"/>'
    )

"""What HLS and DASH say of a real film, read by parsers of others and held against the bytes themselves."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from urllib.parse import urljoin

import httpx
import imageio_ffmpeg
import m3u8
import pytest
from mpegdash.nodes import MPEGDASH, AdaptationSet, Representation
from mpegdash.parser import MPEGDASHParser

from tests.lab.product import Product

pytestmark = pytest.mark.heavy

SEGMENT_SECONDS = 4
FILM_SECONDS = 30
RUNGS = {(640, 360), (1280, 720), (1920, 1080)}
CODECS = {"av01": "av1", "avc1": "h264"}
"""How RFC 6381 strings begin, and what we call the codec."""


@dataclass(frozen=True, slots=True)
class Track:
    """The segments of one rendition: bytes as the store has them, seconds as the playlist says."""

    sizes: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def average_bps(self) -> float:
        return sum(self.sizes) * 8 / sum(self.seconds)

    @property
    def largest_bps(self) -> float:
        return max(size * 8 / seconds for size, seconds in zip(self.sizes, self.seconds, strict=True))

    def peak_bps(self, target_seconds: float) -> float:
        """The peak segment bit rate of RFC 8216, section 4.1: over runs of 0.5 to 1.5 target durations."""
        rates = []
        for first in range(len(self.sizes)):
            for last in range(first + 1, len(self.sizes) + 1):
                seconds = sum(self.seconds[first:last])
                if 0.5 * target_seconds <= seconds <= 1.5 * target_seconds:
                    rates.append(sum(self.sizes[first:last]) * 8 / seconds)
        return max(rates)


class Packaged:
    """The film as its playback links give it."""

    def __init__(self, http: httpx.Client, hls_url: str, dash_url: str) -> None:
        self._http = http
        self._hls_url = hls_url
        self._dash_url = dash_url
        self.master = self.playlist(hls_url)
        self.manifest: MPEGDASH = MPEGDASHParser.parse(self._get(dash_url).decode())

    def playlist(self, url: str) -> m3u8.M3U8:
        return m3u8.loads(self._get(url).decode(), uri=url)

    def media_playlist(self, uri: str) -> m3u8.M3U8:
        return self.playlist(urljoin(self._hls_url, uri))

    def track(self, uri: str) -> Track:
        playlist = self.media_playlist(uri)
        sizes = tuple(self._size(segment.absolute_uri) for segment in playlist.segments)
        return Track(sizes, tuple(segment.duration for segment in playlist.segments))

    def dash_track(self, representation: Representation) -> Track:
        (template,) = representation.segment_templates
        ticks = [entry.d for entry in template.segment_timelines[0].Ss for _ in range(1 + (entry.r or 0))]
        uris = [
            template.media.replace("$Number%05d$", f"{number:05d}")
            for number in range(template.start_number, template.start_number + len(ticks))
        ]
        sizes = tuple(self._size(urljoin(self._dash_url, uri)) for uri in uris)
        return Track(sizes, tuple(count / template.timescale for count in ticks))

    def read(self, url: str, byterange: str | None = None) -> bytes:
        """Return an object, or of it what `EXT-X-BYTERANGE` says."""
        if byterange is None:
            return self._get(url)
        length, _, offset = byterange.partition("@")
        return self._get(url, {"Range": f"bytes={offset}-{int(offset) + int(length) - 1}"})

    def _get(self, url: str, headers: dict[str, str] | None = None) -> bytes:
        answer = self._http.get(url, headers=headers)
        answer.raise_for_status()
        return answer.content

    def _size(self, url: str) -> int:
        return int(self._http.head(url).raise_for_status().headers["content-length"])


@pytest.fixture(scope="module")
def packaged(site_product: Product, film: str) -> Iterator[Packaged]:
    with site_product.client() as client:
        playback = client.get(f"/api/videos/{film}/playback").json()
    with httpx.Client(follow_redirects=True, trust_env=False, timeout=60) as http:
        yield Packaged(http, site_product.url + playback["hls"], site_product.url + playback["dash"])


def test_the_master_offers_every_rung_in_both_codecs_with_the_sound_in_a_group(packaged: Packaged) -> None:
    master = packaged.master
    assert master.is_variant
    assert master.version == 6
    assert master.is_independent_segments
    (sound,) = master.media
    assert (sound.type, sound.group_id, sound.channels) == ("AUDIO", "audio", "2")
    offered = {}
    for variant in master.playlists:
        info = variant.stream_info
        video, sound_codec = info.codecs.split(",")
        assert (sound_codec, info.audio) == ("mp4a.40.2", "audio")
        assert (info.frame_rate, info.video_range) == (24, "SDR")
        offered[CODECS[video.partition(".")[0]], info.resolution] = variant.uri
    assert set(offered) == {(codec, size) for codec in CODECS.values() for size in RUNGS}


def test_peak_and_average_bandwidth_are_those_of_the_segments(packaged: Packaged) -> None:
    (sound,) = packaged.master.media
    sound_track = packaged.track(sound.uri)
    for variant in packaged.master.playlists:
        video = packaged.track(variant.uri)
        target = packaged.media_playlist(variant.uri).target_duration
        info = variant.stream_info
        assert info.bandwidth >= video.peak_bps(target) + sound_track.peak_bps(target) - 2
        # the last segment is short, and counted as any other
        assert info.bandwidth <= 1.01 * (video.largest_bps + sound_track.largest_bps)
        assert info.average_bandwidth == pytest.approx(video.average_bps + sound_track.average_bps, rel=0.01)


def test_media_playlists_are_closed_and_all_renditions_are_cut_at_the_same_instants(
    packaged: Packaged,
) -> None:
    cuts = set()
    for uri in [*(variant.uri for variant in packaged.master.playlists), packaged.master.media[0].uri]:
        playlist = packaged.media_playlist(uri)
        assert playlist.is_endlist
        assert playlist.playlist_type == "vod"
        seconds = [segment.duration for segment in playlist.segments]
        assert max(round(one) for one in seconds) <= playlist.target_duration
        assert sum(seconds) == pytest.approx(FILM_SECONDS, abs=0.1)
        if uri != packaged.master.media[0].uri:
            cuts.add(tuple(seconds))
    # the top H.264 rung is the film's own picture, so all are cut at the film's keyframes
    assert cuts == {(10.417, 5.333, 7.292, 6.958)}


def test_every_rung_has_an_i_frame_playlist_whose_ranges_are_single_pictures(
    packaged: Packaged, tmp_path: Path
) -> None:
    offered = set()
    for variant in packaged.master.iframe_playlists:
        info = variant.iframe_stream_info
        offered.add((CODECS[info.codecs.partition(".")[0]], info.resolution))
        playlist = packaged.media_playlist(variant.uri)
        assert playlist.is_i_frames_only
        assert playlist.is_endlist
        assert sum(one.duration for one in playlist.segments) == pytest.approx(FILM_SECONDS, abs=0.1)
        seconds = [one.duration for one in playlist.segments]
        sizes = [int(one.byterange.partition("@")[0]) for one in playlist.segments]
        track = Track(tuple(sizes), tuple(seconds))
        # the last picture stays for less than a segment, and counts in the average alone
        assert info.bandwidth >= 0.99 * track.peak_bps(playlist.target_duration)
        assert info.bandwidth <= 1.01 * track.largest_bps
        assert info.average_bandwidth <= info.bandwidth
        (init,) = playlist.segment_map
        last = playlist.segments[-1]
        picture = tmp_path / "picture.mp4"
        picture.write_bytes(
            packaged.read(init.absolute_uri) + packaged.read(last.absolute_uri, last.byterange)
        )
        assert _decoded(picture) == 1
    assert offered == {(codec, size) for codec in CODECS.values() for size in RUNGS}


def test_the_manifest_is_static_and_as_long_as_the_film(packaged: Packaged) -> None:
    manifest = packaged.manifest
    assert manifest.type == "static"
    assert manifest.availability_start_time is None
    assert manifest.minimum_update_period is None
    assert manifest.profiles == "urn:mpeg:dash:profile:isoff-live:2011"
    assert _seconds(manifest.media_presentation_duration) == pytest.approx(FILM_SECONDS, abs=0.1)
    (period,) = manifest.periods
    for adaptation in period.adaptation_sets:
        assert adaptation.segment_alignment
        for representation in adaptation.representations:
            track = packaged.dash_track(representation)
            assert sum(track.seconds) == pytest.approx(FILM_SECONDS, abs=0.1)
            assert track.peak_bps(SEGMENT_SECONDS) - 2 <= representation.bandwidth
            assert representation.bandwidth <= 1.01 * track.largest_bps


def test_the_manifest_has_a_set_for_each_codec_and_one_for_the_sound(packaged: Packaged) -> None:
    (period,) = packaged.manifest.periods
    sets = {_codec(one): one for one in period.adaptation_sets}
    assert set(sets) == {"av01", "avc1", "mp4a"}
    for codec in CODECS:
        rungs = sets[codec].representations
        assert {
            (_or(one.width, sets[codec].width), _or(one.height, sets[codec].height)) for one in rungs
        } == RUNGS
        rates = {Fraction(_or(one.frame_rate, sets[codec].frame_rate)) for one in rungs}
        assert rates == {24}
        assert sets[codec].content_type == "video"
    (sound,) = sets["mp4a"].representations
    assert (sets["mp4a"].content_type, sound.codecs, sound.audio_sampling_rate) == (
        "audio",
        "mp4a.40.2",
        "48000",
    )
    assert [one.value for one in sound.audio_channel_configurations] == ["2"]


def test_hls_and_dash_name_the_same_segments(packaged: Packaged) -> None:
    (period,) = packaged.manifest.periods
    by_dash = sorted(
        packaged.dash_track(representation).sizes
        for adaptation in period.adaptation_sets
        for representation in adaptation.representations
    )
    uris = [*(variant.uri for variant in packaged.master.playlists), packaged.master.media[0].uri]
    assert sorted(packaged.track(uri).sizes for uri in uris) == by_dash


def _codec(adaptation: AdaptationSet) -> str:
    (codec,) = {str(one.codecs).partition(".")[0] for one in adaptation.representations}
    return codec


def _or(own: object, inherited: object) -> object:
    """A representation's attribute, or that of its adaptation set (ISO/IEC 23009-1, section 5.3.7)."""
    return inherited if own is None else own


def _seconds(duration: str) -> float:
    """Read an xs:duration of seconds alone, which is how the packager writes it."""
    assert duration.startswith("PT")
    assert duration.endswith("S")
    return float(duration[2:-1])


def _decoded(path: Path) -> int:
    """Return how many pictures come out of a file; those that need another do not."""
    done = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "quiet", "-i", path, "-f", "framecrc", "-"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return sum(not line.startswith(b"#") for line in done.stdout.splitlines())

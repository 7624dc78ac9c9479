"""Captions are added to the packager's manifests, which otherwise stay unchanged."""

from datetime import UTC, datetime
from xml.etree import ElementTree

from backend.core.library.manifests import add_to_master, add_to_mpd, captions_playlist
from backend.core.library.tracks import Source, Track, tracks_of
from backend.core.records import Captions, CaptionTrack

MASTER = """#EXTM3U
## Generated with a packager

#EXT-X-INDEPENDENT-SEGMENTS

#EXT-X-MEDIA:TYPE=AUDIO,URI="aac.m3u8",GROUP-ID="audio",NAME="audio",DEFAULT=NO,AUTOSELECT=YES,CHANNELS="2"

#EXT-X-STREAM-INF:BANDWIDTH=670476,CODECS="av01.0.01M.08,mp4a.40.2",AUDIO="audio",CLOSED-CAPTIONS=NONE
av1-360p.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=1154770,CODECS="avc1.64001e,mp4a.40.2",AUDIO="audio",CLOSED-CAPTIONS=NONE
h264-360p.m3u8

#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=73176,CODECS="av01.0.01M.08",URI="av1-360p-iframes.m3u8"
"""
MPD = b"""<?xml version="1.0" encoding="UTF-8"?>
<!--Generated with a packager-->
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:schemaLocation="urn:mpeg:dash:schema:mpd:2011 DASH-MPD.xsd" type="static"
    mediaPresentationDuration="PT30S">
  <Period id="0">
    <AdaptationSet id="0" contentType="video"><Representation id="0" bandwidth="1"/></AdaptationSet>
    <AdaptationSet id="1" contentType="audio" lang="en"><Representation id="1" bandwidth="1"/></AdaptationSet>
  </Period>
</MPD>
"""
MPD_NAMESPACE = {"": "urn:mpeg:dash:schema:mpd:2011"}
ENGLISH = Track("captions/en.vtt", "en", "English", forced=False, source=Source.UPLOAD)
FOREIGN_PARTS = Track("captions/0-de.vtt", "de", 'So "forced" & <short>', forced=True, source=Source.VIDEO)


def uploaded(language: str, label: str | None = None) -> Captions:
    return Captions(
        language=language, label=label, size_bytes=1, uploaded_at=datetime(2026, 1, 1, tzinfo=UTC)
    )


def extracted(language: str, label: str | None = None, number: int = 0) -> CaptionTrack:
    return CaptionTrack(path=f"captions/{number}-{language}.vtt", language=language, label=label)


def test_captions_are_added_to_every_variant() -> None:
    lines = add_to_master(MASTER, [ENGLISH, FOREIGN_PARTS]).splitlines()

    variants = [line for line in lines if line.startswith("#EXT-X-STREAM-INF")]
    assert len(variants) == 2
    assert all(line.endswith(',CLOSED-CAPTIONS=NONE,SUBTITLES="captions"') for line in variants)
    assert [line for line in lines if "TYPE=SUBTITLES" in line] == [
        '#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="captions",NAME="English",LANGUAGE="en",'
        'DEFAULT=NO,AUTOSELECT=YES,FORCED=NO,URI="../captions/en.m3u8"',
        '#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="captions",NAME="So \'forced\' & <short>",LANGUAGE="de",'
        'DEFAULT=NO,AUTOSELECT=YES,FORCED=YES,URI="../captions/0-de.m3u8"',
    ]
    assert lines.index(variants[0]) > max(n for n, line in enumerate(lines) if "TYPE=SUBTITLES" in line)


def test_rest_of_the_master_is_unchanged() -> None:
    lines = add_to_master(MASTER, [ENGLISH]).splitlines()

    stripped = [line.removesuffix(',SUBTITLES="captions"') for line in lines if "TYPE=SUBTITLES" not in line]
    assert stripped == MASTER.splitlines()


def test_captions_playlist_is_one_segment() -> None:
    assert captions_playlist(ENGLISH, 29.97).splitlines() == [
        "#EXTM3U",
        "#EXT-X-VERSION:3",
        "#EXT-X-TARGETDURATION:30",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXTINF:29.970,",
        "en.vtt",
        "#EXT-X-ENDLIST",
    ]


def test_mpd_has_an_adaptation_set_for_each_track() -> None:
    root = ElementTree.fromstring(add_to_mpd(MPD, [ENGLISH, FOREIGN_PARTS]))

    sets = root.findall(".//AdaptationSet", MPD_NAMESPACE)
    assert [one.get("contentType") for one in sets] == ["video", "audio", "text", "text"]
    assert [one.get("mimeType") for one in sets[2:]] == ["text/vtt", "text/vtt"]
    assert [one.get("lang") for one in sets[2:]] == ["en", "de"]
    assert [one.findtext("Label", None, MPD_NAMESPACE) for one in sets[2:]] == [
        "English",
        FOREIGN_PARTS.label,
    ]
    roles = [role for one in sets[2:] for role in one.findall("Role", MPD_NAMESPACE)]
    assert [role.get("value") for role in roles] == ["subtitle", "forced-subtitle"]
    assert [one.findtext(".//BaseURL", None, MPD_NAMESPACE) for one in sets[2:]] == [
        "../captions/en.vtt",
        "../captions/0-de.vtt",
    ]
    ids = [one.get("id") for one in root.findall(".//Representation", MPD_NAMESPACE)]
    assert len(set(ids)) == len(ids)


def test_rest_of_the_mpd_is_unchanged() -> None:
    root = ElementTree.fromstring(add_to_mpd(MPD, [ENGLISH]))
    period = root.find("Period", MPD_NAMESPACE)
    assert period is not None
    period.remove(period.findall("AdaptationSet", MPD_NAMESPACE)[-1])

    assert ElementTree.canonicalize(ElementTree.tostring(root)) == ElementTree.canonicalize(MPD)


def test_mpd_is_written_without_namespace_prefixes() -> None:
    assert b"<MPD xmlns=" in add_to_mpd(MPD, [ENGLISH])


def test_track_labels_are_unique() -> None:
    tracks = tracks_of(
        [uploaded("en"), uploaded("fr", "Transcript")],
        [
            extracted("en"),
            extracted("en", "English", 1),
            extracted("eng", "SDH", 2),
            extracted("xx", None, 3),
        ],
    )
    assert [track.label for track in tracks] == [
        "English",
        "Transcript",
        "English (2)",
        "English (3)",
        "SDH",
        "Unknown language",
    ]
    assert [track.language for track in tracks] == ["en", "fr", "en", "en", "en", "und"]


def test_track_names_of_the_source_are_sanitized() -> None:
    evil = 'a"\r\n#EXT-X-STREAM-INF:X\n' + "b" * 400
    track = tracks_of([], [CaptionTrack(path="captions/0-und.vtt", language='en"\n', label=evil)])[0]

    assert track.language == "und"
    assert len(add_to_master(MASTER, [track]).splitlines()) == len(MASTER.splitlines()) + 1

"""Adds captions to the manifests of a finished video: HLS (RFC 8216) and DASH (ISO/IEC 23009-1).

Runs are immutable, but captions change. So captions are added to the manifests when they are served. Only
manifests written by our packager are supported.
"""

import math
import posixpath
from collections.abc import Sequence
from xml.etree import ElementTree

from backend.core import keys
from backend.core.library.tracks import Track

GROUP = "captions"
BITS_PER_SECOND = 1000
"""DASH requires a bandwidth for every representation. Captions need about this much."""

_MPD = "urn:mpeg:dash:schema:mpd:2011"
_ROLE = "urn:mpeg:dash:role:2011"
ElementTree.register_namespace("", _MPD)
ElementTree.register_namespace("xsi", "http://www.w3.org/2001/XMLSchema-instance")


def add_to_master(master: str, tracks: Sequence[Track]) -> str:
    """Return the HLS master playlist with the tracks as one group, referenced by every variant."""
    media = [_media_tag(track) for track in tracks]
    lines: list[str] = []
    for line in master.splitlines():
        if line.startswith("#EXT-X-STREAM-INF:"):
            lines += media
            media = []
            line = f'{line},SUBTITLES="{GROUP}"'
        lines.append(line)
    return "\n".join(lines) + "\n"


def _media_tag(track: Track) -> str:
    uri = _relative(keys.captions_playlist_path(track.path), keys.MASTER_PLAYLIST)
    attributes = (
        "TYPE=SUBTITLES",
        f'GROUP-ID="{GROUP}"',
        f'NAME="{_quotable(track.label)}"',
        f'LANGUAGE="{track.language}"',
        "DEFAULT=NO",
        "AUTOSELECT=YES",  # if the viewer's settings ask for it; otherwise captions are off
        f"FORCED={'YES' if track.forced else 'NO'}",
        f'URI="{uri}"',
    )
    return f"#EXT-X-MEDIA:{','.join(attributes)}"


def _quotable(text: str) -> str:
    """Replace double quotes, which a quoted string cannot contain or escape (RFC 8216 section 4.2)."""
    return text.replace('"', "'")


def captions_playlist(track: Track, duration_seconds: float) -> str:
    """Return the media playlist of a track, with the whole file as its only segment."""
    return "\n".join(
        (
            "#EXTM3U",
            "#EXT-X-VERSION:3",
            f"#EXT-X-TARGETDURATION:{max(1, math.ceil(duration_seconds))}",
            "#EXT-X-PLAYLIST-TYPE:VOD",
            f"#EXTINF:{duration_seconds:.3f},",
            posixpath.basename(track.path),
            "#EXT-X-ENDLIST",
            "",
        )
    )


def add_to_mpd(mpd: bytes, tracks: Sequence[Track]) -> bytes:
    """Return the MPD with one adaptation set for each track."""
    root = ElementTree.fromstring(mpd)  # noqa: S314  # written by our own packager, not by the uploader
    for period in root.iter(f"{{{_MPD}}}Period"):
        period.extend(_adaptation_set(track, number) for number, track in enumerate(tracks))
    whole: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return whole


def _adaptation_set(track: Track, number: int) -> ElementTree.Element:
    """Return the adaptation set of a stand-alone WebVTT file, with times of the period (DASH-IF IOP)."""
    adaptation_set = _element("AdaptationSet", contentType="text", lang=track.language, mimeType="text/vtt")
    label = _element("Label")
    label.text = track.label
    role = _element("Role", schemeIdUri=_ROLE, value="forced-subtitle" if track.forced else "subtitle")
    representation = _element("Representation", id=f"{GROUP}-{number}", bandwidth=str(BITS_PER_SECOND))
    base_url = _element("BaseURL")
    base_url.text = _relative(track.path, keys.DASH_MANIFEST)
    representation.append(base_url)
    adaptation_set.extend((label, role, representation))
    return adaptation_set


def _element(name: str, **attributes: str) -> ElementTree.Element:
    return ElementTree.Element(f"{{{_MPD}}}{name}", attributes)


def _relative(path: str, manifest: str) -> str:
    return posixpath.relpath(path, posixpath.dirname(manifest))

"""Reads the packager's playlists and manifest: which objects they name, and how long they last.

Paths are relative to the run's prefix. It understands only what the packager writes.
"""

import posixpath
import re
from dataclasses import dataclass
from xml.etree import ElementTree

MPD = "{urn:mpeg:dash:schema:mpd:2011}"


@dataclass(frozen=True, slots=True)
class Playlist:
    """`names` are the objects a player would request; `segments` are those with media."""

    names: tuple[str, ...]
    segments: tuple[str, ...] = ()
    duration_seconds: float = 0.0
    finished: bool = False
    """Nothing will be added: ENDLIST and VOD, or a static MPD."""


def is_playlist(path: str) -> bool:
    return path.endswith((".m3u8", ".mpd"))


def parse_playlist(path: str, body: bytes) -> Playlist:
    return _parse_mpd(path, body) if path.endswith(".mpd") else _parse_hls(path, body.decode())


def _parse_hls(path: str, text: str) -> Playlist:
    """RFC 8216: lines that are not tags are URIs; tags name more in their URI attribute."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    uris = [_resolve(path, line) for line in lines if not line.startswith("#")]
    attributes = [
        _resolve(path, uri) for line in lines for uri in _URI.findall(line) if line.startswith("#EXT")
    ]
    durations = [float(match[1]) for line in lines if (match := _EXTINF.match(line))]
    return Playlist(
        names=tuple(dict.fromkeys([*attributes, *uris])),
        segments=tuple(uris) if durations else (),
        duration_seconds=sum(durations),
        finished="#EXT-X-ENDLIST" in lines and "#EXT-X-PLAYLIST-TYPE:VOD" in lines,
    )


def _parse_mpd(path: str, body: bytes) -> Playlist:
    root = ElementTree.fromstring(body)  # noqa: S314  # written by our own packager, not by the uploader
    names: list[str] = []
    segments: list[str] = []
    longest = 0.0
    for template in root.iter(f"{MPD}SegmentTemplate"):
        names.append(_resolve(path, template.attrib["initialization"]))
        entries = list(template.iter(f"{MPD}S"))
        count = sum(1 + int(entry.get("r", "0")) for entry in entries)
        first = int(template.get("startNumber", "1"))
        pattern = template.attrib["media"]
        segments += [_resolve(path, _numbered(pattern, number)) for number in range(first, first + count)]
        ticks = sum(int(entry.attrib["d"]) * (1 + int(entry.get("r", "0"))) for entry in entries)
        longest = max(longest, ticks / int(template.get("timescale", "1")))
    return Playlist((*names, *segments), tuple(segments), longest, finished=root.get("type") == "static")


def _numbered(pattern: str, number: int) -> str:
    return _NUMBER.sub(lambda match: f"{number:0{int(match[1] or 1)}d}", pattern)


def _resolve(path: str, uri: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), uri))


_URI = re.compile(r'URI="([^"]*)"')
_EXTINF = re.compile(r"#EXTINF:([0-9.]+)")
_NUMBER = re.compile(r"\$Number(?:%0(\d+)d)?\$")

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
        segments += [_segment(path, template, number) for number in _numbers(template)]
        entries = template.iter(f"{MPD}S")
        ticks = sum(int(entry.attrib["d"]) * (1 + int(entry.get("r", "0"))) for entry in entries)
        longest = max(longest, ticks / int(template.get("timescale", "1")))
    return Playlist((*names, *segments), tuple(segments), longest, finished=root.get("type") == "static")


def _numbers(template: ElementTree.Element) -> range:
    """Return the numbers of a template's segments."""
    first = int(template.get("startNumber", "1"))
    return range(first, first + sum(1 + int(entry.get("r", "0")) for entry in template.iter(f"{MPD}S")))


def _segment(path: str, template: ElementTree.Element, number: int) -> str:
    return _resolve(path, _numbered(template.attrib["media"], number))


class NewNames:
    """Reads the growing versions of one playlist: of each, only the names that earlier ones did not have.

    The master is small and read in full.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._last_line = b""
        self._next_numbers: dict[str, int] = {}
        self.any_segment = False

    def read(self, body: bytes) -> set[str]:
        return self._read_mpd(body) if self._path.endswith(".mpd") else self._read_hls(body)

    def _read_hls(self, body: bytes) -> set[str]:
        at = body.rfind(self._last_line) if self._last_line else -1
        new = body if at < 0 else body[at + len(self._last_line) :]
        playlist = _parse_hls(self._path, new.decode())
        if playlist.segments:
            self.any_segment = True
            uri = next(line for line in reversed(new.splitlines()) if line and not line.startswith(b"#"))
            self._last_line = b"\n%s\n" % uri
        return set(playlist.names)

    def _read_mpd(self, body: bytes) -> set[str]:
        names: set[str] = set()
        for template in ElementTree.fromstring(body).iter(f"{MPD}SegmentTemplate"):  # noqa: S314  # as above
            numbers, media = _numbers(template), template.attrib["media"]
            names.add(_resolve(self._path, template.attrib["initialization"]))
            new = range(max(numbers.start, self._next_numbers.get(media, 0)), numbers.stop)
            names |= {_segment(self._path, template, number) for number in new}
            self._next_numbers[media] = numbers.stop
            self.any_segment |= bool(numbers)
        return names


def _numbered(pattern: str, number: int) -> str:
    return _NUMBER.sub(lambda match: f"{number:0{int(match[1] or 1)}d}", pattern)


def _resolve(path: str, uri: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), uri))


_URI = re.compile(r'URI="([^"]*)"')
_EXTINF = re.compile(r"#EXTINF:([0-9.]+)")
_NUMBER = re.compile(r"\$Number(?:%0(\d+)d)?\$")

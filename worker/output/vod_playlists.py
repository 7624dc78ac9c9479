"""Writes the playlists and the manifest of a look: complete before its segments exist. Pure."""

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import groupby
from xml.etree import ElementTree

from worker.encode.look_plan import LookPlan, LookRendition

HLS_VERSION = 6
"""EXT-X-MAP requires it (RFC 8216, section 7)."""
_MPD = "urn:mpeg:dash:schema:mpd:2011"
_QUOTABLE = str.maketrans({'"': "'", "\n": " ", "\r": " "})
"""A quoted string cannot contain these (RFC 8216, section 4.2). Labels come from the uploader."""


def init_path(rendition: str) -> str:
    return f"media/{rendition}/init.mp4"


def segment_path(rendition: str, number: int) -> str:
    """`number` counts from 0; names count from 1."""
    return f"media/{rendition}/{number + 1:05d}.m4s"


def media_playlist(one: LookRendition) -> str:
    """Return the playlist of a rendition (RFC 8216). Paths are relative to `hls/`."""
    segments = (
        f"#EXTINF:{float(seconds):.6f},\n../{segment_path(one.name, number)}"
        for number, seconds in enumerate(one.durations)
    )
    return "\n".join(
        (
            *("#EXTM3U", f"#EXT-X-VERSION:{HLS_VERSION}"),
            f"#EXT-X-TARGETDURATION:{math.ceil(max(one.durations))}",
            "#EXT-X-PLAYLIST-TYPE:VOD",
            f'#EXT-X-MAP:URI="../{init_path(one.name)}"',
            *segments,
            *("#EXT-X-ENDLIST", ""),
        )
    )


def master_playlist(look: LookPlan, codecs: Mapping[str, str]) -> str:
    """`codecs` are RFC 6381 strings by rendition."""
    picture = look.picture
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{HLS_VERSION}", "#EXT-X-INDEPENDENT-SEGMENTS"]
    lines += [_media(one, default=one is look.sound[0]) for one in look.sound]
    peaks = picture.bps + max((one.bps for one in look.sound), default=0)
    attributes = (
        f"BANDWIDTH={peaks}",
        f'CODECS="{",".join(dict.fromkeys(codecs[one.name] for one in look.renditions))}"',
        f"RESOLUTION={picture.width}x{picture.height}",
        f"FRAME-RATE={float(look.fps):.3f}",
        *(['AUDIO="audio"'] if look.sound else []),
        "CLOSED-CAPTIONS=NONE",
    )
    return "\n".join((*lines, f"#EXT-X-STREAM-INF:{','.join(attributes)}", f"{picture.name}.m3u8", ""))


def _media(one: LookRendition, *, default: bool) -> str:
    attributes = (
        "TYPE=AUDIO",
        'GROUP-ID="audio"',
        f'NAME="{one.label.translate(_QUOTABLE)}"',
        *([f'LANGUAGE="{one.language}"'] if one.language else []),
        f"DEFAULT={'YES' if default else 'NO'}",
        "AUTOSELECT=YES",
        f'CHANNELS="{one.channels}"',
        f'URI="{one.name}.m3u8"',
    )
    return f"#EXT-X-MEDIA:{','.join(attributes)}"


def static_mpd(look: LookPlan, codecs: Mapping[str, str]) -> bytes:
    """Return a manifest (ISO/IEC 23009-1) whose paths are relative to `dash/`."""
    root = ElementTree.Element(
        "MPD",
        {
            "xmlns": _MPD,
            "profiles": "urn:mpeg:dash:profile:isoff-live:2011",
            "type": "static",
            "minBufferTime": "PT2S",
            "mediaPresentationDuration": _iso(look.seconds),
        },
    )
    period = ElementTree.SubElement(root, "Period", {"id": "0"})
    for number, one in enumerate(look.renditions):
        period.append(_adaptation_set(look, one, number, codecs[one.name]))
    whole: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return whole


def _adaptation_set(look: LookPlan, one: LookRendition, number: int, codec: str) -> ElementTree.Element:
    kind = "audio" if one.codec == "aac" else "video"
    attributes = {"id": str(number), "contentType": kind, "startWithSAP": "1", "segmentAlignment": "true"}
    if one.language:
        attributes["lang"] = one.language
    adaptation_set = ElementTree.Element("AdaptationSet", attributes)
    role = "main" if one in (look.picture, *look.sound[:1]) else "alternate"
    ElementTree.SubElement(adaptation_set, "Role", {"schemeIdUri": "urn:mpeg:dash:role:2011", "value": role})
    if one.label:
        ElementTree.SubElement(adaptation_set, "Label").text = one.label
    shape = (
        {"audioSamplingRate": str(one.timescale)}
        if kind == "audio"
        else {"width": str(one.width), "height": str(one.height), "frameRate": str(look.fps), "sar": "1:1"}
    )
    representation = ElementTree.SubElement(
        adaptation_set,
        "Representation",
        {"id": str(number), "bandwidth": str(one.bps), "codecs": codec, "mimeType": f"{kind}/mp4", **shape},
    )
    if kind == "audio":
        ElementTree.SubElement(
            representation,
            "AudioChannelConfiguration",
            {
                "schemeIdUri": "urn:mpeg:dash:23003:3:audio_channel_configuration:2011",
                "value": str(one.channels),
            },
        )
    template = ElementTree.SubElement(
        representation,
        "SegmentTemplate",
        {
            "timescale": str(one.timescale),
            "initialization": f"../{init_path(one.name)}",
            "media": f"../media/{one.name}/$Number%05d$.m4s",
            "startNumber": "1",
        },
    )
    timeline = ElementTree.SubElement(template, "SegmentTimeline")
    for attributes in _timeline(one):
        ElementTree.SubElement(timeline, "S", attributes)
    return adaptation_set


def _timeline(one: LookRendition) -> Iterator[dict[str, str]]:
    """Yield the runs of segments that last the same."""
    start = one.starts[0]
    for seconds, run in groupby(one.durations):
        ticks, count = int(seconds * one.timescale), len(list(run))
        yield {"t": str(start), "d": str(ticks), **({"r": str(count - 1)} if count > 1 else {})}
        start += ticks * count


def _iso(seconds: Fraction) -> str:
    return f"PT{float(seconds):.3f}S"

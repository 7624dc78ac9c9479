"""Corrects what the packager gets wrong in the master playlist and the manifest. Pure.

Needed for Shaka Packager 3.8; correct output of other versions passes through unchanged.
"""

import posixpath
import re

HLS_VERSION = 6
"""The version of the media playlists, which EXT-X-MAP requires (RFC 8216, section 7)."""

_AUDIO = b"#EXT-X-MEDIA:TYPE=AUDIO,"
_HEADER = b"#EXTM3U\n"
_VERSION = b"#EXT-X-VERSION:"
_RATES = re.compile(rb"BANDWIDTH=(\d+),AVERAGE-BANDWIDTH=(\d+)")


def corrected_master(master: bytes, first_audio: str) -> bytes:
    """Return the master with a version, `first_audio` as the default, and no peak rate below its average."""
    if master.startswith(_HEADER) and _VERSION not in master:
        master = b"%s%s%d\n%s" % (_HEADER, _VERSION, HLS_VERSION, master.removeprefix(_HEADER))
    # in keyframe playlists the last keyframe counts in the average but not in the peak
    master = _RATES.sub(_with_a_peak, master)
    wanted = f'URI="{posixpath.basename(first_audio)}"'.encode()
    return b"\n".join(
        # the packager can only mark a language as the default, with all its tracks
        line.replace(b"DEFAULT=NO", b"DEFAULT=YES") if line.startswith(_AUDIO) and wanted in line else line
        for line in master.split(b"\n")
    )


def corrected_manifest(manifest: bytes) -> bytes:
    """Return the manifest with the profile it follows: one file per segment, not ranges of one file.

    ISO/IEC 23009-1, sections 8.3 and 8.4: SegmentTemplate belongs to the live profile, even in a static
    manifest, and there the attribute is segmentAlignment.
    """
    return manifest.replace(b"isoff-on-demand:2011", b"isoff-live:2011").replace(
        b"subsegmentAlignment=", b"segmentAlignment="
    )


def _with_a_peak(rates: re.Match[bytes]) -> bytes:
    peak, average = int(rates[1]), int(rates[2])
    return b"BANDWIDTH=%d,AVERAGE-BANDWIDTH=%d" % (max(peak, average), average)

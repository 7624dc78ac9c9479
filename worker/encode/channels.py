"""Filters that mix to stereo the channel layouts which ffmpeg's own mixer refuses or gets wrong. Pure."""

import re

from worker.source.media import AudioInfo

MAX_LAYOUT_CHANNELS = 8
"""ffmpeg knows no layout for more channels."""
_LABELS = re.compile(r"\d+ channels \((.+)\)")
_LEFT = frozenset(
    {"FL", "BL", "SL", "FLC", "WL", "TFL", "TBL", "DL", "SDL", "TSL", "BFL", "SSL", "TTL", "BIL"}
)
_RIGHT = frozenset(
    {"FR", "BR", "SR", "FRC", "WR", "TFR", "TBR", "DR", "SDR", "TSR", "BFR", "SSR", "TTR", "BIR"}
)
_CENTRE_GAIN = 0.7071
"""Also for channels that are neither left nor right, and for labels that nobody knows."""


def stereo_filters(source: AudioInfo) -> tuple[str, ...]:
    """Return nothing if ffmpeg can do it."""
    if source.channels == 1 or source.layout.startswith("ambisonic"):
        # ffmpeg's own mix of mono is 3 dB quieter; the first channel of ambisonics is omnidirectional
        return ("pan=stereo|c0=c0|c1=c0",)
    if labels := _LABELS.fullmatch(source.layout):
        return (_mixed(labels[1].split("+")),)
    if source.channels == 3 and not source.layout:
        return (_mixed(["FL", "FR", "FC"]),)  # ffmpeg drops the third, taking it for bass
    if source.layout == "binaural" or (source.channels > MAX_LAYOUT_CHANNELS and not source.layout):
        return ("pan=stereo|c0=c0|c1=c1",)
    return ()


def may_clip(source: AudioInfo) -> bool:
    """Whether the sum of channels may exceed full scale."""
    return source.channels > 2 or _LABELS.fullmatch(source.layout) is not None


def _mixed(labels: list[str]) -> str:
    """Mix by the channels' labels, or by position if none says left or right.

    The filter `pan` would refuse the same layouts as the mixer.
    """
    if not {*labels} & (_LEFT | _RIGHT):
        labels = [("FL", "FR")[position % 2] for position in range(len(labels))]
    left, right = (
        "+".join(
            f"val({position})" if label in side else f"{_CENTRE_GAIN}*val({position})"
            for position, label in enumerate(labels)
            if label not in other
        )
        for side, other in ((_LEFT, _RIGHT), (_RIGHT, _LEFT))
    )
    return f"aeval={left or right}|{right or left}:c=stereo"

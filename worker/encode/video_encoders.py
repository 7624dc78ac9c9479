"""The ffmpeg video encoders that we use, and their arguments. Pure.

Each codec has its own encoder: many GPUs have H.264 but no AV1.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backend.core.records import Codec

Family = Literal["nvenc", "qsv", "vaapi", "videotoolbox", "software"]

CODECS: tuple[Codec, ...] = ("av1", "h264")

HARDWARE: tuple[Family, ...] = ("nvenc", "qsv", "vaapi", "videotoolbox")
"""In the order they are tried."""

X264_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower")

_LIBAOM_FASTEST = 8
_QSV_INFINITE_GOP = 0xFFFF
"""The field has 16 bits: a larger number would be truncated to some other keyframe interval."""


@dataclass(frozen=True, slots=True)
class VideoEncoder:
    """`name` is ffmpeg's. `render_node` is the device file of the GPU; only vaapi and qsv use it."""

    codec: Codec
    family: Family
    name: str
    render_node: Path | None = None

    @property
    def is_hardware(self) -> bool:
        return self.family != "software"

    @property
    def options(self) -> tuple[str, ...]:
        """Global options of ffmpeg that open the device."""
        if self.render_node is None:
            return ()
        if self.family == "vaapi":
            return ("-vaapi_device", str(self.render_node))
        if self.family == "qsv":
            return ("-init_hw_device", f"qsv:hw,child_device={self.render_node}")
        return ()

    @property
    def upload(self) -> str:
        """Filters that bring yuv420p pictures to the encoding device; empty if none are needed."""
        if self.family == "vaapi":
            return "format=nv12,hwupload"  # VA-API encodes surfaces on the device
        return "format=nv12" if self.family == "qsv" else ""

    def arguments(self, *, crf: int, preset: int, max_bps: int) -> tuple[str, ...]:
        """Return the arguments of an output. `crf` and `preset` are for the codec's software encoder.

        They must follow `keyframe_arguments`: some encoders need another `-g`.
        """
        if self.is_hardware:
            return ("-c:v", self.name, *self._rate_limit(max_bps))
        # capped CRF: constant quality, few bits for easy content, and no peaks that drain a player's buffer
        cap = ("-maxrate", str(max_bps), "-bufsize", str(2 * max_bps))
        quality = ("-crf", str(crf))
        if self.name == "libaom-av1":
            # the other usages are ten times slower, and add a keyframe after each forced one
            speed = ("-usage", "realtime", "-cpu-used", str(min(preset, _LIBAOM_FASTEST)), "-row-mt", "1")
            # libaom caps at the rate itself
            return ("-c:v", self.name, *speed, *quality, "-b:v", str(max_bps))
        if self.codec == "av1":
            # lookahead delays the first segment, with no gain in VMAF
            early = ("-svtav1-params", "lookahead=0")
            return ("-c:v", self.name, "-preset", str(preset), *quality, *cap, *early)
        return ("-c:v", self.name, "-preset", X264_PRESETS[preset], "-profile:v", "high", *quality, *cap)

    def _rate_limit(self, max_bps: int) -> tuple[str, ...]:
        """Hardware encoders differ in their quality scales, so they get a bit rate instead."""
        rate = ("-b:v", str(max_bps * 2 // 3), "-maxrate", str(max_bps), "-bufsize", str(2 * max_bps))
        # without it, nvenc and qsv make a forced keyframe an I-frame that is not a random access point
        if self.family == "nvenc":
            return (*rate, "-forced-idr", "1")
        if self.family == "qsv":
            return (*rate, "-forced_idr", "1", "-g", str(_QSV_INFINITE_GOP))
        return rate


@dataclass(frozen=True, slots=True)
class Encoders:
    """The encoders of a job, one for each codec.

    `fallback` replaces them when hardware fails in the middle of a job. None: there is no replacement.
    """

    chosen: tuple[VideoEncoder, ...]
    fallback: "Encoders | None" = None

    def of(self, codec: Codec) -> VideoEncoder:
        """Raises: LookupError: there is none for this codec."""
        for encoder in self.chosen:
            if encoder.codec == codec:
                return encoder
        raise LookupError(codec)

    @property
    def use_hardware(self) -> bool:
        return any(encoder.is_hardware for encoder in self.chosen)

    @property
    def options(self) -> tuple[str, ...]:
        """Global options of ffmpeg, which open each device once."""
        return tuple(word for words in dict.fromkeys(one.options for one in self.chosen) for word in words)

    @property
    def description(self) -> str:
        """For display: `software`, or `av1 software, h264 nvenc`."""
        families = dict.fromkeys(encoder.family for encoder in self.chosen)
        if len(families) == 1:
            return next(iter(families))
        return ", ".join(f"{encoder.codec} {encoder.family}" for encoder in self.chosen)


SVT_AV1 = VideoEncoder("av1", "software", "libsvtav1")
LIBAOM = VideoEncoder("av1", "software", "libaom-av1")
X264 = VideoEncoder("h264", "software", "libx264")
SOFTWARE = Encoders((SVT_AV1, X264))


def candidates(codec: Codec, render_node: Path) -> tuple[VideoEncoder, ...]:
    """Return every encoder for this codec, in order of preference."""
    hardware = (VideoEncoder(codec, family, f"{codec}_{family}", render_node) for family in HARDWARE)
    # libaom is many times slower: only for ffmpeg builds without SVT-AV1
    software = (SVT_AV1, LIBAOM) if codec == "av1" else (X264,)
    return (*hardware, *software)


def keyframe_arguments(segment_seconds: float) -> tuple[str, ...]:
    """Return the arguments that every encoder of a whole film gets."""
    # at the same times in every rung and codec, so players can switch at any segment
    return _keyframes(f"expr:gte(t,n_forced*{segment_seconds:g})")


def forced_keyframes(seconds: Iterable[str]) -> tuple[str, ...]:
    """Return the arguments that every encoder of a chunk gets: the times of its keyframes."""
    return _keyframes(",".join(seconds))


def _keyframes(when: str) -> tuple[str, ...]:
    return (
        *("-force_key_frames", when),
        # and nowhere else: neither after a maximum interval nor at scene cuts
        *("-g", "100000", "-sc_threshold", "0"),
        # a segment must decode without the previous one
        *("-flags", "+cgop"),
    )

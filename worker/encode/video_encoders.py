"""The video encoders of ffmpeg that we use, and the arguments of each. Pure.

They are chosen for each codec by itself: a GPU that has H.264 but no AV1 is common.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backend.core.settings import Codec

Family = Literal["nvenc", "qsv", "vaapi", "videotoolbox", "software"]

CODECS: tuple[Codec, ...] = ("av1", "h264")

HARDWARE: tuple[Family, ...] = ("nvenc", "qsv", "vaapi", "videotoolbox")
"""In the order in which they are tried."""

X264_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower")

_LIBAOM_FASTEST = 8
_QSV_INFINITE_GOP = 0xFFFF
"""Its field has 16 bits: a larger number would be cut down to some other distance between keyframes."""


@dataclass(frozen=True, slots=True)
class VideoEncoder:
    """`name` is ffmpeg's. `render_node` is the GPU's device file; only vaapi and qsv use it."""

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
        """Filters that bring a yuv420p picture to where it is encoded; empty where it is right as it is."""
        if self.family == "vaapi":
            return "format=nv12,hwupload"  # VA-API encodes surfaces of the device
        return "format=nv12" if self.family == "qsv" else ""

    def arguments(self, *, crf: int, preset: int, max_bps: int) -> tuple[str, ...]:
        """Arguments of an output. `crf` and `preset` are those of the codec's software encoder.

        They are to stand behind `keyframe_arguments`: some encoders take another `-g`.
        """
        if self.is_hardware:
            return ("-c:v", self.name, *self._rate_limit(max_bps))
        # capped CRF: constant quality, few bits for easy content, and no peak that starves a player's buffer
        cap = ("-maxrate", str(max_bps), "-bufsize", str(2 * max_bps))
        quality = ("-crf", str(crf))
        if self.name == "libaom-av1":
            # the other usages are ten times slower, and put a keyframe of their own behind each forced one
            speed = ("-usage", "realtime", "-cpu-used", str(min(preset, _LIBAOM_FASTEST)), "-row-mt", "1")
            # its cap is the rate itself
            return ("-c:v", self.name, *speed, *quality, "-b:v", str(max_bps))
        if self.codec == "av1":
            # looking ahead delays the first segment, and gains nothing that VMAF would see
            early = ("-svtav1-params", "lookahead=0")
            return ("-c:v", self.name, "-preset", str(preset), *quality, *cap, *early)
        return ("-c:v", self.name, "-preset", X264_PRESETS[preset], "-profile:v", "high", *quality, *cap)

    def _rate_limit(self, max_bps: int) -> tuple[str, ...]:
        """The quality scales of hardware differ, so it is held to a rate instead."""
        rate = ("-b:v", str(max_bps * 2 // 3), "-maxrate", str(max_bps), "-bufsize", str(2 * max_bps))
        # without it nvenc and qsv answer a forced keyframe with an I-frame that is no random access point
        if self.family == "nvenc":
            return (*rate, "-forced-idr", "1")
        if self.family == "qsv":
            return (*rate, "-forced_idr", "1", "-g", str(_QSV_INFINITE_GOP))
        return rate


@dataclass(frozen=True, slots=True)
class Encoders:
    """What a job is encoded with: one encoder for each codec.

    `fallback` takes their place when hardware fails in the middle of a job; None: nothing could.
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
        """Global options of ffmpeg, each device opened once."""
        return tuple(word for words in dict.fromkeys(one.options for one in self.chosen) for word in words)

    @property
    def description(self) -> str:
        """For people: `software`, or `av1 software, h264 nvenc`."""
        families = dict.fromkeys(encoder.family for encoder in self.chosen)
        if len(families) == 1:
            return next(iter(families))
        return ", ".join(f"{encoder.codec} {encoder.family}" for encoder in self.chosen)


SVT_AV1 = VideoEncoder("av1", "software", "libsvtav1")
LIBAOM = VideoEncoder("av1", "software", "libaom-av1")
X264 = VideoEncoder("h264", "software", "libx264")
SOFTWARE = Encoders((SVT_AV1, X264))


def candidates(codec: Codec, render_node: Path) -> tuple[VideoEncoder, ...]:
    """Return every encoder of this codec, the one to prefer first."""
    hardware = (VideoEncoder(codec, family, f"{codec}_{family}", render_node) for family in HARDWARE)
    # libaom is many times slower: only for builds of ffmpeg without SVT-AV1
    software = (SVT_AV1, LIBAOM) if codec == "av1" else (X264,)
    return (*hardware, *software)


def keyframe_arguments(segment_seconds: float) -> tuple[str, ...]:
    """Arguments that every encoder gets."""
    return (
        # at the same instants in every rung and codec, so that players can switch at any segment
        *("-force_key_frames", f"expr:gte(t,n_forced*{segment_seconds:g})"),
        # and nowhere else: neither by a maximum distance nor by scene cuts
        *("-g", "100000", "-sc_threshold", "0"),
        # a segment must decode without the one before
        *("-flags", "+cgop"),
    )

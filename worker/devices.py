"""What video is encoded on: software, or one kind of hardware with its own ffmpeg arguments. Pure."""

from dataclasses import dataclass
from pathlib import Path

from backend.core.settings import Codec, Encoder


@dataclass(frozen=True, slots=True)
class VideoDevice:
    """`vaapi_device` is the render node; only vaapi uses it."""

    encoder: Encoder
    vaapi_device: Path | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """Global options of ffmpeg that open the device."""
        if self.encoder == "vaapi" and self.vaapi_device is not None:
            return ("-vaapi_device", str(self.vaapi_device))
        return ()

    @property
    def upload(self) -> str:
        """The filters that end a picture's chain: 8 bit 4:2:0 is what every player decodes."""
        if self.encoder == "vaapi":
            return "format=nv12,hwupload"  # VA-API encodes surfaces of the device
        return "format=yuv420p" if self.encoder == "software" else "format=nv12"

    def codec_arguments(self, codec: Codec, max_bps: int) -> tuple[str, ...]:
        """Arguments of a hardware encoder; its quality scales differ, so it is held to a rate instead."""
        rate = ("-b:v", str(max_bps * 2 // 3), "-maxrate", str(max_bps), "-bufsize", str(2 * max_bps))
        # without it nvenc and qsv answer a forced keyframe with an I-frame that is no random access point
        forced = {"nvenc": ("-forced-idr", "1"), "qsv": ("-forced_idr", "1")}.get(self.encoder, ())
        return ("-c:v", f"{codec}_{self.encoder}", *rate, *forced)


SOFTWARE = VideoDevice("software")

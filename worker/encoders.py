"""Which video encoder this machine really has: a one-second trial encode for each candidate, at start.

That a build lists an encoder says nothing about the driver or the device; only encoding does.
"""

from collections.abc import Sequence
from pathlib import Path

import structlog

from backend.core.errors import ConfigurationError
from backend.core.settings import Codec, Encoder
from worker.devices import SOFTWARE, VideoDevice
from worker.process import ProcessTimedOut, run
from worker.tools import Tools

log = structlog.get_logger(__name__)

TRIAL_TIMEOUT_SECONDS = 20
HARDWARE: tuple[Encoder, ...] = ("nvenc", "qsv", "vaapi", "videotoolbox")


async def choose_device(
    tools: Tools, wanted: Encoder, codecs: Sequence[Codec], vaapi_device: Path
) -> VideoDevice:
    """Return what to encode on: the wanted one, or for `auto` the first hardware that passes its trial.

    Raises:
        ConfigurationError: an encoder that was named explicitly fails its trial.
    """
    if wanted == "software":
        return SOFTWARE
    for candidate in HARDWARE if wanted == "auto" else (wanted,):
        device = VideoDevice(candidate, vaapi_device)
        failed = [codec for codec in codecs if not await encodes(tools, device, codec)]
        if not failed:
            log.info("encoder_chosen", encoder=candidate)
            return device
        if wanted != "auto":
            raise ConfigurationError(
                f"VIDEO_SERVER_ENCODER: {wanted} cannot encode {', '.join(failed)} here; use auto or software"
            )
    log.info("encoder_chosen", encoder=SOFTWARE.encoder)
    return SOFTWARE


async def encodes(tools: Tools, device: VideoDevice, codec: Codec) -> bool:
    """Say whether a second of video can be encoded there."""
    try:
        done = await run(trial_arguments(tools.ffmpeg, device, codec), timeout_seconds=TRIAL_TIMEOUT_SECONDS)
    except ProcessTimedOut:
        return False
    return done.exit_code == 0


def trial_arguments(ffmpeg: Path, device: VideoDevice, codec: Codec) -> tuple[str, ...]:
    return (
        *(str(ffmpeg), "-hide_banner", "-nostdin", "-v", "error", *device.options),
        # larger than the smallest picture that some drivers refuse
        *("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30:duration=1"),
        *("-vf", device.upload),
        *(*_codec_arguments(device, codec), "-f", "null", "-"),
    )


def _codec_arguments(device: VideoDevice, codec: Codec) -> tuple[str, ...]:
    if device.encoder != "software":
        return device.codec_arguments(codec, 1_000_000)
    return ("-c:v", "libsvtav1", "-preset", "12") if codec == "av1" else ("-c:v", "libx264")

"""The clip in every generated input. Its picture and sound can be recognised in the outputs.

A grey field with a white corner at the top left, a black one at the bottom left and a red one at the bottom
right, as displayed. Any rotation or mirroring moves them.
Once a second the whole field flashes white for a tenth of a second, and a tone sounds for as long.
"""

import subprocess
from pathlib import Path

from tests.worker.media_lab import TOOLS

FLASH_AT, FLASH_SECONDS = 0.4, 0.1
"""A whole number of frames at 10, 25, 30 and 60 frames a second."""
GREY = "0x606060"
LUMA = {"black": 16, "grey": 98, "white": 235}
RED = (63, 102, 240)
"""Y, Cb and Cr of pure red in BT.709, limited range."""


def _flash(slack: float = 0.0) -> str:
    """Return when flash or tone is on. Frame times are rounded and need slack; sample times are exact."""
    return f"between(mod(t\\,1)\\,{FLASH_AT - slack}\\,{FLASH_AT + FLASH_SECONDS - slack})"


def ffmpeg(*arguments: str | Path) -> None:
    command = [str(word) for word in (TOOLS.ffmpeg, "-nostdin", "-v", "error", "-y", *arguments)]
    subprocess.run(command, check=True, timeout=120, stdin=subprocess.DEVNULL)


def film(
    size: str = "320x180",
    rate: str = "25",
    seconds: float = 3,
    turned: str = "",
    colours: str = "bt709:limited",
) -> tuple[str, ...]:
    """Return the picture as an input. `turned` is a filter; `colours` names matrix and range."""
    width, height = (int(side) for side in size.split("x"))
    matrix, amount = colours.split(":")
    corner = f"{width // 4}x{height // 4}"
    graph = [
        f"color={GREY}:s={size}:r={rate}:d={seconds}[field]",
        f"color=white:s={corner}:r={rate}:d={seconds}[white]",
        f"color=black:s={corner}:r={rate}:d={seconds}[black]",
        f"color=red:s={corner}:r={rate}:d={seconds}[red]",
        f"color=white:s={size}:r={rate}:d={seconds}[flash]",
        "[field][white]overlay=0:0:format=gbrp[a]",
        "[a][black]overlay=0:H-h:format=gbrp[b]",
        "[b][red]overlay=W-w:H-h:format=gbrp[c]",
        f"[c][flash]overlay=0:0:format=gbrp:enable='{_flash(slack=0.001)}',{turned + ',' if turned else ''}"
        f"scale=out_color_matrix={matrix}:out_range={amount},format=yuv444p[out0]",
    ]
    return ("-f", "lavfi", "-i", ";".join(graph))


def tone(seconds: float = 3, channels: str = "stereo") -> tuple[str, ...]:
    """Return the tone as an input. If there is a centre channel, only that one sounds."""
    beep = f"0.5*sin(2*PI*1000*t)*{_flash()}"
    places = {"mono": (beep,), "stereo": (beep, beep)}
    surround = (*("0", "0", beep, "0", "0", "0"), *(("0", "0") if channels == "7.1" else ()))
    each = "|".join(places.get(channels, surround))
    return ("-f", "lavfi", "-i", f"aevalsrc={each}:s=48000:c={channels}:d={seconds}")


H264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-crf", "16")
HEVC = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:crf=14", "-tag:v", "hvc1")
AAC = ("-c:a", "aac")
TAGGED_709 = (
    "-color_primaries",
    "bt709",
    "-color_trc",
    "bt709",
    "-colorspace",
    "bt709",
    "-color_range",
    "tv",
)

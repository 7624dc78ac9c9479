"""A fake NVIDIA card: an ffmpeg that encodes in software what nvenc is asked for."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.worker.media_lab import TOOLS
from worker.sandbox.tools import Tools

_FFMPEG = """\
#!{python} -IS
import os, signal, subprocess, sys, time

REAL, CARD, WITHOUT, BREAKS, OBEYS = {real!r}, {card!r}, {without!r}, {breaks!r}, {obeys!r}
FRAMES = {frames!r}
IN_SOFTWARE = {{
    "av1_nvenc": ["libsvtav1", "-preset", "12", "-crf", "40"],
    "h264_nvenc": ["libx264", "-preset", "ultrafast", "-crf", "30"],
}}

def fail(*lines):
    print(*lines, sep="\\n", file=sys.stderr)
    sys.exit(1)

argv, on_card, rated, words = [REAL], None, False, iter(sys.argv[1:])
for word in words:
    if word == "-map":
        rated = False
    if word in WITHOUT:
        fail(f"[vost#0:0 @ 0x55] Unknown encoder '{{word}}'")
    elif word.endswith("_nvenc"):
        if word not in CARD:
            fail(f"[{{word}} @ 0x55] Codec not supported", f"[{{word}} @ 0x55] No capable devices found")
        on_card, rated = word, True
        argv += IN_SOFTWARE[word]
    elif rated and word in {{"-b:v", "-maxrate", "-bufsize", "-forced-idr"}}:
        next(words)
    elif word == "-force_key_frames" and not OBEYS:
        next(words)
    else:
        argv.append(word)
if on_card is None or BREAKS is None or "-progress" not in argv:
    os.execv(REAL, argv)
# as slow as a long video, so that tests can break it midway
argv[argv.index("-i"):0] = ["-readrate", "2"]
encoding = subprocess.Popen(argv, stdout=subprocess.PIPE)
for line in encoding.stdout:
    sys.stdout.buffer.write(line)
    sys.stdout.flush()
    if line.startswith(b"frame=") and int(line[6:]) >= FRAMES:
        encoding.send_signal(signal.SIGSTOP)
        while not os.path.exists(BREAKS):
            time.sleep(0.05)
        encoding.kill()
        encoding.wait()
        fail(f"[{{on_card}} @ 0x55] EncodePicture failed!: generic error (20)")
sys.exit(encoding.wait())
"""


FRAMES = 80
"""More than encoders buffer, so that several seconds are written."""


def tools_with_card(
    directory: Path,
    *card: str,
    without: Sequence[str] = (),
    breaks_when: Path | None = None,
    obeys_keyframes: bool = True,
) -> Tools:
    """Return tools whose ffmpeg has these encoders of nvenc.

    `without` are encoders that it is not built with. With `breaks_when`, the card hangs after some `FRAMES`
    of a job, and fails once there is that file.
    """
    script = directory / "ffmpeg"
    script.write_text(
        _FFMPEG.format(
            python=sys.executable,
            real=str(TOOLS.ffmpeg),
            card=card,
            without=tuple(without),
            frames=FRAMES,
            breaks=None if breaks_when is None else str(breaks_when),
            obeys=obeys_keyframes,
        )
    )
    script.chmod(0o755)
    return Tools(script, TOOLS.ffprobe, TOOLS.packager)

"""What the exit codes of ffmpeg say: the low byte of its error, where it ends by itself."""

import errno
import signal

REFUSED = "encoder_refused"
"""It cannot do what it is to with what it was given."""
OUT_OF_MEMORY = "encoder_out_of_memory"
"""It hit its own memory limit (`worker.sandbox.limits`). If the machine runs out, the kernel kills it."""

KILLED_EXTERNALLY = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP}
"""Ends that neither a file nor an encoder brings about: out of memory for one, or a shutdown."""

_INVALID_DATA = -int.from_bytes(b"INDA", "little")  # AVERROR_INVALIDDATA

FFMPEG_EXIT_CODES = {
    -errno.EINVAL & 0xFF: REFUSED,
    _INVALID_DATA & 0xFF: REFUSED,
    -errno.ENOMEM & 0xFF: OUT_OF_MEMORY,
}

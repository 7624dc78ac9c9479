"""What ffmpeg's exit codes mean. When it exits by itself, the code is the low byte of its error."""

import errno
import signal

REFUSED = "encoder_refused"
"""ffmpeg or its encoder rejected the input or the options."""
OUT_OF_MEMORY = "encoder_out_of_memory"
"""It hit its own memory limit (`worker.sandbox.limits`). When the machine runs out, the kernel kills it."""
MACHINE = "machine_fault"
"""It ran out of something that the machine has too little of."""
ERROR_RATE_EXCEEDED = 69
"""It is done, but could not decode too many frames of a stream (`worker.source.completeness`)."""

KILLED_EXTERNALLY = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP}
"""Signals that neither the file nor the encoder causes: the machine is out of memory or shuts down."""

_INVALID_DATA = -int.from_bytes(b"INDA", "little")  # AVERROR_INVALIDDATA
_LACKING = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EAGAIN)

FFMPEG_EXIT_CODES = {
    -errno.EINVAL & 0xFF: REFUSED,
    _INVALID_DATA & 0xFF: REFUSED,
    -errno.ENOMEM & 0xFF: OUT_OF_MEMORY,
    **{-number & 0xFF: MACHINE for number in _LACKING},
}

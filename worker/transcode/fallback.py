"""What follows when hardware fails in the middle of a job: the same attempt begins anew in software.

It begins in a run of its own, as an attempt does, and its video renditions bear other names. A playback link
names the video, not the run: a viewer of the first run would go on to ask for the next segment of a playlist
that he holds, and would get one that his decoder was not set up for. So he finds nothing, and loads again.
"""

from dataclasses import dataclass
from typing import Self

from backend.core import keys
from backend.core.errors import AttemptFailed
from worker.encode.video_encoders import Encoders
from worker.sandbox.exit_codes import OUT_OF_MEMORY, REFUSED

SUFFIX = "-sw"
"""Of the names of video renditions that were begun anew."""

_OF_THE_ENCODE = frozenset(
    {
        "encoder_failed",
        REFUSED,
        OUT_OF_MEMORY,
        # of what an encoder wrote, or did not write any more
        "packager_failed",
        "outputs_incomplete",
        "outputs_broken",
        "duration_mismatch",
        # hardware that hangs ends neither with success nor with failure
        "stalled",
    }
)
"""Codes of failures that another encoder may be spared."""


@dataclass(frozen=True, slots=True)
class Fallback:
    """How an attempt goes on: with which encoders, in which run, and why."""

    encoders: Encoders
    run: str
    reason: str

    @classmethod
    def after(cls, error: AttemptFailed, encoders: Encoders, run: str) -> Self | None:
        """Return what follows on a failure; None: nothing does, the attempt has failed."""
        if encoders.fallback is None or error.failure_code not in _OF_THE_ENCODE:
            return None
        return cls(encoders.fallback, keys.fallback_run(run), f"{encoders.description}: {error.message}")

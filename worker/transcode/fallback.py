"""What happens when a hardware encoder fails in the middle of a job: the attempt restarts in software.

It restarts in its own run. A viewer of the first run stays in that run, whose playlist is no longer found, so
that the player reloads and never gets a segment that its decoder was not set up for.
"""

from dataclasses import dataclass
from typing import Self

from backend.core import keys
from backend.core.errors import AttemptFailed
from worker.encode.video_encoders import Encoders
from worker.sandbox.exit_codes import OUT_OF_MEMORY, REFUSED
from worker.sandbox.watchdog import STALLED

ENCODE_FAILURE_CODES = frozenset(
    {
        "encoder_failed",
        REFUSED,
        OUT_OF_MEMORY,
        # because of what an encoder wrote, or stopped writing
        "packager_failed",
        "outputs_incomplete",
        "outputs_broken",
        "duration_mismatch",
    }
)
"""Codes of failed attempts whose cause may be the encoder, or a broken source."""


@dataclass(frozen=True, slots=True)
class Fallback:
    """How the attempt continues: with which encoders, in which run, and why."""

    encoders: Encoders
    run: str
    reason: str

    @classmethod
    def after(cls, error: AttemptFailed, encoders: Encoders, run: str) -> Self | None:
        """Return the fallback after this failure. None: there is none, and the attempt has failed."""
        if encoders.fallback is None or error.failure_code not in ENCODE_FAILURE_CODES | {STALLED}:
            return None
        return cls(encoders.fallback, keys.fallback_run(run), f"{encoders.description}: {error.message}")

"""The final status of a video, derived from the record that decided how its job ended.

The worker that ends a job writes exactly this, and so does a process that finishes the job after a crash.
"""

from backend.core import keys
from backend.core.records import DeadLetter, Outputs, Stage, Status


def complete_status(outputs: Outputs) -> Status:
    """Return the status of a video whose result is published."""
    queued = Status.queued(outputs.id, outputs.requested_at, outputs.request, fetched=outputs.fetched)
    return queued.at_stage(
        Stage.COMPLETE,
        outputs.published_at,
        progress=1,
        stage_progress=1,
        estimated_remaining_seconds=0,
        qualities=outputs.qualities,
        renditions=outputs.renditions,
        duration_seconds=outputs.duration_seconds,
        captions=outputs.captions,
        chapters=outputs.chapters,
        playable=not outputs.is_conversion,
        encoder=outputs.encoder,
        encoder_fallback=outputs.encoder_fallback,
        attempt=outputs.attempt,
        outputs=keys.run_prefix(outputs.id, outputs.run),
    )


def failed_status(letter: DeadLetter) -> Status:
    """Return the status of a video whose job has failed for good."""
    job = letter.job
    return Status.of_job(job).at_stage(
        Stage.FAILED, letter.failed_at, error=letter.error, attempt=letter.attempts
    )

"""Tries every video encoder as a worker does at its start, and finds the one it would use."""

from dataclasses import dataclass
from enum import StrEnum

from backend.core.settings import WorkerSettings


class Result(StrEnum):
    CHOSEN = "chosen"
    """A worker with these settings uses it."""
    WORKS = "works"
    FAILS = "fails"


@dataclass(frozen=True, slots=True)
class EncoderRow:
    """The result of one trial. If it failed, `reason` says why and `advice` what to do about it."""

    codec: str
    encoder: str
    result: Result
    seconds: float
    reason: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class EncoderTable:
    """All known encoders. `missing` are codecs that a worker needs but has no encoder for."""

    rows: tuple[EncoderRow, ...]
    missing: tuple[str, ...]


async def try_encoders(settings: WorkerSettings) -> EncoderTable:
    """Raises: ConfigurationError, MachineFault: a tool is missing, or is not what it claims to be."""
    # Imported here because a machine without a worker may lack the worker's dependencies.
    from worker.encode.encoder_trials import codecs_needed, eligible_encoders, run_trial
    from worker.encode.video_encoders import CODECS, candidates
    from worker.sandbox.tools import find_tools, version_of

    tools, node, renditions = find_tools(settings), settings.video_vaapi_device, settings.rendition_codecs
    for name in ("ffmpeg", "ffprobe", "packager"):
        await version_of(name, getattr(tools, name))
    needed = codecs_needed(renditions)
    rows, missing = [], []
    for codec in CODECS:
        allowed = (
            eligible_encoders(settings.video_server_encoder, codec, renditions, node)
            if codec in needed
            else ()
        )
        # One at a time: a GPU that is busy with one trial may reject another.
        trials = [await run_trial(tools, encoder) for encoder in candidates(codec, node)]
        working = {trial.encoder for trial in trials if trial.failure is None}
        chosen = next((encoder for encoder in allowed if encoder in working), None)
        if codec in needed and chosen is None:
            missing.append(codec)
        for trial in trials:
            encoder, failure = trial.encoder, trial.failure
            if failure is not None:
                row = EncoderRow(
                    codec, encoder.name, Result.FAILS, trial.seconds, failure.reason, failure.advice
                )
            else:
                result = Result.CHOSEN if encoder == chosen else Result.WORKS
                row = EncoderRow(codec, encoder.name, result, trial.seconds)
            rows.append(row)
    return EncoderTable(tuple(rows), tuple(missing))

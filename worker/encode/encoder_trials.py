"""Finds which video encoders work on this machine, by a trial encode of each candidate at startup.

That a build lists an encoder says nothing about the driver or the device. And an encoder that works may
still place keyframes elsewhere, while the ladder needs them exactly where it requests them.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from backend.core.concurrency import gather_or_cancel
from backend.core.errors import ConfigurationError, MachineFault
from backend.core.records import Codec
from backend.core.settings import Encoder
from worker.encode.video_encoders import Encoders, VideoEncoder, candidates, keyframe_arguments
from worker.sandbox.limits import encoding_limits
from worker.sandbox.process import CompletedProcess, ProcessTimedOut, run
from worker.sandbox.tools import Tools

log = structlog.get_logger(__name__)

WEBM_CODEC: Codec = "av1"
"""The WebM is AV1 whatever RENDITION_CODECS says."""
TRIAL_TIMEOUT_SECONDS = 30
MAX_KILLED_TRIALS = 3
"""Trials of one encoder that are repeated after being killed; after more, the cause is permanent."""
TRIAL_FRAMES = 30
TRIAL_FPS = 30
TRIAL_SEGMENT_SECONDS = 0.4
TRIAL_KEYFRAMES = (0, 12, 24)
"""The first frames of segments of that length."""
TRIAL_PRESETS: dict[Codec, int] = {"av1": 10, "h264": 2}
TRIAL_CRF = 35
TRIAL_BPS = 1_000_000


@dataclass(frozen=True, slots=True)
class TrialFailure:
    """Why an encoder does not work here, and what to do about it."""

    reason: str
    advice: str


@dataclass(frozen=True, slots=True)
class Trial:
    encoder: VideoEncoder
    seconds: float
    failure: TrialFailure | None = None


@dataclass(frozen=True, slots=True)
class _ErrorPattern:
    """An error message of ffmpeg, and what it means."""

    pattern: str
    reason: str
    advice: str


def codecs_needed(rendition_codecs: Sequence[Codec]) -> tuple[Codec, ...]:
    return tuple(dict.fromkeys((*rendition_codecs, WEBM_CODEC)))


async def choose_encoders(
    tools: Tools, requested: Encoder, rendition_codecs: Sequence[Codec], render_node: Path
) -> Encoders:
    """Return, for each codec, the first encoder that passes its trial.

    Raises:
        ConfigurationError: no encoder for a codec works, or the one that VIDEO_SERVER_ENCODER names does not.
    """
    codecs = codecs_needed(rendition_codecs)
    chosen = await gather_or_cancel(
        _first_working(tools, codec, eligible_encoders(requested, codec, rendition_codecs, render_node))
        for codec in codecs
    )
    encoders = Encoders(tuple(chosen))
    if encoders.use_hardware:
        encoders = Encoders(encoders.chosen, await _in_software(tools, codecs, render_node))
    log.info(
        "encoders_chosen",
        encoders=[encoder.name for encoder in encoders.chosen],
        fallback=encoders.fallback is not None,
    )
    return encoders


def eligible_encoders(
    requested: Encoder, codec: Codec, rendition_codecs: Sequence[Codec], render_node: Path
) -> tuple[VideoEncoder, ...]:
    """Return the candidates that VIDEO_SERVER_ENCODER allows, in order of preference."""
    all_candidates = candidates(codec, render_node)
    if requested == "auto":
        return all_candidates
    matching = tuple(encoder for encoder in all_candidates if encoder.family == requested)
    # the setting is for the ladder: an extra WebM encode may use software
    return (
        matching
        if codec in rendition_codecs
        else (*matching, *(encoder for encoder in all_candidates if not encoder.is_hardware))
    )


async def run_trial(tools: Tools, encoder: VideoEncoder) -> Trial:
    """Encode a second of video and check where its keyframes are."""
    started = time.monotonic()
    try:
        done = await _encode(tools, encoder)
    except ProcessTimedOut:
        failure: TrialFailure | None = TrialFailure(
            f"not finished after {TRIAL_TIMEOUT_SECONDS} s", "Its driver hangs."
        )
    except OSError as error:
        failure = TrialFailure(f"{tools.ffmpeg} does not run: {error}", "Set FFMPEG to a working binary.")
    except MachineFault:
        failure = TrialFailure("ffmpeg is killed every time", "Is there enough memory?")
    else:
        if done.exit_code:
            failure = explain(encoder, done.stderr, done.exit_code)
        else:
            failure = _misplaced_keyframes(done.stdout.decode(errors="replace"))
    return Trial(encoder, time.monotonic() - started, failure)


async def _encode(tools: Tools, encoder: VideoEncoder) -> CompletedProcess:
    """Run a trial, and repeat it if it is killed: a lack of memory, for example, is not the encoder's fault.

    Raises:
        ProcessTimedOut: it does not finish.
        MachineFault: it is killed every time.
    """
    killed = 0
    while True:
        try:
            return await run(
                trial_arguments(tools.ffmpeg, encoder),
                timeout_seconds=TRIAL_TIMEOUT_SECONDS,
                # as in a job: a driver may keep files in memory
                limits=encoding_limits(TRIAL_FRAMES / TRIAL_FPS),
            )
        except MachineFault:
            killed += 1
            log.warning("trial_killed", encoder=encoder.name, times=killed)
            if killed > MAX_KILLED_TRIALS:
                raise


def trial_arguments(ffmpeg: Path, encoder: VideoEncoder) -> tuple[str, ...]:
    # larger than what some drivers reject as too small
    picture = f"testsrc2=size=640x360:rate={TRIAL_FPS}:duration={TRIAL_FRAMES / TRIAL_FPS:g}"
    return (
        *(str(ffmpeg), "-hide_banner", "-nostdin", "-v", "error", *encoder.options),
        *("-f", "lavfi", "-i", picture),
        *("-vf", ",".join(filter(None, ("format=yuv420p", encoder.upload)))),
        *keyframe_arguments(TRIAL_SEGMENT_SECONDS),
        *encoder.arguments(crf=TRIAL_CRF, preset=TRIAL_PRESETS[encoder.codec], max_bps=TRIAL_BPS),
        # as for MP4; framecrc prints the timestamp and flags of each packet
        *("-flags", "+cgop+global_header", "-f", "framecrc", "-"),
    )


def explain(encoder: VideoEncoder, stderr: str, exit_code: int) -> TrialFailure:
    """Turn ffmpeg's error output into a reason and advice, one line each."""
    for sign in _ERROR_PATTERNS:
        if re.search(sign.pattern, stderr):
            return TrialFailure(sign.reason.format(encoder=encoder), sign.advice)
    first = next((line for line in stderr.splitlines() if line.strip()), None)
    if first is None:
        return TrialFailure(f"ffmpeg ended with {exit_code}", "Check that FFMPEG works.")
    return TrialFailure(re.sub(r"^(\[[^\]]*\] *)+", "", first)[:200], "Look up this ffmpeg message.")


async def _first_working(tools: Tools, codec: Codec, encoders: Sequence[VideoEncoder]) -> VideoEncoder:
    """Raises: ConfigurationError: none works."""
    trials = []
    for encoder in encoders:
        trial = await run_trial(tools, encoder)
        if trial.failure is None:
            return encoder
        trials.append(trial)
    raise ConfigurationError(_none_works(codec, trials))


def _none_works(codec: Codec, trials: Sequence[Trial]) -> str:
    tried = "; ".join(f"{trial.encoder.name}: {trial.failure.reason}" for trial in trials if trial.failure)
    return (
        f"no encoder for {codec} works here ({tried}). Run `vodbucket encoders` to see which do, "
        f"and choose with VIDEO_SERVER_ENCODER and RENDITION_CODECS"
    )


async def _in_software(tools: Tools, codecs: Sequence[Codec], render_node: Path) -> Encoders | None:
    """Return the fallback for hardware that fails in the middle of a job. None: there is none."""
    try:
        chosen = await gather_or_cancel(
            _first_working(tools, codec, eligible_encoders("software", codec, codecs, render_node))
            for codec in codecs
        )
    except ConfigurationError as error:
        log.warning("no_fallback", error=error.message)
        return None
    return Encoders(tuple(chosen))


def _misplaced_keyframes(framecrc: str) -> TrialFailure | None:
    found = _keyframes(framecrc)
    if found == TRIAL_KEYFRAMES:
        return None
    requested = ", ".join(map(str, TRIAL_KEYFRAMES))
    actual = ", ".join(map(str, found)) or "none"
    return TrialFailure(
        f"keyframes requested at frames {requested}, but placed at: {actual}",
        "Segments cannot be cut there: update the driver.",
    )


def _keyframes(framecrc: str) -> tuple[int, ...]:
    """Return the timestamps of the keyframe packets, in frames.

    A line is `stream, dts, pts, duration, size, crc`, then `F=0x<flags>` unless its only flag is keyframe.
    """
    instants = []
    for line in framecrc.splitlines():
        if line.startswith("#"):
            continue
        fields = [field.strip() for field in line.split(",")]
        flags = next((field[2:] for field in fields[6:] if field.startswith("F=")), hex(_KEY))
        if int(flags, 16) & _KEY:
            instants.append(int(fields[2]))
    return tuple(sorted(instants))


_KEY = 1
_NOTHING_TO_DO = "Nothing to do: another encoder is used."
_ERROR_PATTERNS = (
    _ErrorPattern(
        "Unknown encoder '.*_videotoolbox'", "this ffmpeg is not built for macOS", "Only Macs have it."
    ),
    _ErrorPattern(
        "Unknown encoder",
        "this ffmpeg is built without {encoder.name}",
        "If you want it, set FFMPEG to a build that has it.",
    ),
    _ErrorPattern(
        "Cannot load libcuda",
        "there is no NVIDIA driver",
        "If you have an NVIDIA GPU, install its driver; in a container, add --gpus.",
    ),
    _ErrorPattern(
        "Cannot load libnvidia-encode",
        "the NVIDIA driver lacks its encoder library",
        "In a container, add `video` to NVIDIA_DRIVER_CAPABILITIES.",
    ),
    _ErrorPattern(
        "required nvenc API version",
        "the NVIDIA driver is too old for this ffmpeg",
        "Update the driver, or set FFMPEG to an older build.",
    ),
    _ErrorPattern(
        "OpenEncodeSessionEx failed: out of memory",
        "the GPU has no free encode session",
        "Run fewer jobs on it at a time.",
    ),
    _ErrorPattern(
        "Codec not supported|No capable devices|unsupported device|No usable encoding (profile|entrypoint)",
        "the GPU does not encode {encoder.codec}",
        _NOTHING_TO_DO,
    ),
    _ErrorPattern(
        "No VA display found",
        "{encoder.render_node} cannot be opened",
        "Check that VIDEO_VAAPI_DEVICE is the GPU's and that the worker may open it.",
    ),
    _ErrorPattern(
        "Failed to initialise VAAPI",
        "{encoder.render_node} has no VA-API driver",
        "Install mesa-va-drivers or intel-media-va-driver.",
    ),
    _ErrorPattern(
        "MFX session",
        "{encoder.render_node} has no Quick Sync",
        "If this machine has an Intel GPU, install its runtime (libmfx-gen1.2).",
    ),
)

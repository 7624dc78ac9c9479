"""Which video encoders this machine really has: a trial encode of each candidate, at start.

That a build lists an encoder says nothing about the driver or the device; only encoding does. And one that
encodes may still put its keyframes where it likes: the ladder relies on them coming where they are asked for.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from backend.core.errors import ConfigurationError
from backend.core.settings import Codec, Encoder
from worker.encode.video_encoders import Encoders, VideoEncoder, candidates, keyframe_arguments
from worker.sandbox.exit_codes import KILLED_EXTERNALLY
from worker.sandbox.limits import encoding_limits
from worker.sandbox.process import CompletedProcess, ProcessTimedOut, run
from worker.sandbox.tools import Tools

log = structlog.get_logger(__name__)

WEBM_CODEC: Codec = "av1"
"""The WebM is AV1 whatever RENDITION_CODECS says."""
TRIAL_TIMEOUT_SECONDS = 30
MAX_KILLED_TRIALS = 3
"""Of one encoder, that are made again; whatever kills more is there to stay."""
TRIAL_FRAMES = 30
TRIAL_FPS = 30
TRIAL_SEGMENT_SECONDS = 0.4
TRIAL_KEYFRAMES = (0, 12, 24)
"""The frames at which segments of that length begin."""
TRIAL_PRESETS: dict[Codec, int] = {"av1": 10, "h264": 2}
TRIAL_CRF = 35
TRIAL_BPS = 1_000_000


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an encoder is of no use here, and what to do about it."""

    reason: str
    advice: str


@dataclass(frozen=True, slots=True)
class Trial:
    encoder: VideoEncoder
    seconds: float
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class _ErrorPattern:
    """What ffmpeg writes when an encoder fails, and what that means."""

    pattern: str
    reason: str
    advice: str


def codecs_needed(rendition_codecs: Sequence[Codec]) -> tuple[Codec, ...]:
    return tuple(dict.fromkeys((*rendition_codecs, WEBM_CODEC)))


async def choose_encoders(
    tools: Tools, wanted: Encoder, rendition_codecs: Sequence[Codec], render_node: Path
) -> Encoders:
    """Return what to encode with: for each codec by itself the first that passes its trial.

    Raises:
        ConfigurationError: no encoder of a codec works, or not the one that was named for RENDITION_CODECS.
    """
    codecs = codecs_needed(rendition_codecs)
    chosen = await asyncio.gather(
        *(
            _first_working(tools, codec, eligible_encoders(wanted, codec, rendition_codecs, render_node))
            for codec in codecs
        )
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
    wanted: Encoder, codec: Codec, rendition_codecs: Sequence[Codec], render_node: Path
) -> tuple[VideoEncoder, ...]:
    """Return the candidates that the setting VIDEO_SERVER_ENCODER leaves, the one to prefer first."""
    every = candidates(codec, render_node)
    if wanted == "auto":
        return every
    named = tuple(encoder for encoder in every if encoder.family == wanted)
    # the name is about the ladder: a WebM besides it is better made in software than not at all
    return named if codec in rendition_codecs else (*named, *(one for one in every if not one.is_hardware))


async def run_trial(tools: Tools, encoder: VideoEncoder) -> Trial:
    """Encode a second of video, and look where its keyframes are."""
    started = time.monotonic()
    try:
        done = await _encode(tools, encoder)
    except ProcessTimedOut:
        failure: Failure | None = Failure(f"no end after {TRIAL_TIMEOUT_SECONDS} s", "Its driver hangs.")
    except OSError as error:
        failure = Failure(f"{tools.ffmpeg} does not run: {error}", "Set FFMPEG to a working binary.")
    else:
        if done.exit_code:
            failure = explain(encoder, done.stderr, done.exit_code)
        else:
            failure = _misplaced_keyframes(done.stdout.decode(errors="replace"))
    return Trial(encoder, time.monotonic() - started, failure)


async def _encode(tools: Tools, encoder: VideoEncoder) -> CompletedProcess:
    """Run a trial to an end of its own: one that is killed, for want of memory say, tells nothing.

    Raises:
        ProcessTimedOut: it has none.
    """
    for killed in range(MAX_KILLED_TRIALS + 1):
        done = await run(
            trial_arguments(tools.ffmpeg, encoder),
            timeout_seconds=TRIAL_TIMEOUT_SECONDS,
            # as in a job: a driver may keep files in memory
            limits=encoding_limits(TRIAL_FRAMES / TRIAL_FPS),
        )
        if done.exit_code not in KILLED_EXTERNALLY:
            break
        log.warning("trial_killed", encoder=encoder.name, times=killed + 1)
    return done


def trial_arguments(ffmpeg: Path, encoder: VideoEncoder) -> tuple[str, ...]:
    # larger than the smallest picture that some drivers refuse
    picture = f"testsrc2=size=640x360:rate={TRIAL_FPS}:duration={TRIAL_FRAMES / TRIAL_FPS:g}"
    return (
        *(str(ffmpeg), "-hide_banner", "-nostdin", "-v", "error", *encoder.options),
        *("-f", "lavfi", "-i", picture),
        *("-vf", ",".join(filter(None, ("format=yuv420p", encoder.upload)))),
        *keyframe_arguments(TRIAL_SEGMENT_SECONDS),
        *encoder.arguments(crf=TRIAL_CRF, preset=TRIAL_PRESETS[encoder.codec], max_bps=TRIAL_BPS),
        # what MP4 asks for; framecrc prints each packet's time and flags
        *("-flags", "+cgop+global_header", "-f", "framecrc", "-"),
    )


def explain(encoder: VideoEncoder, stderr: str, exit_code: int) -> Failure:
    """Turn what ffmpeg wrote into one line, and one of advice."""
    for sign in _ERROR_PATTERNS:
        if re.search(sign.pattern, stderr):
            return Failure(sign.reason.format(encoder=encoder), sign.advice)
    if exit_code in KILLED_EXTERNALLY:
        return Failure("ffmpeg is killed every time", "Is there too little memory?")
    first = next((line for line in stderr.splitlines() if line.strip()), None)
    if first is None:
        return Failure(f"ffmpeg ended with {exit_code}", "Look whether FFMPEG works.")
    return Failure(re.sub(r"^(\[[^\]]*\] *)+", "", first)[:200], "Look up this message of ffmpeg.")


async def _first_working(tools: Tools, codec: Codec, among: Sequence[VideoEncoder]) -> VideoEncoder:
    """Raises: ConfigurationError: none works."""
    trials = []
    for encoder in among:
        trial = await run_trial(tools, encoder)
        if trial.failure is None:
            return encoder
        trials.append(trial)
    raise ConfigurationError(_none_works(codec, trials))


def _none_works(codec: Codec, trials: Sequence[Trial]) -> str:
    tried = "; ".join(f"{trial.encoder.name}: {trial.failure.reason}" for trial in trials if trial.failure)
    return (
        f"no encoder for {codec} works here ({tried}); `vodbucket encoders` shows what does, "
        f"VIDEO_SERVER_ENCODER and RENDITION_CODECS choose"
    )


async def _in_software(tools: Tools, codecs: Sequence[Codec], render_node: Path) -> Encoders | None:
    """Return what takes the place of hardware that fails in the middle of a job, None where nothing can."""
    try:
        chosen = await asyncio.gather(
            *(
                _first_working(tools, codec, eligible_encoders("software", codec, codecs, render_node))
                for codec in codecs
            )
        )
    except ConfigurationError as error:
        log.warning("no_fallback", error=error.message)
        return None
    return Encoders(tuple(chosen))


def _misplaced_keyframes(framecrc: str) -> Failure | None:
    found = _keyframes(framecrc)
    if found == TRIAL_KEYFRAMES:
        return None
    asked = ", ".join(map(str, TRIAL_KEYFRAMES))
    came = ", ".join(map(str, found)) or "none"
    return Failure(
        f"keyframes asked for at frames {asked}; came: {came}",
        "Segments cannot be cut so: update the driver.",
    )


def _keyframes(framecrc: str) -> tuple[int, ...]:
    """Return the times of the packets that are keyframes, in frames.

    A line is `stream, dts, pts, duration, size, crc`, then `F=0x<flags>` unless it is a keyframe and no more.
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
_NOTHING_TO_DO = "Nothing to do: another encoder takes its place."
_ERROR_PATTERNS = (
    _ErrorPattern(
        "Unknown encoder '.*_videotoolbox'", "this ffmpeg is not built for macOS", "Only Macs have it."
    ),
    _ErrorPattern(
        "Unknown encoder",
        "this ffmpeg is built without {encoder.name}",
        "Set FFMPEG to a build that has it, if it is wanted.",
    ),
    _ErrorPattern(
        "Cannot load libcuda",
        "there is no NVIDIA driver",
        "Install it, if there is such a GPU; hand that to a container (--gpus).",
    ),
    _ErrorPattern(
        "Cannot load libnvidia-encode",
        "the NVIDIA driver lacks its encoder library",
        "In a container: add `video` to NVIDIA_DRIVER_CAPABILITIES.",
    ),
    _ErrorPattern(
        "required nvenc API version",
        "the NVIDIA driver is too old for this ffmpeg",
        "Update the driver, or set FFMPEG to an older build.",
    ),
    _ErrorPattern(
        "OpenEncodeSessionEx failed: out of memory",
        "the GPU has no encode session left",
        "Let fewer jobs run on it at a time.",
    ),
    _ErrorPattern(
        "Codec not supported|No capable devices|unsupported device|No usable encoding (profile|entrypoint)",
        "the GPU does not encode {encoder.codec}",
        _NOTHING_TO_DO,
    ),
    _ErrorPattern(
        "No VA display found",
        "{encoder.render_node} cannot be opened",
        "Is it the GPU's (VIDEO_VAAPI_DEVICE), and may the worker read it?",
    ),
    _ErrorPattern(
        "Failed to initialise VAAPI",
        "{encoder.render_node} has no VA-API driver",
        "Install mesa-va-drivers or intel-media-va-driver.",
    ),
    _ErrorPattern(
        "MFX session",
        "there is no Quick Sync on {encoder.render_node}",
        "Install Intel's runtime (libmfx-gen1.2), if there is such a GPU.",
    ),
)

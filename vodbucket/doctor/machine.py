"""Checks of what a worker needs on this machine: tools, encoders, disk space."""

import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from backend.core.errors import ConfigurationError
from backend.core.settings import Codec, WorkerSettings
from backend.core.store.probes import Check, Verdict
from worker.encode.encoder_trials import run_trial
from worker.encode.video_encoders import candidates
from worker.sandbox.process import ProcessTimedOut, run
from worker.sandbox.tools import Tools, find_tools

VERSION_SECONDS = 20.0
LOW_SPACE_BYTES = 1024**3
NO_SPACE_BYTES = 64 * 1024**2

_TOOLS_ADVICE = (
    "Install the worker's dependencies (`pip install 'vodbucket[worker]'`), "
    "or set FFMPEG, FFPROBE and PACKAGER to working binaries."
)


async def check_machine(settings: WorkerSettings) -> AsyncIterator[Check]:
    try:
        tools = find_tools(settings)
    except ConfigurationError as error:
        yield Check("tools", Verdict.FAIL, error.message, _TOOLS_ADVICE)
    else:
        yield await _version("ffmpeg", tools.ffmpeg, "-version")
        yield await _version("ffprobe", tools.ffprobe, "-version")
        yield await _version("packager", tools.packager, "--version")
        for codec in settings.rendition_codecs:
            yield await _software(tools, codec, settings)
        yield await _hardware(tools, settings)
    yield _disk_space(settings.work_dir or Path(tempfile.gettempdir()))


async def _version(name: str, path: Path, argument: str) -> Check:
    try:
        done = await run([path, argument], timeout_seconds=VERSION_SECONDS)
    except (ProcessTimedOut, OSError) as error:
        return Check(name, Verdict.FAIL, f"{path} does not run: {error}", _TOOLS_ADVICE)
    found = re.search(r"version \S+", done.stdout.decode(errors="replace"))
    if done.exit_code or found is None:
        return Check(name, Verdict.FAIL, f"{path} exited with status {done.exit_code}", _TOOLS_ADVICE)
    return Check(name, Verdict.OK, found[0])


async def _software(tools: Tools, codec: Codec, settings: WorkerSettings) -> Check:
    name = f"{codec} encoder"
    for encoder in candidates(codec, settings.video_vaapi_device):
        if not encoder.is_hardware and (await run_trial(tools, encoder)).failure is None:
            return Check(name, Verdict.OK, "one second of video was encoded in software")
    advice = "Use an ffmpeg with libsvtav1 and libx264, or leave the codec out of RENDITION_CODECS."
    return Check(name, Verdict.FAIL, "one second of video could not be encoded in software", advice)


async def _hardware(tools: Tools, settings: WorkerSettings) -> Check:
    """Report hardware encoders. Having none only fails if the settings ask for one by name."""
    name = "hardware encoders"
    working: dict[Codec, list[str]] = {}
    for codec in settings.rendition_codecs:
        hardware = [one for one in candidates(codec, settings.video_vaapi_device) if one.is_hardware]
        working[codec] = [one.family for one in hardware if (await run_trial(tools, one)).failure is None]
    found = "; ".join(f"{codec}: {', '.join(families) or 'none'}" for codec, families in working.items())
    wanted = settings.video_server_encoder
    missing = [codec for codec, families in working.items() if wanted not in families]
    if wanted not in {"auto", "software"} and missing:
        advice = "Set VIDEO_SERVER_ENCODER to auto or software. `vodbucket encoders` shows what is wrong."
        return Check(name, Verdict.FAIL, f"{wanted} cannot encode {' and '.join(missing)} here", advice)
    return Check(name, Verdict.INFO, found)


def _disk_space(work_dir: Path) -> Check:
    name = "WORK_DIR"
    try:
        with tempfile.TemporaryFile(dir=work_dir) as scratch:
            scratch.write(b"x")
        free_bytes = shutil.disk_usage(work_dir).free
    except OSError as error:
        measured = f"cannot write to {work_dir} ({error.strerror})"
        return Check(
            name, Verdict.FAIL, measured, "Set WORK_DIR to a directory that the worker can write to."
        )
    measured = f"{work_dir}: {free_bytes / 1024**3:.1f} GiB free"
    advice = "Free up disk space: each job keeps its images and captions there, some dozen MB."
    if free_bytes < NO_SPACE_BYTES:
        return Check(name, Verdict.FAIL, measured, advice)
    if free_bytes < LOW_SPACE_BYTES:
        return Check(name, Verdict.WARN, measured, advice)
    return Check(name, Verdict.OK, measured)

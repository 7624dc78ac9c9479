"""Checks of what a worker needs on this machine: tools, encoders, disk space."""

import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from backend.core.errors import ConfigurationError, MachineFault
from backend.core.records import Codec
from backend.core.settings import WorkerSettings
from backend.core.store.probes import Check, Verdict
from worker.encode.encoder_trials import run_trial
from worker.encode.video_encoders import candidates
from worker.fetch.aria2_fetcher import find_aria2c
from worker.sandbox.machine import check_resources, check_work_dir
from worker.sandbox.process import ProcessTimedOut, run
from worker.sandbox.tools import VERSION_SECONDS, Tools, find_tools, version_of

LOW_SPACE_BYTES = 1024**3
YTDLP_DAYS = 60
"""Sites change, and yt-dlp follows about once a month."""

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
        for name in ("ffmpeg", "ffprobe", "packager"):
            yield await _version(name, getattr(tools, name))
        for codec in settings.rendition_codecs:
            yield await _software(tools, codec, settings)
        yield await _hardware(tools, settings)
    yield await _aria2()
    yield check_ytdlp(datetime.now(UTC).date())
    yield _resources()
    yield _disk_space(settings.work_dir or Path(tempfile.gettempdir()))


async def _version(name: str, path: Path) -> Check:
    try:
        return Check(name, Verdict.OK, await version_of(name, path))
    except MachineFault as error:
        return Check(name, Verdict.FAIL, error.message, _TOOLS_ADVICE)


async def _aria2() -> Check:
    """Report aria2c, which only torrents need."""
    name, program = "aria2", find_aria2c()
    if program is None:
        return Check(name, Verdict.INFO, "not installed, so this worker fetches no torrents")
    try:
        done = await run([program, "--version"], timeout_seconds=VERSION_SECONDS)
    except (ProcessTimedOut, OSError, MachineFault) as error:
        return Check(name, Verdict.WARN, f"{program} does not run: {error}", "Install aria2 again.")
    return Check(name, Verdict.INFO, done.stdout.decode(errors="replace").partition("\n")[0])


def check_ytdlp(today: date) -> Check:
    """Report the version of yt-dlp, which is the date of its release."""
    name, advice = "yt-dlp", "Run `pip install -U yt-dlp` where the worker is installed."
    try:
        installed = version(name)
    except PackageNotFoundError:
        return Check(name, Verdict.WARN, "not installed, so nothing is fetched from web pages", advice)
    try:
        released = date(*map(int, installed.split(".")[:3]))
    except (ValueError, TypeError):
        return Check(name, Verdict.INFO, f"version {installed}, of unknown age")
    days = (today - released).days
    if days > YTDLP_DAYS:
        return Check(name, Verdict.WARN, f"version {installed} is {days} days old", advice)
    return Check(name, Verdict.OK, f"version {installed}")


def _resources() -> Check:
    name = "memory and descriptors"
    try:
        check_resources()
    except MachineFault as error:
        return Check(name, Verdict.FAIL, error.message, "Raise the limits of the worker, or free up memory.")
    return Check(name, Verdict.OK, "enough for a job")


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
    advice = (
        "Free up disk space, or set WORK_DIR to a directory that the worker can write to: "
        "each job keeps its images and captions there, some dozen MB."
    )
    try:
        free_bytes = check_work_dir(work_dir)
    except MachineFault as error:
        return Check(name, Verdict.FAIL, error.message.removeprefix("WORK_DIR: "), advice)
    measured = f"{work_dir}: {free_bytes / 1e9:.1f} GB free"
    if free_bytes < LOW_SPACE_BYTES:
        return Check(name, Verdict.WARN, measured, advice)
    return Check(name, Verdict.OK, measured)

"""What a worker needs of the machine it runs on: tools, encoders, room to work."""

import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from backend.core.conformance import Check, Verdict
from backend.core.errors import ConfigurationError
from backend.core.settings import Codec, WorkerSettings
from worker.devices import SOFTWARE, VideoDevice
from worker.encoders import HARDWARE, encodes
from worker.process import ProcessTimedOut, run
from worker.tools import Tools, find_tools

VERSION_SECONDS = 20.0
LITTLE_ROOM_BYTES = 10 * 1024**3
NO_ROOM_BYTES = 1024**3

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
            yield await _software(tools, codec)
        yield await _hardware(tools, settings)
    yield _room(settings.work_dir or Path(tempfile.gettempdir()))


async def _version(name: str, path: Path, argument: str) -> Check:
    try:
        done = await run([path, argument], timeout_seconds=VERSION_SECONDS)
    except (ProcessTimedOut, OSError) as error:
        return Check(name, Verdict.FAIL, f"{path} does not run: {error}", _TOOLS_ADVICE)
    found = re.search(r"version \S+", done.stdout.decode(errors="replace"))
    if done.exit_code or found is None:
        return Check(name, Verdict.FAIL, f"{path} ended with status {done.exit_code}", _TOOLS_ADVICE)
    return Check(name, Verdict.OK, found[0])


async def _software(tools: Tools, codec: Codec) -> Check:
    name = f"{codec} encoder"
    if await encodes(tools, SOFTWARE, codec):
        return Check(name, Verdict.OK, "a second of video was encoded in software")
    advice = "Use an ffmpeg with libsvtav1 and libx264, or leave the codec out of RENDITION_CODECS."
    return Check(name, Verdict.FAIL, "a second of video could not be encoded in software", advice)


async def _hardware(tools: Tools, settings: WorkerSettings) -> Check:
    """No hardware is no fault, unless the settings ask for it by name."""
    name = "hardware encoders"
    wanted = settings.video_server_encoder
    working = []
    for candidate in HARDWARE:
        device = VideoDevice(candidate, settings.video_vaapi_device)
        if all([await encodes(tools, device, codec) for codec in settings.rendition_codecs]):
            working.append(candidate)
    found = ", ".join(working) or "none"
    codecs = " and ".join(settings.rendition_codecs)
    if wanted in HARDWARE and wanted not in working:
        advice = "Set VIDEO_SERVER_ENCODER to auto or software, or mend the driver."
        return Check(name, Verdict.FAIL, f"{wanted} cannot encode {codecs} here; works: {found}", advice)
    return Check(name, Verdict.INFO, f"{found} for {codecs}")


def _room(work_dir: Path) -> Check:
    name = "WORK_DIR"
    try:
        with tempfile.TemporaryFile(dir=work_dir) as scratch:
            scratch.write(b"x")
        free_bytes = shutil.disk_usage(work_dir).free
    except OSError as error:
        measured = f"{work_dir} cannot be written ({error.strerror})"
        return Check(name, Verdict.FAIL, measured, "Set WORK_DIR to a directory that the worker may write.")
    measured = f"{work_dir}: {free_bytes / 1024**3:.1f} GiB free"
    advice = "The WebM of each job is put together there: make room for the largest video, times the jobs."
    if free_bytes < NO_ROOM_BYTES:
        return Check(name, Verdict.FAIL, measured, advice)
    if free_bytes < LITTLE_ROOM_BYTES:
        return Check(name, Verdict.WARN, measured, advice)
    return Check(name, Verdict.OK, measured)

"""A worker notices that its machine cannot do jobs, names the cause, and recovers when it is mended."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from backend.core.backoff import Backoff
from backend.core.errors import (
    AttemptFailed,
    ConfigurationError,
    MachineFault,
    SourceRejected,
    StoreUnavailable,
)
from tests.worker.media_lab import TOOLS
from worker.encode.video_encoders import SOFTWARE, Encoders
from worker.run import machine as machine_module
from worker.run.machine import Machine, fit_machine
from worker.sandbox.background_errors import BackgroundErrors
from worker.sandbox.exit_codes import FFMPEG_EXIT_CODES
from worker.sandbox.machine import fault_in
from worker.sandbox.tools import Tools

ROOT = Path(__file__).parents[3]
TOOL_NAMES = ("ffmpeg", "ffprobe", "packager")


def _missing(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def _a_file(path: Path) -> None:
    _missing(path)
    path.write_text("")


def _dangling(path: Path) -> None:
    _missing(path)
    path.symlink_to(path.with_name("nowhere"))


@pytest.mark.parametrize("breaks", [_missing, _a_file, _dangling])
async def test_broken_work_dir_is_named_until_it_is_mended(
    tmp_path: Path, breaks: Callable[[Path], None]
) -> None:
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    machine = Machine(TOOLS, work_dir, SOFTWARE)
    await machine.check_before_claim()
    breaks(work_dir)

    with pytest.raises(MachineFault, match=rf"WORK_DIR: cannot write to {work_dir}: "):
        await machine.check_before_claim()

    if work_dir.is_symlink() or work_dir.exists():
        work_dir.unlink()
    work_dir.mkdir()
    await machine.check_before_claim()
    assert list(work_dir.iterdir()) == []


def _script(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", TOOL_NAMES)
async def test_missing_tool_is_named_until_it_is_back(tmp_path: Path, name: str) -> None:
    tool = tmp_path / name
    tool.symlink_to(getattr(TOOLS, name))
    machine = Machine(replace(TOOLS, **{name: tool}), tmp_path, SOFTWARE)
    await machine.check_before_claim()
    tool.unlink()

    with pytest.raises(MachineFault, match=f"{name.upper()}: there is no file {tool}"):
        await machine.check_before_claim()

    tool.write_text("")
    with pytest.raises(MachineFault, match=f"{name.upper()}: {tool} cannot be executed"):
        await machine.check_before_claim()
    tool.unlink()
    tool.symlink_to(getattr(TOOLS, name))
    await machine.check_before_claim()


@pytest.mark.parametrize("name", TOOL_NAMES)
@pytest.mark.parametrize("impostor", ["/bin/true", "/bin/false", "/bin/sleep", "other tool"])
async def test_impostor_is_blamed_for_a_failed_attempt(tmp_path: Path, name: str, impostor: str) -> None:
    other = TOOLS.ffprobe if name == "ffmpeg" else TOOLS.ffmpeg
    path = other if impostor == "other tool" else Path(impostor)
    machine = Machine(replace(TOOLS, **{name: path}), tmp_path, SOFTWARE)

    with pytest.raises(MachineFault, match=f"{name.upper()}: {path} is not {name}. It exited with status "):
        await machine.examine(SourceRejected("This isn't a video or audio file.", code="not_a_video"))
    with pytest.raises(MachineFault):  # and no job is claimed
        await machine.check_before_claim()


@pytest.mark.parametrize("name", TOOL_NAMES)
async def test_tool_replaced_by_another_program_is_noticed_before_a_job_is_claimed(
    tmp_path: Path, name: str
) -> None:
    tool = tmp_path / name
    tool.symlink_to(getattr(TOOLS, name))
    machine = Machine(replace(TOOLS, **{name: tool}), tmp_path, SOFTWARE)
    await machine.check_before_claim()
    tool.unlink()
    tool.symlink_to("/bin/true")

    for _ in range(2):
        with pytest.raises(MachineFault, match=f"{name.upper()}: {tool} is not {name}"):
            await machine.check_before_claim()

    tool.unlink()
    tool.symlink_to(getattr(TOOLS, name))
    await machine.check_before_claim()


async def test_encoder_that_works_no_more_is_blamed(tmp_path: Path) -> None:
    version = f'case "$*" in -version) exec {TOOLS.ffmpeg} -version ;; esac'
    ffmpeg = _script(tmp_path / "ffmpeg", version, "echo no >&2; exit 1")
    machine = Machine(replace(TOOLS, ffmpeg=ffmpeg), tmp_path, SOFTWARE)

    with pytest.raises(MachineFault, match="does not encode any more: no"):
        await machine.examine(AttemptFailed("ffmpeg exited with 1.", code="encoder_failed"))

    _script(ffmpeg, f'exec {TOOLS.ffmpeg} "$@"')
    await machine.check_before_claim()


async def test_sound_machine_is_not_blamed(tmp_path: Path) -> None:
    machine = Machine(TOOLS, tmp_path, SOFTWARE)

    await machine.examine(SourceRejected())
    await machine.examine(StoreUnavailable())
    await machine.check_before_claim()


@pytest.mark.parametrize(
    ("error", "is_fault"),
    [
        (OSError(28, "No space left on device"), True),
        (PermissionError(13, "Permission denied", "/work"), True),
        (FileNotFoundError(2, "No such file", "/ffmpeg"), True),
        (BlockingIOError(11, "Resource temporarily unavailable"), True),
        (OSError(24, "Too many open files"), True),
        (MemoryError(), True),
        (RuntimeError("can't start new thread"), True),
        (AttemptFailed("ffmpeg exited with 228.", code=FFMPEG_EXIT_CODES[228]), True),
        (AttemptFailed("ffmpeg exited with 1.", code="encoder_failed"), False),
        (ConnectionResetError(104, "Connection reset by peer"), False),
        (TimeoutError(), False),
        (KeyError("x"), False),
        (RuntimeError("x"), False),
    ],
)
def test_errors_that_show_a_fault_of_the_machine(error: Exception, is_fault: bool) -> None:
    assert (fault_in(error) is not None) == is_fault


def test_servers_of_an_attempt_report_faults_of_the_machine() -> None:
    errors = BackgroundErrors()
    errors.report(OSError(24, "Too many open files"))

    with pytest.raises(MachineFault):
        errors.check()


_LIMITED = (
    "import resource\nresource.setrlimit(resource.RLIMIT_{0}, ({1}, {1}))\n"
    "from backend.core.errors import MachineFault\nfrom worker.sandbox.machine import check_resources\n"
    "try:\n    check_resources()\nexcept MachineFault as fault:\n    print(fault)\n"
)


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [("NOFILE", 40, "48 descriptors left"), ("AS", 250_000_000, "256 MiB of memory left")],
)
def test_lack_of_descriptors_or_memory_is_named(limit: str, value: int, words: str) -> None:
    limited = _LIMITED.format(limit, value)

    done = subprocess.run(
        [sys.executable, "-c", limited], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )

    assert words in done.stdout


async def test_worker_starts_once_its_machine_is_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "CHECKS", Backoff(0.001, 0.001))
    work_dir, stop = tmp_path / "work", asyncio.Event()
    calls: list[str] = []

    def find() -> Tools:
        calls.append("find")
        if len(calls) == 2:
            work_dir.mkdir()
        return TOOLS

    async def choose(tools: Tools) -> Encoders:
        calls.append("choose")
        if calls.count("choose") == 1:
            raise ConfigurationError("no encoder for av1 works here")
        return SOFTWARE

    machine = await fit_machine(find, choose, work_dir, stop)

    assert machine is not None
    assert (machine.tools, machine.encoders) == (TOOLS, SOFTWARE)
    assert calls == ["find", "find", "choose", "find", "choose"]


async def test_stopping_worker_does_not_wait_for_its_machine(tmp_path: Path) -> None:
    async def choose(tools: Tools) -> Encoders:
        return SOFTWARE

    stop = asyncio.Event()
    starting = asyncio.create_task(fit_machine(lambda: TOOLS, choose, tmp_path / "missing", stop))
    await asyncio.sleep(0)

    stop.set()

    async with asyncio.timeout(5):
        assert await starting is None

"""The one doorway for processes."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.lab.processes import is_alive
from worker.sandbox.limits import ResourceLimits
from worker.sandbox.process import ProcessTimedOut, run, running


async def test_exit_code_output_and_errors_are_kept() -> None:
    done = await run(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], timeout_seconds=10)

    assert (done.exit_code, done.stdout, done.stderr) == (3, b"out\n", "err")


async def test_the_environment_of_the_worker_is_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")

    done = await run(["/usr/bin/env"], timeout_seconds=10)

    assert b"hush" not in done.stdout


async def test_environment_is_minimal_and_ignored_signals_are_restored() -> None:
    shown = await run(["/usr/bin/env"], timeout_seconds=10)
    piped = await run(["/bin/sh", "-c", "kill -PIPE $$"], timeout_seconds=10)

    assert sorted(line.partition(b"=")[0] for line in shown.stdout.splitlines()) == [
        b"HOME",
        b"LC_ALL",
        b"PATH",
    ]
    assert piped.exit_code == -signal.SIGPIPE


async def test_reports_a_program_that_cannot_be_executed(tmp_path: Path) -> None:
    not_executable, garbage = tmp_path / "plain", tmp_path / "garbage"
    not_executable.write_text("")
    garbage.write_bytes(b"\x7fELF of another machine")
    garbage.chmod(0o700)

    with pytest.raises(FileNotFoundError, match="no-such-program"):
        await run(["/no-such-program"], timeout_seconds=10)
    with pytest.raises(PermissionError, match="plain"):
        await run([not_executable], timeout_seconds=10)
    with pytest.raises(OSError, match=r"Exec format error: .*garbage"):
        await run([garbage], timeout_seconds=10)


async def test_a_process_that_takes_too_long_is_killed() -> None:
    with pytest.raises(ProcessTimedOut):
        await run(["/bin/sleep", "100"], timeout_seconds=0.2)


async def test_a_flood_on_stderr_is_bounded() -> None:
    script = "import sys\nfor i in range(20000): print('x' * 200, i, file=sys.stderr)"

    done = await run([sys.executable, "-c", script], timeout_seconds=30)

    assert done.exit_code == 0
    assert len(done.stderr) < 40_000
    assert done.stderr.endswith("19999")


async def test_stdout_that_nobody_wants_does_not_hold_the_process_up() -> None:
    script = "print('x' * 1_000_000)"

    async with asyncio.timeout(10), running([sys.executable, "-c", script], discard_stdout=True) as process:
        assert await process.wait() == 0


# macOS has the limit, and does not enforce it.
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mappings on Linux only")
async def test_memory_is_bounded() -> None:
    script = "print(len(bytearray(300_000_000)))"

    exit_codes = []
    for limits in (ResourceLimits(), ResourceLimits(memory_bytes=200_000_000)):
        async with asyncio.timeout(10), running([sys.executable, "-c", script], limits=limits) as process:
            exit_codes.append(await process.wait())

    assert exit_codes == [0, 1]
    assert "MemoryError" in process.stderr_tail


async def test_cpu_time_is_bounded() -> None:
    busy = [sys.executable, "-c", "while True: pass"]

    async with asyncio.timeout(30), running(busy, limits=ResourceLimits(cpu_seconds=1)) as process:
        assert await process.wait() in {-signal.SIGXCPU, -signal.SIGKILL}


async def test_files_are_bounded(tmp_path: Path) -> None:
    script = "open('large', 'wb').write(bytes(100_000))"

    async with (
        asyncio.timeout(10),
        running(
            [sys.executable, "-c", script], cwd=tmp_path, limits=ResourceLimits(file_bytes=4096)
        ) as process,
    ):
        assert await process.wait() != 0

    assert (tmp_path / "large").stat().st_size <= 4096


async def test_what_only_reads_can_write_no_file(tmp_path: Path) -> None:
    done = await run(["/bin/sh", "-c", f"echo answer; echo secret > {tmp_path}/file"], timeout_seconds=10)

    assert (done.stdout, done.exit_code) == (b"answer\n", -signal.SIGXFSZ)
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.skipif(sys.platform != "linux", reason="no_new_privs and the score are Linux's")
async def test_a_process_gains_no_privileges_and_goes_first_when_memory_runs_out() -> None:
    shown = ["/bin/sh", "-c", "grep NoNewPrivs /proc/self/status; cat /proc/self/oom_score_adj"]

    done = await run(shown, timeout_seconds=10)

    assert done.stdout.split() == [b"NoNewPrivs:", b"1", b"800"]


# It has to hold elsewhere too, but is seen in /proc.
@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc, which is Linux's")
async def test_the_whole_group_is_gone_when_the_block_is_left() -> None:
    script = "trap '' TERM; sleep 100 & echo $!; wait; wait"
    async with running(["/bin/sh", "-c", script]) as process:
        grandchild = int(await anext(process.lines()))
        assert is_alive(grandchild)

    assert not is_alive(process.pid)
    async with asyncio.timeout(5):
        while is_alive(grandchild):  # noqa: ASYNC110  # reaped by init, which tells nobody
            await asyncio.sleep(0.02)


# Elsewhere `worker.sandbox.process` asks for nothing: macOS has no such signal.
@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_worker_killed_with_kill_9_leaves_no_process() -> None:
    script = (
        "import asyncio\nfrom worker.sandbox.process import running\n"
        "async def main():\n"
        "    async with running(['/bin/sleep', '100']) as process:\n"
        "        print(process.pid, flush=True)\n"
        "        await asyncio.sleep(100)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT) as worker:
        assert worker.stdout is not None
        child = int(worker.stdout.readline())
        assert is_alive(child)

        worker.send_signal(signal.SIGKILL)
        worker.wait(timeout=10)

    deadline = time.monotonic() + 5
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(child)


ROOT = Path(__file__).parents[3]

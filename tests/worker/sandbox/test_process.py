"""Starting processes: limits, output, errors, and that none is left."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from backend.core.errors import MachineFault
from tests.lab.processes import is_alive
from worker.sandbox.limits import ResourceLimits
from worker.sandbox.process import ProcessTimedOut, run, running


async def test_returns_exit_code_stdout_and_stderr() -> None:
    done = await run(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], timeout_seconds=10)

    assert (done.exit_code, done.stdout, done.stderr) == (3, b"out\n", "err")


async def test_does_not_pass_on_the_workers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_a_launcher_that_fails_is_not_taken_for_the_program() -> None:
    impossible = ResourceLimits(cpu_seconds=2**70)  # setrlimit refuses it

    with pytest.raises(ChildProcessError, match=r"/bin/true was not started \(1\): (?s:.*)OverflowError"):
        await run(["/bin/true"], timeout_seconds=10, limits=impossible)


async def test_kills_a_process_after_its_timeout() -> None:
    with pytest.raises(ProcessTimedOut):
        await run(["/bin/sleep", "100"], timeout_seconds=0.2)


async def test_keeps_only_the_end_of_a_long_stderr() -> None:
    script = "import sys\nfor i in range(20000): print('x' * 200, i, file=sys.stderr)"

    done = await run([sys.executable, "-c", script], timeout_seconds=30)

    assert done.exit_code == 0
    assert len(done.stderr) < 40_000
    assert done.stderr.endswith("19999")


async def test_discarded_stdout_does_not_block_the_process() -> None:
    script = "print('x' * 1_000_000)"

    async with asyncio.timeout(10), running([sys.executable, "-c", script], discard_stdout=True) as process:
        assert await process.wait() == 0


# macOS has the limit but does not enforce it.
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mappings on Linux only")
async def test_limits_memory() -> None:
    script = "print(len(bytearray(300_000_000)))"

    exit_codes = []
    for limits in (ResourceLimits(), ResourceLimits(memory_bytes=200_000_000)):
        async with asyncio.timeout(10), running([sys.executable, "-c", script], limits=limits) as process:
            exit_codes.append(await process.wait())

    assert exit_codes == [0, 1]
    assert "MemoryError" in process.stderr_tail


async def test_limits_cpu_time() -> None:
    busy = [sys.executable, "-c", "while True: pass"]

    async with asyncio.timeout(30), running(busy, limits=ResourceLimits(cpu_seconds=1)) as process:
        assert await process.wait() == -signal.SIGXCPU  # by the file's fault, unlike SIGKILL


async def test_limits_file_size(tmp_path: Path) -> None:
    script = "open('large', 'wb').write(bytes(100_000))"

    async with (
        asyncio.timeout(10),
        running(
            [sys.executable, "-c", script], cwd=tmp_path, limits=ResourceLimits(file_bytes=4096)
        ) as process,
    ):
        assert await process.wait() != 0

    assert (tmp_path / "large").stat().st_size <= 4096


async def test_read_only_process_cannot_write_files(tmp_path: Path) -> None:
    done = await run(["/bin/sh", "-c", f"echo answer; echo secret > {tmp_path}/file"], timeout_seconds=10)

    assert (done.stdout, done.exit_code) == (b"answer\n", -signal.SIGXFSZ)
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.skipif(sys.platform != "linux", reason="no_new_privs and the score are Linux's")
async def test_process_gains_no_privileges_and_is_the_first_oom_victim() -> None:
    shown = ["/bin/sh", "-c", "grep NoNewPrivs /proc/self/status; cat /proc/self/oom_score_adj"]

    done = await run(shown, timeout_seconds=10)

    assert done.stdout.split() == [b"NoNewPrivs:", b"1", b"800"]


# Must hold elsewhere too, but the test looks in /proc.
@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc, which is Linux's")
async def test_kills_the_whole_process_group_at_the_end_of_the_block() -> None:
    script = "trap '' TERM; sleep 100 & echo $!; wait; wait"
    async with running(["/bin/sh", "-c", script]) as process:
        grandchild = int(await anext(process.lines()))
        assert is_alive(grandchild)

    assert not is_alive(process.pid)
    async with asyncio.timeout(5):
        while is_alive(grandchild):  # noqa: ASYNC110  # reaped by init, which tells nobody
            await asyncio.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere an exit cannot be seen without reaping")
@pytest.mark.parametrize("script", ["exit 0", "exit 3", "sleep 100 & exit 0", "exec sleep 100"])
async def test_signals_no_group_whose_id_others_may_have_by_now(
    monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    signalled, kill_group = [], os.killpg

    def checked(group: int, number: int) -> None:
        with suppress(ChildProcessError):  # reaped: the id may belong to any other process
            os.waitid(os.P_PID, group, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            signalled.append(group)
            kill_group(group, number)
            return
        raise AssertionError("the group was signalled after its leader had been reaped")

    monkeypatch.setattr(os, "killpg", checked)
    async with asyncio.timeout(10), running(["/bin/sh", "-c", script]) as process:
        if "exec" not in script:
            await process.wait()

    assert set(signalled) == {process.pid}


@pytest.mark.parametrize("number", ["KILL", "TERM", "INT", "HUP"])
async def test_death_by_somebody_elses_signal_is_the_machines_fault(number: str) -> None:
    # Not with a shell: one that nohup or `&` started cannot stop ignoring these signals.
    reset = "" if number == "KILL" else f"signal.signal(signal.SIG{number}, signal.SIG_DFL); "
    program = f"import os, signal; {reset}os.kill(os.getpid(), signal.SIG{number})"

    with pytest.raises(MachineFault, match="was killed by signal"):
        await run([sys.executable, "-c", program], timeout_seconds=10)


async def test_death_by_its_own_fault_is_not_the_machines() -> None:
    done = await run(["/bin/sh", "-c", "kill -SEGV $$"], timeout_seconds=10)

    assert done.exit_code == -signal.SIGSEGV


# macOS has no parent-death signal.
@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_kill_9_of_the_worker_leaves_no_process() -> None:
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

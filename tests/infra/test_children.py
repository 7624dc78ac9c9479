"""Child processes: their output is relayed, they stop with all their descendants and never outlive us."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.local.children import Child, Command
from infra.local.leftovers import end_leftovers, write_pid_file
from tests.lab.processes import is_alive
from worker.sandbox import tether

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""
# Starts a grandchild that ignores SIGTERM, prints its pid, and waits.
PARENT = f"""
import subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], stdout=subprocess.PIPE)
grandchild.stdout.readline()
print(grandchild.pid, flush=True)
time.sleep(60)
"""


def _command(code: str, directory: Path) -> Command:
    return Command("api", (sys.executable, "-c", code), dict(os.environ), directory, stop_seconds=0.2)


async def _until_dead(pid: int) -> None:
    async with asyncio.timeout(10):
        while is_alive(pid):  # noqa: ASYNC110  # only our own children can be awaited
            await asyncio.sleep(0.02)


async def _first_line(child: Child) -> str:
    async with asyncio.timeout(10):
        while not child.tail:  # noqa: ASYNC110  # the tail has no change notification
            await asyncio.sleep(0.02)
    return child.tail[0]


async def test_lines_are_prefixed_with_the_childs_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    child = await Child.start(_command("print('hello')", tmp_path), tmp_path)

    assert await child.wait() == 0
    assert capsys.readouterr().out == "api   | hello\n"


async def test_a_multi_megabyte_line_does_not_stop_the_relay(tmp_path: Path) -> None:
    child = await Child.start(_command("print('x' * 3_000_000); print('after')", tmp_path), tmp_path)

    await child.wait()

    assert child.tail[-1] == "after"


async def test_stop_ends_the_childs_descendants(tmp_path: Path) -> None:
    child = await Child.start(_command(PARENT, tmp_path), tmp_path)
    grandchild = int(await _first_line(child))

    await child.stop()

    await _until_dead(grandchild)
    assert not list(tmp_path.glob("*.pid"))


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    child = await Child.start(_command(STUBBORN, tmp_path), tmp_path)
    await _first_line(child)

    await child.stop()

    assert child.status == -signal.SIGKILL


# On other systems the child lives until the next start ends it: see the tests of leftovers below.
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a parent-death signal")
def test_a_child_dies_with_its_parent() -> None:
    script = f"""
import os, subprocess, sys, time
command = [sys.executable, {tether.__file__!r}, str(os.getpid()), "--", sys.executable, "-c", {STUBBORN!r}]
child = subprocess.Popen(command, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_alive(child)

        parent.kill()
        parent.wait()

    deadline = time.monotonic() + 10
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(child)


def test_processes_left_by_an_earlier_run_are_ended(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as left:
        write_pid_file(tmp_path / "store.pid", left.pid)

        assert end_leftovers(tmp_path) == ["store"]

        assert left.wait(10) == -signal.SIGTERM
    assert not list(tmp_path.glob("*.pid"))


def test_an_unrelated_process_with_a_leftovers_pid_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        (tmp_path / "store.pid").write_text(f"{stranger.pid} another-boot/1\n")

        assert end_leftovers(tmp_path) == []

        assert stranger.poll() is None
        stranger.kill()

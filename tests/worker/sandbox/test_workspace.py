"""Attempt directories: deleted at the end, and swept after a worker was killed."""

import signal
import subprocess
import sys
from pathlib import Path

from worker.sandbox.workspace import sweep_workspaces, workspace

HOLD_A_WORKSPACE = """
import sys
from pathlib import Path
from worker.sandbox.workspace import workspace
with workspace(Path(sys.argv[1])) as directory:
    (directory / "download.webm").write_bytes(b"x")
    print("made", flush=True)
    sys.stdin.read()
"""


def test_workspace_is_deleted_when_its_attempt_ends(tmp_path: Path) -> None:
    with workspace(tmp_path) as directory:
        (directory / "download.webm").touch()
    assert list(tmp_path.iterdir()) == []


def test_sweeps_directories_of_killed_workers_but_not_of_live_ones(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_A_WORKSPACE, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"made\n"

        assert sweep_workspaces(tmp_path) == 0
        worker.send_signal(signal.SIGKILL)
        worker.wait()

    assert sweep_workspaces(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_does_not_touch_other_directories(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    assert sweep_workspaces(tmp_path) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["holiday"]

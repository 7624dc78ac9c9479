"""Attempt directories: gone at the end, and swept after a worker that was killed."""

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


def test_a_workspace_is_gone_when_its_attempt_has_ended(tmp_path: Path) -> None:
    with workspace(tmp_path) as directory:
        (directory / "download.webm").touch()
    assert list(tmp_path.iterdir()) == []


def test_a_living_workers_directory_is_left_alone_and_a_killed_ones_is_swept(tmp_path: Path) -> None:
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


def test_other_directories_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    assert sweep_workspaces(tmp_path) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["holiday"]

"""Pid files, and the processes of an earlier run that outlived it.

A pid may meanwhile belong to another process. A pid together with its start time identifies one process.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

END_SECONDS = 10.0


def write_pid_file(path: Path, pid: int) -> None:
    path.write_text(f"{pid} {_birth(pid)}\n")


def end_leftovers(directory: Path) -> list[str]:
    """End every process group that a pid file here still identifies, and return the files' names."""
    ended = []
    for path in sorted(directory.glob("*.pid")):
        pid_text, _, birth = path.read_text().strip().partition(" ")
        if pid_text.isdigit() and birth and _birth(int(pid_text)) == birth:
            _end_group(int(pid_text), birth)
            ended.append(path.stem)
        path.unlink()
    return ended


def _end_group(pid: int, birth: str) -> None:
    for sent, seconds in ((signal.SIGTERM, END_SECONDS), (signal.SIGKILL, END_SECONDS)):
        try:
            os.killpg(pid, sent)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if _birth(pid) != birth:
                return
            time.sleep(0.05)


def _birth(pid: int) -> str:
    """Return the process's start time in some notation; empty if there is none, or only a zombie."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            # proc(5): state is field 3 and starttime field 22; the name, field 2, may hold spaces.
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return "" if fields[0] in "ZX" else f"{boot}/{fields[19]}"
    found = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return found.stdout.strip()

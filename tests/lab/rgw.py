"""Ceph's RADOS Gateway on loopback: a real, durable S3 server, run by rgw.sh."""

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.server import ServerMissing, StoreServer, free_port

SCRIPT = Path(__file__).with_name("rgw.sh")
ACCESS_KEY = "LABACCESSKEY"
SECRET_KEY = "labsecretlabsecret"
COMMAND_SECONDS = 180


@dataclass(frozen=True, slots=True)
class RadosGateway:
    """A running gateway that can be made to fail."""

    server: StoreServer
    environment: dict[str, str]

    @property
    def pids(self) -> list[int]:
        """The monitor, the OSD and the gateway."""
        return [int(file.read_text()) for file in (Path(self.environment["RGW_DIR"]) / "run").glob("*.pid")]

    def start(self) -> None:
        """Start the daemons that are not running, with the existing data."""
        self._run("start")

    def pause(self) -> None:
        """Freeze the gateway: requests hang until `resume`."""
        self._run("pause")

    def resume(self) -> None:
        self._run("resume")

    def crash(self) -> None:
        """Kill all daemons without warning; `start` recovers."""
        self._run("crash")

    def wipe(self) -> None:
        """Stop all daemons and delete the data."""
        self._run("wipe")

    def _run(self, command: str) -> None:
        done = subprocess.run(
            [SCRIPT, command],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"rgw.sh {command}: {done.stderr.decode()[-2000:]}")


@contextmanager
def rgw(directory: Path) -> Iterator[RadosGateway]:
    """Run a gateway that nobody else uses.

    Raises: ServerMissing: it is not installed.
    """
    gateway = _new(directory)
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.wipe()


@contextmanager
def shared_rgw(directory: Path) -> Iterator[RadosGateway]:
    """Share one gateway with other processes: the first starts it, the last deletes it.

    Tests must not make it fail. Each process holds a shared lock, which the kernel releases even if the
    process is killed.

    Raises: ServerMissing: it is not installed.
    """
    state = directory / "rgw.json"
    with (directory / "rgw.users").open("w") as users:
        with _exclusive(directory):
            fcntl.flock(users, fcntl.LOCK_SH)
            if state.exists():
                gateway = _at(json.loads(state.read_text()))
            else:
                gateway = _new(directory / "rgw")
                try:
                    gateway.start()
                except BaseException:  # including Ctrl-C: nothing else would end its daemons
                    gateway.wipe()
                    raise
                state.write_text(json.dumps(gateway.environment))
        try:
            yield gateway
        finally:
            with _exclusive(directory):
                try:
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    pass  # others still use it
                else:
                    state.unlink()
                    gateway.wipe()


@contextmanager
def _exclusive(directory: Path) -> Iterator[None]:
    """Keep other processes from starting or deleting the shared gateway while the block lasts."""
    with (directory / "rgw.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _new(directory: Path) -> RadosGateway:
    if any(shutil.which(program) is None for program in ("radosgw", "ceph-mon", "ceph-osd")):
        raise ServerMissing("Ceph is not installed: tests/lab/rgw.sh install")
    port, monitor, monitor_v1, first_osd = (free_port() for _ in range(4))
    return _at(
        {
            "RGW_DIR": str(directory / "ceph"),
            "RGW_PORT": str(port),
            "RGW_MON_PORTS": f"{monitor} {monitor_v1}",
            "RGW_OSD_PORT": str(first_osd),
            "RGW_KEY": ACCESS_KEY,
            "RGW_SECRET": SECRET_KEY,
        }
    )


def _at(environment: dict[str, str]) -> RadosGateway:
    url = f"http://127.0.0.1:{environment['RGW_PORT']}"
    return RadosGateway(StoreServer("rgw", url, ACCESS_KEY, SECRET_KEY), environment)

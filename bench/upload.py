"""Upload: raw POST, form POST and tus through the API against boto3's own `upload_fileobj` of the same file.

All use the same store and take turns in each round: first one large file, then eight concurrent ones of a
quarter of its size. Memory is the growth of the API process's resident set. CPU time is that of the API or of
boto3's processes.
"""

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import boto3
import httpx
from botocore.config import Config

from bench.table import print_table
from bench.tree import cpu_seconds
from tests.lab.memory import measure
from tests.lab.product import ADMIN_TOKEN, Product

WRITE_BYTES = 16 * 1024 * 1024
MIB = 1024 * 1024
GIB = 1024 * MIB
AT_ONCE = 8
BOTO3 = "boto3 upload_fileobj"
TIMEOUT_SECONDS = 1200


@dataclass(frozen=True, slots=True)
class _Cost:
    mib_per_second: float
    cpu_seconds_per_gib: float
    grown_mib: float


def bench_upload(product: Product, store: str, size_mib: int, rounds: int) -> None:
    """Print MiB/s, the ratio to boto3 within each round, CPU and memory growth."""
    api = product.start_api()
    # Each boto3 upload has its own process, as usual. All processes start before the first measurement.
    with (
        tempfile.TemporaryDirectory() as directory,
        ProcessPoolExecutor(AT_ONCE, get_context("spawn")) as processes,
    ):
        list(processes.map(time.sleep, [1.0] * AT_ONCE))
        for files, each_mib in ((1, size_mib), (AT_ONCE, size_mib // 4)):
            source = Path(directory) / "source.bin"
            _write_random(source, each_mib * MIB)
            costs = _measure(product, api.pid, source, files, rounds, processes)
            _print(
                f"Upload of {files} x {each_mib} MiB at once, {store} store, {rounds} rounds (medians)", costs
            )


def _measure(
    product: Product, api_pid: int, source: Path, files: int, rounds: int, processes: ProcessPoolExecutor
) -> dict[str, list[_Cost]]:
    form = ("-F", f"file=@{source}")
    raw = ("--upload-file", str(source), "-X", "POST")
    environment = dict(product.environment)
    ways: dict[str, Callable[[int], float]] = {
        BOTO3: lambda number: processes.submit(_upload_fileobj, environment, source, number).result(),
        "raw POST /api/videos": lambda _: _with_curl(f"{product.url}/api/videos?filename=a.mp4", *raw),
        "form POST /api/upload": lambda _: _with_curl(f"{product.url}/api/upload", *form),
        "tus, one PATCH": lambda _: _with_tus(product, source),
    }
    gib = source.stat().st_size * files / GIB
    costs: dict[str, list[_Cost]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            before, used = cpu_seconds(api_pid), [0.0]
            seconds, grown = measure(api_pid, partial(_at_once, run, files, used))
            cpu = sum(used) if name == BOTO3 else cpu_seconds(api_pid) - before
            costs[name].append(_Cost(gib * 1024 / seconds, cpu / gib, grown))
            _empty(product)
    return costs


def _at_once(run: Callable[[int], float], files: int, used: list[float]) -> None:
    """Run the upload `files` times concurrently; append the CPU seconds of each to `used`."""
    with ThreadPoolExecutor(files) as threads:
        used += threads.map(run, range(files))


def _print(title: str, costs: dict[str, list[_Cost]]) -> None:
    baseline = [one.mib_per_second for one in costs[BOTO3]]
    rows = []
    for name, found in costs.items():
        rates = [one.mib_per_second for one in found]
        rows.append(
            [
                name,
                f"{statistics.median(rates):.0f}",
                f"{statistics.median(a / b for a, b in zip(rates, baseline, strict=True)):.2f}",
                f"{statistics.median(one.cpu_seconds_per_gib for one in found):.1f}",
                "-" if name == BOTO3 else f"{max(one.grown_mib for one in found):.0f}",
            ]
        )
    header = ["way", "MiB/s", "ratio to boto3", "CPU s per GiB", "growth of the API's memory, MiB (largest)"]
    print_table(title, header, rows)


def _write_random(path: Path, size_bytes: int) -> None:
    with Path("/dev/urandom").open("rb") as random, path.open("wb") as output:
        block = random.read(WRITE_BYTES)
        for start in range(0, size_bytes, WRITE_BYTES):
            output.write(block[: min(WRITE_BYTES, size_bytes - start)])


def _upload_fileobj(environment: dict[str, str], source: Path, number: int) -> float:
    """Upload the file and return the CPU seconds used."""
    before = time.process_time()
    client = boto3.client(
        "s3",
        endpoint_url=environment["S3_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
        config=Config(request_checksum_calculation="when_required", signature_version="s3v4"),
    )
    key = f"uploads/boto3-{number}.orig"
    with source.open("rb") as body:
        client.upload_fileobj(body, environment["S3_RAW_BUCKET"], key)
    client.delete_object(Bucket=environment["S3_RAW_BUCKET"], Key=key)
    client.close()
    return time.process_time() - before


def _with_curl(url: str, *arguments: str) -> float:
    command = ["curl", "-sS", "--fail", "-H", f"Authorization: Bearer {ADMIN_TOKEN}", "-H", "Expect:"]
    subprocess.run([*command, *arguments, url], check=True, capture_output=True, timeout=TIMEOUT_SECONDS)
    return 0.0


def _with_tus(product: Product, source: Path) -> float:
    with product.client() as client:
        created = client.post(
            "/api/uploads", headers={"Tus-Resumable": "1.0.0", "Upload-Length": str(source.stat().st_size)}
        )
        created.raise_for_status()
    return _with_curl(
        f"{product.url}{created.headers['location']}",
        *("-X", "PATCH", "--upload-file", str(source)),
        *("-H", "Tus-Resumable: 1.0.0", "-H", "Upload-Offset: 0"),
        *("-H", "Content-Type: application/offset+octet-stream"),
    )


def _empty(product: Product) -> None:
    with product.client() as client:
        for item in client.get("/api/videos").json()["videos"]:
            answer: httpx.Response = client.delete(f"/api/videos/{item['id']}")
            answer.raise_for_status()

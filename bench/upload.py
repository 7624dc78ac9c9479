"""Upload: raw and form POST through the API against boto3's own `upload_fileobj` of the same file.

All go to the same store, in turn, round after round; memory is the growth of the API process's resident set.
"""

import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import boto3
import httpx
from botocore.config import Config

from bench.table import print_table
from tests.lab.memory import measure
from tests.lab.product import ADMIN_TOKEN, Product

WRITE_BYTES = 16 * 1024 * 1024
MIB = 1024 * 1024


def bench_upload(product: Product, size_mib: int, rounds: int) -> None:
    """Print MiB/s, the ratio to boto3 within each round, and memory growth."""
    api = product.start_api()
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "source.bin"
        _write_random(source, size_mib * MIB)
        ways: dict[str, Callable[[], None]] = {
            "boto3 upload_fileobj": lambda: _with_boto3(product, source),
            "raw POST /api/videos": lambda: _with_curl(
                product, f"/api/videos?filename={source.name}", ["--upload-file", str(source), "-X", "POST"]
            ),
            "form POST /api/upload": lambda: _with_curl(product, "/api/upload", ["-F", f"file=@{source}"]),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        growth: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, run in ways.items():
                seconds, grown = measure(api.pid, run)
                rates[name].append(size_mib / seconds)
                growth[name].append(grown)
                _empty(product)
    baseline = rates["boto3 upload_fileobj"]
    print_table(
        f"Upload of {size_mib} MiB, {rounds} rounds (medians)",
        ["way", "MiB/s", "ratio to boto3", "growth of the API's memory, MiB (largest)"],
        [
            [
                name,
                f"{statistics.median(rates[name]):.0f}",
                f"{statistics.median(a / b for a, b in zip(rates[name], baseline, strict=True)):.2f}",
                "-" if name.startswith("boto3") else f"{max(growth[name]):.0f}",
            ]
            for name in ways
        ],
    )


def _write_random(path: Path, size_bytes: int) -> None:
    with Path("/dev/urandom").open("rb") as random, path.open("wb") as output:
        block = random.read(WRITE_BYTES)
        for start in range(0, size_bytes, WRITE_BYTES):
            output.write(block[: min(WRITE_BYTES, size_bytes - start)])


def _with_boto3(product: Product, source: Path) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=product.environment["S3_ENDPOINT_URL"],
        aws_access_key_id=product.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=product.environment["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
        config=Config(request_checksum_calculation="when_required", signature_version="s3v4"),
    )
    with source.open("rb") as body:
        client.upload_fileobj(body, product.environment["S3_RAW_BUCKET"], "uploads/boto3.orig")
    client.delete_object(Bucket=product.environment["S3_RAW_BUCKET"], Key="uploads/boto3.orig")
    client.close()


def _with_curl(product: Product, path: str, arguments: list[str]) -> None:
    command = ["curl", "-sS", "--fail", "-H", f"Authorization: Bearer {ADMIN_TOKEN}", "-H", "Expect:"]
    subprocess.run(
        [*command, *arguments, f"{product.url}{path}"], check=True, stdout=subprocess.DEVNULL, timeout=600
    )


def _empty(product: Product) -> None:
    with product.client() as client:
        for item in client.get("/api/videos").json()["videos"]:
            answer: httpx.Response = client.delete(f"/api/videos/{item['id']}")
            answer.raise_for_status()

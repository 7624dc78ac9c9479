"""`python -m backend` as a process: errors at startup, logs and shutdown."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from backend.core.uploads.buffers import MIB
from tests.lab.product import ADMIN_TOKEN, REPOSITORY, Product, product_on, stop
from tests.lab.server import StoreServer


@pytest.fixture
def product(moto_server: StoreServer, tmp_path: Path) -> Iterator[Product]:
    with product_on(
        moto_server.endpoint_url, moto_server.access_key, moto_server.secret_key, tmp_path
    ) as product:
        yield product


def _refusal(**environment: str) -> str:
    """Run the API, expect it to exit with an error, and return what it printed."""
    result = subprocess.run(
        [sys.executable, "-m", "backend"],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


def test_missing_or_short_token_is_reported() -> None:
    assert "ADMIN_TOKEN: is not set" in _refusal()
    sentence = _refusal(ADMIN_TOKEN="short")
    assert "ADMIN_TOKEN: must have at least" in sentence
    assert "short" not in sentence


def test_taken_port_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"127.0.0.1:{port}" in _refusal(ADMIN_TOKEN=ADMIN_TOKEN, PORT=port)


def test_logs_contain_no_queries_grants_or_tokens(product: Product) -> None:
    process = product.start_api()
    with product.client() as client:
        client.get("/api/videos", params={"cursor": "secret-query"})
        client.get("/play/secret-grant/hls/master.m3u8")
        client.post("/api/session", json={"token": ADMIN_TOKEN})
    stop(process, signal.SIGINT)
    assert process.returncode == 0
    log = product.log_of("backend")
    assert '"path": "/play/' in log
    for secret in ("secret-query", "secret-grant", ADMIN_TOKEN):
        assert secret not in log


def test_stops_within_seconds_of_a_signal_with_an_open_upload(product: Product) -> None:
    process = product.start_api()
    head = (
        f"POST /api/videos HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n"
        f"Content-Length: {40 * MIB}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", product.port), timeout=20) as uploading:
        uploading.sendall(head.encode() + bytes(10 * MIB))
        while "<UploadId>" not in _open_uploads(product):
            assert process.poll() is None
        begun = time.monotonic()
        stop(process, signal.SIGTERM)
    assert process.returncode == 0, product.log_of("backend")
    assert time.monotonic() - begun < 10
    assert "<UploadId>" not in _open_uploads(product)


def _open_uploads(product: Product) -> str:
    """List the raw bucket's multipart uploads as XML. The test store requires no signature."""
    environment = product.environment
    answer = httpx.get(f"{environment['S3_ENDPOINT_URL']}/{environment['S3_RAW_BUCKET']}?uploads", timeout=10)
    return answer.raise_for_status().text

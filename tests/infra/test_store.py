"""The embedded store: what is stored survives kill -9, and nobody without its key gets in."""

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backend.core.errors import UploadVanished
from backend.core.settings import StoreSettings
from backend.core.store.interface import MIN_PART_BYTES, ObjectHeaders, PresignedGet
from backend.core.store.s3 import ensure_buckets, open_buckets
from infra.local.data import DataDirectory
from infra.local.store import EmbeddedStore, choose_store, store_command
from tests.infra.checkout import CHECKOUT, require_embedded_store
from tests.lab.missing import missing


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    require_embedded_store()


@contextmanager
def _running(data: DataDirectory) -> Iterator[tuple[EmbeddedStore, subprocess.Popen[bytes]]]:
    """Run the store while the block lasts, then end it by kill -9."""
    store = choose_store(data)
    command = store_command(store, data, CHECKOUT, os.environ["PATH"])
    process = subprocess.Popen(command.argv, env=dict(command.env), cwd=command.directory)
    try:
        deadline = time.monotonic() + 30
        while _status(f"{store.url}/_ministack/health") != 200:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield store, process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _status(url: str, method: str = "GET") -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _first_bytes(url: str) -> bytes:
    """Read ten bytes and close the connection."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        return bytes(answer.read(10))


def _settings(store: EmbeddedStore) -> StoreSettings:
    return StoreSettings.model_validate(
        {name.lower(): value for name, value in store.client_settings().items()}
    )


@pytest.fixture
def data(tmp_path: Path) -> Iterator[DataDirectory]:
    directory = DataDirectory(tmp_path / "data")
    with directory.lock():
        yield directory


async def test_objects_survive_a_kill_and_unfinished_uploads_are_known_to_be_gone(
    data: DataDirectory,
) -> None:
    part = os.urandom(MIN_PART_BYTES)
    with _running(data) as (store, _):
        async with open_buckets(_settings(store)) as buckets:
            await ensure_buckets(buckets)
            upload = await buckets.raw.open_upload("uploads/a.orig", ObjectHeaders("video/mp4"))
            parts = [await buckets.raw.put_part("uploads/a.orig", upload, number, part) for number in (1, 2)]
            await buckets.raw.complete_upload("uploads/a.orig", upload, parts)
            await buckets.raw.put("queue/a", b"job")
            await buckets.raw.put("queue/b", b"job")
            await buckets.raw.delete("queue/b")
            open_upload = await buckets.raw.open_upload("uploads/b.orig")
            open_part = await buckets.raw.put_part("uploads/b.orig", open_upload, 1, part)
            before = await buckets.raw.head("uploads/a.orig")

    with _running(data) as (again, _):
        assert again == store
        async with open_buckets(_settings(again)) as buckets:
            assert [info.key async for info in buckets.raw.list_all("")] == ["queue/a", "uploads/a.orig"]
            assert (await buckets.raw.get("uploads/a.orig")).body == part * 2
            assert await buckets.raw.head("uploads/a.orig") == before
            assert not await buckets.raw.create("queue/a", b"another")
            with pytest.raises(UploadVanished):
                await buckets.raw.complete_upload("uploads/b.orig", open_upload, [open_part])


async def test_nobody_gets_in_without_the_key(data: DataDirectory) -> None:
    with _running(data) as (store, _):
        async with open_buckets(_settings(store)) as buckets:
            await ensure_buckets(buckets)
            await buckets.video.put("poster.jpg", b"picture")
            signed = buckets.video.presign_get("poster.jpg", PresignedGet(expires_seconds=60))

            assert _status(signed) == 200
            assert _status(signed.replace("X-Amz-Signature=", "X-Amz-Signature=0")) == 403
            assert _status(f"{store.url}/vodbucket-video/poster.jpg") == 403
            assert _status(f"{store.url}/vodbucket-video/poster.jpg", "DELETE") == 403
            for administration in ("_ministack/reset", "_ministack/config", "_localstack/state/reset"):
                assert _status(f"{store.url}/{administration}", "POST") == 403
            assert _status(signed) == 200


async def test_a_reader_that_goes_away_ends_the_sending(
    data: DataDirectory, capfd: pytest.CaptureFixture[str]
) -> None:
    with _running(data) as (store, _):
        async with open_buckets(_settings(store)) as buckets:
            await ensure_buckets(buckets)
            await buckets.raw.put("large", bytes(16 * MIN_PART_BYTES))
            signed = buckets.raw.presign_get("large", PresignedGet(expires_seconds=60))

        assert _first_bytes(signed) == bytes(10)

        assert _status(f"{store.url}/_ministack/health") == 200
    assert "socket.send() raised" not in capfd.readouterr().err


async def test_reading_a_byte_of_a_large_object_takes_no_memory(data: DataDirectory) -> None:
    part = bytes(16 * MIN_PART_BYTES)
    with _running(data) as (store, process):
        async with open_buckets(_settings(store)) as buckets:
            await ensure_buckets(buckets)
            await buckets.raw.put("large", part)
    with _running(data) as (store, process):
        before = _peak_bytes(process.pid)
        async with open_buckets(_settings(store)) as buckets:
            tail = b"".join([chunk async for chunk in buckets.raw.read("large", len(part) - 10)])
        assert tail == part[-10:]
        assert _peak_bytes(process.pid) - before < len(part) / 4


def _peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        missing("no /proc here")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


async def test_an_object_whose_description_is_older_than_its_bytes_is_served_whole(
    data: DataDirectory,
) -> None:
    with _running(data) as (store, _):
        async with open_buckets(_settings(store)) as buckets:
            await ensure_buckets(buckets)
            await buckets.video.put("status.json", b"old")
    body = next((data.store / "objects").rglob("status.json"))
    assert json.loads(body.with_name("status.json.meta.json").read_text())["size"] == 3
    body.write_bytes(b"new and longer")  # what a kill between the two replacements leaves
    shutil.copy(body, body.with_name("status.json.tmp"))

    with _running(data) as (store, _):
        async with open_buckets(_settings(store)) as buckets:
            assert (await buckets.video.get("status.json")).body == b"new and longer"
            assert [info.key async for info in buckets.video.list_all("")] == ["status.json"]

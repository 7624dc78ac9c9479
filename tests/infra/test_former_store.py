"""Objects of the former embedded store are copied into the current one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from backend.core.store.s3 import S3Buckets, S3Store, ensure_buckets, open_buckets
from infra.local.data import DataDirectory
from infra.local.former_store import former_root, import_former_store, waits_for_import
from tests.infra.checkout import CHECKOUT, require_embedded_store
from tests.lab.buckets import store_settings
from tests.lab.server import StoreServer, free_port

FILM = os.urandom(33 * 1024 * 1024)


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    """A data directory as left by release 1.5.33 of the former store."""
    data = DataDirectory(tmp_path / "data")
    with data.lock():
        _keep(data, "raw", "uploads/a.orig", FILM, content_type="video/quicktime")
        headers = {"cache-control": "max-age=60", "content-disposition": 'attachment; filename="\u00fc.jpg"'}
        _keep(data, "video", "videos/a b/\u00fc~(1).jpg", b"picture", "image/jpeg", preserved_headers=headers)
        _keep(data, "video", "empty", b"")
        _keep(data, "video", "torn", b"whole")
        _body(data, "video", "torn.meta.json").write_text('{"content_type": "ima')
        _body(data, "video", "torn.tmp").write_bytes(b"half")
        _body(data, "video", "bare").write_bytes(b"bare")
        _keep(data, "another", "k", b"in a bucket with another name")
    return data


def _body(data: DataDirectory, bucket: str, key: str) -> Path:
    return former_root(data) / "000000000000" / f"vodbucket-{bucket}" / key


def _keep(
    data: DataDirectory,
    bucket: str,
    key: str,
    body: bytes,
    content_type: str = "application/octet-stream",
    **more: object,
) -> None:
    file = _body(data, bucket, key)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(body)
    description = {
        "content_type": content_type,
        "size": len(body),
        "preserved_headers": {},
        **more,
        "key": key,
    }
    file.with_name(f"{file.name}.meta.json").write_text(json.dumps(description))


async def _headers(store: S3Store, key: str) -> tuple[str, str | None, str | None]:
    answer = await store._s3.head_object(Bucket=store.name, Key=key)
    return answer["ContentType"], answer.get("CacheControl"), answer.get("ContentDisposition")


async def test_objects_and_their_headers_are_copied_once(
    data: DataDirectory, embedded_server: StoreServer
) -> None:
    settings = store_settings(embedded_server)
    names = {"vodbucket-raw": settings.s3_raw_bucket, "vodbucket-video": settings.s3_video_bucket}
    for name, fresh in names.items():
        _body(data, name.removeprefix("vodbucket-"), "").rename(former_root(data) / "000000000000" / fresh)
    async with open_buckets(settings) as buckets:
        await ensure_buckets(buckets)
        await buckets.video.put("bare", b"written since")
        assert waits_for_import(data)

        first = await import_former_store(data, buckets)
        second = await import_former_store(data, buckets)

        assert (first, second) == ((4, 1), (0, 5))
        assert not waits_for_import(data)
        assert await _contents(buckets) == {
            "uploads/a.orig": FILM,
            "videos/a b/\u00fc~(1).jpg": b"picture",
            "empty": b"",
            "torn": b"whole",
            "bare": b"written since",
        }
        assert await _headers(buckets.raw, "uploads/a.orig") == ("video/quicktime", None, None)
        assert (await _headers(buckets.video, "videos/a b/\u00fc~(1).jpg"))[:2] == (
            "image/jpeg",
            "max-age=60",
        )
    assert (former_root(data) / "000000000000" / settings.s3_video_bucket / "torn").exists()


async def _contents(buckets: S3Buckets) -> dict[str, bytes]:
    return {
        info.key: (await store.get(info.key)).body
        for store in (buckets.raw, buckets.video)
        async for info in store.list_all("")
    }


def test_a_directory_without_former_objects_needs_no_import(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    with data.lock():
        assert not waits_for_import(data)


@pytest.mark.heavy
def test_runs_mention_the_import_command_until_it_was_used(data: DataDirectory) -> None:
    require_embedded_store()

    def vodbucket(*arguments: str) -> str:
        """Run a command until it is ready or exits, and return its output."""
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.local", *arguments, "--data", str(data.root)],
            cwd=CHECKOUT,
            env={"PATH": os.environ["PATH"], "HOME": "/", "PORT": str(free_port())},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "is ready:" in line:
                process.send_signal(signal.SIGTERM)
        process.wait()
        process.stdout.close()
        return said

    before, imported, after = vodbucket("run"), vodbucket("import-old-store"), vodbucket("run")
    again = vodbucket("import-old-store")

    assert "run `make import-old-store` to copy them" in before
    assert "Copied 5 objects; 0 already existed." in imported
    assert "import-old-store" not in after
    assert "Nothing to copy" in again
    assert _body(data, "video", "bare").read_bytes() == b"bare"

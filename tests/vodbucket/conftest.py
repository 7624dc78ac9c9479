"""The command line as a real process on a real store."""

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest

from backend.core import keys
from backend.core.ids import new_id
from backend.core.library.videos import add_video
from backend.core.records import Job, Video
from backend.core.store.interface import Buckets
from backend.core.store.s3 import S3Buckets, open_buckets
from tests.lab.checker import store_settings
from tests.lab.product import Product, product_on
from tests.lab.server import StoreServer
from tests.vodbucket.forked import run_forked

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND_SECONDS = 120
POLL_SECONDS = 0.03

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Done:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Installation:
    """Its own two buckets, which may not exist yet. Its processes see no other environment."""

    environment: dict[str, str]

    async def run(self, module: str, *arguments: str, directory: Path = REPOSITORY, **settings: str) -> Done:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            env={**self.environment, **settings},
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Done(process.returncode or 0, out.decode(), err.decode())

    async def vodbucket(self, *arguments: str, **settings: str) -> Done:
        with TemporaryDirectory() as directory:
            out, err = Path(directory, "out"), Path(directory, "err")
            environment = {**self.environment, **settings}
            status = await run_forked(arguments, environment, out, err, COMMAND_SECONDS)
            return Done(status, out.read_text(), err.read_text())

    async def doctor(self, *arguments: str, **settings: str) -> tuple[Done, dict[str, dict[str, str]]]:
        """Run the doctor and return its rows by name."""
        done = await self.vodbucket("doctor", "--json", *arguments, **settings)
        return done, {check["name"]: check for check in done.json["checks"]}

    @asynccontextmanager
    async def buckets(self) -> AsyncIterator[S3Buckets]:
        async with open_buckets(store_settings(self.environment)) as buckets:
            yield buckets


async def during(task: asyncio.Task[Any], awaited: Awaitable[T]) -> T:
    """Wait for something while a task runs. Fails if the task fails or ends first."""
    waiting = asyncio.ensure_future(awaited)
    await asyncio.wait((waiting, task), timeout=COMMAND_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if waiting.done():
        return waiting.result()
    waiting.cancel()
    assert task.done(), f"still waiting after {COMMAND_SECONDS} s"
    raise AssertionError(f"the task ended first: {task.result()}")


def installation_on(server: StoreServer, home: Path) -> Installation:
    suffix = uuid.uuid4().hex[:12]
    return Installation(
        {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "S3_ENDPOINT_URL": server.endpoint_url,
            "S3_RAW_BUCKET": f"raw-{suffix}",
            "S3_VIDEO_BUCKET": f"video-{suffix}",
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
        }
    )


@pytest.fixture
def on_moto(moto_server: StoreServer, tmp_path: Path) -> Installation:
    return installation_on(moto_server, tmp_path)


@pytest.fixture(scope="session")
def product(moto_server: StoreServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """An API process on moto, without a worker."""
    server, logs = moto_server, tmp_path_factory.mktemp("api")
    with product_on(server.endpoint_url, server.access_key, server.secret_key, logs) as running:
        running.start_api()
        yield running


async def add(buckets: Buckets, title: str = "A film") -> str:
    """Store a source, add its video and queue the job."""
    video_id, now = new_id(), datetime.now(UTC)
    await buckets.raw.put(keys.upload(video_id), b"abc")
    video = Video(id=video_id, title=title, filename="a.mp4", size_bytes=3, created_at=now)
    job = Job(
        id=video_id,
        request=video_id,
        source=keys.upload(video_id),
        source_size_bytes=3,
        created_at=now,
    )
    await add_video(buckets, video, job)
    return video_id

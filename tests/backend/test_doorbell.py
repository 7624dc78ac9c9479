"""Every way to add a job rings the workers' bell, and no bell makes a request fail."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from backend.core.jobs.job_queue import JobQueue
from backend.core.records import StatusError
from backend.core.settings import ApiSettings
from backend.core.store.interface import Buckets
from tests.backend import test_tus_protocol as tus
from tests.backend.conftest import BEARER, Clock, api_process, upload
from tests.lab.asgi import client_of

NOBODY = ("255.255.255.255", 1)
"""A datagram to it is refused at once."""


@pytest.fixture
def bell() -> Iterator[socket.socket]:
    with socket.socket(type=socket.SOCK_DGRAM) as heard:
        heard.bind(("127.0.0.1", 0))
        heard.setblocking(False)
        yield heard


@pytest.fixture
async def client(
    settings: ApiSettings, buckets: Buckets, clock: Clock, bell: socket.socket
) -> AsyncIterator[httpx.AsyncClient]:
    ringing = settings.model_copy(update={"doorbells": (NOBODY, bell.getsockname())})
    async with (
        api_process(ringing, buckets, clock) as app,
        client_of(app, "http://vod.example", BEARER) as one,
    ):
        yield one


async def _rung(bell: socket.socket) -> None:
    async with asyncio.timeout(10):
        await asyncio.get_running_loop().sock_recv(bell, 1)


async def test_an_upload_in_one_request_rings(client: httpx.AsyncClient, bell: socket.socket) -> None:
    await upload(client)
    await _rung(bell)

    form = await client.post("/api/upload", files={"file": b"a video"})

    assert form.status_code == 201
    await _rung(bell)


async def test_a_resumable_upload_rings_when_it_is_a_video(
    client: httpx.AsyncClient, bell: socket.socket
) -> None:
    url = await tus.create(client)
    await tus.patch(client, url, 0, tus.DATA[:-1])
    await asyncio.sleep(0)
    with pytest.raises(BlockingIOError):
        bell.recv(1)

    await tus.patch(client, url, len(tus.DATA) - 1, tus.DATA[-1:])

    await _rung(bell)
    said = {**tus.BYTES, "upload-length": str(len(tus.DATA))}
    assert (await client.post(tus.UPLOADS, headers=said, content=tus.DATA)).status_code == 201
    await _rung(bell)


async def test_encoding_a_video_again_rings(
    client: httpx.AsyncClient, buckets: Buckets, bell: socket.socket
) -> None:
    video = await upload(client)
    await _rung(bell)
    queue = JobQueue(buckets, owner="worker-1", lease_seconds=60)
    claim = await queue.claim(await queue.poll())
    assert claim is not None
    await queue.bury(claim, StatusError(code="source_damaged", message="It is damaged."))

    again = await client.post(f"/api/videos/{video}/transcodes")

    assert again.status_code == 202
    await _rung(bell)

"""Resumable uploads on a real store, interrupted by clients, by kills and by the store itself."""

import random
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from backend.core import keys
from tests.faults.lab import MIB, WireLab, film
from tests.faults.registry import row
from tests.lab.product import ADMIN_TOKEN, Product
from tests.lab.server import free_port
from tests.lab.wire_faults import Answered, AnswerLost, Fault, Flipped, calls

pytestmark = [pytest.mark.heavy, pytest.mark.spread]

HEAD = b"\x00\x00\x00\x18ftypisom"
UPLOADS = "/api/uploads"
TUS = {"tus-resumable": "1.0.0"}
BYTES = {**TUS, "content-type": "application/offset+octet-stream"}
SECONDS = 60
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes a close a reset."""


def _film(size_bytes: int) -> bytes:
    return HEAD + film(size_bytes - len(HEAD))


class Uploading:
    """One upload to the API processes of a product. The client can misbehave."""

    def __init__(self, product: Product, body: bytes) -> None:
        self.product = product
        self.body = body
        self.ports = [product.port]
        with self.client() as client:
            answer = client.post(UPLOADS, headers={**TUS, "upload-length": str(len(body))})
        assert answer.status_code == 201, answer.text
        self.path = answer.headers["location"]

    def client(self, api: int = 0) -> httpx.Client:
        client = self.product.client()
        client.base_url = httpx.URL(f"http://127.0.0.1:{self.ports[api]}")
        return client

    def offset(self, api: int = 0) -> int:
        with self.client(api) as client:
            answer = client.head(self.path, headers=TUS)
        assert answer.status_code == 200, answer.status_code
        return int(answer.headers["upload-offset"])

    def send(self, start: int, end: int, api: int = 0) -> httpx.Response:
        headers = {**BYTES, "upload-offset": str(start)}
        with self.client(api) as client:
            return client.patch(self.path, headers=headers, content=self.body[start:end])

    @contextmanager
    def connection(self, start: int, api: int = 0, framing: str = "") -> Iterator[socket.socket]:
        """Announce the rest of the file from `start` on, and yield the connection to send it on."""
        with socket.create_connection(("127.0.0.1", self.ports[api]), timeout=SECONDS) as connection:
            lines = [
                f"PATCH {self.path} HTTP/1.1",
                "Host: vod.example",
                f"Authorization: Bearer {ADMIN_TOKEN}",
                *(f"{name}: {value}" for name, value in BYTES.items()),
                f"Upload-Offset: {start}",
                framing or f"Content-Length: {len(self.body) - start}",
            ]
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            yield connection

    def finish(self, api: int = 0) -> None:
        """Send the missing bytes as soon as no other request sends them."""
        while (start := self.offset(api)) < len(self.body):
            answer = self.send(start, len(self.body), api)
            assert answer.status_code in (204, 409, 423), answer.text

    @property
    def video_id(self) -> str:
        return str(self.path.rpartition("/")[2])


async def _assert_stored(lab: WireLab, upload: Uploading) -> None:
    """Assert that the object is the file, and that nothing is open beside it."""
    product = upload.product
    direct = lab.direct.model_copy(
        update={
            "s3_raw_bucket": product.environment["S3_RAW_BUCKET"],
            "s3_video_bucket": product.environment["S3_VIDEO_BUCKET"],
        }
    )
    async with WireLab(lab.proxy, direct, direct).store() as buckets:
        assert (await buckets.raw.get(keys.upload(upload.video_id))).body == upload.body
        assert [one.key async for one in buckets.raw.list_uploads("")] == []
        left = {info.key async for info in buckets.raw.list_all(keys.UPLOADS)}
    assert left == {keys.upload(upload.video_id), keys.upload_done(upload.video_id)}


@row(
    "tus-client-drops",
    fault="40 resets and closes after random numbers of bytes",
    expected="HEAD never goes back, or past what was sent; resumes; intact",
)
async def test_upload_resumes_after_many_disconnects(product: Product, lab: WireLab) -> int:
    product.start_api()
    rng = random.Random(12)
    upload = Uploading(product, _film(40 * MIB))
    at, sent, times = 0, 0, 40
    for _ in range(times):
        size = rng.choice((rng.randrange(1000), rng.randrange(2 * MIB)))
        with upload.connection(at) as connection:
            connection.sendall(upload.body[at : at + size])
            if rng.random() < 0.5:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sent = max(sent, at + size)  # the server may come to a connection after the one that followed it
        told = upload.offset()
        assert at <= told <= sent
        at = told
    upload.finish()
    await _assert_stored(lab, upload)
    return times


@row(
    "tus-two-at-once",
    fault="two APIs get PATCHes of one upload; an old connection continues",
    expected="one wins, the other gets 423 or 409; intact",
)
async def test_one_of_two_concurrent_requests_is_refused(product: Product, lab: WireLab) -> int:
    product.start_api()
    other = free_port()
    product.start_api(other)
    upload = Uploading(product, _film(20 * MIB))
    upload.ports.append(other)
    with upload.connection(0) as first:
        first.sendall(upload.body[: 9 * MIB])
        told = []
        for place in range(9 * MIB, 9 * MIB + 200):
            first.sendall(upload.body[place : place + 1])
            if place % 50 == 0:
                told.append(upload.send(0, len(upload.body), api=1).status_code)
        assert set(told) == {423}
        at = upload.offset()
        with upload.connection(at) as second:
            second.sendall(upload.body[at:])
            first.sendall(bytes(MIB))
            assert b" 204 " in second.recv(4096)
    await _assert_stored(lab, upload)
    return len(told) + 1


@row(
    "tus-api-killed",
    fault="kill -9 of an API during PATCH; the client moves to another",
    expected="HEAD covers everything acknowledged; intact",
)
async def test_upload_resumes_at_another_api_after_kill(product: Product, lab: WireLab) -> int:
    victim = product.start_api()
    other = free_port()
    product.start_api(other)
    upload = Uploading(product, _film(40 * MIB))
    upload.ports.append(other)
    acknowledged = int(upload.send(0, 11 * MIB).headers["upload-offset"])
    with upload.connection(acknowledged) as connection:
        connection.sendall(upload.body[acknowledged : 30 * MIB])
        victim.kill()
        victim.wait()
    assert acknowledged <= upload.offset(api=1) <= 30 * MIB
    upload.finish(api=1)
    await _assert_stored(lab, upload)
    return 1


@row(
    "tus-endless",
    fault="chunked PATCH continues past the upload's length",
    expected="413 there; the rest is kept and finished; intact",
)
async def test_rejects_body_longer_than_announced(product: Product, lab: WireLab) -> int:
    product.start_api()
    upload = Uploading(product, _film(20 * MIB))
    with upload.connection(0, framing="Transfer-Encoding: chunked") as connection:
        for start in range(0, len(upload.body), MIB):
            connection.sendall(f"{MIB:x}\r\n".encode() + upload.body[start : start + MIB] + b"\r\n")
        connection.sendall(f"{MIB:x}\r\n".encode() + bytes(MIB) + b"\r\n")
        assert b" 413 " in connection.recv(4096)
    upload.finish()
    await _assert_stored(lab, upload)
    return 1


async def _tus(client: httpx.AsyncClient, body: bytes) -> str:
    answer = await client.post(UPLOADS, headers={**TUS, "upload-length": str(len(body))})
    assert answer.status_code == 201, answer.text
    return str(answer.headers["location"])


async def _patch(client: httpx.AsyncClient, path: str, start: int, content: bytes) -> httpx.Response:
    headers = {**BYTES, "upload-offset": str(start), "content-length": str(len(content))}
    return await client.patch(path, headers=headers, content=content)


@row(
    "tus-part-failed",
    fault="the second part fails past all patience, later ones are stored",
    expected="503; HEAD says the first part; resumes; intact",
)
async def test_upload_resumes_before_failed_part(lab: WireLab) -> int:
    body = _film(40 * MIB)
    second = calls("UploadPart")
    rule = lab.proxy.inject(
        lambda call: second(call) and call.query["partNumber"] == "2", Answered(503, "SlowDown"), times=None
    )
    async with lab.api(patience_seconds=1) as client:
        path = await _tus(client, body)
        broken = await _patch(client, path, 0, body)
        at = int((await client.head(path, headers=TUS)).headers["upload-offset"])
        lab.proxy.forget()
        done = await _patch(client, path, at, body[at:])
    assert (broken.status_code, at, done.status_code) == (503, 8 * MIB, 204)
    await lab.assert_source_is(done.headers["video-id"], body)
    return rule.struck


@row(
    "tus-parts-dropped",
    fault="a lifecycle rule drops the multipart upload between PATCHes",
    expected="HEAD is 410, never complete",
)
async def test_upload_is_gone_when_its_parts_are_dropped(lab: WireLab) -> int:
    body = _film(20 * MIB)
    async with lab.api() as client:
        path = await _tus(client, body)
        await _patch(client, path, 0, body[: 17 * MIB])
        await lab.abort_forgotten_uploads()
        looked = await client.head(path, headers=TUS)
        sent = await _patch(client, path, 17 * MIB, body[17 * MIB :])
        looked_again = await client.head(path, headers=TUS)
    assert (looked.status_code, looked_again.status_code) == (410, 410)
    assert sent.status_code in (410, 502), sent.text
    return 1


@row(
    "tus-last-steps",
    fault="completion answers 200 with an error, or nothing; a bit of a part flips",
    expected="204 with the video, once; intact",
)
async def test_completion_survives_store_faults(lab: WireLab) -> int:
    faults: list[tuple[str, Fault]] = [
        ("CompleteMultipartUpload", Answered(200, "InternalError")),
        ("CompleteMultipartUpload", AnswerLost()),
        ("UploadPart", Flipped("request", at_byte=4 * MIB)),
    ]
    struck = 0
    async with lab.api() as client:
        for operation, fault in faults:
            body = _film(20 * MIB)
            rule = lab.proxy.inject(calls(operation), fault, times=2)
            path = await _tus(client, body)
            done = await _patch(client, path, 0, body)
            assert done.status_code == 204, done.text
            await lab.assert_source_is(done.headers["video-id"], body)
            lab.proxy.forget()
            struck += rule.struck
    return struck

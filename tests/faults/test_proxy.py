"""The fault proxy itself, on moto: what is not struck passes unchanged, and each fault is what it says."""

import hashlib
import random
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from backend.core.errors import StoreError, StoreUnavailable
from backend.core.store.interface import PresignedGet
from backend.core.store.s3 import S3Buckets, S3Store, ensure_buckets, open_buckets
from tests.lab.buckets import store_settings
from tests.lab.proxy import FaultProxy, refusing
from tests.lab.server import StoreServer
from tests.lab.wire_faults import (
    Answered,
    AnswerLost,
    Delayed,
    Duplicated,
    Fault,
    Flipped,
    Forwarded,
    HeaderDropped,
    Hung,
    Reset,
    Stalled,
    Throttled,
    Truncated,
    calls,
)

BODY = random.Random(0).randbytes(3_000_000)
MIB = 1024 * 1024


@pytest.fixture
def proxy(moto_server: StoreServer) -> Iterator[FaultProxy]:
    with FaultProxy(moto_server) as running:
        yield running


@pytest.fixture
async def buckets(proxy: FaultProxy) -> AsyncIterator[S3Buckets]:
    """One attempt for each request: faults are to be seen, not ridden out."""
    async with open_buckets(store_settings(proxy.server), sdk_attempts=1) as opened:
        await ensure_buckets(opened)
        yield opened


@pytest.fixture
def store(buckets: S3Buckets) -> S3Store:
    return buckets.raw


async def test_objects_parts_ranges_and_lists_pass_unchanged(store: S3Store) -> None:
    await store.put("a/plain", BODY)
    upload = await store.open_upload("a/parts")
    parts = [await store.put_part("a/parts", upload, number, BODY * 2) for number in (1, 2)]
    await store.complete_upload("a/parts", upload, parts)

    assert (await store.get("a/plain")).body == BODY
    assert b"".join([chunk async for chunk in store.read("a/parts", 5_000_000)]) == (BODY * 4)[5_000_000:]
    assert [info.key for info in (await store.list_page("a/")).objects] == ["a/parts", "a/plain"]
    assert (await store.head("a/parts")).size_bytes == 4 * len(BODY)
    await store.delete_many(["a/parts", "a/plain"])
    assert (await store.list_page("")).objects == ()
    assert await store.create("k", b"first")
    assert not await store.create("k", b"second")


async def test_one_connection_serves_many_requests(store: S3Store) -> None:
    await store.put("k", b"body")

    async with httpx.AsyncClient(trust_env=False) as client:
        answers = [await client.get(_url(store)) for _ in range(3)]

    assert [answer.content for answer in answers] == [b"body"] * 3
    assert len({answer.extensions["network_stream"] for answer in answers}) == 1


def test_calls_are_known_by_the_names_that_s3_has_for_them(proxy: FaultProxy) -> None:
    with httpx.Client(base_url=proxy.server.endpoint_url, trust_env=False) as client:
        client.put("/named-bucket")
        client.put("/named-bucket/a%20key", headers={"If-None-Match": "*"})
        client.get("/named-bucket?list-type=2")
        client.post("/named-bucket/k?uploads")

    assert [call.operation for call in proxy.calls] == [
        "PutBucket",
        "PutObject",
        "ListObjectsV2",
        "CreateMultipartUpload",
    ]
    assert proxy.calls[1].key == "a key"
    assert calls("PutObject", key="a k", conditional=True)(proxy.calls[1])


@pytest.mark.parametrize(
    ("fault", "stored"),
    [
        (Answered(503, "SlowDown"), False),
        (Reset("request"), False),
        (Reset("request", after_bytes=1_000_000), False),
        (AnswerLost(), True),
    ],
)
async def test_a_write_that_is_struck_fails_and_is_there_or_not(
    proxy: FaultProxy, store: S3Store, fault: Fault, stored: bool
) -> None:
    rule = proxy.inject(calls("PutObject"), fault)

    with pytest.raises(StoreUnavailable):
        await store.put("k", BODY)

    assert rule.struck == 1
    assert [info.size_bytes async for info in store.list_all("")] == ([len(BODY)] if stored else [])


@pytest.mark.parametrize(
    "fault", [Reset("answer", after_bytes=1_000_000), Truncated(after_bytes=1_000_000), Truncated(0)]
)
async def test_a_read_that_is_cut_fails_after_so_many_bytes(
    proxy: FaultProxy, store: S3Store, fault: Reset | Truncated
) -> None:
    await store.put("k", BODY)
    proxy.inject(calls("GetObject"), fault)
    received = bytearray()

    with pytest.raises(StoreUnavailable):
        await _receive(store, received)

    assert BODY.startswith(received)
    assert len(received) <= fault.after_bytes
    assert b"".join([chunk async for chunk in store.read("k")]) == BODY


async def test_a_flipped_bit_arrives_on_the_other_side(proxy: FaultProxy, store: S3Store) -> None:
    await store.put("whole", BODY)
    proxy.inject(calls("PutObject"), Flipped("request", at_byte=2_000_000))
    proxy.inject(calls("GetObject", key="whole"), Flipped("answer", at_byte=100_000))
    await store.put("flipped", BODY)

    for key, at_byte in (("flipped", 2_000_000), ("whole", 100_000)):
        found = (await store.get(key)).body
        assert [index for index in range(len(BODY)) if found[index] != BODY[index]] == [at_byte]


async def test_a_duplicated_write_reaches_the_store_twice(proxy: FaultProxy, store: S3Store) -> None:
    proxy.inject(calls("PutObject"), Duplicated(after_seconds=0.3))
    await store.put("k", b"x")
    await store.delete("k")
    deadline = time.monotonic() + 10

    while not [info async for info in store.list_all("")]:
        assert time.monotonic() < deadline


async def test_a_store_whose_condition_is_dropped_lets_two_win(proxy: FaultProxy, store: S3Store) -> None:
    proxy.inject(calls("PutObject", conditional=True), HeaderDropped("if-none-match"), times=None)

    assert [await store.create("k", body) for body in (b"first", b"second")] == [True, True]


async def test_latency_and_a_narrow_line_take_their_time(proxy: FaultProxy, store: S3Store) -> None:
    await store.put("k", BODY)
    proxy.inject(calls("GetObject"), Throttled(bytes_per_second=len(BODY) / 0.5))
    proxy.inject(calls("HeadObject"), Delayed(seconds=0.001))
    started = time.monotonic()

    assert hashlib.sha256((await store.get("k")).body).digest() == hashlib.sha256(BODY).digest()
    assert time.monotonic() - started >= 0.45
    assert (await store.head("k")).size_bytes == len(BODY)


@pytest.mark.parametrize("fault", [Hung(), Stalled(after_bytes=1000)])
async def test_what_hangs_ends_when_it_is_released(proxy: FaultProxy, store: S3Store, fault: Fault) -> None:
    await store.put("k", BODY)
    proxy.inject(calls("GetObject"), fault)

    async with httpx.AsyncClient(trust_env=False, timeout=0.3) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get(_url(store))
        assert len((await client.get(_url(store), timeout=10)).content) == len(BODY)
    proxy.release()


async def test_a_refusing_proxy_is_away_and_comes_back_at_the_same_address(
    proxy: FaultProxy, store: S3Store
) -> None:
    with refusing(proxy), pytest.raises(StoreError):
        await store.put("k", b"x")

    await store.put("k", b"x")


async def test_rules_strike_the_calls_they_skip_to_and_no_more(proxy: FaultProxy, store: S3Store) -> None:
    struck: list[str] = []
    rule = proxy.inject(
        calls("PutObject"), Forwarded(), skip=1, times=2, then=lambda call: struck.append(call.key)
    )

    for key in "abcd":
        await store.put(key, b"x")

    assert struck == ["b", "c"]
    assert (rule.struck, rule.seen) == (2, 4)


async def test_an_injected_answer_keeps_the_clients_connection(proxy: FaultProxy, store: S3Store) -> None:
    with proxy.injecting(calls(), Answered(500, "InternalError")) as rule:
        with pytest.raises(StoreUnavailable):
            await store.head("k")
        with pytest.raises(StoreUnavailable):
            await store.list_page("")

    assert (await store.list_page("")).objects == ()
    assert rule.struck == 2


async def _receive(store: S3Store, received: bytearray) -> None:
    async for chunk in store.read("k"):
        received += chunk


def _url(store: S3Store) -> str:
    return store.presign_get("k", PresignedGet(expires_seconds=60))

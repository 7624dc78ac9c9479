"""Stores that support less than S3: what vodbucket does instead, through a proxy in front of moto."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from backend.core.backoff import Backoff
from backend.core.errors import (
    BucketMissing,
    ConfigurationError,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from backend.core.store.interface import MIN_PART_BYTES, PresignedGet
from backend.core.store.probes import require_creates
from backend.core.store.s3 import S3Buckets, bucket, ensure_buckets, open_buckets
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.resumable.concatenation import Span, compose
from tests.lab.buckets import fresh_buckets, store_settings
from tests.lab.faulty import HANG_UP, Answer, Request, error, faulty
from tests.lab.proxy import FaultProxy
from tests.lab.server import StoreServer, free_port
from tests.lab.wire_faults import Answered, Call, Fault, HeaderDropped, calls

REFUSALS = [(501, "NotImplemented"), (400, "InvalidArgument"), (405, "MethodNotAllowed")]
MIB = 1024**2


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "BACKOFF", Backoff(first_seconds=0.001, longest_seconds=0.001))


@pytest.fixture
def proxy(moto_server: StoreServer) -> Iterator[FaultProxy]:
    with FaultProxy(moto_server) as proxy:
        yield proxy


# Create-only writes


NO_CONDITIONS: list[Fault] = [
    *(Answered(status, code) for status, code in REFUSALS),
    Answered(412, "PreconditionFailed"),
    HeaderDropped("if-none-match"),
]
conditional = calls("PutObject", conditional=True)


@pytest.mark.parametrize("fault", NO_CONDITIONS, ids=str)
async def test_a_store_without_create_only_writes_is_refused_at_the_start(
    proxy: FaultProxy, fault: Fault
) -> None:
    proxy.inject(conditional, fault, times=None)

    async with fresh_buckets(proxy.server) as buckets:
        with pytest.raises(ConfigurationError, match=r"does not honour create-only writes.*ONLY_WORKER=true"):
            await require_creates(buckets)


@pytest.mark.parametrize("fault", NO_CONDITIONS, ids=str)
async def test_create_only_writes_are_emulated_for_a_single_worker(proxy: FaultProxy, fault: Fault) -> None:
    proxy.inject(conditional, fault, times=None)
    alone = store_settings(proxy.server).model_copy(update={"only_worker": True})

    async with open_buckets(alone) as buckets:
        await ensure_buckets(buckets)
        await require_creates(buckets, writers=8)
        outcomes = await asyncio.gather(*(buckets.raw.create("k", bytes([n])) for n in range(20)))

        assert outcomes.count(True) == 1
        assert (await buckets.raw.get("k")).body == bytes([outcomes.index(True)])
        assert await buckets.raw.create("k", bytes([outcomes.index(True)])) is True


async def test_a_single_worker_still_sends_the_condition(proxy: FaultProxy) -> None:
    alone = store_settings(proxy.server).model_copy(update={"only_worker": True})

    async with open_buckets(alone) as buckets:
        await ensure_buckets(buckets)
        await buckets.raw.create("k", b"mine")

    assert [call for call in proxy.calls if conditional(call)]


# Digests


def _has_foreign_digest(call: Call) -> bool:
    return any(
        name.startswith(("x-amz-checksum-", "x-amz-sdk-checksum", "x-amz-trailer", "content-encoding"))
        for name in call.headers
    )


def _needs_md5(call: Call) -> bool:
    needs = (
        call.operation in {"DeleteObjects", "PutBucket"}
        and {"delete", "cors", "lifecycle"} & call.query.keys()
    )
    return bool(needs) and "content-md5" not in call.headers


async def test_bucket_operations_carry_content_md5_and_no_request_another_digest(proxy: FaultProxy) -> None:
    proxy.inject(_needs_md5, Answered(400, "MissingContentMD5"), times=None)
    proxy.inject(_has_foreign_digest, Answered(400, "InvalidArgument"), times=None)

    async with fresh_buckets(proxy.server) as buckets:
        store = buckets.video
        await store.allow_origins(["*"])
        await store.abort_uploads_after(8)
        await store.put("a", bytes(300_000))
        await store.create("b", b"b")
        upload_id = await store.open_upload("c")
        parts = [
            await store.put_part("c", upload_id, 1, bytes(MIN_PART_BYTES)),
            await store.copy_part("c", upload_id, 2, "a", 0, 300_000),
        ]
        await store.complete_upload("c", upload_id, parts)
        failed = await store.delete_batch(["a", "b", "c"])

        assert failed == []
        assert [info.key async for info in store.list_all("")] == []


@pytest.mark.parametrize(("status", "code"), [*REFUSALS, (404, "NoSuchKey"), (403, "AccessDenied")])
async def test_objects_are_deleted_one_at_a_time_if_the_store_rejects_batches(
    proxy: FaultProxy, status: int, code: str
) -> None:
    proxy.inject(calls("DeleteObjects"), Answered(status, code), times=None)
    keys = [f"k{number}" for number in range(20)]

    async with fresh_buckets(proxy.server) as buckets:
        for key in keys:
            await buckets.raw.put(key, b"")
        await buckets.raw.delete_many(keys)

        assert [info.key async for info in buckets.raw.list_all("")] == []


@pytest.mark.parametrize(
    ("answer", "raised"),
    [(error(503, "SlowDown"), StoreUnavailable), (error(404, "NoSuchBucket"), BucketMissing)],
)
async def test_a_batch_that_fails_for_another_reason_is_not_deleted_one_at_a_time(
    answer: Answer, raised: type[StoreError]
) -> None:
    async with faulty() as lab, open_buckets(store_settings(lab.server), sdk_attempts=1) as buckets:
        lab.behaviour = lambda request: answer
        with pytest.raises(raised):
            await buckets.raw.delete_many(["a", "b"])
        assert lab.count("DELETE") == 0


# Copies of ranges


def _copies(call: Call) -> bool:
    return "x-amz-copy-source" in call.headers


@pytest.mark.parametrize(
    "fault", [*(Answered(*refusal) for refusal in REFUSALS), HeaderDropped("x-amz-copy-source")], ids=str
)
async def test_joined_pieces_are_read_and_sent_if_the_store_cannot_copy_ranges(
    proxy: FaultProxy, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.core.uploads.resumable.concatenation.COPY_PART_BYTES", 5 * MIB)
    proxy.inject(_copies, fault, times=None)
    pieces = [bytes([number]) * (7 * MIB) for number in range(2)]

    async with fresh_buckets(proxy.server) as buckets:
        for number, piece in enumerate(pieces):
            await buckets.raw.put(f"{number}", piece)
        spans = [Span(f"{number}", 0, len(piece)) for number, piece in enumerate(pieces)]
        await compose(buckets.raw, "whole", spans, PartBuffers(16 * MIB))

        assert (await buckets.raw.get("whole")).body == b"".join(pieces)


# A clock that differs from ours


class Clockwork:
    """A store whose clock is ahead of ours. Like S3, it refuses requests that are 15 minutes off."""

    def __init__(self, ahead: timedelta) -> None:
        self.ahead = ahead

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def __call__(self, request: Request) -> Answer:
        signed_at = _time(request.headers["x-amz-date"])
        date = {"Date": format_datetime(self.now, usegmt=True)}
        if abs(self.now - signed_at) > timedelta(minutes=15):
            refused = error(403, "RequestTimeTooSkewed")
            return Answer(403, refused.body, date)
        return Answer(
            body=b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>", headers=date
        )


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


@pytest.mark.parametrize("ahead", [timedelta(minutes=20), timedelta(minutes=-20), timedelta(days=400)])
@pytest.mark.parametrize("first", ["head", "list_page", "create", "delete_many"])
async def test_requests_are_signed_by_the_stores_clock(ahead: timedelta, first: str) -> None:
    requests: dict[str, Callable[[S3Buckets], Awaitable[object]]] = {
        "head": lambda buckets: buckets.raw.head("k"),
        "list_page": lambda buckets: buckets.raw.list_page(""),
        "create": lambda buckets: buckets.raw.create("k", b"mine"),
        "delete_many": lambda buckets: buckets.raw.delete_many(["a", "b"]),
    }
    async with faulty() as lab, open_buckets(store_settings(lab.server), sdk_attempts=1) as buckets:
        lab.behaviour = clockwork = Clockwork(ahead)
        await requests[first](buckets)
        assert len(lab.requests) == 2  # refused, and signed again
        await requests[first](buckets)
        assert len(lab.requests) == 3
        url = buckets.video.presign_get("k", PresignedGet(900))

    query = parse_qs(urlsplit(url).query)
    starts = _time(query["X-Amz-Date"][0])
    ends = starts + timedelta(seconds=int(query["X-Amz-Expires"][0]))
    assert timedelta(seconds=50) < clockwork.now - starts < timedelta(seconds=70)
    assert timedelta(seconds=890) < ends - clockwork.now < timedelta(seconds=910)


async def test_a_clock_that_is_set_right_is_noticed() -> None:
    async with faulty() as lab, open_buckets(store_settings(lab.server), sdk_attempts=1) as buckets:
        for ahead in (timedelta(minutes=20), timedelta(0), timedelta(minutes=-20)):
            lab.behaviour = clockwork = Clockwork(ahead)
            await buckets.raw.list_page("")
            assert abs(clockwork.now - _time(lab.requests[-1].headers["x-amz-date"])) < timedelta(seconds=5)


async def test_a_refusal_that_has_nothing_to_do_with_the_clock_is_not_sent_again() -> None:
    async with faulty() as lab, open_buckets(store_settings(lab.server), sdk_attempts=1) as buckets:
        lab.behaviour = lambda request: error(403, "AccessDenied")
        with pytest.raises(StoreDenied):
            await buckets.raw.list_page("")
        assert len(lab.requests) == 1


async def test_clocks_that_differ_by_seconds_do_not_change_signatures() -> None:
    async with faulty() as lab, open_buckets(store_settings(lab.server)) as buckets:
        lab.behaviour = Clockwork(timedelta(seconds=20))
        how = PresignedGet(900, signed_at=datetime(2026, 11, 21, 12, tzinfo=UTC))
        before = buckets.video.presign_get("k", how)
        await buckets.raw.list_page("")
        assert buckets.video.presign_get("k", how) == before


# What is not a store


@pytest.mark.parametrize(
    "answer",
    [
        Answer(404, b'{"error": "Nothing was found at this address.", "code": "not_found"}'),
        Answer(200, b"<!doctype html><title>vodbucket</title>"),
        Answer(200, b"<html><body>a well-formed page</body></html>"),
        Answer(200, b"ok"),
    ],
)
async def test_an_address_that_is_not_a_stores_is_recognised(answer: Answer) -> None:
    async with faulty() as lab, open_buckets(store_settings(lab.server), sdk_attempts=1) as buckets:
        lab.behaviour = lambda request: answer
        with pytest.raises(StoreUnavailable, match="not that of an S3 store; check S3_ENDPOINT_URL"):
            await ensure_buckets(buckets)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        ("AuthorizationHeaderMalformed", "AWS_REGION"),
        ("InvalidToken", "AWS_SESSION_TOKEN"),
        ("AccessDenied", "the access key may not do this"),
    ],
)
async def test_refused_credentials_are_named_by_their_setting(code: str, said: str) -> None:
    async with faulty() as lab, open_buckets(store_settings(lab.server)) as buckets:
        lab.behaviour = lambda request: error(403, code)
        with pytest.raises(StoreDenied, match=said) as caught:
            await ensure_buckets(buckets)
    assert "403 403" not in caught.value.message


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_unreachable_store_is_named_with_the_cause(scheme: str) -> None:
    nowhere = StoreServer("nowhere", f"{scheme}://127.0.0.1:{free_port()}", "test", "test")

    async with open_buckets(store_settings(nowhere), sdk_attempts=1) as buckets:
        with pytest.raises(
            StoreUnavailable, match=f"{nowhere.endpoint_url} cannot be reached: Connection refused"
        ):
            await ensure_buckets(buckets)


async def test_tls_to_a_port_without_tls_is_named(moto_server: StoreServer) -> None:
    tls = StoreServer("tls", moto_server.endpoint_url.replace("http://", "https://"), "test", "test")

    async with open_buckets(store_settings(tls), sdk_attempts=1) as buckets:
        with pytest.raises(StoreUnavailable, match=f"{tls.endpoint_url} does not speak TLS.*use http://"):
            await ensure_buckets(buckets)


async def test_a_port_that_closes_plain_connections_is_named_with_https() -> None:
    async with faulty() as lab, open_buckets(store_settings(lab.server), sdk_attempts=1) as buckets:
        lab.behaviour = lambda request: HANG_UP
        with pytest.raises(StoreUnavailable, match=f"{lab.server.endpoint_url} closed.*use https://"):
            await ensure_buckets(buckets)

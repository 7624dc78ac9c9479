"""How the S3 store handles responses that are lost, late, truncated or wrong."""

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest

from backend.core.errors import (
    BucketMissing,
    ClockSkewed,
    ConfigurationError,
    SourceChanged,
    StoreDenied,
    StoreError,
    StoreRejected,
    StoreUnavailable,
    UploadVanished,
)
from backend.core.store.interface import PresignedGet, Store, UploadedPart
from backend.core.store.s3 import S3Buckets, S3Store, configure_cors, connection, ensure_buckets, open_buckets
from tests.lab.buckets import store_settings
from tests.lab.faulty import HANG_UP, Answer, FaultyServer, Request, error, faulty
from tests.lab.server import StoreServer, free_port

MINE = b"my nonce"
PARTS = [UploadedPart(1, "a" * 32, 7), UploadedPart(2, "b" * 32, 3)]
TAKEN = error(412, "PreconditionFailed")
NO_BUCKET = error(404, "NoSuchBucket")
EMPTY_LIST = Answer(body=b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")


@pytest.fixture
async def lab() -> AsyncIterator[FaultyServer]:
    async with faulty() as server:
        yield server


@pytest.fixture
async def opened(lab: FaultyServer) -> AsyncIterator[S3Buckets]:
    async with open_buckets(store_settings(lab.server), sdk_attempts=2) as buckets:
        yield buckets


@pytest.fixture
def store(opened: S3Buckets) -> S3Store:
    return opened.raw


class Register:
    """One object with create-only writes. The first responses to PUT can be replaced."""

    def __init__(self, *puts: tuple[bool, Answer], body: bytes | None = None) -> None:
        self._puts = list(puts)
        self.body = body

    def __call__(self, request: Request) -> Answer:
        if request.method == "GET":
            return error(404, "NoSuchKey") if self.body is None else Answer(body=self.body)
        applied, answer = self._puts.pop(0) if self._puts else (True, None)
        if self.body is not None:
            return answer or TAKEN
        self.body = request.body if applied else None
        return answer or Answer()


@pytest.mark.parametrize(
    "lost",
    [HANG_UP, error(500, "InternalError"), error(503, "SlowDown"), error(409, "ConditionalRequestConflict")],
)
async def test_a_create_whose_response_was_lost_is_recognised_as_ours(
    lab: FaultyServer, store: Store, lost: Answer
) -> None:
    lab.behaviour = Register((True, lost))

    assert await store.create("k", MINE) is True


async def test_a_412_after_our_own_success_is_recognised_as_ours(lab: FaultyServer, store: Store) -> None:
    lab.behaviour = Register(body=MINE)

    assert await store.create("k", MINE) is True


async def test_a_412_for_a_rivals_object_means_we_lost(lab: FaultyServer, store: Store) -> None:
    lab.behaviour = Register(body=b"the rival's nonce")

    assert await store.create("k", MINE) is False


@pytest.mark.parametrize(
    "refusal", [error(409, "ConditionalRequestConflict"), error(503, "SlowDown"), HANG_UP, TAKEN]
)
async def test_a_create_that_nobody_won_is_retried(lab: FaultyServer, store: Store, refusal: Answer) -> None:
    lab.behaviour = register = Register((False, refusal))

    assert await store.create("k", MINE) is True
    assert register.body == MINE


async def test_a_create_that_never_succeeds_raises_unavailable(lab: FaultyServer, store: Store) -> None:
    lab.behaviour = Register(*[(False, error(409, "ConditionalRequestConflict"))] * 50)

    with pytest.raises(StoreUnavailable):
        await store.create("k", MINE)
    assert lab.count("PUT") == 5


async def test_the_sdk_never_retries_a_conditional_put_by_itself(lab: FaultyServer, store: Store) -> None:
    lab.behaviour = Register((False, error(503, "SlowDown")))

    await store.create("k", MINE)

    assert [request.method for request in lab.requests] == ["PUT", "GET", "PUT"]
    assert all(request.headers["if-none-match"] == "*" for request in lab.requests if request.method == "PUT")


async def test_a_denied_create_is_not_retried(lab: FaultyServer, store: Store) -> None:
    lab.behaviour = lambda request: error(403, "AccessDenied")

    with pytest.raises(StoreDenied):
        await store.create("k", MINE)
    assert len(lab.requests) == 1


async def test_a_store_without_conditional_writes_is_an_error_and_is_not_retried(
    lab: FaultyServer, store: Store
) -> None:
    lab.behaviour = lambda request: error(501, "NotImplemented")

    with pytest.raises(StoreRejected):
        await store.create("k", MINE)
    assert len(lab.requests) == 1


async def test_a_put_is_retried_after_a_transient_error(lab: FaultyServer, store: Store) -> None:
    answers = [error(503, "SlowDown"), Answer()]
    lab.behaviour = lambda request: answers.pop(0)
    body = bytes(range(256)) * 4096

    await store.put("k", body)

    assert [request.body == body for request in lab.requests] == [True, True]


@pytest.mark.parametrize("cut_to", [0, 1, 99_999])
async def test_a_truncated_body_never_looks_complete(lab: FaultyServer, store: Store, cut_to: int) -> None:
    lab.behaviour = lambda request: Answer(
        206, b"x" * 100_000, {"Content-Range": "bytes 0-99999/100000"}, cut_to
    )

    with pytest.raises(StoreUnavailable):
        async for _ in store.read("k"):
            pass
    with pytest.raises(StoreUnavailable):
        await store.get("k")


async def test_reading_from_an_offset_fails_if_the_store_ignores_ranges(
    lab: FaultyServer, store: Store
) -> None:
    lab.behaviour = lambda request: Answer(200, b"0123456789")

    with pytest.raises(StoreUnavailable, match="ignored the requested range"):
        async for _ in store.read("k", 5):
            pass


async def test_etags_match_with_or_without_quotes(lab: FaultyServer, store: Store) -> None:
    lab.behaviour = lambda request: Answer(206, b"x", {"Content-Range": "bytes 0-0/1", "ETag": "abc"})

    assert [chunk async for chunk in store.read("k", etag="abc")] == [b"x"]
    with pytest.raises(SourceChanged):
        async for _ in store.read("k", etag="def"):
            pass


class Completing:
    """Answers CompleteMultipartUpload, HEAD of the object and ListParts."""

    def __init__(self, answer: Answer, *, size_bytes: int | None, upload_open: bool) -> None:
        self._answer = answer
        self._size_bytes = size_bytes
        self._upload_open = upload_open

    def __call__(self, request: Request) -> Answer:
        if request.method == "POST":
            return self._answer
        if request.method == "HEAD":
            if self._size_bytes is None:
                return Answer(404)
            return Answer(headers={"Content-Length": str(self._size_bytes)})
        return Answer(body=b"<ListPartsResult/>") if self._upload_open else error(404, "NoSuchUpload")


DOUBTFUL = [
    pytest.param(error(200, "InternalError"), id="200 with an error"),
    pytest.param(error(500, "InternalError"), id="500"),
    pytest.param(HANG_UP, id="lost"),
]


@pytest.mark.parametrize("answer", [*DOUBTFUL, pytest.param(error(404, "NoSuchUpload"), id="404")])
async def test_an_unconfirmed_completion_succeeds_if_the_object_exists(
    lab: FaultyServer, store: Store, answer: Answer
) -> None:
    lab.behaviour = Completing(answer, size_bytes=10, upload_open=False)

    await store.complete_upload("k", "u", PARTS)

    assert lab.count("POST") == 1


@pytest.mark.parametrize("answer", [*DOUBTFUL, pytest.param(error(404, "NoSuchUpload"), id="404")])
@pytest.mark.parametrize("size_bytes", [None, 9])
async def test_an_unconfirmed_completion_has_vanished_if_upload_and_object_are_gone(
    lab: FaultyServer, store: Store, answer: Answer, size_bytes: int | None
) -> None:
    lab.behaviour = Completing(answer, size_bytes=size_bytes, upload_open=False)

    with pytest.raises(UploadVanished):
        await store.complete_upload("k", "u", PARTS)


@pytest.mark.parametrize("answer", DOUBTFUL)
async def test_a_failed_completion_is_retried_while_the_upload_is_open(
    lab: FaultyServer, store: Store, answer: Answer
) -> None:
    lab.behaviour = Completing(answer, size_bytes=None, upload_open=True)

    with pytest.raises(StoreUnavailable):
        await store.complete_upload("k", "u", PARTS)
    assert lab.count("POST") == 5


async def test_a_completion_without_an_etag_is_accepted(lab: FaultyServer, store: Store) -> None:
    xml = b"<CompleteMultipartUploadResult><ETag></ETag></CompleteMultipartUploadResult>"
    lab.behaviour = Completing(Answer(body=xml), size_bytes=10, upload_open=False)

    await store.complete_upload("k", "u", PARTS)


async def test_an_object_that_a_batch_refused_is_deleted_individually(
    lab: FaultyServer, store: Store
) -> None:
    refused = b"<DeleteResult><Error><Key>b</Key><Code>InternalError</Code></Error></DeleteResult>"
    lab.behaviour = lambda request: Answer(body=refused) if request.method == "POST" else Answer(204)

    await store.delete_many(["a", "b"])

    assert [request.target.rpartition("/")[2] for request in lab.requests if request.method == "DELETE"] == [
        "b"
    ]


async def test_a_batch_delete_that_is_denied_is_an_error(lab: FaultyServer, store: Store) -> None:
    refused = b"<DeleteResult><Error><Key>b</Key><Code>AccessDenied</Code></Error></DeleteResult>"
    denied = error(403, "AccessDenied")
    lab.behaviour = lambda request: Answer(body=refused) if request.method == "POST" else denied

    with pytest.raises(StoreDenied):
        await store.delete_many(["a", "b"])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (error(403, "AccessDenied"), StoreDenied),
        (error(403, "RequestTimeTooSkewed"), ClockSkewed),
        (error(400, "InvalidAccessKeyId"), StoreDenied),
        (error(400, "RequestTimeout"), StoreUnavailable),
        (error(404, "NoSuchBucket"), BucketMissing),
        (error(400, "InvalidArgument"), StoreRejected),
        (error(501, "NotImplemented"), StoreRejected),
        (Answer(200, b"this is not XML"), StoreUnavailable),
        (Answer(500, b"<html>a proxy's page</html>"), StoreUnavailable),
    ],
)
async def test_every_error_response_becomes_one_of_our_errors(
    lab: FaultyServer, store: Store, answer: Answer, expected: type[StoreError]
) -> None:
    lab.behaviour = lambda request: answer

    with pytest.raises(StoreError) as caught:
        await store.list_page("")
    assert type(caught.value) is expected
    assert caught.value.__cause__ is not None


async def test_an_unreachable_store_is_unavailable() -> None:
    nowhere = StoreServer("nowhere", f"http://127.0.0.1:{free_port()}", "test", "test")

    async with open_buckets(store_settings(nowhere), sdk_attempts=1) as buckets:
        with pytest.raises(StoreUnavailable):
            await buckets.raw.create("k", MINE)


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("call", ["get", "list_page", "read"])
async def test_a_response_with_broken_chunks_does_not_hang(
    lab: FaultyServer, monkeypatch: pytest.MonkeyPatch, call: str, status: int
) -> None:
    for name in ("CONNECT_TIMEOUT_SECONDS", "READ_TIMEOUT_SECONDS"):
        monkeypatch.setattr(connection, name, 0.3)
    lab.behaviour = lambda request: Answer(status, MINE, broken_chunks=True)

    async with open_buckets(store_settings(lab.server), sdk_attempts=1) as buckets, asyncio.timeout(10):
        with pytest.raises(StoreUnavailable):
            await (anext(buckets.raw.read("k")) if call == "read" else getattr(buckets.raw, call)("k"))


async def test_a_list_without_a_date_header_is_rejected(lab: FaultyServer, store: Store) -> None:
    lab.behaviour = lambda request: Answer(body=EMPTY_LIST.body, headers={"Date": ""})

    with pytest.raises(StoreUnavailable, match="no valid Date header"):
        await store.list_page("")


async def test_errors_contain_no_signature(lab: FaultyServer, store: Store) -> None:
    lab.behaviour = lambda request: error(403, "SignatureDoesNotMatch")

    with pytest.raises(StoreDenied) as caught:
        await store.get("k")
    assert "Signature=" not in caught.value.message


async def test_a_bucket_that_another_process_creates_at_the_same_time_is_used(
    lab: FaultyServer, opened: S3Buckets
) -> None:
    lists = [NO_BUCKET, EMPTY_LIST, EMPTY_LIST]
    owned = error(409, "BucketAlreadyOwnedByYou")
    lab.behaviour = lambda request: lists.pop(0) if request.method == "GET" else owned

    await ensure_buckets(opened)


async def test_a_bucket_owned_by_someone_else_is_denied(lab: FaultyServer, opened: S3Buckets) -> None:
    taken = error(409, "BucketAlreadyExists")
    lab.behaviour = lambda request: NO_BUCKET if request.method == "GET" else taken

    with pytest.raises(StoreDenied):
        await ensure_buckets(opened)


@pytest.mark.parametrize("answer", [error(501, "NotImplemented"), error(403, "AccessDenied")])
async def test_a_store_that_refuses_cors_rules_is_still_used(
    lab: FaultyServer, opened: S3Buckets, answer: Answer
) -> None:
    lab.behaviour = lambda request: answer

    assert await configure_cors(opened) is False


async def test_an_access_key_without_its_secret_is_a_configuration_error(lab: FaultyServer) -> None:
    half = store_settings(lab.server).model_copy(update={"aws_secret_access_key": None})

    with pytest.raises(ConfigurationError, match="AWS_SECRET_ACCESS_KEY"):
        async with open_buckets(half):
            pass


async def test_presigned_urls_use_the_public_endpoint(lab: FaultyServer) -> None:
    public = store_settings(lab.server).model_copy(
        update={"s3_public_endpoint_url": "https://media.example:8443/", "s3_video_bucket": "films"}
    )

    async with open_buckets(public) as buckets:
        url = buckets.video.presign_get("a b.mp4", PresignedGet(60))

    assert url.startswith("https://media.example:8443/films/a%20b.mp4?X-Amz-Algorithm=AWS4-HMAC-SHA256&")


@pytest.mark.parametrize(
    ("bucket", "start"),
    [
        ("films", "https://films.s3.eu-west-1.amazonaws.com/k?"),
        ("my.films", "https://s3.eu-west-1.amazonaws.com/my.films/k?"),
    ],
)
async def test_presigned_urls_for_aws_have_the_bucket_in_the_host_name(
    lab: FaultyServer, bucket: str, start: str
) -> None:
    aws = store_settings(lab.server).model_copy(
        update={"s3_endpoint_url": None, "s3_video_bucket": bucket, "aws_region": "eu-west-1"}
    )

    async with open_buckets(aws) as buckets:
        assert buckets.video.presign_get("k", PresignedGet(60)).startswith(start)


async def test_readers_that_stop_early_return_their_connections(lab: FaultyServer, store: Store) -> None:
    body = b"x" * 1_000_000
    lab.behaviour = lambda request: Answer(206, body, {"Content-Range": "bytes 0-999999/1000000"})

    for _ in range(70):  # more than the pool holds
        reading = store.read("k")
        await anext(reading)
        await reading.aclose()
    gc.collect()

    assert lab.count("GET") == 70

"""The doctor detects responses that browsers cannot use, from a server that sends them on purpose."""

from collections.abc import AsyncIterator

import pytest

from backend.core.store.interface import PresignedGet
from backend.core.store.probes import Check, Verdict
from tests.lab.faulty import Answer, Behaviour, FaultyServer, Request, faulty
from tests.lab.memory_store import MemoryStore
from vodbucket.doctor.playback import BODY, check_playback

ORIGIN = "https://videos.example"
ALLOWED = {
    "Access-Control-Allow-Origin": ORIGIN,
    "Access-Control-Expose-Headers": "Content-Length, Content-Range, ETag",
}


class ServedElsewhere(MemoryStore):
    """A store whose objects are served by the test's server."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def presign_get(self, key: str, how: PresignedGet) -> str:
        age = "old" if how.signed_at else "new"
        return f"{self.url}/{key}?signed={age}&signature=right"


@pytest.fixture
async def server() -> AsyncIterator[FaultyServer]:
    async with faulty() as running:
        yield running


def right(request: Request) -> Answer:
    """Respond as a correct store does."""
    if request.method == "OPTIONS":
        return Answer(200, headers=ALLOWED)
    if not request.target.endswith("signed=new&signature=right"):
        return Answer(403)
    if wanted := request.headers.get("range"):
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        part = BODY[int(first) : int(last) + 1]
        return Answer(206, part, {**ALLOWED, "Content-Range": f"bytes {first}-{last}/{len(BODY)}"})
    return Answer(200, BODY, ALLOWED)


async def _checked(server: FaultyServer, behaviour: Behaviour) -> dict[str, Check]:
    return {check.name: check async for check in check_playback(_serving(server, behaviour), [ORIGIN])}


def _serving(server: FaultyServer, behaviour: Behaviour) -> ServedElsewhere:
    server.behaviour = behaviour
    return ServedElsewhere(server.server.endpoint_url)


def _failed(checks: dict[str, Check]) -> dict[str, str]:
    return {name: check.measured for name, check in checks.items() if check.verdict is Verdict.FAIL}


async def test_correct_store_passes(server: FaultyServer) -> None:
    checks = await _checked(server, right)

    assert _failed(checks) == {}
    assert len(checks) == 6


async def test_store_with_public_access_fails(server: FaultyServer) -> None:
    def open_to_all(request: Request) -> Answer:
        target = f"{request.target.partition('?')[0]}?signed=new&signature=right"
        return right(Request(request.method, target, request.headers, request.body))

    checks = await _checked(server, open_to_all)

    assert _failed(checks) == dict.fromkeys(
        ("altered signature", "expired URL", "unsigned URL"), "not rejected: status 200"
    )


async def test_ignored_ranges_fail(server: FaultyServer) -> None:
    def whole(request: Request) -> Answer:
        return right(Request(request.method, request.target, {}, request.body))

    assert _failed(await _checked(server, whole)) == {
        "range of a presigned URL": "status 200, no Content-Range"
    }


async def test_wrong_range_fails(server: FaultyServer) -> None:
    def shifted(request: Request) -> Answer:
        answer = right(request)
        return Answer(answer.status, answer.body[::-1], answer.headers) if answer.status == 206 else answer

    assert "range of a presigned URL" in _failed(await _checked(server, shifted))


async def test_another_service_at_the_public_address_fails(server: FaultyServer) -> None:
    checks = await _checked(server, lambda request: Answer(200, b"<html>Welcome</html>"))

    assert _failed(checks)["presigned URL"] == "status 200 with a different body"


@pytest.mark.parametrize(
    ("preflight", "headers", "measured"),
    [
        (403, ALLOWED, "the preflight got status 403"),
        (200, {}, "the preflight got status 200; pages cannot read the response"),
        (
            200,
            {"Access-Control-Allow-Origin": "https://another.example"},
            "the preflight got status 200; pages cannot read the response",
        ),
        (200, {"Access-Control-Allow-Origin": "*"}, "pages cannot read content-length, content-range"),
        (
            200,
            {**ALLOWED, "Access-Control-Expose-Headers": "content-length"},
            "pages cannot read content-range",
        ),
    ],
)
async def test_cors_rules_that_exclude_a_page_fail(
    server: FaultyServer, preflight: int, headers: dict[str, str], measured: str
) -> None:
    def shut(request: Request) -> Answer:
        answer = right(request)
        if request.method == "OPTIONS":
            return Answer(preflight, headers=headers)
        kept = {name: value for name, value in answer.headers.items() if name not in ALLOWED}
        return Answer(answer.status, answer.body, {**kept, **headers})

    assert _failed(await _checked(server, shut)) == {f"CORS for {ORIGIN}": measured}


async def test_closed_connection_is_a_failed_check(server: FaultyServer) -> None:
    requests = 0

    def hang_up_later(request: Request) -> Answer:
        nonlocal requests
        requests += 1
        return right(request) if requests == 1 else Answer(status=0)

    checks = [
        check
        async for check in check_playback(_serving(server, hang_up_later), [ORIGIN])
        if check.verdict is Verdict.FAIL
    ]

    assert [check.measured for check in checks] == ["the store stopped responding (ServerDisconnectedError)"]


@pytest.mark.parametrize(
    ("body", "advice"),
    [
        (b"<Error><Code>RequestTimeTooSkewed</Code></Error>", "NTP"),
        (b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>", "NTP"),
        (b"<Error><Code>SignatureDoesNotMatch</Code></Error>", "S3_PUBLIC_ENDPOINT_URL"),
    ],
)
async def test_a_refused_url_is_explained_by_clock_or_address(
    server: FaultyServer, body: bytes, advice: str
) -> None:
    checks = await _checked(server, lambda request: Answer(403, body))

    assert checks["presigned URL"].measured.startswith("status 403 ")
    assert advice in checks["presigned URL"].advice

"""A store that answers badly, late or not at all while videos are uploaded and worked on."""

import pytest

from backend.core.store.s3 import connection
from tests.faults.lab import MIB, WireLab, film
from tests.faults.registry import row
from tests.lab.wire_faults import Answered, Delayed, Fault, Hung, Reset, Throttled, Truncated, calls

pytestmark = [pytest.mark.heavy, pytest.mark.spread]

LARGE = 17 * MIB
"""Three parts."""
MEDIUM = 9 * MIB
SMALL = 3 * MIB

RIDDEN_OUT = "unharmed"


async def _upload_and_work(lab: WireLab, fault: Fault, probability: float, size_bytes: int = LARGE) -> int:
    """Strike that share of all requests of an upload and its job."""
    body = film(size_bytes)
    rule = lab.proxy.inject(calls(), fault, times=None, probability=probability)
    video = await lab.upload(body)
    await lab.drain()
    await lab.assert_done((video, body), attempt=1)
    assert lab.attempts == 1
    return rule.struck


@row("internal-error", fault="half of requests get 500 InternalError", expected=RIDDEN_OUT)
async def test_survives_half_of_all_requests_failing(lab: WireLab) -> int:
    return await _upload_and_work(lab, Answered(500, "InternalError"), 0.5, MEDIUM)


@row("slow-down", fault="half of requests get 503 SlowDown", expected=RIDDEN_OUT)
async def test_survives_slow_down_on_half_of_all_requests(lab: WireLab) -> int:
    return await _upload_and_work(lab, Answered(503, "SlowDown"), 0.5, MEDIUM)


@row(
    "reset-early",
    fault="3 in 10 connections reset before the store sees the request",
    expected=RIDDEN_OUT,
)
async def test_survives_resets_before_the_store_gets_the_request(lab: WireLab) -> int:
    return await _upload_and_work(lab, Reset("request"), 0.3)


@row(
    "reset-in-request",
    fault="every third request body cut by a reset",
    expected=RIDDEN_OUT,
)
async def test_survives_request_bodies_cut_by_resets(lab: WireLab) -> int:
    body = film(LARGE)
    fault = Reset("request", after_bytes=MIB // 2)
    rule = lab.proxy.inject(calls("PutObject", "UploadPart"), fault, times=None, probability=0.33)
    video = await lab.upload(body)
    await lab.drain()
    await lab.assert_done((video, body), attempt=1)
    assert lab.attempts == 1
    return rule.struck


@row("reset-in-answer", fault="half of answers cut by a reset", expected=RIDDEN_OUT)
async def test_survives_responses_cut_by_resets(lab: WireLab) -> int:
    return await _upload_and_work(lab, Reset("answer", after_bytes=100), 0.5, SMALL)


@row("truncated", fault="half of answers end early, orderly closed", expected=RIDDEN_OUT)
async def test_survives_truncated_responses(lab: WireLab) -> int:
    return await _upload_and_work(lab, Truncated(after_bytes=100), 0.5, SMALL)


@row("latency", fault="requests take up to 0.2 s longer", expected=RIDDEN_OUT)
async def test_works_with_high_latency(lab: WireLab) -> int:
    return await _upload_and_work(lab, Delayed(seconds=0.2), 1)


@row("narrow-line", fault="bodies move at 10 MB/s", expected=RIDDEN_OUT)
async def test_works_with_low_bandwidth(lab: WireLab) -> int:
    return await _upload_and_work(lab, Throttled(bytes_per_second=10e6), 1)


@row(
    "hang",
    fault="a part, an output, a claim, a LIST and a GET never answered",
    expected=RIDDEN_OUT,
)
async def test_retries_requests_that_get_no_response(lab: WireLab, monkeypatch: pytest.MonkeyPatch) -> int:
    for name in ("READ_TIMEOUT_SECONDS", "CREATE_TIMEOUT_SECONDS", "WRITE_TIMEOUT_SECONDS"):
        monkeypatch.setattr(connection, name, 3.0)
    body = film(LARGE)
    rules = [
        lab.proxy.inject(matches, Hung())
        for matches in (
            calls("UploadPart", key="uploads/"),
            calls("PutObject", key="/media/"),
            calls("PutObject", key="leases/", conditional=True),
            calls("ListObjectsV2"),
            calls("GetObject", key="uploads/"),
        )
    ]
    video = await lab.upload(body)
    await lab.drain()
    await lab.assert_done((video, body), attempt=1)
    return sum(rule.struck for rule in rules)


@row(
    "refused",
    fault="connections refused for 5 s, during upload and job",
    expected=RIDDEN_OUT,
)
async def test_survives_refused_connections(lab: WireLab) -> int:
    body = film(LARGE)
    upload_struck = lab.proxy.inject(calls("UploadPart"), Delayed(0), skip=1, then=lambda _: lab.be_away(5))
    video = await lab.upload(body)
    job_struck = lab.proxy.inject(
        calls("PutObject", key="/media/"), Delayed(0), skip=3, then=lambda _: lab.be_away(5)
    )
    await lab.drain()
    await lab.assert_done((video, body), attempt=1)
    return upload_struck.struck + job_struck.struck

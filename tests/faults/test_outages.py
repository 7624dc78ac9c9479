"""A store that is away: for a while, for too long, paused, killed and started again."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from backend.core import keys
from backend.core.records import Outputs
from tests.faults.lab import MIB, WireLab, film
from tests.faults.registry import row
from tests.lab.rgw import RadosGateway
from tests.lab.wire_faults import Answered, Call, Delayed, Rule, calls

pytestmark = [pytest.mark.heavy, pytest.mark.spread]

LARGE = 17 * MIB
OUTAGE_SECONDS = 60


@row(
    "outage-of-60-s",
    fault="store unreachable for 60 s, during upload and job",
    expected="acknowledged; first attempt completes",
)
async def test_upload_and_job_survive_outage_of_a_minute(lab: WireLab) -> int:
    first, second = film(LARGE, 1), film(LARGE, 2)
    worked_on = await lab.upload(first)
    in_the_job = asyncio.Event()
    loop = asyncio.get_running_loop()
    begun = lab.proxy.inject(
        calls("PutObject", key="/media/"),
        Delayed(0),
        skip=1,
        then=lambda _: loop.call_soon_threadsafe(in_the_job.set),
    )
    # The job takes ten seconds at least, so that it is in its middle when the upload is.
    working = asyncio.create_task(
        lab.drain(lease_seconds=60, seconds_per_segment=0.6, seconds=OUTAGE_SECONDS + 90)
    )
    await in_the_job.wait()
    away = lab.proxy.inject(
        calls("UploadPart", key=keys.UPLOADS),
        Delayed(0),
        skip=1,
        then=lambda _: lab.be_away(OUTAGE_SECONDS),
    )
    began = time.monotonic()
    uploaded = await lab.upload(second)
    assert time.monotonic() - began > OUTAGE_SECONDS
    await working
    await lab.drain()
    await lab.assert_done((worked_on, first), (uploaded, second), attempt=1)
    assert lab.attempts == 2
    return begun.struck + away.struck


@row(
    "outage-too-long",
    fault="an outage outlasts all patience",
    expected="upload: 503, clean; job: continues later, no attempt counted",
)
async def test_outage_longer_than_patience_fails_cleanly(lab: WireLab) -> int:
    body = film(LARGE)
    upload_rule = lab.proxy.inject(calls("UploadPart"), Delayed(0), skip=1, then=lambda _: lab.be_away(10))
    answer = await lab.try_upload(body, patience_seconds=2)
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    await lab.until_the_store_is_back()
    await lab.abort_forgotten_uploads()
    await lab.assert_nothing_is_left()
    video = await lab.upload(body)
    job_rule = lab.proxy.inject(
        calls("PutObject", key="/media/"), Delayed(0), skip=3, then=lambda _: lab.be_away(10)
    )
    await lab.drain(patience_seconds=2)
    await lab.assert_done((video, body), attempt=1)
    assert lab.attempts == 2
    return upload_rule.struck + job_rule.struck


@row(
    "denied-for-a-while",
    fault="403 ExpiredToken to everything for 5 s, during upload and job",
    expected="retried until renewed: acknowledged; first attempt completes",
)
async def test_survives_expired_credentials(lab: WireLab) -> int:
    body = film(LARGE)

    def expire(_: Call) -> None:
        rule = lab.proxy.inject(calls(), Answered(403, "ExpiredToken"), times=None)
        threading.Timer(5, lab.proxy.forget, [rule]).start()
        rules.append(rule)

    rules: list[Rule] = []
    lab.proxy.inject(calls("UploadPart"), Delayed(0), then=expire)
    video = await lab.upload(body)
    lab.proxy.inject(calls("PutObject", key="/media/"), Delayed(0), skip=3, then=expire)
    await lab.drain()
    await lab.assert_done((video, body), attempt=1)
    assert lab.attempts == 1
    return sum(rule.struck for rule in rules)


@row(
    "store-paused",
    fault="store frozen (SIGSTOP) for 8 s, during upload and job",
    expected="acknowledged; first attempt completes",
)
async def test_survives_frozen_store(own_lab: WireLab, own_gateway: RadosGateway) -> int:
    def freeze(_: Call) -> None:
        own_gateway.pause()
        threading.Timer(8, own_gateway.resume).start()

    return await _strike_upload_and_job(own_lab, freeze)


@row(
    "store-killed",
    fault="all store processes killed and restarted, during upload and job",
    expected="acknowledged; first attempt completes; earlier data intact",
)
async def test_survives_store_killed_and_restarted(own_lab: WireLab, own_gateway: RadosGateway) -> int:
    def kill(_: Call) -> None:
        own_gateway.crash()
        threading.Thread(target=own_gateway.start).start()

    earlier = film(MIB, 7)
    video = await own_lab.upload(earlier)
    apart = await own_lab.with_buckets_of_its_own()
    times = await _strike_upload_and_job(apart, kill)
    await own_lab.assert_source_is(video, earlier)
    await own_lab.drain()
    await own_lab.assert_done((video, earlier))
    return times


async def _strike_upload_and_job(lab: WireLab, strike: Callable[[Call], None]) -> int:
    body = film(LARGE)
    rules = [
        lab.proxy.inject(matches, Delayed(0), skip=1, then=strike)
        for matches in (calls("UploadPart", key="uploads/"), calls("PutObject", key="/media/"))
    ]
    video = await lab.upload(body)
    await lab.drain(lease_seconds=60, seconds=120)
    outcome = await lab.outcome(video)
    assert isinstance(outcome, Outputs)
    await lab.assert_done((video, body), attempt=1)
    assert lab.attempts == 1
    return sum(rule.struck for rule in rules)

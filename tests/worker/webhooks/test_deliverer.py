"""Which worker delivers, and that endpoints do not wait for each other."""

import asyncio

import pytest

from backend.core import keys
from backend.core.errors import LeaseLost
from backend.core.event_records import Event
from backend.core.events.delivering import DeliveryLease, serving_endpoints
from backend.core.events.log import EventLog
from backend.core.library.outbox import announce_test
from backend.core.store.prefixes import keys_below
from tests.worker.webhooks.webhook_lab import WebhookLab
from worker.webhooks.deliverer import Deliveries
from worker.webhooks.sending import Target

LEASE_SECONDS = 60.0


def _lease(lab: WebhookLab, owner: str) -> DeliveryLease:
    return DeliveryLease(lab.buckets.video, owner, [owner], LEASE_SECONDS)


async def test_one_worker_delivers_until_it_is_silent() -> None:
    lab = WebhookLab()
    one, two = _lease(lab, "one"), _lease(lab, "two")

    assert [await one.take(), await two.take()] == [True, False]
    lab.wait(LEASE_SECONDS)
    await one.renew()
    lab.wait(1)
    assert not await two.take()
    lab.wait(LEASE_SECONDS)
    assert await serving_endpoints(lab.buckets.video) == ()
    assert await two.take()
    with pytest.raises(LeaseLost):
        await one.renew()
    await two.renew()
    assert await serving_endpoints(lab.buckets.video) == ("two",)


async def test_of_many_workers_one_takes_the_lease() -> None:
    lab = WebhookLab()
    for _ in range(3):
        took = await asyncio.gather(*(_lease(lab, str(number)).take() for number in range(8)))
        assert took.count(True) == 1
        lab.wait(LEASE_SECONDS + 1)


async def test_a_lease_that_is_given_back_is_taken_at_once() -> None:
    lab = WebhookLab()
    one, two = _lease(lab, "one"), _lease(lab, "two")
    await one.take()

    await one.give_back()

    assert await serving_endpoints(lab.buckets.video) == ()
    assert await two.take()


async def test_a_slow_endpoint_does_not_hold_others_up() -> None:
    lab, got, stop = WebhookLab(), asyncio.Event(), asyncio.Event()
    arrived: list[str] = []

    async def never(event: Event) -> None:
        await asyncio.Event().wait()

    async def at_once(event: Event) -> None:
        arrived.append(event.id)
        got.set()

    sends = {Target("http://slow/", ()): never, Target("http://fast/", ()): at_once}
    deliveries = Deliveries(lab.buckets, sends, owner="one", poll_seconds=0.001, lease_seconds=60)
    task = asyncio.create_task(deliveries.keep(stop))
    async with asyncio.timeout(20):
        while len(await keys_below(lab.buckets.video, keys.WEBHOOK_STATES)) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        event = await announce_test(lab.buckets.video, lab.clock())
        await got.wait()
        stop.set()
        await task

    assert arrived == [event]
    assert await serving_endpoints(lab.buckets.video) == (), "it has given the lease back"


async def test_a_new_endpoint_gets_what_happens_from_then_on() -> None:
    lab = WebhookLab()
    await lab.happen("a", "b")
    target = Target("http://new/", ())
    deliveries = Deliveries(
        lab.buckets, {target: lab.send}, owner="one", poll_seconds=1, lease_seconds=60, now=lab.clock
    )
    (endpoint,) = await deliveries.endpoints(EventLog(lab.buckets, lab.clock))
    await lab.happen("c")
    await lab.deliver_all(endpoint)

    assert lab.received == ["c-3"]

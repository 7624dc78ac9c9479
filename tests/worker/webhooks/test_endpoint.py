"""One endpoint gets every event, in order for each video, whatever it answers and whoever dies."""

import random
from contextlib import suppress

import pytest

from tests.core.jobs.queue_lab import WorkerCrashed
from tests.worker.webhooks.webhook_lab import WebhookLab, first_of_each
from worker.webhooks.endpoint import MOST_HELD, Endpoint
from worker.webhooks.sending import Refused, Unreachable

DAY = 86_400.0


@pytest.fixture
def lab() -> WebhookLab:
    return WebhookLab()


async def test_events_arrive_once_and_in_order(lab: WebhookLab) -> None:
    await lab.happen(*("ab" * 150))
    endpoint = await lab.endpoint()

    await lab.deliver_all(endpoint)
    await lab.deliver_all(endpoint)

    assert first_of_each(lab.received) == {"a": list(range(1, 300, 2)), "b": list(range(2, 301, 2))}
    assert len(lab.received) == 300
    assert (await lab.endpoint()).state.position == 300


async def test_a_refused_event_holds_back_only_its_video(lab: WebhookLab) -> None:
    await lab.happen("a", "b", "a", "b")
    endpoint = await lab.endpoint()
    lab.answers["a"] = Refused("It answered 500.")

    await lab.deliver_all(endpoint)
    await lab.happen("a", "c")
    await lab.deliver_all(endpoint)

    assert lab.received == ["b-2", "b-4", "c-6"]
    assert (endpoint.state.error, endpoint.state.failing_since) == ("It answered 500.", None)
    lab.answers.clear()
    endpoint = await lab.endpoint()
    await lab.deliver_all(endpoint)
    assert lab.received == ["b-2", "b-4", "c-6"], "before it is due"
    lab.wait(6)
    await lab.deliver_all(endpoint)
    assert lab.received == ["b-2", "b-4", "c-6", "a-1", "a-3", "a-5"]
    assert (endpoint.state.held, endpoint.state.error) == ((), None)


async def test_an_endpoint_that_is_away_is_tried_less_and_less_often(lab: WebhookLab) -> None:
    await lab.happen("a", "b")
    endpoint, tries = await lab.endpoint(), 0
    lab.answers[""] = Unreachable("It answered 503.")
    for _ in range(int(DAY / 600) - 1):
        before = endpoint.state.failures
        await lab.deliver_all(endpoint)
        tries += endpoint.state.failures - before
        lab.wait(600)

    assert 20 < tries < 40
    assert endpoint.state.given_up == 0
    lab.answers.clear()
    lab.wait(3600 * 1.1)
    await lab.deliver_all(endpoint)
    assert lab.received == ["a-1", "b-2"]
    assert endpoint.state.failing_since is None


async def test_after_a_day_events_are_given_up_one_by_one(lab: WebhookLab) -> None:
    await lab.happen("a")
    endpoint = await lab.endpoint()
    lab.answers[""] = Unreachable("away")
    for hour in range(30):
        if hour == 20:
            await lab.happen("b")
        await lab.deliver_all(endpoint)
        lab.wait(3600 * 1.1)

    assert (endpoint.state.given_up, endpoint.state.position) == (1, 1)
    lab.answers.clear()
    await lab.deliver_all(endpoint)
    assert lab.received == ["b-2"]


async def test_a_refused_event_is_given_up_after_a_day(lab: WebhookLab) -> None:
    await lab.happen("a", "a")
    endpoint = await lab.endpoint()
    lab.answers["a"] = Refused("It answered 400.")
    for _ in range(30):
        await lab.deliver_all(endpoint)
        lab.wait(3600 * 1.1)

    assert endpoint.state.given_up == 1
    assert [held.number for held in endpoint.state.held] == [2]


async def test_a_test_is_tried_at_once(lab: WebhookLab) -> None:
    await lab.happen("a")
    endpoint = await lab.endpoint()
    lab.answers[""] = Unreachable("away")
    await lab.deliver_all(endpoint)
    lab.answers.clear()
    await lab.deliver_all(endpoint)
    assert lab.received == []

    await lab.happen("test")
    await lab.deliver_all(endpoint)

    assert lab.received == ["a-1", "test-2"]


async def test_an_endpoint_that_refuses_everything_is_not_sent_more_and_more(lab: WebhookLab) -> None:
    for _ in range(5):
        await lab.happen(*(f"v{number}" for number in range(100)))
    endpoint = await lab.endpoint()
    lab.answers.update({f"v{number}": Refused("no") for number in range(100)})

    await lab.deliver_all(endpoint)

    assert len(endpoint.state.held) == MOST_HELD
    lab.answers.clear()
    for _ in range(4):
        lab.wait(10)
        await lab.deliver_all(endpoint)
    assert all(numbers == sorted(numbers) for numbers in first_of_each(lab.received).values())
    assert len(set(lab.received)) == 500


@pytest.mark.parametrize("seed", range(20))
async def test_nothing_is_lost_whoever_dies_and_whatever_is_answered(seed: int) -> None:
    lab, rng = WebhookLab(), random.Random(seed)
    lab.rng, lab.dies_at = rng, 0.05
    endpoint: Endpoint | None = None
    for _ in range(120):
        if rng.random() < 0.3:
            await lab.happen(*rng.choices("abcde", k=rng.randint(1, 5)))
        lab.answers = {video: Refused("no") for video in "abcde" if rng.random() < 0.1}
        if rng.random() < 0.1:
            lab.answers[""] = Unreachable("away")
        endpoint = endpoint or await lab.endpoint()
        try:
            await lab.deliver_all(endpoint)
        except WorkerCrashed:
            endpoint = None
        lab.wait(rng.choice((1, 60, 1000)))
    lab.answers, lab.dies_at = {}, 0
    for _ in range(10):
        lab.wait(3700)
        await lab.deliver_all(await lab.endpoint())

    got = first_of_each(lab.received)
    assert sorted(number for numbers in got.values() for number in numbers) == list(range(1, lab.written + 1))
    assert all(numbers == sorted(numbers) for numbers in got.values())


async def test_a_deliverer_that_was_replaced_only_repeats(lab: WebhookLab) -> None:
    await lab.happen("a", "a")
    old, new = await lab.endpoint(), await lab.endpoint()
    await lab.deliver_all(new)
    with suppress(WorkerCrashed):
        await lab.deliver_all(old)

    assert lab.received == ["a-1", "a-2"] * 2
    assert (await lab.endpoint()).state.position == 2

"""When a worker polls the queue, and which jobs it takes over after an outage."""

import asyncio
import socket

import pytest

from backend.core.backoff import Backoff
from backend.core.errors import MachineFault, StoreUnavailable
from backend.core.jobs.doorbell import Doorbell
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import Claim
from backend.core.jobs.snapshot import QueueSnapshot
from backend.core.store.interface import LIST_PAGE, Listing
from tests.core.jobs.queue_lab import LEASE_SECONDS, Clock, Lab
from tests.lab.memory_store import MemoryStore
from worker.run import poller as poller_module
from worker.run.doorbell import listening
from worker.run.loop import serve
from worker.run.poller import Poller

NOBODY = ("255.255.255.255", 1)
"""A datagram to it is refused at once."""


class Listed(MemoryStore):
    """Counts polls, and may fail or be slow."""

    polls = 0
    before_poll = staticmethod(lambda nth: None)

    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = LIST_PAGE) -> Listing:
        if not prefix:
            self.polls += 1
            self.before_poll(self.polls)
        return await super().list_page(prefix, start_after=start_after, limit=limit)


@pytest.fixture
def lab() -> Lab:
    clock = Clock()
    return Lab(clock, raw=Listed(clock))


def _poller(lab: Lab, queue: JobQueue, *, poll_seconds: float = 0.01, drain: bool = False) -> Poller:
    return Poller(queue, asyncio.Event(), poll_seconds=poll_seconds, lease_seconds=LEASE_SECONDS, drain=drain)


async def _next_claim(poller: Poller) -> Claim | None:
    return await poller.next(poller._queue.claim)


async def _slots(number: int, poller: Poller, stop: asyncio.Event) -> None:
    await asyncio.gather(*(serve(poller, poller._queue.claim, _no_job, stop) for _ in range(number)))


async def test_slots_share_one_poll_and_claim_each_job_once(lab: Lab) -> None:
    jobs = [await lab.add_job() for _ in range(20)]
    poller = _poller(lab, lab.worker("one"), drain=True)

    claims = await asyncio.gather(*(_next_claim(poller) for _ in range(20)))

    assert {claim.request for claim in claims if claim} == {job.request for job in jobs}
    assert isinstance(lab.raw, Listed)
    assert lab.raw.polls == 1


async def test_idle_worker_polls_equally_often_with_any_number_of_slots(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller_module, "FIRST_PAUSE_SECONDS", 0.01)
    stop = asyncio.Event()
    poller = Poller(lab.worker("one"), stop, poll_seconds=0.05, lease_seconds=LEASE_SECONDS)
    working = asyncio.create_task(_slots(16, poller, stop))

    await asyncio.sleep(0.5)
    stop.set()
    await working

    assert isinstance(lab.raw, Listed)
    assert 2 <= lab.raw.polls <= 12  # 0, 0.01, 0.03, then every 0.05 s or later


async def test_slot_that_finds_nothing_neither_delays_others_nor_polls_for_each_of_their_jobs(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller_module, "FIRST_PAUSE_SECONDS", 3600.0)
    for _ in range(3):
        await lab.add_job()
    poller, looked = _poller(lab, lab.worker("one"), poll_seconds=3600), asyncio.Event()

    async def find_nothing(snapshot: QueueSnapshot, *, silent_too: bool) -> None:
        looked.set()

    idle = asyncio.create_task(poller.next(find_nothing))
    await looked.wait()

    async with asyncio.timeout(10):
        assert await _next_claim(poller)
        assert await _next_claim(poller)

    assert not idle.done()
    assert isinstance(lab.raw, Listed)
    assert lab.raw.polls == 1
    idle.cancel()


async def test_stopping_worker_does_not_wait_out_its_pause(lab: Lab) -> None:
    stop = asyncio.Event()
    poller = Poller(lab.worker("one"), stop, poll_seconds=60, lease_seconds=LEASE_SECONDS)
    poller._pause = 60.0
    working = asyncio.create_task(_slots(3, poller, stop))
    await asyncio.sleep(0)

    stop.set()

    async with asyncio.timeout(1):
        await working


async def test_a_bell_ends_the_pause_of_an_idle_queue(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller_module, "FIRST_PAUSE_SECONDS", 3600.0)
    rung = asyncio.Event()
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    poller = Poller(
        lab.worker("one"), asyncio.Event(), poll_seconds=3600, lease_seconds=LEASE_SECONDS, rung=rung
    )
    assert isinstance(lab.raw, Listed)
    polled = asyncio.Event()
    lab.raw.before_poll = lambda _: polled.set()
    async with listening(address, rung), asyncio.timeout(10):
        claiming = asyncio.create_task(_next_claim(poller))
        await polled.wait()
        job = await lab.add_job()

        Doorbell((NOBODY, address)).ring()

        claim = await claiming
    assert claim is not None
    assert claim.request == job.request
    assert lab.raw.polls == 2


async def test_no_bell_shortens_the_pause_of_an_outage(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[tuple[asyncio.Event, float]] = []
    stop, rung = asyncio.Event(), asyncio.Event()

    async def sleep(event: asyncio.Event, seconds: float) -> None:
        slept.append((event, seconds))

    def fail_second(nth: int) -> None:
        rung.set()
        if nth == 2:
            raise StoreUnavailable
        if nth == 3:
            stop.set()

    monkeypatch.setattr(poller_module, "sleep_unless_set", sleep)
    assert isinstance(lab.raw, Listed)
    lab.raw.before_poll = fail_second
    poller = Poller(lab.worker("one"), stop, poll_seconds=5, lease_seconds=LEASE_SECONDS, rung=rung)

    assert await _next_claim(poller) is None

    deaf = [seconds for event, seconds in slept if event is stop]
    assert deaf[:2] == [0, poller_module.DEAF_SECONDS]
    assert deaf[2] >= 5


async def test_a_bell_that_cannot_be_heard_does_not_stop_the_worker() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        async with listening(taken.getsockname(), asyncio.Event()):
            pass


async def test_silent_workers_get_time_to_renew_after_an_outage(lab: Lab) -> None:
    await lab.add_job()
    assert await lab.claim(lab.worker("cut off"))
    lab.clock.advance(LEASE_SECONDS + 1)
    now = 1000.0
    queue = lab.worker("rival")

    def fail_first(nth: int) -> None:
        if nth == 1:
            raise StoreUnavailable

    assert isinstance(lab.raw, Listed)
    lab.raw.polls = 0
    lab.raw.before_poll = fail_first
    poller = Poller(
        queue,
        asyncio.Event(),
        poll_seconds=0.001,
        lease_seconds=LEASE_SECONDS,
        monotonic=lambda: now,
    )
    claiming = asyncio.create_task(_next_claim(poller))
    while lab.raw.polls < 10:  # noqa: ASYNC110  # the poller has its own clock
        await asyncio.sleep(0.001)
    assert not claiming.done()

    now += LEASE_SECONDS / 2

    async with asyncio.timeout(5):
        claim = await claiming
    assert claim is not None
    assert claim.generation == 1


async def test_slow_poll_counts_as_an_outage(lab: Lab) -> None:
    await lab.add_job()
    assert await lab.claim(lab.worker("cut off"))
    lab.clock.advance(LEASE_SECONDS + 1)
    now = 1000.0

    def slow_down(nth: int) -> None:
        nonlocal now
        now += LEASE_SECONDS / 5 if nth == 1 else 0

    assert isinstance(lab.raw, Listed)
    lab.raw.polls = 0
    lab.raw.before_poll = slow_down
    poller = Poller(
        lab.worker("rival"),
        asyncio.Event(),
        poll_seconds=0.001,
        lease_seconds=LEASE_SECONDS,
        monotonic=lambda: now,
    )
    claiming = asyncio.create_task(_next_claim(poller))
    while lab.raw.polls < 10:  # noqa: ASYNC110  # the poller has its own clock
        await asyncio.sleep(0.001)

    assert not claiming.done()
    claiming.cancel()


async def test_worker_on_a_broken_machine_takes_no_job_until_it_is_mended(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller_module, "CHECKS", Backoff(0.001, 0.001))
    job = await lab.add_job()
    before = await lab.raw_keys()
    checks = 0

    async def ready() -> None:
        nonlocal checks
        checks += 1
        if checks <= 3:
            assert await lab.raw_keys() == before
            raise MachineFault("WORK_DIR: it is broken.")

    poller = Poller(
        lab.worker("one"), asyncio.Event(), poll_seconds=0.001, lease_seconds=LEASE_SECONDS, ready=ready
    )

    async with asyncio.timeout(5):
        claim = await _next_claim(poller)

    assert claim is not None
    assert (claim.request, claim.lease.attempt, claim.lease.outages, checks) == (job.request, 1, 0, 4)


async def test_idle_worker_does_not_check_its_machine(lab: Lab) -> None:
    async def ready() -> None:
        raise AssertionError

    stop = asyncio.Event()
    poller = Poller(lab.worker("one"), stop, poll_seconds=0.001, lease_seconds=LEASE_SECONDS, ready=ready)
    claiming = asyncio.create_task(_next_claim(poller))
    assert isinstance(lab.raw, Listed)
    while lab.raw.polls < 2:  # noqa: ASYNC110  # the poller has its own clock
        await asyncio.sleep(0.001)

    stop.set()

    assert await claiming is None


async def _no_job(claim: Claim, stop: asyncio.Event) -> None:
    raise AssertionError(f"there is no job, but {claim}")

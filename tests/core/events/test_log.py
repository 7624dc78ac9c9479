"""The event log: what may enter it when, and how it is read and cleaned up."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from backend.core import keys
from backend.core.errors import StoreUnavailable
from backend.core.event_records import Event, EventBatch, EventData
from backend.core.events.delivering import DeliveryLease
from backend.core.events.log import MOST_EVENTS, EventLog
from backend.core.ids import new_id
from backend.core.library.outbox import announce_deleted, announce_playable, announce_test
from backend.core.library.videos import VideoEdit, delete_video, edit_video
from backend.core.records import Job, Status, StatusError
from backend.core.store.interface import LIST_PAGE
from backend.core.sweep.sweeper import Kind, SweepRules, sweep
from tests.core.jobs.queue_lab import Fault, Lab, WorkerCrashed, crash

DAY = 86_400


@pytest.fixture
def lab() -> Lab:
    return Lab()


async def _logged(lab: Lab, log: EventLog | None = None) -> list[str]:
    """Log all that is announced, and return the kinds of all events."""
    log = log or EventLog(lab.buckets, lab.clock)
    while await log.append():
        pass
    return [event.id.rpartition("-")[2] for event in await log.read(0, 1000)]


async def _fail(lab: Lab) -> Job:
    job = await lab.add_job()
    queue = lab.worker("one")
    await queue.bury(await lab.claimed(queue), StatusError(code="cancelled", message="m"))
    return job


async def test_a_published_video_was_playable_before(lab: Lab) -> None:
    job = await lab.add_job()
    await edit_video(lab.buckets, job.id, VideoEdit(title="Harbour"))
    await lab.turn(lab.worker("one"))

    assert await _logged(lab) == ["playable", "done"]

    (_, done) = await EventLog(lab.buckets).read(0, 2)
    assert (done.data.title, done.data.qualities, done.data.request) == ("Harbour", ("360p",), job.request)


async def test_playable_is_announced_once(lab: Lab) -> None:
    job = await lab.add_job()
    playable = Status.queued(job.id, lab.clock()).replace(playable=True)
    await announce_playable(lab.video, playable, lab.clock())
    await lab.video.put(keys.status(job.id), playable.to_json())
    assert await _logged(lab) == ["playable"]
    await announce_playable(lab.video, playable, lab.clock())

    await lab.turn(lab.worker("one"))

    assert await _logged(lab) == ["playable", "done"]


async def test_who_writes_playable_after_the_end_adds_nothing(lab: Lab) -> None:
    job = await _fail(lab)
    assert await _logged(lab) == ["failed"]

    await announce_playable(lab.video, Status.queued(job.id, lab.clock()), lab.clock())

    assert await _logged(lab) == ["failed"]


async def test_a_deletion_that_did_not_happen_is_not_logged(lab: Lab) -> None:
    job = await lab.add_job()
    await announce_deleted(lab.video, job.id, "t", lab.clock())
    assert await _logged(lab) == []
    await lab.turn(lab.worker("one"))
    assert await _logged(lab) == ["playable", "done"]

    await delete_video(lab.buckets, job.id)

    assert await _logged(lab) == ["playable", "done", "deleted"]


async def test_nothing_follows_a_deletion(lab: Lab) -> None:
    job = await _fail(lab)
    late = (await lab.video.get(keys.announcement(keys.event_id(job.id, 0, "failed")))).body
    await delete_video(lab.buckets, job.id)
    assert await _logged(lab) == ["failed", "deleted"]

    await lab.video.put(keys.announcement(keys.event_id(job.id, 0, "done")), late)

    assert await _logged(lab) == ["failed", "deleted"]
    assert [key async for key in _events(lab) if key.startswith(keys.ANNOUNCEMENTS)] == []


async def _events(lab: Lab) -> AsyncIterator[str]:
    async for info in lab.video.list_all(keys.EVENTS):
        yield info.key


async def test_what_a_dead_logger_left_is_not_logged_again(lab: Lab) -> None:
    for _ in range(3):
        await announce_test(lab.video, lab.clock())
    for call in range(1, 20):
        fault = Fault(call, crash, after_the_call=True)
        try:
            await EventLog(lab.faulty(fault)).append()
        except WorkerCrashed:
            continue
        break
    else:
        pytest.fail("it never ended")

    await announce_test(lab.video, lab.clock())

    assert await _logged(lab) == ["test"] * 4


async def test_unreadable_and_foreign_objects_stop_nothing(lab: Lab) -> None:
    await lab.video.put(keys.announcement(keys.event_id(new_id(), 0, "done")), b"?")
    broken = await lab.add_job()
    await lab.video.put(keys.announcement(keys.event_id(broken.id, 0, "created")), b"?")
    await lab.video.put(keys.ANNOUNCEMENTS + "!", b"")
    await lab.video.put(keys.EVENT_LOG + "!", b"")
    await announce_test(lab.video, lab.clock())

    assert await _logged(lab) == ["test"]


async def _fill(lab: Lab, batches: int, events: int = 1) -> int:
    """Write a log, and return the number of its last event."""
    number = 0
    for _ in range(batches):
        first = number + 1
        number += events
        batch = EventBatch(
            logged_at=lab.clock(),
            events=tuple(
                Event(number=one, id=str(one), type="t", timestamp=lab.clock(), data=EventData(id="x"))
                for one in range(first, number + 1)
            ),
        )
        await lab.video.put(keys.event_batch(first), batch.to_json())
    return number


@pytest.mark.parametrize(("batches", "events"), [(LIST_PAGE + 3, 1), (5, MOST_EVENTS), (7, 3)])
async def test_readers_may_begin_anywhere(lab: Lab, batches: int, events: int) -> None:
    last, log = await _fill(lab, batches, events), EventLog(lab.buckets)
    assert not await log.append()
    assert log.last == last

    for after in (0, 1, events - 1, events, last - events - 1, last - 1, last):
        for limit in (1, 150):
            found = [event.number for event in await log.read(after, limit)]
            assert found == list(range(after + 1, last + 1))[:limit]


async def test_old_events_are_removed_but_numbers_go_on(lab: Lab) -> None:
    last = await _fill(lab, 5)
    await announce_test(lab.video, lab.clock())
    lab.clock.advance(40 * DAY)

    report = await sweep(lab.buckets, lab.worker("sweeper"), SweepRules(events_after=timedelta(days=30)))

    assert [finding.kind for finding in report.findings] == [Kind.EVENT] * 5
    await announce_test(lab.video, lab.clock())
    log = EventLog(lab.buckets)
    await log.append()
    assert [event.number for event in await log.read(0, 10)] == [last, last + 1]


async def test_the_state_of_a_webhook_is_kept_while_it_is_served(lab: Lab) -> None:
    for endpoint in ("ours", "former"):
        await lab.video.put(keys.webhook_state(endpoint), b"{}")
    lab.clock.advance(40 * DAY)
    await DeliveryLease(lab.video, "worker", ["ours"], 60).take()

    report = await sweep(lab.buckets, lab.worker("sweeper"), SweepRules())

    assert [finding.key for finding in report.findings] == [keys.webhook_state("former")]


async def test_no_state_of_a_webhook_is_removed_while_nobody_delivers(lab: Lab) -> None:
    await lab.video.put(keys.webhook_state("ours"), b"{}")
    lease = DeliveryLease(lab.video, "worker", ["ours"], 60)
    await lease.take()
    await lease.give_back()
    lab.clock.advance(40 * DAY)

    report = await sweep(lab.buckets, lab.worker("sweeper"), SweepRules())

    assert report.findings == ()


async def test_an_announcement_that_fails_stops_the_step_after_it(lab: Lab) -> None:
    job = await lab.add_job()
    fault = Fault(3, StoreUnavailable, after_the_call=False)  # after the record and its history are read

    with pytest.raises(StoreUnavailable):
        await delete_video(lab.faulty(fault), job.id)

    assert await lab.video.head(keys.video_record(job.id))

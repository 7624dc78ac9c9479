"""Every event is logged, in order for each video, even if processes are killed between any two calls."""

import secrets
from collections.abc import Collection, Sequence
from typing import Any

import pytest

from backend.core import keys
from backend.core.errors import VideoNotFound
from backend.core.event_records import EventKind
from backend.core.events import admission, log
from backend.core.events.admission import Admission, Admitted
from backend.core.events.log import EventLog
from backend.core.jobs import job_queue
from backend.core.jobs.job_queue import JobQueue
from backend.core.keys import AnnouncementKey
from backend.core.library import videos
from backend.core.library.outbox import announce_created, announce_deleted, announce_end
from backend.core.records import Job, Outcome, Video
from backend.core.store.interface import Buckets, exists
from tests.core.events.schedule import Protocol, Schedule, faults_of
from tests.core.jobs.queue_lab import Clock
from worker.run import status

MOST_SCHEDULES = 300


@pytest.mark.parametrize("schedules", [5, pytest.param(300, marks=pytest.mark.heavy)])
async def test_every_event_is_logged_in_order(schedules: int) -> None:
    for _ in range(schedules):
        seed = secrets.randbelow(2**48)
        schedule = Schedule(seed, Protocol())
        assert faults_of(schedule, await schedule.run()) == [], f"seed {seed}"


async def test_schedules_have_events_of_all_kinds() -> None:
    kinds = {event.type for seed in range(4) for event in await Schedule(seed, Protocol()).run()}

    assert kinds == {kind.type for kind in EventKind} - {EventKind.TEST.type}


# Mutants: each breaks one rule of docs/events.md

Patch = tuple[Any, str, Any]


async def _silently(*_arguments: object) -> None:
    pass


async def _add_then_announce(buckets: Buckets, video: Video, job: Job) -> None:
    await videos.add_video(buckets, video, job)
    await announce_created(buckets.video, video)


async def _delete_then_announce(buckets: Buckets, video_id: str) -> None:
    existed = await exists(buckets.video, keys.video_record(video_id))
    await videos.delete_video(buckets, video_id)
    if existed:
        await announce_deleted(buckets.video, video_id, None, Clock().now)


class AnnouncesLast(JobQueue):
    async def _finish(self, job: Job, outcome: Outcome | None = None, *rest: Any) -> None:
        outcome = outcome or await self._outcome(job)
        await super()._finish(job, outcome, *rest)
        if outcome is not None:
            await self._buckets.video.delete(keys.status(job.id))  # or it would count as announced
            await announce_end(self._buckets.video, outcome)


async def _admit_what_was_seen(
    buckets: Buckets, subject: str, seen: Collection[AnnouncementKey]
) -> Admission:
    found = await admission.admit(buckets, subject, seen)
    return Admission(tuple(one for one in found.admitted if one.key in seen), found.dropped)


async def _gone(*_arguments: object) -> None:
    raise VideoNotFound


class Overwriting(EventLog):
    async def _add(self, admitted: Sequence[Admitted]) -> None:
        await self._video.delete(keys.event_batch(self.last + 1))
        await super()._add(admitted)


MUTANTS: dict[str, tuple[Protocol, tuple[Patch, ...]]] = {
    "created after the marker": (
        Protocol(add_video=_add_then_announce),
        ((videos, "announce_created", _silently),),
    ),
    "deleted after the record": (
        Protocol(delete_video=_delete_then_announce),
        ((videos, "announce_deleted", _silently),),
    ),
    "end after the leases": (Protocol(queue_class=AnnouncesLast), ((job_queue, "announce_end", _silently),)),
    "playable after its status": (Protocol(), ((status, "announce_playable", _silently),)),
    "one LIST only": (Protocol(), ((log, "admit", _admit_what_was_seen),)),
    "batch not create-only": (Protocol(log_class=Overwriting), ()),
    "deleted before the record": (Protocol(), ((admission, "read_video", _gone),)),
}


RARELY_NOTICED = {"one LIST only", "created after the marker"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.heavy] * (name in RARELY_NOTICED)) for name in MUTANTS],
)
async def test_a_broken_rule_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol, patches = MUTANTS[name]
    for module, function, instead in patches:
        monkeypatch.setattr(module, function, instead)
    for seed in range(MOST_SCHEDULES):
        schedule = Schedule(seed, protocol)
        if faults_of(schedule, await schedule.run()):
            return
    pytest.fail(f"not noticed in {MOST_SCHEDULES} schedules")

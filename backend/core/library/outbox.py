"""Announces what happens to videos. `backend.core.events` puts announcements in order (docs/events.md).

An announcement is named after what happened, so that writing it again adds nothing. Each is written before
the step after which nobody would write it any more: a crash may repeat one, but loses none.
"""

import secrets
from contextlib import suppress
from datetime import datetime

from backend.core import keys
from backend.core.errors import ObjectNotFound
from backend.core.event_records import Announcement, EventData, EventKind
from backend.core.records import Outcome, Outputs, RecordUnreadable, Stage, Status, Video
from backend.core.store.interface import Store


async def announce_created(store: Store, video: Video) -> None:
    """Before the marker is created."""
    facts = video.model_dump(include={"filename", "size_bytes", "content_type", "guest"})
    data = EventData(id=video.id, request=keys.request_name(video.id), title=video.title, **facts)
    await _announce(store, EventKind.CREATED, data, video.created_at)


async def announce_playable(store: Store, status: Status, now: datetime) -> None:
    """Before the first status of a request that says it is playable: such a status means "announced"."""
    written = await _written_status(store, status.id)
    if written is None or not (written.playable and written.request == status.request):
        await _announce(store, EventKind.PLAYABLE, EventData(id=status.id, request=status.request), now)


async def announce_end(store: Store, outcome: Outcome) -> None:
    """After the outcome is stored, and before the final status: such a status means "announced".

    A published request is announced as playable too, unless it was before.
    """
    if isinstance(outcome, Outputs):
        kind, stage, at = EventKind.DONE, Stage.COMPLETE, outcome.published_at
        facts = EventData(**outcome.model_dump(include={"id", "request", "duration_seconds", "qualities"}))
    else:
        kind, stage, at = EventKind.FAILED, Stage.FAILED, outcome.failed_at
        facts = EventData(id=outcome.job.id, request=outcome.job.request, error=outcome.error)
    written = await _written_status(store, facts.id)
    if written is None or written.request != facts.request:
        written = Status.queued(facts.id, at, facts.request)
    if written.stage is stage:
        return
    if kind is EventKind.DONE and not written.playable:
        await _announce(store, EventKind.PLAYABLE, EventData(id=facts.id, request=facts.request), at)
    await _announce(store, kind, facts, at)


async def announce_deleted(store: Store, video_id: str, title: str | None, now: datetime) -> None:
    """Before the record is deleted. It is not logged as long as the record exists."""
    await _announce(store, EventKind.DELETED, EventData(id=video_id, title=title), now)


async def announce_test(store: Store, now: datetime) -> str:
    """Return the id of the event."""
    return await _announce(store, EventKind.TEST, EventData(id=f"test-{secrets.token_hex(8)}"), now)


async def _announce(store: Store, kind: EventKind, data: EventData, at: datetime) -> str:
    event = keys.event_id(data.id, keys.request_number(data.request or ""), kind)
    await store.put(keys.announcement(event), Announcement(timestamp=at, data=data).to_json())
    return event


async def _written_status(store: Store, video_id: str) -> Status | None:
    with suppress(ObjectNotFound, RecordUnreadable):
        return Status.from_json((await store.get(keys.status(video_id))).body)
    return None

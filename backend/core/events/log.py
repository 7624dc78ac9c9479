"""The event log: announcements, which readers put in order.

Announcements (`backend.core.library.outbox`) have no order, and may be written again. `append` gives what it
finds the next numbers of the log, in one create-only object, so any number of processes may append at once:
of two that give the same numbers, one wins, and the other starts over. Readers only need the number of the
last event that they have seen, since nothing is ever added before it (docs/events.md).
"""

from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from math import inf
from typing import Any, TypeVar

from backend.core import keys
from backend.core.concurrency import gather_or_cancel
from backend.core.errors import ObjectNotFound
from backend.core.event_records import Event, EventBatch, EventKind
from backend.core.events.admission import Admitted, admit
from backend.core.keys import AnnouncementKey
from backend.core.store.interface import LIST_PAGE, Buckets, Listing

T = TypeVar("T")

MOST_VIDEOS = 50
"""Whose events are logged at once."""
MOST_EVENTS = 200
"""In a batch."""
_LEAP = 1 << 48
"""No log is as long."""


class EventLog:
    """The log as one process sees it."""

    def __init__(self, buckets: Buckets, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._buckets = buckets
        self._video = buckets.video
        self._now = now
        self._first = 0
        """The number of the newest batch that this process knows, or of none."""
        self._newest: EventBatch | None = None
        """That batch."""
        self._tidy = False
        """Whether its announcements have been deleted."""
        self.last_test = 0
        """The number of the latest test that this process has seen."""

    @property
    def last(self) -> int:
        """The number of the last event that `append` has seen."""
        return self._newest.events[-1].number if self._newest else 0

    async def append(self) -> bool:
        """Log some of what is announced. Returns whether to call this again: there may be more."""
        page = await self._to_the_end()
        while True:
            found: dict[str, list[AnnouncementKey]] = {}
            for one in keys.ours(keys.parse_announcement, (info.key for info in page.objects)):
                found.setdefault(one.subject, []).append(one)
            subjects = iter(found.items())
            while some := list(islice(subjects, MOST_VIDEOS)):
                admissions = await self._all(admit(self._buckets, *subject) for subject in some)
                await self._forget(one for admission in admissions for one in admission.dropped)
                admitted = [one for admission in admissions for one in admission.admitted]
                if admitted:
                    await self._add(admitted[:MOST_EVENTS])
                    return True
            if not page.truncated:
                return False
            page = await self._video.list_page(keys.EVENTS, start_after=page.objects[-1].key)

    async def read(self, after: int, limit: int) -> list[Event]:
        """Return up to `limit` events after number `after`, in order. Old ones may have been removed."""
        before = keys.event_batch(max(0, after - MOST_EVENTS))
        page = await self._video.list_page(keys.EVENT_LOG, start_after=before)
        numbers = list(keys.ours(keys.parse_event_batch, (info.key for info in page.objects)))
        # a batch ends where the next one begins
        ends = [*(number - 1 for number in numbers[1:]), inf]
        wanted = [number for number, end in zip(numbers, ends, strict=False) if end > after]
        most = max(after, wanted[0] - 1) + limit if wanted else 0
        batches = await self._all(self._batch(number) for number in wanted if number <= most)
        events = (event for batch in batches if batch is not None for event in batch.events)
        return list(islice((event for event in events if event.number > after), limit))

    async def _batch(self, number: int) -> EventBatch | None:
        with suppress(ObjectNotFound):  # removed for its age
            return EventBatch.from_json((await self._video.get(keys.event_batch(number))).body)
        return None

    async def _to_the_end(self) -> Listing:
        """Find the newest batch. Return the page of a LIST that shows the announcements, too."""
        while True:
            page = await self._video.list_page(keys.EVENTS, start_after=keys.event_batch(self._first))
            self._go_to(page)
            if not page.truncated or page.objects[-1].key.startswith(keys.ANNOUNCEMENTS):
                break
            await self._leap()
        if self._first and self._newest is None:
            self._newest = await self._batch(self._first)
        if self._newest is not None and not self._tidy:
            self._note_tests(self._newest)
            # The process that added it may have died there.
            # Announcements of older ones are gone: see `_add`.
            await self._forget_logged(self._newest)
        return page

    async def _leap(self) -> None:
        """Approach the end of a long log in few requests."""
        step = _LEAP
        while step >= LIST_PAGE:
            further = keys.event_batch(self._first + step)
            page = await self._video.list_page(keys.EVENT_LOG, start_after=further, limit=1)
            self._go_to(page)
            if not page.objects:
                step //= 2

    def _go_to(self, page: Listing) -> None:
        for number in keys.ours(keys.parse_event_batch, (info.key for info in page.objects)):
            self._first, self._newest, self._tidy = number, None, False

    async def _add(self, admitted: Sequence[Admitted]) -> None:
        """Add a batch, unless another process has added one meanwhile.

        It never happens that announcements of two batches are left, or the older ones would be logged again.
        """
        events = tuple(_event(number, one) for number, one in enumerate(admitted, self.last + 1))
        batch = EventBatch(logged_at=self._now(), events=events)
        if await self._video.create(keys.event_batch(events[0].number), batch.to_json()):
            self._first, self._newest, self._tidy = events[0].number, batch, False
            self._note_tests(batch)
            await self._forget_logged(batch)

    def _note_tests(self, batch: EventBatch) -> None:
        tests = [event.number for event in batch.events if event.type == EventKind.TEST.type]
        self.last_test = max([self.last_test, *tests])

    async def _forget_logged(self, batch: EventBatch) -> None:
        await self._video.delete_many([keys.announcement(event.id) for event in batch.events])
        self._tidy = True

    async def _forget(self, announced: Iterable[AnnouncementKey]) -> None:
        await self._video.delete_many([keys.announcement(one.event) for one in announced])

    async def _all(self, reads: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
        return await gather_or_cancel(reads)


def _event(number: int, one: Admitted) -> Event:
    announced = one.announcement
    return Event(
        number=number,
        id=one.key.event,
        type=EventKind(one.key.kind).type,
        timestamp=announced.timestamp,
        data=announced.data,
    )

"""Delivers the log to one endpoint: where it is, what is held back, and when to try again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from backend.core import keys
from backend.core.backoff import Backoff
from backend.core.concurrency import gather_or_cancel
from backend.core.event_records import Event, Held, WebhookState
from backend.core.events.log import EventLog
from backend.core.store.interface import Store
from worker.webhooks.sending import Refused, Unreachable

log = structlog.get_logger(__name__)

GIVE_UP_AFTER = timedelta(days=1)
RETRIES = Backoff(first_seconds=5, longest_seconds=3600)
EVENTS_AT_ONCE = 100
"""Read from the log, and delivered before the position is written."""
REQUESTS_AT_ONCE = 8
MOST_HELD = 200
"""Beyond this many, an endpoint gets no new events until it takes some of these."""


@dataclass(slots=True)
class Endpoint:
    """An endpoint as its deliverer sees it. `state` is what the store has."""

    id: str
    state: WebhookState
    log: EventLog
    video: Store
    send: Callable[[Event], Awaitable[None]]
    """Raises: Refused, Unreachable."""
    now: Callable[[], datetime]
    tested: int = 0
    """The number of the latest test that was tried: it does not wait until the next attempt is due."""

    async def deliver(self) -> bool:
        """Deliver what is due, and record it. Returns whether there may be more to deliver at once."""
        state, now = self.state, self.now()
        if state.due_at is not None and state.due_at > now and self.tested >= self.log.last_test:
            return False
        self.tested = self.log.last_test
        due = [one for one in state.held if one.due_at <= now]
        if not due and self.log.last <= state.position:
            return False
        waiting = {one.video: one.due_at for one in state.held if one.due_at > now}
        new = await self.log.read(state.position, EVENTS_AT_ONCE) if len(state.held) < MOST_HELD else []
        found = await gather_or_cancel(self.log.read(one.number - 1, 1) for one in due)
        held_back = [event for events in found for event in events]
        there = {event.number for event in held_back}
        delivery = _Delivery(
            self, now, {one.number: one for one in state.held if one not in due or one.number in there}
        )
        events = {event.number: event for event in (*held_back, *new)}
        videos: dict[str, list[Event]] = {}
        for number in sorted(events):
            videos.setdefault(events[number].data.id, []).append(events[number])
        await gather_or_cancel(delivery.of_video(of, waiting.get(video)) for video, of in videos.items())
        position = state.position
        for event in new:
            if event.number not in delivery.handled:
                break
            position = event.number
        await self._record(delivery, position)
        return delivery.unreachable is None and len(new) == EVENTS_AT_ONCE

    async def _record(self, delivery: "_Delivery", position: int) -> None:
        state, now = self.state, delivery.now
        changed = state.replace(
            position=position,
            held=tuple(delivery.held[number] for number in sorted(delivery.held)),
            delivered_at=now if delivery.delivered else state.delivered_at,
            given_up=state.given_up + delivery.given_up,
        )
        if delivery.unreachable:
            pause = timedelta(seconds=RETRIES.pause_seconds(state.failures + 1))
            changed = changed.replace(
                failing_since=state.failing_since or now,
                failures=state.failures + 1,
                due_at=now + pause,
                error=delivery.unreachable,
            )
        elif delivery.delivered or delivery.refused:
            error = delivery.refused or (state.error if delivery.held else None)
            changed = changed.replace(failing_since=None, failures=0, due_at=None, error=error)
        await self.video.put(keys.webhook_state(self.id), changed.to_json())
        self.state = changed


@dataclass(slots=True)
class _Delivery:
    """One pass over some events. Those of one video are sent one after another."""

    endpoint: Endpoint
    now: datetime
    held: dict[int, Held]
    handled: set[int] = field(default_factory=set)
    """Delivered, held or given up."""
    delivered: int = 0
    given_up: int = 0
    unreachable: str | None = None
    refused: str | None = None
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(REQUESTS_AT_ONCE))

    async def of_video(self, events: Sequence[Event], waits_until: datetime | None) -> None:
        """Deliver the events of one video in order. They are held if an earlier one must wait."""
        for event in events:
            hold = self.held.get(event.number)
            if waits_until is not None:
                hold = hold or Held(number=event.number, video=event.data.id, due_at=waits_until)
                self._hold(hold.model_copy(update={"due_at": waits_until}))
                continue
            async with self._slots:
                if self.unreachable is None:
                    waits_until = await self._send(event, hold)
            if event.number not in self.handled:
                if not self._is_too_old(event):
                    return
                self._end(event, given_up=True)

    async def _send(self, event: Event, hold: Held | None) -> datetime | None:
        """Return until when the video's other events must wait, if they must."""
        try:
            await self.endpoint.send(event)
        except Unreachable as error:
            self.unreachable = str(error)
        except Refused as error:
            self.refused = str(error)
            failures = (hold.failures if hold else 0) + 1
            since = (hold.since if hold else None) or self.now
            if self.now - since >= GIVE_UP_AFTER:
                self._end(event, given_up=True)
                return None
            due_at = self.now + timedelta(seconds=RETRIES.pause_seconds(failures))
            video = event.data.id
            self._hold(Held(number=event.number, video=video, since=since, failures=failures, due_at=due_at))
            return due_at
        else:
            self.delivered += 1
            self._end(event)
        return None

    def _hold(self, held: Held) -> None:
        self.held[held.number] = held
        self.handled.add(held.number)

    def _end(self, event: Event, *, given_up: bool = False) -> None:
        self.held.pop(event.number, None)
        self.handled.add(event.number)
        self.given_up += given_up
        if given_up:
            log.warning("webhook_given_up", endpoint=self.endpoint.state.address, event_id=event.id)

    def _is_too_old(self, event: Event) -> bool:
        """Return whether nothing got through for a day in which the event was there."""
        since = self.endpoint.state.failing_since
        return since is not None and self.now - max(since, event.timestamp) >= GIVE_UP_AFTER

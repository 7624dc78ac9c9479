"""Delivers events to all endpoints, in one worker at a time."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime

import structlog

from backend.core import keys
from backend.core.concurrency import gather_or_cancel, run_unless_set, sleep_unless_set
from backend.core.errors import LeaseLost, StoreError
from backend.core.event_records import Event, WebhookState
from backend.core.events.delivering import DeliveryLease, read_state
from backend.core.events.log import EventLog
from backend.core.store.interface import Buckets
from worker.webhooks.endpoint import Endpoint
from worker.webhooks.sending import Target

log = structlog.get_logger(__name__)

Send = Callable[[Event], Awaitable[None]]
"""Raises: Refused, Unreachable."""


class Deliveries:
    """The webhooks of one worker, `owner`. It looks for events every `poll_seconds`."""

    def __init__(
        self,
        buckets: Buckets,
        sends: Mapping[Target, Send],
        *,
        owner: str,
        poll_seconds: float,
        lease_seconds: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._buckets = buckets
        self._sends = sends
        self._lease = DeliveryLease(buckets.video, owner, [target.id for target in sends], lease_seconds)
        self._renew_seconds = lease_seconds / 3
        self._poll_seconds = poll_seconds
        self._now = now

    async def keep(self, stop: asyncio.Event) -> None:
        """Until `stop` is set, deliver while no other worker does."""
        while not stop.is_set():
            try:
                if await self._lease.take():
                    log.info("webhooks_begin", endpoints=[target.address for target in self._sends])
                    await run_unless_set(stop, self._deliver())
                    await self._lease.give_back()
            except LeaseLost:
                log.warning("webhooks_lost")
            except StoreError as error:
                log.warning("webhooks_failed", error=error.message)
            except Exception:  # a bug must neither end this task unseen, nor the worker
                log.exception("webhooks_broke")
            await sleep_unless_set(stop, self._renew_seconds * random.uniform(0.5, 1))  # noqa: S311  # keeps workers apart

    async def _deliver(self) -> None:
        """Raises: LeaseLost, StoreError."""
        events = EventLog(self._buckets, self._now)
        endpoints = await self.endpoints(events)
        await gather_or_cancel(
            [self._renew(), self._append(events), *(self._serve(endpoint) for endpoint in endpoints)]
        )

    async def endpoints(self, events: EventLog) -> Sequence[Endpoint]:
        """Return the endpoints where they were left. New ones begin after all that has happened so far."""
        while await events.append():
            pass
        found = []
        for target, send in self._sends.items():
            state = await read_state(self._buckets.video, target.id)
            if state is None or state.position > events.last:  # the log is another one
                state = WebhookState(address=target.address, position=events.last)
            # even an unchanged one: the sweeper removes those of endpoints that nobody serves
            await self._buckets.video.put(keys.webhook_state(target.id), state.to_json())
            found.append(Endpoint(target.id, state, events, self._buckets.video, send, self._now))
        return found

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._renew_seconds)
            await self._lease.renew()

    async def _append(self, events: EventLog) -> None:
        while True:
            try:
                while await events.append():
                    pass
            except StoreError as error:
                log.warning("events_not_logged", error=error.message)
            await asyncio.sleep(self._poll_seconds)

    async def _serve(self, endpoint: Endpoint) -> None:
        while True:
            try:
                if await endpoint.deliver():
                    continue
            except StoreError as error:
                log.warning("webhook_not_recorded", endpoint=endpoint.state.address, error=error.message)
            await asyncio.sleep(self._poll_seconds)

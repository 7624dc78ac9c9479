"""A log of events, an endpoint that answers as told, and a deliverer that dies when told."""

import random
from collections.abc import Sequence
from datetime import timedelta

from backend.core import keys
from backend.core.event_records import Event, EventBatch, EventData, WebhookState
from backend.core.events.log import EventLog
from backend.core.store.interface import Buckets
from tests.core.jobs.queue_lab import Clock, WorkerCrashed
from tests.lab.memory_store import MemoryStore
from worker.webhooks.endpoint import Endpoint
from worker.webhooks.sending import NotDelivered

ENDPOINT = "0123456789abcdef"


class WebhookLab:
    def __init__(self) -> None:
        self.clock = Clock()
        self.buckets = Buckets(MemoryStore(self.clock), MemoryStore(self.clock))
        self.written = 0
        self.received: list[str] = []
        self.answers: dict[str, NotDelivered] = {}
        """By video, or "" for all."""
        self.dies_at: float = 0
        """The share of deliveries at which the deliverer is killed, half of them after the POST."""
        self.rng = random.Random(1)

    async def happen(self, *videos: str) -> None:
        """Log one event for each of these, in one batch."""
        events = tuple(
            Event(
                number=self.written + place,
                id=f"{video}-{self.written + place}",
                type="webhook.test" if video == "test" else "video.done",
                timestamp=self.clock(),
                data=EventData(id=video),
            )
            for place, video in enumerate(videos, 1)
        )
        batch = EventBatch(logged_at=self.clock(), events=events)
        await self.buckets.video.put(keys.event_batch(self.written + 1), batch.to_json())
        self.written += len(videos)

    async def endpoint(self) -> Endpoint:
        """Start a deliverer anew, with what the store has."""
        log = EventLog(self.buckets, self.clock)
        await log.append()
        state = WebhookState(address="http://receiver", position=0)
        async for info in self.buckets.video.list_all(keys.webhook_state(ENDPOINT)):
            state = WebhookState.from_json((await self.buckets.video.get(info.key)).body)
        return Endpoint(ENDPOINT, state, log, self.buckets.video, self.send, self.clock)

    async def send(self, event: Event) -> None:
        dies = self.rng.random() < self.dies_at
        if dies and self.rng.random() < 0.5:
            raise WorkerCrashed
        if answer := self.answers.get(event.data.id) or self.answers.get(""):
            raise answer
        self.received.append(event.id)
        if dies:
            raise WorkerCrashed

    async def deliver_all(self, endpoint: Endpoint) -> None:
        await endpoint.log.append()
        while await endpoint.deliver():
            pass

    def wait(self, seconds: float) -> None:
        self.clock.now += timedelta(seconds=seconds)


def first_of_each(received: Sequence[str]) -> dict[str, list[int]]:
    """Return the numbers of each video's events as they came first."""
    found: dict[str, list[int]] = {}
    for event in dict.fromkeys(received):
        video, _, number = event.rpartition("-")
        found.setdefault(video, []).append(int(number))
    return found

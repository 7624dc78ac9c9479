"""Which worker delivers events to webhooks, and how far each endpoint has got.

A worker that delivers holds the highest generation of `webhooks/deliverer/`, as with leases of jobs. Two that
deliver at once would do no harm beyond repeats.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from backend.core import keys
from backend.core.errors import LeaseLost, ObjectNotFound
from backend.core.event_records import Deliverer, WebhookState
from backend.core.records import RecordUnreadable
from backend.core.store.generations import group_generations
from backend.core.store.interface import Store


class DeliveryLease:
    """The right to deliver, as one worker sees it. After `lease_seconds` of silence another takes it."""

    def __init__(self, video: Store, owner: str, endpoints: Sequence[str], lease_seconds: float) -> None:
        self._video = video
        self._lease = timedelta(seconds=lease_seconds)
        record = Deliverer(owner=owner, endpoints=tuple(endpoints), lease_seconds=lease_seconds)
        self._body = record.to_json()
        self._generation = 0

    async def take(self) -> bool:
        """Take the lease if nobody has it. Returns whether this did."""
        page = await self._video.list_page(keys.DELIVERERS)
        held = group_generations(page.objects, keys.parse_deliverer).get(keys.DELIVERERS, [])
        if held:
            generation, info = held[-1]
            if info.size_bytes and page.store_now - info.modified <= self._lease:
                return False
            self._generation = generation + 1
        if not await self._video.create(keys.deliverer(self._generation), self._body):
            return False
        await self._video.delete_many([info.key for _, info in held])
        return True

    async def renew(self) -> None:
        """Raises: LeaseLost: another worker delivers."""
        key = keys.deliverer(self._generation)
        await self._video.put(key, self._body)
        page = await self._video.list_page(keys.DELIVERERS)
        held = group_generations(page.objects, keys.parse_deliverer).get(keys.DELIVERERS, [])
        if not held or held[-1][0] != self._generation:
            await self._video.delete(key)
            raise LeaseLost

    async def give_back(self) -> None:
        """Let another worker take it at once. The generation stays in use."""
        await self._video.put(keys.deliverer(self._generation), b"")


async def serving_endpoints(video: Store) -> Sequence[str]:
    """Return the endpoints to which events are being delivered; none if no worker delivers."""
    page = await video.list_page(keys.DELIVERERS)
    held = group_generations(page.objects, keys.parse_deliverer).get(keys.DELIVERERS, [])
    with suppress(ObjectNotFound, RecordUnreadable, IndexError):
        info = held[-1][1]
        record = Deliverer.from_json((await video.get(info.key)).body)
        if (page.store_now - info.modified).total_seconds() <= record.lease_seconds:
            return record.endpoints
    return ()


async def read_state(video: Store, endpoint: str) -> WebhookState | None:
    try:
        return WebhookState.from_json((await video.get(keys.webhook_state(endpoint))).body)
    except ObjectNotFound:
        return None

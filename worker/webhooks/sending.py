"""One POST of one event, signed as Standard Webhooks has it.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import aiohttp
from standardwebhooks import Webhook

from backend.core.event_records import Event

TIMEOUT_SECONDS = 20.0
"""Of a whole delivery. Standard Webhooks recommends 15 to 30 s."""
CONNECT_SECONDS = 10.0
_CONCERNS_THE_EVENT = {400, 409, 413, 415, 422, 500}
"""Any other answer would have met any event."""


class NotDelivered(Exception):
    """Says why in words for the operator, without the address."""


class Refused(NotDelivered):
    """The endpoint does not take this event now."""


class Unreachable(NotDelivered):
    """The endpoint takes no events now."""


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint, with the secrets that sign what it gets: several while they are being changed."""

    url: str
    secrets: Sequence[str]

    @property
    def id(self) -> str:
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]

    @property
    def address(self) -> str:
        """The part of the URL that cannot be secret."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


@dataclass(frozen=True, slots=True)
class Sender:
    session: aiohttp.ClientSession
    target: Target
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def send(self, event: Event) -> None:
        """Raises: Refused, Unreachable: the endpoint has not answered with a 2xx."""
        body = event.model_dump_json(include={"type", "timestamp", "data"}, exclude_none=True)
        at = self.now()
        signatures = (Webhook(secret).sign(event.id, at, body) for secret in self.target.secrets)
        headers = {
            "content-type": "application/json",
            "user-agent": "vodbucket",
            "webhook-id": event.id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signatures),
        }
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS, connect=CONNECT_SECONDS)
        try:
            async with self.session.post(
                self.target.url, data=body.encode(), headers=headers, allow_redirects=False, timeout=timeout
            ) as response:
                status = response.status
        except TimeoutError:
            raise Unreachable("It does not answer in time.") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"The connection failed ({type(error).__name__}).") from None
        if status in _CONCERNS_THE_EVENT:
            raise Refused(f"It answered {status}.")
        if not 200 <= status < 300:
            raise Unreachable(f"It answered {status}.")

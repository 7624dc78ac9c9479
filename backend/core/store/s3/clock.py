"""The store's clock: requests are signed by it, so a machine whose own clock is wrong is not refused.

Stores refuse signatures that are 15 minutes off, and presigned URLs that start in the future. Every answer
has a `Date`, also a refusal, which is how the first request learns the time.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast

import structlog
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from backend.core.store.interface import CLOCK_TOLERANCE_SECONDS
from backend.core.store.s3.presign import Credentials

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

ATTEMPTS = 3
_REFUSED = {400, 401, 403}
"""An answer to HEAD has no error code, so the status must do."""

_log = structlog.get_logger()


class StoreClock:
    """How far the store's clock is ahead of this machine's; 0 while they agree within the tolerance.

    It changes only if an answer contradicts it, so that equal requests get equal presigned URLs.
    """

    def __init__(self) -> None:
        self.ahead_seconds = 0

    def learn(self, date: str | None, sent: float, received: float) -> None:
        """Compare the `Date` of an answer, in whole seconds, with when it was requested and received."""
        try:
            store = parsedate_to_datetime(date or "").timestamp()
        except ValueError:
            return
        lowest, highest = store - received, store + 1 - sent
        if lowest - CLOCK_TOLERANCE_SECONDS <= self.ahead_seconds <= highest + CLOCK_TOLERANCE_SECONDS:
            return
        ahead = round((lowest + highest) / 2)
        self.ahead_seconds = ahead if abs(ahead) > CLOCK_TOLERANCE_SECONDS else 0
        _log.warning("clock_differs_from_the_stores", store_is_ahead_seconds=self.ahead_seconds)


def sign_by_store_clock(
    client: "S3Client", clock: StoreClock, credentials: Callable[[], Credentials]
) -> None:
    """Make a client learn the store's time from each answer and, if it differs from ours, sign by it.

    A request that was refused and whose answer changed the clock is signed and sent again.
    """

    def sign(request: AWSRequest, **_: object) -> None:
        request.context["sent_at"], request.context["clock_ahead"] = time.time(), clock.ahead_seconds
        if clock.ahead_seconds:
            region = request.context.get("signing", {}).get("region", client.meta.region_name)
            held = credentials()
            frozen = ReadOnlyCredentials(held.access_key, held.secret_key, held.session_token)
            _StoreClockAuth(frozen, "s3", region).add_auth(request)

    def learn(context: dict[str, Any], response_dict: dict[str, Any] | None = None, **_: object) -> None:
        if response_dict is not None:
            clock.learn(response_dict["headers"].get("date"), context["sent_at"], time.time())

    def again(
        attempts: int, request_dict: dict[str, Any], response: tuple[Any, Any] | None, **_: object
    ) -> float | None:
        refused = response is not None and response[0].status_code in _REFUSED
        changed = request_dict["context"]["clock_ahead"] != clock.ahead_seconds
        return 0 if refused and changed and attempts < ATTEMPTS else None

    events = client.meta.events
    events.register_last("request-created.s3", sign)  # after the SDK has signed it by our clock
    events.register("response-received.s3", learn)
    events.register("needs-retry.s3", cast(Any, again))


class _StoreClockAuth(S3SigV4Auth):
    """Signs for the time of the store's clock, in place of the SDK's signature."""

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        signed_at = datetime.fromtimestamp(time.time() + request.context["clock_ahead"], UTC)
        request.context["timestamp"] = signed_at.strftime("%Y%m%dT%H%M%SZ")
        super()._modify_request_before_signing(request)  # type: ignore[misc]  # the types do not know it

"""Retries requests with growing pauses while the server is unavailable, and reports each retry."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from backend.core.backoff import Backoff
from vodbucket.client.errors import ServerUnavailable

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to keep retrying at a time, and where to report it."""

    seconds: float
    """Only pauses count: a request itself may have spent its time sending."""
    report: Callable[[str], None]

    async def attempt(
        self, request: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Make a request that is safe to repeat. Raises: ServerUnavailable: for too long."""
        backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(ServerUnavailable),
            stop=lambda state: state.idle_for >= self.seconds,
            wait=lambda state: backoff.pause_seconds(state.attempt_number),
            before_sleep=self._report_retry,
            reraise=True,
        )
        return await attempts(request, *args, **kwargs)

    def _report_retry(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0
        self.report(f"{error} Retrying in {pause:.0f} s.")

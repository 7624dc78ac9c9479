"""Going on while the server is away: the same request again, with growing pauses, and somebody is told."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from backend.core.backoff import Backoff
from vodbucket.errors import ServerAway

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0

T = TypeVar("T")
Asked = ParamSpec("Asked")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server may be away at a time, and who hears of it."""

    seconds: float
    """Of pauses: what a request itself takes may have been spent on sending."""
    tell: Callable[[str], None]

    async def attempt(
        self, request: Callable[Asked, Coroutine[Any, Any, T]], *asked: Asked.args, **named: Asked.kwargs
    ) -> T:
        """Make a request, which may be repeated. Raises: ServerAway: it was away for longer."""
        backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(ServerAway),
            stop=lambda state: state.idle_for >= self.seconds,
            wait=lambda state: backoff.pause_seconds(state.attempt_number),
            before_sleep=self._tell,
            reraise=True,
        )
        return await attempts(request, *asked, **named)

    def _tell(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0
        self.tell(f"{error} Trying again in {pause:.0f} s.")

"""Limits on guessing tokens, access codes and passphrases: wrong ones are counted in this process.

They are counted by address and in total. An address that has used a right one is exempt from the total, so
that guesses from elsewhere cannot lock it out. Sessions are not affected at all: their cookies are signed, so
nobody guesses them.
"""

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address

from backend.core.errors import VodbucketError

MAX_FAILING = 10_000
MAX_GOOD = 1_000
"""How many addresses are remembered. Only a right guess makes one good, so guesses displace none."""


class TooManyAttempts(VodbucketError):
    """Too many wrong tokens, access codes or passphrases. Try again in a moment."""

    code = "too_many_attempts"

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__()
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Pace:
    """`burst` failures at once, then one every `seconds`.

    The state is one number: the time at which all failures are paid off (the generic cell rate algorithm).
    """

    burst: int
    seconds: float

    def wait(self, paid_off: float, now: float) -> float:
        """Return the seconds until the next attempt. Not positive: at once."""
        return paid_off - now - (self.burst - 1) * self.seconds

    def after_failure(self, paid_off: float, now: float) -> float:
        return max(paid_off, now) + self.seconds


BY_ADDRESS = Pace(burst=10, seconds=10)
IN_TOTAL = Pace(burst=100, seconds=1)


class Attempts:
    """Counts wrong guesses of one kind. `monotonic` returns seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._total = 0.0
        self._failing: dict[str, float] = {}
        self._good: dict[str, float] = {}

    async def check(self, address: str, is_right: Callable[[], Awaitable[bool]]) -> bool:
        """Return whether the guess is right. Raises: TooManyAttempts: it was not compared.

        Of many at once, each is compared, and all wrong ones count against those that follow.
        """
        now, source = self._monotonic(), _source_of(address)
        paid_off = self._failing.get(source, 0.0)
        wait = BY_ADDRESS.wait(paid_off, now)
        if source not in self._good:
            wait = max(wait, IN_TOTAL.wait(self._total, now))
        if wait > 0:
            raise TooManyAttempts(math.ceil(wait))
        if await is_right():
            _remember(self._good, source, now, MAX_GOOD)
            return True
        self._total = IN_TOTAL.after_failure(self._total, now)
        paid_off = BY_ADDRESS.after_failure(self._failing.get(source, 0.0), now)
        _remember(self._failing, source, paid_off, MAX_FAILING)
        return False


def _remember(times: dict[str, float], source: str, time: float, most: int) -> None:
    """Note a time for the address, and drop the address whose time was noted longest ago."""
    times.pop(source, None)
    times[source] = time
    if len(times) > most:
        del times[next(iter(times))]


def _source_of(address: str) -> str:
    """Return what counts as one address: for IPv6 the /64, as a subscriber has all of it."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((parsed, 64), strict=False))

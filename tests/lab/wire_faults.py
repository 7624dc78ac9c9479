"""What can happen to a request between the product and a store, and the rules that say to which."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Call:
    """A request as rules see it. `operation` is S3's name for it."""

    operation: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    at: float
    """On the monotonic clock."""


# Faults


@dataclass(frozen=True, slots=True)
class Answered:
    """The proxy answers by itself; the store never hears of it."""

    status: int
    code: str


@dataclass(frozen=True, slots=True)
class Reset:
    """Both connections are reset (RST), `after_bytes` into the body of the request or of the answer."""

    during: Literal["request", "answer"]
    after_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Truncated:
    """The answer's body ends, by an orderly close, after fewer bytes than its length says."""

    after_bytes: int


@dataclass(frozen=True, slots=True)
class Stalled:
    """The answer's body stops `after_bytes` in and nothing follows, until `FaultProxy.release`."""

    after_bytes: int


@dataclass(frozen=True, slots=True)
class Hung:
    """Nothing is forwarded nor answered, until `FaultProxy.release`, which ends the connection."""


@dataclass(frozen=True, slots=True)
class Delayed:
    """The request is forwarded late, by a random time up to `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Throttled:
    """Bodies move at so many bytes a second, in both directions."""

    bytes_per_second: float


@dataclass(frozen=True, slots=True)
class AnswerLost:
    """The store does what it is asked; the connection is reset instead of an answer."""


@dataclass(frozen=True, slots=True)
class Duplicated:
    """The request reaches the store a second time, so much later; that answer goes nowhere."""

    after_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class HeaderDropped:
    """The store never sees this header (lower case). The SDK signs most: for a store that does not check."""

    name: str


@dataclass(frozen=True, slots=True)
class Flipped:
    """One bit of one byte of the body, its chunked framing included, is another on the other side.

    The head arrives before it, by itself.
    """

    side: Literal["request", "answer"]
    at_byte: int


@dataclass(frozen=True, slots=True)
class Forwarded:
    """Nothing happens on the wire: for rules that only count, or whose `then` does the harm."""


Fault = (
    Answered
    | Reset
    | Truncated
    | Stalled
    | Hung
    | Delayed
    | Throttled
    | AnswerLost
    | Duplicated
    | HeaderDropped
    | Flipped
    | Forwarded
)


@dataclass(slots=True)
class Rule:
    """Which calls are struck, by what and how often; `struck` counts.

    The first `skip` matching calls pass. `times=None` strikes without end. `then` runs just before, in a
    thread of its own: it may kill what made the call, or change the store by another way.
    """

    matches: Callable[[Call], bool]
    fault: Fault
    times: int | None = 1
    skip: int = 0
    probability: float = 1.0
    then: Callable[[Call], None] | None = None
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    struck: int = 0
    seen: int = 0

    def takes(self, call: Call) -> bool:
        """Say whether this call is struck, and count it."""
        if not self.matches(call):
            return False
        self.seen += 1
        if self.seen <= self.skip or (self.times is not None and self.struck >= self.times):
            return False
        if self.probability < 1 and self.rng.random() >= self.probability:
            return False
        self.struck += 1
        return True


def calls(*operations: str, key: str = "", conditional: bool | None = None) -> Callable[[Call], bool]:
    """Match calls of these operations (any, when none is named) whose key contains `key`."""

    def matches(call: Call) -> bool:
        return (
            (not operations or call.operation in operations)
            and key in call.key
            and (conditional is None or conditional == ("if-none-match" in call.headers))
        )

    return matches

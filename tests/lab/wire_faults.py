"""Faults that can hit a request between the product and a store, and the rules that choose the requests."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Call:
    """A request as rules see it. `operation` is its S3 name."""

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
    """The proxy answers by itself; the request never reaches the store."""

    status: int
    code: str


@dataclass(frozen=True, slots=True)
class Reset:
    """Both connections are reset (RST), `after_bytes` into the request or response body."""

    during: Literal["request", "answer"]
    after_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Truncated:
    """The response body ends with an orderly close after `after_bytes`, short of its announced length."""

    after_bytes: int


@dataclass(frozen=True, slots=True)
class Stalled:
    """The response body stops after `after_bytes`; the connection stays open until `FaultProxy.release`."""

    after_bytes: int


@dataclass(frozen=True, slots=True)
class Hung:
    """Nothing is forwarded or answered. `FaultProxy.release` closes the connection."""


@dataclass(frozen=True, slots=True)
class Delayed:
    """The request is forwarded after a random delay of up to `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Throttled:
    """Bodies are limited to this rate in both directions."""

    bytes_per_second: float


@dataclass(frozen=True, slots=True)
class AnswerLost:
    """The store carries out the request, but the client gets a reset instead of a response."""


@dataclass(frozen=True, slots=True)
class Duplicated:
    """The store gets the request again, `after_seconds` later; the second response is discarded."""

    after_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class HeaderDropped:
    """Removes this header (lower case). The SDK signs most headers: for stores that check no signatures."""

    name: str


@dataclass(frozen=True, slots=True)
class Flipped:
    """One bit of the body, whose chunked framing counts as part of it, is flipped in transit.

    The head arrives first, by itself.
    """

    side: Literal["request", "answer"]
    at_byte: int


@dataclass(frozen=True, slots=True)
class Forwarded:
    """The request is forwarded unchanged: for rules that only count, or whose `then` does the damage."""


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
    """Which calls get the fault, and how often; `struck` counts them.

    The first `skip` matching calls pass. `times=None` means no limit. `then` runs just before the fault, in
    its own thread: it may kill the caller or change the store directly.
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
        """Count this call and return whether it gets the fault."""
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
    """Match calls of these operations (all if none are given) whose key contains `key`."""

    def matches(call: Call) -> bool:
        return (
            (not operations or call.operation in operations)
            and key in call.key
            and (conditional is None or conditional == ("if-none-match" in call.headers))
        )

    return matches

"""How long the command line retries while the server is unavailable."""

import asyncio

import pytest

from vodbucket.client import patience
from vodbucket.client.errors import RequestRejected, ServerUnavailable
from vodbucket.client.patience import Patience


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 0.001)


class _Request:
    """A slow request that fails once with each of these errors, then succeeds."""

    def __init__(self, *failures: Exception, takes_seconds: float = 0) -> None:
        self.made = 0
        self._failures = failures
        self._takes_seconds = takes_seconds

    async def __call__(self) -> int:
        self.made += 1
        await asyncio.sleep(self._takes_seconds)
        if self.made <= len(self._failures):
            raise self._failures[self.made - 1]
        return self.made


async def test_the_time_of_a_request_does_not_count() -> None:
    """For example, an upload whose connection breaks after an hour."""
    request = _Request(ServerUnavailable("reset"), takes_seconds=0.1)

    assert await Patience(0.05, lambda _: None).attempt(request) == 2


async def test_pauses_count_and_the_last_error_is_raised() -> None:
    request, reported = _Request(*[ServerUnavailable("away")] * 1000), list[str]()

    with pytest.raises(ServerUnavailable, match="away"):
        await Patience(0.05, reported.append).attempt(request)

    assert 2 < request.made < 1000
    assert len(reported) == request.made - 1


async def test_zero_patience_makes_one_request() -> None:
    request = _Request(ServerUnavailable("away"))

    with pytest.raises(ServerUnavailable):
        await Patience(0, lambda _: None).attempt(request)

    assert request.made == 1


async def test_rejected_request_is_not_retried() -> None:
    request = _Request(RequestRejected("no"))

    with pytest.raises(RequestRejected):
        await Patience(60, lambda _: None).attempt(request)

    assert request.made == 1

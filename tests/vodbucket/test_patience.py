"""How long the command line waits for a server that is away."""

import asyncio

import pytest

from vodbucket import patience
from vodbucket.errors import Refused, ServerAway
from vodbucket.patience import Patience


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 0.001)


class _Request:
    """Takes its time and fails, each time in another way, then succeeds."""

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


async def test_what_a_request_itself_takes_costs_no_patience() -> None:
    """As of an upload of an hour, at the end of which the connection breaks."""
    request = _Request(ServerAway("reset"), takes_seconds=0.1)

    assert await Patience(0.05, lambda _: None).attempt(request) == 2


async def test_pauses_do_and_the_last_failure_is_told() -> None:
    request, told = _Request(*[ServerAway("away")] * 1000), list[str]()

    with pytest.raises(ServerAway, match="away"):
        await Patience(0.05, told.append).attempt(request)

    assert 2 < request.made < 1000
    assert len(told) == request.made - 1


async def test_without_patience_a_request_is_made_once() -> None:
    request = _Request(ServerAway("away"))

    with pytest.raises(ServerAway):
        await Patience(0, lambda _: None).attempt(request)

    assert request.made == 1


async def test_what_is_refused_is_not_asked_again() -> None:
    request = _Request(Refused("no"))

    with pytest.raises(Refused):
        await Patience(60, lambda _: None).attempt(request)

    assert request.made == 1

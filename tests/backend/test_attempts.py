"""Limits on wrong tokens: by address, in total, and without shutting out others."""

import pytest

from backend.web import attempts as limits
from backend.web.attempts import BY_ADDRESS, IN_TOTAL, Attempts, TooManyAttempts

ADMIN, GUESSER = "192.0.2.1", "198.51.100.1"


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> Attempts:
    return Attempts(clock)


def _guess(attempts: Attempts, address: str) -> int:
    """Try a wrong token and return how many seconds to wait if it was not compared, else 0."""
    try:
        assert not _check(attempts, address, is_right=False)
    except TooManyAttempts as error:
        return error.retry_after_seconds
    return 0


def _sign_in(attempts: Attempts, address: str) -> bool:
    return _check(attempts, address, is_right=True)


def _check(attempts: Attempts, address: str, *, is_right: bool) -> bool:
    async def compare() -> bool:
        return is_right

    try:
        attempts.check(address, compare).send(None)
    except StopIteration as ended:
        return bool(ended.value)
    raise AssertionError("it waited")


def test_an_address_has_a_few_guesses_and_then_one_in_a_while(attempts: Attempts, clock: Clock) -> None:
    assert [_guess(attempts, GUESSER) for _ in range(BY_ADDRESS.burst)] == [0] * BY_ADDRESS.burst
    assert _guess(attempts, GUESSER) == BY_ADDRESS.seconds

    compared = 0
    for _ in range(8 * 600):  # ten minutes of guesses
        clock.now += 0.125
        compared += _guess(attempts, GUESSER) == 0

    assert compared == 600 / BY_ADDRESS.seconds


def test_a_blocked_address_is_refused_even_with_the_right_token(attempts: Attempts, clock: Clock) -> None:
    for _ in range(BY_ADDRESS.burst):
        _guess(attempts, GUESSER)
    with pytest.raises(TooManyAttempts) as refused:
        _sign_in(attempts, GUESSER)
    clock.now += refused.value.retry_after_seconds
    assert _sign_in(attempts, GUESSER)


def test_guesses_from_elsewhere_do_not_count_against_an_address(attempts: Attempts) -> None:
    for _ in range(BY_ADDRESS.burst + 5):
        _guess(attempts, GUESSER)
    assert _sign_in(attempts, ADMIN)


def test_guesses_from_many_addresses_are_limited_in_total(attempts: Attempts, clock: Clock) -> None:
    compared = sum(_guess(attempts, f"198.51.{one}.{two}") == 0 for one in range(4) for two in range(100))
    assert compared == IN_TOTAL.burst

    for _ in range(80):
        clock.now += 0.125
        compared += sum(_guess(attempts, f"203.0.{one}.{two}") == 0 for one in range(2) for two in range(50))
    assert compared == IN_TOTAL.burst + 10 / IN_TOTAL.seconds


def test_an_attack_does_not_shut_out_an_address_that_has_used_the_token(
    attempts: Attempts, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    _sign_in(attempts, ADMIN)
    monkeypatch.setattr(limits, "MAX_FAILING", 50)
    for number in range(2000):
        clock.now += 0.01
        _guess(attempts, f"2001:db8:{number // 65536:x}:{number % 65536:x}::1")
        assert number % 100 or _sign_in(attempts, ADMIN)


def test_an_attack_delays_the_first_use_from_a_new_address_only_shortly(
    attempts: Attempts, clock: Clock
) -> None:
    for number in range(IN_TOTAL.burst):
        _guess(attempts, f"198.51.100.{number}")
    with pytest.raises(TooManyAttempts) as refused:
        _sign_in(attempts, ADMIN)
    assert refused.value.retry_after_seconds == IN_TOTAL.seconds
    clock.now += IN_TOTAL.seconds
    assert _sign_in(attempts, ADMIN)


@pytest.mark.parametrize(
    ("address", "same", "other"),
    [
        ("2001:db8:1:2::1", "2001:0db8:1:2:ffff::9", "2001:db8:1:3::1"),
        ("fe80::1%eth0", "fe80::2%eth1", "fe81::1"),
        ("::ffff:192.0.2.7", "192.0.2.7", "::ffff:192.0.2.8"),
        ("unix" * 40, "unix" * 20, "unix"),
        ("", "", "x"),
    ],
)
def test_addresses_of_one_subscriber_count_as_one(
    attempts: Attempts, address: str, same: str, other: str
) -> None:
    for _ in range(BY_ADDRESS.burst):
        _guess(attempts, address)
    assert _guess(attempts, same) > 0
    assert _guess(attempts, other) == 0


def test_memory_is_bounded(attempts: Attempts, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_FAILING", 50)
    monkeypatch.setattr(limits, "MAX_GOOD", 20)
    for number in range(200):
        clock.now += 2 * IN_TOTAL.seconds
        _guess(attempts, f"2001:db8:{number // 65536:x}:{number % 65536:x}::1")
        _sign_in(attempts, f"2001:db9:{number // 65536:x}:{number % 65536:x}::1")
    assert (len(attempts._failing), len(attempts._good)) == (50, 20)

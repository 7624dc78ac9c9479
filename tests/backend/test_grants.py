"""Grants and session cookies: only signed tokens are accepted."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core import keys
from backend.core.access.rights import EVERYONE, Right, RightKind
from backend.core.access.signing_keys import SigningKey, SigningKeys
from backend.core.access.tokens import TokenSigner
from backend.core.ids import new_id
from backend.playback.grants import Grants
from tests.lab.memory_store import MemoryStore

VIDEO = new_id(1_800_000_000_000)
NOW = 1_800_000_000.0


def _signing_keys(secret: str) -> SigningKeys:
    async def load() -> SigningKeys:
        store = MemoryStore()
        await store.create(keys.signing_key(1), SigningKey(secret=secret).to_json())
        loaded = SigningKeys(store)
        await loaded.reload()
        return loaded

    return asyncio.run(load())


SIGNING_KEYS = _signing_keys("5" * 64)


def _grants(signing_keys: SigningKeys = SIGNING_KEYS, now: float = NOW) -> Grants:
    return Grants(signing_keys, ttl_seconds=400, clock=lambda: now)


@pytest.mark.parametrize("right", [EVERYONE, *(Right(kind, "0123456789abcdef" * 2) for kind in RightKind)])
def test_grant_names_its_video_and_right_and_expires_on_time(right: Right) -> None:
    token, issued = _grants().issue(VIDEO, right)
    assert _grants().read(token) == issued
    assert (issued.video_id, issued.right) == (VIDEO, right)
    assert 300 < issued.expires_unix - NOW <= 400
    assert _grants(now=issued.expires_unix - 1).read(token) == issued
    assert _grants(now=issued.expires_unix).read(token) is None


async def test_a_grant_that_was_read_before_ends_with_its_time_and_with_its_key() -> None:
    store, now = MemoryStore(), [NOW]
    await store.create(keys.signing_key(1), SigningKey().to_json())
    signing_keys = SigningKeys(store)
    await signing_keys.reload()
    grants = Grants(signing_keys, ttl_seconds=400, clock=lambda: now[0])
    token, issued = grants.issue(VIDEO, EVERYONE)
    assert [grants.read(token), grants.read(token)] == [issued, issued]

    now[0] = issued.expires_unix
    assert grants.read(token) is None
    now[0] = NOW
    assert grants.read(token) == issued

    await store.create(keys.signing_key(2), SigningKey().to_json())
    await store.delete(keys.signing_key(1))
    await signing_keys.reload()
    assert grants.read(token) is None


def test_same_window_gives_the_same_token() -> None:
    first = _grants().issue(VIDEO, EVERYONE)
    assert first == _grants(now=NOW + 99).issue(VIDEO, EVERYONE)
    assert first != _grants(now=NOW + 100).issue(VIDEO, EVERYONE)


@given(st.integers(0, 75), st.integers(0, 7))
def test_rejects_any_flipped_bit(position: int, bit: int) -> None:
    token, _ = _grants().issue(VIDEO, EVERYONE)
    assert len(token) == 76
    flipped = bytearray(token.encode())
    flipped[position] ^= 1 << bit
    assert _grants().read(flipped.decode("latin-1")) is None


@given(st.text(max_size=80))
def test_rejects_arbitrary_text(text: str) -> None:
    assert _grants().read(text) is None


@pytest.mark.parametrize(
    "change", [lambda t: t + "=", lambda t: t + "A", lambda t: t[:-1], lambda t: f" {t}"]
)
def test_rejects_other_spellings_of_a_token(change: Callable[[str], str]) -> None:
    token, _ = _grants().issue(VIDEO, EVERYONE)
    assert _grants().read(change(token)) is None


def test_rejects_tokens_of_another_key_or_purpose() -> None:
    token, _ = _grants().issue(VIDEO, EVERYONE)
    assert _grants(_signing_keys("6" * 64)).read(token) is None
    cookie = TokenSigner(SIGNING_KEYS, "session", 38).sign(bytes(38))
    assert len(cookie) == len(token)
    assert _grants().read(cookie) is None

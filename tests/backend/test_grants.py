"""Grants and session cookies: only signed tokens are accepted."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core import keys
from backend.core.access.rights import EVERYONE, Right, RightKind
from backend.core.access.signing_keys import SigningKey, SigningKeys
from backend.core.access.tokens import TokenSigner
from backend.core.ids import new_id
from backend.core.store.interface import Store
from backend.playback.grants import Grants
from tests.lab.memory_store import MemoryStore

VIDEO = new_id(1_800_000_000_000)
NOW = 1_800_000_000.0


async def _signing_keys(store: Store | None = None, secret: str = "5" * 64) -> SigningKeys:
    store = store or MemoryStore()
    await store.create(keys.signing_key(1), SigningKey(secret=secret).to_json())
    signing_keys = SigningKeys(store)
    await signing_keys.reload()
    return signing_keys


@pytest.fixture
async def signing_keys() -> SigningKeys:
    return await _signing_keys()


def _grants(signing_keys: SigningKeys, now: float = NOW) -> Grants:
    return Grants(signing_keys, ttl_seconds=400, clock=lambda: now)


@pytest.mark.parametrize("right", [EVERYONE, *(Right(kind, "0123456789abcdef" * 2) for kind in RightKind)])
def test_grant_names_its_video_and_right_and_expires_on_time(signing_keys: SigningKeys, right: Right) -> None:
    token, issued = _grants(signing_keys).issue(VIDEO, right)
    assert _grants(signing_keys).read(token) == issued
    assert (issued.video_id, issued.right) == (VIDEO, right)
    assert 300 < issued.expires_unix - NOW <= 400
    assert _grants(signing_keys, issued.expires_unix - 1).read(token) == issued
    assert _grants(signing_keys, issued.expires_unix).read(token) is None


def test_same_window_gives_the_same_token(signing_keys: SigningKeys) -> None:
    first = _grants(signing_keys).issue(VIDEO, EVERYONE)
    assert first == _grants(signing_keys, NOW + 99).issue(VIDEO, EVERYONE)
    assert first != _grants(signing_keys, NOW + 100).issue(VIDEO, EVERYONE)


@given(st.integers(0, 75), st.integers(0, 7))
async def test_rejects_any_flipped_bit(position: int, bit: int) -> None:
    signing_keys = await _signing_keys()
    token, _ = _grants(signing_keys).issue(VIDEO, EVERYONE)
    assert len(token) == 76
    flipped = bytearray(token.encode())
    flipped[position] ^= 1 << bit
    assert _grants(signing_keys).read(flipped.decode("latin-1")) is None


@given(st.text(max_size=80))
async def test_rejects_arbitrary_text(text: str) -> None:
    assert _grants(await _signing_keys()).read(text) is None


@pytest.mark.parametrize(
    "change", [lambda t: t + "=", lambda t: t + "A", lambda t: t[:-1], lambda t: f" {t}"]
)
def test_rejects_other_spellings_of_a_token(signing_keys: SigningKeys, change: Callable[[str], str]) -> None:
    token, _ = _grants(signing_keys).issue(VIDEO, EVERYONE)
    assert _grants(signing_keys).read(change(token)) is None


async def test_rejects_tokens_of_another_key_or_purpose(signing_keys: SigningKeys) -> None:
    token, _ = _grants(signing_keys).issue(VIDEO, EVERYONE)
    assert _grants(await _signing_keys(secret="6" * 64)).read(token) is None
    cookie = TokenSigner(signing_keys, "session", 38).sign(bytes(38))
    assert len(cookie) == len(token)
    assert _grants(signing_keys).read(cookie) is None

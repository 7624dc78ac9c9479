"""Sessions end when they expire, when they are ended anywhere, and when the admin token changes."""

from collections import Counter

import pytest

from backend.core import keys
from backend.core.access.admin_token import AdminToken
from backend.core.access.sessions import CACHED_SECONDS, Sessions
from backend.core.access.signing_keys import SigningKeys, add_signing_key, retire_signing_keys
from backend.core.store.interface import StoredObject
from tests.lab.memory_store import MemoryStore

TOKEN = "a-token-for-tests-0123456789"
TTL_SECONDS = 3600


class Counting(MemoryStore):
    """Counts reads by key."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = Counter[str]()

    async def get(self, key: str) -> StoredObject:
        self.reads[key] += 1
        return await super().get(key)


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> Counting:
    return Counting()


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def _process(store: MemoryStore, clock: Clock, token: str = TOKEN) -> Sessions:
    signing_keys = SigningKeys(store)
    await signing_keys.reload()
    return Sessions(store, signing_keys, AdminToken(token, signing_keys), TTL_SECONDS, clock)


async def _counts(sessions: Sessions, cookie: str) -> bool:
    session_id = sessions.id_of(cookie)
    return session_id is not None and await sessions.stands(session_id)


async def test_a_session_lasts_until_it_expires(store: Counting, clock: Clock) -> None:
    sessions = await _process(store, clock)
    cookie = await sessions.begin()

    clock.now += TTL_SECONDS - 1
    assert await _counts(sessions, cookie)
    clock.now += 1
    assert not await _counts(sessions, cookie)


async def test_ending_a_session_ends_only_that_one(store: Counting, clock: Clock) -> None:
    here, elsewhere = await _process(store, clock), await _process(store, clock)
    ended, other = await here.begin(), await here.begin()
    assert await _counts(elsewhere, ended)

    await here.end(here.id_of(ended) or "")

    assert not await _counts(here, ended)
    clock.now += CACHED_SECONDS
    assert not await _counts(elsewhere, ended)
    assert await _counts(here, other)
    assert await _counts(elsewhere, other)


async def test_a_clock_that_is_set_back_does_not_prolong_an_ended_session(
    store: Counting, clock: Clock
) -> None:
    here, elsewhere = await _process(store, clock), await _process(store, clock)
    cookie = await here.begin()
    assert await _counts(elsewhere, cookie)

    await here.end(here.id_of(cookie) or "")
    clock.now -= 1

    assert not await _counts(elsewhere, cookie)


async def test_all_other_sessions_can_be_ended_at_once(store: Counting, clock: Clock) -> None:
    sessions = await _process(store, clock)
    mine, *others = [await sessions.begin() for _ in range(4)]
    assert all([await _counts(sessions, cookie) for cookie in (mine, *others)])

    await sessions.end_others(sessions.id_of(mine))

    assert await _counts(sessions, mine)
    assert not any([await _counts(sessions, cookie) for cookie in others])


async def test_another_admin_token_ends_sessions(store: Counting, clock: Clock) -> None:
    cookie = await (await _process(store, clock)).begin()

    assert not await _counts(await _process(store, clock, "another-token-for-tests"), cookie)
    assert await _counts(await _process(store, clock), cookie)


async def test_sessions_last_while_their_signing_key_does(store: Counting, clock: Clock) -> None:
    cookie = await (await _process(store, clock)).begin()
    await add_signing_key(store)
    assert await _counts(await _process(store, clock), cookie)

    await retire_signing_keys(store)

    assert not await _counts(await _process(store, clock), cookie)


async def test_a_session_in_use_is_read_once_in_a_while(store: Counting, clock: Clock) -> None:
    sessions = await _process(store, clock)
    cookie = await sessions.begin()
    session_id = sessions.id_of(cookie) or ""

    assert not sessions.surely_stands(session_id)  # nothing was read yet
    for _ in range(100):
        assert await sessions.stands(session_id)
        assert sessions.surely_stands(session_id)

    assert store.reads[keys.session(session_id)] == 1


async def test_forged_cookies_cost_no_read(store: Counting, clock: Clock) -> None:
    sessions = await _process(store, clock)
    genuine = await sessions.begin()
    reads = store.reads.copy()

    for cookie in ("", "x", genuine[:-1], genuine + "A", genuine[:-4] + "AAAA", "A" * len(genuine)):
        assert not await _counts(sessions, cookie)
    assert store.reads == reads


async def test_the_bucket_holds_neither_cookies_nor_the_token(store: Counting, clock: Clock) -> None:
    cookie = await (await _process(store, clock)).begin()

    stored = [info.key for info in (await store.list_page("")).objects]
    everything = b"".join([key.encode() + (await store.get(key)).body for key in stored])
    assert cookie.encode() not in everything
    assert TOKEN.encode() not in everything


async def test_an_unreadable_session_does_not_count(store: Counting, clock: Clock) -> None:
    sessions = await _process(store, clock)
    cookie = await sessions.begin()
    await store.put(keys.session(sessions.id_of(cookie) or ""), b'{"schema_version": 2}')

    assert not await _counts(sessions, cookie)

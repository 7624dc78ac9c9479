"""Sessions end when they expire, when they are ended anywhere, and when the admin token changes."""

from collections import Counter

import pytest

from backend.core import keys
from backend.core.access.admin_token import AdminToken
from backend.core.access.codes import AccessCodes
from backend.core.access.people import People
from backend.core.access.principals import CACHED_SECONDS, Principals
from backend.core.access.rights import Right, RightKind
from backend.core.access.sessions import Sessions
from backend.core.access.signing_keys import SigningKeys, add_signing_key, retire_signing_keys
from backend.core.access.upload_links import UploadLinks
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


class Process:
    """Sessions of the admin token in one API process."""

    def __init__(self, store: MemoryStore, clock: Clock, signing_keys: SigningKeys, token: str) -> None:
        self.admin = AdminToken(token, signing_keys)
        self.sessions = Sessions(store, signing_keys, TTL_SECONDS, clock)
        self.principals = Principals(
            self.admin,
            self.sessions,
            People(store, clock),
            AccessCodes(store, clock),
            UploadLinks(store, clock),
            clock,
        )

    async def begin(self) -> str:
        return await self.sessions.begin(self.admin.fingerprint())

    async def end(self, cookie: str) -> None:
        await self.sessions.end(self.id_of(cookie))
        self.principals.forget_all()

    def id_of(self, cookie: str) -> str:
        return self.sessions.id_of(cookie)


async def _process(store: MemoryStore, clock: Clock, token: str = TOKEN) -> Process:
    signing_keys = SigningKeys(store)
    await signing_keys.reload()
    return Process(store, clock, signing_keys, token)


async def _counts(process: Process, cookie: str) -> bool:
    session_id = process.id_of(cookie)
    return bool(session_id and await process.principals.of(Right(RightKind.SESSION, session_id)))


async def test_a_session_lasts_until_it_expires(store: Counting, clock: Clock) -> None:
    process = await _process(store, clock)
    cookie = await process.begin()

    clock.now += TTL_SECONDS - 1
    assert await _counts(process, cookie)
    clock.now += 1
    assert not await _counts(process, cookie)


async def test_ending_a_session_ends_only_that_one(store: Counting, clock: Clock) -> None:
    here, elsewhere = await _process(store, clock), await _process(store, clock)
    ended, other = await here.begin(), await here.begin()
    assert await _counts(elsewhere, ended)

    await here.end(ended)

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

    await here.end(cookie)
    clock.now -= 1

    assert not await _counts(elsewhere, cookie)


async def test_all_other_sessions_can_be_ended_at_once(store: Counting, clock: Clock) -> None:
    process = await _process(store, clock)
    mine, *others = [await process.begin() for _ in range(4)]
    assert all([await _counts(process, cookie) for cookie in (mine, *others)])

    await process.sessions.end_others(process.id_of(mine), None)
    process.principals.forget_all()

    assert await _counts(process, mine)
    assert not any([await _counts(process, cookie) for cookie in others])


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
    process = await _process(store, clock)
    cookie = await process.begin()
    right = Right(RightKind.SESSION, process.id_of(cookie))

    assert process.principals.peek(right) is None  # nothing was read yet
    for _ in range(100):
        assert await process.principals.of(right) == process.principals.peek(right) is not None

    assert store.reads[keys.session(right.holder)] == 1


async def test_forged_cookies_cost_no_read(store: Counting, clock: Clock) -> None:
    process = await _process(store, clock)
    genuine = await process.begin()
    reads = store.reads.copy()

    for cookie in ("", "x", genuine[:-1], genuine + "A", genuine[:-4] + "AAAA", "A" * len(genuine)):
        assert not await _counts(process, cookie)
    assert store.reads == reads


async def test_the_bucket_holds_neither_cookies_nor_the_token(store: Counting, clock: Clock) -> None:
    cookie = await (await _process(store, clock)).begin()

    stored = [info.key for info in (await store.list_page("")).objects]
    everything = b"".join([key.encode() + (await store.get(key)).body for key in stored])
    assert cookie.encode() not in everything
    assert TOKEN.encode() not in everything


async def test_an_unreadable_session_does_not_count(store: Counting, clock: Clock) -> None:
    process = await _process(store, clock)
    cookie = await process.begin()
    await store.put(keys.session(process.id_of(cookie)), b'{"schema_version": 2}')

    assert not await _counts(process, cookie)

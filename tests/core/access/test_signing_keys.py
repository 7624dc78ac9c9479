"""The signing keys when several processes start, when keys are added and retired, and without a store."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from backend.core import keys
from backend.core.access.signing_keys import (
    ACTIVE_AFTER_SECONDS,
    REFRESH_SECONDS,
    SigningKeys,
    add_signing_key,
    retire_signing_keys,
)
from backend.core.access.tokens import TokenSigner
from backend.core.errors import StoreUnavailable
from backend.core.store.interface import LIST_PAGE, Listing
from tests.lab.memory_store import MemoryStore


class StoreClock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def _signer(signing_keys: SigningKeys) -> TokenSigner:
    return TokenSigner(signing_keys, "test", 4)


async def _process(store: MemoryStore) -> SigningKeys:
    signing_keys = SigningKeys(store)
    await signing_keys.reload()
    return signing_keys


async def test_processes_that_start_together_agree_on_one_key() -> None:
    store = MemoryStore()

    processes = await asyncio.gather(*(_process(store) for _ in range(8)))

    token = _signer(processes[0]).sign(b"data")
    assert [_signer(process).verify(token) for process in processes] == [b"data"] * 8
    assert [info.key async for info in store.list_all("")] == [keys.signing_key(1)]


async def test_a_new_key_signs_once_every_process_has_loaded_it() -> None:
    clock = StoreClock()
    store = MemoryStore(clock)
    process, slow_process = await _process(store), await _process(store)
    assert await add_signing_key(store) == 2

    clock.now += timedelta(seconds=REFRESH_SECONDS)
    await process.reload()
    before = _signer(process).sign(b"data")
    assert _signer(slow_process).verify(before) == b"data"  # it has not looked yet
    await slow_process.reload()
    clock.now += timedelta(seconds=ACTIVE_AFTER_SECONDS)
    await process.reload()

    assert process.current[0] == 2
    assert _signer(slow_process).verify(_signer(process).sign(b"data")) == b"data"
    assert _signer(process).verify(before) == b"data"  # the older key still verifies


async def test_retired_keys_verify_no_longer() -> None:
    store = MemoryStore()
    process = await _process(store)
    token = _signer(process).sign(b"data")
    await add_signing_key(store)

    assert await retire_signing_keys(store) == 1
    await process.reload()

    assert _signer(process).verify(token) is None
    assert _signer(process).verify(_signer(process).sign(b"data")) == b"data"


async def test_concurrent_additions_make_one_key() -> None:
    store = MemoryStore()
    await _process(store)

    assert await asyncio.gather(add_signing_key(store), add_signing_key(store)) == [2, 2]
    assert len([info async for info in store.list_all("")]) == 2


async def test_unreadable_and_foreign_objects_are_ignored() -> None:
    store = MemoryStore()
    process = await _process(store)
    current = process.current
    bodies = (b'{"schema_version": 2}', b"", b'{"secret": "%s"}' % (b"x" * 64), b'{"secret": ""}')
    for number, name in enumerate(("2", "3", "4", "5", "x", "0", "99999", "1.bak")):
        await store.put(f"{keys.SIGNING_KEYS}{name}", bodies[number % 4])

    await process.reload()

    assert process.current == current


async def test_foreign_objects_do_not_prevent_the_first_key() -> None:
    store = MemoryStore()
    await store.put(f"{keys.SIGNING_KEYS}txt", b"a note")

    assert (await _process(store)).current[0] == 1


class Away(MemoryStore):
    away = True

    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = LIST_PAGE) -> Listing:
        if self.away:
            raise StoreUnavailable
        return await super().list_page(prefix, start_after=start_after, limit=limit)


async def test_tokens_are_not_rejected_while_no_key_could_be_loaded() -> None:
    store = Away()
    async with SigningKeys.kept_fresh(store) as signing_keys:
        signer = _signer(signing_keys)
        with pytest.raises(StoreUnavailable):
            signer.verify("A" * 32)
        store.away = False
        await signing_keys.reload()
        token = signer.sign(b"data")
        store.away = True
        with pytest.raises(StoreUnavailable):
            await signing_keys.reload()
        assert signer.verify(token) == b"data"

"""The contract of every store: objects and lists."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from backend.core.errors import ObjectNotFound, SourceChanged
from backend.core.store.interface import Store
from tests.contract.conftest import on_stores_that_list_in_key_order

EVERY_BYTE = bytes(range(256)) * 4
ODD_KEYS = [
    "a b",
    "plus+sign",
    "ümlaut/ключ/鍵",
    "per%20cent",
    "a&b=c;d,e",
    "quo'te(s)!*",
    "til~de",
    "<x>&amp;",
]


async def _body_of(store: Store, key: str, offset: int = 0, *, etag: str | None = None) -> bytes:
    return b"".join([chunk async for chunk in store.read(key, offset, etag=etag)])


async def test_an_object_is_read_back_as_it_was_written(store: Store) -> None:
    await store.put("k", EVERY_BYTE)

    found = await store.get("k")

    assert found.body == EVERY_BYTE
    assert found.info == await store.head("k")
    assert (found.info.key, found.info.size_bytes) == ("k", len(EVERY_BYTE))
    assert '"' not in found.info.etag


async def test_an_object_may_be_empty(store: Store) -> None:
    await store.put("k", b"")

    assert (await store.get("k")).body == b""
    assert (await store.head("k")).size_bytes == 0
    assert await _body_of(store, "k") == b""


async def test_put_replaces_an_object(store: Store) -> None:
    await store.put("k", b"old and longer")
    await store.put("k", b"new")

    assert (await store.get("k")).body == b"new"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_a_large_body_of_any_bytes_type_is_stored_whole(store: Store, kind: type) -> None:
    body = EVERY_BYTE * 1500

    await store.put("k", kind(body))

    assert (await store.get("k")).body == body


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_keys_with_special_characters_are_preserved(store: Store, key: str) -> None:
    await store.put(key, key.encode())

    assert (await store.get(key)).body == key.encode()
    assert [info.key async for info in store.list_all("")] == [key]
    await store.delete_many([key])
    assert [info.key async for info in store.list_all("")] == []


async def test_a_missing_object_is_not_found(store: Store) -> None:
    with pytest.raises(ObjectNotFound):
        await store.get("missing")
    with pytest.raises(ObjectNotFound):
        await store.head("missing")
    with pytest.raises(ObjectNotFound):
        await _body_of(store, "missing")


async def test_exactly_one_of_many_rivals_creates_an_object(store: Store) -> None:
    for race in range(5):
        bodies = [f"nonce {rival}".encode() for rival in range(16)]

        won = await asyncio.gather(*(store.create(f"race/{race}", body) for body in bodies))

        assert won.count(True) == 1
        assert (await store.get(f"race/{race}")).body == bodies[won.index(True)]


async def test_creating_an_existing_object_changes_nothing(store: Store) -> None:
    await store.put("k", b"first")

    assert await store.create("k", b"second") is False
    assert (await store.get("k")).body == b"first"


async def test_creating_the_same_body_again_succeeds(store: Store) -> None:
    assert await store.create("k", b"mine") is True
    assert await store.create("k", b"mine") is True


async def test_a_deleted_key_can_be_created_again(store: Store) -> None:
    await store.create("k", b"first")
    await store.delete("k")

    assert await store.create("k", b"second") is True


async def test_reading_starts_at_any_offset(store: Store) -> None:
    body = EVERY_BYTE * 1200
    await store.put("k", body)

    for offset in (0, 1, 65_536, len(body) - 1, len(body), len(body) + 1):
        assert await _body_of(store, "k", offset) == body[offset:]


async def test_reading_accepts_the_current_etag(store: Store) -> None:
    await store.put("k", b"body")
    etag = (await store.head("k")).etag

    assert await _body_of(store, "k", 2, etag=etag) == b"dy"


@pytest.mark.parametrize("offset", [0, 2, 100])
async def test_reading_a_replaced_object_raises_source_changed(store: Store, offset: int) -> None:
    await store.put("k", b"first")
    etag = (await store.head("k")).etag
    await store.put("k", b"other")

    with pytest.raises(SourceChanged):
        await _body_of(store, "k", offset, etag=etag)


async def test_a_reader_may_stop_early(store: Store) -> None:
    await store.put("k", EVERY_BYTE * 2000)

    for _ in range(3):
        reading = store.read("k")
        assert EVERY_BYTE.startswith((await anext(reading))[:256])
        await reading.aclose()

    assert (await store.head("k")).size_bytes == len(EVERY_BYTE) * 2000


async def test_a_deleted_object_is_gone_and_can_be_deleted_again(store: Store) -> None:
    await store.put("k", b"x")

    await store.delete("k")
    await store.delete("k")

    with pytest.raises(ObjectNotFound):
        await store.head("k")


async def test_delete_many_deletes_exactly_the_given_keys(store: Store) -> None:
    await store.put("keep", b"x")
    await store.put("go/1", b"x")
    await store.put("go/2", b"x")
    existing_and_missing = [f"go/{number}" for number in range(2050)]

    await store.delete_many(existing_and_missing)

    assert [info.key async for info in store.list_all("")] == ["keep"]


async def test_delete_many_accepts_no_keys(store: Store) -> None:
    await store.delete_many([])


async def test_a_list_is_sorted_by_utf8_bytes(store: Store) -> None:
    keys = ["a", "a0", "B", "b", "c/d", "c0", "\u00e9", "\uff5e", "\U0001f600", "a-1", "~"]
    for key in keys:
        await store.put(f"p/{key}", b"")

    listed = [info.key.removeprefix("p/") async for info in store.list_all("p/")]

    assert listed == sorted(keys, key=lambda key: key.encode())


@on_stores_that_list_in_key_order
async def test_a_slash_sorts_like_any_other_character(store: Store) -> None:
    keys = ["a", "a/b", "a0", "a-1", "a/", "~"]
    for key in keys:
        await store.put(f"p/{key}", b"")

    listed = [info.key.removeprefix("p/") async for info in store.list_all("p/")]

    assert listed == sorted(keys, key=lambda key: key.encode())


async def test_each_page_of_a_list_continues_after_the_last(store: Store) -> None:
    for number in range(7):
        await store.put(f"p/{number}", b"x" * number)
    await store.put("q/0", b"")

    first = await store.list_page("p/", limit=3)
    second = await store.list_page("p/", start_after=first.objects[-1].key, limit=3)
    last = await store.list_page("p/", start_after=second.objects[-1].key, limit=3)

    assert [info.key for info in first.objects] == ["p/0", "p/1", "p/2"]
    assert [info.size_bytes for info in second.objects] == [3, 4, 5]
    assert [info.key for info in last.objects] == ["p/6"]
    assert [first.truncated, second.truncated, last.truncated] == [True, True, False]


async def test_an_exactly_full_page_is_not_truncated(store: Store) -> None:
    for number in range(3):
        await store.put(f"p/{number}", b"")

    assert (await store.list_page("p/", limit=3)).truncated is False


async def test_a_list_may_start_after_a_key_that_does_not_exist(store: Store) -> None:
    await store.put("p/a", b"")
    await store.put("p/c", b"")

    page = await store.list_page("p/", start_after="p/b")

    assert [info.key for info in page.objects] == ["p/c"]


async def test_a_list_without_matching_keys_is_empty(store: Store) -> None:
    page = await store.list_page("none/")

    assert (page.objects, page.truncated) == ((), False)


async def test_list_and_head_agree(store: Store) -> None:
    await store.put("k", b"body")

    (listed,) = (await store.list_page("")).objects
    headed = await store.head("k")

    assert (listed.size_bytes, listed.etag) == (headed.size_bytes, headed.etag)
    assert abs(listed.modified - headed.modified) < timedelta(seconds=1)


async def test_a_list_reflects_every_completed_write_and_delete(store: Store) -> None:
    for number in range(10):
        await store.put(f"p/{number}", b"")
        assert len((await store.list_page("p/")).objects) == 1
        await store.delete(f"p/{number}")
        assert (await store.list_page("p/")).objects == ()


async def test_object_dates_and_store_now_come_from_the_same_clock(store: Store) -> None:
    await store.put("k", b"")

    page = await store.list_page("")

    assert page.store_now.utcoffset() == timedelta(0)
    assert abs(page.store_now - datetime.now(UTC)) < timedelta(seconds=5)
    assert page.objects[0].modified <= page.store_now + timedelta(seconds=1)
    assert page.store_now - page.objects[0].modified < timedelta(seconds=5)

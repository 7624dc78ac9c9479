"""Asserts the invariants of both buckets once all work has finished (docs/queue.md)."""

import asyncio
from collections.abc import Set

from backend.core import keys
from backend.core.records import Outputs, Status, StatusWord
from backend.core.settings import StoreSettings
from backend.core.store.interface import Buckets, Store
from backend.core.store.s3 import open_buckets


def store_settings(environment: dict[str, str]) -> StoreSettings:
    """Build settings from the environment of the product under test, ignoring this process's own."""
    names = {name.lower(): value for name, value in environment.items()}
    return StoreSettings(**{name: names[name] for name in StoreSettings.model_fields if name in names})


def assert_at_rest(
    environment: dict[str, str],
    done: Set[str],
    failed: Set[str] = frozenset(),
    *,
    originals: Set[str] = frozenset(),
) -> None:
    """Assert that exactly these videos exist, each complete or failed, and that nothing else remains.

    `originals`: the complete ones whose source is kept.
    """
    asyncio.run(check_at_rest(store_settings(environment), done, failed, originals))


def has_open_upload(environment: dict[str, str]) -> bool:
    """Return whether a multipart upload of a source is in progress."""

    async def look() -> bool:
        async with open_buckets(store_settings(environment)) as buckets:
            return bool(await _uploads(buckets.raw))

    return asyncio.run(look())


async def check_at_rest(
    settings: StoreSettings,
    done: Set[str],
    failed: Set[str] = frozenset(),
    originals: Set[str] = frozenset(),
) -> None:
    """Do what `assert_at_rest` does, for callers in an event loop."""
    async with open_buckets(settings) as buckets:
        await _assert_raw(buckets, failed, originals)
        assert await _uploads(buckets.raw) == []
        assert await _uploads(buckets.video) == []
        video_keys = await _sizes(buckets.video)
        expected = {keys.catalog_entry(video_id) for video_id in done | failed}
        for video_id in failed:
            outcome = keys.result(video_id, keys.request_name(video_id))
            expected |= {keys.video_record(video_id), keys.status(video_id), outcome}
        for video_id in done:
            expected |= await _keys_of_done(buckets, video_id, video_keys)
        assert set(video_keys) == expected, set(video_keys) ^ expected


async def _assert_raw(buckets: Buckets, failed: Set[str], originals: Set[str]) -> None:
    found = set(await _sizes(buckets.raw)) - {keys.LAST_SWEEP}
    letters = {keys.dead_letter(keys.request_name(video_id)) for video_id in failed}
    assert found == letters | {keys.upload(video_id) for video_id in failed | originals}


async def _sizes(store: Store) -> dict[str, int]:
    """Return the size of each object, except signing keys, sessions and events.

    Probe objects of a worker killed at startup are the sweeper's job.
    """
    others = (keys.DOCTOR, keys.SIGNING_KEYS, keys.SESSIONS, keys.SEEN, keys.PEOPLE, keys.TOKENS)
    others += (keys.UPLOAD_LINKS, keys.EVENTS)
    return {info.key: info.size_bytes async for info in store.list_all("") if not info.key.startswith(others)}


async def _keys_of_done(buckets: Buckets, video_id: str, sizes: dict[str, int]) -> set[str]:
    results = [info.key async for info in buckets.video.list_all(keys.results_of(video_id))]
    assert results == [keys.result(video_id, keys.request_name(video_id))]
    outputs = Outputs.from_json((await buckets.video.get(results[0])).body)
    status = Status.from_json((await buckets.video.get(keys.status(video_id))).body)
    prefix = keys.run_prefix(video_id, outputs.run)
    assert (status.status, status.outputs) == (StatusWord.DONE, prefix)
    for published in outputs.objects:
        assert sizes[prefix + published.path] == published.size_bytes, published
    looks = keys.looks_of_request(video_id, outputs.request)
    return {
        keys.video_record(video_id),
        keys.status(video_id),
        *results,
        *(key for key in sizes if key.startswith(looks)),  # until a sweep finds them old
        *(key for key in sizes if key.startswith(keys.revisions_of(video_id))),  # of what a fetch found
        *{keys.watched(video_id)} & sizes.keys(),
        *(prefix + published.path for published in outputs.objects),
    }


async def _uploads(store: Store) -> list[str]:
    return [upload.key async for upload in store.list_uploads("")]

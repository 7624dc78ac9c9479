"""Invariants once everything has come to rest: every video has ended or is gone, and nothing else is left."""

import asyncio

from backend.core import keys
from backend.core.library.videos import read_item
from backend.core.records import DeadLetter, Outcome, Outputs, StatusWord, read_outcome
from tests.simulation.events import assert_logged
from tests.simulation.invariants import Ledger, video_of
from tests.simulation.scheduler import broken
from tests.simulation.world import World


def assert_at_rest(world: World, ledger: Ledger, *, originals_kept: bool) -> None:
    """Check that every video is done, failed with a reason, or gone, and that nothing else is left."""
    expected_raw: set[str] = set()
    expected_video: set[str] = set()
    asyncio.run(assert_logged(world, ledger))
    left_raw = set(world.raw.keys())
    left_video = {key for key in world.video.keys("") if not key.startswith(keys.EVENTS)}
    for video_id in ledger.begun:
        exists = keys.video_record(video_id) in left_video
        doomed = video_id in ledger.doomed
        if video_id in ledger.acknowledged and not doomed and not exists:
            broken(f"{video_id} is gone")
        if not exists:
            continue
        if ledger.may_go(video_id) and video_id in ledger.revived_videos:
            expected_raw |= {keys.upload(video_id), *world.raw.keys(keys.FAILED + video_id)} & left_raw
            expected_video |= {keys.catalog_entry(video_id), *world.video.keys(keys.video_prefix(video_id))}
        elif not doomed:
            raw, video = _keys_of_ended(world, video_id, originals_kept)
            if video_id in ledger.fetched and not ledger.is_published(video_id):
                raw -= {keys.upload(video_id)} - left_raw  # if the fetch failed
            expected_raw |= raw
            expected_video |= video
    expected_raw |= {
        source
        for source in ledger.revived_sources & left_raw
        if keys.video_record(video_of(source)) in expected_video
    }
    if missing := sorted((expected_raw - left_raw) | (expected_video - left_video)):
        broken(f"missing at rest: {missing}")
    if left := sorted((left_raw - expected_raw) | (left_video - expected_video)):
        broken(f"left at rest: {left}")
    asyncio.run(_assert_shown(world, ledger))
    if uploads := world.raw.open_uploads() + world.video.open_uploads():
        broken(f"open uploads are left at rest: {uploads}")


async def _assert_shown(world: World, ledger: Ledger) -> None:
    """Check that the API shows how each video ended, whatever late workers wrote into its status."""
    for video_id in ledger.acknowledged - ledger.doomed:
        status = (await read_item(world.buckets, video_id)).status
        shown = {StatusWord.DONE: status.outputs, StatusWord.ERROR: status.error}.get(status.status)
        if shown is None or (status.status == StatusWord.DONE) != ledger.is_published(video_id):
            broken(f"{video_id} is shown as {status.status} with {shown}")


def _keys_of_ended(world: World, video_id: str, originals_kept: bool) -> tuple[set[str], set[str]]:
    """Return the keys of a video that is done or failed, in both buckets.

    A published video may have a later request that failed.
    """
    video = {keys.video_record(video_id), keys.catalog_entry(video_id), keys.status(video_id)}
    video |= set(world.video.keys(keys.revisions_of(video_id)))  # what a fetch found out
    raw: set[str] = set()
    outcomes: dict[str, Outcome] = {}
    for key in world.video.keys(keys.results_of(video_id)):
        video.add(key)
        outcomes[keys.request_of_result(key)] = read_outcome(world.video.body(key))
    if not outcomes:
        broken(f"{video_id} is neither done nor failed")
    published = [outcome for outcome in outcomes.values() if isinstance(outcome, Outputs)]
    if published:
        current = max(published, key=lambda outputs: keys.request_number(outputs.request))
        prefix = keys.run_prefix(video_id, current.run)
        video |= {prefix + stored.path for stored in current.objects}
    if originals_kept or not published:
        raw.add(keys.upload(video_id))
    latest = max(outcomes, key=keys.request_number)
    if isinstance(outcomes[latest], DeadLetter):
        raw.add(keys.dead_letter(latest))
    return raw, video

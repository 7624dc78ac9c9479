"""The sweeper: what it removes or repairs, and what it must never touch."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from backend.core import keys
from backend.core.access.sessions import Sessions
from backend.core.access.signing_keys import SigningKeys
from backend.core.access.upload_links import UploadLink
from backend.core.errors import StoreUnavailable, VideoNotFound
from backend.core.ids import new_id
from backend.core.jobs.retry import retry_video
from backend.core.library.captions import store_captions
from backend.core.library.videos import (
    VideoEdit,
    add_video,
    delete_video,
    edit_video,
    list_videos,
    read_item,
    read_video,
)
from backend.core.records import Job, StatusError, Tombstone, Video, Visibility
from backend.core.sweep.sweeper import Kind, SweepReport, SweepRules, sweep
from backend.core.uploads.places import Places
from tests.core.jobs.queue_lab import LEASE_SECONDS, Fault, Lab, WorkerCrashed, crash

GRACE = timedelta(hours=1)
UPLOADS_AFTER = timedelta(days=2)
HOUR, DAY = 3600.0, 86_400.0


@pytest.fixture
def lab() -> Lab:
    return Lab()


async def _sweep(lab: Lab, *, dry_run: bool = False) -> SweepReport:
    return await sweep(lab.buckets, lab.worker("sweeper"), SweepRules(GRACE, UPLOADS_AFTER), dry_run=dry_run)


def _found(report: SweepReport) -> list[tuple[Kind, str]]:
    return [(one.kind, one.key) for one in report.findings]


async def _everything(lab: Lab) -> list[str]:
    uploads = [one.key for store in (lab.raw, lab.video) async for one in store.list_uploads("")]
    return [*await lab.raw_keys(), *await lab.video_keys(), *uploads]


async def test_an_intact_library_is_left_alone(lab: Lab) -> None:
    done, failed, running, resting = [await lab.add_job() for _ in range(4)]
    await lab.turn(lab.worker("one", keep_originals=True))
    queue = lab.worker("two")
    for ends in (
        lambda claim: queue.bury(claim, StatusError(code="c", message="m")),
        lambda claim: queue.release(claim, retry_after_seconds=DAY, error="e"),
    ):
        claim = await lab.claimed(queue)
        await ends(claim)
    claim = await lab.claimed(queue)
    await lab.write_outputs(claim)
    waiting = await lab.add_job()
    for job in (done, failed, running, waiting):
        await store_captions(lab.buckets, job.id, "en", b"WEBVTT", label=None, now=lab.clock())
    before = await _everything(lab)

    lab.clock.advance(30 * DAY)
    report = await _sweep(lab)

    assert report.findings == ()
    assert await _everything(lab) == before
    assert len({job.id for job in (done, failed, running, resting, waiting)}) == 5


def _id_now(lab: Lab) -> str:
    return new_id(int(lab.clock().timestamp() * 1000))


async def test_old_incomplete_uploads_are_aborted(lab: Lab) -> None:
    await lab.raw.open_upload(keys.upload(_id_now(lab)))
    await lab.video.open_upload(keys.run_prefix(_id_now(lab), "r0-0-a") + keys.DOWNLOAD)
    lab.clock.advance(DAY)
    await lab.raw.open_upload(keys.upload(_id_now(lab)))
    lab.clock.advance(DAY + 1)

    report = await _sweep(lab)

    assert [one.kind for one in report.findings] == [Kind.UPLOAD] * 2
    assert len(await _everything(lab)) == 1


async def test_running_uploads_are_kept_on_a_store_that_misdates_them(lab: Lab) -> None:
    lab.clock.advance(-1000 * DAY)
    job = await lab.add_job()
    claim = await lab.claimed(lab.worker("one"))
    await lab.video.open_upload(keys.run_prefix(job.id, claim.lease.run) + keys.DOWNLOAD)
    lab.clock.advance(1000 * DAY)
    source = keys.upload(_id_now(lab))
    lab.clock.advance(-1000 * DAY)
    await lab.raw.open_upload(source)
    lab.clock.advance(1001 * DAY)

    assert _found(await _sweep(lab)) == []


async def test_a_source_without_a_video_is_kept_for_the_lifetime_of_uploads(lab: Lab) -> None:
    video_id = new_id()
    await lab.raw.put(keys.upload(video_id), b"abc")
    lab.clock.advance(DAY)
    assert _found(await _sweep(lab)) == []
    lab.clock.advance(DAY + 1)

    assert _found(await _sweep(lab)) == [(Kind.VIDEO, video_id)]

    assert await _everything(lab) == []


async def _strike_add(lab: Lab, at_call: int, after: bool) -> tuple[str, bool]:
    """Kill an upload's last steps at one call. Returns the video and whether the upload died."""
    video_id = new_id()
    video = Video(id=video_id, title="t", filename="f", size_bytes=3, created_at=lab.clock())
    job = Job(
        id=video_id,
        request=video_id,
        source=keys.upload(video_id),
        source_size_bytes=3,
        created_at=lab.clock(),
    )
    await lab.raw.put(job.source, b"abc")
    fault = Fault(at_call, crash, after)
    try:
        await add_video(lab.faulty(fault), video, job)
    except WorkerCrashed:
        return video_id, True
    return video_id, False


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_an_upload_interrupted_at_any_step_is_removed_or_queued(after: bool) -> None:
    for at_call in range(1, 20):
        lab = Lab()
        video_id, died = await _strike_add(lab, at_call, after)
        lab.clock.advance(3 * DAY)

        await _sweep(lab)
        await lab.turn(lab.worker("one"))

        page = await list_videos(lab.buckets, limit=10)
        if page.items:
            assert page.items[0].status.status == "done"
        else:
            assert await _everything(lab) == []
        assert [item.video.id for item in page.items] in ([], [video_id])
        if not died:
            assert at_call > 4
            return
    pytest.fail("adding never ended")


class Gate(Fault):
    """Blocks the n-th call until it is opened."""

    def __init__(self, at_call: int) -> None:
        super().__init__(at_call, crash, after_the_call=False)
        self._reached, self._opened = asyncio.Event(), asyncio.Event()

    async def before(self) -> None:
        self.calls += 1
        if self.calls == self.at_call:
            self._reached.set()
            await self._opened.wait()

    def open(self) -> None:
        self._opened.set()

    async def reached_or(self, task: "asyncio.Task[object]") -> None:
        reached = asyncio.create_task(self._reached.wait())
        await asyncio.wait({reached, task}, return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()


class Countdown(Fault):
    """Calls a function at the n-th call, then lets other tasks run."""

    def __init__(self, at_call: int, act: Callable[[], None]) -> None:
        super().__init__(at_call, crash, after_the_call=False)
        self._act = act

    async def before(self) -> None:
        self.calls += 1
        if self.calls == self.at_call:
            self._act()
            for _ in range(50):
                await asyncio.sleep(0)


async def test_a_stalled_upload_and_the_sweeper_never_both_succeed() -> None:
    """In any order of calls, the upload is either acknowledged and complete, or refused and gone."""
    outcomes = set()
    for stalls_at in range(1, 8):
        for goes_on_at in range(1, 25):
            lab = Lab()
            video_id = new_id()
            video = Video(id=video_id, title="t", filename="f", size_bytes=3, created_at=lab.clock())
            source = keys.upload(video_id)
            job = Job(
                id=video_id, request=video_id, source=source, source_size_bytes=3, created_at=lab.clock()
            )
            await lab.raw.put(source, b"abc")
            gate = Gate(stalls_at)
            adding = asyncio.create_task(add_video(lab.faulty(gate), video, job))
            await gate.reached_or(adding)
            lab.clock.advance(3 * DAY)
            opener = Countdown(goes_on_at, gate.open)
            await sweep(lab.faulty(opener), lab.worker("sweeper"), SweepRules(GRACE, UPLOADS_AFTER))
            gate.open()
            try:
                await adding
                acknowledged = True
            except StoreUnavailable:
                acknowledged = False
                await delete_video(lab.buckets, video_id)
            outcomes.add(acknowledged)
            if acknowledged:
                assert source in await lab.raw_keys()
                assert keys.marker(video_id) in await lab.raw_keys()
                assert (await read_item(lab.buckets, video_id)).video == video
            else:
                lab.clock.advance(3 * DAY)
                await _sweep(lab)
                assert await _everything(lab) == []
    assert outcomes == {True, False}


async def test_an_interrupted_deletion_is_finished(lab: Lab) -> None:
    job = await lab.add_job()
    await lab.turn(lab.worker("one", keep_originals=True))
    with pytest.raises(WorkerCrashed):
        await delete_video(lab.faulty(Fault(5, crash, after_the_call=True)), job.id)
    lab.clock.advance(3 * DAY)

    assert _found(await _sweep(lab)) == [(Kind.VIDEO, job.id)]

    assert await _everything(lab) == []


async def test_a_tombstone_of_a_dead_sweeper_is_removed(lab: Lab) -> None:
    video_id = new_id()
    await lab.video.put(keys.catalog_entry(video_id), b"")
    await lab.video.put(keys.video_record(video_id), Tombstone(removed=True).to_json())
    with pytest.raises(VideoNotFound):
        await read_video(lab.buckets, video_id)
    lab.clock.advance(2 * HOUR)

    await _sweep(lab)

    assert await _everything(lab) == []


async def test_outputs_of_a_losing_run_are_removed(lab: Lab) -> None:
    job = await lab.add_job()
    loser = lab.worker("loser")
    late = await lab.claimed(loser)
    lab.clock.advance(LEASE_SECONDS + 1)
    won = await lab.turn(lab.worker("winner"))
    assert won is not None
    await lab.write_outputs(late)  # and dies before it notices
    lab.clock.advance(2 * HOUR)

    report = await _sweep(lab)

    assert _found(report) == [(Kind.OUTPUTS, keys.run_prefix(job.id, late.lease.run))]
    assert report.findings[0].size_bytes > 0
    await lab.assert_published_and_clean(job)


async def test_a_look_is_removed_a_grace_period_after_publication_or_failure(lab: Lab) -> None:
    queue, looks = lab.worker("one"), list[str]()
    for _ in range(2):
        await lab.add_job()
    claims = [await lab.claimed(queue) for _ in range(2)]
    for claim in claims:
        looks.append(keys.run_prefix(claim.lease.job.id, keys.look_of_run(claim.lease.run)))
        await lab.video.put(looks[-1] + keys.MASTER_PLAYLIST, b"")
    lab.clock.advance(2 * HOUR)
    for claim in claims:
        await queue.renew(claim)
    assert _found(await _sweep(lab)) == []  # viewers watch them
    await queue.publish(claims[0], await lab.write_outputs(claims[0]))
    await queue.bury(claims[1], StatusError(code="c", message="m"))
    assert not any(key.startswith(looks[1]) for key in await lab.video_keys())
    await lab.video.put(looks[1] + keys.MASTER_PLAYLIST, b"")  # a late write
    lab.clock.advance(HOUR)
    assert _found(await _sweep(lab)) == []
    lab.clock.advance(1)

    assert sorted(_found(await _sweep(lab))) == sorted((Kind.OUTPUTS, look) for look in looks)

    assert not any("/l0-" in key for key in await lab.video_keys())
    published = await read_item(lab.buckets, claims[0].lease.job.id)
    assert published.status.outputs == keys.run_prefix(published.video.id, claims[0].lease.run)


async def test_units_are_removed_once_their_request_has_ended_or_their_video_is_deleted(lab: Lab) -> None:
    ended, gone, waiting = [await lab.add_job() for _ in range(3)]
    await lab.raw.delete(keys.marker(waiting.request))
    await lab.turn(lab.worker("one"))
    await lab.turn(lab.worker("one"))
    await delete_video(lab.buckets, gone.id)
    await lab.raw.put(keys.marker(waiting.request), waiting.to_json())
    for job in (ended, gone, waiting):  # late writes, except for the last one
        await lab.raw.put(keys.wanted(job.request), b"{}")
        await lab.raw.put(keys.unit_lease(job.request, 0, keys.LOOK, 0), b"{}")
    lab.clock.advance(HOUR)
    assert _found(await _sweep(lab)) == []
    lab.clock.advance(1)

    report = await _sweep(lab)

    assert sorted(_found(report)) == sorted(
        (Kind.UNITS, keys.units_of_request(job.request)) for job in (ended, gone)
    )
    assert report.findings[0].size_bytes == 4
    left = [key for key in await lab.raw_keys() if key.startswith(keys.UNITS)]
    assert {keys.request_of_units(key) for key in left} == {waiting.request}


async def test_outputs_of_an_unfinished_job_are_kept_however_old_they_are(lab: Lab) -> None:
    await lab.add_job()
    for name in ("first", "second"):
        claim = await lab.claimed(lab.worker(name))
        await lab.write_outputs(claim)
        lab.clock.advance(10 * DAY)
    before = await _everything(lab)

    assert _found(await _sweep(lab)) == []

    assert await _everything(lab) == before


async def test_replaced_outputs_are_removed_after_the_grace_period(lab: Lab) -> None:
    job = await lab.add_job()
    first = await lab.turn(lab.worker("one", keep_originals=True))
    lab.clock.advance(DAY)
    await retry_video(lab.buckets, job.id, now=lab.clock)
    second = await lab.turn(lab.worker("two", keep_originals=True))
    assert first is not None
    assert second is not None
    assert _found(await _sweep(lab)) == []
    lab.clock.advance(2 * HOUR)

    assert _found(await _sweep(lab)) == [(Kind.OUTPUTS, keys.run_prefix(job.id, first.lease.run))]

    assert (await read_item(lab.buckets, job.id)).status.outputs == keys.run_prefix(job.id, second.lease.run)
    assert not any(first.lease.run in key for key in await lab.video_keys())


async def test_leases_of_ended_requests_are_cleaned_up_without_a_worker(lab: Lab) -> None:
    job = await lab.add_job()
    queue = lab.worker("dies")
    claim = await lab.claimed(queue)
    outputs = await lab.write_outputs(claim)
    await lab.video.create(keys.result(job.id, job.request), outputs.to_json())
    lab.clock.advance(2 * HOUR)

    assert _found(await _sweep(lab)) == [(Kind.LEASE, claim.key)]

    await lab.assert_published_and_clean(job)


async def test_a_live_lease_is_kept_however_short_the_grace_period(
    lab: Lab,
) -> None:
    job = await lab.add_job()
    claim = await lab.claimed(lab.worker("alive"))
    await delete_video(lab.buckets, job.id)
    lab.clock.advance(LEASE_SECONDS - 1)
    rules = SweepRules(timedelta(seconds=1), UPLOADS_AFTER)

    report = await sweep(lab.buckets, lab.worker("sweeper"), rules)

    assert report.findings == ()
    assert await lab.raw_keys() == [claim.key]


async def test_the_lease_of_an_unfinished_job_is_left_to_workers(lab: Lab) -> None:
    await lab.add_job()
    claim = await lab.claimed(lab.worker("dies"))
    lab.clock.advance(30 * DAY)

    assert _found(await _sweep(lab)) == []

    assert claim.key in await lab.raw_keys()


async def test_entries_of_deleted_videos_leave_all_indexes(lab: Lab) -> None:
    kept, gone = (await lab.add_job()).id, new_id()
    entries = [
        keys.entry(index, video) for index in (keys.owned_by(new_id()), keys.SHARED) for video in (kept, gone)
    ]
    for key in (*entries, foreign := keys.SHARED + "note"):
        await lab.video.put(key, b"")
    lab.clock.advance(2 * HOUR)

    assert _found(await _sweep(lab)) == [(Kind.ENTRY, key) for key in entries[1::2]]

    assert {*entries[::2], foreign} <= set(await lab.video_keys())


async def test_videos_that_an_older_version_made_public_are_listed_for_others(lab: Lab) -> None:
    public, private = [await lab.add_job() for _ in range(2)]
    await edit_video(lab.buckets, public.id, VideoEdit(visibility=Visibility.PUBLIC))
    await edit_video(lab.buckets, private.id, VideoEdit(title="Another"))
    await lab.video.delete(entry := keys.entry(keys.SHARED, public.id))
    lab.clock.advance(2 * HOUR)

    assert _found(await _sweep(lab, dry_run=True)) == [(Kind.ENTRY, entry)]
    assert _found(await _sweep(lab)) == [(Kind.ENTRY, entry)]

    assert _found(await _sweep(lab)) == []


async def test_a_video_missing_from_the_index_is_added_again(lab: Lab) -> None:
    job = await lab.add_job()
    await lab.turn(lab.worker("one"))
    await lab.video.delete(keys.catalog_entry(job.id))
    lab.clock.advance(2 * HOUR)

    assert _found(await _sweep(lab)) == [(Kind.ENTRY, keys.catalog_entry(job.id))]

    await lab.assert_published_and_clean(job)


@pytest.mark.parametrize("with_its_letter", [False, True])
async def test_a_restored_record_of_a_deleted_video_is_removed(lab: Lab, with_its_letter: bool) -> None:
    job = await lab.add_job()
    record = (await lab.video.get(keys.video_record(job.id))).body
    await delete_video(lab.buckets, job.id)
    await lab.video.put(keys.video_record(job.id), record)
    if with_its_letter:
        await lab.raw.put(keys.dead_letter(job.request), b"{}")
    lab.clock.advance(2 * HOUR)

    assert _found(await _sweep(lab)) == [(Kind.VIDEO, job.id)]

    assert await _everything(lab) == []


async def test_a_record_without_source_and_job_is_removed_with_its_entry(lab: Lab) -> None:
    job = await lab.add_job()
    await lab.raw.delete(job.source)
    await lab.raw.delete(keys.marker(job.request))
    lab.clock.advance(2 * HOUR)

    assert _found(await _sweep(lab)) == [(Kind.VIDEO, job.id)]

    assert await _everything(lab) == []


async def test_an_obsolete_dead_letter_is_removed(lab: Lab) -> None:
    job = await lab.add_job()
    queue = lab.worker("one")
    claim = await lab.claimed(queue)
    await queue.bury(claim, StatusError(code="c", message="m"))
    letter = await lab.raw.get(keys.dead_letter(job.request))
    await retry_video(lab.buckets, job.id, now=lab.clock)
    await lab.raw.put(keys.dead_letter(job.request), letter.body)  # a late write
    await lab.turn(lab.worker("two"))
    lab.clock.advance(2 * HOUR)

    assert _found(await _sweep(lab)) == [(Kind.LETTER, keys.dead_letter(job.request))]

    assert await lab.raw_keys() == []


async def test_leftovers_of_store_tests_are_removed(lab: Lab) -> None:
    left = keys.probe("0123", "race")
    await lab.raw.put(left, b"x")
    await lab.video.put(left, b"x")
    assert _found(await _sweep(lab)) == []
    lab.clock.advance(HOUR + 1)

    assert _found(await _sweep(lab)) == [(Kind.PROBE, left)] * 2

    assert await _everything(lab) == []


async def test_a_dry_run_reports_the_same_and_changes_nothing(lab: Lab) -> None:
    await lab.raw.put(keys.upload(new_id()), b"abc")
    await lab.raw.open_upload(keys.upload(_id_now(lab)))
    await lab.video.put(keys.catalog_entry(new_id()), b"")
    lab.clock.advance(3 * DAY)
    before = await _everything(lab)

    told = await _sweep(lab, dry_run=True)

    assert told.dry_run
    assert await _everything(lab) == before
    assert _found(await _sweep(lab)) == _found(told)
    assert len(told.findings) == 3
    assert await _everything(lab) == []


async def test_foreign_objects_are_left_alone(lab: Lab) -> None:
    strange = [
        "uploads/notes.txt",
        "queue/later",
        "failed/x",
        "leases/y",
        "catalog/z",
        "videos/w/a",
        "a",
        "z",
    ]
    for key in strange:
        await lab.raw.put(key, b"x")
        await lab.video.put(key, b"x")
    lab.clock.advance(365 * DAY)

    assert _found(await _sweep(lab)) == []

    assert len(await _everything(lab)) == 2 * len(strange)


async def test_upload_links_are_removed_some_time_after_their_end(lab: Lab) -> None:
    expires, withdrawn, lasts = (character * 32 for character in "abc")
    for link_id, days in ((expires, 2), (withdrawn, 365), (lasts, 365)):
        now = lab.clock()
        link = UploadLink(
            owner=None,
            title="",
            max_uploads=1,
            max_bytes=1,
            created_at=now,
            expires_at=now + timedelta(days=days),
        )
        await lab.video.put(keys.upload_link(link_id), link.to_json())
        await lab.video.put(keys.places(link_id, 1), Places().to_json())
    await lab.video.put(keys.UPLOAD_LINKS + "foreign", b"x")
    await lab.video.delete(keys.upload_link(withdrawn))
    lab.clock.advance(UPLOADS_AFTER.total_seconds())
    assert _found(await _sweep(lab)) == []
    lab.clock.advance(1)
    assert _found(await _sweep(lab)) == [(Kind.LINK, keys.upload_link_prefix(withdrawn))]
    lab.clock.advance(2 * DAY)

    assert _found(await _sweep(lab)) == [(Kind.LINK, keys.upload_link_prefix(expires))]

    left = {keys.upload_link(lasts), keys.places(lasts, 1), keys.UPLOAD_LINKS + "foreign"}
    assert set(await _everything(lab)) == left


async def test_expired_sessions_are_removed(lab: Lab) -> None:
    signing_keys = SigningKeys(lab.video)
    await signing_keys.reload()
    expires, lasts = (
        Sessions(lab.video, signing_keys, int(days * DAY), lambda: lab.clock().timestamp())
        for days in (2, 30)
    )
    cookies = [await sessions.begin("a" * 32) for sessions in (expires, lasts)]
    expired, lasting = (keys.session(expires.id_of(cookie) or "") for cookie in cookies)
    await lab.video.put(keys.session("foreign"), b"x")
    lab.clock.advance(2 * DAY)
    assert _found(await _sweep(lab)) == []
    lab.clock.advance(HOUR + 1)

    assert _found(await _sweep(lab)) == [(Kind.SESSION, expired)]

    left = await _everything(lab)
    assert {lasting, keys.session("foreign"), keys.signing_key(1)} == set(left)

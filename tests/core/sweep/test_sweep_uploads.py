"""The sweeper removes resumable uploads that can no longer be resumed, and keeps all others."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from backend.core import keys
from backend.core.errors import IncompleteUpload, UploadNotFound
from backend.core.ids import new_id
from backend.core.library.videos import delete_video, read_item
from backend.core.store.interface import ObjectInfo
from backend.core.sweep.sweeper import Kind, SweepReport, SweepRules, sweep
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.quota import UploadRules
from backend.core.uploads.resumable.service import ResumableUploads
from backend.core.uploads.resumptions import ResumptionNotFound, Resumptions
from tests.core.jobs.queue_lab import Lab
from tests.core.uploads.upload_lab import FILM, HEAD, chunks

DAY = 86_400.0
LIFETIME = timedelta(days=2)
DATA = HEAD + bytes(range(100))


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.fixture
def uploads(lab: Lab) -> ResumableUploads:
    rules = UploadRules(10_000, LIFETIME)
    return ResumableUploads(lab.buckets, lab.buckets, PartBuffers(10**8), rules, lab.clock)


async def _sweep(lab: Lab) -> SweepReport:
    return await sweep(lab.buckets, lab.worker("sweeper"), SweepRules(timedelta(hours=1), LIFETIME))


async def _everything(lab: Lab) -> list[str]:
    open_uploads = [one.key async for one in lab.raw.list_uploads("")]
    return [*await lab.raw_keys(), *await lab.video_keys(), *open_uploads]


async def _sent(uploads: ResumableUploads, data: bytes, *, partial: bool = False) -> str:
    info = await uploads.create(len(data), FILM, partial=partial)
    await uploads.append(info.id, 0, chunks(data))
    return info.id


async def _broken_off(lab: Lab, uploads: ResumableUploads) -> str:
    info = await uploads.create(len(DATA), FILM)
    with pytest.raises(IncompleteUpload):
        await uploads.append(info.id, 0, chunks(DATA[:50], breaks=True))
    # As for a file with whole parts.
    await lab.raw.open_upload(keys.upload(info.id))
    return info.id


async def test_an_expired_upload_is_removed_with_its_parts(lab: Lab, uploads: ResumableUploads) -> None:
    upload_id = await _broken_off(lab, uploads)
    lab.clock.advance(2 * DAY - 60)
    assert (await _sweep(lab)).findings == ()
    lab.clock.advance(120)

    report = await _sweep(lab)

    assert {one.kind for one in report.findings} == {Kind.UPLOAD}
    assert keys.upload_info(upload_id) in {one.key for one in report.findings}
    assert await _everything(lab) == []
    with pytest.raises(UploadNotFound):
        await uploads.head(upload_id)


async def test_an_active_upload_is_kept_however_old_it_is(lab: Lab, uploads: ResumableUploads) -> None:
    upload_id = await _broken_off(lab, uploads)
    lab.clock.advance(2 * DAY - 60)
    with pytest.raises(IncompleteUpload):
        await uploads.append(upload_id, 50, chunks(DATA[50:60], breaks=True))
    before = await _everything(lab)
    lab.clock.advance(DAY)

    assert (await _sweep(lab)).findings == ()

    assert await _everything(lab) == before


async def test_a_request_that_outlasts_the_expiry_succeeds(lab: Lab, uploads: ResumableUploads) -> None:
    info = await uploads.create(len(DATA), FILM)
    begun, swept = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield DATA[:50]
        begun.set()
        await swept.wait()
        yield DATA[50:]

    lab.clock.advance(2 * DAY - 60)
    receiving = asyncio.create_task(uploads.append(info.id, 0, slow()))
    await begun.wait()
    lab.clock.advance(DAY)
    await _sweep(lab)
    swept.set()

    assert (await receiving).video_id == info.id
    assert (await lab.raw.get(keys.upload(info.id))).body == DATA


async def test_a_long_upload_is_not_removed_before_its_video_is_added(
    lab: Lab, uploads: ResumableUploads
) -> None:
    """Some stores date an object by the start of its upload."""
    upload_id = await _broken_off(lab, uploads)
    await lab.raw.put(keys.upload(upload_id), DATA)
    lab.clock.advance(2 * DAY - 60)
    with pytest.raises(IncompleteUpload):
        await uploads.append(upload_id, 50, chunks(DATA[50:60], breaks=True))
    lab.clock.advance(DAY)

    assert (await _sweep(lab)).findings == ()


async def test_a_partial_upload_that_is_never_concatenated_is_removed(
    lab: Lab, uploads: ResumableUploads
) -> None:
    await _sent(uploads, DATA, partial=True)
    lab.clock.advance(2 * DAY - 60)
    assert (await _sweep(lab)).findings == ()
    lab.clock.advance(120)

    await _sweep(lab)

    assert await _everything(lab) == []


async def test_concatenated_uploads_leave_only_the_video(lab: Lab, uploads: ResumableUploads) -> None:
    pieces = [await _sent(uploads, DATA[:60], partial=True), await _sent(uploads, DATA[60:], partial=True)]
    final = (await uploads.concatenate(pieces, FILM, header="final;")).video_id
    assert final is not None
    lab.clock.advance(3 * DAY)

    await _sweep(lab)

    assert await lab.raw_keys() == [keys.marker(final), keys.upload(final)]
    assert (await read_item(lab.buckets, final)).video.size_bytes == len(DATA)


async def test_late_writes_of_a_dead_request_to_a_finished_upload_are_removed(
    lab: Lab, uploads: ResumableUploads
) -> None:
    upload_id = await _sent(uploads, DATA)
    await lab.raw.put(keys.upload_progress(upload_id, 0), b"late")
    await lab.raw.put(keys.upload_tail(upload_id, 0, 1), b"late")
    stray = new_id(int(lab.clock().timestamp() * 1000))
    await lab.raw.put(keys.upload_tail(stray), b"of a body in one request")
    lab.clock.advance(3 * DAY)

    await _sweep(lab)

    assert await lab.raw_keys() == [keys.marker(upload_id), keys.upload(upload_id)]


async def test_resumptions_last_as_long_as_uploads(lab: Lab) -> None:
    resumptions, fingerprint = Resumptions(lab.raw), "0" * 64
    await resumptions.write(None, fingerprint, b"{}")
    lab.clock.advance(2 * DAY - 60)
    await _sweep(lab)
    assert await resumptions.read(None, fingerprint) == b"{}"
    lab.clock.advance(120)

    await _sweep(lab)

    with pytest.raises(ResumptionNotFound):
        await resumptions.read(None, fingerprint)


async def test_a_resumption_that_is_rewritten_during_a_sweep_is_kept(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    resumptions, fingerprint = Resumptions(lab.raw), "0" * 64
    await resumptions.write(None, fingerprint, b"{}")
    lab.clock.advance(3 * DAY)
    listed = lab.raw.list_all

    async def written_behind_the_list(prefix: str) -> AsyncIterator[ObjectInfo]:
        async for info in listed(prefix):
            if prefix == keys.RESUMPTIONS:
                await resumptions.write(None, fingerprint, b'{"size_bytes": 1}')
            yield info

    monkeypatch.setattr(lab.raw, "list_all", written_behind_the_list)
    await _sweep(lab)

    assert await resumptions.read(None, fingerprint) == b'{"size_bytes": 1}'


async def test_a_deleted_videos_upload_is_not_found(lab: Lab, uploads: ResumableUploads) -> None:
    upload_id = await _sent(uploads, DATA)
    assert (await uploads.head(upload_id)).video_id == upload_id

    await delete_video(lab.buckets, upload_id)

    with pytest.raises(UploadNotFound):
        await uploads.head(upload_id)
    assert await _everything(lab) == []


async def test_a_short_time_to_live_does_not_end_uploads_that_cannot_be_resumed(lab: Lab) -> None:
    await lab.raw.open_upload(keys.upload(new_id(int(lab.clock().timestamp() * 1000))))
    lab.clock.advance(7200)

    report = await sweep(lab.buckets, lab.worker("sweeper"), SweepRules.of(DAY, 3600))

    assert report.findings == ()


def test_a_long_time_to_live_applies() -> None:
    assert SweepRules.of(DAY, 7 * DAY) == SweepRules(timedelta(days=1), timedelta(days=7))

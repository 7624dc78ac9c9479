"""The library: what adding, finding, changing and deleting a video means in objects.

A video exists while `videos/<id>/video.json` does. Every verb may be repeated after a crash at any point;
the order of the writes is what makes that safe, so it is part of the contract.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog
from pydantic import BaseModel, ConfigDict, field_validator

from backend.core import keys
from backend.core.concurrency import gather_or_cancel, gather_pair
from backend.core.errors import InvalidId, ObjectNotFound, StoreUnavailable, VideoNotFound
from backend.core.names import clean_text
from backend.core.records import (
    DeadLetter,
    Job,
    Outcome,
    Outputs,
    RecordUnreadable,
    Stage,
    Status,
    Title,
    Tombstone,
    Video,
    Visibility,
    read_outcome,
)
from backend.core.status import complete_status, failed_status
from backend.core.store.interface import Buckets, Store, exists
from backend.core.store.prefixes import abort_uploads_below, delete_below, keys_below

log = structlog.get_logger(__name__)

CONCURRENT_READS = 32


class LibraryItem(BaseModel):
    """A video together with where it stands now."""

    model_config = ConfigDict(frozen=True)

    video: Video
    status: Status


class VideoEdit(BaseModel):
    """What may be changed; None leaves a field as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: Title | None = None
    visibility: Visibility | None = None

    @field_validator("title")
    @classmethod
    def _printable(cls, title: str | None) -> str | None:
        cleaned = None if title is None else clean_text(title)
        if cleaned == "":
            raise ValueError("must not be empty")
        return cleaned


@dataclass(frozen=True, slots=True)
class LibraryPage:
    items: tuple[LibraryItem, ...]
    next_cursor: str | None
    """The id to continue after, None on the last page."""


async def add_video(buckets: Buckets, video: Video, job: Job) -> Status:
    """Enter a video whose source is stored. Once this returns, nothing that stops loses it.

    The catalog entry comes first, so that no crash leaves a record that no page shows; the marker comes
    last, so that no worker meets a job without its records. The record is create-only and the source is
    looked for behind it: a sweeper that takes a stalled upload for an abandoned one decides by the same key
    (`remove_unfinished`), and the loser knows.

    Raises:
        StoreError: it may be there in part; `delete_video` removes what there is.
    """
    status = Status.queued(video.id, video.created_at, job.request)
    await buckets.video.put(keys.catalog_entry(video.id), b"")
    if not await buckets.video.create(keys.video_record(video.id), video.to_json()):
        raise StoreUnavailable("The upload was taken for an abandoned one and removed.")
    await buckets.video.put(keys.status(video.id), status.to_json())
    await _check_source(buckets.raw, job)
    await buckets.raw.create(keys.marker(job.request), job.to_json())
    return status


async def _check_source(raw: Store, job: Job) -> None:
    try:
        size_bytes = (await raw.head(job.source)).size_bytes
    except ObjectNotFound:
        size_bytes = None
    if size_bytes != job.source_size_bytes:
        raise StoreUnavailable(
            f"The store holds {size_bytes} of {job.source_size_bytes} bytes of the upload."
        )


async def list_videos(buckets: Buckets, *, limit: int, cursor: str | None = None) -> LibraryPage:
    """Return up to `limit` (1 to 1000) videos, newest first, after the id `cursor`.

    Entries without a record are of videos that are being deleted or were never finished: a page may hold
    fewer than `limit`, but it is empty only at the end.
    """
    start_after = keys.catalog_entry(cursor) if cursor else ""
    reads = asyncio.Semaphore(CONCURRENT_READS)

    async def read(video_id: str) -> LibraryItem | None:
        async with reads:
            try:
                return await read_item(buckets, video_id)
            except VideoNotFound:
                return None
            except RecordUnreadable as error:
                # One record of a newer version must not hide all the others.
                log.warning("record_unreadable", video=video_id, error=error.message)
                return None

    while True:
        page = await buckets.video.list_page(keys.CATALOG, start_after=start_after, limit=limit)
        ids = _ids_of([info.key for info in page.objects])
        found = await gather_or_cancel(read(video_id) for video_id in ids)
        items = tuple(item for item in found if item is not None)
        if items or not page.truncated:
            return LibraryPage(items, ids[-1] if page.truncated else None)
        start_after = page.objects[-1].key


async def read_item(buckets: Buckets, video_id: str) -> LibraryItem:
    """Return the video and its current status. Raises: VideoNotFound."""
    video, written = await gather_pair(
        read_video(buckets, video_id), _written_status(buckets.video, video_id)
    )
    if written is not None and written.stage is Stage.COMPLETE:
        return LibraryItem(video=video, status=written)
    # A stalled worker may have written over the final status: how the request ended is what counts.
    outcome = await latest_outcome(buckets, video_id)
    if isinstance(outcome, Outputs):
        return LibraryItem(video=video, status=complete_status(outcome))
    if outcome is not None and not _is_about_later(written, outcome):
        return LibraryItem(video=video, status=failed_status(outcome))
    return LibraryItem(video=video, status=written or Status.queued(video_id, video.created_at))


def _is_about_later(written: Status | None, failure: DeadLetter) -> bool:
    """Say whether the status is about a request that was made after this one had failed."""
    if written is None or written.request is None:
        return False
    return keys.request_number(written.request) > keys.request_number(failure.job.request)


async def read_video(buckets: Buckets, video_id: str) -> Video:
    """Return the record. Raises: VideoNotFound."""
    try:
        stored = await buckets.video.get(keys.video_record(video_id))
    except ObjectNotFound:
        raise VideoNotFound from None
    try:
        return Video.from_json(stored.body)
    except RecordUnreadable:
        if _is_tombstone(stored.body):
            raise VideoNotFound from None
        raise


def _is_tombstone(body: bytes) -> bool:
    try:
        Tombstone.from_json(body)
    except RecordUnreadable:
        return False
    return True


async def published_outputs(buckets: Buckets, video_id: str) -> Outputs | None:
    """Return what the latest request that succeeded has published, None if nothing is."""
    outcome = await latest_outcome(buckets, video_id)
    return outcome if isinstance(outcome, Outputs) else None


async def latest_outcome(buckets: Buckets, video_id: str) -> Outcome | None:
    """Return the outputs of the latest request that succeeded, else the failure of the latest request."""
    ended = await keys_below(buckets.video, keys.results_of(video_id))
    requests = [keys.request_of_result(key) for key in ended]
    failure: DeadLetter | None = None
    for request in sorted(requests, key=keys.request_number, reverse=True):
        try:
            outcome = read_outcome((await buckets.video.get(keys.result(video_id, request))).body)
        except ObjectNotFound:
            continue
        if isinstance(outcome, Outputs):
            return outcome
        failure = failure or outcome
    return failure


async def edit_video(buckets: Buckets, video_id: str, edit: VideoEdit) -> Video:
    """Change title or visibility and return the new record. Raises: VideoNotFound."""
    video = await read_video(buckets, video_id)
    changed = video.but(**edit.model_dump(exclude_none=True))
    if changed != video:
        await buckets.video.put(keys.video_record(video_id), changed.to_json())
        if not await exists(buckets.video, keys.catalog_entry(video_id)):
            # A deletion ended between our read and our write, which brought the record back.
            await delete_video(buckets, video_id)
            raise VideoNotFound
    return changed


async def video_remains(buckets: Buckets, video_id: str) -> bool:
    """Say whether there is anything for `delete_video` to delete."""
    return await exists(buckets.video, keys.video_record(video_id)) or await exists(
        buckets.video, keys.catalog_entry(video_id)
    )


async def delete_video(buckets: Buckets, video_id: str) -> None:
    """Delete a video and all that belongs to it but the leases, which are their worker's.

    The record goes first: from then on the video is gone for everybody, and a worker that still encodes it
    finds out at its next heartbeat. The catalog entry goes last, so that an interrupted deletion can be seen
    and repeated.
    """
    await buckets.video.delete(keys.video_record(video_id))
    await _delete_belongings(buckets, video_id)
    await buckets.video.delete(keys.catalog_entry(video_id))


async def remove_unfinished(buckets: Buckets, video_id: str) -> bool:
    """Remove what an upload or a deletion that will never be finished has left; say whether it was done.

    It is not when there is a record after all. A tombstone, created where the record would be, keeps a
    stalled upload from being entered meanwhile; it goes after the source, which the upload looks for last
    (`add_video`).
    """
    record = keys.video_record(video_id)
    if not await buckets.video.create(record, Tombstone(removed=True).to_json()):
        try:
            if not _is_tombstone((await buckets.video.get(record)).body):
                return False
        except ObjectNotFound:
            return False
    await abort_uploads_below(buckets.raw, keys.upload(video_id))
    await _delete_belongings(buckets, video_id, keep=record)
    await buckets.video.delete(record)
    await buckets.video.delete(keys.catalog_entry(video_id))
    return True


async def _delete_belongings(buckets: Buckets, video_id: str, keep: str | None = None) -> None:
    """Delete all but the catalog entry, the leases and the object `keep`."""
    # Requests are named `<id>` and `<id>.<n>`, so the first one's key is the prefix of all.
    await delete_below(buckets.raw, keys.marker(video_id))
    await buckets.raw.delete_many(
        [keys.upload(video_id), keys.upload_info(video_id), keys.upload_done(video_id)]
    )
    await abort_uploads_below(buckets.video, keys.video_prefix(video_id))
    await delete_below(buckets.video, keys.video_prefix(video_id), keep)
    await delete_below(buckets.raw, keys.dead_letter(video_id))


async def _written_status(store: Store, video_id: str) -> Status | None:
    try:
        return Status.from_json((await store.get(keys.status(video_id))).body)
    except ObjectNotFound:
        return None


def _ids_of(catalog_keys: Sequence[str]) -> list[str]:
    ids = []
    for key in catalog_keys:
        with suppress(InvalidId):
            ids.append(keys.video_of_catalog_entry(key))
    return ids

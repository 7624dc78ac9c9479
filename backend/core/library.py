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
from backend.core.errors import InvalidId, ObjectNotFound, VideoNotFound
from backend.core.names import clean_text
from backend.core.records import Job, Outputs, RecordUnreadable, Stage, Status, Title, Video, Visibility
from backend.core.status import complete_status
from backend.core.store import Buckets, Store

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
    last, so that no worker meets a job without its records.

    Raises:
        StoreError: it may be there in part; `delete_video` removes what there is.
    """
    status = Status.queued(video.id, video.created_at)
    await buckets.video.put(keys.catalog_entry(video.id), b"")
    await buckets.video.put(keys.video_record(video.id), video.to_json())
    await buckets.video.put(keys.status(video.id), status.to_json())
    await buckets.raw.create(keys.marker(job.request), job.to_json())
    return status


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
        found = await asyncio.gather(*(read(video_id) for video_id in ids))
        items = tuple(item for item in found if item is not None)
        if items or not page.truncated:
            return LibraryPage(items, ids[-1] if page.truncated else None)
        start_after = page.objects[-1].key


async def read_item(buckets: Buckets, video_id: str) -> LibraryItem:
    """Return the video and its current status. Raises: VideoNotFound."""
    video, written = await asyncio.gather(
        read_video(buckets, video_id), _written_status(buckets.video, video_id)
    )
    if written is not None and written.stage is Stage.COMPLETE:
        return LibraryItem(video=video, status=written)
    # A stalled worker may have written over the winner's status: the published result is what counts.
    outputs = await published_outputs(buckets, video_id)
    if outputs is not None:
        return LibraryItem(video=video, status=complete_status(outputs))
    return LibraryItem(video=video, status=written or Status.queued(video_id, video.created_at))


async def read_video(buckets: Buckets, video_id: str) -> Video:
    """Return the record. Raises: VideoNotFound."""
    try:
        stored = await buckets.video.get(keys.video_record(video_id))
    except ObjectNotFound:
        raise VideoNotFound from None
    return Video.from_json(stored.body)


async def published_outputs(buckets: Buckets, video_id: str) -> Outputs | None:
    """Return what the latest request that succeeded has published, None if nothing is."""
    prefix = keys.results_of(video_id)
    requests = [info.key.removeprefix(prefix) async for info in buckets.video.list_all(prefix)]
    if not requests:
        return None
    latest = max(requests, key=keys.request_number)
    try:
        stored = await buckets.video.get(keys.result(video_id, latest))
    except ObjectNotFound:
        return None
    return Outputs.from_json(stored.body)


async def edit_video(buckets: Buckets, video_id: str, edit: VideoEdit) -> Video:
    """Change title or visibility and return the new record. Raises: VideoNotFound."""
    video = await read_video(buckets, video_id)
    changed = video.but(**edit.model_dump(exclude_none=True))
    if changed != video:
        await buckets.video.put(keys.video_record(video_id), changed.to_json())
        if not await _exists(buckets.video, keys.catalog_entry(video_id)):
            # A deletion ended between our read and our write, which brought the record back.
            await delete_video(buckets, video_id)
            raise VideoNotFound
    return changed


async def video_remains(buckets: Buckets, video_id: str) -> bool:
    """Say whether there is anything for `delete_video` to delete."""
    return await _exists(buckets.video, keys.video_record(video_id)) or await _exists(
        buckets.video, keys.catalog_entry(video_id)
    )


async def delete_video(buckets: Buckets, video_id: str) -> None:
    """Delete a video and all that belongs to it but the leases, which are their worker's.

    The record goes first: from then on the video is gone for everybody, and a worker that still encodes it
    finds out at its next heartbeat. The catalog entry goes last, so that an interrupted deletion can be seen
    and repeated.
    """
    await buckets.video.delete(keys.video_record(video_id))
    # Requests are named `<id>` and `<id>.<n>`, so the first one's key is the prefix of all.
    await _delete_all(buckets.raw, keys.marker(video_id))
    await buckets.raw.delete(keys.upload(video_id))
    await _delete_all(buckets.video, keys.video_prefix(video_id))
    await _delete_all(buckets.raw, keys.dead_letter(video_id))
    await buckets.video.delete(keys.catalog_entry(video_id))


async def _exists(store: Store, key: str) -> bool:
    try:
        await store.head(key)
    except ObjectNotFound:
        return False
    return True


async def _delete_all(store: Store, prefix: str) -> None:
    await store.delete_many([info.key async for info in store.list_all(prefix)])


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

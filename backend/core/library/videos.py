"""The library: adds, finds, changes and deletes videos.

A video exists as long as `videos/<id>/video.json` does. That record is never rewritten. Each change is a
create-only revision with the next number, so concurrent changes build on one another, and none brings back a
deleted video. Every function here may be repeated after a crash at any point. The order of its writes makes
that safe, so it is part of the contract.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from pydantic import BaseModel, ConfigDict, Field, field_validator

from backend.core import keys
from backend.core.concurrency import gather_or_cancel, gather_pair
from backend.core.errors import BadRequest, ObjectNotFound, StoreUnavailable, VideoNotFound
from backend.core.library.catalog import enter, enter_shared, leave, read_page
from backend.core.library.outbox import announce_created, announce_deleted
from backend.core.library.slugs import VIDEO, claim_slug, is_slug, release_slug
from backend.core.names import clean_text
from backend.core.records import (
    MAX_SLUG_LENGTH,
    NO_SLUG,
    DeadLetter,
    FetchedFile,
    Job,
    Outcome,
    Outputs,
    RecordUnreadable,
    Reduced,
    Retention,
    Revision,
    SlugClaim,
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
HISTORY_PAGE = 20
"""Most videos have few results. Revisions are deleted only with the video, and only the newest counts."""


class LibraryItem(BaseModel):
    """A video with its current status."""

    model_config = ConfigDict(frozen=True)

    video: Video
    status: Status
    kept: Outputs | None = None
    """Set if the published renditions are removed: what is left are `keys.KEPT` of these outputs."""


class VideoEdit(BaseModel):
    """Changes to a video. None leaves a field as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: Title | None = None
    visibility: Visibility | None = None
    slug: str | None = Field(
        default=None,
        max_length=MAX_SLUG_LENGTH,
        description="what addresses may have in place of the id: lower-case letters, digits, hyphens and "
        "underscores; empty: nothing",
    )

    @field_validator("slug")
    @classmethod
    def _possible_slug(cls, slug: str | None) -> str | None:
        if slug and not is_slug(slug):
            raise ValueError(
                "must consist of lower-case letters and digits, with hyphens and underscores between them"
            )
        return slug

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
    """The id to continue after, or None on the last page."""


async def add_video(buckets: Buckets, video: Video, job: Job) -> Status:
    """Add a video whose source is stored or is to be fetched, and queue its job.

    Once this returns, no crash loses the video.

    The catalog entry is written first, so that a crash never leaves a record that the library does not list;
    that of a conversion is its job, and the library does not list it.
    The marker is written last, so that a worker never finds a job without its records. The record is
    create-only, and the source is checked after it: a sweeper that takes a stalled upload for an abandoned
    one creates the same key (`remove_unfinished`), so that only one of them proceeds.

    Raises:
        StoreError: the video may have been added in part. `delete_video` removes it.
    """
    status = Status.of_job(job)
    if job.options.convert:
        await buckets.video.put(keys.conversion(video.id), job.to_json())
    else:
        await enter(buckets.video, video)
    if not await buckets.video.create(keys.video_record(video.id), video.to_json()):
        raise StoreUnavailable("The upload stalled and was removed as abandoned. Upload the file again.")
    await buckets.video.put(keys.status(video.id), status.to_json())
    if not job.is_to_be_fetched:
        await _check_source(buckets.raw, job)
    await queue_first(buckets, video, job)
    return status


async def queue_first(buckets: Buckets, video: Video, job: Job) -> bool:
    """Announce the video and queue its first job. Returns whether this did: it may be queued already."""
    await announce_created(buckets.video, video)
    return await buckets.raw.create(job.marker, job.to_json())


async def _check_source(raw: Store, job: Job) -> None:
    try:
        size_bytes = (await raw.head(job.source)).size_bytes
    except ObjectNotFound:
        size_bytes = None
    if size_bytes != job.source_size_bytes:
        raise StoreUnavailable(
            f"The store has {size_bytes or 0} of the upload's {job.source_size_bytes} bytes."
        )


async def list_videos(
    buckets: Buckets,
    *,
    limit: int,
    cursor: str | None = None,
    indexes: Sequence[str] = (keys.CATALOG,),
    shown: Callable[[Video], bool] = lambda _: True,
) -> LibraryPage:
    """Return up to `limit` (1 to 1000) videos, newest first, after the id `cursor`.

    Only those count that one of the `indexes` has (`backend.core.library.catalog`) and that are `shown`.
    Entries without a record are skipped: their videos are being deleted, or were never finished. A page may
    therefore contain fewer than `limit` videos, but only the last one can be empty.
    """
    after = keys.entry("", cursor) if cursor else ""
    reads = asyncio.Semaphore(CONCURRENT_READS)

    async def read(video_id: str) -> LibraryItem | None:
        async with reads:
            try:
                item = await read_item(buckets, video_id)
                return item if shown(item.video) else None
            except VideoNotFound:
                return None
            except RecordUnreadable as error:
                # A record written by a newer version must not hide all the others.
                log.warning("record_unreadable", video=video_id, error=error.message)
                return None

    while True:
        page = await read_page(buckets.video, indexes, after, limit)
        ids = list(keys.ours(keys.video_of_entry, page.names))
        found = await gather_or_cancel(read(video_id) for video_id in ids)
        items = tuple(item for item in found if item is not None)
        if items or not page.truncated:
            return LibraryPage(items, ids[-1] if page.truncated else None)
        after = page.names[-1]


async def read_item(buckets: Buckets, video_id: str) -> LibraryItem:
    """Return the video and its current status. Raises: VideoNotFound."""
    (record, history), written = await gather_pair(
        gather_pair(_read_record(buckets.video, video_id), _read_history(buckets.video, video_id)),
        _written_status(buckets.video, video_id),
    )
    video = _revised(record, await _newest_revision(buckets.video, video_id, history))
    if written is not None and written.stage is Stage.COMPLETE and history.is_latest(written):
        return LibraryItem(video=video, status=written)
    # A stalled worker may have overwritten the final status. The outcome of the request counts.
    outcome = await _latest_of(buckets, video_id, history.requests)
    if isinstance(outcome, Outputs):
        if outcome.request in history.reduced:
            status = await _status_of_reduced(buckets.video, outcome, history, written)
            return LibraryItem(video=video, status=status.replace(reduced=True), kept=outcome)
        return LibraryItem(video=video, status=complete_status(outcome))
    if outcome is not None and not _is_later(written, outcome):
        return LibraryItem(video=video, status=failed_status(outcome))
    return LibraryItem(video=video, status=written or Status.queued(video_id, video.created_at))


async def _status_of_reduced(
    store: Store, kept: Outputs, history: "_History", written: Status | None
) -> Status:
    """Return the status of the request that makes the renditions again, if there is one."""
    latest = max(history.requests, key=keys.request_number)
    number = keys.request_number(written.request or written.id) if written else 0
    if written is not None and number > keys.request_number(latest):
        return written
    if latest != kept.request:
        with suppress(ObjectNotFound, RecordUnreadable):
            return failed_status(DeadLetter.from_json((await store.get(keys.result(kept.id, latest))).body))
    return complete_status(kept)


def _is_later(written: Status | None, failure: DeadLetter) -> bool:
    """Return whether the status belongs to a later request than the failure."""
    if written is None or written.request is None:
        return False
    return keys.request_number(written.request) > keys.request_number(failure.job.request)


async def read_video(buckets: Buckets, video_id: str) -> Video:
    """Return the video as it was last changed. Raises: VideoNotFound."""
    record = await _read_record(buckets.video, video_id)
    return _revised(record, await _read_revision(buckets.video, video_id))


async def holds_slug(buckets: Buckets, video_id: str, slug: str) -> bool:
    try:
        return (await read_video(buckets, video_id)).slug == slug
    except VideoNotFound:
        return False


async def _read_revision(store: Store, video_id: str) -> Revision | None:
    return await _newest_revision(store, video_id, await _read_history(store, video_id))


async def read_retention(buckets: Buckets, video_id: str) -> Retention | None:
    """Return what becomes of the video's source, which never changes. Raises: VideoNotFound."""
    return (await _read_record(buckets.video, video_id)).original


@dataclass(frozen=True, slots=True)
class _History:
    """Which requests of a video have ended, and how often the video was changed."""

    requests: tuple[str, ...] = ()
    reduced: tuple[str, ...] = ()
    """Whose renditions are removed."""
    revision: int = 0

    def is_latest(self, status: Status) -> bool:
        """Return whether nothing happened to the video after this status."""
        number = keys.request_number(status.request or status.id)
        return all(keys.request_number(request) <= number for request in self.requests) and not any(
            keys.request_number(request) == number for request in self.reduced
        )


async def _newest_revision(store: Store, video_id: str, history: _History) -> Revision | None:
    """Return what was changed last, or None. Raises: VideoNotFound: it was deleted meanwhile."""
    if not history.revision:
        return None
    try:
        newest = await store.get(keys.revision(video_id, history.revision))
    except ObjectNotFound:  # revisions are only deleted with the video
        raise VideoNotFound from None
    return Revision.from_json(newest.body)


def _revised(record: Video, revision: Revision | None) -> Video:
    if revision is None:
        return record
    file = revision.file.model_dump(exclude_none=True) if revision.file else {}
    slug = revision.claim.slug or None
    return record.replace(title=revision.title, visibility=revision.visibility, slug=slug, **file)


async def _read_record(store: Store, video_id: str) -> Video:
    try:
        stored = await store.get(keys.video_record(video_id))
    except ObjectNotFound:
        raise VideoNotFound from None
    try:
        return Video.from_json(stored.body)
    except RecordUnreadable:
        if is_tombstone(stored.body):
            raise VideoNotFound from None
        raise


async def _read_history(store: Store, video_id: str) -> _History:
    requests, reduced, last, truncated = list[str](), list[str](), "", True
    while truncated:
        page = await store.list_page(keys.history_of(video_id), start_after=last, limit=HISTORY_PAGE)
        for info in page.objects:
            last = info.key
            reduced += keys.ours(keys.request_of_reduction, [last])
            requests += keys.ours(keys.request_of_result, [last])
            with suppress(BadRequest):  # the newest comes first
                return _History(tuple(requests), tuple(reduced), keys.parse_revision(video_id, last))
        truncated = page.truncated
    return _History(tuple(requests), tuple(reduced))


def is_tombstone(body: bytes) -> bool:
    try:
        Tombstone.from_json(body)
    except RecordUnreadable:
        return False
    return True


async def published_outputs(buckets: Buckets, video_id: str) -> Outputs | None:
    """Return the outputs of the latest successful request, or None if nothing is published."""
    outcome = await latest_outcome(buckets, video_id)
    return outcome if isinstance(outcome, Outputs) else None


async def latest_outcome(buckets: Buckets, video_id: str) -> Outcome | None:
    """Return the outputs of the latest successful request, else the failure of the latest request."""
    return await _latest_of(buckets, video_id, (await _read_history(buckets.video, video_id)).requests)


async def kept_outputs(buckets: Buckets, video_id: str) -> Outputs | None:
    """Return the published outputs if their renditions are removed, as `LibraryItem.kept`."""
    history = await _read_history(buckets.video, video_id)
    outcome = await _latest_of(buckets, video_id, history.requests) if history.reduced else None
    return outcome if isinstance(outcome, Outputs) and outcome.request in history.reduced else None


async def _latest_of(buckets: Buckets, video_id: str, requests: Sequence[str]) -> Outcome | None:
    failure: DeadLetter | None = None
    for request in sorted(requests, key=keys.request_number, reverse=True):
        try:
            outcome = read_outcome((await buckets.video.get(keys.result(video_id, request))).body)
        except ObjectNotFound:
            continue
        except RecordUnreadable as error:
            log.warning("record_unreadable", request=request, error=error.message)
            continue
        if isinstance(outcome, Outputs):
            return outcome
        failure = failure or outcome
    return failure


async def reduce_video(buckets: Buckets, outputs: Outputs, size_bytes: int) -> bool:
    """Remove the renditions of published outputs, of this size. Returns whether they are removed.

    What is left must suffice to make them again, so nothing is removed unless the download is there. A player
    or a new request that looks after the record was written knows of the removal, and only then it begins.
    """
    prefix = keys.run_prefix(outputs.id, outputs.run)
    sizes = {output.path: output.size_bytes for output in outputs.objects}
    try:
        stored = await buckets.video.head(prefix + keys.DOWNLOAD)
    except ObjectNotFound:
        return False
    if not stored.size_bytes or stored.size_bytes != sizes.get(keys.DOWNLOAD):
        return False
    record = keys.reduction(outputs.id, outputs.request)
    await buckets.video.create(record, Reduced(size_bytes=size_bytes).to_json())
    try:
        # A deletion starts with the video's record. If it starts after this read, it finds the reduction.
        await _read_record(buckets.video, outputs.id)
    except VideoNotFound:
        await buckets.video.delete(record)
        return False
    found = await keys_below(buckets.video, prefix)
    await buckets.video.delete_many([key for key in found if not keys.is_kept(key.removeprefix(prefix))])
    return True


async def edit_video(buckets: Buckets, video_id: str, edit: VideoEdit) -> Video:
    """Change the video and return it. Raises: VideoNotFound. SlugTaken: nothing is changed."""
    changes = edit.model_dump(exclude_none=True, exclude={"slug"})
    if edit.visibility not in {None, Visibility.PRIVATE}:
        await _read_record(buckets.video, video_id)  # else the entry would be of no video
        await enter_shared(buckets.video, video_id)
    claim = NO_SLUG if edit.slug == "" else None
    if edit.slug:
        claim = await _claim(buckets, video_id, edit.slug)
    return await _revise(buckets, video_id, lambda _, video: video.replace(**changes), claim)


async def _claim(buckets: Buckets, video_id: str, slug: str) -> SlugClaim:
    async def is_gone(holder: str) -> bool:
        try:
            await _read_record(buckets.video, holder)
        except VideoNotFound:
            return True
        return False

    if await is_gone(video_id):
        raise VideoNotFound
    return await claim_slug(buckets.video, VIDEO, slug, video_id, is_gone)


async def note_fetched(buckets: Buckets, video_id: str, file: FetchedFile, title: str | None) -> Video:
    """Add what is known about the video's file now. `title` replaces one that nobody has chosen.

    Raises: VideoNotFound.
    """

    def noted(record: Video, video: Video) -> Video:
        chosen = title if title and video.title == record.title else video.title
        return video.replace(**file.model_dump(exclude_none=True), title=chosen)

    return await _revise(buckets, video_id, noted)


async def _revise(
    buckets: Buckets,
    video_id: str,
    revised: Callable[[Video, Video], Video],
    claim: SlugClaim | None = None,
) -> Video:
    """Replace the video by what `revised` makes of its record and its newest revision.

    With `claim`, it gets that slug, and its former one is released.
    """
    while True:
        record = await _read_record(buckets.video, video_id)
        history = await _read_history(buckets.video, video_id)
        before = await _newest_revision(buckets.video, video_id, history)
        video = _revised(record, before)
        former = before.claim if before else NO_SLUG
        changed = revised(record, video)
        if changed == video and claim in (None, former):
            return video
        revision = Revision(
            title=changed.title,
            visibility=changed.visibility,
            file=_file_of(changed),
            claim=claim or former,
        )
        key = keys.revision(video_id, history.revision + 1)
        if await buckets.video.create(key, revision.to_json()):
            break
    try:
        # A deletion starts with the record. If it starts after this read, it finds the revision.
        await _read_record(buckets.video, video_id)
    except VideoNotFound:
        await buckets.video.delete(key)
        raise
    if revision.claim != former:
        await release_slug(buckets.video, VIDEO, former)
    return _revised(record, revision)


def _file_of(video: Video) -> FetchedFile | None:
    if video.fetched_from is None or video.size_bytes is None:
        return None
    return FetchedFile.model_validate(dict(video))


async def video_remains(buckets: Buckets, video_id: str) -> bool:
    """Return whether there is anything for `delete_video` to delete."""
    return await exists(buckets.video, keys.video_record(video_id)) or await exists(
        buckets.video, keys.catalog_entry(video_id)
    )


async def delete_video(buckets: Buckets, video_id: str) -> None:
    """Delete a video and everything that belongs to it except its leases, which its worker deletes.

    The record is deleted first: from then on the video is gone for everybody, and a worker that is still
    encoding it notices at its next heartbeat. The catalog entry is deleted last, so that an interrupted
    deletion can be detected and repeated.
    """
    title = owner = None
    try:
        with suppress(RecordUnreadable):
            video = await read_video(buckets, video_id)
            title, owner = video.title, video.owner
        await announce_deleted(buckets.video, video_id, title, datetime.now(UTC))
    except VideoNotFound:
        pass  # it never existed, or who deleted the record has announced that
    await buckets.video.delete(keys.video_record(video_id))
    await _delete_belongings(buckets, video_id)
    await leave(buckets.video, video_id, owner)


async def remove_unfinished(buckets: Buckets, video_id: str) -> bool:
    """Remove the leftovers of an upload or a deletion that will never finish. Returns whether it did.

    It does not if the video has a record after all. A tombstone in place of the record prevents a stalled
    upload from adding the video meanwhile. The tombstone is deleted after the source, because the upload
    checks the source last (`add_video`).
    """
    record = keys.video_record(video_id)
    if not await buckets.video.create(record, Tombstone(removed=True).to_json()):
        try:
            if not is_tombstone((await buckets.video.get(record)).body):
                return False
        except ObjectNotFound:
            return False
    await _delete_belongings(buckets, video_id, keep=record)
    await buckets.video.delete(record)
    await leave(buckets.video, video_id, owner=None)
    return True


async def _delete_belongings(buckets: Buckets, video_id: str, keep: str | None = None) -> None:
    """Delete everything except the catalog entry, the leases and the object `keep`."""
    # Requests are named `<id>` and `<id>.<n>`, so the key of the first one is a prefix of all.
    await delete_units(buckets.raw, keys.units_of_video(video_id))
    for prefix in keys.markers_of_video(video_id):
        await delete_below(buckets.raw, prefix)
    await abort_uploads_below(buckets.raw, keys.upload(video_id))  # first: a worker that fetches may end it
    await buckets.raw.delete_many(
        [keys.upload(video_id), keys.upload_info(video_id), keys.upload_done(video_id)]
    )
    await abort_uploads_below(buckets.video, keys.video_prefix(video_id))
    await delete_below(buckets.video, keys.video_prefix(video_id), keep)
    await delete_below(buckets.raw, keys.dead_letter(video_id))


async def delete_units(raw: Store, prefix: str) -> None:
    """Delete the units below `prefix`: the plans first, so that no worker continues with one."""
    found = await keys_below(raw, prefix)
    await raw.delete_many([key for key in found if keys.is_unit_plan(key)])
    await raw.delete_many([key for key in found if not keys.is_unit_plan(key)])


async def _written_status(store: Store, video_id: str) -> Status | None:
    try:
        return Status.from_json((await store.get(keys.status(video_id))).body)
    except ObjectNotFound:
        return None
    except RecordUnreadable as error:  # the outcome is worth more
        log.warning("record_unreadable", key=keys.status(video_id), error=error.message)
        return None

"""The sweeper: removes leftovers of crashes, and queues jobs that a crash prevented from being queued.

It leaves everything alone that is younger than a grace period by the store's clock. It uses the same
create-only writes as all other processes, so it may run at any time and in any number of processes. `Kind`
lists what it handles. It removes the source of an existing video only by finishing a job that has published,
or when the video's own record says that it is time.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial

import structlog

from backend.core import keys
from backend.core.access.sessions import read_session
from backend.core.access.upload_links import UploadLink
from backend.core.errors import AlreadyQueued, BadRequest, ObjectNotFound, VideoNotFound
from backend.core.events.delivering import serving_endpoints
from backend.core.ids import id_time
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import SeenLease
from backend.core.jobs.retry import job_of, next_request_number, source_size
from backend.core.library.catalog import enter, enter_shared
from backend.core.library.images import image_holds_slug, remove_unfinished_image
from backend.core.library.slugs import IMAGE, VIDEO, read_claim
from backend.core.library.videos import (
    delete_units,
    delete_video,
    holds_slug,
    queue_first,
    read_retention,
    read_video,
    reduce_video,
    remove_unfinished,
)
from backend.core.records import (
    SMALLEST_VIDEO_BYTES,
    Job,
    Outcome,
    Outputs,
    RecordUnreadable,
    Video,
    Visibility,
    rank_of,
    read_outcome,
)
from backend.core.store.interface import Buckets, ObjectInfo, OpenUpload, Store
from backend.core.store.prefixes import delete_below, delete_outputs_below
from backend.core.sweep.inventory import RawHoldings, VideoHoldings, list_raw, list_videos_held
from backend.core.uploads.resumable.finishing import remove_records

log = structlog.get_logger(__name__)

Act = Callable[[], Awaitable[bool | None]]
"""Handles a finding. It returns False if there was nothing to do after all."""


class Kind(StrEnum):
    UPLOAD = "upload"
    """A multipart upload that was never completed, or records of a resumable upload: removed."""
    VIDEO = "video"
    """Leftovers of an unfinished upload or deletion: removed."""
    OUTPUTS = "outputs"
    """A run that was not published, or that a later request has replaced, or a look: removed.

    So are renditions of a run that `vodbucket clean` had begun to remove.
    """
    LEASE = "lease"
    """A lease of a request that has ended: the job is finished and the lease removed."""
    UNITS = "units"
    """Units of a request that has ended, or of a deleted video: removed."""
    LETTER = "letter"
    """A dead letter that a later request has made obsolete: removed."""
    JOB = "job"
    """A video that was stored and added, but not queued: queued."""
    ENTRY = "entry"
    """A video that an index of the library lacks: added to it. An entry without a video: removed."""
    SESSION = "session"
    """A session that has expired, or the note of when one was used that has ended: removed."""
    LINK = "link"
    """An upload link that has expired or was withdrawn: what is left of it is removed."""
    ORIGINAL = "original"
    """The source of a video that was published `DELETE_SOURCE_AFTER` ago: removed."""
    EVENT = "event"
    """An event that is older than `EVENTS_KEEP_DAYS`, or the state of a webhook that is not set: removed."""
    CONVERSION = "conversion"
    """A conversion that ended `CONVERT_KEEP_SECONDS` ago, or was never queued: removed, unless it is kept."""
    IMAGE = "image"
    """Leftovers of an unfinished upload or deletion of an image: removed."""
    SLUG = "slug"
    """A claim by which nothing has a slug: removed."""
    PROBE = "probe"
    """An object of an interrupted test of the store (`backend.core.store.probes`): removed."""


@dataclass(frozen=True, slots=True)
class SweepRules:
    grace: timedelta = timedelta(days=1)
    """Younger objects are left alone."""
    uploads_after: timedelta = timedelta(days=7)
    """The same for uploads and sources. Some stores date an object by the start of its upload."""
    events_after: timedelta = timedelta(days=30)
    """The same for events."""
    conversions_after: timedelta = timedelta(hours=1)
    """The same for conversions that have ended."""

    @classmethod
    def of(
        cls,
        grace_seconds: float,
        upload_ttl_seconds: float,
        *,
        events_keep_days: float = 30,
        convert_keep_seconds: float = 3600,
    ) -> "SweepRules":
        """Return the rules. Uploads that cannot be resumed have no time to live: `grace` is the minimum."""
        return cls(
            grace=timedelta(seconds=grace_seconds),
            uploads_after=timedelta(seconds=max(grace_seconds, upload_ttl_seconds)),
            events_after=timedelta(days=events_keep_days),
            conversions_after=timedelta(seconds=convert_keep_seconds),
        )


@dataclass(frozen=True, slots=True)
class Finding:
    kind: Kind
    key: str
    """The object, the prefix of several, or the video's id."""
    why: str
    age_seconds: float
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SweepReport:
    findings: tuple[Finding, ...]
    """What was handled, or in a dry run, what would be."""
    dry_run: bool


async def sweep(
    buckets: Buckets, queue: JobQueue, rules: SweepRules, *, dry_run: bool = False
) -> SweepReport:
    """Go through both buckets once. This takes one LIST for every 1,000 objects, and few other requests.

    `queue` finishes jobs that have ended, and knows whether originals are kept.

    Raises:
        StoreError: what was done stays done, and the next sweep does the rest.
    """
    now = (await buckets.raw.list_page(keys.LAST_SWEEP, limit=1)).store_now
    sweeper = _Sweeper(buckets, queue, rules, now, dry_run=dry_run)
    raw = await list_raw(buckets.raw)
    await sweeper.videos(raw)
    await sweeper.leases(raw)
    await sweeper.units(raw)
    await sweeper.letters(raw)
    await sweeper.uploads(raw)
    await sweeper.resumptions()
    await sweeper.sessions()
    await sweeper.images()
    await sweeper.slugs()
    await sweeper.upload_links()
    await sweeper.events()
    await sweeper.probes()
    return SweepReport(tuple(sweeper.findings), dry_run)


class _Sweeper:
    """One sweep. LISTs only suggest what to do: whatever may have changed since is checked again."""

    def __init__(
        self, buckets: Buckets, queue: JobQueue, rules: SweepRules, now: datetime, *, dry_run: bool
    ) -> None:
        self._buckets = buckets
        self._queue = queue
        self._rules = rules
        self._now = now
        self._dry_run = dry_run
        self._existing: dict[str, VideoHoldings] = {}
        self._unfinished_seen: set[str] = set()
        self.findings: list[Finding] = []

    async def videos(self, raw: RawHoldings) -> None:
        async for video in list_videos_held(self._buckets.video):
            if not video.exists:
                await self._unfinished(video.id, video.newest, video.size_bytes, raw)
                continue
            self._existing[video.id] = video
            await self._runs(video, raw)
            if video.is_conversion:
                await self._conversion(video, raw)
                continue
            if video.results:
                if video.id in raw.sources:
                    await self._original(video, raw)
                continue
            if video.id in raw.sources:
                await self._job(video, raw)
            elif not video.runs and video.id not in raw.queued and video.id not in raw.leased_videos:
                # a dead letter does not count: it is only written after the outcome it describes
                why = "the record of a deleted video came back, or was never queued"
                act = partial(self._returned, video.id)
                await self._act(Kind.VIDEO, video.id, why, video.newest, act, video.size_bytes)
        await self._entries(raw)
        await self._other_entries()
        for video_id, info in {**raw.notes, **raw.sources}.items():
            if video_id not in self._existing:
                await self._unfinished(video_id, info.modified, info.size_bytes, raw)

    async def leases(self, raw: RawHoldings) -> None:
        for seen in raw.leases:
            video = self._existing.get(keys.video_of_request(seen.request))
            if video is None or seen.request in video.results:
                act, grace = partial(self._settle, seen), max(self._rules.grace, self._queue.lease)
                why, renewed = "its request has ended", seen.info.modified
                await self._act(Kind.LEASE, seen.info.key, why, renewed, act, grace=grace)

    async def units(self, raw: RawHoldings) -> None:
        for request, held in raw.units.items():
            video = self._existing.get(keys.video_of_request(request))
            if video is None or request in video.results:
                prefix = keys.units_of_request(request)
                act, why = partial(delete_units, self._buckets.raw, prefix), "their request has ended"
                await self._act(Kind.UNITS, prefix, why, held.newest, act, held.size_bytes)

    async def letters(self, raw: RawHoldings) -> None:
        for request, info in raw.letters.items():
            video = self._existing.get(keys.video_of_request(request))
            number = keys.request_number(request)
            if video is not None and any(keys.request_number(later) > number for later in video.results):
                act = partial(self._buckets.raw.delete, info.key)
                why = "a later request has ended"
                await self._act(Kind.LETTER, info.key, why, info.modified, act, info.size_bytes)

    async def uploads(self, raw: RawHoldings) -> None:
        for upload_id, info in raw.uploads.items():
            act = partial(remove_records, self._buckets.raw, upload_id)
            why, grace = "it can no longer be resumed", self._rules.uploads_after
            since = max(id_time(upload_id), info.modified)
            await self._act(Kind.UPLOAD, keys.upload_info(upload_id), why, since, act, grace=grace)
        async for upload in self._buckets.raw.list_uploads(""):
            with suppress(BadRequest):
                upload_id = keys.video_of_raw_object(upload.key)
                began = max(id_time(upload_id), upload.initiated)
                if upload_id not in raw.leased_videos:  # else a worker may be fetching
                    await self._upload(self._buckets.raw, upload, _touched(raw, upload_id, began))
        async for upload in self._buckets.video.list_uploads(""):
            with suppress(BadRequest):
                if keys.video_of_object(upload.key) not in raw.leased_videos:
                    await self._upload(self._buckets.video, upload, upload.initiated)

    async def _upload(self, store: Store, upload: OpenUpload, began: datetime) -> None:
        """Abort an upload. `began` also considers ids and records, as some stores date uploads wrongly."""
        act = partial(store.abort_upload, upload.key, upload.upload_id)
        why, grace = "it was never completed", self._rules.uploads_after
        await self._act(Kind.UPLOAD, upload.key, why, began, act, grace=grace)

    async def resumptions(self) -> None:
        raw = self._buckets.raw
        async for info in raw.list_all(keys.RESUMPTIONS):
            act, why = partial(_delete_unchanged, raw, info), "its upload has expired"
            grace = self._rules.uploads_after
            await self._act(Kind.UPLOAD, info.key, why, info.modified, act, info.size_bytes, grace)

    async def sessions(self) -> None:
        video, standing = self._buckets.video, set[str]()
        async for info in video.list_all(keys.SESSIONS):
            standing.add(keys.seen(info.key.removeprefix(keys.SESSIONS)))
            if self._now - info.modified <= self._rules.grace:
                continue
            session = await read_session(video, info.key)
            if session is not None:
                act, since = partial(video.delete, info.key), session.expires_at
                await self._act(Kind.SESSION, info.key, "it has expired", since, act, info.size_bytes)
        async for info in video.list_all(keys.SEEN):
            if info.key not in standing:
                act, why = partial(video.delete, info.key), "its session has ended"
                await self._act(Kind.SESSION, info.key, why, info.modified, act)

    async def images(self) -> None:
        video, existing, left = self._buckets.video, "", dict[str, ObjectInfo]()
        async for info in video.list_all(keys.IMAGES):
            for image_id in keys.ours(keys.image_of_object, [info.key]):
                # its record comes first
                if info.key == keys.image_record(image_id) and info.size_bytes >= SMALLEST_VIDEO_BYTES:
                    existing = image_id
                elif image_id != existing:
                    newest = left.get(image_id, info)
                    left[image_id] = max(newest, info, key=lambda one: one.modified)
        for image_id, info in left.items():
            act = partial(remove_unfinished_image, video, image_id)
            why = "its upload or deletion was never finished"
            await self._act(Kind.IMAGE, image_id, why, info.modified, act, info.size_bytes)

    async def slugs(self) -> None:
        """Remove claims by which nothing has a slug, the oldest of a slug first: the newest one counts."""
        video, claims = self._buckets.video, [info async for info in self._buckets.video.list_all(keys.SLUGS)]
        for info in reversed(claims):
            if self._now - info.modified > self._rules.grace and await self._is_idle(info.key):
                act, why = partial(_delete_unchanged, video, info), "nothing has this slug"
                await self._act(Kind.SLUG, info.key, why, info.modified, act, info.size_bytes)

    async def _is_idle(self, key: str) -> bool:
        with suppress(BadRequest, ObjectNotFound, RecordUnreadable):
            kind, slug, _ = keys.parse_slug_claim(key)
            holder = (await read_claim(self._buckets.video, key)).id
            return (
                holder is None
                or (kind == VIDEO and not await holds_slug(self._buckets, holder, slug))
                or (kind == IMAGE and not await image_holds_slug(self._buckets.video, holder, slug))
            )
        return False

    async def upload_links(self) -> None:
        video, newest = self._buckets.video, dict[str, datetime]()
        async for info in video.list_all(keys.UPLOAD_LINKS):
            for link_id in keys.ours(keys.link_of_object, [info.key]):
                newest[link_id] = max(info.modified, newest.get(link_id, info.modified))
        for link_id, since in newest.items():
            if self._now - since <= self._rules.uploads_after:
                continue
            try:
                stored = await video.get(keys.upload_link(link_id))
                since, why = UploadLink.from_json(stored.body).expires_at, "it has expired"
            except ObjectNotFound:
                why = "it was withdrawn"
            except RecordUnreadable:
                continue
            prefix = keys.upload_link_prefix(link_id)
            act, grace = partial(delete_below, video, prefix), self._rules.uploads_after
            await self._act(Kind.LINK, prefix, why, since, act, grace=grace)

    async def events(self) -> None:
        video, batch, serving = self._buckets.video, None, await serving_endpoints(self._buckets.video)
        async for info in video.list_all(keys.EVENTS):
            if any(keys.ours(keys.parse_announcement, [info.key])):
                await self._event(info)
            elif any(keys.ours(keys.parse_event_batch, [info.key])):
                if batch is not None:  # the newest one stays, as it says how far the log has got
                    await self._event(batch)
                batch = info
        async for info in video.list_all(keys.WEBHOOK_STATES):
            # while nobody delivers, there is no telling which webhooks are set
            if serving and info.key not in map(keys.webhook_state, serving):
                await self._event(info)

    async def _event(self, info: ObjectInfo) -> None:
        act, grace = partial(self._buckets.video.delete, info.key), self._rules.events_after
        why = "it has been kept long enough"
        await self._act(Kind.EVENT, info.key, why, info.modified, act, info.size_bytes, grace)

    async def probes(self) -> None:
        for store in (self._buckets.raw, self._buckets.video):
            async for info in store.list_all(keys.DOCTOR):
                act, why = partial(store.delete, info.key), "a test of the store was interrupted"
                await self._act(Kind.PROBE, info.key, why, info.modified, act, info.size_bytes)

    async def _unfinished(self, video_id: str, modified: datetime, size_bytes: int, raw: RawHoldings) -> None:
        if video_id in self._unfinished_seen or video_id in raw.leased_videos:
            return  # the worker that holds the lease notices and cleans up
        self._unfinished_seen.add(video_id)
        grace, source = self._rules.grace, raw.sources.get(video_id)
        if source is not None:
            grace = self._rules.uploads_after
            modified = _touched(raw, video_id, max(modified, source.modified))
            size_bytes = max(size_bytes, source.size_bytes)
        why = "its upload or deletion was never finished"
        act = partial(remove_unfinished, self._buckets, video_id)
        await self._act(Kind.VIDEO, video_id, why, modified, act, size_bytes, grace)

    async def _runs(self, video: VideoHoldings, raw: RawHoldings) -> None:
        """Remove runs that were not published, or replaced. A run of an unfinished request may still be.

        So it is with looks, except that those of published requests are removed as if they were replaced.
        """
        only = len(video.runs) <= 1 and len(video.results) <= 1 and video.id not in raw.notes
        if only and not video.reduced:
            return  # the only run is published or may still be: failures leave a dead letter
        outcomes = await self._outcomes(video)
        published = {request: one for request, one in outcomes.items() if isinstance(one, Outputs)}
        current = max(published, key=keys.request_number, default=None)
        for run, written in video.runs.items():
            request = keys.request_of_run(video.id, run)
            outcome = outcomes.get(request)
            if outcome is None:
                continue
            since, why = written.newest, "its request has ended without it"
            if isinstance(outcome, Outputs) and keys.is_look(run):
                since, why = video.results[request], "the video itself can be watched"
            elif isinstance(outcome, Outputs) and outcome.run == run:
                if request == current and request in video.reduced and written.removable_bytes:
                    why = "their removal was interrupted"
                    act: Act = partial(reduce_video, self._buckets, outcome, written.removable_bytes)
                    size_bytes = written.removable_bytes
                    await self._act(Kind.OUTPUTS, keys.run_prefix(video.id, run), why, since, act, size_bytes)
                if request == current or current is None:
                    continue
                since, why = video.results[current], "a later request has replaced it"
            prefix = keys.run_prefix(video.id, run)
            act = partial(delete_outputs_below, self._buckets.video, prefix)
            await self._act(Kind.OUTPUTS, prefix, why, since, act, written.size_bytes)

    async def _outcomes(self, video: VideoHoldings) -> dict[str, Outcome]:
        outcomes: dict[str, Outcome] = {}
        for request in video.results:
            with suppress(ObjectNotFound, RecordUnreadable):
                stored = await self._buckets.video.get(keys.result(video.id, request))
                outcomes[request] = read_outcome(stored.body)
        return outcomes

    async def _returned(self, video_id: str) -> bool:
        """Delete the video. One to be fetched is queued: a stalled request may still do that, too.

        Its job fails, as nobody else knows the address.
        """
        with suppress(VideoNotFound):
            video = await read_video(self._buckets, video_id)
            if video.fetched_from is not None:
                return await self._queue_unless_ended(video, None)
        await delete_video(self._buckets, video_id)
        return True

    async def _job(self, video: VideoHoldings, raw: RawHoldings) -> None:
        if video.id in raw.notes or video.id in raw.leased_videos:
            return
        marker = keys.marker(video.id, rank_of(raw.sources[video.id].size_bytes))
        why = "its upload was interrupted just before it was queued"
        await self._act(Kind.JOB, marker, why, video.newest, partial(self._queue_job, video.id))

    async def _queue_job(self, video_id: str) -> bool:
        size_bytes = await source_size(self._buckets.raw, video_id)
        if size_bytes is None:
            return False  # its job has ended meanwhile
        with suppress(VideoNotFound):
            return await self._queue_unless_ended(await read_video(self._buckets, video_id), size_bytes)
        return False

    async def _queue_unless_ended(self, video: Video, source_size_bytes: int | None) -> bool:
        with suppress(AlreadyQueued):
            if await next_request_number(self._buckets, video.id) == 0:
                job = job_of(video, 0, source_size_bytes, created_at=video.created_at)
                return await queue_first(self._buckets, video, job)
        return False

    async def _conversion(self, video: VideoHoldings, raw: RawHoldings) -> None:
        """Delete a conversion that nobody has fetched in time. A queued one may still get an outcome."""
        if video.id in raw.queued or video.id in raw.leased_videos:
            return
        since = max(video.results.values(), default=video.newest)
        grace = self._rules.conversions_after if video.results else self._rules.grace
        ended = max((keys.request_number(request) + 1 for request in video.results), default=0)
        act = partial(self._delete_conversion, video.id, ended)
        await self._act(Kind.CONVERSION, video.id, "nobody fetched it", since, act, video.size_bytes, grace)

    async def _delete_conversion(self, video_id: str, ended: int) -> bool:
        """Delete a conversion unless it is tried again or kept. `ended`: how many requests have."""
        try:
            if await next_request_number(self._buckets, video_id) != ended:
                return False
            job = Job.from_json((await self._buckets.video.get(keys.conversion(video_id))).body)
        except (AlreadyQueued, ObjectNotFound):
            return False
        if ended and job.options.convert is not None and job.options.convert.keep:
            return False
        await delete_video(self._buckets, video_id)
        return True

    async def _original(self, video: VideoHoldings, raw: RawHoldings) -> None:
        """Delete the source of a published video whose `DELETE_SOURCE_AFTER` is over.

        A video with a failed or an unfinished later request keeps it.
        """
        source = raw.sources[video.id]
        if self._queue.keeps_all_originals or video.id in raw.queued or video.id in raw.leased_videos:
            return
        try:
            original = await read_retention(self._buckets, video.id)
        except (VideoNotFound, RecordUnreadable):
            return
        if original is None or original.keep or not original.delete_after_seconds:
            return  # such a source was deleted on publication, or came back and may be wanted
        latest = max(video.results, key=keys.request_number)
        act, why = partial(self._delete_source, video.id, latest), "its outputs have been there long enough"
        since, grace = video.results[latest], timedelta(seconds=original.delete_after_seconds)
        await self._act(Kind.ORIGINAL, source.key, why, since, act, source.size_bytes, grace)

    async def _delete_source(self, video_id: str, latest: str) -> bool:
        """Delete the source unless the video's latest request is another one by now, or has failed."""
        try:
            number = await next_request_number(self._buckets, video_id)
            stored = await self._buckets.video.get(keys.result(video_id, latest))
        except (AlreadyQueued, ObjectNotFound):
            return False
        if number != keys.request_number(latest) + 1 or not isinstance(read_outcome(stored.body), Outputs):
            return False
        await self._buckets.raw.delete(keys.upload(video_id))
        return True

    async def _entries(self, raw: RawHoldings) -> None:
        """Compare the library's index with the records."""
        lost = dict(self._existing)
        async for info in self._buckets.video.list_all(keys.CATALOG):
            try:
                video_id = keys.video_of_catalog_entry(info.key)
            except BadRequest:
                continue
            if lost.pop(video_id, None) is None:
                await self._unfinished(video_id, info.modified, info.size_bytes, raw)
        for video in lost.values():
            if not video.is_conversion and (video.results or video.runs or video.id in raw.sources):
                why, act = "the library does not list this video", partial(self._enter, video.id)
                await self._act(Kind.ENTRY, keys.catalog_entry(video.id), why, video.newest, act)

    async def _enter(self, video_id: str) -> bool:
        try:
            await enter(self._buckets.video, await read_video(self._buckets, video_id))
        except VideoNotFound:
            return False
        return True

    async def _other_entries(self) -> None:
        """Compare the indexes of people's videos and of shared ones with the records."""
        store, shared = self._buckets.video, set[str]()
        for index in (keys.OWNED, keys.SHARED):
            async for info in store.list_all(index):
                for video_id in keys.ours(keys.video_of_entry, [info.key.rpartition("/")[2]]):
                    if index == keys.SHARED:
                        shared.add(video_id)
                    if video_id not in self._existing:
                        act, why = partial(store.delete, info.key), "its video was deleted"
                        await self._act(Kind.ENTRY, info.key, why, info.modified, act)
        for video in self._existing.values():  # older versions had no index of shared videos
            if video.is_edited and video.id not in shared and await self._is_shared(video.id):
                act, why = partial(enter_shared, store, video.id), "others may see this video"
                await self._act(Kind.ENTRY, keys.entry(keys.SHARED, video.id), why, video.newest, act)

    async def _is_shared(self, video_id: str) -> bool:
        try:
            return (await read_video(self._buckets, video_id)).visibility is not Visibility.PRIVATE
        except (VideoNotFound, RecordUnreadable):
            return False

    async def _settle(self, seen: SeenLease) -> bool:
        try:
            return await self._queue.settle(seen)
        except ObjectNotFound:
            return False

    async def _act(
        self,
        kind: Kind,
        key: str,
        why: str,
        since: datetime,
        act: Act,
        size_bytes: int = 0,
        grace: timedelta | None = None,
    ) -> None:
        """Report what is older than the grace period, and act on it unless this is a dry run."""
        age = self._now - since
        if age <= (self._rules.grace if grace is None else grace):
            return
        if not self._dry_run:
            try:
                if await act() is False:
                    return
            except RecordUnreadable as error:  # foreign, or of a newer version: the rest must be swept
                log.warning("not_swept", kind=kind, key=key, error=error.message)
                return
            log.info("swept", kind=kind, key=key, why=why, age_seconds=age.total_seconds())
        self.findings.append(Finding(kind, key, why, age.total_seconds(), size_bytes))


def _touched(raw: RawHoldings, upload_id: str, since: datetime) -> datetime:
    """Return when a resumable upload was last active, or `since` if that is later."""
    record = raw.uploads.get(upload_id)
    return since if record is None else max(since, record.modified)


async def _delete_unchanged(store: Store, listed: ObjectInfo) -> bool:
    """Delete an object unless a client has rewritten it since it was listed."""
    with suppress(ObjectNotFound):
        if (await store.head(listed.key)).modified == listed.modified:
            await store.delete(listed.key)
            return True
    return False

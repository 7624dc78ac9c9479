"""The inbox: files that other programs put into the raw bucket become videos.

A file's video has an id that is derived from the file, so however many processes look at once, and wherever
they die, it becomes one video. A worker copies it, as it fetches any source; it leaves the inbox only once
the copy stands or the video is published. Whatever goes wrong leaves it there, where the next look finds it.
"""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from enum import Enum
from pathlib import PurePosixPath

import structlog
from pydantic import ConfigDict, ValidationError

from backend.core import keys
from backend.core.concurrency import gather_or_cancel
from backend.core.errors import (
    ObjectNotFound,
    StorageFull,
    StoreError,
    TooManyUploads,
    VideoNotFound,
    VodbucketError,
)
from backend.core.ids import new_id
from backend.core.library.videos import latest_outcome, read_video
from backend.core.names import clean_text
from backend.core.records import (
    MAX_RECORD_BYTES,
    DeadLetter,
    FetchKind,
    FetchSpec,
    RecordUnreadable,
    Retention,
    Title,
    TranscodeOptions,
    Value,
    Visibility,
)
from backend.core.store.interface import Buckets, ObjectInfo, Store
from backend.core.uploads.imports import address_of, place_of, version_of
from backend.core.uploads.ingest import Description, enter_video
from backend.core.uploads.quota import NO_QUOTA, Quota

log = structlog.get_logger(__name__)

SETTLE_SECONDS = 30.0
"""A younger file is left alone: what is said about it may follow."""
LOOK_AGAIN_SECONDS = 60.0
MAX_WAITING = 200
"""Of so many files at a time the videos are added. What is dropped in by the thousand waits in the inbox."""
AT_A_TIME = 16
MAX_FAILURES = 3
"""Then it is the store, not the file."""


class SidecarOptions(TranscodeOptions):
    """Options for encoding this file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    keep_original: bool | None = None


class Sidecar(Value):
    """`inbox/<name>.json`: what is said about the file `inbox/<name>`. All fields are optional."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    title: Title | None = None
    visibility: Visibility = Visibility.PRIVATE
    transcode: SidecarOptions = SidecarOptions()


class _Fate(Enum):
    NEW = "new"
    WAITING = "waiting"
    """Its video is there, its source is not yet."""
    FAILED = "failed"
    """It could not be copied. It stays until its video is retried or deleted."""
    DONE = "done"
    """Its copy stands, or its video is published."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look did. `waiting`: how many files are still to be taken or removed."""

    added: int
    removed: int
    waiting: int


@dataclass(slots=True)
class Inbox:
    """Takes files from the inbox. `retention` says what becomes of them, by their wish to be kept."""

    buckets: Buckets
    max_bytes: int
    quota: Quota = NO_QUOTA
    settle_seconds: float = SETTLE_SECONDS
    retention: Callable[[bool | None], Retention | None] = lambda _: None
    _entered: set[str] = field(default_factory=set)
    """Videos that are surely queued: not to be checked at every look."""

    async def look(self) -> Looked:
        """Go through the inbox once. It may be interrupted anywhere, and others may look at the same time.

        Raises: StoreError: the next look does the rest.
        """
        files, sidecars, young = await self._listed()
        if not files:
            return Looked(0, 0, young)
        sources = {info.key async for info in self.buckets.raw.list_all(keys.UPLOADS)}
        room = await self._room()
        waiting, removed, new = young, 0, list[ObjectInfo]()
        left = list(files)
        while left and waiting + len(new) < MAX_WAITING:
            batch, left = left[:AT_A_TIME], left[AT_A_TIME:]
            fates = await gather_or_cancel(self._fate(info, sources) for info in batch)
            for info, fate in zip(batch, fates, strict=True):
                if fate is _Fate.DONE:
                    await _remove(self.buckets.raw, info)
                    self._entered.discard(video_of(info))
                    removed += 1
                elif fate is _Fate.WAITING:
                    waiting, room = waiting + 1, room - info.size_bytes
                elif fate is _Fate.NEW:
                    new.append(info)
        room -= sum(info.size_bytes for info in left if video_of(info) in self._entered)
        added = failures = 0
        for info in new:
            if info.size_bytes > room:
                log.warning("inbox_file_waits", key=info.key, reason=StorageFull().message)
            else:
                try:
                    added += await self._added(info, sidecars)
                    room -= info.size_bytes
                except StoreError as error:  # leftovers of its video may be in the way: the sweeper's work
                    log.warning("inbox_file_failed", key=info.key, error=error.message)
                    failures += 1
                    if failures == MAX_FAILURES:
                        raise
        return Looked(added, removed, waiting + len(new) + len(left))

    async def _listed(self) -> tuple[list[ObjectInfo], set[str], int]:
        """Return the files that may be taken, the keys of sidecars, and how many files are too young."""
        found, after, truncated = list[ObjectInfo](), "", True
        while truncated:
            page = await self.buckets.raw.list_page(keys.INBOX, start_after=after)
            found += page.objects
            after, truncated = found[-1].key if found else "", page.truncated
        sidecars = {info.key for info in found if info.key.endswith(".json")}
        files = [one for one in found if one.size_bytes and not one.key.endswith(("/", ".json"))]
        settled = timedelta(seconds=self.settle_seconds)
        old = [one for one in files if page.store_now - one.modified >= settled]
        return old, sidecars, len(files) - len(old)

    async def _fate(self, info: ObjectInfo, sources: Collection[str]) -> _Fate:
        video_id = video_of(info)
        if keys.upload(video_id) in sources:
            return _Fate.DONE
        try:
            await read_video(self.buckets, video_id)
        except VideoNotFound:
            return _Fate.NEW
        except RecordUnreadable:
            return _Fate.FAILED
        outcome = await latest_outcome(self.buckets, video_id)
        if outcome is not None:
            return _Fate.FAILED if isinstance(outcome, DeadLetter) else _Fate.DONE
        # it may have been added without being queued
        return _Fate.WAITING if video_id in self._entered else _Fate.NEW

    async def _added(self, info: ObjectInfo, sidecars: Collection[str]) -> bool:
        raw, video_id = self.buckets.raw, video_of(info)
        try:
            current = await raw.head(info.key)
        except ObjectNotFound:
            return False  # another process was faster
        if not await _is_still_there(raw, info):
            return False
        about, problem = Sidecar(), None
        if keys.sidecar(info.key) in sidecars:
            about, problem = await self._about(keys.sidecar(info.key))
        fetch = FetchSpec(
            kind=FetchKind.S3,
            address=address_of(info.key),
            max_bytes=self.max_bytes,
            titled=bool(about.title),
            version=version_of(current),
        )
        described = Description(
            filename=PurePosixPath(info.key).name,
            title=about.title,
            original=self.retention(about.transcode.keep_original),
        )
        video = described.video(video_id, None, info.modified.astimezone(UTC)).replace(
            fetched_from=fetch.shown, visibility=about.visibility, description=problem
        )
        options = TranscodeOptions.model_validate(about.transcode.model_dump(exclude={"keep_original"}))
        is_new = await enter_video(self.buckets, video, options, fetch)
        self._entered.add(video_id)
        if is_new:
            log.info("video_added", id=video_id, fetched_from=fetch.shown)
        return is_new

    async def _about(self, key: str) -> tuple[Sidecar, str | None]:
        """Return what is said about a file, and what is wrong with that, for people."""
        try:
            if (await self.buckets.raw.head(key)).size_bytes > MAX_RECORD_BYTES:
                return Sidecar(), _ignored(key, "it is too large")
            return Sidecar.model_validate_json((await self.buckets.raw.get(key)).body), None
        except ObjectNotFound:
            return Sidecar(), None
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            reason = f"{where}: {first['msg']}" if where else first["msg"]
            return Sidecar(), _ignored(key, reason)

    async def _room(self) -> int:
        try:
            return await self.quota.admit(self.buckets.raw, None)
        except (StorageFull, TooManyUploads):
            return 0


def video_of(info: ObjectInfo) -> str:
    """Return the id of a listed file's video. Stores state times in seconds or finer."""
    second = int(info.modified.timestamp())
    text = f"{second} {info.size_bytes} {info.etag} {info.key}"
    digest = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    return new_id(second * 1000, digest & (1 << 74) - 1)


async def withdraw(buckets: Buckets, video_id: str) -> None:
    """Remove the file of a video that is about to be deleted from the inbox: else it would come back."""
    try:
        video = await read_video(buckets, video_id)
    except (VideoNotFound, RecordUnreadable):
        return
    bucket, key = place_of(video.fetched_from or "")
    if bucket or not key.startswith(keys.INBOX):
        return
    page = await buckets.raw.list_page(key, limit=1)
    for info in page.objects:
        if info.key == key and video_of(info) == video_id:
            await _remove(buckets.raw, info)


def _ignored(key: str, reason: str) -> str:
    return clean_text(f"{PurePosixPath(key).name} was ignored: {reason}.")


async def _remove(raw: Store, info: ObjectInfo) -> None:
    """Remove a file, unless it is another one by now, and before it what is said about it.

    Someone who sees that the file is gone may put another one under its name.
    """
    if await _is_still_there(raw, info):
        await raw.delete(keys.sidecar(info.key))
        await raw.delete(info.key)


async def _is_still_there(raw: Store, info: ObjectInfo) -> bool:
    """Return whether this file is at its key. A HEAD would not tell: Ceph dates objects in two ways."""
    page = await raw.list_page(info.key, limit=1)
    return any(one.key == info.key and video_of(one) == video_of(info) for one in page.objects)


@dataclass(slots=True)
class InboxWatch:
    """Looks every `seconds`, if not 0, and some time after each hint, until the inbox is empty."""

    inbox: Inbox
    seconds: float
    added: Callable[[], None] = lambda: None
    _hint: asyncio.Event = field(default_factory=asyncio.Event)

    def hint(self) -> None:
        """Say that there may be something new."""
        self._hint.set()

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """Look again and again while the block runs."""
        looking = asyncio.create_task(self._keep_looking())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _keep_looking(self) -> None:
        pause = self.seconds
        while True:
            if await self._heard(pause * random.uniform(1, 1.5)):  # noqa: S311  # keeps processes apart
                await asyncio.sleep(self.inbox.settle_seconds)
            pause = self.seconds
            try:
                looked = await self.inbox.look()
            except VodbucketError as error:
                log.warning("inbox_look_failed", error=error.message)
                pause = pause or LOOK_AGAIN_SECONDS
            except Exception:  # a bug must neither end this task unseen, nor the server
                log.exception("inbox_look_broke")
            else:
                if looked.added:
                    self.added()
                if looked.waiting:
                    pause = pause or LOOK_AGAIN_SECONDS

    async def _heard(self, seconds: float) -> bool:
        """Wait so long, or without end if it is 0, and return whether there was a hint."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds or None):
                await self._hint.wait()
        heard = self._hint.is_set()
        self._hint.clear()
        return heard

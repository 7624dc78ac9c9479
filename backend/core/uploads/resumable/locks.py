"""Who may add to an upload: one request at a time, whichever server it has reached.

An upload is taken by a create-only write of the next generation of its progress, which its holder rewrites as
a heartbeat. The highest generation counts. Whoever stops holding it creates the next one, which says so and
is never rewritten: a heartbeat that arrives late undoes nothing. A holder that is silent for `LEASE_SECONDS`,
by the store's clock, is dead. What a dead one wrote last is adopted: its progress is read once more after the
new generation exists, because until then others may have been told of it.

A holder within this process gives way as soon as somebody else wants the upload, if its client is silent:
after a change of networks the old connection looks alive for a long time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count

import structlog

from backend.core import keys
from backend.core.concurrency import run_shielded
from backend.core.errors import ObjectNotFound, StoreError, UploadLocked
from backend.core.records import new_nonce
from backend.core.store.generations import group_generations
from backend.core.store.interface import Listing, ObjectInfo, Store
from backend.core.uploads.records import NOTHING_YET, UploadProgress

BEAT_SECONDS = 2.0
LEASE_SECONDS = 8.0
BEATS_TO_A_LOOK = 4
"""Among so many, one looks whether somebody else holds the upload; what decides that is the last write."""
LOOK_SECONDS = 1.0
"""How often a holder elsewhere is looked at, to tell a living one from a dead one."""
SILENT_SECONDS = 2.0
"""A client that sends nothing for so long while another request wants the upload has lost its connection."""
GIVE_WAY_SECONDS = 20.0
"""How long a holder in this process may take to store what it has."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """The highest generation of an upload's progress, as a LIST showed it."""

    generation: int
    info: ObjectInfo
    age_seconds: float


@dataclass(slots=True)
class Holder:
    """A request of this process that holds an upload."""

    heard_at: float
    """When its client was heard last, by the event loop's clock."""
    stop_reading: Callable[[], None] | None = None
    """Ends the reading of its client; None while there is nothing to be read."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class UploadLocks:
    """The uploads of the raw bucket, as one process sees them."""

    def __init__(self, raw: Store) -> None:
        self._raw = raw
        self._here: dict[str, Holder] = {}

    async def stat(self, upload_id: str) -> UploadProgress:
        """Return how far the upload is; a silent holder in this process has to store what it has first."""
        await self._settle_here(upload_id)
        while (seen := await self._highest(upload_id)) is not None:
            with suppress(ObjectNotFound):  # whoever has taken the upload since removes what went before
                progress = await self._read(upload_id, seen.generation)
                if not progress.held or await self._is_highest(upload_id, seen.generation):
                    return progress  # one that rests is never rewritten
        return NOTHING_YET

    async def take(self, upload_id: str) -> "UploadLock":
        """Become the upload's holder. Raises: UploadLocked: somebody else is."""
        holder = self._here.get(upload_id)
        if holder is not None and not await self._settle_here(upload_id):
            raise UploadLocked
        if upload_id in self._here:
            raise UploadLocked
        own = self._here[upload_id] = Holder(asyncio.get_running_loop().time())
        try:
            return await self._take(upload_id, own)
        except ObjectNotFound:  # somebody has gone on with it, or finished it, in between
            self.deregister(upload_id, own)
            raise UploadLocked from None
        except BaseException:  # whoever is cancelled here holds nothing
            self.deregister(upload_id, own)
            raise

    async def _take(self, upload_id: str, own: Holder) -> "UploadLock":
        seen = await self._highest(upload_id)
        progress, adopted = NOTHING_YET, None
        if seen is not None:
            progress = await self._read(upload_id, seen.generation)
            if progress.held:
                seen = await self._wait_until_dead(upload_id, seen)
                progress = await self._read(upload_id, seen.generation)
                adopted = seen.generation if progress.held else None
        generation = 0 if seen is None else seen.generation + 1
        mine = progress.replace(held=True, adopts=adopted, nonce=new_nonce())
        key = keys.upload_progress(upload_id, generation)
        if not await self._raw.create(key, mine.to_json()):
            raise UploadLocked
        if adopted is not None:
            log.info("upload_adopted", upload=upload_id, generation=generation)
            latest = await self._read(upload_id, adopted)
            mine = latest.replace(held=True, adopts=None, nonce=new_nonce())
            await self._raw.put(key, mine.to_json())
        return UploadLock(self, self._raw, upload_id, generation, mine, own)

    async def _wait_until_dead(self, upload_id: str, seen: Seen) -> Seen:
        """Return what there is once the holder elsewhere is gone or dead. Raises: UploadLocked: it lives."""
        while seen.age_seconds <= LEASE_SECONDS:
            await asyncio.sleep(LOOK_SECONDS)
            now = await self._highest(upload_id)
            if now is None:
                raise UploadLocked
            if now.info != seen.info:
                if (await self._read(upload_id, now.generation)).held:
                    raise UploadLocked
                return now
            seen = now
        return seen

    async def _settle_here(self, upload_id: str) -> bool:
        """Wait for a holder in this process to let go; say whether it did: not while its client sends."""
        holder = self._here.get(upload_id)
        if holder is None:
            return True
        clock = asyncio.get_running_loop().time
        arrived = clock()
        while not holder.gone.is_set() and clock() < arrived + GIVE_WAY_SECONDS:
            if holder.stop_reading is not None:
                if holder.heard_at > arrived:
                    return False
                if clock() - holder.heard_at >= SILENT_SECONDS:
                    holder.stop_reading()
            with suppress(TimeoutError):
                async with asyncio.timeout(SILENT_SECONDS / 8):
                    await holder.gone.wait()
        return holder.gone.is_set()

    async def listed(self, upload_id: str) -> Listing:
        """List what an unfinished upload needs: a handful of objects."""
        return await self._raw.list_page(keys.upload_state(upload_id))

    async def _highest(self, upload_id: str) -> Seen | None:
        return highest(await self.listed(upload_id))

    async def _is_highest(self, upload_id: str, generation: int) -> bool:
        """Say whether what was read before was not what a dead holder has written too late."""
        seen = await self._highest(upload_id)
        return seen is not None and seen.generation == generation

    async def _read(self, upload_id: str, generation: int) -> UploadProgress:
        body = (await self._raw.get(keys.upload_progress(upload_id, generation))).body
        progress = UploadProgress.from_json(body)
        if progress.adopts is not None:
            # Its holder died before it had read what it was to adopt.
            with suppress(ObjectNotFound):
                earlier = await self._read(upload_id, progress.adopts)
                return earlier.replace(held=progress.held)
        return progress

    def deregister(self, upload_id: str, holder: Holder) -> None:
        """A holder of this process holds the upload no more."""
        if self._here.get(upload_id) is holder:
            del self._here[upload_id]
        holder.gone.set()


class UploadLock:
    """The right to add to an upload, until `rest`."""

    def __init__(
        self,
        locks: UploadLocks,
        raw: Store,
        upload_id: str,
        generation: int,
        progress: UploadProgress,
        holder: Holder,
    ) -> None:
        self._locks = locks
        self._raw = raw
        self._upload_id = upload_id
        self.generation = generation
        self.progress = progress
        """As it was written last."""
        self.holder = holder
        self._writing = asyncio.Lock()

    async def save(self, progress: Callable[[], UploadProgress]) -> None:
        """Write the progress down. Raises: UploadLocked: somebody else holds the upload by now."""
        await self._write(progress)
        seen = highest(await self._locks.listed(self._upload_id))
        if seen is None or seen.generation > self.generation:
            raise UploadLocked

    async def release(self, progress: UploadProgress) -> None:
        """Let go of the upload. Only what this has written may be told a client. Raises: UploadLocked."""
        last = self._next(progress, held=False)
        if not await self._raw.create(self._key(self.generation + 1), last.to_json()):
            raise UploadLocked
        self.progress = last
        await self._forget()

    async def discard(self) -> None:
        """Let go of an upload that is no more, and leave nothing there."""
        await self._raw.delete(self._key(self.generation))

    @asynccontextmanager
    async def beating(
        self,
        progress: Callable[[], UploadProgress] | None = None,
        when_lost: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[None]:
        """Renew the lease with what `progress` returns, by default the same as before.

        `when_lost` is called if somebody else has the lease.
        """
        beats = asyncio.create_task(self._beat(progress or (lambda: self.progress), when_lost))
        try:
            yield
        finally:
            await run_shielded(self._end(beats))

    async def _end(self, beats: asyncio.Task[None]) -> None:
        async with self._writing:  # what is on its way must not arrive behind what is written next
            beats.cancel()
        await asyncio.gather(beats, return_exceptions=True)

    async def _beat(self, progress: Callable[[], UploadProgress], when_lost: Callable[[], None]) -> None:
        for beat in count(1):
            await asyncio.sleep(BEAT_SECONDS)
            try:
                await (self._write(progress) if beat % BEATS_TO_A_LOOK else self.save(progress))
            except UploadLocked:
                log.warning("upload_taken_away", upload=self._upload_id)
                when_lost()
                return
            except StoreError as error:  # it may be back at the next beat
                log.warning("upload_beat_failed", upload=self._upload_id, error=error.message)

    def deregister(self) -> None:
        """Whatever became of it: this process holds the upload no more."""
        self._locks.deregister(self._upload_id, self.holder)

    async def _write(self, progress: Callable[[], UploadProgress]) -> None:
        async with self._writing:
            latest = self._next(progress(), held=True)
            await self._raw.put(self._key(self.generation), latest.to_json())
            self.progress = latest

    def _next(self, progress: UploadProgress, *, held: bool) -> UploadProgress:
        return progress.replace(held=held, beat=self.progress.beat + 1, nonce=new_nonce())

    def _key(self, generation: int) -> str:
        return keys.upload_progress(self._upload_id, generation)

    async def _forget(self) -> None:
        """Remove what this and earlier generations have left, and tails that are no longer needed."""
        needed = self.progress.tail.key if self.progress.tail else None
        try:
            listed = await self._locks.listed(self._upload_id)
            await self._raw.delete_many(
                [
                    info.key
                    for info in listed.objects
                    if info.key != needed and (keys.generation_of_state(info.key) or 0) <= self.generation
                ]
            )
        except StoreError as error:
            log.warning("upload_leftovers", upload=self._upload_id, error=error.message)


def highest(listed: Listing) -> Seen | None:
    """Return the highest generation among what is below `keys.upload_state`."""
    group = next(iter(group_generations(listed.objects, keys.parse_upload_progress).values()), None)
    if group is None:
        return None
    generation, info = group[-1]
    return Seen(generation, info, (listed.store_now - info.modified).total_seconds())

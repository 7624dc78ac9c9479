"""Locks on resumable uploads: one request at a time appends to an upload, whichever server it reaches.

A request takes the lock by a create-only write of the next generation of the upload's progress, and rewrites
that object as a heartbeat. The highest generation counts. To release the lock, the holder creates one more
generation, which says so and is never rewritten: a heartbeat that arrives late changes nothing.

A holder that is silent for `DEAD_SECONDS`, by the store's clock, is dead. The next holder adopts its
progress, and reads it again after its own generation exists, because until then clients may have been told a
newer offset.

A holder within this process gives way as soon as another request wants the upload, if its client is silent:
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
from backend.core.store.interface import ObjectInfo, Store
from backend.core.uploads.records import NOTHING_YET, UploadProgress

HEARTBEAT_SECONDS = 2.0
DEAD_SECONDS = 8.0
HEARTBEATS_PER_CHECK = 4
"""Every fourth heartbeat checks whether another request holds the lock. The last write is always checked."""
POLL_SECONDS = 1.0
"""How often a holder elsewhere is polled, to tell a living one from a dead one."""
SILENT_SECONDS = 2.0
"""A client that is silent for this long while another request wants the upload has lost its connection."""
GIVE_WAY_SECONDS = 20.0
"""How long a holder in this process may take to store the bytes it has."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Generation:
    """The highest generation of an upload's progress, as a LIST showed it."""

    number: int
    info: ObjectInfo
    age_seconds: float


@dataclass(slots=True)
class Holder:
    """A request of this process that holds an upload's lock."""

    heard_at: float
    """When its client last sent something, by the event loop's clock."""
    stop_reading: Callable[[], None] | None = None
    """Stops reading from its client; None while nothing is being read."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class UploadLocks:
    """The locks of the raw bucket, as one process sees them."""

    def __init__(self, raw: Store) -> None:
        self._raw = raw
        self._here: dict[str, Holder] = {}

    async def stat(self, upload_id: str) -> UploadProgress:
        """Return how far the upload is. A holder here with a silent client stores its bytes first."""
        await self._settle_here(upload_id)
        while (highest := await self.highest(upload_id)) is not None:
            with suppress(ObjectNotFound):  # the next holder has deleted the generation since
                progress = await self._read(upload_id, highest.number)
                if not progress.held:
                    return progress  # a released generation is never rewritten
                # A dead holder may have written it after another one took over.
                latest = await self.highest(upload_id)
                if latest is not None and latest.number == highest.number:
                    return progress
        return NOTHING_YET

    @asynccontextmanager
    async def take(self, upload_id: str) -> AsyncIterator["UploadLock"]:
        """Take the upload's lock. The block must release or discard it. Raises: UploadLocked."""
        if not await self._settle_here(upload_id) or upload_id in self._here:
            raise UploadLocked
        own = self._here[upload_id] = Holder(asyncio.get_running_loop().time())
        try:
            try:
                lock = await self._take(upload_id, own)
            except ObjectNotFound:  # another request has continued or finished the upload meanwhile
                raise UploadLocked from None
            yield lock
        finally:
            del self._here[upload_id]
            own.gone.set()

    async def _take(self, upload_id: str, own: Holder) -> "UploadLock":
        highest = await self.highest(upload_id)
        progress, adopted = NOTHING_YET, None
        if highest is not None:
            progress = await self._read(upload_id, highest.number)
            if progress.held:
                highest = await self._wait_until_dead(upload_id, highest)
                progress = await self._read(upload_id, highest.number)
                adopted = highest.number if progress.held else None
        generation = 0 if highest is None else highest.number + 1
        mine = progress.but(held=True, adopts=adopted, nonce=new_nonce())
        key = keys.upload_progress(upload_id, generation)
        if not await self._raw.create(key, mine.to_json()):
            raise UploadLocked
        if adopted is not None:
            log.info("upload_adopted", upload=upload_id, generation=generation)
            latest = await self._read(upload_id, adopted)
            mine = latest.but(held=True, adopts=None, nonce=new_nonce())
            await self._raw.put(key, mine.to_json())
        return UploadLock(self, self._raw, upload_id, generation, mine, own)

    async def _wait_until_dead(self, upload_id: str, seen: Generation) -> Generation:
        """Return the highest generation once its holder elsewhere is gone or dead.

        Raises:
            UploadLocked: the holder is alive.
        """
        while seen.age_seconds <= DEAD_SECONDS:
            await asyncio.sleep(POLL_SECONDS)
            now = await self.highest(upload_id)
            if now is None:
                raise UploadLocked
            if now.info != seen.info:
                if (await self._read(upload_id, now.number)).held:
                    raise UploadLocked
                return now
            seen = now
        return seen

    async def _settle_here(self, upload_id: str) -> bool:
        """Wait for a holder in this process to release the lock. False if its client is still sending."""
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

    async def highest(self, upload_id: str) -> Generation | None:
        """Return the highest generation of the upload's progress; None while there is none."""
        listed = await self._raw.list_page(keys.upload_state(upload_id))
        found = [(keys.generation_of_progress(info.key), info) for info in listed.objects]
        numbered = [(number, info) for number, info in found if number is not None]
        if not numbered:
            return None
        number, info = max(numbered, key=lambda pair: pair[0])
        return Generation(number, info, (listed.store_now - info.modified).total_seconds())

    async def _read(self, upload_id: str, generation: int) -> UploadProgress:
        body = (await self._raw.get(keys.upload_progress(upload_id, generation))).body
        progress = UploadProgress.from_json(body)
        if progress.adopts is not None:
            # Its holder died before it had read the progress it was adopting.
            with suppress(ObjectNotFound):
                earlier = await self._read(upload_id, progress.adopts)
                return earlier.but(held=progress.held)
        return progress


class UploadLock:
    """The right to append to an upload, until `release` or `discard`."""

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
        """As it was last written."""
        self.holder = holder
        self._writing = asyncio.Lock()

    async def save(self, progress: Callable[[], UploadProgress]) -> None:
        """Write the progress. Raises: UploadLocked: another request holds the lock by now."""
        await self._write(progress)
        highest = await self._locks.highest(self._upload_id)
        if highest is None or highest.number > self.generation:
            raise UploadLocked

    async def release(self, progress: UploadProgress) -> None:
        """Release the lock. A client may only be told what this has written.

        Raises:
            UploadLocked: another request holds the lock by now.
        """
        last = self._next(progress, held=False)
        if not await self._raw.create(self._key(self.generation + 1), last.to_json()):
            raise UploadLocked
        self.progress = last
        await self._delete_older()

    async def discard(self) -> None:
        """Release the lock of an upload that no longer exists, and leave nothing behind."""
        await self._raw.delete(self._key(self.generation))

    @asynccontextmanager
    async def heartbeat(
        self,
        progress: Callable[[], UploadProgress] | None = None,
        when_lost: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[None]:
        """Keep the lock while the block runs, by writing what `progress` returns (default: no change).

        `when_lost` is called if another request has taken the lock.
        """
        beats = asyncio.create_task(self._beat(progress or (lambda: self.progress), when_lost))
        try:
            yield
        finally:
            await run_shielded(self._end(beats))

    async def _end(self, beats: asyncio.Task[None]) -> None:
        async with self._writing:  # a write under way must not arrive after the next one
            beats.cancel()
        await asyncio.gather(beats, return_exceptions=True)

    async def _beat(self, progress: Callable[[], UploadProgress], when_lost: Callable[[], None]) -> None:
        for beat in count(1):
            await asyncio.sleep(HEARTBEAT_SECONDS)
            try:
                await (self._write(progress) if beat % HEARTBEATS_PER_CHECK else self.save(progress))
            except UploadLocked:
                log.warning("upload_taken_away", upload=self._upload_id)
                when_lost()
                return
            except StoreError as error:  # the next heartbeat may succeed
                log.warning("upload_beat_failed", upload=self._upload_id, error=error.message)

    async def _write(self, progress: Callable[[], UploadProgress]) -> None:
        async with self._writing:
            latest = self._next(progress(), held=True)
            await self._raw.put(self._key(self.generation), latest.to_json())
            self.progress = latest

    def _next(self, progress: UploadProgress, *, held: bool) -> UploadProgress:
        return progress.but(held=held, beat=self.progress.beat + 1, nonce=new_nonce())

    def _key(self, generation: int) -> str:
        return keys.upload_progress(self._upload_id, generation)

    async def _delete_older(self) -> None:
        """Delete this and earlier generations, and the tails that are no longer needed."""
        needed = self.progress.tail.key if self.progress.tail else None
        try:
            listed = await self._raw.list_page(keys.upload_state(self._upload_id))
            await self._raw.delete_many(
                [
                    info.key
                    for info in listed.objects
                    if info.key != needed and (keys.generation_of_state(info.key) or 0) <= self.generation
                ]
            )
        except StoreError as error:
            log.warning("upload_leftovers", upload=self._upload_id, error=error.message)

"""Writes a stream into a multipart upload: cut into parts of one size, several of them in flight.

Owns part sizes, parts in flight, and the account of what is stored. Its callers, `one_shot` and
`resumable.append`, decide where the bytes come from and what happens to an interrupted upload.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backend.core.errors import ObjectNotFound, UploadVanished
from backend.core.store.interface import PLAIN, Body, ObjectHeaders, Store, UploadedPart
from backend.core.store.ranged_read import read_span
from backend.core.uploads.buffers import MIB, Buffer, Pace, PartBuffers
from backend.core.uploads.records import Tail

SMALLEST_PART_BYTES = 8 * MIB
PLANNED_PARTS = 9000
"""The number of parts to plan for: below the 10,000 that S3 allows."""
PARTS_IN_FLIGHT = 4
BYTES_IN_FLIGHT = 40 * MIB
"""Very large uploads have large parts, so fewer of them are in flight, but always at least one."""


@dataclass(frozen=True, slots=True)
class UploadPlan:
    """How to cut an upload: all parts but the last have `part_size_bytes` (R2 requires equal sizes)."""

    part_size_bytes: int
    parts_in_flight: int

    @classmethod
    def for_size(cls, size_bytes: int) -> "UploadPlan":
        """Plan for up to `size_bytes`: parts of at least 8 MiB, in whole MiB."""
        needed = -(-size_bytes // PLANNED_PARTS)
        return cls.of_parts(max(SMALLEST_PART_BYTES, -(-needed // MIB) * MIB))

    @classmethod
    def of_parts(cls, part_size_bytes: int) -> "UploadPlan":
        return cls(part_size_bytes, max(1, min(PARTS_IN_FLIGHT, BYTES_IN_FLIGHT // part_size_bytes)))


class PartWriter:
    """One upload in progress. It can start after parts, and a tail, that are already stored.

    For one task at a time; only `store_tail` may be called concurrently. An error in sending a part is raised
    by the next call.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        plan: UploadPlan,
        buffers: PartBuffers,
        *,
        headers: ObjectHeaders = PLAIN,
        upload_id: str | None = None,
        stored_parts: int = 0,
        known_parts: Sequence[UploadedPart] = (),
        tail: Tail | None = None,
        tail_key: Callable[[], str] | None = None,
    ) -> None:
        """`known_parts`: the stored parts, if this writer is to complete the object.

        `tail_key` returns the key for a new tail object; without it, no tail is ever stored.
        """
        stored_parts = len(known_parts) or stored_parts
        self._store = store
        self._key = key
        self._plan = plan
        self._buffers = buffers
        self._headers = headers
        self.upload_id = upload_id
        """None until the first part is full: a smaller file is a plain object."""
        self.stored_parts = stored_parts
        """How many parts are stored, counted from the first one up to the first gap."""
        self.tail = tail
        self._tail_key = tail_key
        self.stored_a_tail = False
        self._begun_parts = stored_parts
        self._last_is_short_by = 0
        self._buffer: Buffer | None = None
        self._slots = asyncio.Semaphore(plan.parts_in_flight)
        self._sending: set[asyncio.Task[None]] = set()
        self._stored = {part.number: part for part in known_parts}
        self._failure: BaseException | None = None
        self._lock = asyncio.Lock()
        self._pace = Pace.FAST
        """Of its client: slower until it fills a part without having to give the buffer back."""
        self._crawled = False
        self._reclaiming: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Return whether it is waiting for memory or for the store."""
        return self._lock.locked()

    @property
    def received_bytes(self) -> int:
        """How many bytes have arrived, counted from the start of the object."""
        if self._buffer is not None:
            rest = self._buffer.size_bytes
        else:
            rest = self.tail.size_bytes if self.tail else 0
        return self._begun_parts * self._plan.part_size_bytes - self._last_is_short_by + rest

    @property
    def stored_bytes(self) -> int:
        """How many of them the store holds, up to the first gap."""
        whole = self.stored_parts * self._plan.part_size_bytes
        if self.stored_parts < self._begun_parts:
            return whole
        return whole - self._last_is_short_by + (self.tail.size_bytes if self.tail else 0)

    @property
    def stored_tail(self) -> Tail | None:
        """The tail, if all parts before it are stored."""
        return self.tail if self.stored_parts == self._begun_parts else None

    async def write(self, chunk: Body) -> None:
        """Take the next bytes. Waits for memory, and for a slot among the parts in flight."""
        async with self._lock:
            rest = memoryview(chunk)
            while rest:
                self._check()
                buffer = self._buffer or await self._begin_part()
                rest = rest[buffer.fill(rest) :]
                if buffer.full:
                    await self._send_part(buffer)

    async def store_tail(self) -> None:
        """Store the bytes after the last whole part as a tail, and release their memory."""
        async with self._lock:
            buffer = self._buffer
            if buffer is None or self._tail_key is None:
                return
            self._buffers.pin(buffer)
            tail = self.tail
            if tail is None or tail.size_bytes < buffer.size_bytes:
                tail = Tail(key=self._tail_key(), size_bytes=buffer.size_bytes)
                self.stored_a_tail = True
                await self._store.put(tail.key, buffer.content)
                self.tail = tail
            self._release_buffer()

    async def drain(self) -> None:
        """Wait until all parts are stored. Raises: the first failure."""
        while self._sending:
            await asyncio.wait(self._sending)
        self._check()

    async def flush(self) -> None:
        """Send the last part, which may be shorter. Nothing may be written after it.

        A file smaller than one part stays in memory: `put_whole` stores it.
        """
        async with self._lock:
            self._check()
            if self.upload_id is not None and (buffer := await self._load_rest()) is not None:
                await self._send_part(buffer)
        await self.drain()

    async def complete(self) -> int:
        """Complete the object, all of whose parts this writer sent or knows, and return its size in bytes."""
        await self.flush()
        if self.upload_id is None:
            return await self.put_whole()
        parts = sorted(self._stored.values(), key=lambda part: part.number)
        check_parts(parts, self._plan.part_size_bytes)
        await self._store.complete_upload(self._key, self.upload_id, parts)
        return sum(part.size_bytes for part in parts)

    async def put_whole(self) -> int:
        """Store a file smaller than one part as a plain object, and return its size in bytes."""
        async with self._lock:
            self._check()
            buffer = await self._load_rest()
            if buffer is not None:
                self._buffers.pin(buffer)  # its memory must not be reused while it is being sent
            content = buffer.content if buffer is not None else b""
            await self._store.put(self._key, content, self._headers)
            size_bytes = len(content)
            self._release_buffer()
            return size_bytes

    async def stop(self) -> None:
        """Cancel parts in flight and release all memory. Stored parts stay."""
        tasks = [*self._sending, *([self._reclaiming] if self._reclaiming else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._release_buffer()

    async def put_first_part(self, content: bytes) -> None:
        """Send part 1, which `skip_first_part` left out."""
        self._stored[1] = await self._store.put_part(self._key, await self._open(), 1, content)

    async def skip_first_part(self) -> None:
        """Start with part 2. `put_first_part` sends part 1 at the end."""
        self._begun_parts = 1
        await self._open()

    async def _begin_part(self) -> Buffer:
        buffer = await self._buffers.acquire(self._plan.part_size_bytes, self._pace)
        try:
            if self.tail is not None:
                await self._read_tail(self.tail, buffer)
        except BaseException:  # cancellation must not leak the memory
            buffer.release()
            raise
        self._buffer = buffer
        if self._tail_key is not None:
            self._buffers.allow_reclaim(buffer, self._reclaim)
        return buffer

    async def _read_tail(self, tail: Tail, buffer: Buffer) -> None:
        """Read it in small chunks, because only the pool's memory is counted."""
        try:
            async for chunk in read_span(self._store, tail.key, 0, tail.size_bytes):
                buffer.fill(memoryview(chunk))
        except ObjectNotFound:
            raise UploadVanished from None

    async def _load_rest(self) -> Buffer | None:
        """Return the bytes after the last whole part, read back into memory if they are a stored tail."""
        return await self._begin_part() if self._buffer is None and self.tail is not None else self._buffer

    def _reclaim(self, crawls: bool) -> None:
        """Give the buffer back: this client is slow, and others wait for memory."""
        self._pace = Pace.CRAWLING if crawls and self._crawled else Pace.SLOW
        self._crawled = crawls
        self._reclaiming = asyncio.create_task(self._store_tail_soon())

    async def _store_tail_soon(self) -> None:
        try:
            await self.store_tail()
        except Exception as error:  # noqa: BLE001  # the next call raises it
            self._failure = self._failure or error

    async def _send_part(self, buffer: Buffer) -> None:
        self._buffers.pin(buffer)
        if self.tail is None:
            self._pace = Pace.FAST
        upload_id = await self._open()
        await self._slots.acquire()
        self._begun_parts += 1
        self._last_is_short_by = self._plan.part_size_bytes - buffer.size_bytes
        self._buffer = None
        self.tail = None
        task = asyncio.create_task(self._send(upload_id, self._begun_parts, buffer))
        self._sending.add(task)
        task.add_done_callback(self._sent)

    async def _open(self) -> str:
        if self.upload_id is None:
            self.upload_id = await self._store.open_upload(self._key, self._headers)
        return self.upload_id

    async def _send(self, upload_id: str, number: int, buffer: Buffer) -> None:
        try:
            part = await self._store.put_part(self._key, upload_id, number, buffer.content)
        finally:
            buffer.release()
            self._slots.release()
        self._stored[number] = part
        while self.stored_parts + 1 in self._stored:
            self.stored_parts += 1

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error

    def _release_buffer(self) -> None:
        if self._buffer is not None:
            self._buffer.release()
            self._buffer = None

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure


def check_parts(parts: Sequence[UploadedPart], part_size_bytes: int) -> None:
    """Raises: UploadVanished: a part is missing or has the wrong size."""
    whole = all(part.size_bytes == part_size_bytes for part in parts[:-1])
    if not whole or [part.number for part in parts] != list(range(1, len(parts) + 1)):
        raise UploadVanished

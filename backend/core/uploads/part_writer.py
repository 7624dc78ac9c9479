"""A stream on its way into a multipart upload: cut into parts of one size, several of them sent at a time.

Owns part sizes, parts in flight, and the record of what is stored. Its callers, `one_shot` and
`resumable.append`, decide where the bytes come from and what happens to an interrupted upload.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backend.core.errors import ObjectNotFound, UploadVanished
from backend.core.store.interface import PLAIN, Body, ObjectHeaders, Store, UploadedPart
from backend.core.store.ranged_read import read_span
from backend.core.uploads.buffers import MIB, Buffer, PartBuffers
from backend.core.uploads.records import Tail

SMALLEST_PART_BYTES = 8 * MIB
PLANNED_PARTS = 9000
"""Parts that a size is planned for: below the 10,000 that S3 allows."""
PARTS_IN_FLIGHT = 4
BYTES_IN_FLIGHT = 40 * MIB
"""Very large uploads have large parts; fewer of them are sent at a time, but never fewer than one."""


@dataclass(frozen=True, slots=True)
class UploadPlan:
    """How an upload is cut: every part has `part_size_bytes` but the last (R2 wants them equal)."""

    part_size_bytes: int
    parts_in_flight: int

    @classmethod
    def for_size(cls, size_bytes: int) -> "UploadPlan":
        """Plan for up to `size_bytes`, at least 8 MiB a part, in whole MiB."""
        needed = -(-size_bytes // PLANNED_PARTS)
        return cls.of_parts(max(SMALLEST_PART_BYTES, -(-needed // MIB) * MIB))

    @classmethod
    def of_parts(cls, part_size_bytes: int) -> "UploadPlan":
        return cls(part_size_bytes, max(1, min(PARTS_IN_FLIGHT, BYTES_IN_FLIGHT // part_size_bytes)))


class PartWriter:
    """One upload under way. It may begin behind parts, and a tail, that are stored already.

    For one task at a time; only `set_aside` may be called beside it. What a part's sending raised is raised
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
        tail: Tail | None = None,
        tail_key: Callable[[], str] | None = None,
    ) -> None:
        """`tail_key` names an object for a tail that is put aside; without it none is."""
        self._store = store
        self._key = key
        self._plan = plan
        self._buffers = buffers
        self._headers = headers
        self.upload_id = upload_id
        """None until the first part is whole: what is smaller is a plain object."""
        self.stored_parts = stored_parts
        """How many parts are stored, from the first one on without a gap."""
        self.tail = tail
        self._tail_key = tail_key
        self.has_put_aside = False
        self._begun_parts = stored_parts
        self._last_is_short_by = 0
        self._buffer: Buffer | None = None
        self._places = asyncio.Semaphore(plan.parts_in_flight)
        self._sending: set[asyncio.Task[None]] = set()
        self._stored: dict[int, UploadedPart] = {}
        self._failure: BaseException | None = None
        self._turn = asyncio.Lock()
        self._slow = False
        """Whether its client takes its time: until it fills a part without having to make room."""
        self._setting_aside: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Say whether it waits for memory or for the store just now."""
        return self._turn.locked()

    @property
    def received_bytes(self) -> int:
        """How many bytes there are, from the start of the object."""
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
        """The tail, if no part before it is missing."""
        return self.tail if self.stored_parts == self._begun_parts else None

    async def write(self, chunk: Body) -> None:
        """Take the next bytes; wait for memory, and for a place among the parts in flight."""
        async with self._turn:
            rest = memoryview(chunk)
            while rest:
                self._check()
                buffer = self._buffer or await self._begin_part()
                rest = rest[buffer.fill(rest) :]
                if buffer.full:
                    await self._send_part(buffer)

    async def set_aside(self) -> None:
        """Store the bytes that are no whole part yet as a tail, and let go of their memory."""
        async with self._turn:
            await self._set_aside()

    async def settle(self) -> None:
        """Wait until all parts are stored. Raises: what the first failure was."""
        while self._sending:
            await asyncio.wait(self._sending)
        self._check()

    async def flush(self) -> None:
        """Send the last part, which may be shorter; nothing may be written behind it.

        What is all together no whole part stays here: it becomes a plain object.
        """
        async with self._turn:
            self._check()
            if self.upload_id is not None and (buffer := await self._rest()) is not None:
                await self._send_part(buffer)
        await self.settle()

    async def complete(self) -> int:
        """Make the object of all that was written, by this writer alone, and return its size in bytes."""
        await self.flush()
        if self.upload_id is None:
            return await self.put_whole()
        parts = sorted(self._stored.values(), key=lambda part: part.number)
        check_parts(parts, self._plan.part_size_bytes)
        await self._store.complete_upload(self._key, self.upload_id, parts)
        return sum(part.size_bytes for part in parts)

    async def put_whole(self) -> int:
        """Make a plain object of what is no whole part, and return its size in bytes."""
        async with self._turn:
            self._check()
            buffer = await self._rest()
            if buffer is not None:
                self._buffers.keep(buffer)  # nobody may have its memory while it is sent
            content = buffer.content if buffer is not None else b""
            await self._store.put(self._key, content, self._headers)
            size_bytes = len(content)
            self._drop_buffer()
            return size_bytes

    async def stop(self) -> None:
        """Stop what is being sent and let go of all memory. What is stored stays."""
        tasks = [*self._sending, *([self._setting_aside] if self._setting_aside else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._drop_buffer()

    async def put_first_part(self, content: bytes) -> None:
        """Send part 1 at last, which was left out (`begin_behind_first`)."""
        self._stored[1] = await self._store.put_part(self._key, await self._open(), 1, content)

    async def begin_behind_first(self) -> None:
        """Leave part 1 out until `put_first_part`."""
        self._begun_parts = 1
        await self._open()

    async def _begin_part(self) -> Buffer:
        buffer = await self._buffers.lend(self._plan.part_size_bytes, slow=self._slow)
        try:
            if self.tail is not None:
                await self._read_tail(self.tail, buffer)
        except BaseException:  # whoever is cancelled here must not keep the memory
            buffer.release()
            raise
        self._buffer = buffer
        if self._tail_key is not None:
            self._buffers.ask_back(buffer, self._give_way)
        return buffer

    async def _read_tail(self, tail: Tail, buffer: Buffer) -> None:
        """Read it in small pieces: memory that is not lent is not counted."""
        try:
            async for chunk in read_span(self._store, tail.key, 0, tail.size_bytes):
                buffer.fill(memoryview(chunk))
        except ObjectNotFound:
            raise UploadVanished from None

    async def _rest(self) -> Buffer | None:
        """Return what is no whole part yet, in memory again."""
        return await self._begin_part() if self._buffer is None and self.tail is not None else self._buffer

    def _give_way(self) -> None:
        """Others wait for memory, and this client is slow."""
        self._slow = True
        self._setting_aside = asyncio.create_task(self._set_aside_soon())

    async def _set_aside_soon(self) -> None:
        try:
            await self.set_aside()
        except Exception as error:  # noqa: BLE001  # the next call raises it
            self._failure = self._failure or error

    async def _set_aside(self) -> None:
        buffer = self._buffer
        if buffer is None or self._tail_key is None:
            return
        self._buffers.keep(buffer)
        tail = self.tail
        if tail is None or tail.size_bytes < buffer.size_bytes:
            tail = Tail(key=self._tail_key(), size_bytes=buffer.size_bytes)
            self.has_put_aside = True
            await self._store.put(tail.key, buffer.content)
            self.tail = tail
        self._drop_buffer()

    async def _send_part(self, buffer: Buffer) -> None:
        self._buffers.keep(buffer)
        self._slow = self._slow and self.tail is not None
        upload_id = await self._open()
        await self._places.acquire()
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
            self._places.release()
        self._stored[number] = part
        while self.stored_parts + 1 in self._stored:
            self.stored_parts += 1

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error

    def _drop_buffer(self) -> None:
        if self._buffer is not None:
            self._buffer.release()
            self._buffer = None

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure


def check_parts(parts: Sequence[UploadedPart], part_size_bytes: int) -> None:
    """Raises: UploadVanished: a part is missing, or not as large as it must be."""
    whole = all(part.size_bytes == part_size_bytes for part in parts[:-1])
    if not whole or [part.number for part in parts] != list(range(1, len(parts) + 1)):
        raise UploadVanished

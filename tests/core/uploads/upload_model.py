"""A model of what clients know about their uploads, and servers on stores that fail or are slow."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from backend.core import keys
from backend.core.errors import (
    ChecksumMismatch,
    IncompleteUpload,
    ObjectNotFound,
    OffsetMismatch,
    StoreUnavailable,
    UploadLocked,
    UploadNotFound,
    UploadTooLarge,
    UploadVanished,
)
from backend.core.jobs.job_queue import JobQueue
from backend.core.library.videos import list_videos
from backend.core.store.interface import Buckets, exists
from backend.core.sweep.sweeper import SweepRules, sweep
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.ingest import Description
from backend.core.uploads.quota import UploadRules
from backend.core.uploads.records import UploadInfo, UploadState
from backend.core.uploads.resumable import concatenation
from backend.core.uploads.resumable.concatenation import PartialUnfinished
from backend.core.uploads.resumable.service import ResumableUploads
from tests.core.store.unsteady_store import NONE, Line, Trouble, UnsteadyStore
from tests.core.uploads.upload_lab import FILM, HEAD, PART, Killed
from tests.core.virtual_time import VirtualTimeLoop
from tests.lab.memory_store import MemoryStore

T = TypeVar("T")

SERVERS = 3
LIFETIME = timedelta(days=7)
SETTLED_SECONDS = 120.0
"""By then every request under way has arrived, and every lock of a dead server has expired."""


@dataclass
class Sent:
    """An upload, as far as its client can know."""

    id: str
    data: bytes
    partial: bool
    said_length: bool
    yielded: int = 0
    """How many of the right bytes were sent to any server."""
    told: int = 0
    """The highest offset that any server reported."""
    at: int | None = 0
    """The offset it must have; None while that depends on when a connection broke."""
    finished: bool = False
    dropping: bool = False
    """Its termination was requested."""
    dropped: bool = False

    @property
    def is_piece(self) -> bool:
        return self.partial and self.finished and not self.dropping


@dataclass(frozen=True)
class How:
    """How a client sends some of its bytes."""

    amount: int
    piece: int = 7
    pause: float = 0.0
    breaks: bool = False
    checksum: str = "none"
    off_by: int = 0
    says_length: bool = True


@dataclass
class Server:
    uploads: ResumableUploads
    line: Line


@dataclass
class Checksum:
    """The checksum that a client sends: of these bytes."""

    of: bytes
    seen: bytearray = field(default_factory=bytearray)

    def update(self, data: bytes) -> None:
        self.seen += data

    def matches(self) -> bool:
        return self.seen == self.of


class World:
    """Clients, servers, two buckets, and a model of what they must contain."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        loop = self.runner.get_loop()
        assert isinstance(loop, VirtualTimeLoop)
        self.loop = loop
        self.raw, self.video = MemoryStore(loop.utc_now), MemoryStore(loop.utc_now)
        self.known: dict[str, Sent] = {}
        self.buckets = Buckets(self.raw, self.video)
        self.wanted: dict[tuple[str, ...], list[Sent]] = {}
        """Final uploads that were requested, by their pieces."""
        self.finals: dict[tuple[str, ...], str] = {}
        self.consumed: set[str] = set()
        self.servers = [self._server() for _ in range(SERVERS)]
        self.troubled: set[int] = set()
        self.unsettled_until = 0.0

    def _server(self) -> Server:
        line = Line()
        buckets = Buckets(UnsteadyStore(self.raw, line), UnsteadyStore(self.video, line))
        rules = UploadRules(10_000, LIFETIME)
        uploads = ResumableUploads(buckets, buckets, PartBuffers(6 * PART), rules, self.loop.utc_now)
        return Server(uploads, line)

    def run(self, work: Coroutine[object, object, T]) -> T:
        try:
            return self.runner.run(work)
        finally:
            for index, server in enumerate(self.servers):
                server.line.expect(NONE)
                if server.line.dead:
                    self.servers[index] = self._server()

    @property
    def _calm(self) -> bool:
        """Nothing else is under way, so one request determines the offset."""
        return self.loop.time() >= self.unsettled_until

    def unsettle(self) -> None:
        self.unsettled_until = self.loop.time() + SETTLED_SECONDS

    def trouble(self, server: int, troubles: Mapping[int, Trouble]) -> None:
        if troubles:
            self.servers[server].line.expect(troubles)
            self.troubled.add(server)
            self.unsettle()

    async def create(self, server: int, size: int, says_length: bool, partial: bool) -> Sent:
        number = len(self.known) + 1
        data = (HEAD + bytes((number * 37 + index) % 256 for index in range(size)))[:size]
        uploads = self.servers[server].uploads
        length = len(data) if says_length else None
        info = await uploads.create(length, Description() if partial else FILM, partial=partial)
        small = UploadInfo.from_json(info.to_json()).but(part_size_bytes=PART)
        await self.raw.put(keys.upload_info(info.id), small.to_json())
        self.known[info.id] = Sent(info.id, data, partial, says_length)
        return self.known[info.id]

    async def patch_and_others(
        self, upload: Sent, server: int, meanwhile: Sequence[tuple[float, int, str]], how: How
    ) -> None:
        async def later(seconds: float, other: int, what: str) -> None:
            await asyncio.sleep(seconds)
            if what == "head":
                await self.head(upload, other)
            else:
                await self.patch(upload, other, How(amount=PART + 5))

        if meanwhile:
            self.unsettle()
        await asyncio.gather(self.patch(upload, server, how), *(later(*one) for one in meanwhile))

    async def patch(self, upload: Sent, server: int, how: How) -> None:
        calm, told = self._calm, upload.told
        offset = max(0, (upload.told if upload.at is None else upload.at) + how.off_by)
        data = upload.data[offset : offset + how.amount]
        checksum = None
        if how.checksum != "none":
            checksum = Checksum(data if how.checksum == "right" else data + b"more")
        says_length = how.says_length or offset + len(data) >= len(upload.data)
        state = None
        with self._expecting(upload, server):
            try:
                state = await self.servers[server].uploads.append(
                    upload.id,
                    offset,
                    self._body(upload, offset, data, how),
                    body_bytes=len(data),
                    length=len(upload.data) if says_length and not upload.said_length else None,
                    checksum=checksum,
                )
            except OffsetMismatch:
                assert not calm or upload.at is None or how.off_by
                at = upload.at
            except IncompleteUpload:
                assert how.breaks
                at = offset + len(data) if checksum is None else offset
            except ChecksumMismatch:
                assert how.checksum == "wrong"
                at = offset
            except UploadTooLarge:
                assert offset > len(upload.data)
                at = upload.at
            else:
                assert how.checksum != "wrong" or not data
                assert not how.breaks or upload.finished
                assert state.offset == offset + len(data), (upload, offset, state)
                at = state.offset
                self._told(upload, state, told)
            upload.at = at if calm and self._calm else None
            return
        upload.at = upload.at if calm and self._calm else None

    async def _body(self, upload: Sent, offset: int, data: bytes, how: How) -> AsyncIterator[bytes]:
        for start in range(0, len(data), how.piece):
            await asyncio.sleep(how.pause)
            piece = data[start : start + how.piece]
            upload.yielded = max(upload.yielded, offset + start + len(piece))
            yield piece
        if how.breaks:
            raise IncompleteUpload

    async def head(self, upload: Sent, server: int) -> None:
        calm, told = self._calm, upload.told
        with self._expecting(upload, server):
            state = await self.servers[server].uploads.head(upload.id)
            self._told(upload, state, told)
            if calm and self._calm:
                assert upload.at in (None, state.offset)
                upload.at = state.offset

    def _told(self, upload: Sent, state: UploadState, told_before: int) -> None:
        assert not upload.dropped
        assert told_before <= state.offset <= upload.yielded
        assert state.info.length in (None, len(upload.data))
        upload.told = max(upload.told, state.offset)
        if state.info.finished:
            assert state.offset == len(upload.data)
            assert state.video_id == (None if upload.partial else upload.id)
            upload.finished = True
        assert not (upload.finished and not state.info.finished)

    async def concatenate_at(self, pieces: Sequence[Sent], servers: Sequence[int]) -> None:
        await asyncio.gather(*(self._concatenate(pieces, server) for server in servers))

    async def _concatenate(self, pieces: Sequence[Sent], server: int) -> None:
        ids = tuple(piece.id for piece in pieces)
        self.wanted.setdefault(ids, list(pieces))
        ready = all(piece.partial and piece.finished for piece in pieces)
        whole = not any(piece.dropping or piece.id in self.consumed for piece in pieces)
        try:
            with self._expecting(None, server):
                state = await self.servers[server].uploads.concatenate(ids, FILM, header="final;")
                assert ready or not whole or not self._calm or ids in self.finals
                assert state.video_id is not None
                assert self.finals.setdefault(ids, state.video_id) == state.video_id
                self.consumed |= set(ids)
        except PartialUnfinished:
            assert not ready
        except (UploadNotFound, ObjectNotFound):
            assert not whole or any(piece.id in self.consumed for piece in pieces)

    async def terminate(self, upload: Sent, server: int) -> None:
        upload.dropping = True
        with self._expecting(upload, server):
            await self.servers[server].uploads.terminate(upload.id)
            upload.dropped = True

    @contextmanager
    def _expecting(self, upload: Sent | None, server: int) -> Iterator[None]:
        """Accept the failures that have a reason."""
        line = self.servers[server].line
        calm = self._calm
        try:
            yield
        except Killed:
            assert line.dead
        except StoreUnavailable:
            assert server in self.troubled
        except UploadLocked:
            assert not calm or not self._calm
        except UploadNotFound:
            if upload is None:
                raise
            assert upload.dropping or upload.id in self.consumed
        except (ObjectNotFound, UploadVanished):
            if upload is None:
                raise
            assert upload.dropping

    async def settle(self) -> None:
        await asyncio.sleep(SETTLED_SECONDS)
        self.servers = [self._server()]
        self.unsettled_until = 0.0
        self.troubled = set()
        for upload in self.known.values():
            if upload.dropping:
                await self.terminate(upload, 0)
                await self.head(upload, 0)
                continue
            upload.at = None
            await self.head(upload, 0)
            if not upload.finished:
                await self.patch(upload, 0, How(amount=len(upload.data)))
            assert upload.finished, upload
        for ids, pieces in self.wanted.items():
            if ids not in self.finals and all(piece.partial for piece in pieces):
                await self._concatenate(pieces, 0)
        await self._compare()
        await asyncio.sleep(LIFETIME.total_seconds() + 60)
        rules = SweepRules(timedelta(minutes=10), LIFETIME)
        await sweep(self.buckets, JobQueue(self.buckets, owner="sweeper", lease_seconds=60), rules)
        await self._compare_swept()

    async def _compare(self) -> None:
        """Compare the buckets with the model."""
        for upload in self.known.values():
            if upload.dropping or upload.id in self.consumed:
                continue
            assert (await self.raw.get(keys.upload(upload.id))).body == upload.data
            assert await exists(self.raw, keys.upload_done(upload.id))
        for ids, final in self.finals.items():
            data = b"".join(self.known[one].data for one in ids)
            assert (await self.raw.get(keys.upload(final))).body == data
        videos = {item.video.id for item in (await list_videos(self.buckets, limit=100)).items}
        known = {upload.id for upload in self.known.values() if not upload.partial}
        kept = {upload.id for upload in self.known.values() if not upload.partial and not upload.dropping}
        assert kept | set(self.finals.values()) <= videos
        assert videos - known - set(self.finals.values()) <= self._unheard_finals()

    def _unheard_finals(self) -> set[str]:
        """Those that were requested without anybody seeing the answer."""
        return {concatenation.id_of(ids) for ids in self.wanted if ids not in self.finals}

    async def _compare_swept(self) -> None:
        videos = {item.video.id for item in (await list_videos(self.buckets, limit=100)).items}
        expected = {keys.upload(one) for one in videos} | {keys.marker(one) for one in videos}
        assert {info.key async for info in self.raw.list_all("")} == expected
        assert [one.key async for one in self.raw.list_uploads("")] == []

    def close(self) -> None:
        """Let everything settle, then compare the buckets with the model."""
        with self.runner:
            self.run(self.settle())

"""Resumable uploads on in-memory stores, with processes that are killed at any call to the store."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from backend.core import keys
from backend.core.errors import IncompleteUpload
from backend.core.store.interface import Buckets, Store
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.ingest import Description
from backend.core.uploads.quota import UploadRules
from backend.core.uploads.records import UploadInfo
from backend.core.uploads.resumable.service import ResumableUploads
from tests.lab.memory_store import MemoryStore

PART = 16
"""Bytes. The in-memory store takes parts of any size."""
HEAD = b"\x00\x00\x00\x18ftypisom"
FILM = Description("film.mp4")


class Killed(BaseException):
    """The process is dead. Nothing catches this, and clean-up code cannot reach the store either."""


class Mortal:
    """The store as seen by a process that is killed after a number of calls."""

    def __init__(self, store: Store, life: "Life") -> None:
        self._store = store
        self._life = life

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, name)
        if name in {"read", "list_all", "list_uploads", "presign_get"}:
            self._life.spend()
            return verb

        async def call(*args: object, **options: object) -> object:
            self._life.spend()
            answer = await verb(*args, **options)
            self._life.survive()
            return answer

        return call


class Life:
    """How many calls a process may make. It never sees the answer to the last one."""

    def __init__(self, calls: int | None = None) -> None:
        self.calls = calls
        self.made = 0

    def spend(self) -> None:
        if self.calls is not None and self.made >= self.calls:
            raise Killed
        self.made += 1

    def survive(self) -> None:
        if self.calls is not None and self.made >= self.calls:
            raise Killed


class Process:
    """One API process on the shared buckets."""

    def __init__(self, raw: MemoryStore, video: MemoryStore, calls: int | None = None) -> None:
        self.life = Life(calls)
        buckets = Buckets(Mortal(raw, self.life), Mortal(video, self.life))
        rules = UploadRules(100_000, timedelta(days=7))
        self.uploads = ResumableUploads(buckets, buckets, PartBuffers(8 * PART), rules)
        self._raw = raw

    async def create(self, length: int | None, *, partial: bool = False) -> str:
        """Create an upload with parts of `PART` bytes."""
        info = await self.uploads.create(length, Description() if partial else FILM, partial=partial)
        small = UploadInfo.from_json(info.to_json()).but(part_size_bytes=PART)
        await self._raw.put(keys.upload_info(info.id), small.to_json())
        return info.id


async def chunks(data: bytes, size: int = 7, *, breaks: bool = False) -> AsyncIterator[bytes]:
    """Yield the data in chunks, then break the connection if `breaks`."""
    for start in range(0, len(data), size):
        yield data[start : start + size]
    if breaks:
        raise IncompleteUpload

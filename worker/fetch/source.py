"""The first step of jobs whose source is elsewhere: fetch it into its place in the bucket.

The parts go into one multipart upload, which the lease names, so that a successor continues it. However many
workers believe that they hold the job, only one of them completes an upload: all but the one that its lease
names are aborted before a holder looks whether the source is there, and a holder that has just opened one
completes it only if it was still the holder then (docs/queue.md).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog

from backend.core.concurrency import gather_or_cancel, run_shielded
from backend.core.errors import (
    AttemptFailed,
    MachineFault,
    ObjectNotFound,
    SourceRejected,
    StoreDenied,
    StoreError,
    StoreRejected,
    UploadVanished,
    VideoDeleted,
    VideoNotFound,
)
from backend.core.library.videos import note_fetched
from backend.core.names import clean_lines
from backend.core.records import (
    MAX_DESCRIPTION_LENGTH,
    FetchedFile,
    FetchKind,
    FetchSpec,
    FetchState,
    Job,
    Lease,
)
from backend.core.store.interface import Buckets, Store, UploadedPart
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.ingest import Description
from backend.core.uploads.one_shot import clean_up
from backend.core.uploads.part_writer import BYTES_IN_FLIGHT, PartWriter, UploadPlan
from backend.core.uploads.remote import name_in
from worker.fetch.interface import Fetched, Fetcher

log = structlog.get_logger(__name__)

COPIES_IN_FLIGHT = 8

Note = Callable[[FetchState | None], Awaitable[None]]
"""Stores with the lease how far the fetch is. Raises: LeaseLost, VideoDeleted."""
Report = Callable[[int, int | None], None]
"""Gets how many bytes have arrived, and of how many if that is known."""


class SourceStands(Exception):
    """The source is there: another holder of the job has completed it."""


@dataclass(frozen=True, slots=True)
class SourceFetching:
    """Fetches the sources of jobs. An attempt may take `seconds`."""

    buckets: Buckets
    fetchers: Mapping[FetchKind, Fetcher]
    seconds: float

    async def run(self, lease: Lease, note: Note, report: Report) -> int:
        """Return the size of the job's source, once that is stored.

        Raises:
            SourceRejected, AttemptFailed, MachineFault: as the way to fetch does.
            LeaseLost, VideoDeleted: `note` does. Nothing that this attempt opened is left.
            StoreError: parts that are stored stay for the next attempt.
        """
        job, spec = lease.job, lease.job.fetch
        if spec is None:  # the sweeper queued it
            raise SourceRejected(
                "The server stopped before it could queue this. Add it again.", code="never_queued"
            )
        fetcher = self.fetchers.get(spec.kind)
        if fetcher is None:
            raise MachineFault(f"This worker cannot fetch from such addresses ({spec.kind}).")
        sink = self._sink(job, spec, note, report)
        try:
            await sink.resume(lease.fetching)
            log.info("fetch_started", kind=spec.kind, address=spec.shown, position=sink.position)
            fetched = await self._fetched(fetcher, spec, sink)
            size_bytes = await sink.flush()
            await self._describe(job, spec, fetched, size_bytes)
            await sink.complete()
        except AttemptFailed:
            with suppress(StoreError):  # the next attempt goes on from what is stored
                await sink.drain()
            raise
        except SourceStands:
            return (await self.buckets.raw.head(job.source)).size_bytes
        finally:
            await sink.close()
        return size_bytes

    def _sink(self, job: Job, spec: FetchSpec, note: Note, report: Report) -> "SourceSink":
        return SourceSink(self.buckets.raw, job, spec, note, report)

    async def _fetched(self, fetcher: Fetcher, spec: FetchSpec, sink: "SourceSink") -> Fetched:
        try:
            async with asyncio.timeout(self.seconds) as limit:
                return await fetcher.fetch(spec, sink)
        except TimeoutError:
            if not limit.expired():
                raise
            raise AttemptFailed("Fetching the file took too long.", code="fetch_timeout") from None

    async def _describe(self, job: Job, spec: FetchSpec, fetched: Fetched, size_bytes: int) -> None:
        """Record what became known of the file, before its source stands: then nobody fetches it again."""
        filename = fetched.filename or name_in(spec.address)
        description = Description(filename, fetched.title, fetched.content_type)
        known = description.video(job.id, size_bytes, job.created_at)
        file = FetchedFile(
            filename=known.filename,
            size_bytes=size_bytes,
            content_type=known.content_type,
            description=clean_lines(fetched.description, MAX_DESCRIPTION_LENGTH) or None,
        )
        try:
            await note_fetched(self.buckets, job.id, file, None if spec.titled else known.title)
        except VideoNotFound:
            raise VideoDeleted from None


class SourceSink:
    """Takes a source part by part, as `worker.fetch.interface.FetchSink`."""

    def __init__(self, raw: Store, job: Job, spec: FetchSpec, note: Note, report: Report) -> None:
        self._raw = raw
        self._key = job.source
        self._max_bytes = spec.max_bytes
        self._note = note
        self._report = report
        self._state: FetchState | None = None
        self._writer: PartWriter | None = None
        self._parts: list[UploadedPart] = []
        self._shown_bytes = 0
        """What a program said that it had downloaded: its file is then stored from its first byte."""

    @property
    def position(self) -> int:
        return self._writer.received_bytes if self._writer else 0

    @property
    def version(self) -> str | None:
        return self._state.version if self._state else None

    async def resume(self, state: FetchState | None) -> None:
        """Continue what an earlier attempt has stored, if that is possible.

        All other uploads are aborted first: their holders must not complete one after the look at the
        source.

        Raises: SourceStands.
        """
        kept = state if state is not None and state.version is not None else None
        async for upload in self._raw.list_uploads(self._key):
            if kept is None or upload.upload_id != kept.upload_id:
                await self._raw.abort_upload(self._key, upload.upload_id)
        await self._check_absent()
        if kept is not None:
            try:
                parts = await self._raw.list_parts(self._key, kept.upload_id)
                self._write_to(kept, _whole(parts, kept))
            except UploadVanished:  # the previous fetch may have completed it just now
                await self._check_absent()

    async def begin(self, version: str | None, total_bytes: int | None) -> None:
        """As `FetchSink.begin`. Raises: SourceStands: as soon as the old upload is gone."""
        if total_bytes is not None and total_bytes > self._max_bytes:
            raise _too_large(self._max_bytes)
        if self._state is not None:
            await self.close()
            await self._raw.abort_upload(self._key, self._state.upload_id)
            await self._check_absent()
        part_size_bytes = self._part_size(total_bytes or self._max_bytes)
        upload_id = await self._raw.open_upload(self._key)
        try:
            state = FetchState(
                upload_id=upload_id,
                part_size_bytes=part_size_bytes,
                version=version,
                total_bytes=total_bytes,
            )
            await self._note(state)
        except BaseException:  # the lease may not name it
            await self._abort(upload_id)
            raise
        self._write_to(state, [])

    async def write(self, chunk: bytes) -> None:
        assert self._writer is not None  # noqa: S101  # `begin` was called, or there was something to resume
        if self.position + len(chunk) > self._max_bytes:
            raise _too_large(self._max_bytes)
        await self._writer.write(chunk)
        if self.position > self._shown_bytes:
            self._report(self.position, self._state.total_bytes if self._state else None)

    async def copy(self, source: str, bucket: str | None) -> None:
        state = self._state
        assert state is not None  # noqa: S101  # `begin` was called, or there was something to resume
        size = state.part_size_bytes
        missing = range(len(self._parts), (state.total_bytes or 0) // size)
        for start in missing[::COPIES_IN_FLIGHT]:
            copies = [
                self._raw.copy_part(self._key, state.upload_id, n + 1, source, n * size, size, bucket=bucket)
                for n in range(start, min(start + COPIES_IN_FLIGHT, missing.stop))
            ]
            try:
                made = await gather_or_cancel(copies)
            except (StoreRejected, StoreDenied, ObjectNotFound):
                return  # Ceph, for one, does not find all names; the reader finds out the rest
            self._write_to(state, [*self._parts, *made])
            self._report(self.position, state.total_bytes)

    def progress(self, received_bytes: int, total_bytes: int | None) -> None:
        self._shown_bytes = max(self._shown_bytes, received_bytes)
        self._report(received_bytes, total_bytes)

    async def flush(self) -> int:
        """Put all bytes into parts and return how many there are. Raises: SourceRejected: none."""
        if self._writer is None or not self.position:
            raise SourceRejected("There is nothing at this address.", code="empty_upload")
        await self._writer.flush()
        return self.position

    async def complete(self) -> None:
        """Make the parts the source."""
        assert self._writer is not None  # noqa: S101
        await self._note(self._state)  # not after the video was deleted or the job cancelled
        await self._writer.complete()

    async def drain(self) -> None:
        """Wait until all whole parts are stored. Raises: StoreError."""
        if self._writer is not None:
            await self._writer.drain()

    async def close(self) -> None:
        """Release the memory, even if this task is cancelled. Parts that are stored stay."""
        if self._writer is not None:
            await run_shielded(self._writer.stop())

    async def _abort(self, upload_id: str) -> None:
        abort = self._raw.abort_upload(self._key, upload_id)
        await run_shielded(clean_up(abort, "upload_abort_failed", key=self._key, upload_id=upload_id))

    def _part_size(self, size_bytes: int) -> int:
        return UploadPlan.for_size(size_bytes).part_size_bytes

    def _write_to(self, state: FetchState, parts: list[UploadedPart]) -> None:
        self._state, self._parts = state, parts
        self._writer = self._new_writer(state, parts)

    def _new_writer(self, state: FetchState, parts: list[UploadedPart]) -> PartWriter:
        return PartWriter(
            self._raw,
            self._key,
            UploadPlan.of_parts(state.part_size_bytes),
            PartBuffers(BYTES_IN_FLIGHT),
            upload_id=state.upload_id,
            known_parts=parts,
        )

    async def _check_absent(self) -> None:
        with suppress(ObjectNotFound):
            await self._raw.head(self._key)
            raise SourceStands


def _whole(parts: list[UploadedPart], state: FetchState) -> list[UploadedPart]:
    """Return the parts from which a fetch can go on: at least one byte is left to ask the server for."""
    found = list[UploadedPart]()
    for part in sorted(parts, key=lambda part: part.number):
        end = (len(found) + 1) * state.part_size_bytes
        is_next = part.number == len(found) + 1 and part.size_bytes == state.part_size_bytes
        if not is_next or (state.total_bytes is not None and end >= state.total_bytes):
            break
        found.append(part)
    return found


def _too_large(max_bytes: int) -> SourceRejected:
    return SourceRejected(f"The file is larger than {max_bytes} bytes.", code="fetch_too_large")

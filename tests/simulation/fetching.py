"""How simulated workers fetch: the product's steps, with a server and a writer of parts that need no loop."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from backend.core.records import FetchSpec, FetchState, Job
from backend.core.store.interface import Store, UploadedPart
from backend.core.uploads.part_writer import PartWriter
from tests.simulation.attempts import ride_out, work_a_while
from tests.simulation.stage import Stage
from worker.fetch.interface import Fetched, Fetcher, FetchSink
from worker.fetch.source import Note, Report, SourceFetching, SourceSink

PART_BYTES = 2
FILE = b"source"


class Writer:
    """Replaces `PartWriter`: each chunk is a part."""

    def __init__(self, raw: Store, key: str, upload_id: str, parts: Sequence[UploadedPart]) -> None:
        self._raw = raw
        self._key = key
        self._upload_id = upload_id
        self._parts = list(parts)

    @property
    def received_bytes(self) -> int:
        return sum(part.size_bytes for part in self._parts)

    async def write(self, chunk: bytes) -> None:
        number = len(self._parts) + 1
        self._parts.append(
            await ride_out(lambda: self._raw.put_part(self._key, self._upload_id, number, chunk))
        )

    async def flush(self) -> None:
        pass

    async def drain(self) -> None:
        pass

    async def complete(self) -> int:
        complete = partial(self._raw.complete_upload, self._key, self._upload_id, self._parts)
        await ride_out(complete)
        return self.received_bytes


class SimulatedSink(SourceSink):
    """The product's sink without an event loop."""

    async def close(self) -> None:
        pass

    async def _abort(self, upload_id: str) -> None:
        if not isinstance(sys.exc_info()[1], GeneratorExit):  # nobody waits for it: a crash, or a lost race
            await self._raw.abort_upload(self._key, upload_id)

    def _part_size(self, size_bytes: int) -> int:
        return PART_BYTES

    def _new_writer(self, state: FetchState, parts: list[UploadedPart]) -> PartWriter:
        return cast(PartWriter, Writer(self._raw, self._key, state.upload_id, parts))


@dataclass(frozen=True, slots=True)
class Server:
    """A server whose file is replaced now and then, and which may not say so."""

    stage: Stage

    async def fetch(self, spec: FetchSpec, sink: FetchSink) -> Fetched:
        version = self.stage.rng.choice(("1", "1", "1", "2", None))
        if version is None or sink.version != version:
            await sink.begin(version, self.stage.rng.choice((len(FILE), None)))
        while sink.position < len(FILE):
            await work_a_while(self.stage)
            await sink.write(FILE[sink.position :][:PART_BYTES])
        return Fetched(title="The file's own title")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedFetching(SourceFetching):
    """The product's fetch without an event loop."""

    stage: Stage
    sink: type[SimulatedSink] = SimulatedSink

    def _sink(self, job: Job, spec: FetchSpec, note: Note, report: Report) -> SourceSink:
        return self.sink(self.stage.buckets.raw, job, spec, note, report)

    async def _fetched(self, fetcher: Fetcher, spec: FetchSpec, sink: Any) -> Fetched:
        return await fetcher.fetch(spec, sink)

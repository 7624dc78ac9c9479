"""What a way to fetch gets and gives. `worker.fetch.source` calls it and stores what it writes."""

from dataclasses import dataclass
from typing import Protocol

from backend.core.records import FetchSpec


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became known about a file. Any field may be missing or nonsense: it is cleaned later.

    Chapters belong into the file itself: they are read from there, as from an upload.
    """

    title: str | None = None
    filename: str | None = None
    content_type: str | None = None
    description: str | None = None


class ByteSink(Protocol):
    """Takes a file: `begin`, unless an earlier attempt is continued, then its bytes in order.

    Every method may raise StoreError: let it through.
    """

    @property
    def position(self) -> int:
        """How many bytes have arrived; at first, those that an earlier attempt has stored. Go on there."""
        ...

    @property
    def version(self) -> str | None:
        """What tells the version of the file that they are of from others. None: begin again."""
        ...

    async def begin(self, version: str | None, total_bytes: int | None) -> None:
        """Forget everything stored: what follows is this version, from its first byte.

        Raises: SourceRejected: it is too large.
        """
        ...

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes. Waits for the store. Raises: SourceRejected: they are too many."""
        ...

    def progress(self, received_bytes: int, total_bytes: int | None) -> None:
        """Say how far it is while nothing is written yet, as a program downloads first. Cheap."""
        ...


class FetchSink(ByteSink, Protocol):
    """A sink in a store."""

    async def copy(self, source: str, bucket: str | None) -> None:
        """Copy the next bytes from an object of the same store, without the last ones, to be written.

        `bucket` is the name of its bucket, by default the one of sources. The size was given to `begin`. If
        the store cannot copy, all are left to be written.
        """
        ...


class Fetcher(Protocol):
    """One way to fetch."""

    async def fetch(self, spec: FetchSpec, sink: FetchSink) -> Fetched:
        """Return once all bytes were written. A cancelled call leaves neither files nor processes.

        Raises:
            SourceRejected: another attempt would not help.
            AttemptFailed: another one may.
            MachineFault: this machine cannot, but another one may.
            StoreError: of the sink.
        """
        ...

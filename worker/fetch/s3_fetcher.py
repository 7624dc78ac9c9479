"""Fetches objects of the same store: all but their last bytes are copied within the store."""

from backend.core.errors import (
    AttemptFailed,
    BucketMissing,
    MachineFault,
    ObjectNotFound,
    SourceChanged,
    SourceRejected,
    StoreDenied,
)
from backend.core.records import FetchSpec
from backend.core.store.interface import Buckets, Store
from backend.core.store.ranged_read import read_span
from backend.core.uploads.imports import place_of, version_of
from worker.fetch.interface import Fetched, FetchSink


class S3Fetcher:
    """Copies from the buckets that the settings allow, and from the inbox."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    async def fetch(self, spec: FetchSpec, sink: FetchSink) -> Fetched:
        """As `Fetcher.fetch`."""
        bucket, key = place_of(spec.address)
        store = self._buckets.imports.get(bucket) if bucket else self._buckets.raw
        if store is None:
            raise MachineFault(f"This worker may not import from the bucket {bucket} (IMPORT_BUCKETS).")
        try:
            await _copy(store, bucket or None, key, spec, sink)
        except (ObjectNotFound, BucketMissing):
            raise SourceRejected("There is no such object any more.", code="fetch_not_found") from None
        except StoreDenied:
            raise SourceRejected("The store denies access to this object.", code="fetch_denied") from None
        except SourceChanged:
            raise _changed(spec) from None
        return Fetched()


async def _copy(store: Store, bucket: str | None, key: str, spec: FetchSpec, sink: FetchSink) -> None:
    """Copy the object. Not every store checks an ETag when it copies, so it is looked up before and after."""
    info = await store.head(key)
    version = version_of(info)
    if spec.version not in (None, version):
        raise SourceChanged
    if sink.version != version:
        await sink.begin(version, info.size_bytes)
    await sink.copy(key, bucket)
    async for chunk in read_span(store, key, sink.position, info.size_bytes, etag=info.etag or None):
        await sink.write(chunk)
    if version_of(await store.head(key)) != version:
        raise SourceChanged


def _changed(spec: FetchSpec) -> AttemptFailed | SourceRejected:
    kind = AttemptFailed if spec.version is None else SourceRejected
    return kind("The object was replaced while it was being copied.", code="fetch_changed")

"""Objects of the same store as sources: their addresses, and what is known before one is copied.

An address is `s3://<bucket>/<key>`, with the key percent-encoded. Without a bucket, it is one in the inbox.
"""

from urllib.parse import quote, unquote, urlsplit

from backend.core.errors import (
    AddressRefused,
    BucketMissing,
    EmptyUpload,
    InvalidAddress,
    ObjectNotFound,
    SourceDenied,
    SourceMissing,
    StoreDenied,
    UploadTooLarge,
)
from backend.core.store.interface import Buckets, ObjectInfo, Store
from backend.core.store.ranged_read import read_span
from backend.core.uploads.sniff import SNIFF_BYTES, MediaCheck

SCHEME = "s3:"
MAX_KEY_BYTES = 1024
"""As S3 has it."""


def address_of(key: str, bucket: str = "") -> str:
    return f"{SCHEME}//{bucket}/{quote(key)}" if bucket else f"{SCHEME}/{quote(key)}"


def place_of(address: str) -> tuple[str, str]:
    """Return bucket and key. No bucket: that of uploads."""
    parts = urlsplit(address)
    return parts.netloc, unquote(parts.path[1:])


def version_of(info: ObjectInfo) -> str:
    """Return what tells this object from others that were or will be at its key. `info` is from a HEAD."""
    return f"{info.etag} {int(info.modified.timestamp())} {info.size_bytes}"


async def importable(buckets: Buckets, text: str, max_bytes: int) -> tuple[str, int]:
    """Return the address and size of an object, given as `s3://<bucket>/<key>` with the plain key.

    Raises:
        InvalidAddress
        AddressRefused: it is in none of the buckets that may be imported from.
        SourceMissing, SourceDenied, EmptyUpload, UploadTooLarge
        UnsupportedType: its first bytes are surely not those of a video or audio file.
    """
    bucket, _, key = text.removeprefix(f"{SCHEME}//").partition("/")
    if not text.startswith(f"{SCHEME}//") or not bucket or not 0 < len(key.encode()) <= MAX_KEY_BYTES:
        raise InvalidAddress("This is not the address of an object. Use s3://bucket/key.")
    store = buckets.imports.get(bucket)
    if store is None:
        raise AddressRefused("Objects of this bucket may not be imported (IMPORT_BUCKETS).")
    try:
        size_bytes = await _checked(store, key, max_bytes)
    except (ObjectNotFound, BucketMissing):
        raise SourceMissing from None
    except StoreDenied:
        raise SourceDenied from None
    return address_of(key, bucket), size_bytes


async def _checked(store: Store, key: str, max_bytes: int) -> int:
    info, check = await store.head(key), MediaCheck()
    if not info.size_bytes:
        raise EmptyUpload("This object is empty.")
    if info.size_bytes > max_bytes:
        raise UploadTooLarge
    async for chunk in read_span(store, key, 0, min(SNIFF_BYTES, info.size_bytes)):
        check.feed(chunk)
    check.end()
    return info.size_bytes

"""Sends request bodies without copying them or blocking the event loop, with the digests that stores want."""

import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

from botocore.awsrequest import AWSPreparedRequest
from botocore.handlers import convert_body_to_file_like_object

from backend.core.store.interface import Body

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

SEND_CHUNK_BYTES = 256 * 1024
_WITH_MD5 = ("DeleteObjects", "PutBucketCors", "PutBucketLifecycleConfiguration")


def send_without_copying(client: "S3Client") -> None:
    """Make a client send bodies in pieces, and turn off how the SDK prepares them.

    The SDK wraps bodies in file objects, which copies bytearrays and adds `Expect: 100-continue`. That costs
    a round trip for each part, and hangs forever if a proxy ignores it: aiohttp waits without a time limit.
    """
    for operation in ("PutObject", "UploadPart"):
        client.meta.events.unregister(
            f"before-parameter-build.s3.{operation}", convert_body_to_file_like_object
        )
    client.meta.events.register("before-send.s3", _send_in_pieces)


def _send_in_pieces(request: AWSPreparedRequest, **_: object) -> None:
    if isinstance(request.body, bytes | bytearray | memoryview) and len(request.body) > SEND_CHUNK_BYTES:
        request.body = cast(bytes, _Pieces(request.body))


def send_md5(client: "S3Client") -> None:
    """Send Content-MD5 with the operations that need a digest, in place of the SDK's CRC32.

    All stores know it, as S3 demanded it until 2022. Older MinIO, OVH and others reject all else.
    """
    for operation in _WITH_MD5:
        client.meta.events.register(f"before-call.s3.{operation}", _add_md5)


def _add_md5(params: dict[str, Any], **_: object) -> None:
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = b64encode(digest).decode()
    params["context"].pop("checksum", None)
    params["headers"].pop("x-amz-sdk-checksum-algorithm", None)


def as_sent(body: Body) -> bytes:
    """Return the body typed as the SDK's type stubs require; the SDK itself accepts any bytes-like object."""
    return cast(bytes, body)


class _Pieces:
    """A large body as an asynchronous iterable, which aiohttp sends piece by piece."""

    def __init__(self, body: Body) -> None:
        self._view = memoryview(body)

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        for start in range(0, len(self._view), SEND_CHUNK_BYTES):
            yield self._view[start : start + SEND_CHUNK_BYTES]

    def seek(self, _offset: int) -> None:
        """Do nothing. The SDK rewinds before it retries, but each iteration begins at the start anyway."""

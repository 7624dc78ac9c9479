"""Translates the SDK's errors into `backend.core.errors`, each with its cause. The only module that does."""

from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError, NoCredentialsError
from botocore.parsers import ResponseParserError

from backend.core.errors import (
    BucketMissing,
    ObjectNotFound,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    UploadVanished,
)


class Conflict(StoreUnavailable):
    """412 or 409: the condition failed, or the store could not evaluate it."""


class RangeBeyondEnd(StoreError):
    """416: the object ends before the range starts."""


_ABSENT = {
    "NoSuchKey",
    "NotFound",
    "404",
    "NoSuchCORSConfiguration",
    "NoSuchLifecycleConfiguration",
}
_DENIED = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "BucketAlreadyExists",
}
# These errors look final by their status, but the same request may succeed next time.
_PASSING = {
    "RequestTimeout",
    "BadDigest",
    "IncompleteBody",
    "RequestTimeoutException",
    "XAmzContentSHA256Mismatch",
    # The SDK renews temporary credentials.
    "ExpiredToken",
    "ExpiredTokenException",
    "TokenRefreshRequired",
    "RequestExpired",
}


@contextmanager
def map_sdk_errors(doing: str, what: str = "") -> Iterator[None]:
    """Raise our errors in place of the SDK's, with a message that says what was being done.

    Messages contain neither URLs nor the store's own text, as both may contain signatures.
    """
    task = f"{doing} {what}".rstrip()
    try:
        yield
    except ClientError as error:
        raise _answered(task, error) from error
    except (NoCredentialsError, CredentialRetrievalError) as error:
        raise StoreDenied(f"{task}: no usable credentials ({type(error).__name__})") from error
    except (BotoCoreError, ResponseParserError, aiohttp.ClientError, TimeoutError, OSError) as error:
        raise StoreUnavailable(
            f"{task}: the store is not responding properly ({type(error).__name__})"
        ) from error


def _answered(task: str, error: ClientError) -> StoreError:
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    sentence = f"{task}: the store answered {status} {code}".rstrip()
    if code == "NoSuchUpload":
        return UploadVanished()
    if code == "NoSuchBucket":
        return BucketMissing(f"{task}: the bucket does not exist")
    if code in _ABSENT:
        return ObjectNotFound(f"{task}: there is no such object")
    if code == "RequestTimeTooSkewed":
        return StoreDenied(f"{task}: this machine's clock differs too much from the store's")
    if code in _PASSING:
        return StoreUnavailable(sentence)
    if code in _DENIED or status in {401, 403}:
        return StoreDenied(sentence)
    if status == 416:
        return RangeBeyondEnd(sentence)
    if status in {409, 412}:
        return Conflict(sentence)
    if status in {408, 429} or (status >= 500 and status != 501) or status < 300:
        return StoreUnavailable(sentence)
    return StoreError(sentence)

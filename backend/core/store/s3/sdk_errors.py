"""Translates the SDK's errors into `backend.core.errors`, each with its cause. The only module that does."""

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError, NoCredentialsError
from botocore.parsers import ResponseParserError

from backend.core.errors import (
    BucketMissing,
    ClockSkewed,
    ObjectNotFound,
    StoreDenied,
    StoreError,
    StoreRejected,
    StoreUnavailable,
    UploadVanished,
)


class Conflict(StoreUnavailable):
    """409: the store could not evaluate the condition."""


class PreconditionFailed(Conflict):
    """412: the condition failed."""


class RangeBeyondEnd(StoreError):
    """416: the object ends before the range starts."""


NOT_S3 = "the answer is not that of an S3 store; check S3_ENDPOINT_URL"
_ABSENT = {
    "NoSuchKey",
    "NotFound",
    "404",
    "NoSuchCORSConfiguration",
    "NoSuchLifecycleConfiguration",
}
_DENIED = {
    "InvalidAccessKeyId": "the store does not know this AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY is wrong, or a proxy changes requests to the store",
    "InvalidToken": "AWS_SESSION_TOKEN is wrong",
    "BucketAlreadyExists": "the bucket's name is taken by another account",
    "AccessDenied": "the access key may not do this",
    "AuthorizationHeaderMalformed": "AWS_REGION is wrong",
    "PermanentRedirect": "AWS_REGION is wrong",
    "IllegalLocationConstraintException": "AWS_REGION is wrong",
}
"""With the sentence for people, after which comes what the store answered."""
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
        raise StoreUnavailable(f"{task}: {_what_happened(error)}") from error


def _what_happened(error: Exception) -> str:
    """Name the store's address and the cause. The SDK's own messages may contain signatures."""
    if isinstance(error, ResponseParserError):
        return NOT_S3
    url = urlsplit(str(getattr(error, "kwargs", {}).get("endpoint_url", "")))
    store = f"the store at {url.scheme}://{url.netloc}" if url.netloc else "the store"
    cause: BaseException | None = getattr(error, "kwargs", {}).get("error") or error
    while cause is not None:
        if isinstance(cause, aiohttp.ServerDisconnectedError):
            hint = "; if it expects TLS, use https://" if url.scheme == "http" else ""
            return f"{store} closed the connection without an answer{hint}"
        # Some of aiohttp's errors are errors of the system too, with odd texts; the cause follows.
        if isinstance(cause, aiohttp.ClientError):
            cause = cause.__cause__ or cause.__context__
            continue
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate of {store} is not accepted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"{store} does not speak TLS properly; if it has none, use http:// ({cause.reason})"
        if isinstance(cause, TimeoutError):
            return f"{store} does not answer in time"
        if isinstance(cause, socket.gaierror):
            return f"{store} cannot be found: {cause.strerror}"
        if isinstance(cause, OSError) and cause.errno:
            return f"{store} cannot be reached: {os.strerror(cause.errno)}"
        cause = cause.__cause__ or cause.__context__
    return f"{store} is not responding properly ({type(error).__name__})"


def _answered(task: str, error: ClientError) -> StoreError:
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    sentence = f"{task}: the store answered {status} {code}"
    if code == str(status):  # the SDK found no error of S3 in it
        sentence = f"{task}: the store answered {status}"
        # An answer to HEAD has no body.
        if not error.operation_name.startswith("Head"):
            sentence = f"{task}: {NOT_S3} (status {status})"
    if code == "NoSuchUpload":
        return UploadVanished()
    if code == "NoSuchBucket":
        return BucketMissing(f"{task}: the bucket does not exist")
    if code in _ABSENT:
        return ObjectNotFound(f"{task}: there is no such object")
    if code == "RequestTimeTooSkewed":
        return ClockSkewed(f"{task}: this machine's clock differs too much from the store's")
    if code in _PASSING:
        return StoreUnavailable(sentence)
    if code in _DENIED:
        return StoreDenied(f"{task}: {_DENIED[code]} ({status} {code})")
    if status in {401, 403}:
        return StoreDenied(sentence)
    if status == 416:
        return RangeBeyondEnd(sentence)
    if status == 412:
        return PreconditionFailed(sentence)
    if status == 409:
        return Conflict(sentence)
    if status in {408, 429} or (status >= 500 and status != 501) or status < 300:
        return StoreUnavailable(sentence)
    return StoreRejected(sentence)

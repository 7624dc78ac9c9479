"""Presigns GET URLs (AWS Signature Version 4 in the query string) without the SDK and without I/O.

Players need a URL per segment, so signing must be cheap: whatever does not change between URLs is computed
once. Callers round the time of signing, so that is nearly everything.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

from backend.core.store.interface import PresignedGet

MAX_EXPIRES_SECONDS = 604_800
"""A week: the maximum in Signature Version 4."""

_UNRESERVED = "-._~"
_NEEDS_NO_QUOTES = re.compile(r"[A-Za-z0-9._~/-]*").fullmatch


@dataclass(frozen=True, slots=True)
class Credentials:
    """Credentials for signing. With a `session_token`, URLs expire with the session at the latest."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class _Moment:
    """What URLs signed for the same second have in common, with the same credentials and lifetime."""

    credentials: Credentials
    signed_at: datetime
    shift_seconds: int
    """What is added to `signed_at`, for the store's clock."""
    expires_seconds: int
    key: bytes
    query: str
    to_sign: str
    """The string to sign, without the hash of the request at its end."""


class Presigner:
    """Signs GET URLs of one bucket.

    `bucket_url` has no trailing slash: `https://host/bucket` (path style) or `https://bucket.host`
    (virtual-host style). `credentials` is called each time, as temporary credentials change, and so is
    `store_is_ahead`: how many seconds the store's clock is ahead of ours. URLs start `backdated_seconds`
    earlier, and end when asked.
    """

    def __init__(
        self,
        bucket_url: str,
        region: str,
        credentials: Callable[[], Credentials],
        store_is_ahead: Callable[[], int] = lambda: 0,
        backdated_seconds: int = 0,
    ) -> None:
        parts = urlsplit(bucket_url)
        host = _host_header(parts.scheme, parts.netloc)
        self._origin = f"{parts.scheme}://{host}"
        self._path = quote(parts.path, safe=_UNRESERVED + "/%")
        self._end_of_request = f"\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
        self._region = region
        self._credentials = credentials
        self._store_is_ahead = store_is_ahead
        self._backdated_seconds = backdated_seconds
        self._moment: _Moment | None = None

    def get_url(self, key: str, how: PresignedGet) -> str:
        """Return a URL that reads `key`. It is valid for `how.expires_seconds` from `how.signed_at`."""
        moment = self._moment_of(how)
        path = f"{self._path}/{key if _NEEDS_NO_QUOTES(key) else quote(key, safe=_UNRESERVED + '/')}"
        query = moment.query
        if how.content_disposition is not None:
            disposition = quote(how.content_disposition, safe=_UNRESERVED)
            query = f"{query}&response-content-disposition={disposition}"
        # The canonical query is sorted by name. As the URL has the same order, one string serves for both.
        request = f"GET\n{path}\n{query}{self._end_of_request}"
        to_sign = moment.to_sign + hashlib.sha256(request.encode()).hexdigest()
        signature = hmac.digest(moment.key, to_sign.encode(), "sha256").hex()
        return f"{self._origin}{path}?{query}&X-Amz-Signature={signature}"

    def _moment_of(self, how: PresignedGet) -> _Moment:
        credentials, known = self._credentials(), self._moment
        signed_at = (how.signed_at or datetime.now(UTC)).replace(microsecond=0)
        shift = self._store_is_ahead() - self._backdated_seconds
        if (
            known is not None
            and known.signed_at == signed_at
            and known.shift_seconds == shift
            and known.expires_seconds == how.expires_seconds
            and known.credentials == credentials
        ):
            return known
        self._moment = self._sign_for(credentials, signed_at, shift, how.expires_seconds)
        return self._moment

    def _sign_for(
        self, credentials: Credentials, signed_at: datetime, shift_seconds: int, expires_seconds: int
    ) -> _Moment:
        utc = signed_at.astimezone(UTC) + timedelta(seconds=shift_seconds)
        date = f"{utc.year:04}{utc.month:02}{utc.day:02}"
        timestamp = f"{date}T{utc.hour:02}{utc.minute:02}{utc.second:02}Z"
        scope = f"{date}/{self._region}/s3/aws4_request"
        key = f"AWS4{credentials.secret_key}".encode()
        for message in scope.split("/"):
            key = hmac.digest(key, message.encode(), "sha256")
        credential = quote(f"{credentials.access_key}/{scope}", safe=_UNRESERVED)
        token = credentials.session_token
        query = (
            f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={timestamp}"
            f"&X-Amz-Expires={min(expires_seconds + self._backdated_seconds, MAX_EXPIRES_SECONDS)}"
            f"{f'&X-Amz-Security-Token={quote(token, safe=_UNRESERVED)}' if token else ''}"
            "&X-Amz-SignedHeaders=host"
        )
        to_sign = f"AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n"
        return _Moment(credentials, signed_at, shift_seconds, expires_seconds, key, query, to_sign)


def _host_header(scheme: str, netloc: str) -> str:
    """Return the Host header that clients send: without the scheme's default port."""
    default = {"http": ":80", "https": ":443"}[scheme]
    return netloc.removesuffix(default)

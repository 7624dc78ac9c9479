"""Presigns GET URLs (AWS Signature Version 4 in the query string) without the SDK and without I/O.

Players need a URL per segment, so signing must be cheap: whatever does not change between URLs is computed
once, and the signing key once a day.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

from backend.core.store.interface import PresignedGet

MAX_EXPIRES_SECONDS = 604_800
"""A week: the maximum in Signature Version 4."""

_UNRESERVED = "-._~"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Credentials for signing. With a `session_token`, URLs expire with the session at the latest."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class _SigningKey:
    """A derived key. It is valid for one day and one set of credentials."""

    credentials: Credentials
    date: str
    key: bytes
    credential_query: str
    token_query: str


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
        self._origin = f"{parts.scheme}://{_host_header(parts.scheme, parts.netloc)}"
        self._path = quote(parts.path, safe=_UNRESERVED + "/%")
        self._host = _host_header(parts.scheme, parts.netloc)
        self._region = region
        self._credentials = credentials
        self._store_is_ahead = store_is_ahead
        self._backdated_seconds = backdated_seconds
        self._signing_key: _SigningKey | None = None

    def get_url(self, key: str, how: PresignedGet) -> str:
        """Return a URL that reads `key`. It is valid for `how.expires_seconds` from `how.signed_at`."""
        starts_at = datetime.now(UTC) if how.signed_at is None else how.signed_at.astimezone(UTC)
        signed_at = starts_at + timedelta(seconds=self._store_is_ahead() - self._backdated_seconds)
        expires = min(how.expires_seconds + self._backdated_seconds, MAX_EXPIRES_SECONDS)
        date = f"{signed_at.year:04}{signed_at.month:02}{signed_at.day:02}"
        timestamp = f"{date}T{signed_at.hour:02}{signed_at.minute:02}{signed_at.second:02}Z"
        signing = self._key_for(date)
        path = f"{self._path}/{quote(key, safe=_UNRESERVED + '/')}"
        # The canonical query is sorted by name. As the URL has the same order, one string serves for both.
        query = (
            f"X-Amz-Algorithm=AWS4-HMAC-SHA256&{signing.credential_query}&X-Amz-Date={timestamp}"
            f"&X-Amz-Expires={expires}{signing.token_query}&X-Amz-SignedHeaders=host"
        )
        if how.content_disposition is not None:
            disposition = quote(how.content_disposition, safe=_UNRESERVED)
            query = f"{query}&response-content-disposition={disposition}"
        request = f"GET\n{path}\n{query}\nhost:{self._host}\n\nhost\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(request.encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{timestamp}\n{date}/{self._region}/s3/aws4_request\n{digest}"
        signature = hmac.digest(signing.key, to_sign.encode(), "sha256").hex()
        return f"{self._origin}{path}?{query}&X-Amz-Signature={signature}"

    def _key_for(self, date: str) -> _SigningKey:
        credentials = self._credentials()
        known = self._signing_key
        if known is not None and known.date == date and known.credentials == credentials:
            return known
        key = f"AWS4{credentials.secret_key}".encode()
        for message in (date, self._region, "s3", "aws4_request"):
            key = hmac.digest(key, message.encode(), "sha256")
        scope = f"{credentials.access_key}/{date}/{self._region}/s3/aws4_request"
        token = credentials.session_token
        self._signing_key = _SigningKey(
            credentials,
            date,
            key,
            f"X-Amz-Credential={quote(scope, safe=_UNRESERVED)}",
            f"&X-Amz-Security-Token={quote(token, safe=_UNRESERVED)}" if token else "",
        )
        return self._signing_key


def _host_header(scheme: str, netloc: str) -> str:
    """Return the Host header that clients send: without the scheme's default port."""
    default = {"http": ":80", "https": ":443"}[scheme]
    return netloc.removesuffix(default)

"""Sign GET URLs in the query (AWS Signature Version 4): pure computing, no SDK, no I/O.

A page that plays one video asks for a URL per segment, so signing has to be cheap: everything that does not
change from one URL to the next is computed once, the signing key once a day.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from backend.core.store.interface import PresignedGet

MAX_EXPIRES_SECONDS = 604_800
"""A week: what Signature Version 4 allows."""

_UNRESERVED = "-._~"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What signs. `session_token` belongs to temporary credentials: their URLs die with the session."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class _SigningKey:
    """A derived key with what it is good for: one day of one set of credentials."""

    credentials: Credentials
    date: str
    key: bytes
    credential_query: str
    token_query: str


class Presigner:
    """Signs GETs of one bucket.

    `bucket_url` is what keys are appended to, without its last slash: `https://host/bucket` (path style) or
    `https://bucket.host` (virtual-host style). `credentials` is asked each time, as temporary ones change.
    """

    def __init__(self, bucket_url: str, region: str, credentials: Callable[[], Credentials]) -> None:
        parts = urlsplit(bucket_url)
        self._origin = f"{parts.scheme}://{_host_header(parts.scheme, parts.netloc)}"
        self._path = quote(parts.path, safe=_UNRESERVED + "/%")
        self._host = _host_header(parts.scheme, parts.netloc)
        self._region = region
        self._credentials = credentials
        self._signing_key: _SigningKey | None = None

    def get_url(self, key: str, how: PresignedGet) -> str:
        """Return a URL that reads `key` for `how.expires_seconds` from `how.signed_at` on."""
        signed_at = datetime.now(UTC) if how.signed_at is None else how.signed_at.astimezone(UTC)
        expires = min(how.expires_seconds, MAX_EXPIRES_SECONDS)
        date = f"{signed_at.year:04}{signed_at.month:02}{signed_at.day:02}"
        timestamp = f"{date}T{signed_at.hour:02}{signed_at.minute:02}{signed_at.second:02}Z"
        signing = self._key_for(date)
        path = f"{self._path}/{quote(key, safe=_UNRESERVED + '/')}"
        # The canonical query is sorted by name; building the URL in that order makes them one string.
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
    """Return what clients send as Host: they leave out the scheme's own port."""
    default = {"http": ":80", "https": ":443"}[scheme]
    return netloc.removesuffix(default)

"""Parses and writes the headers of the tus protocol 1.0.0 (https://tus.io/protocols/resumable-upload).

Pure functions. `backend.routes.resumable_uploads` has the routes, and
`backend.core.uploads.resumable.service` does the work.
"""

import base64
import binascii
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import format_datetime
from urllib.parse import urlsplit

from backend.core.errors import BadRequest, InvalidId, UploadNotFound, VodbucketError
from backend.core.ids import parse_id
from backend.core.uploads.ingest import Description
from backend.core.uploads.records import UploadInfo
from backend.core.uploads.resumable.append import Checksum

VERSION = "1.0.0"
EXTENSIONS = (
    "creation",
    "creation-with-upload",
    "creation-defer-length",
    "expiration",
    "checksum",
    "termination",
    "concatenation",
)
CHECKSUM_ALGORITHMS = ("sha1", "sha256", "crc32")
BODY_TYPE = "application/offset+octet-stream"
PATH = "/api/uploads"
RESPONSE_HEADERS = (
    "Tus-Resumable",
    "Tus-Version",
    "Tus-Extension",
    "Tus-Max-Size",
    "Tus-Checksum-Algorithm",
    "Upload-Offset",
    "Upload-Length",
    "Upload-Defer-Length",
    "Upload-Metadata",
    "Upload-Concat",
    "Upload-Expires",
    "Video-Id",
)
"""Response headers that they may read."""
PENDING_HEADERS = "tus_headers"
"""Key in the state of the request's scope: headers that a route wants in error responses too."""
MAX_PARTIALS = 100
MAX_METADATA_BYTES = 8192

Headers = Mapping[str, str]


class UnsupportedVersion(VodbucketError):
    """This server supports tus 1.0.0. Send the header `Tus-Resumable: 1.0.0`."""

    code = "unsupported_tus_version"


class WrongBodyType(VodbucketError):
    """Content-Type must be application/offset+octet-stream."""

    code = "wrong_body_type"


def parse_upload_id(path_segment: str) -> str:
    """Return the upload id in a URL. Raises: UploadNotFound: it is malformed, so no upload can have it."""
    try:
        return parse_id(path_segment)
    except InvalidId:
        raise UploadNotFound from None


def check_version(headers: Headers) -> None:
    """Raises: UnsupportedVersion."""
    if headers.get("tus-resumable") != VERSION:
        raise UnsupportedVersion


def check_body_type(headers: Headers) -> None:
    """Raises: WrongBodyType."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != BODY_TYPE:
        raise WrongBodyType


def number(headers: Headers, name: str) -> int | None:
    """Return the value of a header with a non-negative integer, or None. Raises: BadRequest."""
    text = headers.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        raise BadRequest(f"{name.title()} must be a whole number of bytes.")
    return int(text)


def upload_length(headers: Headers) -> int | None:
    """Return Upload-Length, or None if it is deferred. Raises: BadRequest: both or neither was sent."""
    length, deferred = number(headers, "upload-length"), headers.get("upload-defer-length")
    if deferred not in (None, "1"):
        raise BadRequest("Upload-Defer-Length must be 1.")
    if (length is None) == (deferred is None):
        raise BadRequest("Send either Upload-Length or Upload-Defer-Length: 1.")
    return length


def metadata(headers: Headers) -> dict[str, str]:
    """Return Upload-Metadata as text; invalid UTF-8 is replaced. Raises: BadRequest."""
    header = headers.get("upload-metadata", "")
    if len(header) > MAX_METADATA_BYTES:
        raise BadRequest(f"Upload-Metadata is longer than {MAX_METADATA_BYTES} bytes.")
    found: dict[str, str] = {}
    for pair in filter(None, (piece.strip() for piece in header.split(","))):
        key, _, value = pair.partition(" ")
        if key in found:
            raise BadRequest(f"Upload-Metadata contains {key} twice.")
        try:
            found[key] = base64.b64decode(value, validate=True).decode(errors="replace")
        except (binascii.Error, ValueError):
            raise BadRequest(f"The value of {key} in Upload-Metadata is not valid Base64.") from None
    return found


def description(values: Mapping[str, str]) -> Description:
    """Return the description of the video in parsed metadata, by the keys that tus clients use."""
    return Description(
        filename=values.get("filename") or values.get("name"),
        title=values.get("title"),
        content_type=values.get("filetype") or values.get("type"),
        note=values.get("note"),
    )


@dataclass(frozen=True, slots=True)
class Concat:
    """Upload-Concat: this upload is part of a file (partial), or joins partial uploads into one (final)."""

    header: str
    partials: tuple[str, ...] = ()
    """Ids of the uploads to join; empty for a partial upload."""

    @property
    def is_final(self) -> bool:
        return self.header != "partial"


def concat(headers: Headers) -> Concat | None:
    """Raises: BadRequest."""
    header = headers.get("upload-concat")
    if header is None:
        return None
    if header == "partial":
        return Concat(header)
    kind, _, urls = header.partition(";")
    if kind != "final" or not urls.strip():
        raise BadRequest(
            "Upload-Concat must be `partial`, or `final;` followed by the URLs of partial uploads."
        )
    partials = tuple(_partial_id(url) for url in urls.split())
    if len(partials) > MAX_PARTIALS:
        raise BadRequest(f"A final upload can have at most {MAX_PARTIALS} partial uploads.")
    return Concat(header, partials)


def _partial_id(url: str) -> str:
    try:
        prefix, _, upload_id = urlsplit(url).path.rstrip("/").rpartition("/")
        if prefix.endswith(PATH):
            return parse_id(upload_id)
    except (ValueError, InvalidId):
        pass
    raise BadRequest(f"{url[:200]} is not the URL of an upload on this server.")


class ExpectedChecksum(Checksum):
    """Upload-Checksum: the algorithm and the digest that the body must match."""

    def __init__(self, header: str) -> None:
        """Raises: BadRequest: the algorithm is not supported, or the digest is not Base64."""
        algorithm, _, digest = header.strip().partition(" ")
        if algorithm not in CHECKSUM_ALGORITHMS:
            raise BadRequest(f"Upload-Checksum supports these algorithms: {', '.join(CHECKSUM_ALGORITHMS)}.")
        try:
            self._expected = base64.b64decode(digest, validate=True)
        except (binascii.Error, ValueError):
            raise BadRequest("The digest in Upload-Checksum is not valid Base64.") from None
        self._hash = _Crc32() if algorithm == "crc32" else hashlib.new(algorithm, usedforsecurity=False)

    def update(self, data: bytes) -> None:
        self._hash.update(data)

    def matches(self) -> bool:
        return self._hash.digest() == self._expected


@dataclass(slots=True)
class _Crc32:
    """CRC-32 (ISO 3309, as in zlib), big-endian."""

    value: int = 0

    def update(self, data: bytes) -> None:
        self.value = zlib.crc32(data, self.value)

    def digest(self) -> bytes:
        return self.value.to_bytes(4, "big")


def checksum(headers: Headers) -> ExpectedChecksum | None:
    """Raises: BadRequest."""
    header = headers.get("upload-checksum")
    return None if header is None else ExpectedChecksum(header)


def expiry(info: UploadInfo) -> dict[str, str]:
    """Return Upload-Expires (an RFC 9110 date) for an unfinished upload; nothing for a finished one."""
    return {} if info.finished else {"upload-expires": format_datetime(info.expires_at, usegmt=True)}

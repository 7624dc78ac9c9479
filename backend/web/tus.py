"""The tus protocol 1.0.0 (https://tus.io/protocols/resumable-upload): its headers, read and written.

Pure: what a request's headers say, and the headers of answers. The verbs behind them are
`backend.core.uploads.resumable.service`'s.
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
REQUEST_HEADERS = (
    "tus-resumable",
    "upload-length",
    "upload-defer-length",
    "upload-offset",
    "upload-metadata",
    "upload-concat",
    "upload-checksum",
    "x-http-method-override",
)
"""What pages of other origins may send."""
ANSWER_HEADERS = (
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
"""What they may read."""
NOTED_HEADERS = "tus_headers"
"""Where in the state of a request's scope a route notes headers that errors are to have, too."""
MAX_PARTIALS = 100
MAX_METADATA_BYTES = 8192

Headers = Mapping[str, str]


class UnsupportedVersion(VodbucketError):
    """This server speaks version 1.0.0 of the tus protocol; send the header `Tus-Resumable: 1.0.0`."""

    code = "unsupported_tus_version"


class WrongBodyType(VodbucketError):
    """The body must be of the type application/offset+octet-stream."""

    code = "wrong_body_type"


def upload_of(path_segment: str) -> str:
    """Return the id of the upload at an address. Raises: UploadNotFound: there can be none."""
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
    """Return a header that is a non-negative integer, None when it is not there. Raises: BadRequest."""
    text = headers.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        raise BadRequest(f"{name.title()} must be a whole number of bytes.")
    return int(text)


def announced_length(headers: Headers) -> int | None:
    """Return Upload-Length, None when it is deferred. Raises: BadRequest: neither is said, or both."""
    length, deferred = number(headers, "upload-length"), headers.get("upload-defer-length")
    if deferred not in (None, "1"):
        raise BadRequest("Upload-Defer-Length can only be 1.")
    if (length is None) == (deferred is None):
        raise BadRequest("Send either Upload-Length or Upload-Defer-Length: 1.")
    return length


def metadata(headers: Headers) -> dict[str, str]:
    """Return Upload-Metadata as texts; bytes that are none are replaced. Raises: BadRequest."""
    header = headers.get("upload-metadata", "")
    if len(header) > MAX_METADATA_BYTES:
        raise BadRequest(f"Upload-Metadata is longer than {MAX_METADATA_BYTES} bytes.")
    found: dict[str, str] = {}
    for pair in filter(None, (piece.strip() for piece in header.split(","))):
        key, _, value = pair.partition(" ")
        if key in found:
            raise BadRequest(f"Upload-Metadata has {key} twice.")
        try:
            found[key] = base64.b64decode(value, validate=True).decode(errors="replace")
        except (binascii.Error, ValueError):
            raise BadRequest(f"The value of {key} in Upload-Metadata is not Base64.") from None
    return found


def description(said: Mapping[str, str]) -> Description:
    """Return what metadata says about the video, by the names that clients use."""
    return Description(
        filename=said.get("filename") or said.get("name"),
        title=said.get("title"),
        content_type=said.get("filetype") or said.get("type"),
    )


@dataclass(frozen=True, slots=True)
class Concat:
    """Upload-Concat: a piece of a file, or the pieces that a file is to be put together from."""

    header: str
    partials: tuple[str, ...] = ()
    """Ids of uploads; none for a piece."""

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
        raise BadRequest("Upload-Concat must be `partial`, or `final;` with the URLs of partial uploads.")
    partials = tuple(_partial_of(url) for url in urls.split())
    if len(partials) > MAX_PARTIALS:
        raise BadRequest(f"An upload can be put together from up to {MAX_PARTIALS} others.")
    return Concat(header, partials)


def _partial_of(url: str) -> str:
    try:
        prefix, _, upload_id = urlsplit(url).path.rstrip("/").rpartition("/")
        if prefix.endswith(PATH):
            return parse_id(upload_id)
    except (ValueError, InvalidId):
        pass
    raise BadRequest(f"{url[:200]} is not the URL of an upload here.")


class SentChecksum(Checksum):
    """Upload-Checksum: the algorithm and the digest that the body must have."""

    def __init__(self, header: str) -> None:
        """Raises: BadRequest: there is no such algorithm here, or no digest."""
        algorithm, _, digest = header.strip().partition(" ")
        if algorithm not in CHECKSUM_ALGORITHMS:
            raise BadRequest(f"Upload-Checksum can be of {', '.join(CHECKSUM_ALGORITHMS)}.")
        try:
            self._wanted = base64.b64decode(digest, validate=True)
        except (binascii.Error, ValueError):
            raise BadRequest("The digest in Upload-Checksum is not Base64.") from None
        self._hash = _Crc32() if algorithm == "crc32" else hashlib.new(algorithm, usedforsecurity=False)

    def update(self, data: bytes) -> None:
        self._hash.update(data)

    def matches(self) -> bool:
        return self._hash.digest() == self._wanted


@dataclass(slots=True)
class _Crc32:
    """CRC-32 (ISO 3309, as in zlib), big-endian."""

    value: int = 0

    def update(self, data: bytes) -> None:
        self.value = zlib.crc32(data, self.value)

    def digest(self) -> bytes:
        return self.value.to_bytes(4, "big")


def checksum(headers: Headers) -> SentChecksum | None:
    """Raises: BadRequest."""
    header = headers.get("upload-checksum")
    return None if header is None else SentChecksum(header)


def expiry(info: UploadInfo) -> dict[str, str]:
    """Return Upload-Expires (RFC 9110 section 5.6.7) of an upload that is not finished."""
    return {} if info.finished else {"upload-expires": format_datetime(info.expires_at, usegmt=True)}

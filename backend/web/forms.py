"""A multipart/form-data upload (RFC 7578), read as a stream: the file is never buffered or spooled."""

import re
from collections.abc import AsyncIterator
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.utils import decode_rfc2231
from urllib.parse import unquote

from multipart import (  # type: ignore[import-untyped]  # multipart has no py.typed
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)

from backend.core.errors import BadRequest, IncompleteUpload, UploadTooLarge, VodbucketError
from backend.core.names import clean_text
from backend.web.bodies import AnyRequest, content_length, stream_body

FILE_FIELD = "file"
MAX_FIELDS = 20
MAX_TEXT_BYTES = 4096
OVERHEAD_BYTES = 256 * 1024
"""How much larger than its file a form may be: boundaries, part headers and text fields."""


class MissingFile(BadRequest):
    """The form has no field `file`."""

    code = "missing_file"


class UploadForm:
    """One form. Iterate `file()` once, to its end; only then are the filename and text fields complete."""

    def __init__(self, content_type: str | None, chunks: AsyncIterator[bytes]) -> None:
        """Raises: BadRequest: the content type is not multipart/form-data."""
        kind, options = parse_options_header(content_type or "")
        boundary = options.get("boundary", "")
        if kind != "multipart/form-data" or not 0 < len(boundary) <= 200:
            raise BadRequest("The body must be multipart/form-data with a boundary.")
        self._chunks = chunks
        self._parser = PushMultipartParser(boundary, max_segment_count=MAX_FIELDS, header_charset="latin-1")
        self._texts: dict[str, bytes] = {}
        self._segment: MultipartSegment | None = None
        self._file: MultipartSegment | None = None

    @property
    def filename(self) -> str | None:
        return _filename_of(self._file) if self._file else None

    @property
    def content_type(self) -> str | None:
        return self._file.content_type if self._file else None

    def text(self, name: str) -> str | None:
        """Return a text field, or None if the form does not have it."""
        value = self._texts.get(name)
        return None if value is None else _decoded(value)

    async def file(self) -> AsyncIterator[bytes]:
        """Yield the bytes of the field `file`, then read the rest of the form.

        Raises:
            MissingFile: the form has no field `file`.
            IncompleteUpload: the form is truncated.
            BadRequest: it is malformed, or has a second file.
            UploadTooLarge: a text field is too long.
        """
        async for chunk in self._chunks:
            try:
                for event in self._parser.parse(chunk):
                    if isinstance(event, MultipartSegment):
                        self._begin(event)
                    elif event is not None and self._is_file():
                        yield bytes(event)
                    elif event is not None:
                        self._keep_text(event)
            except MultipartError as error:
                raise BadRequest("The body is not a valid form (multipart/form-data).") from error
        try:
            self._parser.close()
        except MultipartError:
            raise IncompleteUpload("The form is incomplete.") from None
        if self._file is None:
            raise MissingFile

    def _begin(self, segment: MultipartSegment) -> None:
        self._segment = segment
        if segment.name == FILE_FIELD:
            if self._file is not None:
                raise BadRequest("The form has more than one file. Upload one file at a time.")
            self._file = segment

    def _is_file(self) -> bool:
        return self._segment is self._file

    def _keep_text(self, piece: bytes | bytearray) -> None:
        name = _decoded(((self._segment.name if self._segment else None) or "").encode("latin-1"))
        text = self._texts.get(name, b"") + piece
        if len(text) > MAX_TEXT_BYTES and self._segment and self._segment.filename is not None:
            raise MissingFile(f"The form has no field `file`. It sends a file as `{clean_text(name)[:50]}`.")
        if len(text) > MAX_TEXT_BYTES:
            raise UploadTooLarge(f"A text field of the form is larger than {MAX_TEXT_BYTES} bytes.")
        self._texts[name] = text


async def read_file(
    request: AnyRequest, max_bytes: int, too_large: VodbucketError
) -> tuple[bytes, UploadForm | None]:
    """Read a small file: the body or, if that is a form, its field `file`. Returns the form too.

    Raises: `too_large`, and what `stream_body` and `UploadForm` raise.
    """
    content_type = request.headers.get("content-type", "")
    is_form = content_type.lower().startswith("multipart/form-data")
    if (content_length(request) or 0) > max_bytes + (OVERHEAD_BYTES if is_form else 0):
        raise too_large
    form = UploadForm(content_type, stream_body(request)) if is_form else None
    body = bytearray()
    async for chunk in form.file() if form else stream_body(request):
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body), form


_EXTENDED = re.compile(r";\s*filename\*\s*=\s*\"?([^;\"\s]+)", re.I)


def _filename_of(segment: MultipartSegment) -> str | None:
    """Return the file's name in any of the ways that clients send it.

    RFC 7578 allows only plain UTF-8, but there are clients that send `filename*` (RFC 5987), encoded words
    (RFC 2047) or Latin-1.
    """
    if extended := _EXTENDED.search(segment.header("Content-Disposition") or ""):
        charset, _, value = decode_rfc2231(extended[1])
        try:
            return unquote(value, charset or "utf-8", "replace")
        except (LookupError, ValueError):  # no such charset, or one that cannot replace what it does not know
            return unquote(value)
    if segment.filename is None:
        return None
    name = _decoded(segment.filename.encode("latin-1"))
    try:
        return str(make_header(decode_header(name))) if "=?" in name else name
    except (HeaderParseError, LookupError, ValueError):
        return name


def _decoded(value: bytes) -> str:
    """Decode UTF-8, or else what Windows used before it."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("cp1252", "replace")

"""A client for the tus protocol 1.0.0: the parts that the command line needs.

The Python libraries do not fit. tuspy reads each request's whole body into memory, has no timeouts and
retries a 401 like a 503. aiotus also retries a 401, and cannot resume an upload of an earlier process.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from backend.core.errors import InvalidId
from backend.core.ids import parse_id
from vodbucket.client.api import Api, Response
from vodbucket.client.errors import ServerUnavailable
from vodbucket.client.file_body import FileBody

UPLOADS = "/api/uploads"
_VERSION = {"tus-resumable": "1.0.0"}
_BYTES = {**_VERSION, "content-type": "application/offset+octet-stream"}


@dataclass(frozen=True, slots=True)
class UploadState:
    """The progress of an upload, in bytes."""

    offset: int
    length: int | None
    """None if the response does not contain it."""
    video_id: str | None
    """The video that the upload became, once it is finished."""


class TusClient:
    """Uploads on one server, by id."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def create(self, size_bytes: int, metadata: Mapping[str, str]) -> str:
        """Create an upload and return its id."""
        headers = {**_VERSION, "upload-length": str(size_bytes), "upload-metadata": _encoded(metadata)}
        response = await self._api.request("POST", UPLOADS, headers=headers)
        return parse_id(response.headers.get("location", "").rpartition("/")[2])

    async def head(self, upload_id: str) -> UploadState:
        """Raises: NotFound: the upload is unknown, has expired or was lost."""
        return _state(await self._api.request("HEAD", path_of(upload_id), headers=_VERSION))

    async def send(self, upload_id: str, offset: int, body: FileBody) -> UploadState:
        """Append `body` at `offset`. Raises: NotFound."""
        headers = {**_BYTES, "upload-offset": str(offset), "content-length": str(body.size_bytes)}
        response = await self._api.request("PATCH", path_of(upload_id), headers=headers, body=body)
        return _state(response)

    async def concatenate(self, upload_ids: Sequence[str], metadata: Mapping[str, str]) -> UploadState:
        """Join complete partial uploads. Safe to repeat. Raises: NotFound."""
        urls = " ".join(map(path_of, upload_ids))
        headers = {**_VERSION, "upload-concat": f"final;{urls}", "upload-metadata": _encoded(metadata)}
        return _state(await self._api.request("POST", UPLOADS, headers=headers))

    async def terminate(self, upload_id: str) -> None:
        """Raises: NotFound."""
        await self._api.request("DELETE", path_of(upload_id), headers=_VERSION)


def path_of(upload_id: str) -> str:
    return f"{UPLOADS}/{upload_id}"


def upload_id_in(url: str) -> str | None:
    """Return the upload id in a URL, with any host or none. Return None if it is not the URL of an upload."""
    try:
        prefix, _, upload_id = urlsplit(url).path.rpartition("/")
        return parse_id(upload_id) if prefix.endswith(UPLOADS) else None
    except (InvalidId, ValueError):  # ValueError: `http://[` is not a URL
        return None


def _state(response: Response) -> UploadState:
    offset, length = response.headers.get("upload-offset"), response.headers.get("upload-length")
    if offset is None:
        raise ServerUnavailable("The server did not return the offset of the upload.")
    return UploadState(int(offset), None if length is None else int(length), response.headers.get("video-id"))


def _encoded(metadata: Mapping[str, str]) -> str:
    return ",".join(f"{name} {b64encode(value.encode()).decode()}" for name, value in metadata.items())

"""Resumable uploads from the client's side: the tus protocol 1.0.0, as far as this server needs it.

Of the libraries for Python, tuspy reads each request's whole body into memory, has no time-outs and repeats a
401 like a 503; aiotus repeats the same and does not go on with an upload of an earlier process.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from backend.core.errors import InvalidId
from backend.core.ids import parse_id
from vodbucket.api import Answer, Api
from vodbucket.body import FileBody
from vodbucket.errors import ServerAway

UPLOADS = "/api/uploads"
_VERSION = {"tus-resumable": "1.0.0"}
_BYTES = {**_VERSION, "content-type": "application/offset+octet-stream"}


@dataclass(frozen=True, slots=True)
class UploadState:
    """Where an upload stands, in bytes."""

    offset: int
    length: int | None
    """None where an answer does not say it."""
    video_id: str | None
    """The video that came of it, once it is finished."""


class TusClient:
    """The uploads of one server, by their ids."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def create(self, size_bytes: int, metadata: Mapping[str, str]) -> str:
        """Announce an upload and return its id."""
        headers = {**_VERSION, "upload-length": str(size_bytes), "upload-metadata": _encoded(metadata)}
        answer = await self._api.request("POST", UPLOADS, headers=headers)
        return parse_id(answer.headers.get("location", "").rpartition("/")[2])

    async def head(self, upload_id: str) -> UploadState:
        """Raises: NotThere: it is unknown, has expired or was lost."""
        return _standing(await self._api.request("HEAD", address_of(upload_id), headers=_VERSION))

    async def send(self, upload_id: str, offset: int, body: FileBody) -> UploadState:
        """Add `body` at `offset`. Raises: NotThere."""
        headers = {**_BYTES, "upload-offset": str(offset), "content-length": str(body.size_bytes)}
        answer = await self._api.request("PATCH", address_of(upload_id), headers=headers, body=body)
        return _standing(answer)

    async def concatenate(self, upload_ids: Sequence[str], metadata: Mapping[str, str]) -> UploadState:
        """Put complete pieces together; may be repeated. Raises: NotThere."""
        urls = " ".join(map(address_of, upload_ids))
        headers = {**_VERSION, "upload-concat": f"final;{urls}", "upload-metadata": _encoded(metadata)}
        return _standing(await self._api.request("POST", UPLOADS, headers=headers))

    async def terminate(self, upload_id: str) -> None:
        """Raises: NotThere."""
        await self._api.request("DELETE", address_of(upload_id), headers=_VERSION)


def address_of(upload_id: str) -> str:
    return f"{UPLOADS}/{upload_id}"


def upload_at(address: str) -> str | None:
    """Return the id in an upload's address, wherever the server was reached; None where there is none."""
    try:
        prefix, _, upload_id = urlsplit(address).path.rpartition("/")
        return parse_id(upload_id) if prefix.endswith(UPLOADS) else None
    except (InvalidId, ValueError):  # what begins with `http://[` is no address at all
        return None


def _standing(answer: Answer) -> UploadState:
    offset, length = answer.headers.get("upload-offset"), answer.headers.get("upload-length")
    if offset is None:
        raise ServerAway("The server did not say where the upload stands.")
    return UploadState(int(offset), None if length is None else int(length), answer.headers.get("video-id"))


def _encoded(metadata: Mapping[str, str]) -> str:
    return ",".join(f"{name} {b64encode(value.encode()).decode()}" for name, value in metadata.items())

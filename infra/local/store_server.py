"""The embedded store: MiniStack, made safe to leave running and fit for files of many gigabytes.

Runs in MiniStack's own environment (`.venv-ministack/bin/python -m infra.local.store_server`), so it
imports nothing but the standard library and MiniStack. Its settings come from `infra.local.store`.

What is changed, and why (MiniStack 1.5.33):
- Its administration (`/_ministack/reset` erases every object) asks for no credentials, so that any page in
  the user's browser could call it. Only the health check is let through.
- Every GET, of a single byte too, reads the whole object into memory, and a multipart upload is held in
  memory until it is complete, twice over by then. Objects and parts are memory-mapped files instead.
"""

import asyncio
import mmap
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import ministack.app as gateway
from ministack.services import s3

HEALTH_PATH = "/_ministack/health"
_ADMINISTRATION = ("/_ministack", "/_localstack", "/_aws", "/health")
_SEND_BYTES = 256 * 1024

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
# MiniStack has no types; these are the shapes of what is replaced below.
ReadBody = Callable[[str, str, dict[str, Any]], object]
SendResponse = Callable[..., Awaitable[None]]
UploadPart = Callable[[str, str, bytes, dict[str, Any], dict[str, str]], object]
CopyPart = Callable[[str, str, dict[str, Any], dict[str, str]], object]


# Set once the client of the request that is being answered has closed its connection.
_client_gone: ContextVar[asyncio.Event] = ContextVar("client_gone")


def without_administration(app: App) -> App:
    """Answer 403 to MiniStack's own routes, but for the health check."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and path.startswith(_ADMINISTRATION) and path != HEALTH_PATH:
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await app(scope, receive, send)

    return guarded


def watching_clients(app: App) -> App:
    """Notice when the client of a GET goes away: MiniStack does not listen while it answers."""

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") != "GET":
            await app(scope, receive, send)
            return
        gone = asyncio.Event()
        _client_gone.set(gone)

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()

        async def no_body() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        watcher = asyncio.create_task(watch())
        try:
            await app(scope, no_body, send)
        finally:
            watcher.cancel()

    return watched


class MappedBody:
    """A stretch of a file, read only where it is sent."""

    def __init__(self, view: memoryview) -> None:
        self._view = view

    @classmethod
    def of_file(cls, path: str) -> "MappedBody | bytes":
        with Path(path).open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return b""
            return cls(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))

    @property
    def view(self) -> memoryview:
        return self._view

    def __len__(self) -> int:
        return len(self._view)

    def __getitem__(self, stretch: slice) -> "MappedBody":
        return MappedBody(self._view[stretch])

    def pieces(self) -> Iterator[bytes]:
        for start in range(0, len(self._view), _SEND_BYTES):
            yield bytes(self._view[start : start + _SEND_BYTES])


def read_mapped(read_whole: ReadBody) -> ReadBody:
    """Give the bodies of persisted objects as mapped files."""

    def read(bucket_name: str, key: str, record: dict[str, Any]) -> object:
        path = s3._object_disk_path(bucket_name, key)
        if record.get("body") is None and path is not None and Path(path).exists():
            return MappedBody.of_file(path)
        return read_whole(bucket_name, key, record)

    return read


def send_in_pieces(send_whole: SendResponse) -> SendResponse:
    """Send mapped bodies piece by piece, each once the connection has taken the one before."""

    async def send_response(
        send: Send, status: int, headers: dict[str, str], body: object, **how: Any
    ) -> None:
        if not isinstance(body, MappedBody):
            await send_whole(send, status, headers, body, **how)
            return
        headers.setdefault("Content-Length", str(len(body)))
        listed = gateway._asgi_header_list(headers)
        await send({"type": "http.response.start", "status": status, "headers": listed})
        for piece in () if how.get("head") else body.pieces():
            await asyncio.sleep(0)  # sending does not yield while the socket takes all
            if _client_gone.get().is_set():
                return
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return send_response


def keep_parts_on_disk(upload_part: UploadPart, directory: str) -> UploadPart:
    """Move each part that was taken to a nameless file: it is gone with the process, like the upload."""

    def upload(
        bucket_name: str, key: str, body: bytes, query: dict[str, Any], headers: dict[str, str]
    ) -> object:
        answer = upload_part(bucket_name, key, body, query, headers)
        part = _part_of(query)
        if body and part is not None and part["body"] is body:
            _move_to_disk(part, directory)
        return answer

    return upload


def copy_parts_on_disk(copy_part: CopyPart, directory: str) -> CopyPart:
    """Make parts of mapped objects: what is copied is read from one file and written to another."""

    def copy(bucket_name: str, key: str, query: dict[str, Any], headers: dict[str, str]) -> object:
        read = s3._read_body
        s3._read_body = lambda *of: body.view if isinstance(body := read(*of), MappedBody) else body
        try:
            answer = copy_part(bucket_name, key, query, headers)
        finally:
            s3._read_body = read
        part = _part_of(query)
        if part is not None and isinstance(part["body"], memoryview):
            _move_to_disk(part, directory)
        return answer

    return copy


def _part_of(query: dict[str, Any]) -> dict[str, Any] | None:
    parts = s3._multipart_uploads.get(s3._qp(query, "uploadId"), {}).get("parts", {})
    part: dict[str, Any] | None = parts.get(int(s3._qp(query, "partNumber", "0")))
    return part


def _move_to_disk(part: dict[str, Any], directory: str) -> None:
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(part["body"])
        file.flush()
        part["body"] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def main() -> None:
    gateway.app = without_administration(watching_clients(gateway.app))
    gateway._send_response = send_in_pieces(gateway._send_response)
    s3._read_body = read_mapped(s3._read_body)
    s3._upload_part = keep_parts_on_disk(s3._upload_part, os.environ["TMPDIR"])
    s3._upload_part_copy = copy_parts_on_disk(s3._upload_part_copy, os.environ["TMPDIR"])
    sys.argv = ["ministack"]
    gateway.main()


if __name__ == "__main__":
    main()

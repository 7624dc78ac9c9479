"""A bucket in a local folder, for work without a server: objects are files, and keys their paths.

Each write goes to a file below `.new` and is then renamed or linked, so readers see all of it or nothing.
Nothing is synced to the disk. Headers are not kept. A key whose parts begin with a dot is rejected, and an
object cannot be below another one. An object may be a symbolic link to a file elsewhere.
"""

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TypeVar

from backend.core.errors import ObjectNotFound, SourceChanged, StoreError, StoreRejected, UploadVanished
from backend.core.store.interface import (
    LIST_PAGE,
    PLAIN,
    Body,
    Listing,
    ObjectHeaders,
    ObjectInfo,
    OpenUpload,
    PresignedGet,
    StoredObject,
    UploadedPart,
    list_all,
)

READ_CHUNK_BYTES = 1024 * 1024
_NEW, _UPLOADS, _KEY = ".new", ".uploads", "key"
_NONE_HERE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)

T = TypeVar("T")


class FileStore:
    """`root` is created. `on_failure` is called with errors of the disk, such as that it is full."""

    def __init__(self, root: Path, on_failure: Callable[[StoreError], None] = lambda _: None) -> None:
        self._root = root
        self._on_failure = on_failure
        (root / _NEW).mkdir(parents=True, exist_ok=True)
        (root / _UPLOADS).mkdir(exist_ok=True)

    async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
        await self._off_loop(lambda: self._written(body).replace(self._target(key)))

    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        def link() -> bool:
            new, target = self._written(body), self._target(key)
            try:
                target.hardlink_to(new)
            except FileExistsError:
                return target.read_bytes() == body
            finally:
                new.unlink()
            return True

        return await self._off_loop(link)

    async def get(self, key: str) -> StoredObject:
        def read() -> StoredObject:
            with self._path(key).open("rb") as file:
                return StoredObject(file.read(), _info(key, os.fstat(file.fileno())))

        return await self._off_loop(read)

    async def head(self, key: str) -> ObjectInfo:
        def stat() -> ObjectInfo:
            path = self._path(key)
            if path.is_dir():
                raise IsADirectoryError
            return _info(key, path.stat())

        return await self._off_loop(stat)

    async def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        file = await self._off_loop(lambda: self._path(key).open("rb"))
        try:
            if etag is not None and etag != _etag(os.fstat(file.fileno())):
                raise SourceChanged
            file.seek(offset)
            while chunk := await self._off_loop(lambda: file.read(READ_CHUNK_BYTES)):
                yield chunk
        finally:
            file.close()

    async def delete(self, key: str) -> None:
        await self.delete_many([key])

    async def delete_many(self, keys: Sequence[str]) -> None:
        def unlink() -> None:
            for key in keys:
                with suppress(*_NONE_HERE):
                    self._path(key).unlink()

        await self._off_loop(unlink)

    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = LIST_PAGE) -> Listing:
        def walk() -> list[ObjectInfo]:
            return list(islice(self._below("", prefix, start_after), limit + 1))

        found = await self._off_loop(walk)
        return Listing(tuple(found[:limit]), truncated=len(found) > limit, store_now=datetime.now(UTC))

    def list_all(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        return list_all(self, prefix)

    async def open_upload(self, key: str, headers: ObjectHeaders = PLAIN) -> str:
        upload_id = secrets.token_hex(8)

        def make() -> None:
            self._path(key)
            parts = self._root / _NEW / upload_id
            parts.mkdir()
            (parts / _KEY).write_text(key)
            parts.rename(self._root / _UPLOADS / upload_id)

        await self._off_loop(make)
        return upload_id

    async def put_part(self, key: str, upload_id: str, number: int, body: Body) -> UploadedPart:
        def put() -> UploadedPart:
            part = self._parts(key, upload_id) / str(number)
            self._written(body).replace(part)
            return _part(part)

        return await self._off_loop(put)

    async def copy_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        source: str,
        offset: int,
        size_bytes: int,
        *,
        bucket: str | None = None,
    ) -> UploadedPart:
        if bucket is not None:
            raise StoreRejected("a folder copies only from itself")

        def span() -> bytes:
            with self._path(source).open("rb") as file:
                file.seek(offset)
                return file.read(size_bytes)

        return await self.put_part(key, upload_id, number, await self._off_loop(span))

    async def is_open(self, key: str, upload_id: str) -> bool:
        try:
            await self._off_loop(lambda: self._parts(key, upload_id))
        except UploadVanished:
            return False
        return True

    async def list_parts(self, key: str, upload_id: str) -> list[UploadedPart]:
        def stat() -> list[UploadedPart]:
            found = (path for path in self._parts(key, upload_id).iterdir() if path.name != _KEY)
            return sorted(map(_part, found), key=lambda part: part.number)

        return await self._off_loop(stat)

    async def complete_upload(self, key: str, upload_id: str, parts: Sequence[UploadedPart]) -> None:
        try:
            await self._off_loop(lambda: self._assemble(key, self._parts(key, upload_id), parts))
        except UploadVanished:
            with suppress(ObjectNotFound):
                if (await self.head(key)).size_bytes == sum(part.size_bytes for part in parts):
                    return
            raise

    def _assemble(self, key: str, directory: Path, parts: Sequence[UploadedPart]) -> None:
        """Append all parts to the first one."""
        paths = [directory / str(part.number) for part in parts]
        if (
            not paths
            or not all(path.exists() for path in paths)
            or [_part(path) for path in paths] != [*parts]
        ):
            raise StoreError(f"completing the upload {key}: a part is missing or another")
        first, *others = paths
        with first.open("ab") as whole:
            for path in others:
                with path.open("rb") as part:
                    shutil.copyfileobj(part, whole, READ_CHUNK_BYTES)
                path.unlink()
        first.replace(self._target(key))
        shutil.rmtree(directory)

    async def abort_upload(self, key: str, upload_id: str) -> None:
        def remove() -> None:
            with suppress(UploadVanished):
                shutil.rmtree(self._parts(key, upload_id))

        await self._off_loop(remove)

    async def list_uploads(self, prefix: str) -> AsyncIterator[OpenUpload]:
        def find() -> list[OpenUpload]:
            found = []
            for directory in (self._root / _UPLOADS).iterdir():
                with suppress(*_NONE_HERE):  # completed or aborted meanwhile
                    note = directory / _KEY
                    began = datetime.fromtimestamp(note.stat().st_mtime, UTC)
                    found.append(OpenUpload(note.read_text(), directory.name, began))
            return sorted(found, key=lambda upload: (upload.key, upload.upload_id))

        for upload in await self._off_loop(find):
            if upload.key.startswith(prefix):
                yield upload

    def presign_get(self, key: str, how: PresignedGet) -> str:
        return self._path(key).absolute().as_uri()

    async def _off_loop(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except _NONE_HERE as error:
            raise ObjectNotFound from error
        except OSError as error:
            failure = StoreError(f"{self._root} cannot be used: {error.strerror}.")
            self._on_failure(failure)
            raise failure from error

    def _path(self, key: str) -> Path:
        if "\0" in key or any(not part or part.startswith(".") for part in key.split("/")):
            raise StoreRejected(f"a folder cannot store this key: {key}")
        return self._root / key

    def _target(self, key: str) -> Path:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _written(self, body: Body) -> Path:
        path = self._root / _NEW / secrets.token_hex(8)
        try:
            path.write_bytes(body)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return path

    def _parts(self, key: str, upload_id: str) -> Path:
        directory = self._root / _UPLOADS / upload_id
        try:
            if (directory / _KEY).read_text() == key:
                return directory
        except FileNotFoundError:
            pass
        raise UploadVanished

    def _below(self, directory: str, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        """Yield the objects in the order of their keys. Code points sort as UTF-8 does."""
        try:
            with os.scandir(self._root / directory) as entries:
                found = {f"{one.name}/" if one.is_dir(follow_symlinks=False) else one.name for one in entries}
        except FileNotFoundError:
            return
        for name in sorted(found):
            key = directory + name
            if name.startswith(".") or not (key.startswith(prefix) or prefix.startswith(key)):
                continue
            if not name.endswith("/"):
                if key.startswith(prefix) and key > start_after:
                    with suppress(FileNotFoundError):  # deleted meanwhile
                        yield _info(key, (self._root / key).stat())
            elif key > start_after or start_after.startswith(key):
                yield from self._below(key, prefix, start_after)


def _info(key: str, stat: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC), _etag(stat))


def _etag(stat: os.stat_result) -> str:
    """Return what changes when the file is replaced or written to."""
    return f"{stat.st_ino:x}-{stat.st_size:x}-{stat.st_mtime_ns:x}"


def _part(path: Path) -> UploadedPart:
    stat = path.stat()
    return UploadedPart(int(path.name), _etag(stat), stat.st_size)

"""Uploads one file: starts or resumes it, and survives failures of the connection and the server.

The server finds the upload by the file's fingerprint and the title asked for, so that one file can become
several videos. Nothing is stored on this machine.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from vodbucket.client.api import Api
from vodbucket.client.errors import BodyTooLarge, NotFound, RequestRejected, ServerUnavailable
from vodbucket.client.file_body import FileBody
from vodbucket.client.local_file import LocalFile, titled_key
from vodbucket.client.patience import Patience
from vodbucket.client.responses import Resumption
from vodbucket.client.tus_client import TusClient, UploadState, path_of, upload_id_in

FILE_ERROR_CODES = ("unsupported_type",)
"""Errors in the file itself: the server will never accept it."""
MAX_LOST_UPLOADS = 5
"""Give up when the server has lost the whole upload this many times."""
LARGEST_LIMITED_BYTES = 64 * 1024 * 1024
SMALLEST_LIMITED_BYTES = 512 * 1024
"""What to try behind a proxy that limits request bodies. nginx allows 1 MiB by default, Cloudflare 100 MB."""


class Display(Protocol):
    """Shows the progress of the upload in bytes."""

    def set_offset(self, offset: int) -> None:
        """Continue from `offset`, which may be lower than before."""

    def advance(self, size_bytes: int) -> None: ...

    def print(self, sentence: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of the file that has its own upload. Browsers send large files in several at a time."""

    upload_id: str
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class EarlierUpload:
    """An unfinished upload of this file, and the key of its resumption record."""

    key: str
    pieces: Sequence[Piece]
    is_untitled: bool
    """It was started without the title that is asked for now."""


class FileUpload:
    """Uploads one file. After an interruption it can be run again, on any machine."""

    def __init__(
        self, api: Api, file: LocalFile, title: str | None, patience: Patience, display: Display
    ) -> None:
        self._api = api
        self._tus = TusClient(api)
        self._file = file
        self._title = title
        self._key = file.fingerprint if title is None else titled_key(file.fingerprint, title)
        self._patience = patience
        self._display = display

    async def run(self) -> str:
        """Return the id of the video.

        Raises:
            ServerUnavailable: for too long; the server keeps what has arrived.
            RequestRejected, TokenRejected, FileRejected
        """
        earlier = await self._patience.attempt(self._find)
        if earlier is None:
            video_id = await self._upload_from_start()
        else:
            video_id = await self._resume(earlier)
        return video_id

    async def _resume(self, earlier: EarlierUpload) -> str:
        try:
            video_id = await self._send(earlier.pieces, earlier.key)
        except NotFound:
            self._display.print("The earlier upload has expired or was lost. Starting over.")
            return await self._upload_from_start()
        if earlier.is_untitled and self._title is not None:
            await self._patience.attempt(self._api.rename, video_id, self._title)
        return video_id

    async def _upload_from_start(self) -> str:
        for _ in range(MAX_LOST_UPLOADS):
            piece = await self._create()
            with suppress(NotFound):
                return await self._send([piece], self._key)
            self._display.print("The server lost the upload.")
        raise RequestRejected(f"The server lost the upload {MAX_LOST_UPLOADS} times.")

    async def _find(self) -> EarlierUpload | None:
        """Return the upload to resume, if any.

        An unfinished upload without a title gets the title asked for. A complete one is another video.
        """
        for key in dict.fromkeys((self._key, self._file.fingerprint)):
            is_untitled = key != self._key
            pieces = await self._pieces(key, may_be_complete=not is_untitled)
            if pieces is not None:
                return EarlierUpload(key, pieces, is_untitled)
        return None

    async def _pieces(self, key: str, *, may_be_complete: bool) -> Sequence[Piece] | None:
        resumption = await self._api.resumption(key)
        if resumption is None:
            return None
        urls = [resumption.upload_url] if resumption.upload_url else resumption.parallel_upload_urls or []
        pieces: list[Piece] = []
        start = missing = 0
        for url in urls:
            upload_id = upload_id_in(url)
            state = await self._head(upload_id) if upload_id else None
            if upload_id is None or state is None or state.length is None:
                return None
            if state.video_id is not None and not await self._video_exists(state.video_id):
                return None  # it was complete, and the video was deleted since
            missing += state.length - state.offset
            pieces.append(Piece(upload_id, start, state.length))
            start += state.length
        return pieces if start == self._file.size_bytes and (missing or may_be_complete) else None

    async def _head(self, upload_id: str) -> UploadState | None:
        with suppress(NotFound):
            return await self._tus.head(upload_id)
        return None

    async def _video_exists(self, video_id: str) -> bool:
        with suppress(NotFound):
            await self._api.status(video_id)
            return True
        return False

    async def _create(self) -> Piece:
        """Create an upload and save where it is, each with its own retries.

        If only saving fails, no second upload must be created.
        """
        file, attempt = self._file, self._patience.attempt
        upload_id = await attempt(self._tus.create, file.size_bytes, file.metadata(self._title))
        resumption = Resumption(upload_url=path_of(upload_id), size_bytes=file.size_bytes)
        await attempt(self._api.save_resumption, self._key, resumption)
        return Piece(upload_id, 0, file.size_bytes)

    async def _send(self, pieces: Sequence[Piece], key: str) -> str:
        """Send what is missing of all pieces, and delete the resumption record. Return the video's id.

        Raises:
            NotFound: a piece was lost.
        """
        try:
            for piece in pieces:
                state = await self._send_piece(piece)
            if len(pieces) > 1:
                ids = [piece.upload_id for piece in pieces]
                metadata = self._file.metadata(self._title)
                state = await self._patience.attempt(self._tus.concatenate, ids, metadata)
        except RequestRejected as error:
            if error.server_code in FILE_ERROR_CODES:
                await self._discard(pieces, key)
            raise
        if state.video_id is None:
            raise RequestRejected("The server has the whole file, but did not return a video id.")
        await self._patience.attempt(self._api.delete_resumption, key)
        return state.video_id

    async def _send_piece(self, piece: Piece) -> UploadState:
        sender = _PieceSender(self._api, self._file, piece, self._display)
        while not sender.is_complete(state := await self._patience.attempt(sender.advance)):
            pass
        return state

    async def _discard(self, pieces: Sequence[Piece], key: str) -> None:
        """Delete the uploads, which would otherwise count as unfinished."""
        with suppress(RequestRejected, ServerUnavailable):
            await self._api.delete_resumption(key)
            for piece in pieces:
                with suppress(NotFound):
                    await self._tus.terminate(piece.upload_id)


class _PieceSender:
    """Sends a piece, as much as possible in each request, from the offset that the server reports."""

    def __init__(self, api: Api, file: LocalFile, piece: Piece, display: Display) -> None:
        self._api = api
        self._tus = TusClient(api)
        self._file = file
        self._piece = piece
        self._display = display
        self._last_offset = -1

    def is_complete(self, state: UploadState) -> bool:
        return state.offset == self._piece.length

    async def advance(self) -> UploadState:
        """Send from the current offset.

        Raises:
            ServerUnavailable: nothing has arrived since the last attempt. Otherwise a failed request is
                not an error, so that the next one follows without a pause.
        """
        piece = self._piece
        state = await self._tus.head(piece.upload_id)
        has_grown = state.offset > self._last_offset
        self._last_offset = state.offset
        position = piece.start + state.offset
        self._display.set_offset(position)
        if self.is_complete(state):
            return state
        size_bytes = min(piece.length - state.offset, self._api.max_body_bytes)
        body = FileBody(self._file.path, position, size_bytes, self._display.advance)
        try:
            return await self._tus.send(piece.upload_id, state.offset, body)
        except BodyTooLarge:
            if size_bytes <= SMALLEST_LIMITED_BYTES:
                raise
            limit = max(SMALLEST_LIMITED_BYTES, min(LARGEST_LIMITED_BYTES, size_bytes // 2))
            self._api.max_body_bytes = limit
            return state
        except ServerUnavailable:
            if not has_grown:
                raise
            return state

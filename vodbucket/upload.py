"""One file's way to the server: begun or gone on with, whatever happens to the connection or the server.

Where the upload of a file is, the server knows by the file's fingerprint; nothing is kept on this machine.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from vodbucket.answers import Note
from vodbucket.api import Api
from vodbucket.body import FileBody
from vodbucket.errors import NotThere, Refused, ServerAway
from vodbucket.files import LocalFile
from vodbucket.patience import Patience
from vodbucket.tus import TusClient, UploadState, address_of, upload_at

NEVER_TAKEN = ("unsupported_type",)
"""Problems of the file itself."""
LOST_AT_MOST = 5
"""So often may the server lose the whole upload before it is given up."""


class Display(Protocol):
    """Shows how far the file is, in bytes."""

    def begin(self, at: int) -> None:
        """It goes on from here, perhaps before where it was."""

    def add(self, size_bytes: int) -> None: ...

    def tell(self, sentence: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the file, with an upload of its own. Browsers send large files in several at a time."""

    upload_id: str
    start: int
    length: int


class FileUpload:
    """Uploads one file. May be run again, anywhere, after it was interrupted."""

    def __init__(
        self, api: Api, file: LocalFile, title: str | None, patience: Patience, display: Display
    ) -> None:
        self._api = api
        self._tus = TusClient(api)
        self._file = file
        self._title = title
        self._patience = patience
        self._display = display

    async def run(self) -> str:
        """Return the id of the video.

        Raises:
            ServerAway: for longer than there was patience; what has arrived is kept.
            Refused, TokenRefused, FileRejected
        """
        pieces = await self._patience.attempt(self._find)
        if pieces is None:
            video_id = await self._send_anew()
        else:
            video_id = await self._go_on(pieces)
        await self._patience.attempt(self._api.forget_note, self._file.fingerprint)
        return video_id

    async def _go_on(self, pieces: Sequence[Piece]) -> str:
        try:
            video_id = await self._send(pieces)
        except NotThere:
            self._display.tell("What was sent before has expired or was lost. Starting anew.")
            return await self._send_anew()
        if self._title is not None:
            # Who began the upload may have called it otherwise.
            await self._patience.attempt(self._api.rename, video_id, self._title)
        return video_id

    async def _send_anew(self) -> str:
        for _ in range(LOST_AT_MOST):
            piece = await self._begin()
            with suppress(NotThere):
                return await self._send([piece])
            self._display.tell("The server has lost what was sent.")
        raise Refused("The server loses whatever it is sent.")

    async def _find(self) -> Sequence[Piece] | None:
        """Return where the file's upload is; None where it must be begun."""
        note = await self._api.note(self._file.fingerprint)
        if note is None:
            return None
        addresses = [note.upload_url] if note.upload_url else note.parallel_upload_urls or []
        pieces: list[Piece] = []
        start = 0
        for address in addresses:
            upload_id = upload_at(address)
            standing = await self._standing(upload_id) if upload_id else None
            if upload_id is None or standing is None or standing.length is None:
                return None
            if standing.video_id is not None and not await self._exists(standing.video_id):
                return None  # it arrived, and was deleted since
            pieces.append(Piece(upload_id, start, standing.length))
            start += standing.length
        return pieces if start == self._file.size_bytes else None

    async def _standing(self, upload_id: str) -> UploadState | None:
        with suppress(NotThere):
            return await self._tus.head(upload_id)
        return None

    async def _exists(self, video_id: str) -> bool:
        with suppress(NotThere):
            await self._api.status(video_id)
            return True
        return False

    async def _begin(self) -> Piece:
        """Two attempts, so that a server that cannot take the note is asked for no second upload."""
        file, attempt = self._file, self._patience.attempt
        upload_id = await attempt(self._tus.create, file.size_bytes, file.metadata(self._title))
        note = Note(upload_url=address_of(upload_id), size_bytes=file.size_bytes)
        await attempt(self._api.write_note, file.fingerprint, note)
        return Piece(upload_id, 0, file.size_bytes)

    async def _send(self, pieces: Sequence[Piece]) -> str:
        """Raises: NotThere: the server has none of it any more."""
        try:
            for piece in pieces:
                standing = await self._send_piece(piece)
            if len(pieces) > 1:
                ids = [piece.upload_id for piece in pieces]
                said = self._file.metadata(self._title)
                standing = await self._patience.attempt(self._tus.concatenate, ids, said)
        except Refused as error:
            if error.problem in NEVER_TAKEN:
                await self._drop(pieces)
            raise
        if standing.video_id is None:
            raise Refused("The server has the whole file, but names no video.")
        return standing.video_id

    async def _send_piece(self, piece: Piece) -> UploadState:
        sender = _PieceSender(self._tus, self._file, piece, self._display)
        while not sender.done(standing := await self._patience.attempt(sender.advance)):
            pass
        return standing

    async def _drop(self, pieces: Sequence[Piece]) -> None:
        """Leave nothing behind that counts as an upload under way."""
        with suppress(Refused, ServerAway):
            await self._api.forget_note(self._file.fingerprint)
            for piece in pieces:
                with suppress(NotThere):
                    await self._tus.terminate(piece.upload_id)


class _PieceSender:
    """Sends as much of a piece as goes in one request, from where the server says that it stands."""

    def __init__(self, tus: TusClient, file: LocalFile, piece: Piece, display: Display) -> None:
        self._tus = tus
        self._file = file
        self._piece = piece
        self._display = display
        self._looked_at = -1

    def done(self, standing: UploadState) -> bool:
        return standing.offset == self._piece.length

    async def advance(self) -> UploadState:
        """Raises: ServerAway: nothing has come of it; if something had, it was worth another try at once."""
        piece = self._piece
        standing = await self._tus.head(piece.upload_id)
        has_grown = standing.offset > self._looked_at
        self._looked_at = standing.offset
        at = piece.start + standing.offset
        self._display.begin(at)
        if self.done(standing):
            return standing
        body = FileBody(self._file.path, at, piece.length - standing.offset, self._display.add)
        try:
            return await self._tus.send(piece.upload_id, standing.offset, body)
        except ServerAway:
            if not has_grown:
                raise
            return standing

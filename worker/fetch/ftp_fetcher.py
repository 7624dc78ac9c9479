"""Fetches a file over FTP (RFC 959, 2428 and 3659) as anonymous, straight into the sink.

Both connections are opened by the guard and go to the host of the address: what a server says of other hosts
is ignored. A broken transfer is resumed (`REST`) if the file's size and time of change are as before.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from backend.core.addresses import parse_address
from backend.core.backoff import Backoff
from backend.core.errors import AddressRefused, AttemptFailed, InvalidAddress, SourceRejected
from backend.core.records import FetchSpec
from worker.fetch.guard import Guard
from worker.fetch.interface import Fetched, FetchSink
from worker.fetch.resuming import PAUSES, STALL_SECONDS, as_failures, pieces, resume
from worker.fetch.upstream import PIECE_BYTES, Streams

MAX_LINES = 500
"""Of one reply: greetings can be long."""
_PORT = 21
_FIRST_DATA_PORT = 1024


class FtpFetcher:
    """Resumes, and tells apart what may pass from what will not."""

    def __init__(
        self, guard: Guard, *, stall_seconds: float = STALL_SECONDS, pauses: Backoff = PAUSES
    ) -> None:
        self._guard, self._stall_seconds, self._pauses = guard, stall_seconds, pauses

    async def fetch(self, spec: FetchSpec, sink: FetchSink) -> Fetched:
        """As `Fetcher.fetch`."""
        return await resume(partial(self._transfer, spec.address, sink), sink, self._pauses)

    async def _transfer(self, address: str, sink: FetchSink) -> Fetched:
        """Fetch what is missing over one connection."""
        parts = urlsplit(parse_address(address, allow_private=self._guard.allow_private))
        host, path = parts.hostname or "", unquote(parts.path)[1:]
        if parts.scheme != "ftp" or not path.isprintable():  # a line break would begin another command
            raise InvalidAddress
        async with self._connected(host, parts.port or _PORT) as streams:
            control = _Control(*streams, self._stall_seconds)
            await control.sign_in()
            size, version = await control.version(path)
            resumed = bool(sink.position) and version is not None and version == sink.version
            if not (resumed and await control.ask(f"REST {sink.position}") == 350):
                await sink.begin(version, size)
            if sink.position != size:
                async with self._connected(host, await self._data_port(control)) as (reader, _):
                    _check(await control.ask(f"RETR {path}"), 125, 150)
                    async for piece in pieces(partial(reader.read, PIECE_BYTES), self._stall_seconds):
                        await sink.write(piece)
                _check(await control.reply(), 226, 250)
        if size is not None and sink.position != size:
            raise AttemptFailed("The connection ended before the file did.", code="fetch_broken")
        if not sink.position:
            raise SourceRejected("The file at this address is empty.", code="empty_upload")
        return Fetched(filename=PurePosixPath(path).name)

    async def _data_port(self, control: "_Control") -> int:
        if await control.ask("EPSV") == 229:
            found = re.search(r"\(\|\|\|([0-9]{1,5})\|\)", control.said)
            port = int(found[1]) if found else 0
        else:
            _check(await control.ask("PASV"), 227)
            found = re.search(r"([0-9]{1,3}),([0-9]{1,3})\)?\.?$", control.said)
            port = int(found[1]) * 256 + int(found[2]) if found else 0
        if not _FIRST_DATA_PORT <= port < 1 << 16:
            raise AddressRefused("Nothing is fetched from this port.")
        return port

    @asynccontextmanager
    async def _connected(self, host: str, port: int) -> AsyncIterator[Streams]:
        with as_failures():
            async with asyncio.timeout(self._stall_seconds):
                reader, writer = await self._guard.connect(host, port)
        with closing(writer):
            yield reader, writer


class _Control:
    """The connection for commands. `said` is the last line of the last reply."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stall_seconds: float
    ) -> None:
        self._reader, self._writer, self._stall_seconds = reader, writer, stall_seconds
        self.said = ""

    async def sign_in(self) -> None:
        _check(await self.reply(), 220)
        code = await self.ask("USER anonymous")
        if code == 331:
            code = await self.ask("PASS anonymous@")
        _check(code, 230)
        _check(await self.ask("TYPE I"), 200)

    async def version(self, path: str) -> tuple[int | None, str | None]:
        """Return the file's size and what tells its version from others, if the server says them."""
        await self.ask(f"SIZE {path}")
        known = re.fullmatch(r"213 ([0-9]{1,18})", self.said)
        size = int(known[1]) if known else None
        await self.ask(f"MDTM {path}")
        changed = re.fullmatch(r"213 ([0-9]{14}(?:\.[0-9]{1,9})?)", self.said)
        return size, f"{size} {changed[1]}" if known and changed else None

    async def ask(self, command: str) -> int:
        """Return the code of the reply."""
        self._writer.write(f"{command}\r\n".encode())
        return await self.reply()

    async def reply(self) -> int:
        """Read a reply, which may have several lines (RFC 959, section 4.2), and return its code."""
        with as_failures():
            async with asyncio.timeout(self._stall_seconds):
                begun = self.said = await self._line()
                for _ in range(MAX_LINES):
                    if re.match(rf"{re.escape(begun[:3])}(?!-)", self.said):
                        break
                    self.said = await self._line()
        if not re.match(r"[1-5][0-9]{2}( |$)", self.said):
            raise AttemptFailed("The server does not speak FTP.", code="fetch_failed")
        return int(self.said[:3])

    async def _line(self) -> str:
        try:
            return (await self._reader.readuntil(b"\n")).decode(errors="replace").rstrip()
        except asyncio.LimitOverrunError:
            raise AttemptFailed("The server does not speak FTP.", code="fetch_failed") from None


def _check(code: int, *expected: int) -> None:
    """Raises: SourceRejected, AttemptFailed: the server replied with another code."""
    if code in expected:
        return
    if code == 550:
        raise SourceRejected("There is no such file (550).", code="fetch_not_found")
    if code in {530, 532}:
        raise SourceRejected(f"The server wants a password ({code}).", code="fetch_denied")
    sentence = f"The server replied with {code}."
    if code < 500:
        raise AttemptFailed(sentence, code="fetch_failed")
    raise SourceRejected(sentence, code="fetch_refused")

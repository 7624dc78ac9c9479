"""Runs aria2c for one download, and talks to it (JSON-RPC, aria2c(1)).

What it opens over HTTP, trackers and web seeds, goes through the guarded proxy.
BitTorrent's own traffic cannot: peers, DHT nodes and UDP trackers are reached directly, at whatever address
they name. Encryption is required of peers, so that what is sent to an address that is no peer looks random.
"""

import asyncio
import base64
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientConnectionError, ClientSession
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from backend.core.errors import MachineFault
from worker.fetch.proxy import GuardedProxy
from worker.sandbox.limits import fetching_limits
from worker.sandbox.loopback import HOST
from worker.sandbox.process import running

START_SECONDS = 20.0
START_PAUSE_SECONDS = 0.05
NETWORK_SECONDS = 60
TRIES = 5
_DHT_ENTRY = "dht.transmissionbt.com:6881"


class File(BaseModel):
    """A file of a download."""

    index: str
    path: Path
    length: int


class Status(BaseModel):
    """How far a download is."""

    model_config = ConfigDict(alias_generator=to_camel)

    status: str
    total_length: int
    completed_length: int
    error_code: int = 0
    followed_by: tuple[str, ...] = ()
    """What a magnet link turned out to stand for."""
    files: tuple[File, ...] = ()


_KEYS = [field.alias for field in Status.model_fields.values()]


class Aria2:
    """A running aria2c."""

    def __init__(self, session: ClientSession, port: int, secret: str) -> None:
        self._session, self._url, self._secret = session, f"http://{HOST}:{port}/jsonrpc", secret

    async def add(self, address: str) -> str:
        """Find out what a magnet link stands for. Returns the id of this download."""
        return str(await self._call("addUri", [address]))

    async def add_torrent(self, torrent: bytes) -> str:
        """Add a torrent without starting it. Returns its id."""
        return str(await self._call("addTorrent", base64.b64encode(torrent).decode(), [], {"pause": "true"}))

    async def start(self, download: str, file: File) -> None:
        """Start a torrent, for one of its files."""
        await self._call("changeOption", download, {"select-file": file.index})
        await self._call("unpause", download)

    async def status(self, download: str) -> Status:
        return Status.model_validate(await self._call("tellStatus", download, _KEYS))

    async def ready(self) -> None:
        """Return once it responds."""
        while True:
            try:
                await self._call("getVersion")
            except ClientConnectionError:
                await asyncio.sleep(START_PAUSE_SECONDS)
            else:
                return

    async def _call(self, method: str, *arguments: Any) -> Any:
        """Raises: Aria2Refused: it does not understand the torrent or address."""
        body = {
            "jsonrpc": "2.0",
            "id": "1",
            "method": f"aria2.{method}",
            "params": [f"token:{self._secret}", *arguments],
        }
        async with self._session.post(self._url, json=body) as answer:
            said = await answer.json(content_type=None)
        if "error" in said:
            raise Aria2Refused(said["error"].get("message"))
        return said["result"]


class Aria2Refused(Exception):
    """What aria2c said no to, in its words."""


@asynccontextmanager
async def running_aria2(
    program: Path, directory: Path, proxy: GuardedProxy, max_file_bytes: int
) -> AsyncIterator[Aria2]:
    """Start it; at the end of the block it is killed. Raises: MachineFault: it does not start, or dies."""
    port, secret = _free_port(), secrets.token_urlsafe(24)
    settings = directory / "aria2.conf"
    settings.touch(mode=0o600)
    settings.write_text("\n".join(_settings(directory, proxy, port, secret)))
    limits = fetching_limits(max_file_bytes)
    command = (program, f"--conf-path={settings}", f"--stop-with-process={os.getpid()}")
    async with (
        running(command, cwd=directory, discard_stdout=True, limits=limits) as process,
        ClientSession() as session,
    ):
        aria2 = Aria2(session, port, secret)
        try:
            async with asyncio.timeout(START_SECONDS):
                await aria2.ready()
        except TimeoutError:
            raise MachineFault(f"aria2c does not start: {process.stderr_tail}") from None
        yield aria2


def _settings(directory: Path, proxy: GuardedProxy, port: int, secret: str) -> tuple[str, ...]:
    return (
        f"dir={directory / 'files'}",
        *("enable-rpc=true", f"rpc-listen-port={port}", f"rpc-secret={secret}", "rpc-max-request-size=32M"),
        # all that is not BitTorrent goes through the guard
        *(f"all-proxy=http://{HOST}:{proxy.port}", f"all-proxy-user={proxy.user}"),
        *(f"all-proxy-passwd={proxy.password}", "no-proxy=", "proxy-method=tunnel"),
        # nothing of this machine's user, and no other format than what was asked for
        *("no-netrc=true", "follow-metalink=false", "follow-torrent=false"),
        # sparse files: their size shows how much has arrived
        *("file-allocation=none", "auto-file-renaming=false", "auto-save-interval=0"),
        *(f"timeout={NETWORK_SECONDS}", f"connect-timeout={NETWORK_SECONDS}", f"max-tries={TRIES}"),
        *("retry-wait=2", "split=1", "max-connection-per-server=1"),
        # a torrent waits until its file is chosen, and nothing is seeded once it is complete
        *("pause-metadata=true", "seed-time=0", "bt-save-metadata=false"),
        # first bytes sent to a peer are random: no service mistakes them for its own protocol
        *("bt-require-crypto=true", "bt-min-crypto-level=arc4"),
        # neighbours in the local network are not looked for
        *("bt-enable-lpd=false", "enable-dht6=false"),
        *(f"dht-file-path={directory / 'dht.dat'}", f"dht-entry-point={_DHT_ENTRY}"),
    )


def _free_port() -> int:
    """Return a port for aria2c, which cannot choose one. If another program takes it, the attempt fails."""
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])

"""A tracker and a seeder: torrents of this machine."""

import asyncio
import hashlib
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.server import free_port

TRACKER = Path(__file__).resolve().parents[2] / "clients/tracker.mjs"
PIECE_BYTES = 16 * 1024


def bencode(value: Any) -> bytes:
    """BEP 3."""
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, bytes):
        return b"%d:%b" % (len(value), value)
    if isinstance(value, str):
        return bencode(value.encode())
    if isinstance(value, list):
        return b"l" + b"".join(map(bencode, value)) + b"e"
    return b"d" + b"".join(bencode(name) + bencode(value[name]) for name in sorted(value)) + b"e"


@dataclass(frozen=True)
class Torrent:
    content: bytes
    magnet: str


def make_torrent(name: str, files: dict[str, bytes], announce: str) -> Torrent:
    """Private (BEP 27): no peers but the tracker's."""
    whole = b"".join(files.values())
    pieces = (whole[at : at + PIECE_BYTES] for at in range(0, len(whole), PIECE_BYTES))
    info = {
        "name": name,
        "piece length": PIECE_BYTES,
        "pieces": b"".join(hashlib.sha1(piece).digest() for piece in pieces),
        "files": [{"length": len(body), "path": [path]} for path, body in files.items()],
        "private": 1,
    }
    link = f"magnet:?xt=urn:btih:{hashlib.sha1(bencode(info)).hexdigest()}&tr={announce}"
    return Torrent(bencode({"announce": announce, "info": info}), link)


@asynccontextmanager
async def tracking() -> AsyncIterator[str]:
    """Run npm's bittorrent-tracker; yields the address to announce to."""
    node = shutil.which("node", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert node is not None
    tracker = await asyncio.create_subprocess_exec(node, TRACKER, stdout=asyncio.subprocess.PIPE)
    try:
        assert tracker.stdout is not None
        port = int(await tracker.stdout.readline())
        yield f"http://127.0.0.1:{port}/announce"
    finally:
        tracker.kill()
        await tracker.wait()


@asynccontextmanager
async def seeding(
    torrent: Torrent, name: str, files: dict[str, bytes], directory: Path, *, bytes_per_second: int = 0
) -> AsyncIterator[None]:
    """Seed it. 0: as fast as it goes."""
    (directory / name).mkdir()
    for path, body in files.items():
        (directory / name / path).write_bytes(body)
    file = directory / "seeded.torrent"
    file.write_bytes(torrent.content)
    seeder = await asyncio.create_subprocess_exec(
        *("aria2c", "--no-conf", f"--dir={directory}", "--check-integrity=true", "--seed-ratio=0"),
        *(f"--listen-port={free_port()}", "--interface=127.0.0.1", "--enable-dht=false"),
        *(f"--max-upload-limit={bytes_per_second}", file),
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        seeder.kill()
        await seeder.wait()

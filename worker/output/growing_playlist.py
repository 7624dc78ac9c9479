"""The versions of one playlist between the packager, which rewrites it for each segment, and the store.

The packager only appends, so that of each version only what is new is read. Of a day of video, reading all
of them in full would take seconds for each segment.
"""

import asyncio
from collections.abc import Callable, Container
from dataclasses import dataclass, field

from worker.output.playlists import NewNames, parse_playlist

LARGE_BYTES = 32 * 1024
"""Larger versions are read in a thread."""


@dataclass(eq=False, slots=True)
class _Version:
    written: bytes
    body: bytes | None = None
    """For players, once it was read."""
    complete: bool = False
    missing: set[str] = field(default_factory=set)
    """Objects that it names and that are not stored yet."""


class GrowingPlaylist:
    """Keeps the oldest version that players do not see yet, and the newest.

    `for_players` turns what the packager wrote into what is stored. A version is never stored unless it names
    all of `required` or, if that is empty, a segment: players take a playlist without any for an error.
    """

    def __init__(
        self, path: str, required: frozenset[str], for_players: Callable[[str, bytes], bytes]
    ) -> None:
        self._path = path
        self._required = required
        self._for_players = for_players
        self._new_names = NewNames(path)
        self._versions: list[_Version] = []
        self._awaited = set(required)
        self._unstored: set[str] = set()

    @property
    def waits(self) -> bool:
        """Whether a version is not stored yet."""
        return bool(self._versions)

    def add(self, written: bytes) -> None:
        oldest = [one for one in self._versions[:1] if one.body is None or one.complete]
        self._versions = [*oldest, _Version(written)]

    async def take(self, stored: Container[str]) -> bytes | None:
        """Return the newest complete version whose objects are all stored, and forget it and older ones."""
        for version in [one for one in self._versions if one.body is None]:
            await self._read(version)
        self._unstored = _without(self._unstored, stored)
        for index in range(len(self._versions) - 1, -1, -1):
            version = self._versions[index]
            version.missing = _without(version.missing, stored)
            if version.body is not None and version.complete and not version.missing:
                del self._versions[: index + 1]
                return version.body
        return None

    async def take_last(self, stored: Container[str]) -> bytes | None:
        """Return the newest version if it is complete and all it names is stored. It is read in full."""
        written = self._versions[-1].written
        body = await asyncio.to_thread(self._for_players, self._path, written)
        playlist = await asyncio.to_thread(parse_playlist, self._path, body)
        complete = self._required.issubset(playlist.names) if self._required else playlist.segments
        if not complete or not all(name in stored for name in playlist.names):
            return None
        self._versions.clear()
        return body

    async def _read(self, version: _Version) -> None:
        def read() -> tuple[bytes, set[str]]:
            body = self._for_players(self._path, version.written)
            return body, self._new_names.read(body)

        large = len(version.written) > LARGE_BYTES
        version.body, names = await asyncio.to_thread(read) if large else read()
        self._awaited -= names
        self._unstored |= names
        version.missing = set(self._unstored)
        version.complete = not self._awaited and (bool(self._required) or self._new_names.any_segment)


def _without(names: set[str], stored: Container[str]) -> set[str]:
    return {name for name in names if name not in stored}

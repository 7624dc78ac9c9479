"""A file as the body of a request."""

import random
from pathlib import Path

import pytest

from vodbucket.body import READ_BYTES, FileBody
from vodbucket.errors import FileRejected

SLOWEST_BYTES = 128 * 1024
"""What a connection has to take within a minute, not to be thought dead."""


async def test_a_body_is_the_rest_of_the_file_in_pieces_that_a_slow_connection_can_take(
    tmp_path: Path,
) -> None:
    content = random.randbytes(2 * READ_BYTES + 100_001)
    (path := tmp_path / "film.mp4").write_bytes(content)
    sent: list[int] = []
    body, chunks, moves = FileBody(path, 7, len(content) - 7, sent.append), list[bytes](), 0

    def moved() -> None:
        nonlocal moves
        moves += 1

    async for chunk in body.chunks(moved):
        assert moves == len(chunks), "each piece is told of before the next one"
        chunks.append(chunk)

    assert b"".join(chunks) == content[7:]
    assert max(map(len, chunks)) <= SLOWEST_BYTES
    assert sent == [len(chunk) for chunk in chunks]


async def test_a_file_that_has_become_shorter_ends_the_body(tmp_path: Path) -> None:
    (path := tmp_path / "film.mp4").write_bytes(b"short")
    body = FileBody(path, 0, 6, lambda _: None)

    with pytest.raises(FileRejected, match="shorter"):
        [chunk async for chunk in body.chunks(lambda: None)]

    assert body.failure is not None

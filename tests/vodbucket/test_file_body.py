"""A file as a request body."""

import random
from pathlib import Path

import pytest

from vodbucket.client.errors import FileRejected
from vodbucket.client.file_body import READ_BYTES, FileBody

SLOWEST_BYTES = 128 * 1024
"""The slowest connection that is not considered lost sends this much in a minute."""


async def test_body_is_the_rest_of_the_file_in_small_chunks(
    tmp_path: Path,
) -> None:
    content = random.randbytes(2 * READ_BYTES + 100_001)
    (path := tmp_path / "film.mp4").write_bytes(content)
    sent: list[int] = []
    body, chunks, calls = FileBody(path, 7, len(content) - 7, sent.append), list[bytes](), 0

    def on_sent() -> None:
        nonlocal calls
        calls += 1

    async for chunk in body.chunks(on_sent):
        assert calls == len(chunks), "called for each chunk before the next one"
        chunks.append(chunk)

    assert b"".join(chunks) == content[7:]
    assert max(map(len, chunks)) <= SLOWEST_BYTES
    assert sent == [len(chunk) for chunk in chunks]


async def test_truncated_file_raises_an_error(tmp_path: Path) -> None:
    (path := tmp_path / "film.mp4").write_bytes(b"short")
    body = FileBody(path, 0, 6, lambda _: None)

    with pytest.raises(FileRejected, match="shorter"):
        [chunk async for chunk in body.chunks(lambda: None)]

    assert body.failure is not None

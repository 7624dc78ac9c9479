"""Fingerprints follow docs/uploads.md, so that browsers and other machines can find a file's upload."""

import hashlib
import os
from pathlib import Path

import pytest

from vodbucket.client.local_file import inspect_file, keeping_original

MIB = 1024 * 1024


def _file(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return inspect_file(path).fingerprint


def test_invalid_utf8_in_a_file_name_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    path.write_bytes(b"film")

    assert inspect_file(path).metadata("Caf\udce9")["filename"] == "caf?.mp4"


def test_server_is_asked_to_keep_the_original_only_on_request(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"film")
    file = inspect_file(path)

    assert "keep_original" not in file.metadata(None)
    assert keeping_original(file).metadata(None)["keep_original"] == "true"


@pytest.mark.parametrize("size_bytes", [1, 2 * MIB - 1, 2 * MIB])
def test_fingerprint_of_a_small_file_covers_all_of_it(tmp_path: Path, size_bytes: int) -> None:
    content = bytes(range(251)) * (size_bytes // 251 + 1)
    content = content[:size_bytes]

    expected = hashlib.sha256(b"vodbucket-1\n%d\n" % size_bytes + content).hexdigest()
    assert _file(tmp_path / "film.mp4", content) == expected


def test_fingerprint_of_a_large_file_covers_size_first_and_last_mib(tmp_path: Path) -> None:
    first, last = b"a" * MIB, b"z" * MIB
    expected = hashlib.sha256(b"vodbucket-1\n%d\n" % (2 * MIB + 1) + first + last).hexdigest()

    assert _file(tmp_path / "one.mp4", first + b"x" + last) == expected
    assert _file(tmp_path / "two.mp4", first + b"y" + last) == expected
    assert _file(tmp_path / "three.mp4", first + b"xx" + last) != expected

"""A file is recognized by what docs/uploads.md says, so that browsers and other machines find its upload."""

import hashlib
import os
from pathlib import Path

import pytest

from vodbucket.files import examine_file

MIB = 1024 * 1024


def _file(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return examine_file(path).fingerprint


def test_a_name_that_is_no_text_is_told_as_one(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    path.write_bytes(b"film")

    assert examine_file(path).metadata("Caf\udce9")["filename"] == "caf?.mp4"


@pytest.mark.parametrize("size_bytes", [1, 2 * MIB - 1, 2 * MIB])
def test_a_small_file_is_recognized_by_all_of_it(tmp_path: Path, size_bytes: int) -> None:
    content = bytes(range(251)) * (size_bytes // 251 + 1)
    content = content[:size_bytes]

    expected = hashlib.sha256(b"vodbucket-1\n%d\n" % size_bytes + content).hexdigest()
    assert _file(tmp_path / "film.mp4", content) == expected


def test_a_large_file_is_recognized_by_its_size_its_first_and_its_last_mib(tmp_path: Path) -> None:
    first, last = b"a" * MIB, b"z" * MIB
    expected = hashlib.sha256(b"vodbucket-1\n%d\n" % (2 * MIB + 1) + first + last).hexdigest()

    assert _file(tmp_path / "one.mp4", first + b"x" + last) == expected
    assert _file(tmp_path / "two.mp4", first + b"y" + last) == expected
    assert _file(tmp_path / "three.mp4", first + b"xx" + last) != expected

"""Files that are shorter than their header says."""

import struct

import pytest

from backend.core.errors import SourceRejected
from worker.source.stated_size import check_stated_size

ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + bytes(14)
ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365") + bytes(24)


def riff(size: int) -> bytes:
    return struct.pack("<4sI4s", b"RIFF", size - 8, b"WAVE")


def asf(size: int) -> bytes:
    return ASF + ASF_FILE + struct.pack("<Q", size)


def flv(size: float) -> bytes:
    return b"FLV\1\5\0\0\0\x09" + bytes(15) + b"onMetaData\0\x08filesize\0" + struct.pack(">d", size)


@pytest.mark.parametrize("head", [riff(500_000), asf(500_000), flv(500_000)], ids=["riff", "asf", "flv"])
def test_rejects_files_that_were_cut_off(head: bytes) -> None:
    check_stated_size(head, 500_000)
    check_stated_size(head, 490_000)
    check_stated_size(head, 900_000)
    with pytest.raises(SourceRejected, match=r"it should have 0\.5 MB, but has only 0\.4 MB") as refused:
        check_stated_size(head, 430_000)
    assert refused.value.failure_code == "file_incomplete"


@pytest.mark.parametrize(
    "head",
    [
        riff(8),
        riff(2**32 - 1),
        riff(2**31 + 7),
        asf(0),
        flv(0),
        flv(float("nan")),
        flv(float("inf")),
        b"",
        b"FLV",
    ],
)
def test_takes_no_notice_of_what_programs_write_that_do_not_know(head: bytes) -> None:
    check_stated_size(head, 100)

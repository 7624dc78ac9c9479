"""What the contract does not say about a store of files."""

import errno
import os
from pathlib import Path

import pytest

from backend.core.errors import ObjectNotFound, StoreError, StoreRejected
from backend.core.store.file_store import FileStore
from backend.core.store.interface import PresignedGet


@pytest.mark.parametrize("key", ["", "../out", "a/../../out", ".new/x", "a//b", "a/", "nul\0"])
async def test_a_key_never_leads_out_of_the_folder(tmp_path: Path, key: str) -> None:
    store = FileStore(tmp_path / "root")

    with pytest.raises(StoreRejected):
        await store.put(key, b"x")
    with pytest.raises(StoreRejected):
        await store.open_upload(key)

    assert [path.name for path in tmp_path.iterdir()] == ["root"]
    assert [info async for info in store.list_all("")] == []


async def test_a_linked_file_is_read_in_place_and_only_its_link_deleted(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"film")
    store = FileStore(tmp_path / "root")
    (tmp_path / "root" / "uploads").mkdir()
    (tmp_path / "root" / "uploads" / "film").symlink_to(tmp_path / "film.mp4")

    (listed,) = (await store.list_page("uploads/")).objects
    assert (listed.size_bytes, await store.head("uploads/film")) == (4, listed)
    await store.delete("uploads/film")

    with pytest.raises(ObjectNotFound):
        await store.head("uploads/film")
    assert (tmp_path / "film.mp4").read_bytes() == b"film"


async def test_a_full_disk_is_reported_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[StoreError] = []
    store = FileStore(tmp_path, failures.append)
    await store.put("k", b"before")

    def full(path: Path, body: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError, match="No space left on device"):
        await store.put("k", b"after")

    assert [failure.message for failure in failures] == [
        f"{tmp_path} cannot be used: No space left on device."
    ]
    assert list((tmp_path / ".new").iterdir()) == []
    assert (await store.get("k")).body == b"before"


def test_a_link_to_an_object_is_that_of_its_file(tmp_path: Path) -> None:
    assert FileStore(tmp_path).presign_get("a b", PresignedGet(60)) == f"file://{tmp_path}/a%20b"

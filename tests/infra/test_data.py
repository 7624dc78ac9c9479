"""What `make run` keeps between runs."""

import stat
import subprocess
from pathlib import Path

import pytest

from infra.local.data import DataDirectory
from infra.local.errors import CannotRun
from infra.local.store import choose_store


def test_the_admin_token_is_created_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)

    token = data.admin_token()

    assert len(token) >= 32
    assert DataDirectory(tmp_path).admin_token() == token
    assert stat.S_IMODE((tmp_path / "admin-token").stat().st_mode) == 0o600


def test_two_directories_have_different_tokens(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()

    assert DataDirectory(tmp_path / "one").admin_token() != DataDirectory(tmp_path / "two").admin_token()


def test_only_one_run_at_a_time_can_use_a_directory(tmp_path: Path) -> None:
    with (
        DataDirectory(tmp_path).lock(),
        pytest.raises(CannotRun, match="already runs"),
        DataDirectory(tmp_path).lock(),
    ):
        pass


def test_a_directory_can_be_used_again_after_its_run(tmp_path: Path) -> None:
    with DataDirectory(tmp_path).lock():
        pass

    with DataDirectory(tmp_path).lock():
        assert (tmp_path / "lock").exists()


def test_a_file_in_place_of_the_directory_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")

    with pytest.raises(CannotRun, match="cannot be used for data"), DataDirectory(tmp_path / "data").lock():
        pass


def test_a_shell_can_load_the_stores_settings_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    with data.lock():
        data.write_settings({"S3_ENDPOINT_URL": "http://[::1]:1", "AWS_SECRET_ACCESS_KEY": "a b'c$d"})

    loaded = subprocess.run(
        ["sh", "-c", 'set -a; . "$1"; env', "sh", tmp_path / "store/env"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "S3_ENDPOINT_URL=http://[::1]:1" in loaded.stdout.splitlines()
    assert "AWS_SECRET_ACCESS_KEY=a b'c$d" in loaded.stdout.splitlines()
    assert stat.S_IMODE((tmp_path / "store/env").stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", ["encoding", "directory"])
def test_a_token_that_cannot_be_read_is_said(tmp_path: Path, damage: str) -> None:
    if damage == "directory":
        (tmp_path / "admin-token").mkdir()
    else:
        (tmp_path / "admin-token").write_bytes(b"\xff\xfe")

    with pytest.raises(CannotRun, match="admin-token cannot be read"):
        DataDirectory(tmp_path).admin_token()


@pytest.mark.parametrize("content", ["[]", '{"s3.port": "x"}', '{"s3.port": null}', "{", "\udcff"])
def test_damaged_port_notes_are_ignored(tmp_path: Path, content: str) -> None:
    data = DataDirectory(tmp_path)
    with data.lock():
        (data.store / "ports").write_text(content, errors="surrogateescape")

        assert choose_store(data).ports["s3.port"] > 0

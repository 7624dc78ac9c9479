"""`.env` files."""

import errno
import os
from pathlib import Path

import pytest

from infra.local.dotenv import read_dotenv
from infra.local.errors import CannotRun


def _read(directory: Path, text: str) -> dict[str, str]:
    (directory / ".env").write_text(text)
    return read_dotenv(directory / ".env")


def test_lines_are_parsed_as_keys_and_values(tmp_path: Path) -> None:
    text = (
        '# comment\n\nPORT=3001\nexport HOST = 0.0.0.0\nADMIN_TOKEN="a=b # c"\nEMPTY=\nPATHS=$HOME/a#b # c\n'
    )

    assert _read(tmp_path, text) == {
        "PORT": "3001",
        "HOST": "0.0.0.0",
        "ADMIN_TOKEN": "a=b # c",
        "EMPTY": "",
        "PATHS": "$HOME/a#b",
    }


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    assert _read(tmp_path, "\ufeffPORT=3001\r\nHOST=::\r\n") == {"PORT": "3001", "HOST": "::"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"ADMIN_TOKEN=schl\xfcssel", "is not UTF-8"),
        ("PORT=3001".encode("utf-16"), "is not UTF-8"),
        ("PORT=3001".encode("utf-16-le"), "NUL"),
    ],
)
def test_a_file_in_another_encoding_is_reported(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / ".env").write_bytes(content)

    with pytest.raises(CannotRun, match=said):
        read_dotenv(tmp_path / ".env")


def test_what_is_no_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    os.mkfifo(tmp_path / "pipe.env")

    for name in (".env", "pipe.env"):
        with pytest.raises(CannotRun, match=f"{name} is not a file"):
            read_dotenv(tmp_path / name)


def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").touch()

    def denied(*_: object) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_text", denied)  # root may read anything
    with pytest.raises(CannotRun, match=r"\.env cannot be read: Permission denied"):
        read_dotenv(tmp_path / ".env")


def test_a_missing_file_counts_as_empty(tmp_path: Path) -> None:
    assert read_dotenv(tmp_path / ".env") == {}


@pytest.mark.parametrize("line", ["PORT", "2PORT=1", "=1", "a b=1", "ONE='"])
def test_an_invalid_line_is_reported_by_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(CannotRun, match="line 4"):
        _read(tmp_path, f"PORT=1\n\n\n{line}\n")

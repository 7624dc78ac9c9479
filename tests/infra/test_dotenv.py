"""`.env` files."""

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


def test_a_missing_file_counts_as_empty(tmp_path: Path) -> None:
    assert read_dotenv(tmp_path / ".env") == {}


@pytest.mark.parametrize("line", ["PORT", "2PORT=1", "=1", "a b=1", "ONE='"])
def test_an_invalid_line_is_reported_by_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(CannotRun, match="line 4"):
        _read(tmp_path, f"PORT=1\n\n\n{line}\n")

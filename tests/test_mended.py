"""The tables of mended faults name tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROWS = [
    (page.stem, cells)
    for page in sorted((ROOT / "tests/mended").glob("*.md"))
    for line in page.read_text().splitlines()[2:]
    if len(cells := [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]) > 1
]


@pytest.mark.parametrize(("page", "cells"), ROWS, ids=[f"{page}-{cells[0]}" for page, cells in ROWS])
def test_each_row_names_tests_that_exist(page: str, cells: list[str]) -> None:
    assert len(cells) == 4, f"{page}: point, fault, test, now"
    named = re.findall(r"`([^`]+?)::([^`\[]+)(?:\[[^`]*\])?`", cells[2])
    assert named, f"{page}: a row names no test: {cells}"
    for path, name in named:
        assert name.rpartition("::")[2] in (ROOT / path).read_text()

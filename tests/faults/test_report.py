"""The table in docs/reliability.md lists exactly the rows there are, and says that each held."""

from pathlib import Path

from tests.faults.registry import HELD, Record, rows
from tests.faults.report import BEGIN, END, write_table, written_records

KINDS_OF_FAULT = 32


def test_table_lists_exactly_the_rows_in_order() -> None:
    written = [(record.id, record.fault, record.expected) for record in written_records()]
    assert written == [(one.id, one.fault, one.expected) for one in rows()]
    assert len(written) >= KINDS_OF_FAULT


def test_every_row_of_the_table_struck_and_held() -> None:
    assert [one.id for one in written_records() if one.times_injected < 1 or one.outcome != HELD] == []


def test_table_is_read_back_as_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    one = rows()[0]
    line = f"- `{one.id}` (3, BROKEN: AssertionError): {one.fault} → {one.expected}"
    page.write_text(f"Before.\n\n{BEGIN}\n\n{line}\n\n{END}\n\nBehind.\n")

    [read] = written_records(page)
    assert read == Record(one.id, one.fault, 3, one.expected, "BROKEN: AssertionError")
    write_table(page)

    assert page.read_text().startswith("Before.\n\n")
    assert page.read_text().endswith("\n\nBehind.\n")
    assert one.id in [record.id for record in written_records(page)]

"""The table in docs/reliability.md: written from what the rows recorded, read back by a test."""

import re
from pathlib import Path

from tests.faults.registry import HELD, REPOSITORY, Record, record_of, rows

PAGE = REPOSITORY / "docs/reliability.md"
BEGIN = "<!-- The table is written by `make faults`. -->"
END = "<!-- End of the table. -->"
_HEAD = "| row | fault | times injected | expected | outcome |\n|---|---|---|---|---|\n"
_LINE = re.compile(r"^\| `([a-z0-9-]+)` \| (.*?) \| (\d+) \| (.*?) \| (.*?) \|$", re.MULTILINE)


def written_records(page: Path = PAGE) -> list[Record]:
    """Return what the table says."""
    table = page.read_text().partition(BEGIN)[2].partition(END)[0]
    return [
        Record(row_id, fault, int(times), expected, outcome)
        for row_id, fault, times, expected, outcome in _LINE.findall(table)
    ]


def write_table(page: Path = PAGE) -> list[Record]:
    """Bring the table up to date with the last runs and return it; rows that did not run stay as they are."""
    written = {record.id: record for record in written_records(page)}
    records = [
        found for found in (record_of(one.id) or written.get(one.id) for one in rows()) if found is not None
    ]
    lines = "".join(
        f"| `{one.id}` | {one.fault} | {one.times_injected} | {one.expected} | {one.outcome} |\n"
        for one in records
    )
    before, _, rest = page.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{_HEAD}{lines}\n{END}{after}")
    return records


def summary(records: list[Record]) -> str:
    held = sum(one.outcome == HELD for one in records)
    times = sum(one.times_injected for one in records)
    return f"{len(records)} kinds of fault, {times} injections, {held} rows held"

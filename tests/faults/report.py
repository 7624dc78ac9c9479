"""The rows in docs/reliability.md: written from what the tests recorded, read back by a test.

In brackets: how often the fault struck, and the outcome unless it is `HELD`.
"""

import re
from pathlib import Path

from tests.faults.registry import HELD, REPOSITORY, Record, record_of, rows

PAGE = REPOSITORY / "docs/reliability.md"
BEGIN = "<!-- The table is written by `make faults`. -->"
END = "<!-- End of the table. -->"
_LINE = re.compile(r"^- `([a-z0-9-]+)` \((\d+)(?:, (.*?))?\): (.*?) → (.*)$", re.MULTILINE)


def written_records(page: Path = PAGE) -> list[Record]:
    """Return what the page says."""
    table = page.read_text().partition(BEGIN)[2].partition(END)[0]
    return [
        Record(row_id, fault, int(times), expected, outcome or HELD)
        for row_id, times, outcome, fault, expected in _LINE.findall(table)
    ]


def write_table(page: Path = PAGE) -> list[Record]:
    """Bring the page up to date with the last runs and return it; rows that did not run stay as they are."""
    written = {record.id: record for record in written_records(page)}
    records = [
        found for found in (record_of(one.id) or written.get(one.id) for one in rows()) if found is not None
    ]
    lines = "".join(f"- `{one.id}` ({_struck(one)}): {one.fault} → {one.expected}\n" for one in records)
    before, _, rest = page.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{lines}\n{END}{after}")
    return records


def _struck(record: Record) -> str:
    times = str(record.times_injected)
    return times if record.outcome == HELD else f"{times}, {record.outcome}"


def summary(records: list[Record]) -> str:
    held = sum(one.outcome == HELD for one in records)
    times = sum(one.times_injected for one in records)
    return f"{len(records)} kinds of fault, {times} injections, {held} rows held"

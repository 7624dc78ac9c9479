"""The table in docs/formats.md: written from the test results and read back by a test.

It omits what the tests assert for every input: codecs and colours.
"""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.formats.inputs import INPUTS

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "test-results/formats"
PAGE = REPOSITORY / "docs/formats.md"
BEGIN = "<!-- The table is written by `make formats`. -->"
END = "<!-- End of the table. -->"
COLUMNS = ("input", "what it is", "audio", "duration", "lag", "shown as")
NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Found:
    """The outputs of one input, as the table shows them. Errors are in milliseconds."""

    id: str
    what: str
    tracks: str
    duration_error: str
    sync_error: str
    size: str

    def keep(self) -> None:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{self.id}.json").write_text(json.dumps(asdict(self), indent=1) + "\n")


def forget(input_id: str) -> None:
    (RESULTS / f"{input_id}.json").unlink(missing_ok=True)


def kept(input_id: str) -> Found | None:
    path = RESULTS / f"{input_id}.json"
    return Found(**json.loads(path.read_text())) if path.exists() else None


def written(page: Path = PAGE) -> list[Found]:
    """Return the rows of the table."""
    table = page.read_text().partition(BEGIN)[2].partition(END)[0]
    lines = [line for line in table.splitlines() if line and not line.startswith("`")][1:]
    cells = (re.split(r" {2,}", line.rstrip()) for line in lines)
    return [Found(*("" if cell == NOTHING else cell for cell in row)) for row in cells]


def write_table(page: Path = PAGE) -> list[Found]:
    """Update the table with the latest results. Rows of inputs that did not run are kept."""
    before_it = {found.id: found for found in written(page)}
    rows = [found for found in (kept(one.id) or before_it.get(one.id) for one in INPUTS) if found is not None]
    cells = [COLUMNS, *([cell or NOTHING for cell in asdict(found).values()] for found in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)
    before, _, rest_of_page = page.read_text().partition(BEGIN)
    table = "\n".join(("```", *lines, "```"))
    page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest_of_page.partition(END)[2]}")
    return rows

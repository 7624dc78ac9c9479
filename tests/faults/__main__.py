"""`python -m tests.faults [ROW ...]`: run the rows, by default all, and write docs/reliability.md's table."""

import subprocess
import sys

from tests.faults.registry import rows
from tests.faults.report import summary, write_table


def main(wanted: list[str]) -> int:
    known = {one.id: one for one in rows()}
    unknown = [row_id for row_id in wanted if row_id not in known]
    if unknown:
        sys.stderr.write(f"no such row: {', '.join(unknown)}; there are: {', '.join(known)}\n")
        return 2
    chosen = [one.node for row_id, one in known.items() if not wanted or row_id in wanted]
    # A process of its own: pytest must be the first to import its tests.
    tests = subprocess.run([sys.executable, "-m", "pytest", "-v", "--durations=10", *chosen], check=False)
    sys.stdout.write(f"{summary(write_table())}\n")
    return tests.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

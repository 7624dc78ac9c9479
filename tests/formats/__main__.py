"""`python -m tests.formats [INPUT ...]`: transcode inputs and update the table in docs/formats.md."""

import subprocess
import sys

from tests.formats.table import write_table

MATRIX = "tests/worker/test_formats.py::test_input_is_transcoded_as_documented"


def main(wanted: list[str]) -> int:
    chosen = [f"{MATRIX}[{input_id}]" for input_id in wanted] or [MATRIX]
    # Run pytest in another process: it must be the first to import its tests.
    tests = subprocess.run([sys.executable, "-m", "pytest", "-q", *chosen], check=False)
    sys.stdout.write(f"{len(write_table())} inputs in the table\n")
    return tests.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The rows of the fault report: each a test that says how often its fault struck, recorded when it holds.

`python -m tests.faults` (`make faults`) runs them and writes the table of docs/reliability.md.
"""

import importlib
import inspect
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "test-results/faults"

MODULES = (
    "tests.faults.test_answers",
    "tests.faults.test_writes",
    "tests.faults.test_uploads",
    "tests.faults.test_resumable",
    "tests.faults.test_source",
    "tests.faults.test_queue",
    "tests.faults.test_encoder",
    "tests.system.test_workers",
    "tests.system.test_units",
    "tests.faults.test_kills",
    "tests.faults.test_resumable_clients",
    "tests.faults.test_outages",
)
"""Where the rows are, in the order of the table; what crashes the store comes last."""

Test = Callable[..., int | Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Row:
    """`node` is what pytest runs."""

    id: str
    fault: str
    expected: str
    node: str


@dataclass(frozen=True, slots=True)
class Record:
    """What running a row showed."""

    id: str
    fault: str
    times_injected: int
    expected: str
    outcome: str


HELD = "held"
_rows: dict[str, Row] = {}


def row(row_id: str, *, fault: str, expected: str) -> Callable[[Test], Callable[..., Any]]:
    """Make a test a row. It returns how often its fault was injected, which must be at least once."""

    def register(test: Test) -> Callable[..., Any]:
        module = inspect.getmodule(test)
        assert module is not None
        assert row_id not in _rows or _rows[row_id].node.endswith(f"::{test.__name__}"), row_id
        path = module.__name__.replace(".", "/")
        _rows[row_id] = entered = Row(row_id, fault, expected, f"{path}.py::{test.__name__}")
        if inspect.iscoroutinefunction(test):

            @wraps(test)
            async def run_async(*arguments: object, **named: object) -> None:
                with _recording(entered) as recording:
                    recording.times = await test(*arguments, **named)

            return run_async

        @wraps(test)
        def run(*arguments: object, **named: object) -> None:
            with _recording(entered) as recording:
                times = test(*arguments, **named)
                assert isinstance(times, int)
                recording.times = times

        return run

    return register


def rows() -> list[Row]:
    """Return every row, in the order of the table."""
    for name in MODULES:
        importlib.import_module(name)
    places = [name.replace(".", "/") + ".py" for name in MODULES]
    return sorted(_rows.values(), key=lambda one: places.index(one.node.partition("::")[0]))


def record_of(row_id: str) -> Record | None:
    """Return what the last run of the row showed, None if it did not run."""
    path = RESULTS / f"{row_id}.json"
    return Record(**json.loads(path.read_text())) if path.exists() else None


class _recording:  # noqa: N801  # reads as the verb that it is
    """Writes the record of a row when its test ends; one that is skipped or interrupted has none."""

    def __init__(self, entered: Row) -> None:
        self._row = entered
        self.times = 0

    def __enter__(self) -> "_recording":
        (RESULTS / f"{self._row.id}.json").unlink(missing_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, pytest.skip.Exception | KeyboardInterrupt):
            return
        if error is None and self.times < 1:
            self._write(f"never injected in {self._row.node}")
            raise AssertionError("the fault never struck")
        self._write(HELD if error is None else f"BROKEN: {kind.__name__ if kind else error}")

    def _write(self, outcome: str) -> None:
        RESULTS.mkdir(parents=True, exist_ok=True)
        record = Record(self._row.id, self._row.fault, self.times, self._row.expected, outcome)
        (RESULTS / f"{self._row.id}.json").write_text(json.dumps(asdict(record), indent=1) + "\n")

"""`python -m tests.simulation`: explore many schedules, or replay one."""
# ruff: noqa: T201  # a command line tool prints

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.simulation.schedule import ProtocolBroken, quiet_logs, run_schedule

BATCH = 200
PRINT_EVERY_SECONDS = 30.0


@dataclass(slots=True)
class Tally:
    schedules: int = 0
    steps: int = 0
    changes: int = 0
    events: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        self.schedules += other.schedules
        self.steps += other.steps
        self.changes += other.changes
        self.events += other.events
        self.failures += other.failures


def explore(seeds: range) -> Tally:
    """Run the schedules of these seeds."""
    tally = Tally()
    with quiet_logs():
        for seed in seeds:
            tally.schedules += 1
            try:
                outcome = run_schedule(seed)
            except ProtocolBroken as broken:
                tally.failures.append((seed, str(broken)))
                continue
            tally.steps += outcome.steps
            tally.changes += outcome.changes
            tally.events.update(outcome.events)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000, help="number of schedules (default: 10,000)")
    parser.add_argument("--seed", type=int, help="first seed (default: from the clock)")
    parser.add_argument("--jobs", type=int, default=1, help="number of processes")
    parser.add_argument("--trace", action="store_true", help="run one schedule and print each of its steps")
    parser.add_argument("--most-failures", type=int, default=5, help="stop after this many (default: 5)")
    options = parser.parse_args()
    first = time.time_ns() // 1_000_000 if options.seed is None else options.seed
    if options.trace:
        return _replay(first)
    return _soak(first, options.schedules, options.jobs, options.most_failures)


def _replay(seed: int) -> int:
    with quiet_logs():
        try:
            outcome = run_schedule(seed, trace=print)
        except ProtocolBroken as broken:
            print(f"broken: {broken}")
            return 1
    print(f"all invariants hold: {outcome}")
    return 0


def _soak(first: int, schedules: int, jobs: int, most_failures: int) -> int:
    total, started, printed = Tally(), time.monotonic(), time.monotonic()
    with multiprocessing.Pool(jobs) as pool:
        for tally in pool.imap_unordered(explore, _batches(first, schedules)):
            total.add(tally)
            for seed, what in tally.failures:
                print(f"seed {seed}: {what}\n  replay: python -m tests.simulation --seed {seed} --trace")
            if time.monotonic() - printed >= PRINT_EVERY_SECONDS:
                printed = time.monotonic()
                _print(total, first, time.monotonic() - started)
            if len(total.failures) >= most_failures:
                pool.terminate()
                break
    _print(total, first, time.monotonic() - started)
    for name, count in sorted(total.events.items()):
        print(f"{count:>12,}  {name}")
    return 1 if total.failures else 0


def _batches(first: int, schedules: int) -> Iterator[range]:
    for start in range(first, first + schedules, BATCH):
        yield range(start, min(start + BATCH, first + schedules))


def _print(total: Tally, first: int, seconds: float) -> None:
    per_minute = 60 / max(seconds, 0.001)
    print(
        f"{total.schedules:,} schedules from seed {first} in {seconds:.0f} s"
        f" ({total.schedules * per_minute:,.0f} per minute), {total.steps:,} states"
        f" ({total.steps * per_minute:,.0f} per minute), {total.changes:,} changes checked,"
        f" {len(total.failures)} violations",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())

"""How much of a machine, or of a container, a worker uses."""

import os
from pathlib import Path

import pytest

from worker.sandbox.resources import cores, encodes_at_a_time, memory_bytes

GIB = 1024**3


@pytest.mark.parametrize(
    ("cores", "gib", "encodes"),
    [(1, 1, 1), (2, 64, 1), (7, 64, 1), (8, 64, 2), (64, 256, 16), (64, 15, 3), (64, 2, 1)],
)
def test_one_encode_for_every_four_cores_and_four_gib(cores: int, gib: int, encodes: int) -> None:
    assert encodes_at_a_time(cores, gib * GIB) == encodes


def test_a_container_is_taken_for_the_machine(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(f"{64 * 1024**2}\n")

    assert (cores(tmp_path), memory_bytes(tmp_path)) == (1, 64 * 1024**2)


@pytest.mark.parametrize("limit", ["max 100000", "100000000 100000", None])
def test_without_a_limit_all_of_the_machine_counts(tmp_path: Path, limit: str | None) -> None:
    if limit:
        (tmp_path / "cpu.max").write_text(limit)
        (tmp_path / "memory.max").write_text("max")

    assert cores(tmp_path) == (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )
    assert memory_bytes(tmp_path) > GIB // 4

"""Finds processes through /proc (Linux), so that tests can kill some or check that none remain."""

from pathlib import Path

_PROC = Path("/proc")


def descendants(pid: int) -> dict[int, str]:
    """Return the process's descendants and the names of their programs."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        found = _stat(int(entry.name))
        if found is not None:
            names[int(entry.name)], _, parents[int(entry.name)] = found
    family = [pid]
    for known in family:
        family += [child for child, parent in parents.items() if parent == known]
    return {child: names[child] for child in family[1:]}


def is_alive(pid: int) -> bool:
    """Return whether the process runs. Zombies (Z) and processes being reaped (X) do not count."""
    found = _stat(pid)
    return found is not None and found[1] not in "ZX"


def _stat(pid: int) -> tuple[str, str, int] | None:
    """Return name, state and parent (proc(5)). The name is in parentheses and may contain any character."""
    try:
        head, _, tail = (_PROC / str(pid) / "stat").read_text().rpartition(")")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent = tail.split()[:2]
    return head.partition("(")[2], state, int(parent)

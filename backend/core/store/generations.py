"""Generations: numbered, create-only objects. The highest number counts.

Leases of jobs (`backend.core.jobs.leases`) and locks of uploads (`backend.core.uploads.resumable.locks`)
are both kept this way.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress

from backend.core.errors import BadRequest
from backend.core.store.interface import ObjectInfo

Parse = Callable[[str], tuple[str, int]]
"""Split a key into its owner and its generation. Raises BadRequest for any other key."""


def group_generations(objects: Iterable[ObjectInfo], parse: Parse) -> dict[str, list[tuple[int, ObjectInfo]]]:
    """Group listed objects by owner, each group in ascending order, so that its last entry counts.

    Objects whose keys `parse` does not know are skipped.
    """
    groups: dict[str, list[tuple[int, ObjectInfo]]] = {}
    for info in objects:
        with suppress(BadRequest):
            owner, generation = parse(info.key)
            groups.setdefault(owner, []).append((generation, info))
    for group in groups.values():
        group.sort(key=lambda pair: pair[0])
    return groups

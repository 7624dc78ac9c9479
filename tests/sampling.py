"""Samples of corpora that are too slow to run in full in CI. Each run picks other members of each kind."""

import random
from collections import defaultdict
from collections.abc import Mapping
from math import ceil

SHARE = 1 / 3


def sample(kinds: Mapping[str, str], seed: int) -> set[str]:
    """Return a third of the members of each kind, at least one. `kinds` maps each member to its kind.

    To include a member in every run, give it a kind of its own.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for member, kind in kinds.items():
        members[kind].append(member)
    return {
        chosen
        for kind, all_of_kind in members.items()
        for chosen in random.Random(f"{seed} {kind}").sample(
            sorted(all_of_kind), ceil(SHARE * len(all_of_kind))
        )
    }

"""Samples of corpora that take too long to run whole in CI: some members of each kind, others in each run."""

import random
from collections import defaultdict
from collections.abc import Mapping
from math import ceil

SHARE = 1 / 3


def sample(kinds: Mapping[str, str], seed: int) -> set[str]:
    """Return a third of the members of each kind, and one at least. `kinds` names each member's kind.

    Members of kinds that a caller wants in every run each have a kind of their own.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for member, kind in kinds.items():
        members[kind].append(member)
    return {
        chosen
        for kind, all_of_it in members.items()
        for chosen in random.Random(f"{seed} {kind}").sample(sorted(all_of_it), ceil(SHARE * len(all_of_it)))
    }

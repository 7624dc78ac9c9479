"""Every sample covers every kind, and several CI runs together cover the whole corpus."""

from collections import Counter

import pytest

from tests.formats.inputs import INPUTS
from tests.formats.kinds import KIND_OF
from tests.media.hostile import HOSTILE
from tests.sampling import SHARE, sample

CORPORA = {
    "formats": KIND_OF,
    "hostile files": {name: hostile.kind for name, hostile in HOSTILE.items()},
    "alterations": {str(seed): "altered at random" for seed in range(36)},
}
RUNS = 40


@pytest.mark.parametrize("corpus", CORPORA.values(), ids=CORPORA)
def test_a_sample_includes_at_least_a_third_of_each_kind(corpus: dict[str, str]) -> None:
    members = Counter(corpus.values())
    for seed in range(RUNS):
        chosen = Counter(corpus[member] for member in sample(corpus, seed))

        assert chosen.keys() == members.keys()
        assert all(chosen[kind] >= SHARE * count for kind, count in members.items())


@pytest.mark.parametrize("corpus", CORPORA.values(), ids=CORPORA)
def test_repeated_samples_cover_the_whole_corpus(corpus: dict[str, str]) -> None:
    assert set().union(*(sample(corpus, seed) for seed in range(RUNS))) == corpus.keys()


def test_a_sample_depends_on_the_seed_and_not_on_the_order() -> None:
    backwards = dict(reversed(KIND_OF.items()))

    assert sample(KIND_OF, 7) == sample(backwards, 7)
    assert sample(KIND_OF, 7) != sample(KIND_OF, 8)


def test_every_input_has_a_kind() -> None:
    assert KIND_OF.keys() == {one.id for one in INPUTS}


def test_each_hand_written_hostile_file_is_its_own_kind() -> None:
    kinds = Counter(hostile.kind for hostile in HOSTILE.values())

    assert sum(count == 1 for count in kinds.values()) >= 50

"""Random requests for resumable uploads, at any server, on stores that fail or are slow.

The model is what clients know: the bytes they sent, and the offsets they were told. Time is virtual, so locks
expire and requests overlap with the constants of the product.
"""

import argparse
import asyncio
import logging
from collections.abc import Mapping, Sequence

import pytest
import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, rule, run_state_machine_as_test

from backend.core.uploads import part_writer as parts
from backend.core.uploads.resumable import concatenation
from tests.core.store.unsteady_store import NONE, Trouble
from tests.core.uploads.upload_lab import PART
from tests.core.uploads.upload_model import SERVERS, How, Sent, World

TROUBLES = st.one_of(
    st.just(NONE), st.dictionaries(st.integers(0, 30), st.sampled_from(Trouble), min_size=1, max_size=2)
)
SERVER = st.integers(0, SERVERS - 1)
SIZES = st.sampled_from([1, PART - 1, PART, PART + 1, 3 * PART, 5 * PART + 3, 9 * PART])


class Uploading(RuleBasedStateMachine):
    """Clients, servers, and two buckets."""

    uploads = Bundle("uploads")

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @rule(target=uploads, size=SIZES, says_length=st.booleans(), partial=st.booleans(), server=SERVER)
    def create(self, size: int, says_length: bool, partial: bool, server: int) -> Sent:
        return self.world.run(self.world.create(server, size, says_length, partial))

    @rule(target=uploads, size=SIZES, server=SERVER)
    def send_a_piece(self, size: int, server: int) -> Sent:
        piece = self.world.run(self.world.create(server, size, True, True))
        self.world.run(self.world.patch(piece, server, How(amount=size)))
        return piece

    @rule(
        upload=uploads,
        server=SERVER,
        how=st.builds(
            How,
            amount=st.integers(0, 10 * PART),
            piece=st.integers(1, 3 * PART),
            pause=st.sampled_from([0.0, 0.0, 0.4, 3.0]),
            breaks=st.booleans(),
            checksum=st.sampled_from(["none", "none", "right", "wrong"]),
            off_by=st.sampled_from([0, 0, 0, 0, -1, 1, 7]),
            says_length=st.booleans(),
        ),
        troubles=TROUBLES,
        meanwhile=st.lists(
            st.tuples(st.sampled_from([0.1, 1.0, 3.0, 10.0]), SERVER, st.sampled_from(["head", "patch"])),
            max_size=2,
        ),
    )
    def patch(
        self,
        upload: Sent,
        server: int,
        how: How,
        troubles: Mapping[int, Trouble],
        meanwhile: Sequence[tuple[float, int, str]],
    ) -> None:
        self.world.trouble(server, troubles)
        self.world.run(self.world.patch_and_others(upload, server, meanwhile, how))

    @rule(upload=uploads, server=SERVER, troubles=TROUBLES)
    def head(self, upload: Sent, server: int, troubles: Mapping[int, Trouble]) -> None:
        self.world.trouble(server, troubles)
        self.world.run(self.world.head(upload, server))

    @rule(
        uploads=st.lists(uploads, min_size=1, max_size=4),
        only_pieces=st.integers(0, 5),
        server=SERVER,
        troubles=TROUBLES,
        rival=st.one_of(st.none(), SERVER),
    )
    def concatenate(
        self,
        uploads: list[Sent],
        only_pieces: int,
        server: int,
        troubles: Mapping[int, Trouble],
        rival: int | None,
    ) -> None:
        pieces = [one for one in uploads if one.is_piece] if only_pieces else uploads
        if not pieces:
            return
        self.world.trouble(server, troubles)
        if rival is not None:
            self.world.unsettle()
        self.world.run(self.world.concatenate_at(pieces, [server] if rival is None else [server, rival]))

    @rule(upload=uploads, server=SERVER, troubles=TROUBLES)
    def terminate(self, upload: Sent, server: int, troubles: Mapping[int, Trouble]) -> None:
        self.world.trouble(server, troubles)
        self.world.run(self.world.terminate(upload, server))

    @rule(seconds=st.sampled_from([1.0, 5.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.world.run(asyncio.sleep(seconds))

    def teardown(self) -> None:
        self.world.close()


def explore(examples: int, steps: int) -> None:
    """Run `examples` random sequences of up to `steps` requests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(concatenation, "COPY_PART_BYTES", 40)
        patch.setattr(parts, "SMALLEST_PART_BYTES", PART)
        patch.setattr(parts, "MIB", 1)
        run_state_machine_as_test(
            Uploading,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                # a step is one or more requests, with all their calls to the store
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            ),
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.core.uploads.upload_machine", description=__doc__)
    parser.add_argument("--examples", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    explore(arguments.examples, arguments.steps)


if __name__ == "__main__":
    main()

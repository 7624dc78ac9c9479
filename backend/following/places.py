"""How many may follow at a time: each keeps a connection that cannot be closed to make room for others."""

from collections.abc import Iterator
from contextlib import contextmanager

from backend.core.errors import TooManyFollowers

MAX_FOLLOWERS = 1000
MAX_GUESTS = MAX_FOLLOWERS // 2
"""Those who have not signed in must not take all places."""


class FollowerPlaces:
    """Counts the connections of this process."""

    def __init__(self) -> None:
        self._taken = 0

    def require(self, *, is_guest: bool) -> None:
        """Raises: TooManyFollowers: no place is free."""
        if self._taken >= (MAX_GUESTS if is_guest else MAX_FOLLOWERS):
            raise TooManyFollowers

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place for the duration of the block."""
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

"""Property: whatever requests change a person at once, and in whatever order, no restriction is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.core.access.people import People, PersonEdit, Role, token_id_of
from backend.core.errors import PersonNotFound
from tests.lab.memory_store import MemoryStore

CHANGES: dict[str, Callable[[People, str], Awaitable[object]]] = {
    "rename": lambda people, person: people.edit(person, PersonEdit(name="Anna B.")),
    "restrict": lambda people, person: people.edit(person, PersonEdit(role=Role.VIEWER)),
    "renew": lambda people, person: people.issue_token(person),
    "revoke": lambda people, person: people.revoke(person),
}
"""Each waits for the store several times, and so meets the others at different points."""
SOME = st.lists(st.tuples(st.sampled_from(sorted(CHANGES)), st.integers(0, 12)), min_size=2, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(SOME)
def test_changes_at_once_lose_no_restriction(changes: list[tuple[str, int]]) -> None:
    asyncio.run(_apply(changes))


async def _apply(changes: list[tuple[str, int]]) -> None:
    people = People(MemoryStore(), lambda: 1_800_000_000.0)
    person = (await people.add("Anna", Role.ADMIN)).id
    old_token = token_id_of(await people.issue_token(person))
    done = set[str]()

    async def change(kind: str, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        with suppress(PersonNotFound):  # somebody has revoked them first
            await CHANGES[kind](people, person)
            done.add(kind)

    await asyncio.gather(*(change(kind, turns) for kind, turns in changes))

    found = await people.find(person)
    assert found is not None
    assert found.revoked == ("revoke" in done)
    if "restrict" in done:
        assert found.role is Role.VIEWER
    if "rename" in done:
        assert found.name == "Anna B."
    if done & {"renew", "revoke"}:
        assert await people.holder_of(old_token) is None

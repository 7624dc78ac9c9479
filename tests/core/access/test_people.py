"""People, their tokens and roles: withdrawn access stays withdrawn, whatever happens at the same time."""

import asyncio

import pytest

from backend.core import keys
from backend.core.access.admin_token import AdminToken
from backend.core.access.codes import AccessCodes
from backend.core.access.people import People, PersonEdit, Role, is_token, token_id_of
from backend.core.access.principals import CACHED_SECONDS, Principal, Principals
from backend.core.access.rights import Right, RightKind
from backend.core.access.sessions import Sessions
from backend.core.access.signing_keys import SigningKeys
from backend.core.access.upload_links import UploadLinks
from backend.core.errors import PersonNotFound
from backend.core.records import Visibility
from tests.lab.memory_store import MemoryStore


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def people(store: MemoryStore, clock: Clock) -> People:
    return People(store, clock)


@pytest.fixture
async def sessions(store: MemoryStore, clock: Clock) -> Sessions:
    signing_keys = SigningKeys(store)
    await signing_keys.reload()
    return Sessions(store, signing_keys, 3600, clock)


@pytest.fixture
async def principals(store: MemoryStore, people: People, sessions: Sessions, clock: Clock) -> Principals:
    signing_keys = SigningKeys(store)
    await signing_keys.reload()
    admin, links = AdminToken("a-token-for-tests", signing_keys), UploadLinks(store, clock)
    return Principals(admin, sessions, people, AccessCodes(store, clock), links, clock)


def _right(token: str) -> Right:
    return Right(RightKind.TOKEN, token_id_of(token))


async def test_a_token_stands_for_its_person(people: People, principals: Principals) -> None:
    anna = await people.add("Anna", Role.UPLOADER)
    token = await people.issue_token(anna.id)

    assert is_token(token)
    assert await principals.of(_right(token)) == Principal(_right(token), Role.UPLOADER, anna.id)
    assert await principals.of(_right(token[:-1] + "!")) is None


async def test_a_new_token_replaces_the_others_and_ends_their_sessions(
    people: People, principals: Principals, sessions: Sessions
) -> None:
    anna, ben = [await people.add(name, Role.VIEWER) for name in ("Anna", "Ben")]
    old, others = await people.issue_token(anna.id), await people.issue_token(ben.id)
    session = Right(RightKind.SESSION, sessions.id_of(await sessions.begin(token_id_of(old), anna.id)) or "")
    assert await principals.of(session)

    new = await people.issue_token(anna.id)
    principals.forget_all()

    assert [bool(await principals.of(_right(token))) for token in (old, new, others)] == [False, True, True]
    assert await principals.of(session) is None


async def test_who_is_revoked_is_out_within_seconds_and_stays_out(
    people: People, principals: Principals, sessions: Sessions, clock: Clock
) -> None:
    anna = await people.add("Anna", Role.ADMIN)
    by_token = _right(await people.issue_token(anna.id))
    by_service = Right(RightKind.SESSION, sessions.id_of(await sessions.begin("", anna.id)) or "")
    assert await principals.of(by_token)
    assert await principals.of(by_service)

    await people.revoke(anna.id)
    clock.now += CACHED_SECONDS

    assert await principals.of(by_token) is None
    assert await principals.of(by_service) is None
    with pytest.raises(PersonNotFound):
        await people.issue_token(anna.id)
    with pytest.raises(PersonNotFound):
        await people.edit(anna.id, PersonEdit(role=Role.ADMIN))


async def test_of_changes_at_the_same_time_none_is_lost(people: People) -> None:
    anna = await people.add("Anna", Role.ADMIN)

    await asyncio.gather(
        people.edit(anna.id, PersonEdit(name="Anna B.")),
        people.edit(anna.id, PersonEdit(role=Role.VIEWER)),
        people.revoke(anna.id),
        return_exceptions=True,
    )

    found = await people.find(anna.id)
    assert found is not None
    assert found.revoked


async def test_a_person_whom_this_version_cannot_read_does_not_count(
    people: People, principals: Principals, store: MemoryStore
) -> None:
    anna = await people.add("Anna", Role.ADMIN)
    token = await people.issue_token(anna.id)
    await store.create(keys.person(anna.id, 2), b'{"schema_version": 2}')

    assert await principals.of(_right(token)) is None


async def test_the_bucket_holds_no_tokens(people: People, store: MemoryStore) -> None:
    token = await people.issue_token((await people.add("Anna", Role.VIEWER)).id)

    stored = [info.key for info in (await store.list_page("")).objects]
    assert token.encode() not in b"".join([key.encode() + (await store.get(key)).body for key in stored])


@pytest.mark.parametrize(
    ("role", "sees", "manages"),
    [
        (Role.ADMIN, {"own", "private", "internal", "public"}, {"own", "private", "internal", "public"}),
        (Role.UPLOADER, {"own", "internal", "public"}, {"own"}),
        (Role.VIEWER, {"own", "internal", "public"}, set()),
    ],
)
def test_roles_decide_what_one_sees_and_manages(role: Role, sees: set[str], manages: set[str]) -> None:
    person = Principal(Right(RightKind.TOKEN), role, "me")
    videos = {
        "own": ("me", Visibility.PRIVATE),
        **{visibility.value: ("somebody", visibility) for visibility in Visibility},
    }
    assert {name for name, video in videos.items() if person.sees(*video)} == sees
    assert {name for name, (owner, _) in videos.items() if person.manages(owner)} == manages
    assert person.manages(None) == (role is Role.ADMIN)

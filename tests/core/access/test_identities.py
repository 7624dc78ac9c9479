"""Accounts of the sign-in service: one person each, whatever happens at the same time or in between."""

import asyncio

import pytest

from backend.core import keys
from backend.core.access.identities import Account, Identities
from backend.core.access.people import People, Role
from backend.core.errors import AccountRefused, PersonExists
from tests.lab.memory_store import MemoryStore

ISSUER = "https://accounts.example"
ANNA = Account("a1", "Anna", "anna@example.org")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def people(store: MemoryStore) -> People:
    return People(store, lambda: 1_800_000_000.0)


@pytest.fixture
def identities(store: MemoryStore, people: People) -> Identities:
    return Identities(store, people, ISSUER)


async def test_an_account_that_signs_in_twice_at_once_is_one_person(
    identities: Identities, people: People
) -> None:
    signed_in = await asyncio.gather(*(identities.person_of(ANNA, Role.VIEWER) for _ in range(5)))
    assert len({person.id for person in signed_in}) == len(await people.all()) == 1


async def test_a_sign_in_that_was_killed_half_way_is_finished_by_the_next(
    identities: Identities, people: People, store: MemoryStore
) -> None:
    first = await identities.person_of(ANNA, Role.VIEWER)
    await store.delete(keys.person(first.id, 1))  # killed after it had claimed the account
    with pytest.raises(AccountRefused):
        await identities.person_of(ANNA, None)
    assert (await identities.person_of(ANNA, Role.VIEWER)).id == first.id

    bert = Account("b1", "Bert", "Bert@example.org")
    invited = await identities.add("Bert", Role.UPLOADER, "bert@example.org")
    assert await identities._claim(bert.subject, invited.id) == invited.id  # and killed
    assert (await identities.person_of(bert, None)).id == invited.id


async def test_subjects_of_two_providers_are_two_people(
    identities: Identities, people: People, store: MemoryStore
) -> None:
    first = await identities.person_of(ANNA, Role.VIEWER)
    other = await Identities(store, people, "https://other.example").person_of(ANNA, Role.VIEWER)
    assert other.id != first.id
    assert (await Identities(store, people, ISSUER + "/").person_of(ANNA, None)).id == first.id


async def test_an_address_belongs_to_the_first_account_that_has_it(identities: Identities) -> None:
    invited = await identities.add("Anna", Role.UPLOADER, "Anna@Example.org")
    with pytest.raises(AccountRefused):
        await identities.person_of(Account("m1", "Mallory", None), None)
    assert (await identities.person_of(ANNA, None)).id == invited.id
    heir = Account("h1", "Heir", ANNA.email)
    with pytest.raises(AccountRefused):
        await identities.person_of(heir, None)
    moved = Account(ANNA.subject, "Anna Holm", "holm@example.org")
    person = await identities.person_of(moved, None)
    assert (person.id, person.name, person.role) == (invited.id, "Anna Holm", Role.UPLOADER)
    added = await identities.add("Heir", Role.VIEWER, "anna@example.org")
    assert (await identities.person_of(heir, None)).id == added.id


async def test_of_two_accounts_that_have_an_address_at_once_one_gets_the_person(
    identities: Identities,
) -> None:
    invited = await identities.add("Anna", Role.UPLOADER, "anna@example.org")
    accounts = [Account(f"a{number}", "Anna", "anna@example.org") for number in range(5)]
    outcomes = await asyncio.gather(
        *(identities.person_of(account, None) for account in accounts), return_exceptions=True
    )
    assert [one.id for one in outcomes if not isinstance(one, BaseException)] == [invited.id]


async def test_a_revoked_person_is_refused_until_an_administrator_adds_them_again(
    identities: Identities, people: People
) -> None:
    person = await identities.person_of(ANNA, Role.UPLOADER)
    with pytest.raises(PersonExists):
        await identities.add("Anna", Role.ADMIN, ANNA.subject)
    await people.revoke(person.id)
    with pytest.raises(AccountRefused):
        await identities.person_of(ANNA, Role.UPLOADER)
    again = await identities.add("Anna", Role.VIEWER, ANNA.subject)
    assert (await identities.person_of(ANNA, Role.UPLOADER)).id == again.id != person.id


async def test_who_was_revoked_before_they_first_signed_in_stays_out(
    identities: Identities, people: People
) -> None:
    invited = await identities.add("Anna", Role.UPLOADER, "anna@example.org")
    await people.revoke(invited.id)
    with pytest.raises(AccountRefused):
        await identities.person_of(ANNA, Role.VIEWER)


async def test_a_subject_that_looks_like_an_address_is_not_that_address(identities: Identities) -> None:
    invited = await identities.add("Boss", Role.ADMIN, "boss@example.org")
    imposter = Account("boss@example.org", "Imposter", None)

    with pytest.raises(AccountRefused):
        await identities.person_of(imposter, None)
    assert (await identities.person_of(imposter, Role.VIEWER)).id != invited.id

    boss = Account("b1", "Boss", "boss@example.org")
    assert (await identities.person_of(boss, None)).id == invited.id

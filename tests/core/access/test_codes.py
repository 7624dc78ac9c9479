"""Access codes: kept as hashes, never given out twice, and opening what their maker manages."""

import asyncio
from datetime import UTC, datetime

import pytest

from backend.core import keys
from backend.core.access.admin_token import AdminToken
from backend.core.access.codes import AccessCodes, CodeItem, ListedCode, MediaType, made_up
from backend.core.access.people import People, PersonEdit, Role
from backend.core.access.principals import Media, Principals
from backend.core.access.rights import Right, RightKind
from backend.core.access.sessions import Sessions
from backend.core.access.signing_keys import SigningKeys
from backend.core.access.upload_links import UploadLinks
from backend.core.errors import AccessCodeNotFound, AccessCodeTaken
from tests.lab.memory_store import MemoryStore

NOW = 1_800_000_000.0
VIDEO = Media(MediaType.VIDEO, "a-video", owner=None)
ITEMS = (CodeItem(media_type=MediaType.VIDEO, media_slug="a-video", id="a-video"),)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def codes(store: MemoryStore) -> AccessCodes:
    return AccessCodes(store, lambda: NOW)


@pytest.fixture
def people(store: MemoryStore) -> People:
    return People(store, lambda: NOW)


@pytest.fixture
def principals(store: MemoryStore, people: People, codes: AccessCodes) -> Principals:
    signing_keys = SigningKeys(store)
    sessions = Sessions(store, signing_keys, 3600, lambda: NOW)
    admin, links = AdminToken("a-token-for-tests", signing_keys), UploadLinks(store, lambda: NOW)
    return Principals(admin, sessions, people, codes, links, lambda: NOW)


async def _made(codes: AccessCodes, code: str | None = None, owner: str | None = None) -> ListedCode:
    return await codes.make(code or made_up(), owner=owner, media_items=ITEMS)


async def _opens(principals: Principals, code_id: str, media: Media = VIDEO) -> bool:
    principals.forget_all()
    opening = await principals.opening(code_id)
    return opening is not None and opening.opens(media)


@pytest.mark.parametrize("code", [made_up(), "summer party"], ids=["made up", "chosen"])
async def test_the_bucket_holds_neither_code_nor_passphrase(
    store: MemoryStore, codes: AccessCodes, code: str
) -> None:
    listed = await codes.make(code, owner=None, media_items=ITEMS, passphrase="open sesame")

    assert await codes.id_of(code) == listed.id
    assert listed.record.passphrase is not None
    assert await codes.is_passphrase("open sesame", listed.record.passphrase)
    assert not await codes.is_passphrase("open barley", listed.record.passphrase)
    async for info in store.list_all(""):
        body = (await store.get(info.key)).body
        assert not any(secret in info.key or secret.encode() in body for secret in (code, "open sesame"))


async def test_a_chosen_code_is_one_code_however_it_is_typed(codes: AccessCodes) -> None:
    composed, decomposed = "été 2026", "e\u0301te\u0301 2026 "
    assert await codes.id_of(composed) == await codes.id_of(decomposed)


async def test_processes_agree_on_the_secret_that_chosen_codes_are_hashed_with(store: MemoryStore) -> None:
    processes = [AccessCodes(store, lambda: NOW) for _ in range(3)]
    assert len(set(await asyncio.gather(*(one.id_of("summer party") for one in processes)))) == 1


async def test_of_two_that_choose_the_same_code_at_once_one_gets_it(codes: AccessCodes) -> None:
    answers = await asyncio.gather(*(_made(codes, "summer party") for _ in range(2)), return_exceptions=True)
    assert sorted(type(answer) for answer in answers if isinstance(answer, Exception)) == [AccessCodeTaken]


async def test_a_withdrawn_code_is_never_given_out_again(codes: AccessCodes, principals: Principals) -> None:
    listed = await _made(codes, "summer party")
    assert await _opens(principals, listed.id)

    await codes.withdraw(listed.id)

    assert not await _opens(principals, listed.id)
    with pytest.raises(AccessCodeTaken):
        await _made(codes, "summer party")
    with pytest.raises(AccessCodeNotFound):
        await codes.withdraw(listed.id)
    assert not await _opens(principals, listed.id)


async def test_a_code_made_while_the_same_one_is_withdrawn_does_not_stand(
    store: MemoryStore, codes: AccessCodes
) -> None:
    """The first look for a withdrawal is before it, and the creation after it."""
    listed = await _made(codes, "summer party")
    create, withdrawing = store.create, codes.withdraw(listed.id)

    async def create_late(key: str, *args: object) -> bool:
        if key == keys.access_code(listed.id):
            await withdrawing
        return await create(key, *args)  # type: ignore[arg-type]  # passed on as they are

    store.create = create_late  # type: ignore[method-assign,assignment]  # the store of this test
    with pytest.raises(AccessCodeTaken):
        await _made(codes, "summer party")
    assert await codes.find(listed.id) is None


async def test_a_code_opens_what_its_maker_manages_now(
    codes: AccessCodes, people: People, principals: Principals
) -> None:
    anna = await people.add("Anna", Role.ADMIN)
    listed = await _made(codes, owner=anna.id)
    others, own = VIDEO, VIDEO._replace(owner=anna.id)
    assert await _opens(principals, listed.id, others)
    assert not await _opens(principals, listed.id, VIDEO._replace(id="another"))
    assert not await _opens(principals, listed.id, VIDEO._replace(type=MediaType.IMAGE))

    await people.edit(anna.id, PersonEdit(role=Role.UPLOADER))
    assert (await _opens(principals, listed.id, others), await _opens(principals, listed.id, own)) == (
        False,
        True,
    )
    await people.edit(anna.id, PersonEdit(role=Role.VIEWER))
    assert not await _opens(principals, listed.id, own)
    await people.edit(anna.id, PersonEdit(role=Role.ADMIN))
    assert await _opens(principals, listed.id, others)
    await people.revoke(anna.id)
    assert not await _opens(principals, listed.id, own)


async def test_a_code_is_nobody_signed_in(codes: AccessCodes, principals: Principals) -> None:
    listed = await _made(codes)
    assert await principals.of(Right(RightKind.CODE, listed.id)) is None


@pytest.mark.parametrize("code_id", ["", "../keys", "0" * 31, "0" * 32])
async def test_what_is_no_id_of_a_code_finds_nothing(codes: AccessCodes, code_id: str) -> None:
    assert await codes.find(code_id) is None


async def test_codes_are_listed_newest_first_and_unreadable_ones_left_out(
    store: MemoryStore, codes: AccessCodes
) -> None:
    first = await _made(codes)
    later = AccessCodes(store, lambda: NOW + 1)
    second = await later.make(
        "summer party", owner=None, media_items=ITEMS, expires_at=datetime.fromtimestamp(NOW, UTC)
    )
    await store.put(keys.access_code("0" * 32), b"of a newer version")
    await store.put(keys.used_access_code(first.id), b"")

    listed = await codes.all()

    assert [one.id for one in listed] == [second.id, first.id]
    assert [one.used_at is not None for one in listed] == [False, True]

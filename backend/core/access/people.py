"""People who may use this server besides the holder of the admin token, and their tokens.

A person is a chain of create-only revisions, each of which builds on the one before: of two changes at once,
neither undoes the other. Nothing un-revokes a person. Tokens are stored as hashes of 256 random bits.
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import structlog
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from backend.core import keys
from backend.core.access.rights import HOLDER_DIGITS
from backend.core.concurrency import gather_or_cancel
from backend.core.errors import BadRequest, ObjectNotFound, PersonExists, PersonNotFound
from backend.core.ids import new_id
from backend.core.names import clean_text
from backend.core.records import Record, RecordUnreadable, new_nonce
from backend.core.store.interface import Store
from backend.core.store.prefixes import keys_below

log = structlog.get_logger(__name__)

MAX_NAME_LENGTH = 100
Name = Annotated[str, Field(max_length=MAX_NAME_LENGTH)]
_TOKEN = re.compile(r"vb_[A-Za-z0-9_-]{43}")


class Role(StrEnum):
    """What a person may do. Each role may also do what the next one may."""

    ADMIN = "admin"
    """Everything."""
    UPLOADER = "uploader"
    """Upload videos, and manage and share their own."""
    VIEWER = "viewer"
    """Watch videos that are internal or public."""

    def includes(self, other: "Role") -> bool:
        roles = list(Role)
        return roles.index(self) <= roles.index(other)


class Person(Record):
    """`people/<id>/<inverted number>`, create-only: a person after a change. The newest one counts."""

    id: str
    name: Name
    role: Role
    subject: str | None = Field(default=None, description="who this is for the sign-in service")
    revoked: bool = False
    created_at: AwareDatetime
    nonce: str = Field(default_factory=new_nonce)


def _printable(name: str) -> str:
    cleaned = clean_text(name)
    if not cleaned:
        raise ValueError("must not be empty")
    return cleaned


GivenName = Annotated[Name, AfterValidator(_printable)]


class PersonEdit(BaseModel):
    """Changes to a person. None leaves a field as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: GivenName | None = None
    role: Role | None = None


class Token(Record):
    """`tokens/<id>`, create-only: whose token this is. Deleting it revokes the token."""

    person: str
    created_at: AwareDatetime


class People:
    """Add, find, change and revoke people. `clock` returns Unix seconds. Nothing is cached here."""

    def __init__(self, video: Store, clock: Callable[[], float]) -> None:
        self._video = video
        self._clock = clock

    async def add(
        self, name: str, role: Role, subject: str | None = None, person_id: str | None = None
    ) -> Person:
        """Raises: PersonExists: there is, or was, a person with this id."""
        person_id = person_id or self.new_id()
        person = Person(id=person_id, name=name, role=role, subject=subject, created_at=self.now())
        if not await self._video.create(keys.person(person_id, 1), person.to_json()):
            raise PersonExists
        return person

    def new_id(self) -> str:
        return new_id(int(self._clock() * 1000))

    async def find(self, person_id: str) -> Person | None:
        """Return the person as last changed, or None. A revoked person is returned too."""
        found = await self._newest(person_id)
        return found and found[1]

    async def all(self) -> list[Person]:
        """Return everyone, the revoked too, in order of creation."""
        ids = dict.fromkeys(
            person for person, _ in keys.ours(keys.parse_person, await keys_below(self._video, keys.PEOPLE))
        )
        found = await gather_or_cancel(self.find(person_id) for person_id in ids)
        return [person for person in found if person is not None]

    async def edit(self, person_id: str, edit: PersonEdit) -> Person:
        """Raises: PersonNotFound: also if the person is revoked."""
        return await self._change(person_id, edit.model_dump(exclude_none=True))

    async def recognise(
        self, person_id: str, subjects: Collection[str | None], subject: str, name: str
    ) -> Person:
        """Save what the sign-in service says about a person, if they have one of these subjects.

        Raises: PersonNotFound: revoked, or of another subject by now.
        """
        return await self._change(person_id, {"subject": subject, "name": name}, subjects)

    async def revoke(self, person_id: str) -> None:
        """End the person's access, for good. Raises: PersonNotFound."""
        await self._change(person_id, {"revoked": True})
        await self._delete_tokens(person_id, kept=None)

    async def issue_token(self, person_id: str) -> str:
        """Return a new token, which replaces the person's others. Raises: PersonNotFound."""
        person = await self.find(person_id)
        if person is None or person.revoked:
            raise PersonNotFound
        token = f"vb_{secrets.token_urlsafe(32)}"
        token_id = token_id_of(token)
        record = Token(person=person_id, created_at=self.now())
        await self._video.create(keys.token(token_id), record.to_json())
        await self._delete_tokens(person_id, kept=token_id)
        return token

    async def holder_of(self, token_id: str) -> str | None:
        """Return the id of the person whose token this is, or None if there is no such token."""
        try:
            return Token.from_json((await self._video.get(keys.token(token_id))).body).person
        except ObjectNotFound:
            return None
        except RecordUnreadable as error:
            log.warning("record_unreadable", key=keys.token(token_id), error=error.message)
            return None

    async def _delete_tokens(self, person_id: str, kept: str | None) -> None:
        for key in await keys_below(self._video, keys.TOKENS):
            token_id = key.removeprefix(keys.TOKENS)
            if token_id != kept and await self.holder_of(token_id) == person_id:
                await self._video.delete(key)

    async def _change(
        self, person_id: str, changes: dict[str, object], subjects: Collection[str | None] | None = None
    ) -> Person:
        while True:
            found = await self._newest(person_id)
            if found is None or found[1].revoked:
                raise PersonNotFound
            number, person = found
            if subjects is not None and person.subject not in subjects:
                raise PersonNotFound
            changed = person.replace(**changes)
            if changed == person:
                return person
            changed = changed.replace(nonce=new_nonce())
            if await self._video.create(keys.person(person_id, number + 1), changed.to_json()):
                return changed

    async def _newest(self, person_id: str) -> tuple[int, Person] | None:
        page = await self._video.list_page(keys.revisions_of_person(person_id), limit=1)
        for info in page.objects:
            try:
                _, number = keys.parse_person(info.key)
                return number, Person.from_json((await self._video.get(info.key)).body)
            except (BadRequest, RecordUnreadable) as error:
                # What cannot be read might revoke the person.
                log.warning("record_unreadable", key=info.key, error=error.message)
        return None

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def is_token(text: str) -> bool:
    """Return whether this may be the token of a person, so that it is worth asking the store."""
    return _TOKEN.fullmatch(text) is not None


def token_id_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()[:HOLDER_DIGITS]

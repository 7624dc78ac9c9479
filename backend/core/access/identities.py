"""Which person an account at the sign-in service is.

An account is known by its subject (OpenID Connect Core section 2, `sub`), which never changes. Administrators
may also add a person by an email address: the first account for which the service has verified it becomes
that person, who is known by the account's subject from then on. `identities/<id>` is create-only and written
before the person, so an account never gets two people.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace

from pydantic import AwareDatetime, Field

from backend.core import keys
from backend.core.access.people import People, Person, Role
from backend.core.access.rights import HOLDER_DIGITS
from backend.core.errors import AccountRefused, ObjectNotFound, PersonExists, PersonNotFound
from backend.core.records import Record
from backend.core.store.interface import Store

MAX_SUBJECT_LENGTH = 255
"""Section 2; addresses of mail are shorter."""


@dataclass(frozen=True, slots=True)
class Account:
    """What the sign-in service says about who signs in."""

    subject: str
    name: str
    email: str | None
    """Only if the service has verified it."""


class Identity(Record):
    """`identities/<id>`, create-only: the person of an account. The id is a hash of issuer and subject."""

    issuer: str
    subject: str = Field(description="`sub`, or an email address in lower case")
    person: str
    created_at: AwareDatetime


class Identities:
    """Finds and adds people by their accounts at one issuer."""

    def __init__(self, video: Store, people: People, issuer: str) -> None:
        self._video = video
        self._people = people
        self._issuer = issuer.rstrip("/")

    async def add(self, name: str, role: Role, subject: str) -> Person:
        """Add a person who may sign in with this subject, or with this verified email address.

        Raises: PersonExists: and their access was not revoked.
        """
        subject = _normal(subject)
        known = await self._find(subject)
        person = await self._people.find(known) if known else None
        if person is not None and (person.revoked or person.subject != subject):
            await self._video.delete(self._key(subject))
        return await self._people.add(name, role, subject, await self._claim(subject))

    async def person_of(self, account: Account, role_of_new: Role | None) -> Person:
        """Return whose account this is. Without a role for new people, only those who were added are let in.

        Raises: AccountRefused: also if their access was revoked.
        """
        if "@" in account.subject:  # it looks like an address, and proves none
            account = replace(account, subject=f"sub {account.subject}")
        person_id = await self._find(account.subject) or await self._invited(account)
        if person_id is None and role_of_new is not None:
            person_id = await self._claim(account.subject)
        if person_id is None:
            raise AccountRefused
        if role_of_new is not None and await self._people.find(person_id) is None:
            await self._add_once(account, role_of_new, person_id)
        subjects = (account.subject, account.email and _normal(account.email))
        try:
            return await self._people.recognise(person_id, subjects, account.subject, account.name)
        except PersonNotFound:
            raise AccountRefused from None

    async def _invited(self, account: Account) -> str | None:
        """Return who was added by this account's address, unless another account came first."""
        subject = account.email and _normal(account.email)
        person_id = await self._find(subject) if subject else None
        person = await self._people.find(person_id) if person_id else None
        if person is None or person.subject != subject:
            return None
        return await self._claim(account.subject, person.id)

    async def _add_once(self, account: Account, role: Role, person_id: str) -> None:
        """Another request may do the same, or an earlier one was killed after it had claimed the account."""
        with suppress(PersonExists):
            await self._people.add(account.name, role, account.subject, person_id)

    async def _claim(self, subject: str, person_id: str | None = None) -> str:
        """Return the person's id that is stored for this subject: this one, if there was none."""
        person_id = person_id or self._people.new_id()
        identity = Identity(
            issuer=self._issuer, subject=subject, person=person_id, created_at=self._people.now()
        )
        if await self._video.create(self._key(subject), identity.to_json()):
            return person_id
        return await self._find(subject) or person_id

    async def _find(self, subject: str) -> str | None:
        try:
            return Identity.from_json((await self._video.get(self._key(subject))).body).person
        except ObjectNotFound:
            return None

    def _key(self, subject: str) -> str:
        digest = hashlib.sha256(f"{self._issuer}\0{subject}".encode()).hexdigest()
        return keys.identity(digest[:HOLDER_DIGITS])


def _normal(subject: str) -> str:
    return subject.lower() if "@" in subject else subject

"""Who sends a request, and what they may see and change."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from backend.core.access.admin_token import AdminToken
from backend.core.access.codes import AccessCode, AccessCodes, MediaType
from backend.core.access.people import People, Role
from backend.core.access.rights import Right, RightKind
from backend.core.access.sessions import Sessions
from backend.core.access.upload_links import FINISH_SECONDS, UploadLinks
from backend.core.recent_reads import RecentReads
from backend.core.records import Visibility

CACHED_SECONDS = 10.0
"""How long a session, token or person that another process revoked still counts in this one."""
CACHED_PRINCIPALS = 4096


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sends a request: a person, or the holder of the admin token, and under which right."""

    right: Right
    role: Role
    person: str | None = None
    """None: the holder of the admin token."""
    expires_unix: float = math.inf

    @property
    def link(self) -> str | None:
        """The id of the upload link under which a guest uploads for this person, and may do nothing else."""
        return self.right.holder if self.right.kind is RightKind.LINK else None

    def sees(self, owner: str | None, visibility: Visibility) -> bool:
        """Return whether they may watch a video with this owner and visibility."""
        if self.link is not None:
            return False
        return self._is_owner(owner) or visibility is not Visibility.PRIVATE or self.role is Role.ADMIN

    def manages(self, owner: str | None) -> bool:
        """Return whether they may change, share and delete what this person owns."""
        return self.role is Role.ADMIN or (self._is_owner(owner) and self.role.includes(Role.UPLOADER))

    def _is_owner(self, owner: str | None) -> bool:
        return owner is not None and owner == self.person and self.link is None


class Media(NamedTuple):
    """A video or image, and whose it is."""

    type: MediaType
    id: str
    owner: str | None


@dataclass(frozen=True, slots=True)
class Opening:
    """What an access code opens, as long as the person who made it manages that."""

    right: Right
    code: AccessCode
    maker: Principal
    expires_unix: float

    def opens(self, media: Media) -> bool:
        named = any((item.media_type, item.id) == media[:2] for item in self.code.media_items)
        return named and self.maker.manages(media.owner)


class Principals:
    """Finds who holds a right, from what this process read in the last seconds. `clock` returns seconds."""

    def __init__(
        self,
        admin: AdminToken,
        sessions: Sessions,
        people: People,
        codes: AccessCodes,
        links: UploadLinks,
        clock: Callable[[], float],
    ) -> None:
        self._admin = admin
        self._sessions = sessions
        self._people = people
        self._codes = codes
        self._links = links
        self._clock = clock
        self._recent = RecentReads(
            self._find, seconds=CACHED_SECONDS, capacity=CACHED_PRINCIPALS, clock=clock
        )

    async def of(self, right: Right) -> Principal | None:
        """Return who holds this right now, or None if it has ended or belongs to nobody in particular."""
        found = await self.holder(right)
        return found if isinstance(found, Principal) else None

    async def opening(self, code_id: str) -> Opening | None:
        """Return what this code opens now, or None: it, or its maker's access, has ended or never was."""
        found = await self.holder(Right(RightKind.CODE, code_id))
        return found if isinstance(found, Opening) else None

    async def holder(self, right: Right) -> Principal | Opening | None:
        """Return what `of` or `opening` do."""
        return self._unexpired(await self._recent.get(right))

    def peek(self, right: Right) -> Principal | Opening | None:
        """Return whom a recent read found, or None without waiting."""
        return self._unexpired(self._recent.peek(right))

    def lasting(self, right: Right) -> Right:
        """Return the right as grants and sessions keep it: that of the admin token then names the token.

        Raises: StoreUnavailable: there is no signing key yet. Requests do not need one to use the token.
        """
        is_admin = right.kind is RightKind.ADMIN
        return Right(RightKind.ADMIN, self._admin.fingerprint()) if is_admin else right

    def forget_all(self) -> None:
        """Look again at the next requests: this process has changed a session, token, person or code."""
        self._recent.forget_all()

    def _unexpired(self, found: Principal | Opening | None) -> Principal | Opening | None:
        return found if found is not None and self._clock() < found.expires_unix else None

    async def _find(self, right: Right) -> Principal | Opening | None:
        match right.kind:
            case RightKind.ADMIN:
                return Principal(right, Role.ADMIN) if self._admin.made(right.holder) else None
            case RightKind.TOKEN:
                return await self._person(right, await self._people.holder_of(right.holder))
            case RightKind.SESSION:
                return await self._signed_in(right)
            case RightKind.CODE:
                return await self._opened(right)
            case RightKind.LINK:
                return await self._guest(right)
        return None

    async def _opened(self, right: Right) -> Opening | None:
        code = await self._codes.find(right.holder)
        if code is None:
            return None
        maker = Principal(right, Role.ADMIN) if code.owner is None else await self._person(right, code.owner)
        expires_unix = math.inf if code.expires_at is None else code.expires_at.timestamp()
        return None if maker is None else Opening(right, code, maker, expires_unix)

    async def _signed_in(self, right: Right) -> Principal | None:
        session = await self._sessions.find(right.holder)
        if session is None:
            return None
        expires_unix = session.expires_at.timestamp()
        if session.person is None:
            stands = self._admin.made(session.made_with)
            return Principal(right, Role.ADMIN, None, expires_unix) if stands else None
        if session.made_with and await self._people.holder_of(session.made_with) != session.person:
            return None
        return await self._person(right, session.person, expires_unix)

    async def _guest(self, right: Right) -> Principal | None:
        link = await self._links.find(right.holder)
        if link is None:
            return None
        expires_unix = link.expires_at.timestamp() + FINISH_SECONDS
        if link.owner is None:
            return Principal(right, Role.UPLOADER, None, expires_unix)
        owner = await self._person(right, link.owner, expires_unix)
        if owner is None or not owner.role.includes(Role.UPLOADER):
            return None
        return replace(owner, role=Role.UPLOADER)

    async def _person(
        self, right: Right, person_id: str | None, expires_unix: float = math.inf
    ) -> Principal | None:
        person = await self._people.find(person_id) if person_id else None
        if person is None or person.revoked:
            return None
        return Principal(right, person.role, person.id, expires_unix)

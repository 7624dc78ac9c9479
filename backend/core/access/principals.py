"""Who sends a request, and what they may see and change."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from backend.core.access.admin_token import AdminToken
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


class Principals:
    """Finds who holds a right, from what this process read in the last seconds. `clock` returns seconds."""

    def __init__(
        self,
        admin: AdminToken,
        sessions: Sessions,
        people: People,
        links: UploadLinks,
        clock: Callable[[], float],
    ) -> None:
        self._admin = admin
        self._sessions = sessions
        self._people = people
        self._links = links
        self._clock = clock
        self._recent = RecentReads(
            self._find, seconds=CACHED_SECONDS, capacity=CACHED_PRINCIPALS, clock=clock
        )

    async def of(self, right: Right) -> Principal | None:
        """Return who holds this right now, or None if it has ended or belongs to nobody in particular."""
        return self._unexpired(await self._recent.get(right))

    def peek(self, right: Right) -> Principal | None:
        """Return whom a recent read found, or None without waiting."""
        return self._unexpired(self._recent.peek(right))

    def forget_all(self) -> None:
        """Look again at the next requests: this process has changed a session, token or person."""
        self._recent.forget_all()

    def _unexpired(self, principal: Principal | None) -> Principal | None:
        return principal if principal is not None and self._clock() < principal.expires_unix else None

    async def _find(self, right: Right) -> Principal | None:
        match right.kind:
            case RightKind.ADMIN:
                return Principal(right, Role.ADMIN) if self._admin.made(right.holder) else None
            case RightKind.TOKEN:
                return await self._person(right, await self._people.holder_of(right.holder))
            case RightKind.SESSION:
                return await self._signed_in(right)
            case RightKind.LINK:
                return await self._guest(right)
        return None

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

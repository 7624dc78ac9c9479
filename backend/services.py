"""What request handlers are handed: built once at start from settings and the opened buckets."""

from collections.abc import Callable
from dataclasses import dataclass

from litestar.datastructures import State
from litestar.di import NamedDependency

from backend.auth import Authenticator
from backend.core.patience import patient
from backend.core.settings import ApiSettings
from backend.core.store import Buckets, PresignedGet
from backend.frontend import Site
from backend.grants import Grants, Sessions
from backend.playback import PlaybackIndex


@dataclass(frozen=True, slots=True)
class Services:
    settings: ApiSettings
    buckets: Buckets
    uploads: Buckets
    """The same buckets, for uploads: they ride out a store that is away."""
    authenticator: Authenticator
    sessions: Sessions
    grants: Grants
    playback: PlaybackIndex
    site: Site
    clock: Callable[[], float]
    """Unix seconds."""

    @classmethod
    def build(cls, settings: ApiSettings, buckets: Buckets, clock: Callable[[], float]) -> "Services":
        secret = settings.admin_token.get_secret_value()
        media_url = buckets.video.presign_get("origin", PresignedGet(expires_seconds=1))
        sessions = Sessions(secret, settings.session_ttl_seconds, clock)
        return cls(
            settings=settings,
            buckets=buckets,
            uploads=patient(buckets, settings.store_patience_seconds),
            authenticator=Authenticator(secret, sessions, settings.cors_origins),
            sessions=sessions,
            grants=Grants(secret, settings.grant_ttl_seconds, clock),
            playback=PlaybackIndex(buckets),
            site=Site(settings.site_dir, media_url),
            clock=clock,
        )


FromServices = NamedDependency[Services]
"""The type of a handler's parameter `services`."""


async def provide_services(state: State) -> Services:
    services: Services = state.services
    return services

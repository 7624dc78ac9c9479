"""The services that handlers receive, built once at startup from the settings and the open buckets."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from litestar.datastructures import State
from litestar.di import NamedDependency

from backend.core.settings import ApiSettings
from backend.core.store.interface import Buckets, PresignedGet
from backend.core.store.retrying import with_retries
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.quota import Quota, UploadRules
from backend.core.uploads.resumable.service import ResumableUploads
from backend.core.uploads.resumptions import Resumptions
from backend.playback.grants import Grants
from backend.playback.index import PlaybackIndex
from backend.web.auth import Authenticator, Sessions
from backend.web.readiness import Readiness
from backend.web.static_files import Site


@dataclass(frozen=True, slots=True)
class Services:
    settings: ApiSettings
    buckets: Buckets
    retrying_buckets: Buckets
    """The same buckets, for uploads: requests are retried while the store is unavailable."""
    buffers: PartBuffers
    """Memory shared by all uploads."""
    quota: Quota
    resumable: ResumableUploads
    resumptions: Resumptions
    authenticator: Authenticator
    sessions: Sessions
    grants: Grants
    playback: PlaybackIndex
    site: Site
    readiness: Readiness
    clock: Callable[[], float]
    """Unix seconds."""

    @classmethod
    def build(cls, settings: ApiSettings, buckets: Buckets, clock: Callable[[], float]) -> "Services":
        secret = settings.admin_token.get_secret_value()
        media_url = buckets.video.presign_get("origin", PresignedGet(expires_seconds=1))
        retrying = with_retries(buckets, settings.store_patience_seconds)
        buffers = PartBuffers(settings.upload_memory_bytes)
        quota = Quota(settings.max_open_uploads, settings.max_raw_bytes)
        rules = UploadRules(settings.max_upload_bytes, timedelta(seconds=settings.upload_ttl_seconds), quota)
        sessions = Sessions(secret, settings.session_ttl_seconds, clock)
        return cls(
            settings=settings,
            buckets=buckets,
            retrying_buckets=retrying,
            buffers=buffers,
            quota=quota,
            resumable=ResumableUploads(
                buckets, retrying, buffers, rules, lambda: datetime.fromtimestamp(clock(), UTC)
            ),
            resumptions=Resumptions(buckets.raw),
            authenticator=Authenticator(secret, sessions, settings.cors_origins),
            sessions=sessions,
            grants=Grants(secret, settings.grant_ttl_seconds, clock),
            playback=PlaybackIndex(buckets),
            site=Site(settings.site_dir, media_url, settings.root_path),
            readiness=Readiness(buckets),
            clock=clock,
        )


FromServices = NamedDependency[Services]
"""The type of a handler's `services` parameter."""


async def provide_services(state: State) -> Services:
    services: Services = state.services
    return services

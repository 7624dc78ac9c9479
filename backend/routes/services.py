"""The services that handlers receive, built once at startup from the settings and the open buckets."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from litestar.datastructures import State
from litestar.di import NamedDependency

from backend.core import keys
from backend.core.access.admin_token import AdminToken
from backend.core.access.codes import AccessCodes
from backend.core.access.people import People
from backend.core.access.principals import Principals
from backend.core.access.sessions import Sessions
from backend.core.access.signing_keys import SigningKeys
from backend.core.access.upload_links import UploadLinks
from backend.core.errors import ImageNotFound
from backend.core.events.feed import EventFeed
from backend.core.image_records import Image
from backend.core.jobs.conversions import Conversions
from backend.core.jobs.doorbell import Doorbell
from backend.core.jobs.wants import Wants
from backend.core.library.images import read_image
from backend.core.recent_reads import RecentReads
from backend.core.records import Retention
from backend.core.settings import ApiSettings
from backend.core.store.daily_notes import DailyNotes
from backend.core.store.interface import Buckets, PresignedGet, Store
from backend.core.store.retrying import with_retries
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.inbox import SETTLE_SECONDS, Inbox, InboxWatch
from backend.core.uploads.places import LinkPlaces
from backend.core.uploads.quota import Quota, UploadRules
from backend.core.uploads.resumable.service import ResumableUploads
from backend.core.uploads.resumptions import Resumptions
from backend.following.changes import Changes
from backend.following.places import FollowerPlaces
from backend.following.videos import FollowedVideos
from backend.images.rewriting import Rewriter
from backend.openid.service import OpenId
from backend.playback.grants import Grants
from backend.playback.index import PlaybackIndex
from backend.playback.looks import AwaitedFiles
from backend.playback.manifest_reads import ManifestReads
from backend.playback.names import Names
from backend.playback.parts import PartsReads
from backend.playback.retained import Rebuilds
from backend.playback.rights import CACHED_SECONDS, Rights
from backend.web.access_codes import AccessGate
from backend.web.attempts import Attempts
from backend.web.auth import Authenticator
from backend.web.readiness import Readiness
from backend.web.static_files import Site

CACHED_IMAGES = 4096


@dataclass(frozen=True, slots=True)
class Services:
    settings: ApiSettings
    buckets: Buckets
    retrying_buckets: Buckets
    """The same buckets, for uploads: requests are retried while the store is unavailable."""
    buffers: PartBuffers
    """Memory shared by all uploads."""
    quota: Quota
    doorbell: Doorbell
    resumable: ResumableUploads
    resumptions: Resumptions
    authenticator: Authenticator
    admin: AdminToken
    sessions: Sessions
    people: People
    codes: AccessCodes
    access_gate: AccessGate
    upload_links: UploadLinks
    places: LinkPlaces
    """Of upload links."""
    principals: Principals
    openid: OpenId | None
    grants: Grants
    rights: Rights
    names: Names
    inbox: InboxWatch
    inbox_attempts: Attempts
    """Of INBOX_TOKEN: a store with a wrong one must not lock out administrators behind the same proxy."""
    rewriter: Rewriter
    images: RecentReads[str, Image | None]
    """By id; None: there is none."""
    playback: PlaybackIndex
    manifests: ManifestReads
    looks: AwaitedFiles
    conversions: Conversions
    parts: PartsReads
    watched: DailyNotes
    rebuilds: Rebuilds
    events: EventFeed
    followed: FollowedVideos
    changes: Changes
    follower_places: FollowerPlaces
    site: Site
    readiness: Readiness
    clock: Callable[[], float]
    """Unix seconds."""

    @classmethod
    def build(
        cls,
        settings: ApiSettings,
        buckets: Buckets,
        signing_keys: SigningKeys,
        clock: Callable[[], float],
    ) -> "Services":
        admin = AdminToken(settings.admin_token.get_secret_value(), signing_keys)
        media_url = buckets.video.presign_get("origin", PresignedGet(expires_seconds=1))
        retrying = with_retries(buckets, settings.store_patience_seconds)
        buffers = PartBuffers(settings.upload_memory_bytes)
        quota = Quota(settings.max_open_uploads, settings.max_raw_bytes)
        rules = UploadRules(settings.max_upload_bytes, timedelta(seconds=settings.upload_ttl_seconds), quota)
        manifests = ManifestReads(buckets)
        doorbell = Doorbell(settings.doorbells)
        sessions = Sessions(buckets.video, signing_keys, settings.session_ttl_seconds, clock)
        people = People(buckets.video, clock)
        upload_links = UploadLinks(buckets.video, clock)
        codes = AccessCodes(buckets.video, clock)
        principals = Principals(admin, sessions, people, codes, upload_links, clock)
        seen = DailyNotes(buckets.video, keys.seen, clock)
        used_codes = DailyNotes(buckets.video, keys.used_access_code, clock)
        rights = Rights(buckets, principals, clock)
        events = EventFeed(buckets)
        followed = FollowedVideos(buckets, rights.forget)
        resumable = ResumableUploads(buckets, retrying, buffers, rules, upload_links.now, doorbell.ring)
        return cls(
            settings=settings,
            buckets=buckets,
            retrying_buckets=retrying,
            buffers=buffers,
            quota=quota,
            doorbell=doorbell,
            resumable=resumable,
            resumptions=Resumptions(buckets.raw),
            authenticator=Authenticator(
                admin, sessions, principals, Attempts(), Attempts(), seen, settings.cors_origins
            ),
            admin=admin,
            sessions=sessions,
            people=people,
            codes=codes,
            access_gate=AccessGate(codes, principals, used_codes),
            upload_links=upload_links,
            places=LinkPlaces(buckets.video, resumable.evict, upload_links.now),
            principals=principals,
            openid=OpenId.of(settings, buckets.video, people, signing_keys, clock),
            grants=Grants(signing_keys, settings.grant_ttl_seconds, clock),
            rights=rights,
            names=Names(buckets.video, clock),
            inbox=_inbox(settings, retrying, quota, doorbell),
            inbox_attempts=Attempts(),
            rewriter=Rewriter(),
            images=RecentReads(
                partial(_find_image, buckets.video),
                seconds=CACHED_SECONDS,
                capacity=CACHED_IMAGES,
                clock=clock,
            ),
            playback=PlaybackIndex(buckets),
            manifests=manifests,
            conversions=Conversions(buckets, settings.convert_at_once),
            looks=AwaitedFiles(buckets, manifests, Wants(buckets.raw, clock)),
            parts=PartsReads(buckets),
            watched=DailyNotes(buckets.video, keys.watched, clock),
            rebuilds=Rebuilds(buckets, doorbell.ring),
            events=events,
            followed=followed,
            changes=Changes(buckets, events, followed),
            follower_places=FollowerPlaces(),
            site=Site(settings.site_dir, media_url, settings.root_path),
            readiness=Readiness(buckets),
            clock=clock,
        )

    def end_waiting(self) -> None:
        """Answer all requests that wait for something: the process stops."""
        self.looks.end()
        self.conversions.end()
        self.events.end()
        self.followed.end()
        self.changes.end()

    def forget(self, video_id: str) -> None:
        """Read the video again at the next request: this process has changed it."""
        self.playback.forget(video_id)
        self.rights.forget(video_id)
        self.manifests.forget_captions(video_id)
        self.parts.forget(video_id)
        self.followed.hurry(video_id)
        self.changes.note(video_id)


async def _find_image(store: Store, image_id: str) -> Image | None:
    with suppress(ImageNotFound):
        return await read_image(store, image_id)
    return None


def _inbox(settings: ApiSettings, buckets: Buckets, quota: Quota, doorbell: Doorbell) -> InboxWatch:
    seconds = settings.inbox_seconds
    inbox = Inbox(
        buckets,
        settings.max_upload_bytes,
        quota,
        settle_seconds=min(SETTLE_SECONDS, seconds or SETTLE_SECONDS),
        retention=lambda keep: retention(settings, None if keep is None else str(keep)),
    )
    return InboxWatch(inbox, seconds, doorbell.ring)


def retention(settings: ApiSettings, wish: str | None) -> Retention | None:
    """Return what becomes of an uploaded file. `wish` is the upload's field `keep_original`, if it has one.

    Anything but a clear no keeps the file, as its deletion cannot be undone. None: the worker decides.
    """
    wanted = wish is not None and wish.strip().lower() not in {"false", "0", "no", "off"}
    if wanted or settings.keep_originals is not None or settings.delete_source_after:
        keep = wanted or bool(settings.keep_originals)
        return Retention(keep=keep, delete_after_seconds=settings.delete_source_after)
    return None


FromServices = NamedDependency[Services]
"""The type of a handler's `services` parameter."""


async def provide_services(state: State) -> Services:
    services: Services = state.services
    return services

"""Groups the contents of both buckets by video, from LISTs alone, for the sweeper."""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from backend.core import keys
from backend.core.errors import BadRequest
from backend.core.jobs.leases import SeenLease, highest_generations
from backend.core.records import SMALLEST_VIDEO_BYTES
from backend.core.store.interface import ObjectInfo, Store


@dataclass(slots=True)
class Holdings:
    """The objects of one run or look, or of one request's units."""

    newest: datetime
    size_bytes: int = 0
    kept_bytes: int = 0
    """Of what stays when a run's renditions are removed."""

    def add(self, info: ObjectInfo, *, kept: bool = False) -> None:
        self.newest = max(self.newest, info.modified)
        self.size_bytes += info.size_bytes
        self.kept_bytes += info.size_bytes if kept else 0

    @property
    def removable_bytes(self) -> int:
        return self.size_bytes - self.kept_bytes


@dataclass(slots=True)
class VideoHoldings:
    """The objects of one video in the video bucket, except its catalog entry."""

    id: str
    newest: datetime
    record: ObjectInfo | None = None
    results: dict[str, datetime] = field(default_factory=dict)
    """When each request ended."""
    runs: dict[str, Holdings] = field(default_factory=dict)
    """And looks."""
    reduced: set[str] = field(default_factory=set)
    """Requests whose published renditions are removed."""
    watched: datetime | None = None
    size_bytes: int = 0
    is_conversion: bool = False
    is_edited: bool = False

    @property
    def exists(self) -> bool:
        return self.record is not None and self.record.size_bytes >= SMALLEST_VIDEO_BYTES

    def add(self, info: ObjectInfo) -> None:
        self.newest = max(self.newest, info.modified)
        self.size_bytes += info.size_bytes
        run, path = keys.split_run(info.key.removeprefix(keys.video_prefix(self.id)))
        if run is not None:
            self.runs.setdefault(run, Holdings(info.modified)).add(info, kept=keys.is_kept(path))
        elif info.key == keys.video_record(self.id):
            self.record = info
        elif info.key == keys.conversion(self.id):
            self.is_conversion = True
        elif info.key == keys.watched(self.id):
            self.watched = info.modified
        else:
            self.is_edited |= info.key.startswith(keys.revisions_of(self.id))
            self.reduced.update(keys.ours(keys.request_of_reduction, [info.key]))
            with suppress(BadRequest):
                self.results[keys.request_of_result(info.key)] = info.modified


@dataclass(slots=True)
class RawHoldings:
    """The objects in the raw bucket."""

    sources: dict[str, ObjectInfo] = field(default_factory=dict)
    """By video."""
    notes: dict[str, ObjectInfo] = field(default_factory=dict)
    """The newest marker or dead letter of each video."""
    queued: set[str] = field(default_factory=set)
    """Videos with a marker."""
    uploads: dict[str, ObjectInfo] = field(default_factory=dict)
    """The newest object of each resumable upload, except its source."""
    letters: dict[str, ObjectInfo] = field(default_factory=dict)
    """Dead letters by request."""
    leases: list[SeenLease] = field(default_factory=list)
    units: dict[str, Holdings] = field(default_factory=dict)
    """By request."""
    size_bytes: int = 0
    """Of all objects, foreign ones too."""

    @property
    def leased_videos(self) -> set[str]:
        return {keys.video_of_request(seen.request) for seen in self.leases}


async def list_raw(raw: Store) -> RawHoldings:
    holdings = RawHoldings()
    leases: list[ObjectInfo] = []
    async for info in raw.list_all(""):
        holdings.size_bytes += info.size_bytes
        if info.key.startswith(keys.LEASES):
            leases.append(info)
            continue
        if info.key.startswith(keys.UNITS):
            for request in keys.ours(keys.request_of_units, [info.key]):
                holdings.units.setdefault(request, Holdings(info.modified)).add(info)
            continue
        with suppress(BadRequest):
            upload_id = keys.upload_of(info.key)
            newest = holdings.uploads.get(upload_id, info)
            holdings.uploads[upload_id] = max(newest, info, key=lambda one: one.modified)
            continue
        try:
            video_id = keys.video_of_raw_object(info.key)
        except BadRequest:
            continue
        if info.key == keys.upload(video_id):
            holdings.sources[video_id] = info
        else:
            if info.key.startswith(keys.FAILED):
                holdings.letters[info.key.removeprefix(keys.FAILED)] = info
            else:
                holdings.queued.add(video_id)
            known = holdings.notes.get(video_id, info)
            holdings.notes[video_id] = max(known, info, key=lambda one: one.modified)
    holdings.leases = highest_generations(leases)
    return holdings


async def list_videos_held(video: Store) -> AsyncIterator[VideoHoldings]:
    """Yield one video after another. Keys are sorted, so only one video is in memory at a time."""
    current: VideoHoldings | None = None
    async for info in video.list_all(keys.VIDEOS):
        try:
            video_id = keys.video_of_object(info.key)
        except BadRequest:
            continue
        if current is None or current.id != video_id:
            if current is not None:
                yield current
            current = VideoHoldings(video_id, info.modified)
        current.add(info)
    if current is not None:
        yield current

"""Invariants after every change of the buckets (those at rest are in `tests.simulation.rest`).

`Ledger` records what users were promised (acknowledged, deleted) and what workers were told, and compares it
with the contents of the buckets. It never takes part in the protocol.
"""

from collections.abc import Callable, Iterable

from backend.core import keys
from backend.core.jobs.leases import Claim
from backend.core.records import DeadLetter, Job, Outputs, read_outcome
from backend.core.store.interface import StoredObject
from tests.simulation.scheduler import Call, broken
from tests.simulation.takeovers import TakeOvers
from tests.simulation.unit_invariants import JOINED, UnitLedger
from tests.simulation.world import World

ID_LENGTH = 36


class Ledger:
    """The invariants of one world. `seconds` and `step` return the simulated time."""

    def __init__(
        self,
        world: World,
        *,
        lease_seconds: float,
        grace_seconds: float,
        seconds: Callable[[], int],
        step: Callable[[], int],
    ) -> None:
        self._world = world
        self._step = step
        self.acknowledged: set[str] = set()
        self.begun: list[str] = []
        """Every video whose upload has started."""
        self.doomed: set[str] = set()
        """Videos whose deletion has started: they must be gone in the end."""
        self._given_up: set[str] = set()
        """Videos whose upload failed and tries to remove its leftovers."""
        self.fetched: set[str] = set()
        """Videos whose source a worker fetches."""
        self.checks = 0
        self.cancellations = 0
        self._outcomes: dict[str, bytes] = {}
        self._published: dict[str, tuple[int, int]] = {}
        """The size of every published object, and the number of its request."""
        self._current: dict[str, int] = {}
        """The number of the latest published request of each video."""
        self._unrecorded_since: dict[str, int] = {}
        self._existing_since: dict[str, int] = {}
        """Existing leases and outcomes, each with the step that created it."""
        self._leases = TakeOvers(lease_seconds, seconds)
        self._lost_publications = 0
        self._gone_markers: set[str] = set()
        self._revived: set[str] = set()
        self._sources: dict[str, StoredObject] = {}
        """Those that are there."""
        self._gone_sources: set[str] = set()
        self.revived_sources: set[str] = set()
        """Sources that a late call restored after the job ended. Sweepers never remove sources of videos."""
        self.revived_videos: set[str] = set()
        """The same for records: a deleted video is shown again, with what is left of it."""
        self._fetches = 0
        self._holders: dict[tuple[str, int], str] = {}
        self.units = UnitLedger(
            world,
            TakeOvers(lease_seconds, seconds),
            step,
            grace_seconds,
            lambda video_id: self.may_go(video_id) or not world.video.holds(keys.video_record(video_id)),
        )

    # Reported by the processes

    def acknowledge(self, video_id: str) -> None:
        self.acknowledged.add(video_id)
        self._check_video(video_id)

    def doom(self, video_id: str) -> None:
        self.doomed.add(video_id)

    def give_up(self, video_id: str) -> None:
        self._given_up.add(video_id)

    def claimed(self, claim: Claim) -> None:
        """A worker was told that it may run the job."""
        holder = (claim.request, claim.generation)
        first = self._holders.setdefault(holder, claim.lease.run)
        # A marker or a deleted video that a late call restored is processed again for nothing.
        revived = claim.request in self._revived or claim.lease.job.id in self.revived_videos
        if first != claim.lease.run and not revived:
            broken(f"two holders of one generation: {claim.key} is of {first} and of {claim.lease.run}")

    def renewed(self, claim: Claim, since_step: int) -> None:
        """A heartbeat that started at this step succeeded."""
        job = claim.lease.job
        for key in self._world.raw.keys(keys.leases_of(claim.request)):
            later = keys.parse_lease(key).generation > claim.generation
            if later and self._existing_since[key] < since_step:
                broken(f"a heartbeat did not notice that {key} had taken the job over")
        ended = keys.result(job.id, job.request)
        if self._existing_since.get(ended, since_step) < since_step:
            broken(f"a heartbeat did not notice that {ended} is there")
        if self._unrecorded_since.get(job.id, since_step) < since_step:
            broken(f"a heartbeat did not notice that the video {job.id} was deleted")

    def ended(self, claim: Claim, ours: bool) -> None:
        """A worker was told whether its outcome became the request's."""
        self._lost_publications += not ours
        job = claim.lease.job
        body = self._outcomes.get(keys.result(job.id, job.request))
        if body is None or self.may_go(job.id):
            return
        outcome = read_outcome(body)
        runs = {claim.lease.run, keys.fallback_run(claim.lease.run)}
        if isinstance(outcome, Outputs) and ours != (outcome.run in runs):
            broken(f"{claim.lease.run} was told that it {'won' if ours else 'lost'}; {outcome.run} did")

    def buried(self, claim: Claim) -> None:
        """A worker was told that the request has failed."""
        video_id = claim.lease.job.id
        body = self._outcomes.get(keys.result(video_id, claim.request))
        if body is not None and isinstance(read_outcome(body), Outputs) and not self.may_go(video_id):
            broken(f"{claim.request} was given up although it is published")

    def cancelled(self, job: Job) -> None:
        """A user was told that the job is cancelled."""
        body = self._outcomes.get(keys.result(job.id, job.request))
        if body is not None and isinstance(read_outcome(body), Outputs) and not self.may_go(job.id):
            broken(f"{job.request} was cancelled, and yet it is published")
        self.cancellations += 1

    def failed(self) -> list[str]:
        """Return the videos that users see as failed."""
        return sorted(
            {
                video_of(key)
                for key, body in self._outcomes.items()
                if isinstance(read_outcome(body), DeadLetter) and not self.is_published(video_of(key))
            }
            - self.doomed
        )

    def summary(self) -> dict[str, int]:
        """Count events, so that a test can check that they do happen."""
        existing = self.acknowledged - self.doomed
        generations = [keys.parse_lease(key).generation for key in self._leases.histories]
        return {
            "videos acknowledged": len(self.acknowledged),
            "videos deleted": len(self.doomed),
            "videos done": sum(map(self.is_published, existing)),
            "videos failed": len(existing & set(self.failed())),
            "uploads not acknowledged": len(self.begun) - len(self.acknowledged),
            "take-overs": sum(generation > 0 for generation in generations),
            "retries by people": sum(keys.request_number(request) > 0 for request, _ in self._holders),
            "publications lost to another run": self._lost_publications,
            "jobs cancelled": self.cancellations,
            "sources fetched": self._fetches,
            **self.units.counts,
        }

    # Observed in the buckets

    def after(self, call: Call) -> None:
        """Check everything that this call may have changed."""
        self.checks += 1
        argument = call.arguments[0]
        changed: Iterable[str] = argument if call.verb == "delete_many" else (argument,)
        videos = set()
        for key in changed:
            if call.bucket == "raw":
                self._raw_changed(key)
            else:
                self._video_changed(key)
            videos.add(video_of(key))
        for video_id in sorted(videos):
            self._check_video(video_id)

    def _raw_changed(self, key: str) -> None:
        exists = self._world.raw.holds(key)
        if key.startswith(keys.QUEUE):
            request = keys.parse_marker(key)
            if not exists:
                self._gone_markers.add(request)
            elif request in self._gone_markers:
                self._revived.add(request)
        elif key.startswith(keys.UPLOADS):
            self._source_changed(key)
        elif key.startswith(keys.LEASES):
            self._note_existing(key, exists)
            if exists:
                self._lease_written(key)
            elif not self._world.raw.holds_any(keys.leases_of(request := keys.parse_lease(key).request)):
                self.units.leases_gone(request)
        elif key.startswith(keys.UNITS):
            self.units.raw_changed(key)

    def _source_changed(self, key: str) -> None:
        """Check that no holder of the job replaces a fetched source that another one may be reading."""
        stored, before = self._world.raw.find(key), self._sources.pop(key, None)
        if stored is None:
            if before is not None:  # else only an upload of it was opened or gets parts
                self._gone_sources.add(key)
            return
        self._sources[key] = stored
        if stored is before:
            return
        fetched, returned = video_of(key) in self.fetched, key in self._gone_sources
        if fetched and (before is not None or returned):
            broken(f"the source {key} was fetched twice")
        if returned:
            self.revived_sources.add(key)
        self._fetches += fetched

    def _lease_written(self, key: str) -> None:
        request, generation = keys.parse_lease(key)
        before = keys.lease(request, generation - 1) if generation else None
        self._leases.written(key, self._world.raw.body(key), before, over=self._is_over(request))

    def _is_over(self, request: str) -> bool:
        """Return whether nothing is left to run. Then the sweeper may take over a lease early."""
        video_id = keys.video_of_request(request)
        video = self._world.video
        return not video.holds(keys.video_record(video_id)) or video.holds(keys.result(video_id, request))

    def _video_changed(self, key: str) -> None:
        video_id = video_of(key)
        self.units.video_changed(key, video_id)
        exists = self._world.video.holds(key)
        if key.endswith("/video.json"):
            if exists:
                if self._unrecorded_since.pop(video_id, None) is not None:
                    self.revived_videos.add(video_id)
            else:
                self._unrecorded_since.setdefault(video_id, self._step())
        elif key.startswith(keys.results_of(video_id)):
            self._outcome_changed(key, video_id)
        elif key in self._published and not self.may_go(video_id):
            size_bytes, number = self._published[key]
            if number == self._current[video_id] and self._world.video.size(key) != size_bytes:
                broken(f"a published output is gone or changed: {key}")

    def _note_existing(self, key: str, exists: bool) -> None:
        if exists:
            self._existing_since.setdefault(key, self._step())
        else:
            self._existing_since.pop(key, None)

    def _outcome_changed(self, key: str, video_id: str) -> None:
        body = self._world.video.body(key) if self._world.video.holds(key) else None
        self._note_existing(key, body is not None)
        before = self._outcomes.get(key)
        if before == body or self.may_go(video_id):
            return
        if before is not None:
            broken(f"the outcome {key} {'is gone' if body is None else 'was replaced'}")
        assert body is not None
        self._outcomes[key] = body
        outcome = read_outcome(body)
        if isinstance(outcome, Outputs):
            self._check_published(outcome)
        elif not outcome.error.message or not outcome.error.code:
            broken(f"{key} failed without a reason")
        elif "Internal error" in outcome.error.message:
            broken(f"a fault of the product's own: {outcome.error.message}")

    def _check_published(self, outputs: Outputs) -> None:
        prefix = keys.run_prefix(outputs.id, outputs.run)
        number = keys.request_number(outputs.request)
        self._current[outputs.id] = max(number, self._current.get(outputs.id, 0))
        for published in outputs.objects:
            key = prefix + published.path
            self._published[key] = published.size_bytes, number
            if self._world.video.size(key) != published.size_bytes:
                broken(f"{outputs.run} was published without {key}")
            body, alone = self._world.video.body(key), output_body(outputs.run, published.path)
            if published.path == JOINED:
                self.units.check_published(outputs, body, alone)
            elif body != alone:
                broken(f"{key} was not written by {outputs.run}")

    def _check_video(self, video_id: str) -> None:
        """Check that an acknowledged video has not lost its job, its source or its record.

        Its catalog entry may be missing until the sweeper notices.
        """
        if video_id not in self.acknowledged or video_id in self.doomed:
            return
        raw, video = self._world.raw, self._world.video
        if not (
            video.holds_any(keys.results_of(video_id))
            or raw.holds_any(keys.LEASES + video_id)
            or any(map(raw.holds_any, keys.markers_of_video(video_id)))
        ):
            broken(f"the job is lost: no marker, no lease and no outcome of {video_id}")
        is_there = raw.holds(keys.upload(video_id)) or video_id in self.fetched
        if not is_there and not self.is_published(video_id):
            broken(f"the source of {video_id} is gone, and no outputs are there")
        if not video.holds(keys.video_record(video_id)):
            broken(f"the record of {video_id} is gone")

    def may_go(self, video_id: str) -> bool:
        """Return whether the video is being deleted by a user or by its failed upload."""
        return video_id in self.doomed or video_id in self._given_up

    def is_published(self, video_id: str) -> bool:
        video = self._world.video
        return any(
            isinstance(read_outcome(video.body(key)), Outputs)
            for key in video.keys(keys.results_of(video_id))
        )


def output_body(run: str, path: str) -> bytes:
    """Return what the simulated pipeline writes. It contains the name of the run."""
    return f"{run}/{path}".encode()


def video_of(key: str) -> str:
    top, _, rest = key.partition("/")
    if top == "catalog":
        return keys.video_of_catalog_entry(key)
    return rest[:ID_LENGTH]

"""What must hold after every change of the buckets (`tests.simulation.rest`: once all have come to rest).

`Ledger` notes what was promised to people (acknowledged, deleted) and what the workers were told, and
compares it with what the buckets really hold. It never takes part in the protocol.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NoReturn

from backend.core import keys
from backend.core.jobs.leases import Claim
from backend.core.records import DeadLetter, LeaseState, Outputs, read_outcome
from tests.simulation.scheduler import Call, ProtocolBroken
from tests.simulation.world import World

ID_LENGTH = 36


@dataclass(slots=True)
class LeaseHistory:
    """When one lease was written, and from when on it may be taken over."""

    written: int
    longest_silence: int = 0
    due: float | None = None
    """From when on a released one may be taken."""


class Ledger:
    """The invariants of one world. `seconds` and `step` tell the time of the simulation."""

    def __init__(
        self,
        world: World,
        *,
        lease_seconds: float,
        seconds: Callable[[], int],
        step: Callable[[], int],
    ) -> None:
        self._world = world
        self._lease_seconds = lease_seconds
        self._seconds = seconds
        self._step = step
        self.acknowledged: set[str] = set()
        self.begun: list[str] = []
        """Every video whose upload has begun."""
        self.doomed: set[str] = set()
        """Somebody has begun to delete them: in the end they are gone."""
        self._given_up: set[str] = set()
        """Their upload failed and removes what there is; it may not get far."""
        self.checks = 0
        self._outcomes: dict[str, bytes] = {}
        self._published: dict[str, tuple[int, int]] = {}
        """Size and number of the request of every published object."""
        self._current: dict[str, int] = {}
        """The latest request of each video that was published."""
        self._unrecorded_since: dict[str, int] = {}
        self._existing_since: dict[str, int] = {}
        """Leases and outcomes that are there, each with the step that put it there."""
        self._leases: dict[str, LeaseHistory] = {}
        self._lost_publications = 0
        self._gone_markers: set[str] = set()
        self._revived: set[str] = set()
        self._gone_sources: set[str] = set()
        self.revived_sources: set[str] = set()
        """A late write brought them back after the job's end. A sweeper never removes sources of videos."""
        self.revived_videos: set[str] = set()
        """The same for records: a removed video is shown again, with what is left of it."""
        self._holders: dict[tuple[str, int], str] = {}

    # What the processes tell

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
        # What a network brought back, a marker or a deleted video, is worked on once more for nothing.
        revived = claim.request in self._revived or claim.lease.job.id in self.revived_videos
        if first != claim.lease.run and not revived:
            broken(f"two holders of one generation: {claim.key} is of {first} and of {claim.lease.run}")

    def renewed(self, claim: Claim, since_step: int) -> None:
        """A heartbeat that began at this step ended well."""
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
        """A worker was told whether its outcome is the request's."""
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

    def failed(self) -> list[str]:
        """Return the videos that people see as failed."""
        return sorted(
            {
                video_of(key)
                for key, body in self._outcomes.items()
                if isinstance(read_outcome(body), DeadLetter) and not self.is_published(video_of(key))
            }
            - self.doomed
        )

    def summary(self) -> dict[str, int]:
        """Count what has happened, so that it can be seen that it does happen."""
        existing = self.acknowledged - self.doomed
        generations = [keys.parse_lease(key).generation for key in self._leases]
        return {
            "videos acknowledged": len(self.acknowledged),
            "videos deleted": len(self.doomed),
            "videos done": sum(map(self.is_published, existing)),
            "videos failed": len(existing & set(self.failed())),
            "uploads not acknowledged": len(self.begun) - len(self.acknowledged),
            "take-overs": sum(generation > 0 for generation in generations),
            "retries by people": sum(keys.request_number(request) > 0 for request, _ in self._holders),
            "publications lost to another run": self._lost_publications,
        }

    # What the buckets tell

    def after(self, call: Call) -> None:
        """Check what this call may have changed."""
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
            request = key.removeprefix(keys.QUEUE)
            if not exists:
                self._gone_markers.add(request)
            elif request in self._gone_markers:
                self._revived.add(request)
        elif key.startswith(keys.UPLOADS):
            if not exists:
                self._gone_sources.add(key)
            elif key in self._gone_sources:
                self.revived_sources.add(key)
        elif key.startswith(keys.LEASES):
            self._note_existence(key, exists)
            if exists:
                self._lease_written(key)

    def _lease_written(self, key: str) -> None:
        now = self._seconds()
        body = self._world.raw.body(key)
        lease = json.loads(body)
        if "Internal error" in (lease["last_error"] or ""):
            broken(f"a fault of the product's own: {lease['last_error']}")
        history = self._leases.get(key)
        if history is None:
            self._check_takeover(key, now)
            history = self._leases[key] = LeaseHistory(now)
        history.longest_silence = max(history.longest_silence, now - history.written)
        history.written = now
        if lease["state"] == LeaseState.RELEASED and history.due is None:
            history.due = now + lease["retry_after_seconds"]

    def _check_takeover(self, key: str, now: int) -> None:
        lease = keys.parse_lease(key)
        if lease.generation == 0:
            return
        before = self._leases.get(keys.lease(lease.request, lease.generation - 1))
        if before is None:
            broken(f"{key} follows on no lease")
        silence = max(before.longest_silence, now - before.written)
        due = before.due is not None and before.due <= now
        if silence <= self._lease_seconds and not due and not self._is_over(lease.request):
            broken(f"{key} took over from a worker that had been silent for {silence} s at most")

    def _is_over(self, request: str) -> bool:
        """Say whether there is nothing left to run: then the sweeper may take a lease over early."""
        video_id = keys.video_of_request(request)
        video = self._world.video
        return not video.holds(keys.video_record(video_id)) or video.holds(keys.result(video_id, request))

    def _video_changed(self, key: str) -> None:
        video_id = video_of(key)
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

    def _note_existence(self, key: str, exists: bool) -> None:
        if exists:
            self._existing_since.setdefault(key, self._step())
        else:
            self._existing_since.pop(key, None)

    def _outcome_changed(self, key: str, video_id: str) -> None:
        body = self._world.video.body(key) if self._world.video.holds(key) else None
        self._note_existence(key, body is not None)
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
            if self._world.video.body(key) != output_body(outputs.run, published.path):
                broken(f"{key} was not written by {outputs.run}")

    def _check_video(self, video_id: str) -> None:
        """Nothing acknowledged is lost: neither the job, nor its source, nor its record.

        A catalog entry may be missing until the sweeper has found that out.
        """
        if video_id not in self.acknowledged or video_id in self.doomed:
            return
        raw, video = self._world.raw, self._world.video
        if not (
            video.holds_any(keys.results_of(video_id))
            or raw.holds_any(keys.LEASES + video_id)
            or raw.holds_any(keys.QUEUE + video_id)
        ):
            broken(f"the job is lost: no marker, no lease and no outcome of {video_id}")
        if not raw.holds(keys.upload(video_id)) and not self.is_published(video_id):
            broken(f"the source of {video_id} is gone, and no outputs are there")
        if not video.holds(keys.video_record(video_id)):
            broken(f"the record of {video_id} is gone")

    def may_go(self, video_id: str) -> bool:
        """Return whether a person or its failed upload is deleting it."""
        return video_id in self.doomed or video_id in self._given_up

    def is_published(self, video_id: str) -> bool:
        video = self._world.video
        return any(
            isinstance(read_outcome(video.body(key)), Outputs)
            for key in video.keys(keys.results_of(video_id))
        )


def output_body(run: str, path: str) -> bytes:
    """What the simulated pipeline writes: it tells whose it is."""
    return f"{run}/{path}".encode()


def video_of(key: str) -> str:
    top, _, rest = key.partition("/")
    if top == "catalog":
        return keys.video_of_catalog_entry(key)
    return rest[:ID_LENGTH]


def broken(what: str) -> NoReturn:
    raise ProtocolBroken(what)

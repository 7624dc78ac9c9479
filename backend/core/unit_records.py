"""The JSON records of divided jobs: plans, and the leases and ends of units (docs/objects.md)."""

from enum import StrEnum
from typing import Literal

from pydantic import AwareDatetime, Field

from backend.core import keys
from backend.core.records import (
    MAX_RETRY_AFTER_SECONDS,
    CaptionTrack,
    LeaseState,
    OutcomeWord,
    Record,
    StatusError,
    Value,
    new_nonce,
)

MAX_CHUNKS = 400
"""One or two pages of a LIST then show all units of a job."""


class UnitKind(StrEnum):
    LOOK = "look"
    """A version of the whole video that can be watched long before the outputs are there."""
    SIDES = "sides"
    """Sound, captions, poster and storyboard."""
    CHUNK = "chunk"
    """The picture of one chunk in all renditions."""


def kind_of_unit(unit: str) -> UnitKind:
    return UnitKind(unit) if unit in {keys.LOOK, keys.SIDES} else UnitKind.CHUNK


class UnitPlan(Record):
    """`units/<request>/<number>/plan`, create-only: how a job is divided. The highest number counts.

    It is deleted before all else below `units/<request>/`: without it, nobody works on the units.
    """

    request: str
    number: int = Field(ge=0)
    chunks: int = Field(ge=1, le=MAX_CHUNKS)
    look: str = Field(description="name of the look, whose prefix also gets the files of the sides unit")
    has_look: bool = Field(default=True, description="whether one unit makes the look")
    work: str = Field(description="name of the run below which units store what only the join needs")
    planned_at: AwareDatetime | None = Field(default=None, description="when the work began")
    encoder: str = Field(description="fingerprint: only workers with the same one encode chunks")
    details: str = Field(description="JSON of the worker (worker/units/details.py)")
    nonce: str = Field(default_factory=new_nonce)

    @property
    def units(self) -> tuple[str, ...]:
        """The names of all units."""
        look = (keys.LOOK,) if self.has_look else ()
        return (*look, keys.SIDES, *(keys.chunk(number) for number in range(self.chunks)))


class UnitLease(Record):
    """`units/<request>/<plan>/<unit>/<generation>`: like `Lease`, for one unit."""

    unit: str
    owner: str
    token: str = Field(description="of this attempt: part of the prefix of its outputs")
    attempt: int = Field(ge=1)
    outages: int = Field(default=0, ge=0, description="as in Lease")
    state: LeaseState = LeaseState.RUNNING
    retry_after_seconds: float = Field(default=0, ge=0, le=MAX_RETRY_AFTER_SECONDS)
    last_error: str | None = None
    nonce: str = Field(default_factory=new_nonce)


class UnitObject(Value):
    """One stored stream of a unit."""

    name: str = Field(description="relative to the prefix of the attempt's outputs")
    size_bytes: int = Field(ge=0)
    frames: int = Field(default=0, ge=0)
    config: str = Field(default="", description="fingerprint of the stream's sample entry")


class UnitOutputs(Record):
    """`units/<request>/<plan>/<unit>/end`, create-only: what the unit's one successful attempt stored."""

    outcome: Literal["done"] = "done"
    unit: str
    token: str
    objects: tuple[UnitObject, ...] = ()
    captions: tuple[CaptionTrack, ...] = ()
    decoded: int = Field(default=0, ge=0, description="frames read, also those before the chunk")
    decode_errors: int = Field(default=0, ge=0, description="in all of these")
    corrupt: int = Field(default=0, ge=0, description="frames decoded with errors")
    attempt: int = Field(default=1, ge=1, description="which one succeeded")
    nonce: str = Field(default_factory=new_nonce)


class UnitFailure(Record):
    """The end of a look that was given up. All other units that fail for good end the whole request."""

    outcome: Literal["failed"] = "failed"
    unit: str
    error: StatusError
    attempts: int
    nonce: str = Field(default_factory=new_nonce)


UnitEnd = UnitOutputs | UnitFailure


class Wanted(Record):
    """`units/<request>/wanted`: the segment of the look that a viewer waited for last."""

    segment: int = Field(ge=1, description="as in the names of segments")
    at_unix_ms: int


def read_unit_end(body: bytes) -> UnitEnd:
    """Raises: RecordUnreadable."""
    return UnitFailure.from_json(body) if OutcomeWord.from_json(body).failed else UnitOutputs.from_json(body)

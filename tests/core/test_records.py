"""Records survive a round trip through JSON and rolling upgrades; everything else is rejected."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from backend.core.ids import new_id
from backend.core.records import (
    SMALLEST_VIDEO_BYTES,
    Job,
    Lease,
    RecordUnreadable,
    Stage,
    Status,
    StatusError,
    StatusWord,
    Tombstone,
    Video,
    Visibility,
)
from backend.core.unit_records import (
    UnitFailure,
    UnitKind,
    UnitOutputs,
    UnitPlan,
    kind_of_unit,
    read_unit_end,
)

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
VIDEO = Video(id="v", title="Ünïcode", filename="a.mp4", size_bytes=5, created_at=NOW)


def _job() -> Job:
    return Job(id="v", request="v", source="uploads/v.orig", source_size_bytes=5, created_at=NOW)


def test_a_record_survives_a_round_trip() -> None:
    lease = Lease(job=_job(), owner="w", run="r0-0-x", attempt=1)

    assert Video.from_json(VIDEO.to_json()) == VIDEO
    assert Lease.from_json(lease.to_json()) == lease


def test_a_lease_of_an_older_version_has_no_plan() -> None:
    lease = Lease(job=_job(), owner="w", run="r0-0-x", attempt=1).to_json()

    older = Lease.from_json(lease.replace(b'"plan":null,"units":0,"whole":false,', b""))

    assert (older.plan, older.units, older.whole) == (None, 0, False)


def test_a_plan_names_its_units() -> None:
    plan = UnitPlan(
        request="v", number=0, chunks=2, look="l0-a", work="r0-0-a", encoder="e", details="{}", has_look=True
    )

    assert plan.units == ("look", "sides", "c0000", "c0001")
    assert plan.replace(has_look=False).units == ("sides", "c0000", "c0001")
    assert [kind_of_unit(unit) for unit in plan.units] == [
        UnitKind.LOOK,
        UnitKind.SIDES,
        *[UnitKind.CHUNK] * 2,
    ]
    assert UnitPlan.from_json(plan.to_json()) == plan


def test_a_unit_ends_in_one_of_two_ways() -> None:
    done = UnitOutputs(unit="c0000", token="a")
    failed = UnitFailure(unit="look", error=StatusError(code="c", message="m"), attempts=3)

    assert read_unit_end(done.to_json()) == done
    assert read_unit_end(failed.to_json()) == failed
    assert done.nonce != UnitOutputs(unit="c0000", token="a").nonce
    with pytest.raises(RecordUnreadable):
        read_unit_end(b"{}")


def test_fields_of_a_newer_version_are_ignored() -> None:
    newer = VIDEO.to_json().replace(b"{", b'{"mood": "happy", ', 1)

    assert Video.from_json(newer) == VIDEO


@pytest.mark.parametrize("seconds", [b"NaN", b"Infinity", b"1e300", b"-1"])
def test_rejects_numbers_that_no_clock_can_add(seconds: bytes) -> None:
    lease = Lease(job=_job(), owner="w", run="r0-0-x", attempt=1, retry_after_seconds=77).to_json()

    with pytest.raises(RecordUnreadable):
        Lease.from_json(lease.replace(b"77.0", seconds))


@pytest.mark.parametrize(
    "change", [{"request": "w"}, {"request": "v2"}, {"id": "w"}, {"source": "uploads/w.orig"}, {"source": ""}]
)
def test_rejects_jobs_that_concern_two_videos(change: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        _job().replace(**change)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"schema_version": 2}', b"\xff\xfe"])
def test_rejects_bodies_that_are_not_records(body: bytes) -> None:
    with pytest.raises(RecordUnreadable):
        Video.from_json(body)


def test_rejects_a_newer_schema() -> None:
    newer = VIDEO.to_json().replace(b'"schema_version":1', b'"schema_version":2')

    with pytest.raises(RecordUnreadable, match="not a readable Video"):
        Video.from_json(newer)


def test_replace_validates_and_leaves_the_original() -> None:
    public = VIDEO.replace(visibility=Visibility.PUBLIC)

    assert (VIDEO.visibility, public.visibility) == (Visibility.PRIVATE, Visibility.PUBLIC)
    with pytest.raises(ValidationError):
        VIDEO.replace(size_bytes=-1)


def test_records_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError):
        VIDEO.title = "other"


def test_equal_jobs_differ_by_their_nonce() -> None:
    assert _job().nonce != _job().nonce


def test_a_status_matches_its_stage() -> None:
    queued = Status.queued("v", NOW)
    later = NOW + timedelta(seconds=90)

    encoding = queued.at_stage(Stage.TRANSCODING, later, attempt=1)
    complete = encoding.at_stage(Stage.COMPLETE, later + timedelta(seconds=10), progress=1.0)

    assert (queued.status, queued.current_stage_index) == (StatusWord.QUEUED, 0)
    assert (encoding.status, encoding.current_stage_index) == (StatusWord.PROCESSING, 1)
    assert (encoding.elapsed_seconds, encoding.attempt) == (90.0, 1)
    assert (complete.status, complete.elapsed_seconds) == (StatusWord.DONE, 100.0)


def test_a_failed_status_stays_at_the_stage_where_it_failed() -> None:
    encoding = Status.queued("v", NOW).at_stage(Stage.TRANSCODING, NOW)

    failed = encoding.at_stage(Stage.FAILED, NOW)

    assert (failed.status, failed.current_stage_index) == (StatusWord.ERROR, 1)


def test_a_clock_that_jumped_back_gives_no_negative_time() -> None:
    status = Status.queued("v", NOW).at_stage(Stage.TRANSCODING, NOW - timedelta(seconds=5))

    assert status.elapsed_seconds == 0


def test_a_list_can_tell_videos_from_tombstones_by_size() -> None:
    smallest = Video(
        id=new_id(),
        title="",
        filename="",
        size_bytes=0,
        content_type="",
        visibility=Visibility.PUBLIC,
        created_at=NOW,
    )

    assert len(Tombstone(removed=True).to_json()) < SMALLEST_VIDEO_BYTES <= len(smallest.to_json())

"""Writes with a wrong response: lost, doubled, refused though no writer won, 200 though they failed."""

from collections.abc import Callable

import pytest

from backend.core import keys
from backend.core.store.s3 import connection
from tests.faults.lab import MIB, WireLab, film
from tests.faults.registry import row
from tests.lab.wire_faults import Answered, AnswerLost, Call, Duplicated, Fault, Flipped, calls

pytestmark = [pytest.mark.heavy, pytest.mark.spread]

LARGE = 17 * MIB
SMALL = 2 * MIB
CLAIM = calls("PutObject", key="leases/", conditional=True)
PUBLICATION = calls("PutObject", key="/results/", conditional=True)
MARKER = calls("PutObject", key="queue/", conditional=True)
INTO_THE_XML = 100
"""Past the length of the first chunk."""


async def _upload_and_work(
    lab: WireLab, *strikes: tuple[Callable[[Call], bool], Fault], size_bytes: int = SMALL
) -> int:
    """Strike each of these calls once, in an upload and its job."""
    body = film(size_bytes)
    rules = [lab.proxy.inject(matches, fault) for matches, fault in strikes]
    video = await lab.upload(body)
    await lab.drain()
    await lab.assert_done((video, body), attempt=1)
    assert all(rule.struck for rule in rules), rules
    return sum(rule.struck for rule in rules)


@row(
    "conflict",
    fault="409 to marker, claim and publication; nobody won",
    expected="retried, not taken for a rival's success; one attempt",
)
async def test_retries_conflict_without_winner(lab: WireLab) -> int:
    conflict = Answered(409, "ConditionalRequestConflict")
    return await _upload_and_work(lab, (MARKER, conflict), (CLAIM, conflict), (PUBLICATION, conflict))


@row(
    "false-412",
    fault="412 to claim and publication; no object exists",
    expected="checked and retried; one attempt",
)
async def test_retries_412_without_object(lab: WireLab) -> int:
    refused = Answered(412, "PreconditionFailed")
    return await _upload_and_work(lab, (CLAIM, refused), (PUBLICATION, refused))


@row(
    "claim-answer-lost",
    fault="claim succeeds, answer lost",
    expected="the worker recognises its nonce; one attempt",
)
async def test_worker_recognises_its_claim_after_lost_response(lab: WireLab) -> int:
    return await _upload_and_work(lab, (CLAIM, AnswerLost()))


@row(
    "publication-answer-lost",
    fault="result written, answer lost",
    expected="recognised; published once; source deleted only then",
)
async def test_worker_recognises_its_result_after_lost_response(lab: WireLab) -> int:
    return await _upload_and_work(lab, (PUBLICATION, AnswerLost()))


@row(
    "marker-answer-lost",
    fault="marker written, answer lost",
    expected="acknowledged and queued once",
)
async def test_upload_is_queued_once_after_lost_response(lab: WireLab) -> int:
    return await _upload_and_work(lab, (MARKER, AnswerLost()))


@row(
    "every-answer-lost",
    fault="every third write or deletion succeeds, answer lost",
    expected="repeated or recognised; unharmed, nothing doubled, clean",
)
async def test_survives_many_lost_responses(lab: WireLab) -> int:
    body = film(LARGE)
    writes = calls(
        *("PutObject", "UploadPart", "CreateMultipartUpload", "CompleteMultipartUpload"),
        *("DeleteObject", "DeleteObjects"),
    )
    rule = lab.proxy.inject(writes, AnswerLost(), times=None, probability=0.33)
    video = await lab.upload(body)
    await lab.drain()
    lab.proxy.forget()
    await lab.abort_forgotten_uploads()
    await lab.assert_done((video, body), attempt=1)
    return rule.struck


@row(
    "part-failed",
    fault="one part fails six times while others are stored",
    expected="sent again; no gap or shift",
)
async def test_failed_part_leaves_no_gap(lab: WireLab) -> int:
    body = film(LARGE)
    rule = lab.proxy.inject(
        lambda call: call.operation == "UploadPart" and call.query["partNumber"] == "2",
        Answered(500, "InternalError"),
        times=6,
    )
    video = await lab.upload(body)
    await lab.assert_source_is(video, body)
    await lab.drain()
    await lab.assert_done((video, body), attempt=1)
    return rule.struck


@row(
    "complete-200-error",
    fault="completion answers 200 with an error body, undone",
    expected="not taken for success; retried",
)
async def test_retries_completion_that_failed_with_200(lab: WireLab) -> int:
    failed = Answered(200, "InternalError")
    source, download = (calls("CompleteMultipartUpload", key=key) for key in ("uploads/", keys.DOWNLOAD))
    return await _upload_and_work(lab, (source, failed), (download, failed), size_bytes=LARGE)


@row(
    "complete-answer-lost",
    fault="upload completes, answer lost; repeating says NoSuchUpload",
    expected="settled by the object's size; intact",
)
async def test_completion_survives_lost_response(lab: WireLab) -> int:
    lost = AnswerLost()
    source, download = (calls("CompleteMultipartUpload", key=key) for key in ("uploads/", keys.DOWNLOAD))
    return await _upload_and_work(lab, (source, lost), (download, lost), size_bytes=LARGE)


@row(
    "delete-200-error",
    fault="deletions answer 200 with an error body",
    expected="not taken for success; clean",
)
async def test_retries_deletion_that_failed_with_200(lab: WireLab) -> int:
    body = film(3 * MIB)
    outputs_fail = lab.proxy.inject(calls("PutObject", key="media/1/3145728"), Answered(403, "AccessDenied"))
    rule = lab.proxy.inject(calls("DeleteObjects"), Answered(200, "InternalError"), times=2)
    video = await lab.upload(body)
    await lab.drain()
    await lab.assert_done((video, body))
    assert outputs_fail.struck == 1
    return rule.struck


@row(
    "duplicated",
    fault="writes and deletions arrive twice, some 50 ms apart",
    expected="one attempt, one result, clean",
)
async def test_survives_duplicated_writes(lab: WireLab) -> int:
    body = film(SMALL)
    rule = lab.proxy.inject(
        lambda call: call.operation in {"PutObject", "UploadPart", "DeleteObject", "DeleteObjects"},
        Duplicated(after_seconds=0.05),
        times=None,
    )
    video = await lab.upload(body)
    await lab.drain()
    lab.proxy.wait_for_duplicates()
    await lab.assert_done((video, body), attempt=1)
    return rule.struck


@row(
    "late-duplicate",
    fault="marker, claim and heartbeat arrive again after the job's end",
    expected="the next worker cleans up; published once",
)
async def test_late_duplicates_start_no_second_job(lab: WireLab) -> int:
    body = film(SMALL)
    late = Duplicated(after_seconds=4)
    rules = [lab.proxy.inject(matches, late) for matches in (MARKER, CLAIM)]
    rules.append(lab.proxy.inject(calls("PutObject", key="leases/", conditional=False), late))
    video = await lab.upload(body)
    await lab.drain(lease_seconds=3, seconds_per_segment=0.7)
    lab.proxy.wait_for_duplicates()
    await lab.drain(lease_seconds=3)
    await lab.assert_done((video, body), attempt=1)
    assert lab.attempts == 1
    return sum(rule.struck for rule in rules)


@row(
    "aborted-behind",
    fault="a lifecycle rule drops the multipart upload between parts",
    expected="not acknowledged; clean; the next upload succeeds",
)
async def test_aborted_upload_is_not_acknowledged(lab: WireLab) -> int:
    body = film(LARGE)

    def abort(call: Call) -> None:
        lab.abort_upload(call.key, call.query["uploadId"])

    rule = lab.proxy.inject(calls("UploadPart"), Answered(500, "InternalError"), skip=1, then=abort)
    answer = await lab.try_upload(body)
    assert answer.json()["code"] == "upload_vanished"
    await lab.assert_nothing_is_left()
    video = await lab.upload(body)
    await lab.drain()
    await lab.assert_done((video, body), attempt=1)
    return rule.struck


@row(
    "flipped-in-upload",
    fault="a bit of a part flips on its way to the store",
    expected="noticed, sent again; intact",
)
async def test_flipped_bit_in_upload_is_noticed(lab: WireLab) -> int:
    body = film(LARGE)
    rule = lab.proxy.inject(calls("UploadPart"), Flipped("request", at_byte=MIB))
    video = await lab.upload(body)
    await lab.assert_source_is(video, body)
    await lab.drain()
    await lab.assert_done((video, body), attempt=1)
    return rule.struck


@row(
    "flipped-in-output",
    fault="a bit of a segment flips on its way to the store",
    expected="noticed, written again; published as encoded",
)
async def test_flipped_bit_in_output_is_noticed(lab: WireLab) -> int:
    body = film(SMALL)
    rule = lab.proxy.inject(calls("PutObject", key="/media/"), Flipped("request", at_byte=MIB // 2))
    video = await lab.upload(body)
    await lab.drain()
    await lab.assert_segments_are(video, body)
    await lab.assert_done((video, body), attempt=1)
    return rule.struck


@row(
    "flipped-record",
    fault="bits of marker, lease and LIST flip on the way back",
    expected="read again later; one result",
)
async def test_unreadable_records_are_read_again(lab: WireLab) -> int:
    body = film(SMALL)
    video = await lab.upload(body)
    rules = [
        lab.proxy.inject(calls("GetObject", key="queue/"), Flipped("answer", at_byte=1)),
        lab.proxy.inject(calls("ListObjectsV2"), Flipped("answer", at_byte=INTO_THE_XML)),
    ]
    await lab.hand_back()
    rules.append(lab.proxy.inject(calls("GetObject", key="leases/"), Flipped("answer", at_byte=1)))
    await lab.drain()
    await lab.assert_done((video, body), attempt=1)
    assert all(rule.struck for rule in rules), rules
    return sum(rule.struck for rule in rules)


@row(
    "flipped-framing",
    fault="a flipped chunk length hides a LIST's end",
    expected="timed out and repeated; one attempt",
)
async def test_gives_up_on_broken_chunk_framing(lab: WireLab, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(connection, "READ_TIMEOUT_SECONDS", 2.0)
    return await _upload_and_work(lab, (calls("ListObjectsV2"), Flipped("answer", at_byte=1)))

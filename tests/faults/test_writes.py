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
    fault="409 ConditionalRequestConflict to the marker, the claim and the publication, and nobody won",
    expected="tried again, never taken for a rival's success; one attempt",
)
async def test_retries_conflict_without_winner(lab: WireLab) -> int:
    conflict = Answered(409, "ConditionalRequestConflict")
    return await _upload_and_work(lab, (MARKER, conflict), (CLAIM, conflict), (PUBLICATION, conflict))


@row(
    "false-412",
    fault="412 PreconditionFailed to the claim and the publication, and no object is there",
    expected="the object is looked for, the write is tried again; one attempt",
)
async def test_retries_412_without_object(lab: WireLab) -> int:
    refused = Answered(412, "PreconditionFailed")
    return await _upload_and_work(lab, (CLAIM, refused), (PUBLICATION, refused))


@row(
    "claim-answer-lost",
    fault="the claim is written, its answer is lost",
    expected="the worker knows its own nonce and runs the job; one attempt",
)
async def test_worker_recognises_its_claim_after_lost_response(lab: WireLab) -> int:
    return await _upload_and_work(lab, (CLAIM, AnswerLost()))


@row(
    "publication-answer-lost",
    fault="the result is written, its answer is lost",
    expected="the worker knows its own result; published once, source deleted only then",
)
async def test_worker_recognises_its_result_after_lost_response(lab: WireLab) -> int:
    return await _upload_and_work(lab, (PUBLICATION, AnswerLost()))


@row(
    "marker-answer-lost",
    fault="the job's marker is written, its answer is lost",
    expected="the upload is acknowledged and queued once",
)
async def test_upload_is_queued_once_after_lost_response(lab: WireLab) -> int:
    return await _upload_and_work(lab, (MARKER, AnswerLost()))


@row(
    "every-answer-lost",
    fault="every third write or deletion is done by the store, and its answer lost",
    expected="repeated or recognised; one attempt, byte for byte, nothing doubled or left",
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
    fault="one part of an upload fails six times in a row while the others are stored",
    expected="sent again, no gap and no shift: byte for byte",
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
    fault="completing an upload is answered 200 with an error body, and was not done",
    expected="not taken for success; completed at the next try",
)
async def test_retries_completion_that_failed_with_200(lab: WireLab) -> int:
    failed = Answered(200, "InternalError")
    source, download = (calls("CompleteMultipartUpload", key=key) for key in ("uploads/", keys.DOWNLOAD))
    return await _upload_and_work(lab, (source, failed), (download, failed), size_bytes=LARGE)


@row(
    "complete-answer-lost",
    fault="an upload is completed, the answer is lost, so that repeating it says NoSuchUpload",
    expected="settled by the object's size; acknowledged, byte for byte",
)
async def test_completion_survives_lost_response(lab: WireLab) -> int:
    lost = AnswerLost()
    source, download = (calls("CompleteMultipartUpload", key=key) for key in ("uploads/", keys.DOWNLOAD))
    return await _upload_and_work(lab, (source, lost), (download, lost), size_bytes=LARGE)


@row(
    "delete-200-error",
    fault="deleting leases and runs is answered 200 with an error body",
    expected="not taken for success; nothing is left",
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
    fault="every write and deletion reaches the store twice, the second time some 50 ms later",
    expected="one attempt, one result, byte for byte, nothing left",
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
    fault="the marker, the claim and a heartbeat reach the store once more after the job has ended",
    expected="the next worker finds that the request has ended, and cleans up; published once",
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
    fault="a lifecycle rule drops the multipart upload between two of its parts",
    expected="never acknowledged; the client is told so, nothing is left, the next upload succeeds",
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
    fault="a bit of a part is flipped on its way to the store",
    expected="refused or noticed, sent again: what is acknowledged is stored byte for byte",
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
    fault="a bit of a segment is flipped on its way to the store",
    expected="refused or noticed, written again: what is published is what was encoded",
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
    fault="a bit of the marker, of a lease and of a LIST's answer is flipped on the way back",
    expected="what cannot be read is read again later; one result",
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
    fault="a bit of a chunk's length is flipped in a LIST's answer: its end is never found",
    expected="given up in time and asked again; one attempt",
)
async def test_gives_up_on_broken_chunk_framing(lab: WireLab, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(connection, "READ_TIMEOUT_SECONDS", 2.0)
    return await _upload_and_work(lab, (calls("ListObjectsV2"), Flipped("answer", at_byte=1)))

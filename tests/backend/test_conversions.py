"""Converting a file and getting it back: what is answered, and that nothing is left."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest
from litestar import Litestar

from backend.core import keys
from backend.core.errors import TOO_LONG_TO_CONVERT, VideoDeleted
from backend.core.jobs.conversions import DISCARDS_AT_ONCE
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import Claim
from backend.core.jobs.retry import retry_video
from backend.core.library.videos import delete_video, list_videos
from backend.core.records import DeadLetter, OutputObject, Outputs, StatusError
from backend.core.settings import ApiSettings
from backend.core.store.interface import Buckets
from backend.core.store.prefixes import keys_below
from tests.backend.conftest import BEARER, Clock, api_process
from tests.backend.raw_http import AUTHORIZATION, serving
from tests.lab.asgi import client_of

FILM = b"\x1a\x45\xdf\xa3" + bytes(5000)
MADE = b"converted" * 1000


async def _claimed(buckets: Buckets) -> tuple[JobQueue, Claim]:
    """Wait until a job is queued, and claim it as a worker does."""
    queue = JobQueue(buckets, owner="worker", lease_seconds=60)
    while (claim := await queue.claim(await queue.poll())) is None:  # the store lets others run
        pass
    return queue, claim


async def _publish(buckets: Buckets, body: bytes = MADE) -> str:
    queue, claim = await _claimed(buckets)
    job = claim.lease.job
    assert job.options.convert is not None
    path = f"download.{job.options.convert.format}"
    await buckets.video.put(keys.run_prefix(job.id, claim.lease.run) + path, body)
    outputs = Outputs(
        id=job.id,
        request=job.request,
        run=claim.lease.run,
        requested_at=job.created_at,
        published_at=datetime.now(UTC),
        duration_seconds=6,
        qualities=(),
        renditions=(),
        objects=(OutputObject(path=path, size_bytes=len(body)),),
        encoder="software",
    )
    assert await queue.publish(claim, outputs)
    return job.id


async def _fail(buckets: Buckets, code: str) -> str:
    queue, claim = await _claimed(buckets)
    await queue.bury(claim, StatusError(code=code, message="This is why."))
    return claim.lease.job.id


async def _left(buckets: Buckets) -> list[str]:
    return [*await keys_below(buckets.raw, ""), *await keys_below(buckets.video, keys.VIDEOS)]


@pytest.fixture
async def client(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app, "http://vod.example") as client:
        client.headers.update(BEARER)
        yield client


async def _hold(queue: JobQueue, claim: Claim) -> None:
    while True:
        await queue.renew(claim)


def _of(settings: ApiSettings, **changes: object) -> ApiSettings:
    return settings.model_copy(update=changes)


@pytest.mark.parametrize("only", ["webm", "mp4"])
async def test_the_answer_is_the_file_and_nothing_is_kept(
    client: httpx.AsyncClient, buckets: Buckets, only: str
) -> None:
    answer, _ = await asyncio.gather(
        client.post(f"/api/convert?format={only}", content=FILM), _publish(buckets)
    )

    assert (answer.status_code, answer.content) == (200, MADE)
    assert answer.headers["content-type"] == f"video/{only}"
    assert answer.headers["content-length"] == str(len(MADE))
    assert await _left(buckets) == []


async def test_the_job_says_what_to_make_and_the_library_does_not_show_it(
    client: httpx.AsyncClient, buckets: Buckets
) -> None:
    asked = asyncio.create_task(client.post("/convert/holiday?crf=40&cpu_used=7", content=FILM))
    queue, claim = await _claimed(buckets)

    assert (await list_videos(buckets, limit=10)).items == ()
    options = claim.lease.job.options
    assert (options.crf, options.cpu_used) == (40, 7)
    assert options.convert is not None
    assert (options.convert.format, options.convert.max_seconds, options.convert.keep) == ("webm", 300, False)
    assert (await client.get(f"/api/videos/{claim.lease.job.id}")).json()["title"] == "holiday"
    await queue.bury(claim, StatusError(code="not_a_video", message="No."))
    await asked


async def test_a_failure_is_422_with_the_jobs_code(client: httpx.AsyncClient, buckets: Buckets) -> None:
    answer, _ = await asyncio.gather(client.post("/api/convert", content=FILM), _fail(buckets, "not_a_video"))

    assert (answer.status_code, answer.json()) == (422, {"error": "This is why.", "code": "not_a_video"})
    assert await _left(buckets) == []


async def test_a_file_that_is_too_long_is_413(client: httpx.AsyncClient, buckets: Buckets) -> None:
    answer, _ = await asyncio.gather(
        client.post("/api/convert", content=FILM), _fail(buckets, TOO_LONG_TO_CONVERT)
    )

    assert (answer.status_code, answer.json()["code"]) == (413, TOO_LONG_TO_CONVERT)
    assert await _left(buckets) == []


async def test_a_file_that_is_too_large_is_413(settings: ApiSettings, buckets: Buckets, clock: Clock) -> None:
    async with (
        api_process(_of(settings, convert_max_bytes=1000), buckets, clock) as app,
        client_of(app, "http://vod.example") as client,
    ):
        answer = await client.post("/api/convert", content=FILM, headers=BEARER)

    assert (answer.status_code, answer.json()["code"]) == (413, "upload_too_large")
    assert await _left(buckets) == []


async def test_who_need_not_wait_gets_an_address_that_has_the_file_later(
    settings: ApiSettings, buckets: Buckets, clock: Clock
) -> None:
    async with (
        api_process(_of(settings, convert_wait_seconds=0), buckets, clock) as app,
        client_of(app, "http://vod.example") as client,
    ):
        client.headers.update(BEARER)
        later = await client.post("/api/convert", content=FILM)
        url = later.json()["url"]
        still = await client.get(url)
        video_id = await _publish(buckets)
        looked = await client.head(url)
        answer = await client.get(url)
        gone = await client.get(url)

    assert (looked.status_code, looked.content) == (200, b"")
    assert looked.headers["content-length"] == str(len(MADE))
    assert (later.status_code, later.headers["location"], url) == (202, url, f"/api/convert/{video_id}")
    assert (still.status_code, still.json(), "retry-after" in still.headers) == (202, later.json(), True)
    assert (answer.status_code, answer.content) == (200, MADE)
    assert (gone.status_code, gone.json()["code"]) == (404, "video_not_found")
    assert await _left(buckets) == []


async def test_what_is_to_be_kept_can_be_fetched_again(client: httpx.AsyncClient, buckets: Buckets) -> None:
    answer, video_id = await asyncio.gather(
        client.post("/api/convert?keep=true", content=FILM), _publish(buckets)
    )

    url = answer.headers["content-location"]
    assert url == f"/api/convert/{video_id}"
    assert [(await client.get(url)).content for _ in range(2)] == [MADE, MADE]
    assert (await client.delete(f"/api/videos/{video_id}")).status_code == 204
    assert (await client.get(url)).status_code == 404


async def test_beyond_the_limit_requests_are_told_to_come_back(
    settings: ApiSettings, buckets: Buckets, clock: Clock
) -> None:
    async with (
        api_process(_of(settings, convert_at_once=1), buckets, clock) as app,
        client_of(app, "http://vod.example") as client,
    ):
        client.headers.update(BEARER)
        first = asyncio.create_task(client.post("/api/convert", content=FILM))
        queue, claim = await _claimed(buckets)
        refused = await client.post("/api/convert", content=FILM)
        await queue.bury(claim, StatusError(code="not_a_video", message="No."))
        await first
        again, _ = await asyncio.gather(client.post("/api/convert", content=FILM), _publish(buckets))

    assert (refused.status_code, refused.json()["code"]) == (503, "too_many_conversions")
    assert int(refused.headers["retry-after"]) > 0
    assert again.status_code == 200


async def test_an_output_that_is_gone_is_no_200(client: httpx.AsyncClient, buckets: Buckets) -> None:
    async def publish_nothing() -> None:
        queue, claim = await _claimed(buckets)
        job = claim.lease.job
        made = (OutputObject(path="download.webm", size_bytes=9),)
        outputs = Outputs(
            id=job.id,
            request=job.request,
            run=claim.lease.run,
            requested_at=job.created_at,
            published_at=job.created_at,
            duration_seconds=6,
            qualities=(),
            renditions=(),
            objects=made,
            encoder="software",
        )
        await queue.publish(claim, outputs)

    answer, _ = await asyncio.gather(client.post("/api/convert", content=FILM), publish_nothing())

    assert answer.status_code == 404
    assert answer.json()["code"] == "object_not_found"
    assert await _left(buckets) == []


async def test_many_that_wait_share_one_look(client: httpx.AsyncClient, buckets: Buckets) -> None:
    async def answer(number: int) -> bytes:
        return (await client.post("/api/convert", content=FILM + bytes([number]))).content

    asked = [asyncio.create_task(answer(number)) for number in range(40)]
    for _ in asked:
        await _publish(buckets)

    assert await asyncio.gather(*asked) == [MADE] * 40
    assert await _left(buckets) == []


async def test_a_conversion_that_is_tried_again_remains_one(
    client: httpx.AsyncClient, buckets: Buckets
) -> None:
    asked = asyncio.create_task(client.post("/api/convert?keep=true&crf=40", content=FILM))
    video_id = await _fail(buckets, "encoder_failed")
    assert (await asked).status_code == 422

    job = await retry_video(buckets, video_id)

    assert job.options.crf == 40
    assert job.options.convert is not None


async def test_one_that_is_tried_again_is_not_deleted_when_somebody_asks(
    settings: ApiSettings, buckets: Buckets, clock: Clock
) -> None:
    async with (
        api_process(_of(settings, convert_wait_seconds=0), buckets, clock) as app,
        client_of(app, "http://vod.example") as client,
    ):
        client.headers.update(BEARER)
        url = (await client.post("/api/convert", content=FILM)).json()["url"]
        await retry_video(buckets, await _fail(buckets, "encoder_failed"))
        waits = await client.get(url)
        await _publish(buckets)
        answer = await client.get(url)

    assert (waits.status_code, answer.status_code, answer.content) == (202, 200, MADE)


async def test_options_of_av1_are_refused_for_an_mp4(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/convert?format=mp4&crf=30", content=FILM)

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


async def test_it_needs_the_token(app: Litestar) -> None:
    async with client_of(app, "http://vod.example") as client:
        assert (await client.post("/api/convert", content=FILM)).status_code == 401
        assert (await client.get(f"/api/convert/{'0' * 8}")).status_code == 401


async def test_when_the_client_hangs_up_nothing_is_kept(app: Litestar, buckets: Buckets) -> None:
    async with serving(app) as server:
        connection = await server.connect()
        await connection.send_head("POST /api/convert", AUTHORIZATION, f"Content-Length: {len(FILM)}")
        await connection.send(FILM)
        queue, claim = await _claimed(buckets)

        connection.disconnect()

        with pytest.raises(VideoDeleted):
            await _hold(queue, claim)
        await queue.discard_deleted(claim)
        while await _left(buckets):  # its server deletes the rest
            pass


async def test_when_many_hang_up_at_once_their_files_are_deleted_a_few_at_a_time(
    app: Litestar, buckets: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleting has a limited time. All at once would run out of it."""
    running, most = set[str](), 0

    async def counted(buckets: Buckets, video_id: str) -> None:
        nonlocal most
        running.add(video_id)
        most = max(most, len(running))
        await delete_video(buckets, video_id)
        running.remove(video_id)

    monkeypatch.setattr("backend.routes.conversions.delete_video", counted)
    async with serving(app) as server:
        connections = [await server.connect() for _ in range(2 * DISCARDS_AT_ONCE)]
        for connection in connections:
            await connection.send_head("POST /api/convert", AUTHORIZATION, f"Content-Length: {len(FILM)}")
            await connection.send(FILM)
        while len(await keys_below(buckets.raw, keys.QUEUE)) < len(connections):
            pass

        for connection in connections:
            connection.disconnect()

        while await _left(buckets):
            pass
    assert most == DISCARDS_AT_ONCE


async def test_when_the_server_stops_clients_are_told_where_the_file_will_be(
    app: Litestar, buckets: Buckets, client: httpx.AsyncClient
) -> None:
    asked = asyncio.create_task(client.post("/api/convert", content=FILM))
    _, claim = await _claimed(buckets)

    app.state.services.end_waiting()

    answer = await asked
    assert (answer.status_code, answer.json()["id"]) == (202, claim.lease.job.id)


async def test_a_worker_that_dies_once_it_has_decided_keeps_nobody_waiting(
    client: httpx.AsyncClient, buckets: Buckets
) -> None:
    asked = asyncio.create_task(client.post("/api/convert", content=FILM))
    _, claim = await _claimed(buckets)
    job, error = claim.lease.job, StatusError(code="not_a_video", message="No.")
    letter = DeadLetter(job=job, error=error, attempts=1, failed_at=job.created_at)

    await buckets.video.create(keys.result(job.id, job.request), letter.to_json())

    assert (await asked).status_code == 422
    assert [key for key in await _left(buckets) if not key.startswith(keys.LEASES)] == []

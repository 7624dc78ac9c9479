"""Fetching a source: what is stored, what a successor continues, and what no crash leaves behind."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import pytest

from backend.core import keys
from backend.core.errors import AttemptFailed, LeaseLost, SourceGone, SourceRejected, StoreUnavailable
from backend.core.jobs.cancel import cancel_video
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.retry import retry_video
from backend.core.jobs.snapshot import Needs
from backend.core.library.videos import delete_video, read_video
from backend.core.records import DeadLetter, FetchKind, FetchSpec, Stage, Status
from backend.core.store.interface import Buckets, UploadedPart
from backend.core.sweep.sweeper import SweepRules, sweep
from backend.core.uploads.ingest import Description
from backend.core.uploads.part_writer import UploadPlan
from backend.core.uploads.remote import add_remote
from tests.core.jobs.queue_lab import Fault, Lab, WorkerCrashed, crash, lost_answer
from tests.worker.run.test_job import TRANSCODED, Pipeline
from worker.fetch.interface import Fetched, FetchSink
from worker.fetch.source import SourceFetching
from worker.run.heartbeat import Heartbeat
from worker.run.job import JobRunner
from worker.run.outcomes import Attempts

ADDRESS = "https://example.org/films/A%20film.mp4?signature=secret"
PART_BYTES = 1024
FILE = bytes(range(256)) * (PART_BYTES // 128)  # two parts
CHUNK = PART_BYTES // 2


@dataclass
class Server:
    """A fetcher of a file that it has at hand. It may break off."""

    file: bytes = FILE
    version: str | None = '"1"'
    breaks_at: int | None = None
    served: int = 0

    async def fetch(self, spec: FetchSpec, sink: FetchSink) -> Fetched:
        if self.version is None or sink.version != self.version:
            await sink.begin(self.version, len(self.file))
        for start in range(sink.position, len(self.file), CHUNK):
            if self.breaks_at is not None and start >= self.breaks_at:
                raise AttemptFailed("The connection broke.", code="fetch_failed")
            await sink.write(self.file[start : start + CHUNK])
            self.served += CHUNK
        return Fetched(filename="film.mp4", content_type="video/mp4", description="Two\nlines")


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UploadPlan, "for_size", lambda _: UploadPlan.of_parts(PART_BYTES))


async def _added(lab: Lab, title: str | None = None, max_bytes: int = 2 * len(FILE)) -> str:
    described = Description(title=title)
    video = await add_remote(
        lab.buckets, FetchKind.HTTP, ADDRESS, described, max_bytes=max_bytes, now=lab.clock
    )
    return video.id


def _runner(lab: Lab, queue: JobQueue, server: Server, buckets: Buckets | None = None) -> JobRunner:
    return JobRunner(
        queue=queue,
        pipeline=Pipeline(lab, lambda: TRANSCODED),
        video=lab.video,
        attempts=Attempts(Heartbeat(60), 3),
        status_every_seconds=0,
        fetching=SourceFetching(buckets or lab.buckets, {FetchKind.HTTP: server}, 60),
    )


async def _turn(lab: Lab, server: Server, name: str = "one", fault: Fault | None = None) -> bool:
    """Let a worker do one job, if there is one. Its store may fail."""
    queue = lab.worker(name, fault=fault)
    claim = await queue.claim(await queue.poll(), needs=Needs.FETCHING)
    if claim is None:
        return False
    buckets = lab.faulty(fault) if fault else None
    await _runner(lab, queue, server, buckets).work(claim)._run()
    return True


async def _settled(lab: Lab, server: Server, name: str) -> None:
    """Let a worker do the job to its end, whatever becomes of it."""
    queue = lab.worker(name)
    claim = await lab.claim(queue)
    if claim is not None:
        await _runner(lab, queue, server)(claim, asyncio.Event())


async def _open_uploads(lab: Lab) -> list[str]:
    return [upload.upload_id async for upload in lab.raw.list_uploads("")]


async def test_a_file_is_fetched_and_published(lab: Lab) -> None:
    video_id = await _added(lab)
    added = await read_video(lab.buckets, video_id)

    await _settled(lab, Server(), "one")

    video = await read_video(lab.buckets, video_id)
    assert (added.title, added.size_bytes) == ("A film", None)
    assert (video.title, video.filename, video.size_bytes) == ("film", "film.mp4", len(FILE))
    assert (video.fetched_from, video.description) == ("https://example.org/films/A%20film.mp4", "Two\nlines")
    status = Status.from_json((await lab.video.get(keys.status(video_id))).body)
    assert (status.stage, status.current_stage_index, status.total_stages) == (Stage.COMPLETE, 4, 5)
    assert await lab.raw_keys() == []
    assert await _open_uploads(lab) == []


async def test_the_users_title_stays(lab: Lab) -> None:
    video_id = await _added(lab, title="Mine")
    await _settled(lab, Server(), "one")
    assert (await read_video(lab.buckets, video_id)).title == "Mine"


async def test_a_marker_shows_that_a_job_is_to_be_fetched(lab: Lab) -> None:
    await _added(lab)
    queue = lab.worker("one")
    snapshot = await queue.poll()

    assert await queue.claim(snapshot, needs=Needs.PLANNING) is None
    assert await queue.claim(snapshot, needs=Needs.FETCHING)


async def test_the_next_attempt_continues_a_broken_fetch(lab: Lab) -> None:
    video_id = await _added(lab)
    broken, whole = Server(breaks_at=PART_BYTES), Server()

    await _settled(lab, broken, "one")
    lab.clock.advance(10)
    assert len(await _open_uploads(lab)) == 1
    await _settled(lab, whole, "two")

    assert whole.served == len(FILE) - PART_BYTES
    assert (await read_video(lab.buckets, video_id)).size_bytes == len(FILE)
    assert await _open_uploads(lab) == []


async def test_another_version_is_fetched_from_its_start(lab: Lab) -> None:
    await _added(lab)
    await _settled(lab, Server(breaks_at=PART_BYTES), "one")
    lab.clock.advance(10)
    changed = Server(file=FILE[::-1], version='"2"')

    assert await _turn(lab, changed, "two")

    (source,) = [key for key in await lab.raw_keys() if key.startswith(keys.UPLOADS)]
    assert (await lab.raw.get(source)).body == changed.file
    assert await _open_uploads(lab) == []


@pytest.mark.parametrize("after_the_call", [False, True])
@pytest.mark.parametrize("raises", [crash, lost_answer])
async def test_no_fault_of_a_fetch_leaves_anything_behind(
    after_the_call: bool, raises: Callable[[], BaseException]
) -> None:
    for at_call in range(1, 60):
        lab, fault = Lab(), Fault(at_call, raises, after_the_call)
        video_id = await _added(lab)
        with suppress(WorkerCrashed, StoreUnavailable):
            await _turn(lab, Server(), "one", fault)
        if fault.calls < at_call:
            break
        for name in ("two", "three"):
            lab.clock.advance(61)
            await _settled(lab, Server(), name)

        assert (await read_video(lab.buckets, video_id)).size_bytes == len(FILE), at_call
        assert await lab.raw_keys() == [], at_call
        assert await _open_uploads(lab) == [], at_call
    assert at_call > 15


async def test_a_worker_that_lost_its_lease_completes_nothing(lab: Lab) -> None:
    video_id = await _added(lab)
    one, late = lab.worker("one"), lab.worker("late")
    claim = await lab.claimed(late)
    lab.clock.advance(61)
    work = _runner(lab, late, Server(version=None)).work(claim)

    assert await lab.claim(one) is not None  # and fetches, but not yet
    with pytest.raises(LeaseLost):
        await work._run()

    assert await _open_uploads(lab) == []
    assert keys.upload(video_id) not in await lab.raw_keys()


async def test_a_source_that_stands_is_not_fetched_again(lab: Lab) -> None:
    video_id = await _added(lab)
    await lab.raw.put(keys.upload(video_id), b"there")
    server = Server()

    assert await _turn(lab, server)

    assert server.served == 0


async def test_a_source_that_another_holder_completes_meanwhile_is_not_fetched_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _added(lab)
    await _settled(lab, Server(breaks_at=PART_BYTES), "one")
    lab.clock.advance(10)
    list_parts = lab.raw.list_parts

    async def list_too_late(key: str, upload_id: str) -> list[UploadedPart]:
        await lab.raw.put(key, FILE)
        await lab.raw.abort_upload(key, upload_id)
        return await list_parts(key, upload_id)

    monkeypatch.setattr(lab.raw, "list_parts", list_too_late)
    server = Server()

    assert await _turn(lab, server, "two")

    assert server.served == 0


async def test_a_file_that_is_too_large_fails_and_leaves_nothing(lab: Lab) -> None:
    video_id = await _added(lab, max_bytes=len(FILE) - 1)

    await _settled(lab, Server(), "one")

    letter = DeadLetter.from_json((await lab.video.get(keys.result(video_id, video_id))).body)
    assert letter.error.code == "fetch_too_large"
    assert await _open_uploads(lab) == []


class Lies(Server):
    async def fetch(self, spec: FetchSpec, sink: FetchSink) -> Fetched:
        await sink.begin(None, None)
        await sink.write(self.file)
        await sink.write(self.file)
        raise AssertionError


async def test_a_file_without_a_size_that_is_too_large_fails(lab: Lab) -> None:
    await _added(lab, max_bytes=len(FILE) + 1)
    with pytest.raises(SourceRejected):
        await _turn(lab, Lies())


async def test_a_failed_fetch_can_be_retried(lab: Lab) -> None:
    video_id = await _added(lab, max_bytes=len(FILE))
    for name in ("one", "two", "three"):
        await _settled(lab, Server(breaks_at=0), name)
        lab.clock.advance(600)
    assert await lab.raw_keys() == [keys.dead_letter(video_id)]

    job = await retry_video(lab.buckets, video_id, now=lab.clock)
    await _settled(lab, Server(), "four")

    assert (job.request, job.is_to_be_fetched) == (f"{video_id}.1", True)
    assert (await read_video(lab.buckets, video_id)).size_bytes == len(FILE)
    assert await lab.raw_keys() == []


@pytest.mark.parametrize("end", [delete_video, cancel_video])
async def test_a_fetch_stops_when_its_job_is_cancelled_or_its_video_deleted(
    lab: Lab, end: Callable[[Buckets, str], object]
) -> None:
    video_id = await _added(lab)

    class Ends(Server):
        async def fetch(self, spec: FetchSpec, sink: FetchSink) -> Fetched:
            fetched = await super().fetch(spec, sink)
            await end(lab.buckets, video_id)  # type: ignore[misc]
            return fetched

    await _settled(lab, Ends(), "one")
    lab.clock.advance(600)
    await _settled(lab, Ends(), "two")

    letters = [keys.dead_letter(video_id)] if end is cancel_video else []
    assert await lab.raw_keys() == letters
    assert await _open_uploads(lab) == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_fetch_that_was_never_queued_fails_even_if_a_sweeper_dies(after: bool) -> None:
    rules = SweepRules(grace=timedelta(seconds=60))
    for at_call in range(1, 50):
        lab, fault = Lab(), Fault(at_call, crash, after)
        video_id = await _added(lab)
        await lab.raw.delete(keys.marker(video_id, keys.FETCHED))
        lab.clock.advance(100)
        with suppress(WorkerCrashed):
            await sweep(lab.faulty(fault), lab.worker("dies", fault=fault), rules)
        lab.clock.advance(100)

        await sweep(lab.buckets, lab.worker("sweeper"), rules)
        await _settled(lab, Server(), "one")

        assert await lab.raw_keys() == [keys.dead_letter(video_id)]
        letter = DeadLetter.from_json((await lab.video.get(keys.result(video_id, video_id))).body)
        assert letter.error.code == "never_queued"
        with pytest.raises(SourceGone):
            await retry_video(lab.buckets, video_id, now=lab.clock)
        if not fault.struck:
            return
    pytest.fail("the sweep never ended")


def test_no_address_is_shown_with_its_secrets() -> None:
    for address, shown in (
        (ADDRESS, "https://example.org/films/A%20film.mp4"),
        ("ftp://me:secret@example.org/a.mp4", "ftp://example.org/a.mp4"),
        ("magnet:?xt=urn:btih:aa&tr=http%3A%2F%2Ftracker%2Fsecret", "magnet:?xt=urn:btih:aa"),
    ):
        spec = FetchSpec(kind=FetchKind.HTTP, address=address, max_bytes=1)
        assert spec.shown == shown
        assert "secret" not in repr(spec)


async def test_progress_of_a_file_that_a_program_downloads_first_never_falls(lab: Lab) -> None:
    await _added(lab)
    queue = lab.worker("one")
    claim = await lab.claimed(queue)
    shown = list[tuple[int, int | None]]()

    class Downloads(Server):
        async def fetch(self, spec: FetchSpec, sink: FetchSink) -> Fetched:
            for received in (CHUNK, len(FILE)):
                sink.progress(received, len(FILE))
            return await super().fetch(spec, sink)

    async def note(_: object) -> None: ...

    fetching = SourceFetching(lab.buckets, {FetchKind.HTTP: Downloads()}, 60)
    await fetching.run(claim.lease, note, lambda *progress: shown.append(progress))

    assert shown == [(CHUNK, len(FILE)), (len(FILE), len(FILE))]

"""Processes that announce, log and read events, in a random order of their calls, and killed between any two.

A seed determines the schedule. LISTs are no snapshots: each key is looked up at one of two moments.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from backend.core import keys
from backend.core.errors import VodbucketError
from backend.core.event_records import Event
from backend.core.events.log import EventLog
from backend.core.ids import new_id
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.retry import retry_video
from backend.core.library.videos import add_video, delete_video
from backend.core.records import Job, Outputs, Stage, StatusError, Video, read_outcome
from backend.core.store.interface import LIST_PAGE, PLAIN, Body, Buckets, Listing, ObjectHeaders
from tests.core.jobs.queue_lab import LEASE_SECONDS, Clock, Lab
from tests.lab.memory_store import MemoryStore
from tests.simulation.events import rank_of
from worker.run.status import StatusWriter
from worker.transcode.progress import Progress

SETTLED = 12
"""After this many passes of the event loop, every task waits for its turn or has ended."""
VIDEOS = 3
KILLED = (0.01, 0.03, 0.1)
"""The share of steps at which a process dies."""
STEPS = 1500

_life: ContextVar["tuple[Process, int] | None"] = ContextVar("life", default=None)


class Killed(BaseException):
    """No handler of the product may catch it."""


@dataclass(eq=False)
class Process:
    """`live` is its whole life. A process that was killed starts again, unless it has reached its goal."""

    live: Callable[[], Awaitable[None]]
    waiting: list["asyncio.Future[None]"] = field(default_factory=list)
    task: "asyncio.Task[None] | None" = None
    ended: bool = False
    deaths: int = 0

    def start(self) -> None:
        async def life() -> None:
            with suppress(Killed):
                await self.live()
                self.ended = True

        token = _life.set((self, self.deaths))
        self.task = asyncio.create_task(life())
        _life.reset(token)

    async def kill(self) -> None:
        self.deaths += 1
        waiting, self.waiting = self.waiting, []
        for turn in waiting:
            turn.set_exception(Killed())
        if self.task is not None:
            with suppress(Killed):
                await self.task


async def _turn() -> None:
    if (life := _life.get()) is not None:
        process, deaths = life
        if process.deaths > deaths:
            raise Killed
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        process.waiting.append(turn)
        await turn


class TurnStore(MemoryStore):
    """Each call waits for its turn before and after it takes effect."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        super().__init__(clock)
        self._rng = rng

    async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
        await _turn()
        await super().put(key, body)
        await _turn()

    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        await _turn()
        created = await super().create(key, body)
        await _turn()
        return created

    async def get(self, key: str) -> Any:
        await _turn()
        return await super().get(key)

    async def head(self, key: str) -> Any:
        await _turn()
        return await super().head(key)

    async def delete(self, key: str) -> None:
        await _turn()
        await super().delete(key)
        await _turn()

    async def delete_many(self, keys: Sequence[str]) -> None:
        for key in keys:
            await _turn()
            await super().delete(key)

    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = LIST_PAGE) -> Listing:
        await _turn()
        page = await super().list_page(prefix, start_after=start_after, limit=limit)
        if _life.get() is None or page.truncated or not prefix.startswith(keys.EVENTS):
            return page
        await _turn()
        later = await super().list_page(prefix, start_after=start_after, limit=limit)
        shown = [one for one in page.objects if one in later.objects or self._rng.random() < 0.5]
        shown += [one for one in later.objects if one not in page.objects and self._rng.random() < 0.5]
        return Listing(tuple(sorted(shown, key=lambda one: one.key)), page.truncated, later.store_now)


@dataclass
class Protocol:
    """The product, or a mutant of it."""

    add_video: Callable[[Buckets, Video, Job], Awaitable[object]] = add_video
    delete_video: Callable[[Buckets, str], Awaitable[None]] = delete_video
    queue_class: type[JobQueue] = JobQueue
    log_class: type[EventLog] = EventLog


class Schedule:
    """One schedule of one seed."""

    def __init__(self, seed: int, protocol: Protocol) -> None:
        self.rng = random.Random(seed)
        self.clock = Clock()
        self.lab = Lab(self.clock, raw=TurnStore(self.clock, self.rng), video=TurnStore(self.clock, self.rng))
        self.buckets = self.lab.buckets
        self.protocol = protocol
        self.added: set[str] = set()
        self.deleted: set[str] = set()
        self.must: set[str] = set()
        """Ids of events that the log must have in the end."""
        self.followed: list[Event] = []
        self.over = False
        self.killed = self.rng.choice(KILLED)

    async def run(self) -> list[Event]:
        """Return the log at the end."""
        processes = [Process(self._uploader(new_id(number + 1, number))) for number in range(VIDEOS)]
        processes += [Process(self._work), Process(self._work), Process(self._log), Process(self._log)]
        processes += [Process(self._follow), Process(self._delete)]
        for process in processes:
            process.start()
        for step in range(STEPS):
            await _settle()
            self.over = step > STEPS * 0.8
            ready = [process for process in processes if process.waiting]
            if not ready:
                break
            process = self.rng.choice(ready)
            if self.rng.random() < self.killed and not self.over:
                await process.kill()
                self.clock.advance(self.rng.choice((0, LEASE_SECONDS + 1)))
                if not process.ended:
                    process.start()
            else:
                turn = process.waiting.pop(self.rng.randrange(len(process.waiting)))
                turn.set_result(None)
        for process in processes:
            await process.kill()
        return await self._rest()

    async def _rest(self) -> list[Event]:
        """Let others finish what is left, and return the log."""
        for _ in range(4):
            self.clock.advance(LEASE_SECONDS + 1)
            await self._turn_of_worker(self.lab.worker("last"))
        for video_id in self.deleted:
            await self.protocol.delete_video(self.buckets, video_id)
        await self._note_ends()
        log = self.protocol.log_class(self.buckets, self.clock)
        while await log.append():
            pass
        return await log.read(0, 10_000)

    async def _note_ends(self) -> None:
        """Note what must be logged of the outcomes that are stored."""
        async for info in self.lab.video.list_all(keys.VIDEOS):
            with suppress(VodbucketError):
                request = keys.request_of_result(info.key)
                outcome = read_outcome((await self.lab.video.get(info.key)).body)
                video_id, number = keys.video_of_request(request), keys.request_number(request)
                kinds = ("playable", "done") if isinstance(outcome, Outputs) else ("failed",)
                self.must |= {keys.event_id(video_id, number, kind) for kind in kinds}

    def _uploader(self, video_id: str) -> Callable[[], Awaitable[None]]:
        async def upload() -> None:
            source = keys.upload(video_id)
            video = Video(id=video_id, title="t", filename="f", size_bytes=3, created_at=self.clock())
            job = Job(
                id=video_id, request=video_id, source=source, source_size_bytes=3, created_at=self.clock()
            )
            await self.lab.raw.put(source, b"abc")
            with suppress(VodbucketError):  # it was added before the process was killed
                await self.protocol.add_video(self.buckets, video, job)
                self.added.add(video_id)
                self.must.add(keys.event_id(video_id, 0, "created"))

        return upload

    async def _work(self) -> None:
        queue = self.protocol.queue_class(
            self.buckets, owner="w", lease_seconds=LEASE_SECONDS, rng=self.rng, now=self.clock
        )
        while not self.over:
            with suppress(VodbucketError):
                await self._turn_of_worker(queue)
            if self.rng.random() < 0.2 and self.added:
                with suppress(VodbucketError):
                    await retry_video(self.buckets, self.rng.choice(sorted(self.added)), now=self.clock)

    async def _turn_of_worker(self, queue: JobQueue) -> None:
        while claim := await self.lab.claim(queue):
            status = StatusWriter(self.buckets.video, claim, now=self.clock)
            if self.rng.random() < 0.7:
                status.report(PLAYABLE)
                await status.write()
            await queue.renew(claim)
            if self.rng.random() < 0.4:
                await queue.bury(claim, StatusError(code="cancelled", message="m"))
            else:
                await queue.publish(claim, await self.lab.write_outputs(claim))

    async def _log(self) -> None:
        log = self.protocol.log_class(self.buckets, self.clock)
        while not self.over:
            await log.append()

    async def _follow(self) -> None:
        log = self.protocol.log_class(self.buckets, self.clock)
        while not self.over:
            self.followed += await log.read(len(self.followed), self.rng.choice((1, 2, 100)))

    async def _delete(self) -> None:
        while not self.over and len(self.deleted) < VIDEOS - 1:
            await self.buckets.raw.list_page("")
            if self.rng.random() < 0.05 and self.added:
                self.deleted.add(video_id := self.rng.choice(sorted(self.added)))
                self.must.add(keys.event_id(video_id, 0, "deleted"))
                await self.protocol.delete_video(self.buckets, video_id)


PLAYABLE = Progress(
    stage=Stage.TRANSCODING,
    stage_progress=0.5,
    playable=True,
    duration_seconds=1,
    qualities=(),
    renditions=(),
    encoder=None,
)


async def _settle() -> None:
    for _ in range(SETTLED):
        await asyncio.sleep(0)


def faults_of(schedule: Schedule, log: Sequence[Event]) -> list[str]:
    """Return what is wrong with the log, in words."""
    wrong = []
    if [event.number for event in log] != list(range(1, len(log) + 1)):
        wrong.append("numbers have gaps")
    first: dict[str, int] = {}
    for event in log:
        first.setdefault(event.id, event.number)
    wrong += [f"lost: {one}" for one in sorted(schedule.must - first.keys())]
    if [event.id for event in schedule.followed] != [event.id for event in log[: len(schedule.followed)]]:
        wrong.append("a reader saw another log")
    last: dict[str, tuple[float, int]] = {}
    for event in first:
        key = keys.parse_announcement(keys.announcement(event))
        rank = rank_of(key.number, key.kind)
        if rank <= last.get(key.subject, (-2, 0)) or (key.kind == "created") == (key.subject in last):
            wrong.append(f"out of order: {event}")
        last[key.subject] = rank
    return wrong

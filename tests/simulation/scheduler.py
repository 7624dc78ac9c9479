"""Runs the product's coroutines step by step: at each step, a seeded choice selects the next store call.

There is no event loop. A coroutine hands up what it waits for (a `Waiting`); this module owns time, processes
and the order of everything, and asks `faults` what goes wrong with each call.
"""

import random
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from backend.core.errors import StoreError, StoreUnavailable
from backend.core.store.interface import Listing, StoredObject
from tests.simulation.faults import MUTATIONS, REPEATED, Fate, Faults

START = datetime(2026, 1, 1, tzinfo=UTC)
STEP_SECONDS = (0.0, 0.0, 0.1, 0.5, 1.0, 2.0)
"""How far the clock may move in a step while at most `TASKS_AT_A_TIME` tasks are ready."""
TASKS_AT_A_TIME = 8
"""With more of them, a step takes less time, so that a call takes as long as with few."""

Work = Coroutine[Any, Any, Any]


class ProtocolBroken(BaseException):
    """An invariant does not hold. No handler of the product may catch it."""


def broken(what: str) -> NoReturn:
    raise ProtocolBroken(what)


class DoesNotRest(ProtocolBroken):
    """The processes never end."""


class Waiting:
    """Something that a coroutine may await in the simulation."""

    __slots__ = ()

    def __await__(self) -> Generator["Waiting", Any, Any]:
        return (yield self)


@dataclass(slots=True, eq=False)
class Call(Waiting):
    """A store call that was sent and has no response yet."""

    bucket: str
    verb: str
    arguments: tuple[Any, ...]

    def __str__(self) -> str:
        what = self.arguments[0]
        return f"{self.verb} {self.bucket} {what if isinstance(what, str) else ' '.join(what)}"


@dataclass(slots=True, eq=False)
class Rest(Waiting):
    seconds: float


@dataclass(slots=True, eq=False)
class Race(Waiting):
    """Run these concurrently. The first to end decides, and the others are cancelled with calls in flight."""

    works: tuple[Work, ...]


@dataclass(slots=True, eq=False)
class Together(Waiting):
    """Run these concurrently until all have ended."""

    works: tuple[Work, ...]


@dataclass(slots=True, eq=False)
class Stopped(Waiting):
    """Wait until the process is asked to stop."""


async def time_out(seconds: float) -> None:
    """Lose a `Race` by raising TimeoutError."""
    await Rest(seconds)
    raise TimeoutError


@dataclass(slots=True, eq=False)
class Process:
    """A process, which crashes, freezes and stops as a whole."""

    name: str
    begin: Callable[["Process"], Work]
    skew: timedelta = timedelta(0)
    restarts: bool = False
    frozen_until: float = 0
    stopping: bool = False
    alive: bool = True
    lives: int = 1
    now: Callable[[], datetime] = lambda: START
    """Its own clock, which is wrong."""


@dataclass(slots=True, eq=False)
class Task:
    """One task of a process."""

    process: Process
    work: Work
    parent: "Task | None" = None
    call: Call | None = None
    wakes: float = 0
    answer: Any = None
    error: BaseException | None = None
    children: list["Task"] = field(default_factory=list)
    needs_all: bool = False
    """Whether it resumes when all children have ended, or when one has."""


@dataclass(slots=True, eq=False)
class Latecomer:
    """A call that will take effect although no task waits for it any more."""

    due: float
    call: Call
    sender: str


class Scheduler:
    """Runs processes against `perform`, which executes a call and returns its response."""

    def __init__(
        self,
        rng: random.Random,
        faults: Faults,
        perform: Callable[[Call, str], Any],
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.rng = rng
        self.faults = faults
        self.perform = perform
        self.trace = trace
        self.now = 0.0
        self.steps = 0
        self.running: list[Task] = []
        self.processes: list[Process] = []
        self.latecomers: list[Latecomer] = []
        self._idle: list[Task] = []  # these wait for a signal to stop

    def clock(self) -> datetime:
        """The store's clock: whole seconds, as in the Date header."""
        return START + timedelta(seconds=int(self.now))

    def start(self, process: Process, *, after_seconds: float = 0) -> None:
        process.alive, process.stopping, process.frozen_until = True, False, 0
        process.now = lambda: self.clock() + process.skew
        if process not in self.processes:
            self.processes.append(process)
        self.running.append(Task(process, process.begin(process), wakes=self.now + after_seconds))

    def run(self, steps: int, enough: Callable[[], bool]) -> None:
        """Take up to this many steps, fewer if all processes have ended or `enough` says so."""
        last = self.steps + steps
        while self.steps < last and self.step() and not enough():
            pass

    def run_to_the_end(self, most_steps: int) -> None:
        """Raises: DoesNotRest."""
        last = self.steps + most_steps
        while self.step():
            if self.steps > last:
                raise DoesNotRest(f"no end after {most_steps} steps without faults")

    def abandon(self) -> None:
        """Drop all tasks."""
        for task in (*self.running, *self._idle):
            _close(task.work)

    def step(self) -> bool:
        """Run one task until its next call. Returns False if there is no task."""
        now = self.now
        ready: list[Task | Latecomer] = [
            task for task in self.running if task.wakes <= now and task.process.frozen_until <= now
        ]
        ready += [late for late in self.latecomers if late.due <= now]
        if not ready:
            return self._skip_time()
        self.steps += 1
        rng = self.rng
        share = min(1.0, TASKS_AT_A_TIME / len(ready))
        self.now += share * STEP_SECONDS[int(rng.random() * len(STEP_SECONDS))]
        chosen = ready[int(rng.random() * len(ready))]
        if isinstance(chosen, Latecomer):
            self.latecomers.remove(chosen)
            self._take_effect(chosen.call, chosen.sender, " (late)")
        elif chosen.call is not None:
            self._answer(chosen, chosen.call)
        else:
            answer, chosen.answer = chosen.answer, None
            error, chosen.error = chosen.error, None
            self._resume(chosen, answer, error)
        return True

    def _skip_time(self) -> bool:
        instants = [max(task.wakes, task.process.frozen_until) for task in self.running]
        instants += [late.due for late in self.latecomers]
        if not instants:
            return False
        self.now = max(self.now, min(instants))
        return True

    def _answer(self, task: Task, call: Call) -> None:
        process, faults = task.process, self.faults
        fate = faults.fate(call)
        sender = process.name
        if fate is Fate.NONE:
            self._deliver(task, *self._take_effect(call, sender))
            return
        self._say(f"{sender}: {call}: {fate.name}")
        match fate:
            case Fate.CRASH_BEFORE:
                self._crash(process)
            case Fate.CRASH_AFTER:
                self._take_effect(call, sender)
                self._crash(process)
            case Fate.FREEZE_BEFORE:
                process.frozen_until = self.now + faults.freeze_seconds()
            case Fate.FREEZE_AFTER:
                task.answer, task.error = self._take_effect(call, sender)
                task.call = None
                process.frozen_until = self.now + faults.freeze_seconds()
            case Fate.SLOW:
                task.wakes = self.now + faults.freeze_seconds()
            case Fate.LOST:
                self._take_effect(call, sender)
                self._deliver(task, None, StoreUnavailable("the response was lost"))
            case Fate.FAILED:
                self._deliver(task, None, StoreUnavailable("the call failed"))
            case Fate.LATE:
                if call.verb in MUTATIONS:
                    self._send_later(call, sender)
                self._deliver(task, None, StoreUnavailable("no response in time"))
            case Fate.REPEATED:
                answer, error = self._take_effect(call, sender)
                if call.verb in REPEATED:
                    self._send_later(call, sender)
                self._deliver(task, answer, error)
            case Fate.STOP:
                self._stop(process)
                self._deliver(task, *self._take_effect(call, sender))

    def _take_effect(self, call: Call, sender: str, how: str = "") -> tuple[Any, BaseException | None]:
        answer: Any = None
        error: BaseException | None = None
        try:
            answer = self.perform(call, sender)
        except StoreError as raised:
            error = raised
        if self.trace:
            self._say(f"{sender}: {call}{how} -> {type(error).__name__ if error else _short(answer)}")
        return answer, error

    def _send_later(self, call: Call, sender: str) -> None:
        self.latecomers.append(Latecomer(self.now + self.faults.delay_seconds(), call, sender))

    def _deliver(self, task: Task, answer: Any, error: BaseException | None) -> None:
        task.call = None
        self._resume(task, answer, error)

    def _resume(self, task: Task, answer: Any, error: BaseException | None) -> None:
        try:
            wanted = task.work.throw(error) if error else task.work.send(answer)
        except StopIteration as done:
            self._end(task, done.value, None)
        except Exception as raised:  # noqa: BLE001  # the parent handles it, or the schedule is broken
            self._end(task, None, raised)
        else:
            self._wait_for(task, wanted)

    def _wait_for(self, task: Task, wanted: Waiting) -> None:
        if type(wanted) is Call:
            task.call = wanted
        elif type(wanted) is Rest:
            task.wakes = self.now + wanted.seconds
        elif type(wanted) is Race or type(wanted) is Together:
            self.running.remove(task)
            task.needs_all = type(wanted) is Together
            task.children = [Task(task.process, work, task, wakes=self.now) for work in wanted.works]
            self.running += task.children
        elif type(wanted) is Stopped:
            if not task.process.stopping:
                self.running.remove(task)
                self._idle.append(task)
        else:
            raise TypeError(f"a coroutine awaits something unknown to the simulation: {wanted!r}")

    def _end(self, task: Task, answer: Any, error: Exception | None) -> None:
        self.running.remove(task)
        parent = task.parent
        if parent is None:
            if error is not None:
                raise ProtocolBroken(f"{task.process.name} broke: {error!r}") from error
            self._end_process(task.process)
            return
        parent.children.remove(task)
        if parent.needs_all and parent.children and error is None:
            return
        for other in parent.children:
            self._cancel(other)
        parent.children = []
        parent.answer, parent.error = answer, error
        parent.wakes = self.now
        self.running.append(parent)

    def _end_process(self, process: Process) -> None:
        process.alive = False
        if process.stopping and process.restarts:
            self._restart(process)

    def _restart(self, process: Process) -> None:
        process.lives += 1
        process.name = f"{process.name.partition('/')[0]}/{process.lives}"
        self.start(process, after_seconds=self.faults.restart_seconds())

    def _cancel(self, task: Task) -> None:
        """Drop a task. A call that it has sent may still take effect."""
        for child in task.children:
            self._cancel(child)
        if task in self.running:
            self.running.remove(task)
        elif task in self._idle:
            self._idle.remove(task)
        if task.call is not None and task.call.verb in MUTATIONS and self.faults.outlives_its_sender():
            self._send_later(task.call, task.process.name)
        _close(task.work)

    def _crash(self, process: Process) -> None:
        process.alive = False
        for task in [task for task in (*self.running, *self._idle) if task.process is process]:
            self._cancel(task)
            while (parent := task.parent) is not None:
                _close(parent.work)
                task = parent
        if process.restarts:
            self._restart(process)

    def _stop(self, process: Process) -> None:
        process.stopping = True
        for task in [task for task in self._idle if task.process is process]:
            self._idle.remove(task)
            task.wakes = self.now
            self.running.append(task)

    def _say(self, line: str) -> None:
        if self.trace:
            self.trace(f"{self.steps:5} {self.now:8.1f} s  {line}")


def _close(work: Work) -> None:
    with suppress(RuntimeError):  # a `finally` may await, which is impossible as the process is gone
        work.close()


def _short(answer: Any) -> str:
    if isinstance(answer, Listing):
        return f"[{' '.join(info.key for info in answer.objects)}]"
    if isinstance(answer, StoredObject):
        return answer.body.decode()
    return str(answer)

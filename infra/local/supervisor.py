"""Starts the processes in order, keeps them running, and stops them in the right order.

Store, API and worker start in this order, each once the previous one answers. They stop in reverse: a worker
releases its leases in the store, so the store stops last.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from backend.core.errors import VodbucketError
from backend.core.store.s3 import ensure_buckets, open_buckets
from infra.local.children import Child, Command
from infra.local.console import say
from infra.local.data import DataDirectory
from infra.local.errors import CannotRun
from infra.local.former_store import former_root, import_former_store, waits_for_import
from infra.local.plan import Plan
from infra.local.store import answers, remove_sockets, store_command

STORE_READY_SECONDS = 60.0
API_READY_SECONDS = 60.0
BUCKETS_SECONDS = 30.0
READY_POLL_SECONDS = 0.1
RESTART_SECONDS = (1.0, 2.0, 5.0, 15.0, 30.0)
STEADY_SECONDS = 60.0
"""After a worker has run this long, its restart pauses start over."""
WRONG_CONFIGURATION = 2
"""Exit status of our processes for a wrong setting or a missing tool. A restart would not help."""


class Supervisor:
    """All processes of one `make run`."""

    def __init__(self, plan: Plan, data: DataDirectory, *, with_site: bool = False) -> None:
        self._plan = plan
        self._data = data
        self._with_site = with_site
        self._children: list[Child] = []

    async def import_former_store(self, stop: asyncio.Event) -> None:
        """Start only the embedded store, copy the former one's objects into it, and stop it.

        Raises:
            CannotRun: there is no embedded store, it did not start, or the copy was interrupted.
        """
        if not self._plan.embedded:
            raise CannotRun("Another store is set (S3_ENDPOINT_URL or AWS_*), so nothing was copied.")
        if not waits_for_import(self._data):  # a second copy would restore objects deleted since
            say("Nothing to copy: it was copied before, or there is no former store.")
            return
        copying = asyncio.create_task(self._import())
        try:
            await _first_of([copying], stop)
            if stop.is_set():
                raise CannotRun("The copy was interrupted. Run `make import-old-store` again to continue.")
        finally:
            copying.cancel()
            with suppress(asyncio.CancelledError, CannotRun):
                await copying
            await self._stop_all()

    async def _import(self) -> None:
        await self._start_store()
        await self._make_buckets()
        try:
            async with open_buckets(self._plan.api_settings) as buckets:
                copied, there = await import_former_store(self._data, buckets)
        except VodbucketError as error:
            raise CannotRun(f"The former store's objects could not be copied: {error.message}") from None
        say(f"Copied {copied} objects; {there} already existed.")
        say(f"{former_root(self._data)} is no longer needed. You can delete it.")

    async def run(self, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        """Start everything, call `on_ready`, and stop it all when `stop` is set.

        Raises:
            CannotRun: a process did not start, or ended and cannot be restarted.
        """
        started = asyncio.create_task(self._start_all())
        try:
            await _first_of([started], stop)
            if not stop.is_set():
                on_ready()
                await self._keep_running(stop)
        finally:
            started.cancel()
            with suppress(asyncio.CancelledError, CannotRun):
                await started
            await self._stop_all()

    def kill_all(self) -> None:
        for child in self._children:
            child.kill()

    async def _start_all(self) -> None:
        plan = self._plan
        await self._start_store()
        await self._make_buckets()
        api = await self._start(plan.api())
        await self._ready(api, f"{plan.url}/readyz", API_READY_SECONDS)
        await self._start(plan.worker())
        if self._with_site:
            await self._start(plan.site())

    async def _start_store(self) -> None:
        if embedded := self._plan.embedded:
            store = await self._start(store_command(embedded, self._data))
            for url in embedded.health_urls:
                await self._ready(store, url, STORE_READY_SECONDS)

    async def _start(self, command: Command) -> Child:
        child = await Child.start(command, self._data.pids)
        self._children.append(child)
        return child

    async def _ready(self, child: Child, url: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not await asyncio.to_thread(answers, url):
            if not child.running:
                await child.wait()
                raise CannotRun(_why_it_ended(child))
            if time.monotonic() > deadline:
                raise CannotRun(f"The {child.name} did not answer at {url} within {seconds:.0f} s.")
            await asyncio.sleep(READY_POLL_SECONDS)

    async def _make_buckets(self) -> None:
        try:
            async with asyncio.timeout(BUCKETS_SECONDS), open_buckets(self._plan.api_settings) as buckets:
                await ensure_buckets(buckets)
        except TimeoutError:
            raise CannotRun(f"The store ({self._plan.store_name}) does not answer.") from None
        except VodbucketError as error:
            raise CannotRun(f"The store ({self._plan.store_name}) cannot be used: {error.message}") from None

    async def _keep_running(self, stop: asyncio.Event) -> None:
        """Watch every child. Only the worker is restarted."""
        guards = [
            asyncio.create_task(self._restarting(child) if child.name == "worker" else self._essential(child))
            for child in self._children
        ]
        try:
            await _first_of(guards, stop)
        finally:
            for guard in guards:
                guard.cancel()
            await asyncio.gather(*guards, return_exceptions=True)

    async def _essential(self, child: Child) -> None:
        await child.wait()
        raise CannotRun(_why_it_ended(child))

    async def _restarting(self, worker: Child) -> None:
        restarts = 0
        while True:
            since = time.monotonic()
            status = await worker.wait()
            self._children.remove(worker)
            if status == WRONG_CONFIGURATION:
                raise CannotRun(_why_it_ended(worker))
            restarts = 0 if time.monotonic() - since > STEADY_SECONDS else restarts
            pause = RESTART_SECONDS[min(restarts, len(RESTART_SECONDS) - 1)]
            say(f"The worker ended {_how(status)}. Restarting it in {pause:.0f} s.")
            await asyncio.sleep(pause)
            restarts += 1
            worker = await self._start(worker.command)

    async def _stop_all(self) -> None:
        order = {"site": 0, "worker": 1, "api": 2, "store": 3}
        for child in sorted(self._children, key=lambda child: order[child.name]):
            await child.stop()
        if self._plan.embedded:
            remove_sockets(self._plan.embedded.ports)


async def _first_of(tasks: Sequence[asyncio.Task[None]], stop: asyncio.Event) -> None:
    """Wait until a task ends (and raise its error) or `stop` is set."""
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        stopping.cancel()


def _why_it_ended(child: Child) -> str:
    last_words = child.tail[-1] if child.tail else "it printed nothing"
    return f"The {child.name} ended {_how(child.status)}: {last_words}"


def _how(status: int) -> str:
    return f"by signal {-status}" if status < 0 else f"with status {status}"

"""`python -m worker`: run jobs until told to stop or, with `--drain`, until no job waits or runs.

On the first SIGTERM or SIGINT it claims no more jobs, kills the encoders, releases its leases so that other
workers can claim the jobs at once, closes its connections and exits.
"""

import argparse
import asyncio
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import uvloop

from backend.core.errors import VodbucketError
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.units import UnitQueue
from backend.core.logs import configure_logs
from backend.core.printable import printable
from backend.core.records import FetchKind, Job
from backend.core.settings import WorkerSettings, load
from backend.core.store.interface import Buckets
from backend.core.store.retrying import with_retries
from backend.core.store.s3 import open_buckets
from backend.core.sweep.retention import RetentionRules
from backend.core.sweep.sweeper import SweepRules
from backend.core.unit_records import UnitPlan
from worker.encode.encoder_trials import choose_encoders
from worker.fetch.aria2_fetcher import Aria2Fetcher
from worker.fetch.ftp_fetcher import FtpFetcher
from worker.fetch.guard import Guard
from worker.fetch.http_fetcher import HttpFetcher
from worker.fetch.s3_fetcher import S3Fetcher
from worker.fetch.source import SourceFetching
from worker.run.admission import admit
from worker.run.doorbell import listening
from worker.run.heartbeat import Heartbeat
from worker.run.job import JobRunner
from worker.run.machine import fit_machine
from worker.run.outcomes import Attempts
from worker.run.poller import Poller
from worker.run.slots import Finder, Slots, handlers
from worker.run.sweeping import keep_sweeping
from worker.run.unit_job import UnitRunner
from worker.run.unit_status import UnitStatus
from worker.sandbox.resources import cores, encodes_at_a_time, memory_bytes
from worker.sandbox.tools import find_tools, version_of
from worker.transcode.transcoder import EncodingProfile, Transcoder
from worker.units.attempt import Workshop
from worker.units.details import fingerprint
from worker.units.division import Capacity, Division
from worker.units.join import Joiner
from worker.units.look import LookMaker
from worker.units.making import UnitMaker
from worker.units.opening import Openings
from worker.units.planner import Planner
from worker.webhooks.deliverer import Deliveries
from worker.webhooks.sending import Sender, Target


def main() -> int:
    arguments = _parse_arguments(sys.argv[1:])
    configure_logs()
    try:
        settings = load(WorkerSettings)
        uvloop.run(_serve(settings, drain=arguments.drain))
    except VodbucketError as error:
        print(f"vodbucket worker: {printable(error.message)}", file=sys.stderr)  # noqa: T201  # for the terminal
        return error.exit_code
    return 0


def _parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m worker", description="Transcode queued videos.")
    parser.add_argument("--drain", action="store_true", help="exit once no job waits or runs anywhere")
    return parser.parse_args(argv)


async def _serve(settings: WorkerSettings, *, drain: bool) -> None:
    stop, rung = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    work_dir = settings.work_dir or Path(tempfile.gettempdir())
    choose = partial(
        choose_encoders,
        requested=settings.video_server_encoder,
        rendition_codecs=settings.rendition_codecs,
        render_node=settings.video_vaapi_device,
    )
    machine = await fit_machine(partial(find_tools, settings), choose, work_dir, stop)
    if machine is None:
        return
    profile = EncodingProfile.of(settings, machine.encoders)
    async with open_buckets(settings) as buckets:
        await admit(buckets, stop, pause_seconds=settings.worker_poll_seconds)
        retrying = with_retries(buckets, settings.store_patience_seconds)
        owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        queue = JobQueue(
            retrying,
            owner=owner,
            lease_seconds=settings.lease_seconds,
            keep_originals=settings.keep_originals,
        )
        units = UnitQueue(retrying, queue, owner=owner)
        workshop = Workshop(retrying, machine.tools, profile, work_dir)
        encoder = fingerprint(machine.encoders, await version_of("ffmpeg", machine.tools.ffmpeg))
        status = UnitStatus(retrying.video, units, machine.encoders.description)
        encodes = settings.worker_concurrency or encodes_at_a_time(cores(), memory_bytes())
        capacity = Capacity(encodes)
        transcoder = Transcoder(
            retrying, machine.tools, profile, work_dir, LookMaker(machine.tools.ffmpeg).run
        )

        heartbeat = Heartbeat(settings.lease_seconds, settings.store_patience_seconds)
        attempts = Attempts(heartbeat, settings.max_attempts, machine.examine)
        openings = Openings(rung.set)
        finder = Finder(queue, units, encoder, capacity, looks_open=lambda: bool(openings))

        async def on_plan(job: Job, plan: UnitPlan) -> None:
            finder.add(job, plan)
            if not plan.has_look:
                rung.set()
            await status.write(job, plan)

        guard = Guard(allow_private=settings.allow_private_urls)
        run_job = JobRunner(
            queue=queue,
            pipeline=transcoder,
            video=retrying.video,
            attempts=attempts,
            division=Division(
                queue,
                units,
                transcoder,
                Planner(workshop, encoder, settings.chunk_seconds),
                Joiner(workshop),
                encoder,
                capacity,
                on_plan,
            ),
            fetching=SourceFetching(
                retrying,
                {
                    FetchKind.HTTP: HttpFetcher(guard),
                    FetchKind.FTP: FtpFetcher(guard),
                    FetchKind.ARIA2: Aria2Fetcher(guard, workshop.work_dir),
                    FetchKind.S3: S3Fetcher(retrying),
                },
                settings.fetch_timeout_seconds,
            ),
        )
        run_unit = UnitRunner(
            units,
            UnitMaker(workshop, status.write, openings),
            status.write,
            attempts,
        )
        poller = Poller(
            queue,
            stop,
            poll_seconds=settings.worker_poll_seconds,
            lease_seconds=settings.lease_seconds,
            drain=drain,
            ready=machine.check_before_claim,
            rung=rung,
        )
        sweeping = _sweeping(buckets, queue, settings, stop, drain=drain)
        delivering = _delivering(retrying, owner, settings, stop, drain=drain)
        async with sweeping, delivering, listening(settings.doorbell, rung):
            slots = Slots(cores() + 1, encodes, finder, capacity, settings.fetch_concurrency)
            await slots.serve(poller, handlers(run_job, run_unit), stop)


@asynccontextmanager
async def _sweeping(
    buckets: Buckets, queue: JobQueue, settings: WorkerSettings, stop: asyncio.Event, *, drain: bool
) -> AsyncIterator[None]:
    """Sweep in the background for the duration of the block."""
    if drain or not settings.sweep_every_seconds:
        yield
        return
    rules = SweepRules.of(
        settings.sweep_grace_seconds, settings.upload_ttl_seconds, settings.events_keep_days
    )
    sweeping = asyncio.create_task(
        keep_sweeping(
            *(buckets, queue, rules, RetentionRules.of(settings)),
            every_seconds=settings.sweep_every_seconds,
            stop=stop,
        )
    )
    try:
        yield
    finally:
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)


@asynccontextmanager
async def _delivering(
    buckets: Buckets, owner: str, settings: WorkerSettings, stop: asyncio.Event, *, drain: bool
) -> AsyncIterator[None]:
    """Deliver events to webhooks in the background for the duration of the block."""
    if drain or not settings.webhook_urls:
        yield
        return
    secrets_ = tuple(secret.get_secret_value() for secret in settings.webhook_secrets)
    targets = [Target(url.get_secret_value(), secrets_) for url in settings.webhook_urls]
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        sends = {target: Sender(session, target).send for target in targets}
        deliveries = Deliveries(
            buckets,
            sends,
            owner=owner,
            poll_seconds=settings.worker_poll_seconds,
            lease_seconds=settings.lease_seconds,
        )
        delivering = asyncio.create_task(deliveries.keep(stop))
        try:
            yield
        finally:
            stop.set()
            await delivering


if __name__ == "__main__":
    sys.exit(main())

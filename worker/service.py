"""A worker on any pair of buckets, made of its parts."""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import aiohttp

from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.units import UnitQueue
from backend.core.records import FetchKind, Job
from backend.core.settings import WorkerSettings
from backend.core.store.interface import Buckets
from backend.core.store.retrying import with_retries
from backend.core.sweep.retention import RetentionRules
from backend.core.sweep.sweeper import SweepRules
from backend.core.unit_records import UnitPlan
from worker.encode.encoder_trials import choose_encoders
from worker.encode.video_encoders import Encoders
from worker.fetch.aria2_fetcher import Aria2Fetcher
from worker.fetch.ftp_fetcher import FtpFetcher
from worker.fetch.guard import Guard
from worker.fetch.http_fetcher import HttpFetcher
from worker.fetch.s3_fetcher import S3Fetcher
from worker.fetch.source import SourceFetching
from worker.fetch.upstream import Upstream
from worker.fetch.ytdlp_fetcher import YtdlpFetcher
from worker.run.doorbell import listening
from worker.run.heartbeat import Heartbeat
from worker.run.job import JobRunner
from worker.run.machine import Machine
from worker.run.outcomes import Attempts
from worker.run.poller import Poller
from worker.run.slots import Finder, Slots, handlers
from worker.run.sweeping import keep_sweeping
from worker.run.unit_job import UnitRunner
from worker.run.unit_status import UnitStatus
from worker.sandbox.resources import cores, encodes_at_a_time, memory_bytes
from worker.sandbox.tools import Tools, version_of
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


def choosing(settings: WorkerSettings) -> Callable[[Tools], Awaitable[Encoders]]:
    """Return what finds out which encoders to use. It raises: ConfigurationError."""
    return partial(
        choose_encoders,
        requested=settings.video_server_encoder,
        rendition_codecs=settings.rendition_codecs,
        render_node=settings.video_vaapi_device,
    )


async def serve(
    settings: WorkerSettings, buckets: Buckets, machine: Machine, stop: asyncio.Event, *, drain: bool
) -> None:
    """Run jobs until `stop` is set or, with `drain`, until none waits or runs.

    On `stop` it claims no more, kills the encoders and releases its leases.
    """
    rung, work_dir = asyncio.Event(), machine.work_dir
    profile = EncodingProfile.of(settings, machine.encoders)
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
    transcoder = Transcoder(retrying, machine.tools, profile, work_dir, LookMaker(machine.tools.ffmpeg).run)

    heartbeat = Heartbeat(settings.lease_seconds, settings.store_patience_seconds)
    attempts = Attempts(heartbeat, settings.max_attempts, machine.examine)
    openings = Openings(rung.set)
    finder = Finder(queue, units, encoder, capacity, looks_open=lambda: bool(openings))

    async def on_plan(job: Job, plan: UnitPlan) -> None:
        finder.add(job, plan)
        if not plan.has_look:
            rung.set()
        await status.write(job, plan)

    upstream = Upstream(settings.fetch_proxy) if settings.fetch_proxy else None
    guard = Guard(allow_private=settings.allow_private_urls, upstream=upstream)
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
                FetchKind.ARIA2: Aria2Fetcher(guard, work_dir),
                FetchKind.YTDLP: YtdlpFetcher(
                    guard, work_dir, machine.tools.ffmpeg, cookies=settings.ytdlp_cookies_file
                ),
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
        settings.sweep_grace_seconds,
        settings.upload_ttl_seconds,
        events_keep_days=settings.events_keep_days,
        convert_keep_seconds=settings.convert_keep_seconds,
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

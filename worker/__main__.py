"""`python -m worker`: run jobs until told to stop; with `--drain` until no job waits or runs, then exit."""

import argparse
import asyncio
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import structlog

from backend.core.errors import VodbucketError
from backend.core.jobs import JobQueue
from backend.core.logs import configure_logs
from backend.core.patience import patient
from backend.core.s3 import open_buckets
from backend.core.settings import WorkerSettings, load
from backend.core.store import Buckets
from backend.core.sweep import SweepRules
from worker.admission import admit
from worker.encoders import choose_encoders
from worker.job import JobRunner
from worker.lookout import Lookout
from worker.loop import work
from worker.signals import stop_on_signals
from worker.sweeping import keep_sweeping
from worker.tools import find_tools
from worker.transcoder import EncodingProfile, Transcoder
from worker.workspace import sweep_workspaces

log = structlog.get_logger(__name__)

EXIT_CONFIGURATION = 2


def main() -> int:
    arguments = _parse_arguments(sys.argv[1:])
    configure_logs()
    try:
        settings = load(WorkerSettings)
        asyncio.run(_serve(settings, drain=arguments.drain))
    except VodbucketError as error:
        print(f"vodbucket worker: {error.message}", file=sys.stderr)  # noqa: T201  # before any log reader
        return EXIT_CONFIGURATION
    return 0


def _parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m worker", description="Transcode queued videos.")
    parser.add_argument("--drain", action="store_true", help="exit once no job waits or runs anywhere")
    return parser.parse_args(argv)


async def _serve(settings: WorkerSettings, *, drain: bool) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    tools = find_tools(settings)
    encoders = await choose_encoders(
        tools, settings.video_server_encoder, settings.rendition_codecs, settings.video_vaapi_device
    )
    work_dir = settings.work_dir or Path(tempfile.gettempdir())
    swept = sweep_workspaces(work_dir)
    if swept:
        log.info("workspaces_swept", count=swept)
    async with open_buckets(settings) as buckets:
        await admit(
            buckets,
            stop,
            only_worker=settings.only_worker,
            concurrency=settings.worker_concurrency,
            pause_seconds=settings.worker_poll_seconds,
        )
        lasting = patient(buckets, settings.store_patience_seconds)
        queue = JobQueue(
            lasting,
            owner=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}",
            lease_seconds=settings.lease_seconds,
            keep_originals=settings.keep_originals,
        )
        runner = JobRunner(
            queue=queue,
            pipeline=Transcoder(lasting, tools, EncodingProfile.of(settings, encoders), work_dir),
            video=lasting.video,
            lease_seconds=settings.lease_seconds,
            max_attempts=settings.max_attempts,
            patience_seconds=settings.store_patience_seconds,
        )
        lookout = Lookout(
            queue,
            stop,
            poll_seconds=settings.worker_poll_seconds,
            lease_seconds=settings.lease_seconds,
            drain=drain,
        )
        async with _sweeping(buckets, queue, settings, stop, drain=drain):
            await work(lookout, runner, stop, concurrency=settings.worker_concurrency)


@asynccontextmanager
async def _sweeping(
    buckets: Buckets, queue: JobQueue, settings: WorkerSettings, stop: asyncio.Event, *, drain: bool
) -> AsyncIterator[None]:
    """Sweep beside the jobs, while the block lasts."""
    if drain or not settings.sweep_every_seconds:
        yield
        return
    rules = SweepRules.of(settings.sweep_grace_seconds, settings.upload_ttl_seconds)
    sweeping = asyncio.create_task(
        keep_sweeping(buckets, queue, rules, every_seconds=settings.sweep_every_seconds, stop=stop)
    )
    try:
        yield
    finally:
        sweeping.cancel()
        with suppress(asyncio.CancelledError):
            await sweeping


if __name__ == "__main__":
    sys.exit(main())

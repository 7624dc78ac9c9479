"""`python -m worker`: run jobs until told to stop or, with `--drain`, until no job waits or runs.

On the first SIGTERM or SIGINT it claims no more jobs, kills the encoders, releases its leases so that other
workers can claim the jobs at once, closes its connections and exits.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path

import uvloop

from backend.core.errors import VodbucketError
from backend.core.logs import configure_logs
from backend.core.printable import printable
from backend.core.settings import WorkerSettings, load
from backend.core.store.s3 import open_buckets
from worker.run.admission import admit
from worker.run.machine import fit_machine
from worker.sandbox.tools import find_tools
from worker.service import choosing, serve


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
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    work_dir = settings.work_dir or Path(tempfile.gettempdir())
    machine = await fit_machine(partial(find_tools, settings), choosing(settings), work_dir, stop)
    if machine is None:
        return
    async with open_buckets(settings) as buckets:
        await admit(buckets, stop, pause_seconds=settings.worker_poll_seconds)
        await serve(settings, buckets, machine, stop, drain=drain)


if __name__ == "__main__":
    sys.exit(main())

"""`vodbucket sweep`."""

import asyncio
import os
import socket
from dataclasses import replace
from datetime import timedelta
from typing import Annotated

import typer

from backend.core.jobs.job_queue import JobQueue
from backend.core.settings import WorkerSettings, load
from backend.core.store.s3 import open_buckets
from backend.core.sweep.sweeper import SweepReport, SweepRules
from backend.core.sweep.sweeper import sweep as sweep_buckets
from vodbucket.commands.options import OPERATIONS_PANEL, AsJson
from vodbucket.output.messages import print_json
from vodbucket.output.tables import show_sweep

MAX_HOURS = 87_600
"""Ten years."""

app = typer.Typer()


@app.command(rich_help_panel=OPERATIONS_PANEL)
def sweep(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be cleaned up, without changing anything.")
    ] = False,
    grace: Annotated[
        float | None,
        typer.Option(min=0, help="Keep anything younger than this many hours. Default: SWEEP_GRACE_SECONDS."),
    ] = None,
    uploads_older_than: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Keep unfinished uploads for this many hours. "
            "Default: the longer of UPLOAD_TTL_SECONDS and SWEEP_GRACE_SECONDS.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Clean up what crashes left in the buckets. Workers also do this on their own."""
    settings = load(WorkerSettings)
    usual = SweepRules.of(
        settings.sweep_grace_seconds,
        settings.upload_ttl_seconds,
        events_keep_days=settings.events_keep_days,
        convert_keep_seconds=settings.convert_keep_seconds,
    )
    rules = replace(
        usual, grace=_hours(grace, usual.grace), uploads_after=_hours(uploads_older_than, usual.uploads_after)
    )
    report = asyncio.run(_sweep(settings, rules, dry_run=dry_run))
    if as_json:
        print_json(report)
    else:
        show_sweep(report)


async def _sweep(settings: WorkerSettings, rules: SweepRules, *, dry_run: bool) -> SweepReport:
    async with open_buckets(settings) as buckets:
        queue = JobQueue(
            buckets,
            owner=f"sweep-{socket.gethostname()}-{os.getpid()}",
            lease_seconds=settings.lease_seconds,
            # this shell may lack the workers' setting
            keep_originals=settings.keep_originals or None,
        )
        return await sweep_buckets(buckets, queue, rules, dry_run=dry_run)


def _hours(given: float | None, default: timedelta) -> timedelta:
    if given is None:
        return default
    if not given <= MAX_HOURS:  # NaN too
        raise typer.BadParameter(f"the hours must be a number up to {MAX_HOURS}")
    return timedelta(hours=given)

"""`vodbucket clean`."""

import asyncio
from typing import Annotated

import typer

from backend.core.settings import WorkerSettings, load
from backend.core.store.s3 import open_buckets
from backend.core.sweep.retention import CleanReport, RetentionRules
from backend.core.sweep.retention import clean as clean_buckets
from vodbucket.commands.options import OPERATIONS_PANEL, AsJson
from vodbucket.output.messages import print_json
from vodbucket.output.tables import show_clean

app = typer.Typer()


@app.command(rich_help_panel=OPERATIONS_PANEL)
def clean(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed, without removing anything.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove the renditions of videos that nobody has watched for the longest time.

    STORAGE_MAX_BYTES and RENDITIONS_TTL_DAYS say which. Workers also do this on their own. Files for download
    stay, and the next viewer has the rest made again.
    """
    settings = load(WorkerSettings)
    report = asyncio.run(_clean(settings, dry_run=dry_run))
    if as_json:
        print_json(report)
    else:
        show_clean(report)


async def _clean(settings: WorkerSettings, *, dry_run: bool) -> CleanReport:
    async with open_buckets(settings) as buckets:
        return await clean_buckets(buckets, RetentionRules.of(settings), dry_run=dry_run)

"""`vodbucket jobs`, `vodbucket cancel` and `vodbucket retry`."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from backend.core.errors import VodbucketError
from backend.core.ids import parse_id
from backend.core.jobs.cancel import cancel_video
from backend.core.jobs.overview import JobsOverview, JobState, list_jobs
from backend.core.jobs.retry import retry_video
from backend.core.records import TranscodeOptions
from backend.core.settings import StoreSettings, load
from backend.core.store.s3 import open_buckets
from vodbucket.commands.exit_codes import EXIT_FAILED
from vodbucket.commands.options import OPERATIONS_PANEL, AsJson
from vodbucket.output.messages import print_error, print_json, print_line
from vodbucket.output.tables import show_jobs

app = typer.Typer()


@app.command(rich_help_panel=OPERATIONS_PANEL)
def jobs(
    state: Annotated[
        list[JobState] | None, typer.Option(help="Show only jobs in this state. May be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of jobs for each state.")] = 200,
    as_json: AsJson = False,
) -> None:
    """List running, waiting, queued and failed jobs."""
    overview = asyncio.run(_list_jobs(load(StoreSettings), state or tuple(JobState), limit))
    if as_json:
        print_json(overview)
    else:
        show_jobs(overview)


@app.command(rich_help_panel=OPERATIONS_PANEL)
def retry(
    videos: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Ids of videos to encode again.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Retry all failed jobs.")] = False,
    crf: Annotated[int | None, typer.Option(min=0, max=63, help="AV1 quality; lower is better.")] = None,
    cpu_used: Annotated[int | None, typer.Option(min=0, max=8, help="AV1 speed; higher is faster.")] = None,
) -> None:
    """Encode videos again, from the source files that failed jobs keep."""
    if not videos and not failed:
        raise typer.BadParameter("give at least one video id, or --failed")
    options = TranscodeOptions(crf=crf, cpu_used=cpu_used)
    if not asyncio.run(_retry(load(StoreSettings), videos or [], options, all_failed=failed)):
        raise typer.Exit(EXIT_FAILED)


@app.command(rich_help_panel=OPERATIONS_PANEL)
def cancel(
    videos: Annotated[list[str], typer.Argument(metavar="ID", help="Ids of videos whose jobs to cancel.")],
) -> None:
    """Cancel the jobs of videos, whether they wait or run. The videos stay."""
    if not asyncio.run(_cancel(load(StoreSettings), videos)):
        raise typer.Exit(EXIT_FAILED)


async def _cancel(settings: StoreSettings, videos: Sequence[str]) -> bool:
    """Return whether all were cancelled. An error for one does not stop the others."""
    all_cancelled = True
    async with open_buckets(settings) as buckets:
        for video in dict.fromkeys(videos):
            try:
                job = await cancel_video(buckets, parse_id(video))
                print_line(f"cancelled: {job.request}")
            except VodbucketError as error:
                all_cancelled = False
                print_error(f"{video}: {error.message}")
    return all_cancelled


async def _list_jobs(settings: StoreSettings, states: Sequence[JobState], limit: int) -> JobsOverview:
    async with open_buckets(settings) as buckets:
        return await list_jobs(buckets, states=states, limit=limit)


async def _retry(
    settings: StoreSettings, videos: Sequence[str], options: TranscodeOptions, *, all_failed: bool
) -> bool:
    """Queue each video and return whether all were queued. An error for one does not stop the others."""
    all_queued = True
    async with open_buckets(settings) as buckets:
        failed = (await list_jobs(buckets, states={JobState.FAILED})).jobs if all_failed else ()
        for video in dict.fromkeys((*videos, *(job.video_id for job in failed))):
            try:
                job = await retry_video(buckets, parse_id(video), options=options)
                print_line(f"queued: {job.request}")
            except VodbucketError as error:
                all_queued = False
                print_error(f"{video}: {error.message}")
    return all_queued

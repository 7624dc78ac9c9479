"""`vodbucket`, also `python -m vodbucket`: the command line.

The operator's commands are here, and talk to the store directly; those for videos are in
`vodbucket.video_commands`.
"""

import asyncio
import json
import logging
import os
import socket
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer
from pydantic import TypeAdapter

from backend.core.errors import ConfigurationError, VodbucketError
from backend.core.ids import parse_id
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.overview import JobsOverview, JobState, list_jobs
from backend.core.jobs.retry import retry_video
from backend.core.logs import configure_logs
from backend.core.records import TranscodeOptions
from backend.core.settings import OriginSettings, StoreSettings, UploadSettings, WorkerSettings, load
from backend.core.store.probes import Check, Verdict
from backend.core.store.s3 import open_buckets
from backend.core.sweep.sweeper import SweepReport, SweepRules, sweep
from vodbucket import video_commands
from vodbucket.encoders import EncoderTable, complaints, try_encoders
from vodbucket.errors import ServerAway
from vodbucket.exits import EXIT_CONFIGURATION, EXIT_FAILED, EXIT_SERVER_AWAY
from vodbucket.tables import show_checks, show_encoders, show_jobs, show_sweep

DOCTOR_SDK_ATTEMPTS = 2
"""The doctor's reader waits, and a lost packet must not look like a lost store."""

app = typer.Typer(
    help="Upload videos, and look after vodbucket's jobs and store. Settings come from the environment.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(video_commands.app)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def main() -> None:
    configure_logs(level=logging.WARNING)
    try:
        app()
    except ConfigurationError as error:
        _complain(error.message)
        sys.exit(EXIT_CONFIGURATION)
    except ServerAway as error:
        _complain(error.message)
        sys.exit(EXIT_SERVER_AWAY)
    except VodbucketError as error:
        _complain(error.message)
        sys.exit(EXIT_FAILED)


@app.command()
def jobs(
    state: Annotated[
        list[JobState] | None, typer.Option(help="Only jobs of this state; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many of each state.")] = 200,
    as_json: AsJson = False,
) -> None:
    """List the jobs that run, wait or have failed."""
    overview = asyncio.run(_list_jobs(load(StoreSettings), state or tuple(JobState), limit))
    if as_json:
        typer.echo(overview.model_dump_json(indent=2))
    else:
        show_jobs(overview)


@app.command()
def retry(
    videos: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Videos to encode once more.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All videos whose job was given up.")] = False,
    crf: Annotated[int | None, typer.Option(min=0, max=63, help="AV1 quality; lower is better.")] = None,
    cpu_used: Annotated[int | None, typer.Option(min=0, max=8, help="AV1 speed; higher is faster.")] = None,
) -> None:
    """Queue videos again, from the sources that failed jobs keep."""
    if not videos and not failed:
        raise typer.BadParameter("name videos, or ask for all with --failed")
    options = TranscodeOptions(crf=crf, cpu_used=cpu_used)
    if not asyncio.run(_retry(load(StoreSettings), videos or [], options, all_failed=failed)):
        raise typer.Exit(EXIT_FAILED)


@app.command("sweep")
def sweep_store(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")] = False,
    grace: Annotated[
        float | None,
        typer.Option(min=0, help="Hours: what is younger is left alone. By default SWEEP_GRACE_SECONDS."),
    ] = None,
    uploads_older_than: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Hours: uploads under way are left alone so long. "
            "By default UPLOAD_TTL_SECONDS or SWEEP_GRACE_SECONDS, whichever is longer.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Remove what crashes have left in the buckets, as workers do by themselves."""
    settings = load(WorkerSettings)
    usual = SweepRules.of(settings.sweep_grace_seconds, settings.upload_ttl_seconds)
    rules = SweepRules(
        grace=_hours(grace, usual.grace), uploads_after=_hours(uploads_older_than, usual.uploads_after)
    )
    report = asyncio.run(_sweep(settings, rules, dry_run=dry_run))
    if as_json:
        typer.echo(TypeAdapter(SweepReport).dump_json(report, indent=2).decode())
    else:
        show_sweep(report)


@app.command()
def doctor(
    fix: Annotated[
        bool, typer.Option("--fix", help="Create missing buckets, set CORS and clean-up rules, look again.")
    ] = False,
    worker: Annotated[
        bool, typer.Option(help="Examine this machine as a worker's: ffmpeg, packager, encoders, WORK_DIR.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Test the store and this machine for all that vodbucket relies on; status 1 when something fails."""
    checks = asyncio.run(_examine(worker=worker))
    if fix:
        done = asyncio.run(_fix(checks))
        typer.echo("\n".join(done) or "nothing to fix", err=True)
        checks = asyncio.run(_examine(worker=worker)) if done else checks
    failed = any(check.verdict is Verdict.FAIL for check in checks)
    if as_json:
        listed = TypeAdapter(Sequence[Check]).dump_python(checks, mode="json")
        typer.echo(json.dumps({"ok": not failed, "checks": listed}, indent=2))
    else:
        show_checks(checks)
    if failed:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def encoders(as_json: AsJson = False) -> None:
    """Try every video encoder on this machine; status 1 when a codec that a worker needs has none."""
    settings = load(WorkerSettings)
    table = asyncio.run(try_encoders(settings))
    if as_json:
        listed = TypeAdapter(EncoderTable).dump_python(table, mode="json")
        typer.echo(json.dumps({"ok": not table.missing, **listed}, indent=2))
    else:
        show_encoders(table)
    for sentence in complaints(table, settings):
        _complain(sentence)
    if table.missing:
        raise typer.Exit(EXIT_FAILED)


async def _list_jobs(settings: StoreSettings, states: Sequence[JobState], limit: int) -> JobsOverview:
    async with open_buckets(settings) as buckets:
        return await list_jobs(buckets, states=states, limit=limit)


async def _retry(
    settings: StoreSettings, videos: Sequence[str], options: TranscodeOptions, *, all_failed: bool
) -> bool:
    """Queue each of them, and say whether all were; one that cannot be stops no other."""
    all_queued = True
    async with open_buckets(settings) as buckets:
        given_up = (await list_jobs(buckets, states={JobState.FAILED})).jobs if all_failed else ()
        for video in dict.fromkeys((*videos, *(job.video_id for job in given_up))):
            try:
                job = await retry_video(buckets, parse_id(video), options=options)
                typer.echo(f"queued: {job.request}")
            except VodbucketError as error:
                all_queued = False
                _complain(f"{video}: {error.message}")
    return all_queued


async def _sweep(settings: WorkerSettings, rules: SweepRules, *, dry_run: bool) -> SweepReport:
    async with open_buckets(settings) as buckets:
        queue = JobQueue(
            buckets,
            owner=f"sweep-{socket.gethostname()}-{os.getpid()}",
            lease_seconds=settings.lease_seconds,
            keep_originals=settings.keep_originals,
        )
        return await sweep(buckets, queue, rules, dry_run=dry_run)


async def _examine(*, worker: bool) -> list[Check]:
    # aiohttp and the parts of a worker: only the doctor needs them
    from vodbucket.doctor import examine, examine_machine

    checks = []
    try:
        store_settings = load(StoreSettings)
        async with open_buckets(store_settings, sdk_attempts=DOCTOR_SDK_ATTEMPTS) as buckets:
            checks.append(Check("store settings", Verdict.OK, _address(store_settings)))
            checks += [
                check
                async for check in examine(
                    buckets, load(OriginSettings).cors_origins, load(UploadSettings).upload_days
                )
            ]
    except VodbucketError as error:
        checks.append(Check("store settings", Verdict.FAIL, error.message, "README.md lists all settings."))
    if worker:
        try:
            worker_settings = load(WorkerSettings)
            checks.append(Check("worker settings", Verdict.OK, "complete"))
            checks += [check async for check in examine_machine(worker_settings)]
        except ConfigurationError as error:
            checks.append(
                Check("worker settings", Verdict.FAIL, error.message, "README.md lists all settings.")
            )
    return checks


async def _fix(checks: Sequence[Check]) -> list[str]:
    from vodbucket.doctor import fix

    async with open_buckets(load(StoreSettings), sdk_attempts=DOCTOR_SDK_ATTEMPTS) as buckets:
        return await fix(buckets, checks, load(UploadSettings).upload_days)


def _hours(asked: float | None, usual: timedelta) -> timedelta:
    return usual if asked is None else timedelta(hours=asked)


def _address(settings: StoreSettings) -> str:
    store = str(settings.s3_endpoint_url or f"AWS S3 in {settings.aws_region}").rstrip("/")
    public = settings.s3_public_endpoint_url
    return store if public is None else f"{store}, for browsers {str(public).rstrip('/')}"


def _complain(sentence: str) -> None:
    typer.echo(f"vodbucket: {sentence}", err=True)


if __name__ == "__main__":
    main()

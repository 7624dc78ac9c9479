"""`vodbucket doctor`."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from backend.core.errors import ConfigurationError, VodbucketError
from backend.core.settings import OriginSettings, StoreSettings, UploadSettings, WorkerSettings, load
from backend.core.store.probes import Check, Verdict
from backend.core.store.s3 import open_buckets
from vodbucket.commands.exit_codes import EXIT_FAILED
from vodbucket.commands.options import OPERATIONS_PANEL, AsJson
from vodbucket.doctor.examination import examine, examine_machine
from vodbucket.doctor.fixes import fix as apply_fixes
from vodbucket.output.messages import print_json, print_line
from vodbucket.output.tables import show_checks

SDK_ATTEMPTS = 2
"""Few, because somebody is waiting for the report; more than one, in case a packet is lost."""
SETTINGS_ADVICE = "README.md lists all settings."

app = typer.Typer()


@app.command(rich_help_panel=OPERATIONS_PANEL)
def doctor(
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Create missing buckets, set CORS and clean-up rules, and check again."),
    ] = False,
    worker: Annotated[
        bool, typer.Option(help="Also check what a worker needs: ffmpeg, packager, encoders, WORK_DIR.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Check the store and this machine for everything vodbucket relies on. Exits with 1 if a check fails."""
    checks = asyncio.run(_examine(worker=worker))
    if fix:
        done = asyncio.run(_fix(checks))
        for sentence in done or ["Nothing to fix."]:
            print_line(sentence, err=True)
        checks = asyncio.run(_examine(worker=worker)) if done else checks
    failed = any(check.verdict is Verdict.FAIL for check in checks)
    if as_json:
        print_json({"ok": not failed, "checks": checks})
    else:
        show_checks(checks)
    if failed:
        raise typer.Exit(EXIT_FAILED)


async def _examine(*, worker: bool) -> list[Check]:
    checks = []
    try:
        settings = load(StoreSettings)
        plain = settings.model_copy(update={"only_worker": False})
        async with open_buckets(plain, sdk_attempts=SDK_ATTEMPTS) as buckets:
            checks.append(Check("store settings", Verdict.OK, _address(settings)))
            origins, upload_days = load(OriginSettings).cors_origins, load(UploadSettings).upload_days
            examined = examine(buckets, origins, upload_days, only_worker=settings.only_worker)
            checks += [check async for check in examined]
    except VodbucketError as error:
        checks.append(Check("store settings", Verdict.FAIL, error.message, SETTINGS_ADVICE))
    if worker:
        try:
            worker_settings = load(WorkerSettings)
            checks.append(Check("worker settings", Verdict.OK, "complete"))
            checks += [check async for check in examine_machine(worker_settings)]
        except ConfigurationError as error:
            checks.append(Check("worker settings", Verdict.FAIL, error.message, SETTINGS_ADVICE))
    return checks


async def _fix(checks: Sequence[Check]) -> list[str]:
    async with open_buckets(load(StoreSettings), sdk_attempts=SDK_ATTEMPTS) as buckets:
        return await apply_fixes(buckets, checks, load(UploadSettings).upload_days)


def _address(settings: StoreSettings) -> str:
    store = str(settings.s3_endpoint_url or f"AWS S3 in {settings.aws_region}").rstrip("/")
    public = settings.s3_public_endpoint_url
    return store if public is None else f"{store}, for browsers {str(public).rstrip('/')}"

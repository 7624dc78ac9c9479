"""`vodbucket rotate-key`."""

import asyncio
from typing import Annotated

import typer

from backend.core.access.signing_keys import add_signing_key, retire_signing_keys
from backend.core.settings import StoreSettings, load
from backend.core.store.s3 import open_buckets
from vodbucket.commands.options import OPERATIONS_PANEL

app = typer.Typer()


@app.command(rich_help_panel=OPERATIONS_PANEL)
def rotate_key(
    retire: Annotated[
        bool,
        typer.Option("--retire", help="Delete older keys too: ends every session and playback link."),
    ] = False,
) -> None:
    """Add a key that signs sessions and playback links. Older keys stay valid until they are retired."""
    number, retired = asyncio.run(_rotate(retire=retire))
    typer.echo(f"Added key {number}. It signs once all servers know it, within four minutes.")
    if retire:
        typer.echo(f"Deleted {retired} older. All sessions and playback links end within a minute.")


async def _rotate(*, retire: bool) -> tuple[int, int]:
    async with open_buckets(load(StoreSettings)) as buckets:
        number = await add_signing_key(buckets.video)
        return number, await retire_signing_keys(buckets.video) if retire else 0

"""`vodbucket events`."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

import typer

from backend.core.event_records import Event
from backend.core.settings import ClientSettings, load
from vodbucket.client.api import open_api
from vodbucket.client.patience import Patience
from vodbucket.client.responses import WebhookTest
from vodbucket.commands.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED
from vodbucket.commands.options import VIDEOS_PANEL, AsJson
from vodbucket.output.messages import print_error, print_line

WAIT_SECONDS = 25
FOLLOW_PATIENCE_SECONDS = 3600.0

app = typer.Typer()


@app.command(rich_help_panel=VIDEOS_PANEL)
def events(
    after: Annotated[
        int | None, typer.Option(min=0, help="Print all events after this number. Default: the latest.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Keep printing new events.")] = False,
    test: Annotated[bool, typer.Option("--test", help="Send a test event to all webhooks instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what happened to videos, one event a line."""
    settings = load(ClientSettings)
    if test:
        _show_tests(asyncio.run(_test(settings)))
        return
    try:
        asyncio.run(_print(settings, after, follow=follow, as_json=as_json))
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


async def _print(settings: ClientSettings, after: int | None, *, follow: bool, as_json: bool) -> None:
    async for event in _read(settings, after, follow=follow):
        if as_json:
            typer.echo(json.dumps(event.model_dump(mode="json")))
        else:
            at = event.timestamp.astimezone().strftime("%Y-%m-%d %H:%M:%S")
            data = event.data
            facts = (data.request or data.id, data.title, data.error and data.error.message)
            print_line("  ".join([f"{event.number:>6}", at, f"{event.type:<14}", *(f for f in facts if f)]))


async def _read(settings: ClientSettings, after: int | None, *, follow: bool) -> AsyncIterator[Event]:
    patience = Patience(FOLLOW_PATIENCE_SECONDS if follow else 0, lambda text: print_line(text, err=True))
    all_at_once = after is None and not follow
    async with open_api(settings) as api:
        while True:
            page = await patience.attempt(api.events, after, WAIT_SECONDS if follow else 0)
            for event in page.events:
                yield event
            after = page.after
            if all_at_once or not (follow or page.events):
                return


async def _test(settings: ClientSettings) -> list[WebhookTest]:
    async with open_api(settings) as api:
        return await api.test_webhooks()


def _show_tests(tests: list[WebhookTest]) -> None:
    for one in tests:
        if one.delivered:
            print_line(f"{one.address}: delivered")
        else:
            print_error(f"{one.address}: not delivered. {one.error or 'There is no answer yet.'}")
    if not all(one.delivered for one in tests):
        raise typer.Exit(EXIT_FAILED)

"""The commands for videos: upload, status, list, delete, open. They ask a server over HTTP, not the store."""

import asyncio
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter

from backend.core.records import StatusWord
from backend.core.settings import ClientSettings, load
from vodbucket.answers import ListedVideo
from vodbucket.exits import EXIT_FAILED, EXIT_INTERRUPTED
from vodbucket.files import as_text
from vodbucket.tables import show_video, show_videos

PANEL = "Videos, by way of the server at VODBUCKET_URL"

app = typer.Typer()

VideoId = Annotated[str, typer.Argument(metavar="ID", help="The video's id, the last part of its link.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Patience = Annotated[
    float, typer.Option("--patience", min=0, help="Minutes for which the server may be away at a time.")
]


@app.command(rich_help_panel=PANEL)
def upload(
    files: Annotated[list[Path], typer.Argument(metavar="FILE")],
    title: Annotated[
        str | None, typer.Option(help="What the video is called; by default as its file.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow the encoding, and open the page once it can be played.")
    ] = False,
    patience: Patience = 60,
) -> None:
    """Upload files and print where to watch them. Run again, it goes on where it was interrupted."""
    if title is not None and len(files) > 1:
        raise typer.BadParameter("--title is for one file")
    from vodbucket.videos import VideoClient  # aiohttp: what talks to the store alone starts without it

    client = VideoClient(load(ClientSettings), patience * 60)
    try:
        all_well = asyncio.run(client.upload(files, title and as_text(title), watch=watch))
    except KeyboardInterrupt:
        typer.echo("vodbucket: Interrupted. Run the same command again to go on.", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if not all_well:
        raise typer.Exit(EXIT_FAILED)


@app.command(rich_help_panel=PANEL)
def status(
    video: VideoId,
    follow: Annotated[bool, typer.Option("--follow", help="Wait until it is encoded.")] = False,
    patience: Patience = 60,
    as_json: AsJson = False,
) -> None:
    """Tell how far a video is; status 1 when it has failed."""
    from vodbucket.videos import VideoClient

    client = VideoClient(load(ClientSettings), patience * 60)
    found = asyncio.run(client.follow(video) if follow else client.status(video))
    if as_json:
        typer.echo(found.status.model_dump_json(indent=2))
    else:
        show_video(found, client.watch_link(video))
    if found.status.status is StatusWord.ERROR:
        raise typer.Exit(EXIT_FAILED)


@app.command("list", rich_help_panel=PANEL)
def list_videos(
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the newest videos."""
    from vodbucket.videos import VideoClient

    found = asyncio.run(VideoClient(load(ClientSettings)).list(limit))
    if as_json:
        typer.echo(TypeAdapter(Sequence[ListedVideo]).dump_json(found, indent=2).decode())
    else:
        show_videos(found)


@app.command(rich_help_panel=PANEL)
def delete(
    video: VideoId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a video with everything that belongs to it."""
    from vodbucket.videos import VideoClient

    client = VideoClient(load(ClientSettings))
    title = asyncio.run(client.status(video)).title
    if not yes:
        typer.confirm(f"Delete “{title}” for good?", abort=True, err=True)
    asyncio.run(client.delete(video))
    typer.echo(f"deleted: {video}")


@app.command("open", rich_help_panel=PANEL)
def open_video(video: VideoId) -> None:
    """Open a video's page in the browser."""
    from vodbucket.videos import VideoClient

    client = VideoClient(load(ClientSettings))
    asyncio.run(client.status(video))
    link = client.watch_link(video)
    typer.echo(link)
    if not webbrowser.open(link):
        typer.echo("vodbucket: No browser was found.", err=True)
        raise typer.Exit(EXIT_FAILED)

"""The commands for videos: upload, ingest, status, list, delete, download, open. They call a server."""

import asyncio
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from backend.core.printable import escaped
from backend.core.records import Download, StatusWord
from backend.core.settings import ClientSettings, load
from vodbucket.client.local_file import as_text
from vodbucket.commands.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED
from vodbucket.commands.options import VIDEOS_PANEL, AsJson
from vodbucket.commands.video_client import VideoClient
from vodbucket.output.messages import print_error, print_json, print_line
from vodbucket.output.tables import show_video, show_videos

app = typer.Typer()

VideoId = Annotated[str, typer.Argument(metavar="ID", help="Video id: the last part of its link.")]
Patience = Annotated[
    float, typer.Option("--patience", min=0, help="Minutes to keep retrying while the server is unavailable.")
]


@app.command(rich_help_panel=VIDEOS_PANEL)
def upload(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Video or audio files.")],
    title: Annotated[str | None, typer.Option(help="Title of the video. Default: the file name.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Wait for encoding, and open the page once the video is playable.")
    ] = False,
    keep_original: Annotated[
        bool, typer.Option("--keep-original", help="Keep the uploaded file after transcoding.")
    ] = False,
    patience: Patience = 60,
) -> None:
    """Upload files and print their links. To resume an interrupted upload, run the command again."""
    if title is not None and len(files) > 1:
        raise typer.BadParameter("--title needs exactly one file")
    client = VideoClient(load(ClientSettings), patience * 60)
    try:
        succeeded = asyncio.run(
            client.upload(files, title and as_text(title), watch=watch, keep_original=keep_original)
        )
    except KeyboardInterrupt:
        print_error("Interrupted. Run the same command again to resume.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if not succeeded:
        raise typer.Exit(EXIT_FAILED)


@app.command(rich_help_panel=VIDEOS_PANEL)
def ingest(
    url: Annotated[str, typer.Argument(metavar="URL", help="Address of a video or audio file.")],
    title: Annotated[str | None, typer.Option(help="Title of the video. Default: the file name.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait until encoding has ended.")] = False,
    patience: Patience = 60,
) -> None:
    """Have the server fetch a file, and print the video's link. With --follow, exits with 1 if that fails."""
    client = VideoClient(load(ClientSettings), patience * 60)
    video, found = "", None
    try:
        video = asyncio.run(client.ingest(as_text(url), title and as_text(title)))
        print_line(client.watch_link(video))
        if follow:
            found = asyncio.run(client.follow(video))
    except KeyboardInterrupt:
        print_error(
            f"The server is still working on it. `vodbucket cancel {video}` stops that."
            if video
            else "Interrupted. The server may have begun; `vodbucket list` shows whether it has."
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if found is not None and found.status.status is StatusWord.ERROR:
        raise typer.Exit(EXIT_FAILED)


@app.command(rich_help_panel=VIDEOS_PANEL)
def status(
    video: VideoId,
    follow: Annotated[bool, typer.Option("--follow", help="Wait until encoding has ended.")] = False,
    patience: Patience = 60,
    as_json: AsJson = False,
) -> None:
    """Show a video's progress. Exits with 1 if encoding failed."""
    client = VideoClient(load(ClientSettings), patience * 60)
    found = asyncio.run(client.follow(video) if follow else client.status(video))
    if as_json:
        print_json(found.status)
    else:
        show_video(found, client.watch_link(video))
    if found.status.status is StatusWord.ERROR:
        raise typer.Exit(EXIT_FAILED)


@app.command("list", rich_help_panel=VIDEOS_PANEL)
def list_videos(
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of videos.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the newest videos."""
    found = asyncio.run(VideoClient(load(ClientSettings)).list(limit))
    if as_json:
        print_json(found)
    else:
        show_videos(found)


@app.command(rich_help_panel=VIDEOS_PANEL)
def delete(
    video: VideoId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete a video and everything that belongs to it."""
    client = VideoClient(load(ClientSettings))
    title = asyncio.run(client.status(video)).title
    if not yes:
        typer.confirm(f"Delete “{escaped(title)}” permanently?", abort=True, err=True)
    asyncio.run(client.delete(video))
    print_line(f"deleted: {video}")


@app.command(rich_help_panel=VIDEOS_PANEL)
def download(
    video: VideoId,
    kind: Annotated[Download, typer.Option("--format", help="webm, or mp4 if DOWNLOADS names it.")] = "webm",
    output: Annotated[Path | None, typer.Option(help="File to write. Default: ID.webm or ID.mp4.")] = None,
) -> None:
    """Download a video's WebM or MP4."""
    file = output or Path(f"{video}.{kind}")
    try:
        asyncio.run(VideoClient(load(ClientSettings)).download(video, kind, file))
    except OSError as error:
        print_error(f"{error.filename or file} cannot be written: {error.strerror}.")
        raise typer.Exit(EXIT_FAILED) from None
    print_line(str(file))


@app.command("open", rich_help_panel=VIDEOS_PANEL)
def open_video(video: VideoId) -> None:
    """Open a video's page in the browser."""
    client = VideoClient(load(ClientSettings))
    asyncio.run(client.status(video))
    link = client.watch_link(video)
    print_line(link)
    if not webbrowser.open(link):
        print_error("No browser could be opened.")
        raise typer.Exit(EXIT_FAILED)

"""`vodbucket encode`."""

import asyncio
import logging
from pathlib import Path
from typing import Annotated

import typer

from backend.core.errors import VodbucketError
from backend.core.logs import configure_logs
from backend.core.records import TranscodeOptions
from backend.core.settings import WorkerSettings, load
from vodbucket.client.local_file import inspect_file
from vodbucket.commands.exit_codes import EXIT_INTERRUPTED
from vodbucket.commands.options import LOCAL_PANEL
from vodbucket.output.messages import print_error, print_line
from vodbucket.output.progress import EncodingBar

app = typer.Typer()


@app.command(rich_help_panel=LOCAL_PANEL)
def encode(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A video or audio file.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
    rungs: Annotated[str | None, typer.Option(help="Short sides, such as 360,720. Default: RUNGS.")] = None,
    codecs: Annotated[
        str | None, typer.Option(help="av1,h264 or one of them. Default: RENDITION_CODECS.")
    ] = None,
    crf: Annotated[
        int | None, typer.Option(min=0, max=63, help="AV1 quality: lower is better and larger.")
    ] = None,
    cpu_used: Annotated[
        int | None, typer.Option(min=0, max=8, help="AV1 speed: higher is faster and worse.")
    ] = None,
) -> None:
    """Encode a file into a folder that any web server can offer: HLS, DASH, downloads, poster, previews."""
    given = {"rungs": rungs, "rendition_codecs": codecs}
    settings = load(WorkerSettings, **{name: value for name, value in given.items() if value is not None})
    try:
        name = inspect_file(file).name
        # Imported here because a machine without a worker may lack the worker's dependencies.
        from worker.local import encode as encode_into

        configure_logs(level=logging.CRITICAL)  # the worker's events are for operators of many jobs
        with EncodingBar(name) as bar:
            encode_into(file, folder, settings, TranscodeOptions(crf=crf, cpu_used=cpu_used), bar.show)
    except (KeyboardInterrupt, asyncio.CancelledError):
        print_error("Interrupted. Nothing was written.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except VodbucketError as error:
        print_error(f"{file}: {error.message}")
        raise typer.Exit(error.exit_code) from None
    print_line(str(folder))

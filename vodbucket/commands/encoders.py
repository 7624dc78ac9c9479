"""`vodbucket encoders`."""

import asyncio
from dataclasses import asdict

import typer

from backend.core.settings import WorkerSettings, load
from vodbucket.commands.exit_codes import EXIT_FAILED
from vodbucket.commands.options import OPERATIONS_PANEL, AsJson
from vodbucket.doctor.encoders import try_encoders
from vodbucket.output.messages import print_error, print_json
from vodbucket.output.tables import show_encoders

app = typer.Typer()


@app.command(rich_help_panel=OPERATIONS_PANEL)
def encoders(as_json: AsJson = False) -> None:
    """Try every video encoder on this machine. Exits with 1 if a required codec has none."""
    settings = load(WorkerSettings)
    table = asyncio.run(try_encoders(settings))
    if as_json:
        print_json({"ok": not table.missing, **asdict(table)})
    else:
        show_encoders(table)
    for codec in table.missing:
        print_error(
            f"no encoder for {codec} works here with VIDEO_SERVER_ENCODER={settings.video_server_encoder} "
            f"and RENDITION_CODECS={','.join(settings.rendition_codecs)}"
        )
    if table.missing:
        raise typer.Exit(EXIT_FAILED)

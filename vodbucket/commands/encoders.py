"""`vodbucket encoders`."""

import asyncio
import json

import typer
from pydantic import TypeAdapter

from backend.core.settings import WorkerSettings, load
from vodbucket.commands.exit_codes import EXIT_FAILED
from vodbucket.commands.options import OPERATIONS_PANEL, AsJson
from vodbucket.doctor.encoders import EncoderTable, try_encoders
from vodbucket.output.messages import print_error
from vodbucket.output.tables import show_encoders

app = typer.Typer()


@app.command(rich_help_panel=OPERATIONS_PANEL)
def encoders(as_json: AsJson = False) -> None:
    """Try every video encoder on this machine. Exits with 1 if a required codec has none."""
    settings = load(WorkerSettings)
    table = asyncio.run(try_encoders(settings))
    if as_json:
        content = TypeAdapter(EncoderTable).dump_python(table, mode="json")
        typer.echo(json.dumps({"ok": not table.missing, **content}, indent=2))
    else:
        show_encoders(table)
    for codec in table.missing:
        print_error(
            f"no encoder for {codec} works here with VIDEO_SERVER_ENCODER={settings.video_server_encoder} "
            f"and RENDITION_CODECS={','.join(settings.rendition_codecs)}"
        )
    if table.missing:
        raise typer.Exit(EXIT_FAILED)

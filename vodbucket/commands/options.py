"""Options and help panels that several commands share."""

from typing import Annotated

import typer

VIDEOS_PANEL = "Videos (through the server at VODBUCKET_URL)"
PEOPLE_PANEL = "People (through the server at VODBUCKET_URL)"
OPERATIONS_PANEL = "Operations (directly on the store)"

LOCAL_PANEL = "Without a server"

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

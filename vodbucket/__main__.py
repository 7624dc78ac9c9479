"""`vodbucket`, also `python -m vodbucket`: the command line."""

import logging
import os
import sys
from pathlib import Path

import typer

from backend.core.errors import VodbucketError
from backend.core.logs import configure_logs
from vodbucket.commands import doctor, encoders, jobs, sweep, videos
from vodbucket.commands.embedded_store import find_embedded_store
from vodbucket.output.messages import print_error

app = typer.Typer(
    help="Upload videos, and manage vodbucket's jobs and store. Settings are environment variables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
ON_THE_STORE = ("jobs", "retry", "sweep", "doctor")


@app.callback()
def prepare(context: typer.Context) -> None:
    """Commands that access the store find the one that `make run` keeps in the working directory."""
    if context.invoked_subcommand in ON_THE_STORE:
        find_embedded_store(os.environ, Path("data/store/env"))


for module in (videos, jobs, sweep, doctor, encoders):
    app.add_typer(module.app)


def main() -> None:
    configure_logs(level=logging.WARNING)
    try:
        app()
    except VodbucketError as error:
        print_error(error.message)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

"""`vodbucket`, also `python -m vodbucket`: the command line."""

import errno
import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from backend.core.errors import VodbucketError
from backend.core.logs import configure_logs
from vodbucket.commands import access, clean, doctor, encode, encoders, events, jobs, people, sweep, videos
from vodbucket.commands.embedded_store import find_embedded_store
from vodbucket.commands.exit_codes import EXIT_FAILED
from vodbucket.output.messages import print_error

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EPIPE}
"""Why output cannot be written: a full disk, a broken device, a closed pipe or descriptor."""

app = typer.Typer(
    help="Upload videos, and manage vodbucket's jobs and store. Settings are environment variables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
ON_THE_STORE = ("jobs", "retry", "sweep", "clean", "rotate-key", "doctor")
"""Commands that find the store of `make run` in the working directory."""


for module in (videos, encode, events, people, jobs, sweep, clean, access, doctor, encoders):
    app.add_typer(module.app)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"vodbucket {version('vodbucket')}")
        raise typer.Exit


@app.callback()
def _before_any_command(
    context: typer.Context,
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand in ON_THE_STORE:
        find_embedded_store(os.environ, Path("data/store/env"))


def main() -> None:
    configure_logs(level=logging.WARNING)
    try:
        try:
            app()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except VodbucketError as error:
        print_error(error.message)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in UNWRITABLE or error.filename is not None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python would flush the rest at exit, and fail again
        print_error(f"Cannot write the output: {error.strerror}.")
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()

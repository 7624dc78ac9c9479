"""`vodbucket`, also `python -m vodbucket`: the command line."""

import logging
import sys

import typer

from backend.core.errors import ConfigurationError, VodbucketError
from backend.core.logs import configure_logs
from vodbucket.client.errors import ServerUnavailable
from vodbucket.commands import access, doctor, encoders, jobs, sweep, videos
from vodbucket.commands.exit_codes import EXIT_CONFIGURATION, EXIT_FAILED, EXIT_SERVER_UNAVAILABLE
from vodbucket.output.messages import print_error

app = typer.Typer(
    help="Upload videos, and manage vodbucket's jobs and store. Settings are environment variables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for module in (videos, jobs, sweep, access, doctor, encoders):
    app.add_typer(module.app)


def main() -> None:
    configure_logs(level=logging.WARNING)
    try:
        app()
    except VodbucketError as error:
        print_error(error.message)
        if isinstance(error, ConfigurationError):
            sys.exit(EXIT_CONFIGURATION)
        sys.exit(EXIT_SERVER_UNAVAILABLE if isinstance(error, ServerUnavailable) else EXIT_FAILED)


if __name__ == "__main__":
    main()

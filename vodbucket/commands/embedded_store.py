"""Finds the store of `make run`, so that commands for operators need no settings beside it."""

import shlex
import socket
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import typer

from backend.core.errors import ConfigurationError
from backend.core.settings import OWN_STORE_VARIABLES

CONNECT_SECONDS = 1.0


def find_embedded_store(environ: MutableMapping[str, str], kept: Path) -> None:
    """Take over the settings that `make run` keeps in the file `kept`, if the environment selects no store.

    Raises:
        ConfigurationError: the file cannot be read. Or the store is not running, and AWS S3 cannot be meant,
            because no bucket is set.
    """
    if any(environ.get(name) for name in OWN_STORE_VARIABLES) or not kept.is_file():
        return
    try:
        settings = dict(line.split("=", 1) for line in shlex.split(kept.read_text()))
        address = urlsplit(settings.get("S3_ENDPOINT_URL", ""))
        host, port = address.hostname, address.port
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{kept} cannot be read: {error}. Start `make run`, which writes it again"
        ) from None
    if _listens(host, port):
        environ.update({name: value for name, value in settings.items() if not environ.get(name)})
        typer.echo(f"Using the store of `make run` in {kept.resolve().parents[1]}.", err=True)
    elif not environ.get("S3_RAW_BUCKET"):
        raise ConfigurationError(
            f"the store of `make run` in {kept.resolve().parents[1]} is not running. "
            "Start it, or set S3_ENDPOINT_URL to the store to use"
        )


def _listens(host: str | None, port: int | None) -> bool:
    with suppress(OSError), socket.create_connection((host, port), CONNECT_SECONDS):
        return True
    return False

"""Messages on stderr."""

import typer


def print_error(sentence: str) -> None:
    typer.echo(f"vodbucket: {sentence}", err=True)

"""What commands print: messages on stderr, JSON on stdout, and how untrusted text is made printable."""

import json

import typer
from pydantic_core import to_jsonable_python

from backend.core.printable import escaped


def print_line(sentence: str, *, err: bool = False) -> None:
    typer.echo(escaped(sentence), err=err)


def print_error(sentence: str) -> None:
    print_line(f"vodbucket: {sentence}", err=True)


def print_json(value: object) -> None:
    """Print dataclasses, records and what contains them. Control characters in strings stay escaped."""
    text = json.dumps(to_jsonable_python(value), indent=2, ensure_ascii=False)
    typer.echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))

"""`.env`: KEY=VALUE lines for variables that the environment does not set."""

from pathlib import Path

from dotenv.parser import parse_stream

from infra.local.errors import CannotRun


def read_dotenv(path: Path) -> dict[str, str]:
    """Read the file as python-dotenv does, but expand no variables. A missing file is an empty one.

    Raises:
        CannotRun: a line is not KEY=VALUE. python-dotenv would skip it.
    """
    if not path.exists():
        return {}
    values = {}
    with path.open() as file:
        for binding in parse_stream(file):
            key, value, read = binding.key, binding.value, binding.original
            if binding.error or (key is not None and (value is None or not key.isidentifier())):
                blank_lines = read.string[: -len(read.string.lstrip())].count("\n")
                raise CannotRun(f"{path.name} line {read.line + blank_lines} is not KEY=VALUE.")
            if key is not None and value is not None:
                values[key] = value
    return values

"""`.env`: KEY=VALUE lines for variables that the environment does not set."""

from io import StringIO
from pathlib import Path

from dotenv.parser import parse_stream

from infra.local.errors import CannotRun


def read_dotenv(path: Path) -> dict[str, str]:
    """Read the file as python-dotenv does, but expand no variables. A missing file is an empty one.

    Raises:
        CannotRun: it cannot be read, or a line is not KEY=VALUE. python-dotenv would skip that line.
    """
    values = {}
    for binding in parse_stream(StringIO(_text(path))):
        key, value, read = binding.key, binding.value, binding.original
        if binding.error or (key is not None and (value is None or not key.isidentifier())):
            blank_lines = read.string[: -len(read.string.lstrip())].count("\n")
            raise CannotRun(f"{path.name} line {read.line + blank_lines} is not KEY=VALUE.")
        if key is not None and value is not None:
            values[key] = value
    return values


def _text(path: Path) -> str:
    if not path.exists():
        return ""
    if not path.is_file():
        raise CannotRun(f"{path} is not a file: move it away.")
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise CannotRun(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise CannotRun(f"{path} is not UTF-8: save it as UTF-8.") from None
    if "\0" in text:
        raise CannotRun(f"{path} contains a NUL character: save it as UTF-8.")
    return text

"""`.env`: KEY=VALUE lines for variables that the environment does not set."""

from pathlib import Path

from infra.local.errors import CannotRun


def read_dotenv(path: Path) -> dict[str, str]:
    """Read `KEY=VALUE` lines; blank lines and lines that begin with `#` are skipped, nothing is expanded.

    One pair of quotes around a value is dropped. A missing file is an empty one.

    Raises:
        CannotRun: a line is none of these.
    """
    if not path.exists():
        return {}
    values = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        key, equals, value = text.removeprefix("export ").partition("=")
        if not equals or not key.strip().isidentifier():
            raise CannotRun(f"{path.name} line {number} is not KEY=VALUE.")
        values[key.strip()] = _unquoted(value.strip())
    return values


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value

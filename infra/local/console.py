"""What `make run` prints: the output of all processes, labelled by name, with JSON logs made readable.

Their output may contain what clients sent, so it is printed without control characters.
"""

import json
import re
import sys
from datetime import datetime

from backend.core.printable import printable, printable_lines

_COLOURS = {"store": "35", "api": "36", "worker": "33", "site": "34"}
_NAME_WIDTH = 6
_STORE_CHATTER = re.compile(
    r"I\d{4} [\d:.]+ |W\d{4} [\d:.]+ filer_server\.go:\d+ skipping default store dir "
    r"|E\d{4} [\d:.]+ s3api_object_handlers\.go:\d+ .*: (connection reset by peer|broken pipe)$"
)
"""SeaweedFS logs every DELETE at info level, regardless of `-v`, warns of where we keep its index, and calls
it an error when a player jumps or a page is closed."""


def say(sentence: str = "") -> None:
    """Print a message of `make run` itself."""
    print(sentence, flush=True)


def relay(name: str, line: str) -> None:
    """Print one line of a child's output, except the store's info lines."""
    if name == "store" and _STORE_CHATTER.match(line):
        return
    print(f"{_painted(name)} {readable(line)}", flush=True)


def readable(line: str) -> str:
    """Format a structured log line as `time level event key=value ...`. Return other lines as they are."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return printable(line)
    if not isinstance(fields, dict) or "event" not in fields:
        return printable(line)
    instant = _local_time(fields.pop("timestamp", None))
    level, event = fields.pop("level", "info"), fields.pop("event")
    trace = fields.pop("exception", None)
    values = " ".join(f"{key}={_quoted(str(value))}" for key, value in fields.items())
    words = (instant, "" if level == "info" else str(level), str(event), values)
    shown = printable(" ".join(word for word in words if word))
    return f"{shown}\n{printable_lines(str(trace))}" if trace else shown


def _quoted(value: str) -> str:
    """Quote what would look like more than one value."""
    return json.dumps(value, ensure_ascii=False) if re.search(r"[\s\"]", value) else value


def _local_time(timestamp: object) -> str:
    try:
        return datetime.fromisoformat(str(timestamp)).astimezone().strftime("%H:%M:%S")
    except ValueError:
        return ""


def _painted(name: str) -> str:
    label = f"{name:<{_NAME_WIDTH}}|"
    colour = _COLOURS.get(name)
    return f"\x1b[{colour}m{label}\x1b[0m" if colour and sys.stdout.isatty() else label

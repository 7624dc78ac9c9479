"""Sets up structured logs: an event name plus fields, as JSON lines unless stderr is a terminal.

Every text is made `printable` on its way out, in both formats and also what libraries log. Tracebacks have no
local variables, which would contain secrets.
"""

import logging
import sys
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any

import structlog

from backend.core.printable import printable, printable_lines


def configure_logs(*, human: bool | None = None, level: int = logging.INFO) -> None:
    """Write logs of `level` and above to stderr, and warnings of libraries.

    `human` selects readable console output; by default it is used if stderr is a terminal.
    """
    readable = sys.stderr.isatty() if human is None else human
    render: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if readable else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _make_printable,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [one for one in root.handlers if not isinstance(one, _OfLibraries)] + [_OfLibraries()]
    sys.excepthook = _log_uncaught


def _make_printable(_: object, __: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    return {
        printable(key): printable_lines(value) if key == "exception" else _printable_value(value)
        for key, value in event.items()
    }


def _printable_value(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_printable_value(one) for one in value]
    if isinstance(value, dict):
        return {printable(str(key)): _printable_value(one) for key, one in value.items()}
    return printable(str(value))


class _OfLibraries(logging.Handler):
    """Passes what libraries log with `logging` on to the same output."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info or None)


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
    else:
        structlog.get_logger(__name__).critical("crash", exc_info=(kind, error, traceback))

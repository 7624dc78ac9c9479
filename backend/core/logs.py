"""Sets up structured logs: an event name plus fields, as JSON lines unless stderr is a terminal."""

import logging
import sys

import structlog


def configure_logs(*, human: bool | None = None, level: int = logging.INFO) -> None:
    """Write logs of `level` and above to stderr.

    `human` selects readable console output; by default it is used if stderr is a terminal.
    """
    readable = sys.stderr.isatty() if human is None else human
    render: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if readable else structlog.processors.JSONRenderer()
    )
    traces = [] if readable else [structlog.processors.format_exc_info]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *traces,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )

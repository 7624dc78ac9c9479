"""Sets up structured logs: one event name plus fields, JSON lines unless a terminal reads them."""

import logging
import sys

import structlog


def configure_logs(*, human: bool | None = None, level: int = logging.INFO) -> None:
    """Send structlog to stderr, from `level` up.

    `human` chooses console rendering, by default when stderr is a terminal.
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

"""The exit codes of the command line (docs/operations.md). Those of errors are in `backend.core.errors`."""

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

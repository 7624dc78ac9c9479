"""The exit codes of the command line (docs/operations.md)."""

EXIT_FAILED = 1
EXIT_CONFIGURATION = 2
EXIT_SERVER_UNAVAILABLE = 3
EXIT_INTERRUPTED = 130

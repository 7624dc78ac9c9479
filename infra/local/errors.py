"""What stops `make run`: always one sentence that says what to do, never a traceback."""


class CannotRun(Exception):
    """vodbucket cannot be run here."""

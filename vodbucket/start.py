"""Where the installed command begins: Ctrl-C while the rest is imported ends it without a traceback."""

import sys

from vodbucket.commands.exit_codes import EXIT_INTERRUPTED


def main() -> None:
    try:
        from vodbucket.__main__ import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)

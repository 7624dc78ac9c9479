"""`python -m infra.local run`: what `make run` starts. Exits with 0 after Ctrl-C, else 1 and a reason."""

import argparse
import asyncio
import ctypes
import errno
import os
import signal
import sys
from pathlib import Path

from infra.local.console import say
from infra.local.data import DataDirectory
from infra.local.errors import CannotRun
from infra.local.former_store import former_root, waits_for_import
from infra.local.leftovers import end_leftovers
from infra.local.plan import Plan, make_plan
from infra.local.supervisor import Supervisor
from worker.sandbox.tether import PR_SET_PDEATHSIG

CHECKOUT = Path(__file__).resolve().parents[2]
EXIT_KILLED = 130
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def main() -> int:
    arguments = _parse_arguments(sys.argv[1:])
    if arguments.end_with_parent and sys.platform == "linux":
        # If `make` is killed with -9, the kernel tells us, and we shut down.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    data = DataDirectory(arguments.data)
    try:
        with data.lock():
            if ended := end_leftovers(data.pids):
                say(f"Stopped processes that an earlier run left: {', '.join(ended)}.")
            plan = make_plan(CHECKOUT, data, os.environ)
            asyncio.run(arguments.command(plan, data, arguments))
    except CannotRun as error:
        print(f"vodbucket: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        print(f"vodbucket: {error.filename or data.root}: {error.strerror}.", file=sys.stderr)
        return 1
    return 0


def _parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m infra.local", description="Run vodbucket on this machine."
    )
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="start store, API and worker; Ctrl-C stops them")
    run.set_defaults(command=_run)
    run.add_argument("--with-site", action="store_true", help="also start the site with hot reload")
    run.add_argument("--end-with-parent", action="store_true", help="stop when the parent process is killed")
    imported = commands.add_parser("import-old-store", help="copy the objects of the former embedded store")
    imported.set_defaults(command=_import, end_with_parent=False)
    for command in (run, imported):
        command.add_argument("--data", type=Path, default=CHECKOUT / "data", help="the data directory")
    return parser.parse_args(argv)


async def _run(plan: Plan, data: DataDirectory, arguments: argparse.Namespace) -> None:
    supervisor = Supervisor(plan, data, with_site=arguments.with_site)
    stop = _stop_by_signals(supervisor)
    say(f"Starting vodbucket. Data directory: {data.root}. Store: {plan.store_name}.")
    if plan.embedded and waits_for_import(data):
        say(
            f"{former_root(data)} holds objects of MiniStack, the former embedded store: "
            "run `make import-old-store` to copy them into the new one."
        )
    await supervisor.run(stop, on_ready=lambda: _welcome(plan))
    say("Stopped.")


async def _import(plan: Plan, data: DataDirectory, _: argparse.Namespace) -> None:
    supervisor = Supervisor(plan, data)
    await supervisor.import_former_store(_stop_by_signals(supervisor))


def _stop_by_signals(supervisor: Supervisor) -> asyncio.Event:
    """Return an event that the first SIGINT, SIGTERM or SIGHUP sets. The second one kills everything."""
    stop = asyncio.Event()

    def asked_to_stop() -> None:
        if stop.is_set():
            supervisor.kill_all()
            os._exit(EXIT_KILLED)
        say("\nStopping (press Ctrl-C again to stop immediately) ...")
        stop.set()

    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if each is not signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN:  # nohup ignores it
            loop.add_signal_handler(each, asked_to_stop)
    return stop


def _welcome(plan: Plan) -> None:
    token = plan.api_settings.admin_token.get_secret_value()
    say(f"\n  vodbucket is ready: {plan.url}/#token={token}")
    say("  The link signs you in. Ctrl-C stops everything.\n")


if __name__ == "__main__":
    sys.exit(main())

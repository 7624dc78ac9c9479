"""SIGTERM and SIGINT: the first asks the worker to stop, and `worker.run.loop` lets go of its jobs.

Order of stopping: no new claims, encoders killed, leases released as due now, connections closed, exit.
"""

import asyncio
import signal


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` on SIGTERM or SIGINT, instead of dying in the middle of a job."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stop.set)
        except (
            NotImplementedError
        ):  # Windows has no loop signal handlers; Ctrl-C raises KeyboardInterrupt there
            return

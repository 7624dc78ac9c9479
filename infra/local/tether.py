"""Run a command that the kernel kills when its parent dies (Linux): `tether.py PARENT_PID COMMAND...`.

`make run` killed with -9 must leave no process behind. The request survives exec (prctl(2),
PR_SET_PDEATHSIG); elsewhere than on Linux the command just runs, and the next start ends what is left.
A program of its own rather than a `preexec_fn`, which is not safe in a process that has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the request was made
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()

"""Restrict this process, then become a command: `tether.py PARENT_PID [NAME=VALUE...] -- COMMAND...`.

On Linux the kernel kills the command when PARENT_PID dies, even by `kill -9`: the request survives exec
(prctl(2), PR_SET_PDEATHSIG). macOS has nothing like it.

This is a program rather than a `preexec_fn`, which is unsafe in a process that has threads. exec keeps the
pid, so the exit code and all signals are the command's own. Run it with `python -I -S`. To start fast it
imports nothing from this project, and not `signal`, which takes longer to import than all the rest.

Settings: the names in `LIMITS`, `nice`, `oom_score_adj`, `no_new_privs`, and `report`: a descriptor on which
it writes `PREPARED` when everything is applied, and then `errno` if the command cannot be executed. So who
reads nothing there knows that the command never ran, and that the exit code is this program's. Without
`report` it prints the error.
"""

import ctypes
import os
import resource
import sys

PREPARED = b"."
PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_SIGKILL, _SIGPIPE, _SIGXFSZ = 9, 13, 25

LIMITS = {
    "core": resource.RLIMIT_CORE,
    "cpu": resource.RLIMIT_CPU,
    "data": resource.RLIMIT_DATA,
    "fsize": resource.RLIMIT_FSIZE,
    "nofile": resource.RLIMIT_NOFILE,
}


def main() -> None:
    separator = sys.argv.index("--")
    parent, command = int(sys.argv[1]), sys.argv[separator + 1 :]
    pairs = (word.split("=") for word in sys.argv[2:separator])
    settings = {name: int(value) for name, value in pairs}
    _die_with(parent)
    report = settings.pop("report", None)
    if report is not None:
        os.set_inheritable(report, False)  # closed by exec: the reader sees the end of it
    for name, value in settings.items():
        _apply(name, value)
    for number in (_SIGPIPE, _SIGXFSZ):  # Python ignores them, and exec would keep that
        _LIBC.signal(number, None)
    if report is not None:
        os.write(report, PREPARED)
    try:
        os.execvp(command[0], command)  # noqa: S606  # becomes the program that the worker chose, without a shell
    except OSError as error:
        if report is None:
            sys.exit(f"{command[0]}: {error.strerror}")
        os.write(report, str(error.errno).encode())
        os._exit(1)


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        _LIBC.prctl(PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the request was made
            os._exit(1)


def _apply(name: str, value: int) -> None:
    if name in LIMITS:
        hard = resource.getrlimit(LIMITS[name])[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # the kernel sends SIGKILL at the hard limit of CPU time: that would look like the OOM killer
        most = hard if name == "cpu" else bound
        resource.setrlimit(LIMITS[name], (bound, most))
    elif name == "nice":
        os.nice(value)
        # with autogroups, the kernel compares niceness within a session only, and sessions by this (sched(7))
        _write("/proc/self/autogroup", value)
    elif sys.platform != "linux":
        return
    elif name == "no_new_privs":
        _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, value, 0, 0, 0)
    elif name == "oom_score_adj":
        _write("/proc/self/oom_score_adj", value)
    else:
        sys.exit(f"tether.py: unknown setting {name}")


def _write(path: str, value: int) -> None:
    try:
        with open(path, "w") as file:  # noqa: PTH123  # pathlib is slow to import
            file.write(str(value))
    except OSError:  # a container may hide it, another system has none
        pass


_LIBC = ctypes.CDLL(None)

if __name__ == "__main__":
    main()

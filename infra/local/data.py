"""The data directory: its lock, the admin token, and the names of all that `make run` keeps.

lock            held by the run that uses the directory
admin-token     made once, readable by its owner only
store/key       the embedded store's secret key, made once, readable by its owner only
store/ports     the embedded store's last ports
store/env       all settings for `vodbucket jobs` and the like, made at each start, readable by its owner only
store/weed      the embedded store's objects and configuration
store/objects   what the former embedded store kept: one file per object
store/imported  says that `make import-old-store` has copied those
run/<name>.pid  one file per running child process
"""

import fcntl
import secrets
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from infra.local.errors import CannotRun


class DataDirectory:
    """`data/` and what is in it."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.store = self.root / "store"
        self.pids = self.root / "run"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the directory and keep it to this run until the block ends.

        The lock is the kernel's (flock), so that it ends with the process, however that ends.

        Raises:
            CannotRun: another run has it, or the directory cannot be written.
        """
        try:
            for directory in (self.root, self.store, self.pids):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = (self.root / "lock").open("a")
        except OSError as error:
            raise CannotRun(f"{self.root} cannot be used for data: {error.strerror}.") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise CannotRun(
                    f"vodbucket already runs with the data in {self.root}; stop it first (Ctrl-C there)."
                ) from None
            yield

    def admin_token(self) -> str:
        return _kept_secret(self.root / "admin-token")

    def store_secret(self) -> str:
        return _kept_secret(self.store / "key")

    def write_settings(self, settings: Mapping[str, str]) -> None:
        """Write lines for a shell or `vodbucket` to read, so that commands for operators find our store."""
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in settings.items()]
        write_private(self.store / "env", "".join(lines))


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, atomically."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    unfinished.write_text(text)
    unfinished.replace(path)


def _kept_secret(path: Path) -> str:
    """Return the secret in `path`; make it on first use. Raises: CannotRun: the file cannot be read."""
    try:
        if path.exists() and (kept := path.read_text().strip()):
            return kept
    except (OSError, UnicodeDecodeError):
        raise CannotRun(f"{path} cannot be read: repair or delete it.") from None
    secret = secrets.token_urlsafe(32)
    write_private(path, f"{secret}\n")
    return secret

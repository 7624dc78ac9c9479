"""Where the tests of `make run` find what it needs."""

import sysconfig
from pathlib import Path

from tests.lab.missing import missing

CHECKOUT = Path(__file__).resolve().parents[2]


def require_embedded_store() -> None:
    """Skip the test where the embedded store has no wheel; fail it in CI."""
    if not Path(sysconfig.get_path("scripts"), "weed").exists():
        missing("the embedded store is not installed")

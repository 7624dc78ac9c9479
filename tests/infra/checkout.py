"""The checkout and the embedded store that tests of `make run` need."""

import sysconfig
from pathlib import Path

from tests.lab.missing import missing

CHECKOUT = Path(__file__).resolve().parents[2]


def require_embedded_store() -> None:
    """Skip the test if the embedded store is not installed. In CI, fail it."""
    if not Path(sysconfig.get_path("scripts"), "weed").exists():
        missing("the embedded store is not installed")

"""Where the tests of `make run` find what it needs."""

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


def require_embedded_store() -> None:
    """Skip the test where `make setup` did not install the store; fail it in CI."""
    if not (CHECKOUT / ".venv-ministack" / "bin" / "python").exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("the embedded store is not installed")

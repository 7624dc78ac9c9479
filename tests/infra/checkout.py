"""Where the tests of `make run` find what it needs."""

from pathlib import Path

from tests.lab.missing import missing

CHECKOUT = Path(__file__).resolve().parents[2]


def require_embedded_store() -> None:
    """Skip the test where `make setup` did not install the store; fail it in CI."""
    if not (CHECKOUT / ".venv-ministack" / "bin" / "python").exists():
        missing("the embedded store is not installed")
